"""Evaluate a model at many thresholds in one compiled function."""

from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from engine import active_outputs, backend, examples, losses, structure, taps

_PER_SWEEP, _PER_WEIGHT, _PER_CHANGE = 1e8, 9000, 20
"""What a sweep costs beside computing the first layer anew, in multiply-adds: to begin with, for each weight, and for
each output that a weight changes. Fitted by `benchmarks/sweeps.py`."""
_MOST = 2000
_NUMBERS = {True: 4_000_000, False: 150_000}
"""Numbers in a batch of inputs, with XLA and without: convolutions on a processor are faster while what they pass on
fits its caches, all else is faster the larger the matrices, as long as there is room for them."""


class Evaluation(NamedTuple):
    """What a model with some of its weights replaced does on held-out examples; each an array (thresholds,).

    Attributes:
        loss: float32. Mean over examples, in the units of the loss (nats for cross-entropy).
        loss_stderr: float32. Standard error of that mean over examples.
        accuracy: float32. Fraction of examples (or of their places) that a classifier gets right; for a regression the
            mean absolute error.
    """

    loss: np.ndarray
    loss_stderr: np.ndarray
    accuracy: np.ndarray


class Evaluator:
    """Hold a model's compiled evaluation and the examples it is evaluated on.

    Weights, ranks and replacements stay on the device; thresholds are an argument, so one compilation serves every
    measure, level, checkpoint and seed.

    Args:
        model: keras.Model, built. Its variables are read at each call.
        loss: keras.losses.Loss.
        x: float array (examples, ...), or a dict or list of arrays for a model with several inputs.
        y: array (examples, ...).
        batch_size: int or None. Examples evaluated at once; None: what is fast.
        sweep: bool or None. Whether thresholds are evaluated in one sweep where the network allows it, which rounds
            otherwise; None: where that takes less time.
    """

    def __init__(self, model, loss, x, y, batch_size=None, sweep=None):
        self._model, self._sweep = model, sweep
        self._loss = loss
        self.set_examples(x, y, batch_size)
        self._function = backend.compiled(self._all_thresholds, xla=structure.xla(model))
        self._front = _front(model, x)
        self._nested_function = backend.compiled(self._nested_thresholds)
        self._losses_function = backend.compiled(self._losses, xla=structure.xla(model))

    def set_examples(self, x, y, batch_size=None):
        """Evaluate on other examples from now on; the compiled function stays when their shapes are the same."""
        self.examples = examples.count(x)
        batch = min(batch_size or _fast_batch(self._model, x), self.examples)
        # The last batch is filled up with the first examples again; their results are cut off.
        rows = np.resize(np.arange(self.examples), -(-self.examples // batch) * batch)
        self._x, self._y = (examples.on_device(examples.batches(examples.take(a, rows), batch)) for a in (x, y))

    def place(self, arrays):
        """Put a list of arrays like `model.trainable_variables` on the device, to be used in several calls."""
        return [backend.on_device(array) for array in arrays]

    def sweeps(self, thresholds):
        """Say whether so many thresholds are evaluated in one sweep, whose cost hardly depends on how many are skipped.

        Of each weight of the first layer, a sweep changes one output of every example, once; computing anew takes one
        multiply-add of every example at each threshold. Skipped thresholds count too: what remains of a run that was
        interrupted is evaluated as it would have been.
        """
        if self._front is None:
            return False
        if self._sweep is not None:
            return self._sweep
        weights = int(np.prod(self._model.trainable_variables[self._front.kernel].shape))
        return thresholds >= sweeping_pays(weights, self.examples)

    def __call__(self, ranks, replacements, thresholds):
        """Evaluate the model with every weight whose rank is below a threshold replaced.

        Args:
            ranks: list of float32 arrays, like `model.trainable_variables`.
            replacements: list of float32 arrays, likewise: what stands in for a replaced weight.
            thresholds: float array (thresholds,). NaN marks one that need not be evaluated.

        Returns:
            Evaluation. Entries whose threshold is NaN are 0.
        """
        trainable = [backend.read(v) for v in self._model.trainable_variables]
        others = [backend.read(v) for v in self._model.non_trainable_variables]
        thresholds = np.asarray(thresholds, "float32")
        arguments = (ranks, replacements, trainable, others, self._x, self._y)
        inner = np.where((thresholds > 0) & (thresholds < 1), thresholds, np.nan)
        wanted = inner[~np.isnan(inner)]
        if self.sweeps(len(thresholds)) and (np.diff(wanted) > 0).all():
            returns = _returns(np.asarray(ranks[self._front.kernel]), inner)
            nested = self._nested_function(*map(backend.on_device, (inner, *returns)), *arguments)
            # The ends, which every measure shares, are evaluated as in any other grid: the same to the last bit.
            ends = self._function(backend.on_device(np.where(np.isnan(inner), thresholds, np.nan)), *arguments)
            result = [np.where(np.isnan(inner), *pair) for pair in zip(*backend.to_numpy((ends, nested)), strict=True)]
        else:
            result = backend.to_numpy(self._function(backend.on_device(thresholds), *arguments))
        return Evaluation(*result)

    def of(self, trainable, others, thresholds=1):
        """Evaluate the model with other values in place of all its variables.

        Args:
            trainable, others: lists of arrays like `model.trainable_variables` and `model.non_trainable_variables`.
            thresholds: int. How many a call has: what was compiled for it serves this too.

        Returns:
            Evaluation of single numbers, what a call gives for these weights to the last bit.
        """
        trainable, others = self.place(trainable), self.place(others)
        once = np.full(thresholds, np.nan, "float32")
        once[0] = 0
        result = self._function(backend.on_device(once), trainable, trainable, trainable, others, self._x, self._y)
        return Evaluation(*(values[0] for values in backend.to_numpy(result)))

    def losses(self, ranks, replacements, thresholds):
        """Return the loss of each example at each threshold: float32 array (thresholds, examples).

        Args:
            ranks, replacements, thresholds: as in a call; no threshold is skipped.
        """
        trainable = [backend.read(v) for v in self._model.trainable_variables]
        others = [backend.read(v) for v in self._model.non_trainable_variables]
        thresholds = backend.on_device(np.asarray(thresholds, "float32"))
        found = self._losses_function(thresholds, ranks, replacements, trainable, others, self._x, self._y)
        return backend.to_numpy(found)[:, : self.examples]

    def _losses(self, thresholds, ranks, replacements, trainable, others, x, y):
        def one_threshold(threshold):
            replaced = _replaced(threshold, ranks, replacements, trainable)
            return ops.reshape(ops.map(lambda batch: self._per_example(replaced, others, *batch)[0], (x, y)), (-1,))

        return ops.map(one_threshold, thresholds)

    def _all_thresholds(self, thresholds, ranks, replacements, trainable, others, x, y):
        def one_threshold(threshold):
            replaced = _replaced(threshold, ranks, replacements, trainable)
            return self._summary(ops.map(lambda batch: self._per_example(replaced, others, *batch), (x, y)))

        def unless_skipped(threshold):
            return ops.cond(ops.isnan(threshold), lambda: ops.zeros(3), lambda: one_threshold(threshold))

        results = ops.map(unless_skipped, thresholds)  # (thresholds, 3)
        return results[:, 0], results[:, 1], results[:, 2]

    def _nested_thresholds(self, thresholds, order, begins, ends, ranks, replacements, trainable, others, x, y):
        """Do what `_all_thresholds` does where thresholds are many and the network begins with a dense layer.

        From one threshold to the next few weights change, and what the first layer is given stays. So its outputs are
        kept, and each weight changes one unit's outputs, once: a row operation in place of a matrix product. It begins
        where all are replaced, so that outputs that no weight contributes to are exactly what the fill makes them:
        rounding that depends on the past could otherwise decide between equal logits. `order[begins[n]:ends[n]]` are
        the positions in the kernel whose weights return at threshold n.
        """
        layer, kernel, bias = self._front
        batch, units = y.shape[1], trainable[kernel].shape[1]
        change = ops.take(ops.reshape(trainable[kernel] - replacements[kernel], (-1,)), order)
        given = ops.map(lambda batch: _given(self._model, layer, trainable, others, batch), x)
        given = ops.transpose(ops.reshape(given, (-1, given.shape[-1])))  # (inputs, examples)
        hidden = ops.matmul(ops.transpose(replacements[kernel]), given)  # (units, examples)
        last = thresholds.shape[0] - 1

        def bring_back(place, hidden):
            source, unit = order[place] // units, order[place] % units
            row = ops.slice(hidden, (unit, 0), (1, hidden.shape[1]))
            row = row + change[place] * ops.slice(given, (source, 0), (1, given.shape[1]))
            return place + 1, ops.slice_update(hidden, (unit, 0), row)

        def measure(threshold, hidden):
            replaced = _replaced(threshold, ranks, replacements, trainable)

            def one_batch(batch_of):
                number, *batch_xy = batch_of
                outputs = ops.transpose(ops.slice(hidden, (0, number * batch), (units, batch)))
                outputs = outputs if bias is None else outputs + replaced[bias]
                with taps.tapped([layer], lambda *_: outputs, before_activation=True):
                    return self._per_example(replaced, others, *batch_xy)

            return self._summary(ops.map(one_batch, (ops.arange(y.shape[0]), x, y)))

        def one_threshold(step, kept):
            hidden, results = kept
            number = last - step
            _, hidden = ops.while_loop(lambda place, _: place < ends[number], bring_back, (begins[number], hidden))
            skipped, nothing = ops.isnan(thresholds[number]), lambda: ops.zeros(3)
            result = ops.cond(skipped, nothing, lambda: measure(thresholds[number], hidden))
            return hidden, ops.slice_update(results, (number, 0), result[None])

        _, results = ops.fori_loop(0, last + 1, one_threshold, (hidden, ops.zeros((last + 1, 3))))
        return results[:, 0], results[:, 1], results[:, 2]

    def _summary(self, values):
        """From (batches, 2, batch) to the mean loss, its standard error, and the mean accuracy: (3,)."""
        values = ops.reshape(ops.moveaxis(values, 1, 0), (2, -1))[:, : self.examples]
        mean = ops.mean(values, axis=1)
        spread = ops.std(values[0]) / max(self.examples - 1, 1) ** 0.5
        return ops.stack([mean[0], spread, mean[1]])

    def _per_example(self, trainable, others, x, y):
        outputs = structure.outputs(self._model, trainable, others, x)
        return ops.stack([losses.per_example(self._loss, y, outputs), losses.accuracy(self._loss, y, outputs)])


class _Front(NamedTuple):
    """A dense layer that is given the same whatever the weights are, and the places of its weights."""

    layer: keras.Layer
    kernel: int
    bias: int | None


def sweeping_pays(weights, examples):
    """Return from how many thresholds on a sweep takes less time: float.

    Args:
        weights: int. Those of the first layer's kernel.
        examples: int.
    """
    return _PER_SWEEP / (weights * examples) + _PER_WEIGHT / examples + _PER_CHANGE


def _front(model, x):
    """Find the dense layer that a network begins with, or None: none, or its outputs are as quick to compute anew."""
    layer, places = taps.owners(model)[0]
    if type(layer) is not keras.layers.Dense or layer.kernel is not model.trainable_variables[places[0]]:
        return None
    # An accelerator multiplies matrices faster than it steps through rows.
    if not (backend.on_cpu() and structure.xla(model)):
        return None
    calls = taps.calls(layer, model, x)
    if len(calls) != 1 or calls[0].ndim != 2:
        return None
    weights, others = (
        [backend.read(v) for v in vs] for vs in (model.trainable_variables, model.non_trainable_variables)
    )
    some = examples.on_device(examples.take(x, slice(8)))
    given = [_given(model, layer, w, others, some) for w in (weights, [ops.zeros_like(w) for w in weights])]
    if not np.array_equal(*backend.to_numpy(given)):
        return None
    return _Front(layer, places[0], places[1] if layer.use_bias and len(places) > 1 else None)


def _given(model, layer, trainable, others, x):
    """Return what a layer of a model is called with."""
    seen = []

    def visit(_, inputs, value):
        seen.append(inputs)
        return value

    with taps.tapped([layer], visit):
        structure.outputs(model, trainable, others, x)
    return seen[0]


def _returns(ranks, thresholds):
    """Say which weights of a variable are no longer replaced at which threshold, from the largest threshold down.

    Returns:
        order: int32 array (weights,). Positions in the flattened variable, the highest rank first. Each weight is added
            to the same partial sum whichever thresholds are skipped, so that no rounding tells of them.
        begins, ends: int32 arrays (thresholds,). `order[begins[n]:ends[n]]` return at threshold n; none where it is
            NaN.
    """
    order = np.argsort(ranks, axis=None, kind="stable")[::-1]
    ends = ranks.size - np.searchsorted(ranks.ravel()[order[::-1]], np.nan_to_num(thresholds, nan=np.inf), side="left")
    ends[np.isnan(thresholds)] = 0
    ends = np.maximum.accumulate(ends[::-1])[::-1]
    return tuple(a.astype("int32") for a in (order, np.append(ends[1:], 0), ends))


def _fast_batch(model, x):
    numbers = max(1, examples.floats(x))
    return max(1, min(_MOST, _NUMBERS[structure.xla(model)] // numbers))


def _replaced(threshold, ranks, replacements, trainable):
    return [
        ops.where(rank < threshold, new, old) for rank, new, old in zip(ranks, replacements, trainable, strict=True)
    ]


class Accuracy:
    """Count how often a classifier is right, in inference mode, by one compiled function.

    Args:
        model: keras.Model, built. Its variables are read at each call.
        batch_size: int or None. Examples evaluated at once; None: what is fast.
        loss: keras.losses.Loss or None. Of an `engine.active_outputs.ActiveCrossentropy` only the active outputs count.
    """

    def __init__(self, model, batch_size=None, loss=None):
        self._model, self._batch_size, self._loss = model, batch_size, loss
        self._function = backend.compiled(self._right, xla=structure.xla(model))

    def place(self, x, y):
        """Put examples on the device, to be used in several calls.

        Args:
            x: float array (examples, ...).
            y: int array (examples,).
        """
        batches, size = [], self._batch_size or _fast_batch(self._model, x)
        for start in range(0, len(x), size):
            # The last batch is filled up with label -1, which no output is: one shape, one compilation.
            rows = np.arange(start, start + size)
            labels = np.where(rows < len(x), y[np.minimum(rows, len(x) - 1)], -1).astype("int32")
            batches.append(tuple(map(backend.on_device, (x[np.minimum(rows, len(x) - 1)], labels))))
        return batches, len(x)

    def __call__(self, placed):
        """Return the fraction of the examples that `place` returned classified rightly: float."""
        batches, examples = placed
        trainable = [backend.read(v) for v in self._model.trainable_variables]
        others = [backend.read(v) for v in self._model.non_trainable_variables]
        return int(sum(self._function(trainable, others, *batch) for batch in batches)) / examples

    def _right(self, trainable, others, x, y):
        outputs = active_outputs.active(self._loss, structure.outputs(self._model, trainable, others, x), y)
        return ops.sum(ops.cast(ops.equal(ops.cast(ops.argmax(outputs, axis=-1), "int32"), y), "int32"))
