"""Losses seen one example at a time, which is how every measure of importance is defined."""

import functools
import json

import keras
from keras import ops


def infer(y):
    """Return the loss that labels of this type call for: cross-entropy from logits for integers, else squared error."""
    if y is not None and keras.backend.is_float_dtype(keras.backend.standardize_dtype(y.dtype)):
        return keras.losses.MeanSquaredError()
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def per_example(loss, y, outputs):
    """Return the loss of each example.

    Args:
        loss: keras.losses.Loss.
        y: array (examples, ...). Labels or targets.
        outputs: array (examples, ...). What the model gave.

    Returns:
        array (examples,), float32: the mean over all other axes, as Keras takes it.
    """
    values = ops.cast(loss.call(y, outputs), "float32")
    return ops.mean(ops.reshape(values, (ops.shape(values)[0], -1)), axis=1)


def objective(loss):
    """Return `objective(outputs, y) -> (examples,)` for a loss: one function for equal losses, compiled once."""
    return _objective(type(loss), json.dumps(loss.get_config(), sort_keys=True, default=str))


@functools.cache
def _objective(kind, config):
    loss = kind.from_config(json.loads(config))
    return lambda outputs, y: per_example(loss, y, outputs)


def of_model(model, y):
    """Return a model's loss: the one it was compiled with, or what its labels call for if it was not compiled.

    Raises:
        ValueError: it was compiled with something that is not a `keras.losses.Loss`.
    """
    loss = getattr(model, "loss", None)
    if loss is None:
        return infer(y)
    if not isinstance(loss, keras.losses.Loss):
        raise ValueError(
            f"Expected a model compiled with a keras.losses.Loss object, which says whether outputs are logits; "
            f"received {loss!r}. Pass loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), or what fits."
        )
    return loss


def is_classification(loss):
    """Say whether the loss compares integer labels with class scores."""
    return isinstance(loss, keras.losses.SparseCategoricalCrossentropy)


def log_probabilities(loss, outputs):
    """Return log p(class | x), shape (examples, ..., classes), from what a classifier gave."""
    if loss.get_config().get("from_logits", False):
        return ops.log_softmax(ops.cast(outputs, "float32"), axis=-1)
    return ops.log(ops.maximum(ops.cast(outputs, "float32"), keras.config.epsilon()))
