"""What is learnt: one file a task, which says how its data are read and which networks suit it.

`names()` lists the tasks and `load(name)` reads one: arrays, loss, chance loss and model builders. A new task is one
new file in this folder; `Task` shows a complete one.
"""

import re
from typing import Any, NamedTuple

import numpy as np
from sklearn.model_selection import train_test_split

from engine import checks, draws, variants
from tasks import _arrays, _data, _labels, _models
from tasks._loaded import LoadedTask

__all__ = [
    "LABELS", "VALIDATION", "LoadedTask", "Task", "from_arrays", "is_of_arrays", "load", "name_of", "names",
]  # fmt: skip

LABELS = checks.optional(checks.several(checks.label))
"""The check for the labels that are chosen; None: all. Of a task whose labels are false and true, these are 0 and 1."""

VALIDATION = checks.either("test", checks.number(above=0, below=1))
"""The check for the fraction of the training examples that is held out, or "test"."""


def _name(name, value):
    if not (isinstance(value, str) and re.fullmatch(r"\w+", value)):
        raise checks.Unfit
    return value


_NAME = checks.Check("a name of letters, digits and underscores", _name)


class Task(NamedTuple):
    """What a task's file defines as `TASK`.

    Attributes:
        read: function `read(**options) -> x_train, y_train, x_test, y_test`, or with a validation set of its own, which
            then is the one that `load` gives, `-> x_train, y_train, x_validation, y_validation, x_test, y_test`. Inputs
            of shape `(examples, ...)`, images `(examples, height, width, channels)`: uint8, which `load` divides by
            255, or floats from 0 to 1. Labels `(examples,)`: integers from 0 to classes - 1, each of which occurs in
            training; for regression, targets `(examples, 1)`. Its options are keyword arguments with defaults; whatever
            it draws, it draws from a seed of its own.
        models: dict from a model's name to a builder `builder(input_shape, outputs) -> keras.Model` that outputs logits
            of shape `(examples, outputs)` and is not compiled. The first is the default.
        classes: int, how many classes there are; None for regression; "counted" where only the data tell: the classes
            are the different training labels, integers or names, which become 0, 1, ... in sorted order.
        bounded: bool. Whether inputs have to be from 0 to 1; False: any finite floats, such as standardised ones.

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
    bounded: bool = True


def names():
    """List the tasks, sorted: the names of the files in this folder."""
    return variants.names("tasks")


def load(name, *, labels=None, validation=0.1, seed=0, **options):
    """Read a task's data, choose its labels and hold out its validation examples.

    The test set never depends on `seed`.

    Args:
        name: str. One of `names()`, or what `from_arrays` gave.
        labels: sequence of int or str. The labels to keep, as the data have them; they become 0, 1, ... in the order
            given. Defaults to None: all.
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
    name = name_of(name)
    definition = _arrays.GIVEN.get(name) or variants.load("tasks", name, "TASK")
    classes = definition.classes
    options = checks.options(f"the task {name!r}", definition.read, options)
    labels, validation = LABELS("labels", labels), VALIDATION("validation", validation)
    seed = checks.whole(0)("seed", seed)
    arrays = definition.read(**options)
    parts = ("training", "test") if len(arrays) == 4 else ("training", "validation", "test")
    parts = dict(zip(parts, zip(arrays[::2], arrays[1::2], strict=True), strict=True))
    known = None
    if classes == "counted":
        known, parts = _labels.numbered(name, parts)
        classes = len(known)
    elif classes is not None:
        known = list(range(classes))
    parts = {part: _checked(name, part, x, y, classes, definition.bounded) for part, (x, y) in parts.items()}
    _labels.check_all_occur(name, parts["training"][1], classes)
    digest = _data.digest(*(array for x, y in parts.values() for array in (_exact(x), y)))
    if labels is not None:
        chosen = _labels.chosen(name, labels, known)
        parts = {part: _subset(x, y, chosen) for part, (x, y) in parts.items()}
        known = [known[number] for number in chosen]
        classes = len(known)

    if validation != "test" and "validation" not in parts:
        held_out = _held_out(*parts["training"], classes, validation, seed)
        parts |= {"training": held_out[::2], "validation": held_out[1::2]}
    parts = {part: (_scaled(x), y) for part, (x, y) in parts.items()}
    if validation == "test":
        parts["validation"] = parts["test"]

    arrays = (array for part in ("training", "validation", "test") for array in parts[part])
    labels = None if known is None else tuple(known)
    return LoadedTask(name, *arrays, classes=classes, labels=labels, builders=dict(definition.models), digest=digest)


def from_arrays(
    x, y, *, x_test=None, y_test=None, x_validation=None, y_validation=None, test_fraction=0.2, regression=False,
    models=None, name="arrays",
):  # fmt: skip
    """Make a task of arrays of your own, which is then named wherever a task is: `threshold_grid.run(task=task)`.

    It lasts as long as this process, and its name holds a digest of the data: other data make another run.

    Args:
        x: array `(examples, ...)`, images `(examples, height, width, channels)`. uint8 is divided by 255; any other
            finite numbers, such as standardised ones, are taken as they are, as float32.
        y: array `(examples,)`. Labels, integers or names, which are numbered in sorted order; targets if `regression`.
        x_test, y_test: likewise; None: a part of `x` is held out, the same examples each time.
        x_validation, y_validation: likewise; None: a part of what is left is held out, drawn for each seed.
        test_fraction: float. What is held out as test set, between 0 and 1, the same fraction of each label.
        regression: bool. Whether `y` are numbers to be approximated.
        models: dict. From a model's name to its builder; see `Task`. None: a perceptron, and for images also a CNN.
        name: str. What its name begins with.

    Returns:
        LoadedTask.

    Raises:
        ValueError: arrays that do not fit one another, or of something else than numbers and labels.

    Example:
        >>> from sklearn.datasets import load_wine
        >>> wine = load_wine()
        >>> x = (wine.data - wine.data.mean(axis=0)) / wine.data.std(axis=0)
        >>> from_arrays(x, wine.target_names[wine.target], name="wine").labels
        ('class_0', 'class_1', 'class_2')
    """
    arrays = _arrays.parts(x, y, (x_validation, y_validation), (x_test, y_test), test_fraction, regression)
    full = f"{_NAME('name', name)}-{_data.digest(*arrays)[:8]}"
    models = _models.of_shape(arrays[0].shape[1:]) if models is None else models
    _arrays.GIVEN[full] = Task(lambda: arrays, models, None if regression else "counted", bounded=False)
    return load(full)


def name_of(task):
    """Return the name of a task that may be what `from_arrays` gave.

    Raises:
        ValueError: a loaded task that has a file: which labels and options it was loaded with would be lost.
    """
    if not isinstance(task, LoadedTask):
        return task
    if task.name not in _arrays.GIVEN:
        raise ValueError(
            f"Expected the name of a task, or what tasks.from_arrays gives, received {task!r}. Write {task.name!r}, "
            "with its labels and options as settings."
        )
    return task.name


def is_of_arrays(name):
    """Say whether a task was made by `from_arrays`, and is known to this process alone."""
    return name in _arrays.GIVEN


def _checked(name, part, x, y, classes, bounded):
    """Return one part of the data, its labels as int32 or its targets as float32, or say what is wrong with it."""
    x, y = np.asarray(x), np.asarray(y)
    found = f"The {part} data of the task {name!r}: expected"
    if not x.ndim or not y.ndim or len(x) != len(y) or not len(x):
        raise ValueError(f"{found} as many inputs as labels, at least one; received shapes {x.shape} and {y.shape}.")
    _check_inputs(found, x, bounded)
    if classes is None:
        if y.shape != (len(x), 1) or y.dtype.kind not in "biuf" or not np.isfinite(y).all():
            raise ValueError(f"{found} finite targets of shape {(len(x), 1)}; received {_labels.described(y)}.")
        return x, y.astype("float32")
    return x, _labels.checked(found, y, len(x), classes)


def _check_inputs(found, x, bounded):
    if x.dtype == np.uint8:
        return
    if x.dtype.kind != "f":
        raise ValueError(
            f"{found} inputs as uint8, or as floats from 0 to 1; received {x.dtype}. Convert them in the task's read()."
        )
    finite = np.isfinite(x)
    if not finite.all():
        first = tuple(np.argwhere(~finite)[0].tolist())
        raise ValueError(
            f"{found} finite inputs; received NaN or infinity at {np.count_nonzero(~finite)} of {x.size} places, in "
            f"{np.count_nonzero(~finite.reshape(len(x), -1).all(axis=1))} of {len(x)} examples, the first at "
            f"x[{', '.join(map(str, first))}]. Replace them, or leave these examples out, in the task's read()."
        )
    if bounded and (x.min() < 0 or x.max() > 1):
        raise ValueError(
            f"{found} inputs as uint8, or as floats from 0 to 1; received {x.dtype} from {x.min()} to {x.max()}. "
            "Scale them in the task's read(), or write bounded=False in its Task."
        )


def _subset(x, y, labels):
    kept = np.isin(y, labels)
    position = np.zeros(max(labels) + 1, "int32")
    position[labels] = range(len(labels))
    return x[kept], position[y[kept]]


def _held_out(x, y, classes, validation, seed):
    drawn = draws.number(seed, "held out", bits=32)
    try:
        return train_test_split(x, y, test_size=validation, stratify=None if classes is None else y, random_state=drawn)
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
