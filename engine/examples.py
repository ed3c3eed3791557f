"""Examples, as an array or as what a model with several inputs takes: a dict, list or tuple of arrays."""

import math

import keras
import numpy as np

from engine import backend

_tree = keras.tree


def arrays(x):
    """List the arrays of an input, each (examples, ...)."""
    return _tree.flatten(x)


def count(x):
    """Return the number of examples: int."""
    return len(arrays(x)[0])


def take(x, rows):
    """Select examples by whatever indexes an array's first axis: rows, a slice, or None for a new axis before all."""
    return _tree.map_structure(lambda a: a[rows], x)


def on_device(x):
    """Put examples where the computing is done."""
    return _tree.map_structure(backend.on_device, x)


def batches(x, batch):
    """Reshape (batches * batch, ...) to (batches, batch, ...)."""
    return _tree.map_structure(lambda a: a.reshape(-1, batch, *a.shape[1:]), x)


def floats(x):
    """Count the numbers of one example: int."""
    return sum(math.prod(a.shape[1:]) for a in arrays(x))


def signature(x):
    """Say what compiled code for these examples depends on, whatever their number: a hashable value."""
    return tuple((str(path), a.shape[1:], str(a.dtype)) for path, a in _tree.flatten_with_path(x))


def standardized(x, model):
    """Return an input as NumPy arrays of float32, int32 or bool.

    Args:
        x: array-like (examples, ...); or, for a model with several inputs, a dict, list or tuple of them.
        model: keras.Model. The one that takes them.

    Raises:
        ValueError: text, values that are not finite, no examples, arrays of different lengths, inputs by other names
            than the model's, a `tf.data.Dataset`, a generator.
    """
    if not (hasattr(x, "__array__") or isinstance(x, (dict, list, tuple))):
        raise ValueError(
            "Expected inputs as an array (examples, ...), or a dict or list of arrays for a model with several inputs, "
            f"received {type(x).__name__}. Collect its batches first, for instance with np.concatenate; make what is "
            "sparse or ragged dense."
        )
    if isinstance(x, dict):
        _check_names(x, model)
        found = {name: _standardized(a, f"input {name!r}") for name, a in x.items()}
    elif _several(x, model):
        found = type(x)(_standardized(a, f"input {number}") for number, a in enumerate(x))
    else:
        found = _standardized(x, "input")
    lengths = sorted({len(a) for a in arrays(found)})
    if len(lengths) != 1 or lengths[0] == 0:
        raise ValueError(f"Expected the same number of examples in each input, at least one; received {lengths}.")
    return found


def _several(x, model):
    """Say whether a list holds the inputs of a model, rather than its examples; Keras's convention where both fit."""
    if not isinstance(x, (list, tuple)) or not all(hasattr(a, "__array__") and np.ndim(a) for a in x):
        return False
    expected = getattr(model, "inputs", None)
    return expected is None or (len(x) == len(expected) and (len(x) > 1 or np.ndim(x[0]) == len(expected[0].shape)))


def _check_names(x, model):
    expected = getattr(model, "_inputs_struct", None)
    if expected is None:  # a subclassed model, which takes what it likes
        return
    names = set(expected) if isinstance(expected, dict) else {tensor.name for tensor in model.inputs}
    if set(x) != names:
        raise ValueError(
            f"Expected inputs with the names of the model's, {', '.join(sorted(names))}; received "
            f"{', '.join(map(str, x))}."
        )


def _standardized(values, what):
    values = as_array(values, what)
    if np.issubdtype(values.dtype, np.floating):
        values = values.astype("float32", copy=False)
        # A sum is faster than a look at each value; it may overflow, so the look decides.
        with np.errstate(over="ignore", invalid="ignore"):
            finite = np.isfinite(values.sum()) or np.isfinite(values).all()
        if not finite:
            wrong = ~np.isfinite(values)
            raise ValueError(
                f"Expected finite numbers in the {what}, received {wrong.sum()} that are NaN or infinite, the first in "
                f"example {np.argwhere(wrong)[0][0]}. Remove or mend these examples."
            )
        return values
    if np.issubdtype(values.dtype, np.integer):
        return int32(values, what)
    if values.dtype == bool:
        return values
    raise ValueError(
        f"Expected numbers in the {what}, received {values.dtype}. Convert numbers by astype('float32'). Text is made "
        "into numbers before: apply the model's TextVectorization (or StringLookup) layer to it, and score the model "
        "behind that layer."
    )


def as_array(values, what):
    """Return a NumPy array with an axis of examples, or raise a ValueError that names it as `what`."""
    try:
        values = np.asarray(values)
    except ValueError as error:
        raise ValueError(
            f"Expected examples of one shape in the {what}, received some that differ. Pad them to one length."
        ) from error
    if not values.ndim:
        raise ValueError(f"Expected the {what} as an array (examples, ...), received {values!r}. Write it as a list.")
    return values


def int32(values, what):
    """Return whole numbers as int32, or raise a ValueError if they are too large."""
    limits = np.iinfo("int32")
    if values.size and (values.min() < limits.min or values.max() > limits.max):
        raise ValueError(f"Expected whole numbers of 32 bits in the {what}, received {values.min()} to {values.max()}.")
    return values.astype("int32")
