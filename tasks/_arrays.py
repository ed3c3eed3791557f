"""Tasks of arrays that a user gives, as `tasks.from_arrays` makes them."""

from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split

from engine import checks

GIVEN: dict[str, Any] = {}
"""From the name of such a task to its `tasks.Task`."""


def parts(x, y, validation, test, test_fraction, regression):
    """Return x_train, y_train, those of the validation set if it is given, x_test, y_test, checked."""
    x, y = _pair("", x, y, regression)
    found = {"validation": _given("validation", *validation, regression), "test": _given("test", *test, regression)}
    for part, pair in found.items():
        if pair and pair[0].shape[1:] != x.shape[1:]:
            raise ValueError(
                f"Expected x_{part} to have examples of shape {x.shape[1:]}, as x has; received {pair[0].shape[1:]}."
            )
    if not found["test"]:
        x, x_test, y, y_test = _split(x, y, test_fraction, regression)
        found["test"] = x_test, y_test
    return tuple(array for pair in ((x, y), found["validation"], found["test"]) for array in pair)


def _given(part, x, y, regression):
    if (x is None) != (y is None):
        there, missing = ("x", "y") if y is None else ("y", "x")
        raise ValueError(f"Expected x_{part} and y_{part}, received {there}_{part} alone. Give {missing}_{part} too.")
    return () if x is None else _pair(f"_{part}", x, y, regression)


def _pair(part, x, y, regression):
    x, y = _inputs(f"x{part}", x), (_targets if regression else _labels)(f"y{part}", y)
    if len(x) != len(y):
        raise ValueError(f"Expected as many examples in x{part} as in y{part}, received {len(x)} and {len(y)}.")
    return x, y


def _inputs(name, given):
    x = np.asarray(given)
    if x.ndim < 2 or not x.size or x.dtype.kind not in "biuf":
        raise ValueError(
            f"Expected {name} to be numbers of shape (examples, ...), received {_described(x)}. "
            + ("Write x.reshape(-1, 1)." if x.ndim == 1 and x.dtype.kind in "biuf" else "Make numbers of its columns.")
        )
    return x if x.dtype == np.uint8 else _finite(name, x)


def _targets(name, given):
    y = np.asarray(given)
    if y.shape not in ((len(y),), (len(y), 1)) or y.dtype.kind not in "biuf":
        raise ValueError(f"Expected {name} to be a number for each example, received {_described(y)}.")
    return _finite(name, y).reshape(-1, 1)


def _labels(name, given):
    y = np.asarray(given)
    if y.dtype == object and all(isinstance(label, str) for label in y.flat):
        y = y.astype(str)
    if y.shape == (len(y), 1):
        y = y[:, 0]
    if y.ndim != 1 or y.dtype.kind not in "biuU":
        remedy = "Of one-hot labels take y.argmax(1)." if y.ndim == 2 else "Write y.astype(int), or regression=True."
        raise ValueError(
            f"Expected {name} to be a label for each example, integers or names, received {_described(y)}. {remedy}"
        )
    return y


def _finite(name, array):
    with np.errstate(over="ignore"):
        array = array.astype("float32")
    wrong = np.count_nonzero(~np.isfinite(array))
    if wrong:
        raise ValueError(
            f"Expected {name} to be finite in single precision, received NaN or infinity at {wrong} of {array.size} "
            "places. Replace them, or leave those examples out."
        )
    return array


def _split(x, y, fraction, regression):
    fraction = checks.number(above=0, below=1)("test_fraction", fraction)
    try:
        return train_test_split(x, y, test_size=fraction, stratify=None if regression else y, random_state=0)
    except ValueError as error:
        raise ValueError(
            f"Expected a test_fraction that splits {len(y)} examples into two parts with every label in both, received "
            f"{fraction}: {error}"
        ) from error


def _described(array):
    return f"{array.dtype} of shape {array.shape}"
