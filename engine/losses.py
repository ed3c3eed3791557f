"""Losses seen one example at a time, which is how every measure of importance is defined."""

import contextlib
import functools
import json

import keras
import numpy as np
from keras import ops
from keras.src.backend import get_keras_mask, set_keras_mask  # Keras has no public word for an array's own mask

from engine import active_outputs

_LABELS = {
    keras.losses.SparseCategoricalCrossentropy: "classes",
    keras.losses.CategoricalCrossentropy: "one-hot classes",
    keras.losses.CategoricalFocalCrossentropy: "one-hot classes",
    keras.losses.BinaryCrossentropy: "binary",
    keras.losses.BinaryFocalCrossentropy: "binary",
}
_OTHER_TARGETS = keras.losses.CategoricalGeneralizedCrossEntropy
_FOCAL = (keras.losses.CategoricalFocalCrossentropy, keras.losses.BinaryFocalCrossentropy)


def per_example(loss, y, outputs):
    """Return the loss of each example: what `model.evaluate` gives for that example alone, penalties left out.

    A mask that travels with the outputs (an `Embedding` with `mask_zero`, a `Masking` layer) or with the losses
    (`ignore_class`) leaves places out, as Keras does.

    Args:
        loss: keras.losses.Loss.
        y: array (examples, ...). Labels or targets.
        outputs: array (examples, ...). What the model gave.

    Returns:
        array (examples,), float32: by the loss's own `reduction`, over all axes but that of the examples.

    Raises:
        ValueError: a mask of another shape than the losses; one value for all examples.
    """
    if len(outputs.shape) == 1:  # one number an example, of which Keras's losses would make one for all
        y, outputs = ops.expand_dims(y, -1), ops.expand_dims(outputs, -1)
    given = get_keras_mask(outputs)
    # As `Loss.__call__` does, which leaves an array of the right type, and what Keras notes of it, as it is.
    values = loss.call(*(ops.convert_to_tensor(a, dtype=loss.dtype) for a in (y, outputs)))
    if len(values.shape) == 0:
        raise ValueError(
            f"Expected a loss whose method `call` returns a value for each example, received {type(loss).__name__}, "
            "which makes one of all examples. Give it the axes of one example, such as Dice(axis=(1, 2, 3)), if it "
            "has them."
        )
    masks = [m for m in (given, get_keras_mask(values)) if m is not None]
    values = ops.cast(values, "float32")
    flat = ops.reshape(values, (ops.shape(values)[0], -1))  # (examples, places)
    if not masks:
        return ops.sum(flat, axis=1) if loss.reduction == "sum" else ops.mean(flat, axis=1)
    valid = functools.reduce(ops.multiply, [_like(m, values) for m in masks])
    total = ops.sum(flat * valid, axis=1)
    if loss.reduction == "sum":
        return total
    places = float(flat.shape[1]) if loss.reduction in (None, "none") else ops.sum(valid, axis=1)
    return ops.divide_no_nan(total, places)


def _like(mask, values):
    """Return a mask as float32 (examples, places)."""
    if tuple(mask.shape)[1:] not in (tuple(values.shape)[1:], (*values.shape[1:], 1)):
        raise ValueError(
            f"Expected a mask like the losses, (examples, {', '.join(map(str, values.shape[1:]))}), received one of "
            f"shape {tuple(mask.shape)} with the model's output. End the model with an array that has the mask's axes."
        )
    return ops.reshape(ops.cast(mask, "float32"), (ops.shape(values)[0], -1))


def check(loss, y, outputs):
    """Raise unless `per_example` gives for each example what the loss itself gives for that example alone.

    Args:
        loss: keras.losses.Loss.
        y: array (examples, ...).
        outputs: list of arrays (1, ...). What the model gave for each example alone.

    Raises:
        ValueError: it does not, as when a loss computes something of its own in `__call__`.
    """
    for n, output in enumerate(outputs):
        of_one = y[n : n + 1]
        expected = float(np.mean(np.asarray(loss(of_one, output), "float32")))
        received = float(per_example(loss, of_one, output)[0])
        if not np.isclose(received, expected, rtol=1e-3, atol=1e-5, equal_nan=True):
            raise ValueError(
                f"Expected a loss that is the mean or sum of what its method `call` returns, received "
                f"{type(loss).__name__}, which gives {expected:.6g} for an example where that is {received:.6g}. Move "
                "what it does in `__call__` into `call`."
            )


def objective(loss):
    """Return `objective(outputs, y) -> (examples,)` for a loss: one function for equal losses, compiled once."""
    if type(loss).__module__.startswith("keras."):
        return _objective(_Same((type(loss), json.dumps(loss.get_config(), sort_keys=True, default=str)), loss))
    return _objective(_Same(id(loss), loss))  # the configuration of a loss of one's own may not say all


def described(loss):
    """Say what a loss computes in a line: its class and its options, without its name and type of numbers."""
    options = {key: v for key, v in loss.get_config().items() if key not in ("name", "dtype")}
    return f"{type(loss).__name__} {json.dumps(options, sort_keys=True, default=str)}"


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


def of_model(model):
    """Return the loss that a model was compiled with, as a `keras.losses.Loss`, or None if it was not compiled.

    Raises:
        ValueError: it was compiled with a function, with several losses, or with a weight for the loss.
    """
    loss = single(getattr(model, "loss", None))
    weights = getattr(getattr(model, "_compile_loss", None), "_user_loss_weights", None)
    if loss is not None and weights is not None:
        raise ValueError(
            f"Expected a model compiled without loss_weights, received {weights!r}. Pass the loss that is meant as "
            "loss=..., which counts once."
        )
    return loss


def single(loss):
    """Return a loss as a `keras.losses.Loss`, if there is one; None for None.

    Args:
        loss: keras.losses.Loss, a name or a function that Keras takes for one, or a list or dict with one of them.

    Raises:
        ValueError: a function of one's own, several losses, or something else.
    """
    given = keras.tree.flatten(loss)
    found = _of_keras(given[0]) if len(given) == 1 and (isinstance(given[0], str) or callable(given[0])) else loss
    if found is not None and not isinstance(found, keras.losses.Loss):
        raise ValueError(
            "Expected one keras.losses.Loss object, or a name or function of Keras that stands for one, which says "
            f"whether outputs are logits; received {loss!r}. Pass "
            "loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), or what fits."
        )
    return found


def _of_keras(loss):
    """Return the loss that Keras takes for a name or a function, with its defaults; what was given if there is none."""
    function = None
    with contextlib.suppress(Exception):  # whatever Keras raises of what is none
        function = keras.losses.get(loss)
    if isinstance(function, keras.losses.Loss):
        return function
    for kind in vars(keras.losses).values():
        if isinstance(kind, type) and issubclass(kind, keras.losses.Loss) and kind is not keras.losses.Loss:
            found = kind()
            if getattr(found, "fn", None) is function:
                return found
    return loss


def infer(y, outputs, end):
    """Return the loss that labels and outputs of these kinds call for, of a model that was not compiled.

    Args:
        y: array (examples, ...) or None. Labels or targets.
        outputs: NumPy array (examples, ...). Some of what the model gave.
        end: str or None. What the model ends with: "softmax", "sigmoid", "linear"; None if it does not say.

    Returns:
        keras.losses.Loss: cross-entropy for integer labels and for none, binary cross-entropy for integer labels of a
        single output, mean squared error for other targets of a linear end.

    Raises:
        ValueError: they leave more than one choice: real targets that are 0 or 1 throughout, as one-hot labels are; a
            softmax whose classes are not the last axis; values from 0 to 1 of an end that is not known.
    """
    shape = outputs.shape[1:]
    zero_or_one = y is not None and set(np.unique(y)) <= {0, 1}
    if y is not None and not np.issubdtype(y.dtype, np.integer):
        if end in ("linear", None) and not (zero_or_one and y.min() < y.max()):
            return keras.losses.MeanSquaredError()
    elif shape and shape[-1] > 1:
        logits = end == "linear" or (end is None and not (outputs.min() >= 0 and outputs.max() <= 1))
        if logits or (end == "softmax" and are_distributions(outputs)):
            return keras.losses.SparseCategoricalCrossentropy(from_logits=logits)
    elif zero_or_one and shape in ((1,), ()) and end in ("sigmoid", "linear"):
        return keras.losses.BinaryCrossentropy(from_logits=end == "linear")
    labels = "no labels" if y is None else f"{y.dtype} labels"
    raise ValueError(
        f"Expected a compiled model or loss=...; received neither, {labels} and outputs of shape "
        f"({', '.join(['examples', *map(str, shape)])}) of a model that ends with {end or 'something unknown'}, which "
        "leave open what the loss is. Pass loss=keras.losses.BinaryCrossentropy(from_logits=True), or what fits."
    )


def check_end(loss, outputs, end):
    """Raise if a loss takes outputs for logits that are probabilities, or the other way round.

    Args:
        loss: keras.losses.Loss.
        outputs: NumPy array (examples, ..., classes). Some of what the model gave.
        end: str or None. As for `infer`.

    Raises:
        ValueError: it does.
    """
    if _labels(loss) is None:
        return
    given_logits = from_logits(loss)
    if given_logits and (end in ("softmax", "sigmoid") or are_distributions(outputs)):
        raise ValueError(
            f"Expected outputs that are logits, since {type(loss).__name__} has from_logits=True; received "
            f"probabilities{f' from a {end}' if end in ('softmax', 'sigmoid') else ''}. Use from_logits=False, or take "
            "the model's last activation off."
        )
    if not given_logits and len(outputs) and not (outputs.min() >= -1e-3 and outputs.max() <= 1 + 1e-3):
        raise ValueError(
            f"Expected outputs that are probabilities, since {type(loss).__name__} has from_logits=False; received "
            f"values from {outputs.min():.4g} to {outputs.max():.4g}. Use from_logits=True."
        )


def are_distributions(outputs):
    """Say whether all outputs (examples, ..., classes) are probabilities that add up to 1, as logits hardly ever do.

    A sum may be off by a hundredth only where the values are those of half precision, so that the logits of a single
    example are not taken for probabilities.
    """
    outputs = np.asarray(outputs, "float32")
    halves = not (outputs.view("uint32") & 0x1FFF).any()  # float16 and bfloat16 leave the last 13 bits empty
    with np.errstate(invalid="ignore", over="ignore"):
        off = np.abs(outputs.sum(axis=-1, dtype="float64") - 1)
        return outputs.shape[-1] > 1 and bool((outputs >= 0).all() and (off < (1e-2 if halves else 1e-4)).all())


def from_logits(loss):
    """Say whether a loss takes outputs for logits: bool."""
    return bool(loss.get_config().get("from_logits", False))


def _labels(loss):
    """Say what a loss takes for labels: "classes", "one-hot classes", "binary" ones; None for anything else."""
    return next((labels for kind, labels in _LABELS.items() if isinstance(loss, kind)), None)


def is_classification(loss):
    """Say whether the loss compares integer labels with class scores."""
    return isinstance(loss, keras.losses.SparseCategoricalCrossentropy)


def takes_targets_like_outputs(loss):
    """Say whether the targets of a loss of Keras have to have the shape of the outputs."""
    return type(loss).__module__.startswith("keras.") and not isinstance(loss, _OTHER_TARGETS)


def accuracy(loss, y, outputs):
    """Return how well each example is predicted: array (examples,), float32.

    For a classifier the fraction of its places at which the most likely label is the true one, masked places left out;
    for anything else the mean absolute error.
    """
    kind = _labels(loss)
    if kind == "classes":
        predicted = ops.cast(ops.argmax(active_outputs.active(loss, outputs, y), axis=-1), "int32")
        hit = ops.equal(predicted, ops.cast(_without_last(y, outputs), "int32"))
    elif kind == "one-hot classes":
        hit = ops.equal(ops.argmax(outputs, axis=-1), ops.argmax(y, axis=-1))
    elif kind == "binary":
        boundary = 0.0 if from_logits(loss) else 0.5
        hit = ops.equal(outputs > boundary, ops.reshape(ops.cast(y, "float32"), ops.shape(outputs)) > 0.5)
    else:
        hit = ops.abs(ops.cast(outputs, "float32") - ops.reshape(ops.cast(y, "float32"), ops.shape(outputs)))
    hit = ops.cast(hit, "float32")
    flat, mask = ops.reshape(hit, (ops.shape(hit)[0], -1)), get_keras_mask(outputs)
    ignored = getattr(loss, "ignore_class", None)
    valid = [] if mask is None or mask.shape != hit.shape else [mask]
    valid += [] if ignored is None else [ops.not_equal(_without_last(y, outputs), ignored)]
    if not valid:
        return ops.mean(flat, axis=1)
    valid = functools.reduce(ops.multiply, [ops.reshape(ops.cast(v, "float32"), ops.shape(flat)) for v in valid])
    return ops.divide_no_nan(ops.sum(flat * valid, axis=1), ops.sum(valid, axis=1))


def _without_last(y, outputs):
    """Return integer labels without a last axis of length 1, which Keras allows."""
    return ops.squeeze(y, axis=-1) if len(y.shape) == len(outputs.shape) else y


# What the model itself believes: the distribution of labels that its outputs stand for. Of the squared error with the
# scale s, s sum_k (y_k - f_k)^2, that is the normal distribution with variance 1 / (2 s), of which it is the negative
# logarithm.


def believes(loss):
    """Say what the model's own distribution is over: "classes", "one-hot classes", "binary" labels or (real) "values".

    Raises:
        ValueError: no distribution is known here that the loss stands for.
    """
    kind = "values" if isinstance(loss, keras.losses.MeanSquaredError) else _labels(loss)
    options = loss.get_config()
    changed = ["label_smoothing"] if options.get("label_smoothing") else []
    changed += ["ignore_class"] if options.get("ignore_class") is not None else []
    changed += ["groups"] if options.get("groups") else []
    changed += ["axis"] if kind and options.get("axis", -1) != -1 else []
    if kind is None or changed or isinstance(loss, _FOCAL):
        received = type(loss).__name__ + (f" with {changed[0]}={options[changed[0]]!r}" if changed else "")
        raise ValueError(
            "Expected a cross-entropy (sparse, categorical or binary) or MeanSquaredError, without label smoothing, "
            "ignored classes or groups of labels, of which the model's own distribution of labels is known; received "
            f"{received}. Use a "
            "measure that takes the true labels, such as 'fisher_empirical'."
        )
    return kind


def _scale(loss, shape):
    """Return the factor of each output's term in the loss of an example, of outputs (*shape): float."""
    terms = shape[-1:] if loss.reduction == "sum" else shape
    return 1 / float(np.prod(terms))


def log_probabilities(loss, outputs):
    """Return log p(class | x), shape (examples, ..., classes), from what a classifier gave."""
    return _log_probabilities(from_logits(loss), outputs)


def _log_probabilities(from_logits, outputs):
    outputs = ops.cast(outputs, "float32")
    if from_logits:
        return ops.log_softmax(outputs, axis=-1)
    outputs = outputs / ops.sum(outputs, axis=-1, keepdims=True)
    return ops.log(ops.clip(outputs, keras.config.epsilon(), 1 - keras.config.epsilon()))


def _binary_logits(from_logits, outputs):
    outputs = ops.cast(outputs, "float32")
    if from_logits:
        return outputs
    outputs = ops.clip(outputs, keras.config.epsilon(), 1 - keras.config.epsilon())
    return ops.log(outputs) - ops.log(1 - outputs)


def sample(loss, outputs, rng):
    """Draw labels for each example from the model's own distribution.

    Args:
        loss: keras.losses.Loss. One of `believes`.
        outputs: NumPy array (examples, ...). What the model gave.
        rng: numpy.random.Generator.

    Returns:
        NumPy array, what the loss takes for labels: int32 classes (examples, ...) without the last axis, or float32
        like `outputs`.
    """
    kind = believes(loss)
    if kind == "values":
        spread = (1 / (2 * _scale(loss, outputs.shape[1:]))) ** 0.5
        return (outputs + spread * rng.standard_normal(outputs.shape)).astype("float32")
    if kind == "binary":
        logits = np.asarray(_binary_logits(from_logits(loss), outputs), "float64")
        return (rng.random(outputs.shape) * (1 + np.exp(-logits)) < 1).astype("float32")
    cumulative = np.cumsum(np.exp(np.asarray(log_probabilities(loss, outputs), "float64")), axis=-1)
    drawn = rng.random(cumulative.shape[:-1])[..., None] * cumulative[..., -1:]
    return _as_labels(kind, np.argmax(cumulative > drawn, axis=-1), outputs.shape[-1])


def most_likely(loss, outputs):
    """Return the labels that a classifier finds most likely, as `sample` does; of real values there are none.

    Raises:
        ValueError: a regression.
    """
    kind = believes(loss)
    if kind == "values":
        raise ValueError(
            "Expected a classifier, received a regression, whose most likely target is its own output, where the "
            "gradient is zero. Use the measure 'fisher'."
        )
    if kind == "binary":
        return (outputs > (0.0 if from_logits(loss) else 0.5)).astype("float32")
    return _as_labels(kind, np.argmax(outputs, axis=-1), outputs.shape[-1])


def _as_labels(kind, classes, count):
    return np.eye(count, dtype="float32")[classes] if kind == "one-hot classes" else classes.astype("int32")


def root_of_fisher(loss, shape):
    """Return an objective whose squared gradients, summed over an index, have the exact Fisher diagonal as their sum.

    The exact Fisher diagonal is that of the expected squared gradient of an example's loss, over labels from the
    model's own distribution.

    Args:
        loss: keras.losses.Loss. One of `believes`.
        shape: tuple of int. That of the outputs, without the examples.

    Returns:
        callable `objective(outputs, index) -> (examples,)`; `index` (examples,) runs over the outputs of an example.
        For classes it is sqrt(p_c) log p_c with sqrt(p_c) held constant, whose squared gradient is p_c times that of
        log p_c; for binary labels with the scale s of each term, s sqrt(p (1 - p)) times the logit, the root held
        constant; for real outputs sqrt(2 s) times the output.
    """
    return _root_term(believes(loss), from_logits(loss), _scale(loss, shape))


@functools.cache
def _root_term(kind, from_logits, scale):
    def objective(outputs, index):
        mask = get_keras_mask(outputs)
        if mask is not None:
            raise ValueError(
                "Expected outputs without a mask, received one: places are left out of the loss, and the exact Fisher "
                "would need a pass for each place. Use 'fisher_sampled'."
            )
        if kind == "values":
            return (2 * scale) ** 0.5 * _one(outputs, index)
        if kind == "binary":
            logit = _one(_binary_logits(from_logits, outputs), index)
            p = ops.sigmoid(logit)
            return scale * ops.stop_gradient(ops.sqrt(p * (1 - p))) * logit
        log_p = _one(_log_probabilities(from_logits, outputs), index)
        return ops.stop_gradient(ops.exp(log_p / 2)) * log_p

    return objective


def _one(outputs, index):
    """Pick one of each example's outputs: array (examples,), float32."""
    outputs = ops.cast(outputs, "float32")
    flat = ops.reshape(outputs, (ops.shape(outputs)[0], -1))
    return ops.take_along_axis(flat, ops.cast(index, "int32")[:, None], axis=1)[:, 0]


def squared_norm(loss):
    """Return the objective sum_k f_k^2 of an example's outputs.

    Args:
        loss: keras.losses.Loss or None. A cross-entropy: f are the probabilities of all labels, of a binary output p
            and 1 - p. Any other and None: the outputs themselves.

    Returns:
        callable `objective(outputs, y) -> (examples,)`.
    """
    kind = _labels(loss)
    return _squared_norm(kind, kind is not None and from_logits(loss), loss and loss.get_config().get("axis", -1))


@functools.cache
def _squared_norm(kind, from_logits, axis):
    def objective(outputs, y):
        values = ops.cast(outputs, "float32")
        if kind in ("classes", "one-hot classes") and from_logits:
            values = ops.softmax(values, axis=axis)
        squares = ops.square(values)
        if kind == "binary":
            p = ops.sigmoid(values) if from_logits else values
            squares = ops.square(p) + ops.square(1 - p)
        mask = get_keras_mask(outputs)
        if mask is not None:  # what the loss leaves out is no output either
            spare = (1,) * (len(squares.shape) - len(mask.shape))
            squares = squares * ops.reshape(ops.cast(mask, "float32"), (*ops.shape(mask), *spare))
        return ops.sum(ops.reshape(squares, (ops.shape(squares)[0], -1)), axis=1)

    return objective


def reversed_objective(loss):
    """Return the objective of an example that is its loss with the classifier's logits negated.

    Of classes that is -log softmax(-z)_y, whose derivative by z_j is 1[j = y] - softmax(-z)_j. Of a model that gives
    probabilities the logits are their logarithms; of a binary label p becomes 1 - p.

    Args:
        loss: keras.losses.Loss. A cross-entropy, one of `believes`.

    Returns:
        callable `objective(outputs, y) -> (examples,)`.

    Raises:
        ValueError: a regression, or a loss of which the logits are not known.
    """
    kind = believes(loss)
    if kind == "values":
        raise ValueError(
            "Expected a classifier, whose logits can be reversed, received a regression. Use the measure "
            "'fisher_empirical'."
        )
    return _reversed(objective(loss), kind, from_logits(loss))


@functools.lru_cache(maxsize=256)
def _reversed(objective, kind, from_logits):
    def reversed_logits(outputs, y):
        values = ops.cast(outputs, "float32")
        if from_logits:
            values = -values
        elif kind == "binary":
            values = 1 - values
        else:
            values = ops.softmax(-_log_probabilities(False, values), axis=-1)
        if get_keras_mask(outputs) is not None:
            set_keras_mask(values, get_keras_mask(outputs))
        return objective(values, y)

    return reversed_logits


def true_logit(loss, shape):
    """Return the objective that is the logit of an example's true label; of a binary label its one logit.

    Args:
        loss: keras.losses.Loss.
        shape: tuple of int. That of the outputs, without the examples.

    Returns:
        callable `objective(outputs, y) -> (examples,)`.

    Raises:
        ValueError: no cross-entropy from logits, or several labels an example.
    """
    kind = _labels(loss)
    if kind is None or not from_logits(loss) or isinstance(loss, _FOCAL):
        raise ValueError(
            "Expected a classifier that gives logits, with a cross-entropy of from_logits=True, received "
            f"{described(loss)}. Take the model's last activation off, or use the measure 'taylor'."
        )
    if len(shape) > 1 or (kind == "binary" and shape not in ((1,), ())):
        raise ValueError(
            "Expected one label an example, whose logit is meant, received outputs of shape "
            f"({', '.join(map(str, ('examples', *shape)))}) for {type(loss).__name__}. Use the measure 'taylor'."
        )
    return _true_logit(kind)


@functools.cache
def _true_logit(kind):
    def objective(outputs, y):
        if kind == "classes":
            return _one(outputs, ops.reshape(y, (-1,)))
        values = ops.cast(outputs, "float32")
        values = values if kind == "binary" else values * ops.cast(y, "float32")
        return ops.sum(ops.reshape(values, (ops.shape(values)[0], -1)), axis=1)

    return objective
