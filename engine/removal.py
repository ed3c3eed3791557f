"""What the loss does when some weights are taken away: measured, not approximated."""

import numpy as np
from keras import layers, ops

from engine import backend, chunks, examples, losses, per_example, structure, taps

GROUPS_AT_ONCE = 64
_WITH_UNITS_LAST = (layers.Dense, layers.Conv1D, layers.Conv2D, layers.Conv3D)
_UNIT_BY_UNIT = (
    layers.ReLU, layers.LeakyReLU, layers.ELU, layers.PReLU, layers.Dropout, layers.Identity, layers.BatchNormalization,
)  # fmt: skip
_ACROSS_UNITS = ("softmax", "log_softmax", "sparsemax", "glu")


def loss_changes(model, loss, x, y, groups, wanted, replacements, batch_size=500):
    """Evaluate the model once for each wanted group of weights, with that group replaced and the rest as it is.

    For groups that are whole units of a dense or convolutional layer only what comes after it is computed each time;
    for single units of a dense layer before another, of that one only the row by which it hears of the unit.

    Args:
        model: keras.Model, built. Run in inference mode and left as it was.
        loss: keras.losses.Loss.
        x: array (examples, ...), or a dict or list of them.
        y: array (examples, ...).
        groups: list of int arrays like `model.trainable_variables`: each weight's group.
        wanted: int array (n,). The groups to evaluate.
        replacements: list of float arrays, likewise: what stands in for each weight.
        batch_size: int. Examples evaluated at once.

    Returns:
        change: float32 array (n,). Mean over examples of the loss with the group replaced minus the loss without, in
            the units of the loss.
        stderr: float32 array (n,). Standard error of that mean: the differences of the same example are paired.
    """
    objective = losses.objective(loss)
    key = ("checked objective", objective, examples.signature(x), y.shape[1:])
    chunks.kept(model, key, lambda: per_example.check_objective(model, objective, x, y))
    count, wanted = examples.count(x), np.asarray(wanted, "int32")
    batch = min(batch_size, count)
    rows = np.resize(np.arange(count), -(-count // batch) * batch)
    placed = [examples.on_device(examples.batches(examples.take(a, rows), batch)) for a in (x, y)]
    new = [backend.on_device(a) for a in replacements]
    found, left = np.zeros((len(wanted), 2), "float32"), np.ones(len(wanted), bool)

    def evaluate(here, what, evaluated, owners):
        key = ("loss changes", objective, count, what)
        function = chunks.kept(
            model, key, lambda: backend.compiled(_paired(evaluated, count), xla=structure.xla(model))
        )
        found[here] = _in_parts(function, wanted[here], (*chunks.values(model), new, owners, *placed))

    for use, channels in _whole_units(model, x, groups):
        here = left & np.isin(wanted, channels[channels >= 0])
        if here.any():
            named = channels[channels >= 0]
            following = _next_dense(model, use.layer) if len(np.unique(named)) == len(named) else None
            if following is None:
                differences = _of_units(model, objective, use)
            else:
                differences = _of_single_units(model, objective, use, following)
            evaluate(here, (*use.indices, following is None), differences, backend.on_device(channels))
            left &= ~here
    if left.any():
        ids = [backend.on_device(g.astype("int32")) for g in groups]
        evaluate(left, "any weights", _of_any_weights(model, objective), ids)
    return found[:, 0], found[:, 1]


def _in_parts(function, wanted, arguments):
    """Call a compiled function for some groups at a time; return what it says of each, an array (groups, 2)."""
    at_once, found = min(GROUPS_AT_ONCE, len(wanted)), []
    for start in range(0, len(wanted), GROUPS_AT_ONCE):
        part = wanted[start : start + GROUPS_AT_ONCE]
        result = function(backend.on_device(np.resize(part, at_once)), *arguments)
        found.append(backend.to_numpy(result)[: len(part)])
    return np.concatenate(found)


def _paired(differences, count):
    """Return a function that gives (mean, standard error) of the differences of the examples, for each group."""

    def of_groups(wanted, trainable, others, replacements, owners, x, y):
        def one_batch(batch):
            return differences(wanted, trainable, others, replacements, owners, *batch)

        found = ops.transpose(ops.map(one_batch, (x, y)), (1, 0, 2))  # (groups, batches, examples)
        found = ops.reshape(found, (found.shape[0], -1))[:, :count]
        errors = ops.std(found, axis=1) / max(count - 1, 1) ** 0.5
        return ops.stack([ops.mean(found, axis=1), errors], axis=1)

    return of_groups


def _of_any_weights(model, objective):
    """Return what gives the differences of one batch, (groups, examples), by running the whole model for each group."""

    def differences(wanted, trainable, others, replacements, ids, x, y):
        def run(weights):
            return objective(structure.outputs(model, weights, others, x), y)

        before = run(trainable)

        def one_group(group):
            each = zip(ids, replacements, trainable, strict=True)
            return run([ops.where(own == group, new, old) for own, new, old in each]) - before

        return ops.map(one_group, wanted)

    return differences


def _of_units(model, objective, use):
    """Do what `_of_any_weights` does for groups that are whole units of one layer: what comes before is computed once.

    The layer's outputs are computed as they are and with all of its weights replaced; a group chooses between them,
    output by output, and the rest of the model goes on from there.
    """

    def differences(wanted, trainable, others, replacements, channels, x, y):
        def run(weights, value=None):
            seen = []

            def visit(_, inputs, found):
                seen.append(found)
                return found if value is None else value

            with taps.tapped([use.layer], visit, before_activation=True):
                outputs = structure.outputs(model, weights, others, x)
            return objective(outputs, y), seen[0]

        (before, kept), (_, new) = run(trainable), run(_with_replaced(use, trainable, replacements))
        return ops.map(lambda group: run(trainable, ops.where(channels == group, new, kept))[0] - before, wanted)

    return differences


def _of_single_units(model, objective, use, following):
    """Do what `_of_units` does for single units of a dense layer before another: that one is not computed anew either.

    What it gives changes by what the unit gives less, times the one row of its kernel that the unit goes through.
    """

    def differences(wanted, trainable, others, replacements, channels, x, y):
        def run(weights, value=None):
            seen = []

            def visit(_, inputs, found):
                seen.append((inputs, found))
                return found if value is None else value

            with taps.tapped([following], visit, before_activation=True):
                outputs = structure.outputs(model, weights, others, x)
            return objective(outputs, y), *seen[0]

        before, heard, given = run(trainable)
        change = run(_with_replaced(use, trainable, replacements))[1] - heard  # (examples, units)
        kernel = trainable[_place(model, following.kernel)]

        def one_group(group):
            unit = ops.argmax(channels == group)
            return run(trainable, given + ops.outer(ops.take(change, unit, axis=1), kernel[unit]))[0] - before

        return ops.map(one_group, wanted)

    return differences


def _with_replaced(use, trainable, replacements):
    """Return a model's weights with all of a layer's replaced."""
    pairs = enumerate(zip(trainable, replacements, strict=True))
    return [new if index in use.indices else old for index, (old, new) in pairs]


def _place(model, variable):
    return next(index for index, v in enumerate(model.trainable_variables) if v is variable)


def _next_dense(model, layer):
    """Find the dense layer to which all that a dense layer gives goes, unit by unit; None: there is none."""
    functional = getattr(model, "_functional", model)  # of a keras.Sequential
    nodes = [node for nodes in getattr(functional, "_nodes_by_depth", {}).values() for node in nodes]
    if type(layer) is not layers.Dense or not _unit_by_unit(layer.activation):
        return None
    called = [node for node in nodes if node.operation is layer]
    while len(called) == 1:
        (value,) = called[0].outputs
        called = [node for node in nodes if any(given is value for given in node.input_tensors)]
        if len(called) != 1 or len(value.shape) != 2 or any(value is output for output in functional.outputs):
            return None
        following = called[0].operation
        if type(following) is layers.Dense:
            alone = sum(node.operation is following for node in nodes) == 1
            trainable = any(v is following.kernel for v in model.trainable_variables)
            return following if alone and trainable else None
        activation = type(following) is layers.Activation and _unit_by_unit(following.activation)
        if not (activation or type(following) in _UNIT_BY_UNIT):
            return None
    return None


def _unit_by_unit(activation):
    """Say whether an activation is known to make each unit's output of that unit's input alone."""
    here = getattr(activation, "__module__", "").startswith("keras.")
    return here and getattr(activation, "__name__", "softmax") not in _ACROSS_UNITS


def _whole_units(model, x, groups):
    """Find the layers that have groups of whole units, whose weights decide these units' outputs and nothing else.

    Returns:
        list of (use, int32 array (units,)): the group of each unit of a layer, -1 where it is none of these.
    """
    sizes, found = np.bincount(np.concatenate([g.ravel() for g in groups]) + 1), []
    for use in per_example.rules(model, x):
        if use.rule is None or type(use.layer) not in _WITH_UNITS_LAST:
            continue
        ids = np.concatenate([groups[i].reshape(-1, groups[i].shape[-1]) for i in use.indices])  # (weights, units)
        channels = np.where((ids == ids[0]).all(axis=0), ids[0], -1)
        here = np.bincount(channels + 1, minlength=len(sizes)) * len(ids)
        channels[here[channels + 1] != sizes[channels + 1]] = -1
        if (channels >= 0).any():
            found.append((use, channels.astype("int32")))
    return found
