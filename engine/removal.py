"""What the loss does when some weights are taken away: measured, not approximated."""

import numpy as np
from keras import layers, ops

from engine import backend, chunks, examples, losses, per_example, structure, taps

GROUPS_AT_ONCE = 64
_WITH_UNITS_LAST = (layers.Dense, layers.Conv1D, layers.Conv2D, layers.Conv3D)


def loss_changes(model, loss, x, y, groups, wanted, replacements, batch_size=500):
    """Evaluate the model once for each wanted group of weights, with that group replaced and the rest as it is.

    For groups that are whole units of a dense or convolutional layer only what comes after it is computed each time.

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
            evaluate(here, tuple(use.indices), _of_units(model, objective, use), backend.on_device(channels))
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

        replaced = [
            new if i in use.indices else old for i, (old, new) in enumerate(zip(trainable, replacements, strict=True))
        ]
        (before, kept), (_, new) = run(trainable), run(replaced)
        return ops.map(lambda group: run(trainable, ops.where(channels == group, new, kept))[0] - before, wanted)

    return differences


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
