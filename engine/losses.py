"""Losses seen one example at a time, which is how every measure of importance is defined."""

import functools
import json

import keras
import numpy as np
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
    if type(loss).__module__.startswith("keras."):
        return _objective(_Same((type(loss), json.dumps(loss.get_config(), sort_keys=True, default=str)), loss))
    return _objective(_Same(id(loss), loss))  # the configuration of a loss of one's own may not say all


class _Same:
    """A loss that equals another one of the same key."""

    def __init__(self, key, loss):
        self.key, self.loss = key, loss

    def __hash__(self):
        return hash(self.key)

    def __eq__(self, other):
        return self.key == other.key


@functools.lru_cache(maxsize=256)
def _objective(same):
    return lambda outputs, y: per_example(same.loss, y, outputs)


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
    return _log_probabilities(loss.get_config().get("from_logits", False), outputs)


def _log_probabilities(from_logits, outputs):
    if from_logits:
        return ops.log_softmax(ops.cast(outputs, "float32"), axis=-1)
    return ops.log(ops.maximum(ops.cast(outputs, "float32"), keras.config.epsilon()))


# What the model itself believes: the distribution of labels of which the loss is the negative logarithm. For the
# squared error averaged over K outputs that is the normal distribution of variance K/2.


def sample(loss, outputs, rng):
    """Draw a label for each example from the model's own distribution.

    Args:
        loss: keras.losses.Loss. Cross-entropy with integer labels or mean squared error.
        outputs: NumPy array (examples, ...). What the model gave.
        rng: numpy.random.Generator.

    Returns:
        NumPy array: int32 labels (examples, ...) without the last axis, or float32 targets like `outputs`.
    """
    if believes(loss) == "classes":
        cumulative = np.cumsum(np.exp(np.asarray(log_probabilities(loss, outputs), "float64")), axis=-1)
        drawn = rng.random(cumulative.shape[:-1])[..., None] * cumulative[..., -1:]
        return np.argmax(cumulative > drawn, axis=-1).astype("int32")
    spread = (outputs[0].size / 2) ** 0.5
    return (outputs + spread * rng.standard_normal(outputs.shape)).astype("float32")


def root_of_fisher(loss):
    """Return an objective whose squared gradients, summed over an index, have the exact Fisher diagonal as their sum.

    Returns:
        callable `objective(outputs, index) -> (examples,)`; `index` (examples,) runs over the outputs of an example.
        For classes it is sqrt(p_c) log p_c with sqrt(p_c) held constant, whose squared gradient is p_c times that of
        log p_c; for K real outputs sqrt(2/K) times the output.
    """
    if believes(loss) == "values":
        return _scaled_output
    return _root_of_class_term(loss.get_config().get("from_logits", False))


@functools.cache
def _root_of_class_term(from_logits):
    def objective(outputs, index):
        log_p = _log_probabilities(from_logits, outputs)
        log_p = ops.take_along_axis(log_p, ops.cast(index, "int32")[:, None], axis=1)[:, 0]
        return ops.stop_gradient(ops.exp(log_p / 2)) * log_p

    return objective


def _scaled_output(outputs, index):
    outputs = ops.cast(outputs, "float32")
    flat = ops.reshape(outputs, (ops.shape(outputs)[0], -1))
    one = ops.take_along_axis(flat, ops.cast(index, "int32")[:, None], axis=1)[:, 0]
    return (2 / flat.shape[1]) ** 0.5 * one


@functools.cache
def squared_norm(from_logits):
    """Return the objective sum_k f_k^2 of an example's outputs; `from_logits`: of their softmax."""

    def objective(outputs, y):
        values = ops.softmax(outputs, axis=-1) if from_logits else outputs
        return ops.sum(ops.square(ops.reshape(ops.cast(values, "float32"), (ops.shape(values)[0], -1))), axis=1)

    return objective


def believes(loss):
    """Say what the model's own distribution is over: "classes" or (real) "values".

    Raises:
        ValueError: the loss is not the negative logarithm of a distribution known here.
    """
    if is_classification(loss):
        return "classes"
    if isinstance(loss, keras.losses.MeanSquaredError):
        return "values"
    raise ValueError(
        "Expected SparseCategoricalCrossentropy or MeanSquaredError, losses of which the model's distribution of "
        f"labels is known here, received {type(loss).__name__}. Use a measure that takes the true labels, such as "
        "'fisher_empirical'."
    )
