"""Evaluate a model at many thresholds in one compiled function."""

from typing import NamedTuple

import numpy as np
from keras import ops

from engine import backend, losses, structure


class Evaluation(NamedTuple):
    """What a model with some of its weights replaced does on held-out examples; each an array (thresholds,).

    Attributes:
        loss: float32. Mean over examples, in the units of the loss (nats for cross-entropy).
        loss_stderr: float32. Standard error of that mean over examples.
        accuracy: float32. Fraction of examples classified rightly; for a regression the mean absolute error.
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
        x: float array (examples, ...).
        y: array (examples, ...).
        batch_size: int. Examples evaluated at once.
    """

    def __init__(self, model, loss, x, y, batch_size=500):
        self._model = model
        self._loss = loss
        self.set_examples(x, y, batch_size)
        self._function = backend.compiled(self._all_thresholds, xla=structure.xla(model))

    def set_examples(self, x, y, batch_size=500):
        """Evaluate on other examples from now on; the compiled function stays when their shapes are the same."""
        self.examples = len(x)
        batch = min(batch_size, len(x))
        count = -(-len(x) // batch)
        # The last batch is filled up with the first examples again; their results are cut off.
        rows = np.resize(np.arange(len(x)), count * batch)
        self._x, self._y = (backend.on_device(a[rows].reshape(count, batch, *a.shape[1:])) for a in (x, y))

    def place(self, arrays):
        """Put a list of arrays like `model.trainable_variables` on the device, to be used in several calls."""
        return [backend.on_device(array) for array in arrays]

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
        thresholds = backend.on_device(np.asarray(thresholds, "float32"))
        result = self._function(thresholds, ranks, replacements, trainable, others, self._x, self._y)
        return Evaluation(*backend.to_numpy(result))

    def _all_thresholds(self, thresholds, ranks, replacements, trainable, others, x, y):
        def one_threshold(threshold):
            replaced = [
                ops.where(rank < threshold, new, old)
                for rank, new, old in zip(ranks, replacements, trainable, strict=True)
            ]

            def one_batch(batch):
                return ops.stack(self._per_example(replaced, others, *batch))

            # (batches, 2, batch) -> (2, examples)
            values = ops.moveaxis(ops.map(one_batch, (x, y)), 1, 0)
            values = ops.reshape(values, (2, -1))[:, : self.examples]
            mean = ops.mean(values, axis=1)
            spread = ops.std(values[0]) / max(self.examples - 1, 1) ** 0.5
            return ops.stack([mean[0], spread, mean[1]])

        def unless_skipped(threshold):
            return ops.cond(ops.isnan(threshold), lambda: ops.zeros(3), lambda: one_threshold(threshold))

        results = ops.map(unless_skipped, thresholds)  # (thresholds, 3)
        return results[:, 0], results[:, 1], results[:, 2]

    def _per_example(self, trainable, others, x, y):
        outputs, _ = self._model.stateless_call(trainable, others, x, training=False)
        loss = losses.per_example(self._loss, y, outputs)
        if losses.is_classification(self._loss):
            hit = ops.cast(ops.equal(ops.argmax(outputs, axis=-1), ops.cast(y, "int32")), "float32")
        else:
            hit = ops.abs(ops.cast(outputs, "float32") - ops.cast(y, "float32"))
        return loss, ops.mean(ops.reshape(hit, (ops.shape(loss)[0], -1)), axis=1)
