"""Take groups of weights away one after another: what each next one costs, given those that are gone."""

import numpy as np
from keras import layers, ops

from engine import backend, chunks, examples, losses, per_example, structure, taps

_WITH_UNITS_LAST = (layers.Dense, layers.Conv1D, layers.Conv2D, layers.Conv3D)
BATCH, GROUPS_AT_ONCE = 500, 64
WORTH = 1e9
"""So many multiply-adds take about as long as tracing what is compiled for one layer alone."""


class Elimination:
    """Groups of a model's weights that are replaced, and what the loss becomes: compiled once for each model.

    What comes before a layer is computed once for all of its units. Where a dense layer is followed by another, and
    each unit of it is one input of that, replacing a unit changes the next layer's outputs by one product of a column
    and a row. Layers for which running the whole model is little work share one compiled function that does so.

    Args:
        model: keras.Model, built. Run in inference mode and left as it was; its weights are read at each call.
        loss: keras.losses.Loss.
        x: array (examples, ...), or a dict or list of them.
        y: array (examples, ...).
        groups: list of int arrays like `model.trainable_variables`: each weight's group, numbered from 0; below 0 a
            weight stays.
        replacements: list of float arrays, likewise: what stands in for each weight.

    Attributes:
        count: int. How many groups there are.
    """

    def __init__(self, model, loss, x, y, groups, replacements):
        self._model, self._loss = model, losses.objective(loss)
        number = examples.count(x)
        batch = min(BATCH, number)
        rows = np.resize(np.arange(number), -(-number // batch) * batch)
        self._data = [examples.on_device(examples.batches(examples.take(a, rows), batch)) for a in (x, y)]
        # The last batch is filled up with the first examples again, which count 0.
        counts = (np.arange(len(rows)) < number) / number
        self._data.append(backend.on_device(counts.reshape(-1, batch).astype("float32")))
        self.count = 1 + max(int(ids.max()) for ids in groups)
        self._new = [backend.on_device(np.asarray(a, "float32")) for a in replacements]
        self._ids = [backend.on_device(np.where(g < 0, self.count, g).astype("int32")) for g in groups]
        self._parts = self._divided(x, groups)

    def changes(self, gone, wanted):
        """Replace some groups, and in turn each of some others beside them; say what each of these changes.

        Args:
            gone: bool array (groups,). Those that are replaced.
            wanted: bool array (groups,). Those to replace in turn.

        Returns:
            before: float. The mean loss over the examples with nothing but `gone` replaced, in its units.
            changes: float32 array (groups, 2). The mean change of an example's loss, and the mean of its square; NaN
                where it is not wanted.
        """
        before, found = np.nan, np.full((self.count, 2), np.nan, "float32")
        for function, owners, at_once in self._parts:
            owners = owners if at_once is None else owners[wanted[owners]]
            for start in range(0, len(owners), at_once or len(owners)):
                groups = owners[start : start + (at_once or len(owners))]
                here = (groups >= 0) & wanted[groups]
                if here.any():
                    padding = (0, (at_once or len(owners)) - len(groups))
                    places = np.where(groups < 0, self.count, groups).astype("int32")
                    given = (np.pad(here, padding), np.pad(places, padding))
                    before, changed = function(*map(backend.on_device, given), *self._arguments(gone))
                    before, found[groups[here]] = float(before), backend.to_numpy(changed)[: len(groups)][here]
        return before, found

    def losses(self, gone, wanted):
        """Replace some groups, and in turn each of some others beside them.

        Args:
            gone, wanted: as for `changes`.

        Returns:
            float32 array (groups,): the mean loss over the examples, in its units; infinity where it is not wanted.
        """
        before, changes = self.changes(gone, wanted)
        return np.where(wanted, before + changes[:, 0], np.float32(np.inf))

    def path(self, order, limit=np.inf):
        """Replace all groups, one after another.

        Args:
            order: int array (groups,). Each group once.
            limit: float. Once the loss is as high as this, it is taken to stay where it is.

        Returns:
            float32 array (groups + 1,): the mean loss before the first and after each of them.
        """
        place = np.empty(self.count, "int32")
        place[order] = np.arange(self.count)
        limit = np.float32(min(limit, np.finfo("float32").max))
        function = self._kept("path", _path(self._model, self._loss))
        found, gone = backend.to_numpy(function(*map(backend.on_device, (place, limit)), *self._arguments(None)[1:]))
        found = np.array(found)
        found[int(gone) + 1 :] = found[int(gone)]
        return found

    def _arguments(self, gone):
        gone = None if gone is None else backend.on_device(np.append(gone, False))
        return gone, *chunks.values(self._model), self._new, self._ids, *self._data

    def _kept(self, what, function):
        key = ("elimination", self._loss, self.count, what, examples.signature(self._data[0]))
        xla = structure.xla(self._model)
        return chunks.kept(self._model, key, lambda: backend.compiled(function, xla=xla))

    def _divided(self, x, groups):
        """List (compiled function, groups, how many it takes at once): what evaluates these groups, -1 being none.

        Of a layer's units all are taken at once (None), wanted or not, as they share what comes before.
        """
        found: list = []
        left = np.ones(self.count, bool)
        weights = sum(ids.size for ids in groups)
        for use, owners in _units(self._model, x, groups, self.count):
            if len(owners) * examples.count(x) * weights < WORTH:
                continue
            following = _following(self._model, use, x)
            function = _of_units(self._model, self._loss, use, following)
            what = (tuple(use.indices), following and tuple(following.indices))
            found.append((self._kept(what, function), owners, None))
            left[owners[owners >= 0]] = False
        if left.any():
            function = self._kept("any weights", _of_any_weights(self._model, self._loss))
            found.append((function, np.flatnonzero(left), GROUPS_AT_ONCE))
        return found


def greedy(elimination, scopes, begun=(), keep=lambda order: None, every=20):
    """Eliminate all groups backwards: the next to go is the one that costs least, given those that are gone.

    Of several scopes, whose groups fall side by side, the next is of the one of which the smallest part has gone.

    Args:
        elimination: Elimination.
        scopes: list of int arrays. The groups of each scope; all groups once.
        begun: sequence of int. The first groups to go, as they were found before.
        keep: callable. Called with the order so far, a list of int, after every so many groups.
        every: int.

    Returns:
        int array (groups,): the order in which they go.
    """
    order, gone = [int(group) for group in begun], np.zeros(elimination.count, bool)
    gone[order] = True
    while len(order) < elimination.count:
        open_scopes = [scope for scope in scopes if not gone[scope].all()]
        scope = min(open_scopes, key=lambda groups: (gone[groups].sum() + 1) / len(groups))
        wanted = np.zeros(elimination.count, bool)
        wanted[scope[~gone[scope]]] = True
        costs = elimination.losses(gone, wanted)
        left = np.flatnonzero(wanted)
        order.append(int(left[np.argmin(np.nan_to_num(costs[left], nan=np.inf, posinf=np.inf))]))
        gone[order[-1]] = True
        if len(order) % every == 0:
            keep(order)
    return np.array(order)


def evaluations(scopes):
    """Count the evaluations that `greedy` needs: int."""
    return sum(len(groups) * (len(groups) + 1) // 2 for groups in scopes)


def _weights(gone, trainable, new, ids):
    """Return a model's weights with some groups replaced; `gone` is (groups + 1,), the last for weights that stay."""
    return [ops.where(ops.take(gone, own), n, w) for own, n, w in zip(ids, new, trainable, strict=True)]


def _summed(one_batch, data):
    return ops.sum(ops.map(one_batch, tuple(data)), axis=0)


def _compared(counts, before, after):
    """Return the sums over a batch of (change, squared change) of the losses of examples: (2,)."""
    change = ops.cast(after, "float32") - before
    return ops.stack([ops.sum(counts * change), ops.sum(counts * ops.square(change))])


def _unless_skipped(wanted, compare):
    return ops.cond(wanted, compare, lambda: ops.zeros(2))


def _path(model, objective):
    def path(place, limit, trainable, others, new, ids, x, y, counts):
        groups = place.shape[0]

        def loss(count):
            gone = ops.concatenate([place < count, ops.zeros(1, "bool")])
            weights = _weights(gone, trainable, new, ids)

            def one_batch(batch):
                x, y, counts = batch
                of_examples = objective(structure.outputs(model, weights, others, x), y)
                return ops.sum(counts * ops.cast(of_examples, "float32"))

            return _summed(one_batch, (x, y, counts))

        def go_on(count, last, found):
            return ops.logical_and(count < groups, last < limit)

        def step(count, last, found):
            last = loss(count + 1)
            return count + 1, last, ops.slice_update(found, (count + 1,), ops.reshape(last, (1,)))

        first = loss(0)
        found = ops.slice_update(ops.zeros(groups + 1), (0,), ops.reshape(first, (1,)))
        count, _, found = ops.while_loop(go_on, step, (ops.convert_to_tensor(0, "int32"), first, found))
        return found, count

    return path


def _of_any_weights(model, objective):
    """Return what runs the whole model for each group."""

    def evaluate(here, groups, gone, trainable, others, new, ids, x, y, counts):
        def losses(gone, x, y):
            return objective(structure.outputs(model, _weights(gone, trainable, new, ids), others, x), y)

        before = ops.cast(ops.map(lambda batch: losses(gone, *batch), (x, y)), "float32")

        def one_group(each):
            wanted, group = each
            with_it = ops.logical_or(gone, ops.arange(gone.shape[0]) == group)

            def one_batch(batch):
                x, y, counts, before = batch
                return _compared(counts, before, losses(with_it, x, y))

            return _unless_skipped(wanted, lambda: _summed(one_batch, (x, y, counts, before)))

        return ops.sum(counts * before), ops.map(one_group, (here, groups))

    return evaluate


def _of_units(model, objective, use, following):
    """Return what replaces the units of one layer in turn: its outputs as they are, and with all of it replaced.

    A unit chooses between these two; the rest of the model goes on from there, or from the following layer's outputs.
    """
    tapped = [use.layer] if following is None else [use.layer, following.layer]

    def evaluate(here, groups, gone, trainable, others, new, ids, x, y, counts):
        weights = _weights(gone, trainable, new, ids)
        replaced = [n if i in use.indices else w for i, (n, w) in enumerate(zip(new, weights, strict=True))]
        row = None if following is None else weights[_kernel(model, following)]

        def one_batch(batch):
            x, y, counts = batch

            def run(weights, values):
                given, seen = {}, {}

                def visit(number, inputs, found):
                    given[number], seen[number] = inputs, found
                    return values.get(number, found)

                with taps.tapped(tapped, visit, before_activation=True):
                    outputs = structure.outputs(model, weights, others, x)
                return outputs, given, seen

            outputs, given, seen = run(weights, {})
            before, kept = ops.cast(objective(outputs, y), "float32"), seen[0]
            gives = run(replaced, {})[2][0]
            if following is not None:
                difference = run(weights, {0: gives})[1][1] - given[1]  # (examples, units)

            def one_unit(each):
                wanted, unit = each

                def changed():
                    if following is None:
                        values = {0: ops.where(ops.arange(kept.shape[-1]) == unit, gives, kept)}
                    else:
                        column = ops.take(difference, unit, axis=1)
                        heard = ops.cast(ops.take(row, unit, axis=0), column.dtype)
                        values = {1: seen[1] + column[:, None] * heard[None]}
                    return _compared(counts, before, objective(run(weights, values)[0], y))

                return _unless_skipped(wanted, changed)

            return ops.sum(counts * before), ops.map(one_unit, (here, ops.arange(here.shape[0])))

        before, changes = ops.map(one_batch, (x, y, counts))
        return ops.sum(before), ops.sum(changes, axis=0)

    return evaluate


def _units(model, x, groups, count):
    """Find the layers that have units which are groups, and whose weights decide these units' outputs and nothing else.

    Returns:
        list of (use, int array (units,)): the group of each unit of a layer, -1 where it is none of these.
    """
    sizes, found = np.bincount(np.concatenate([g.ravel() for g in groups]) + 1, minlength=count + 1), []
    for use in per_example.rules(model, x):
        if use.rule is None or type(use.layer) not in _WITH_UNITS_LAST:
            continue
        ids = np.concatenate([groups[i].reshape(-1, groups[i].shape[-1]) for i in use.indices])  # (weights, units)
        owners = np.where((ids == ids[0]).all(axis=0), ids[0], -1)
        owners[sizes[owners + 1] != len(ids)] = -1
        if (owners >= 0).any():
            found.append((use, owners))
    return found


def _kernel(model, use):
    return next(i for i in use.indices if model.trainable_variables[i] is use.layer.kernel)


def _following(model, use, x):
    """Find the dense layer of which each unit of a layer is one input, and through which alone it has any effect.

    It is tried on a few examples, with outputs of the layer that are drawn: whether inputs of the other change where
    units do and nowhere else, as if all had changed; and whether its outputs are all that the rest depends on.
    """
    some = examples.on_device(examples.take(x, np.arange(min(4, examples.count(x)))))
    for other in per_example.rules(model, x):
        dense = all(type(layer) is layers.Dense for layer in (use.layer, other.layer))
        if not dense or other.layer is use.layer or other.rule is None:
            continue
        taken = any(model.trainable_variables[i] is other.layer.kernel for i in other.indices)  # it is not frozen
        fits = other.layer.kernel.shape[0] == use.layer.units
        if taken and fits and _leads_to(model, use.layer, other.layer, some):
            return other
    return None


def _leads_to(model, layer, other, x):
    def run(values):
        given, seen = {}, {}

        def visit(number, inputs, found):
            given[number], seen[number] = inputs, found
            return values.get(number, found)

        with taps.tapped([layer, other], visit, before_activation=True):
            outputs = structure.forward(model, x)
        return [backend.to_numpy(found) for found in (outputs, given[1], seen[1], seen[0])]

    _, before, _, kept = run({})
    if before.ndim != 2 or kept.ndim != 2:
        return False
    rng = np.random.default_rng(0)
    drawn = (kept + rng.standard_normal(kept.shape) * (np.abs(kept) + 1)).astype("float32")
    chosen = rng.random(kept.shape[-1]) < 0.5
    mixed = np.where(chosen, drawn, kept)
    after = run({0: backend.on_device(drawn)})[1]
    outputs, between, gives, _ = run({0: backend.on_device(mixed)})
    alone = run({1: backend.on_device(gives)})[0]
    return np.array_equal(between, np.where(chosen, after, before)) and np.array_equal(outputs, alone)
