"""What is learnt: one file a task, which says how its data are read and which networks suit it.

`names()` lists the tasks and `load(name)` reads one: arrays, loss, chance loss and model builders. A new task is one
new file in this folder; `Task` shows a complete one.
"""

import inspect
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from sklearn.model_selection import train_test_split

from engine import variants
from tasks import _data
from tasks._loaded import LoadedTask

__all__ = ["LoadedTask", "Task", "load", "names"]


class Task(NamedTuple):
    """What a task's file defines as `TASK`.

    Attributes:
        read: function `read(**options) -> x_train, y_train, x_test, y_test`. Inputs of shape `(examples, ...)`, images
            `(examples, height, width, channels)`: uint8, which `load` divides by 255, or floats from 0 to 1. Labels
            `(examples,)`: integers from 0 to classes - 1; for regression, targets `(examples, 1)`. Its options are
            keyword arguments with defaults; whatever it draws, it draws from a seed of its own.
        models: dict from a model's name to a builder `builder(input_shape, outputs) -> keras.Model` that outputs logits
            of shape `(examples, outputs)` and is not compiled. The first is the default.
        classes: int, how many classes there are; None for regression; "counted" where only the data tell: one more than
            the largest training label.

    Example:
        A complete `tasks/two_moons.py`, which `load("two_moons", noise=0.2)` then finds:

        ```python
        from sklearn.datasets import make_moons

        from tasks import Task, _models


        def read(noise=0.1):
            x, y = make_moons(1000, noise=noise, random_state=0)
            x = (x - x.min(axis=0)) / (x.max(axis=0) - x.min(axis=0))
            return x[:800], y[:800], x[800:], y[800:]


        TASK = Task(read=read, models={"mlp": _models.mlp}, classes=2)
        ```
    """

    read: Any
    models: dict
    classes: int | str | None


def names():
    """List the tasks, sorted: the names of the files in this folder."""
    return variants.names("tasks")


def load(name, *, labels=None, validation=0.1, seed=0, **options):
    """Read a task's data, choose its labels and hold out its validation examples.

    The test set never depends on `seed`.

    Args:
        name: str. One of `names()`.
        labels: sequence of int. The labels to keep; they become 0, 1, ... in the order given. Defaults to None: all.
        validation: float or "test". The fraction of the training examples, between 0 and 1, that is held out as
            validation set, the same fraction of each label. "test" is the published protocol: every training example is
            trained on, in the order of the file, and the validation arrays are the test arrays. Defaults to 0.1.
        seed: int. Draws which examples are held out, and the order of the others. Defaults to 0.
        **options: the task's own, such as `function="sine"` of the task "function".

    Returns:
        LoadedTask.

    Raises:
        ValueError: no such task or option, labels that do not fit, or a validation that is neither a fraction nor
            "test"; also data that do not keep the contract of `Task`.
        FileNotFoundError: the data are neither on this machine nor to be downloaded.
        ImportError: the task reads its data with a package that is not installed; says which.

    Example:
        >>> task = load("digits", labels=[3, 5, 8])
        >>> task.classes, task.x_train.shape[1:]
        (3, (8, 8, 1))
    """
    definition = variants.load("tasks", name, "TASK")
    classes = definition.classes
    _check_options(name, definition.read, options)
    _check_validation(validation)
    x_train, y_train, x_test, y_test = definition.read(**options)
    if classes == "counted":
        classes = int(np.max(y_train, initial=0)) + 1
    x_train, y_train = _checked(name, "training", x_train, y_train, classes)
    x_test, y_test = _checked(name, "test", x_test, y_test, classes)
    digest = _data.digest(_exact(x_train), y_train, _exact(x_test), y_test)
    if labels is not None:
        labels = _checked_labels(name, labels, classes, y_train)
        x_train, y_train = _subset(x_train, y_train, labels)
        x_test, y_test = _subset(x_test, y_test, labels)
        classes = len(labels)

    if validation == "test":
        x_train, x_test = _scaled(x_train), _scaled(x_test)
        x_validation, y_validation = x_test, y_test
    else:
        x_train, x_validation, y_train, y_validation = _held_out(x_train, y_train, classes, validation, seed)
        x_train, x_validation, x_test = _scaled(x_train), _scaled(x_validation), _scaled(x_test)

    arrays = (x_train, y_train, x_validation, y_validation, x_test, y_test)
    return LoadedTask(name, *arrays, classes=classes, builders=dict(definition.models), digest=digest)


def _check_options(name, read, options):
    known = list(inspect.signature(read).parameters)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(
            f"Expected only options that the task {name!r} has ({', '.join(known) or 'it has none'}), "
            f"received {', '.join(unknown)}."
        )


def _check_validation(validation):
    if validation == "test" or (isinstance(validation, Real) and 0 < validation < 1):
        return
    raise ValueError(
        f"Expected validation to be a fraction between 0 and 1 (both excluded) or 'test', received {validation!r}. "
        "Use 'test' to train on every training example and to validate on the test set."
    )


def _checked_labels(name, labels, classes, y_train):
    if classes is None:
        raise ValueError(f"Expected labels=None for the regression task {name!r}, received labels={labels!r}.")
    labels = np.atleast_1d(labels).tolist()
    if len(labels) < 2 or len(set(labels)) < len(labels):
        raise ValueError(f"Expected labels to be two or more different ones, received {labels!r}.")
    known = np.unique(y_train).tolist()
    missing = [label for label in labels if label not in known]
    if missing:
        raise ValueError(f"Expected labels that the task {name!r} has ({known}), received {missing!r} besides.")
    return [int(label) for label in labels]


def _checked(name, part, x, y, classes):
    """Return one part of the data, its labels as int32 or its targets as float32, or say what is wrong with it."""
    x, y = np.asarray(x), np.asarray(y)
    found = f"The {part} data of the task {name!r}: expected"
    if len(x) != len(y) or not len(x):
        raise ValueError(f"{found} as many inputs as labels, at least one; received shapes {x.shape} and {y.shape}.")
    if x.dtype != np.uint8 and not (x.dtype.kind == "f" and x.min() >= 0 and x.max() <= 1):
        raise ValueError(
            f"{found} inputs as uint8, or as floats from 0 to 1; received {x.dtype} from {x.min()} to {x.max()}. "
            "Scale them in the task's read()."
        )
    if classes is None:
        if y.shape != (len(x), 1) or not np.isfinite(y).all():
            raise ValueError(f"{found} finite targets of shape {(len(x), 1)}; received shape {y.shape}.")
        return x, y.astype("float32")
    if y.shape != (len(x),) or y.dtype.kind not in "iu" or not np.isin(y, range(classes)).all():
        raise ValueError(
            f"{found} integer labels from 0 to {classes - 1} of shape {(len(x),)}; "
            f"received {y.dtype} from {y.min()} to {y.max()} of shape {y.shape}."
        )
    return x, y.astype("int32")


def _subset(x, y, labels):
    kept = np.isin(y, labels)
    position = np.zeros(max(labels) + 1, "int32")
    position[labels] = range(len(labels))
    return x[kept], position[y[kept]]


def _held_out(x, y, classes, validation, seed):
    try:
        return train_test_split(x, y, test_size=validation, stratify=None if classes is None else y, random_state=seed)
    except ValueError as error:
        raise ValueError(
            f"Expected a validation fraction and a seed that split {len(y)} training examples into two parts with "
            f"every label in both, received validation={validation!r}, seed={seed!r}: {error}"
        ) from error


def _exact(x):
    """Return inputs as every machine reads them: the last bits of double precision depend on the processor."""
    return x if x.dtype == np.uint8 else x.astype("float32")


def _scaled(x):
    """Return inputs as float32 from 0 to 1. Done last, because uint8 images take a quarter of the memory."""
    return np.divide(x, 255, dtype="float32") if x.dtype == np.uint8 else x.astype("float32")
