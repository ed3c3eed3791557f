"""Tasks one after another: one file a sequence, which says what becomes of the tasks in `tasks/`.

`names()` lists the sequences and `load(name)` reads one. All tasks of a sequence share one head, with an output for
each class, so that one model learns them all. A complete sequence:

```python
# tasks/sequences/upside_down.py: digits, then the same digits turned by half
import numpy as np
from tasks.sequences import Stage

def stages(seed, tasks=2):
    turned = np.arange(64)[::-1]
    return [Stage("digits", pixels=turned if number % 2 else None) for number in range(tasks)]

SEQUENCE = stages
```
"""

import dataclasses
from typing import NamedTuple

import numpy as np

import tasks
from engine import checks, draws, variants

__all__ = ["LoadedSequence", "Stage", "load", "names", "permuted", "split"]


class Stage(NamedTuple):
    """One task of a sequence, made of a task in `tasks/`.

    Attributes:
        task: str. A file in `tasks/`.
        labels: tuple of int, or None. The labels whose examples are kept; they keep their numbers. None: all.
        pixels: int array (height * width,), or None. Which pixel of the original stands at each place of the new
            image, counted row by row; channels stay together. None: the images as they are.
    """

    task: str
    labels: tuple | None = None
    pixels: np.ndarray | None = None


def names():
    """List the sequences, sorted: the names of the files in this folder."""
    return variants.names(__name__)


def load(name, *, validation=0.1, seed=0, **options):
    """Read a sequence's data.

    Args:
        name: str. One of `names()`.
        validation: float or "test". As for `tasks.load`: the fraction of the training examples held out, or the
            published protocol.
        seed: int. Draws the sequence, such as its permutations, and which examples are held out.
        **options: the sequence's own, such as `tasks=5` of "permuted_mnist".

    Returns:
        LoadedSequence.

    Raises:
        ValueError: no such sequence or option; tasks of a sequence that do not fit one model.

    Example:
        >>> sequence = load("split_digits")
        >>> len(sequence), sequence[1].classes, sorted(set(sequence[1].y_test.tolist()))
        (5, 10, [2, 3])
    """
    stages, seed = variants.load(__name__, name, "SEQUENCE"), checks.whole(0)("seed", seed)
    stages = stages(seed, **checks.options(f"the sequence {name!r}", stages, options, leaving=1))
    bases = {task: tasks.load(task, validation=validation, seed=seed) for task in {stage.task for stage in stages}}
    return LoadedSequence(name, stages, bases)


class LoadedSequence:
    """A sequence with its data read. `len()` counts its tasks; `sequence[k]`, k from 0, makes one: a `LoadedTask`.

    Tasks are made when they are asked for, because together they may not fit the memory.

    Args:
        name: str.
        stages: list of Stage.
        bases: dict from the name of a task in `tasks/` to its LoadedTask.

    Attributes:
        name, stages, bases: as given.

    Raises:
        ValueError: tasks whose inputs or numbers of classes differ.
    """

    def __init__(self, name, stages, bases):
        self.name, self.stages, self.bases = name, list(stages), bases
        heads = {(base.input_shape, base.classes) for base in bases.values()}
        if len(heads) != 1 or None in {classes for _, classes in heads}:
            found = ", ".join(f"{task}: {base.input_shape}, {base.classes}" for task, base in sorted(bases.items()))
            raise ValueError(
                f"Expected the tasks of the sequence {name!r} to be classifications with one input shape and one "
                f"number of classes, since one model learns them all; received {found}."
            )

    def __len__(self):
        return len(self.stages)

    def __getitem__(self, index):
        stage = self.stages[index]
        base = self.bases[stage.task]
        arrays = {}
        for part in ("train", "validation", "test"):
            arrays[f"x_{part}"], arrays[f"y_{part}"] = self.examples(index, part)
        return dataclasses.replace(base, name=f"{self.name}[{index}]", **arrays)

    def examples(self, index, part, rows=slice(None)):
        """Return some examples of one task.

        Args:
            index: int, from 0. The task.
            part: str. "train", "validation" or "test".
            rows: slice or int array. Which of the part's examples.

        Returns:
            x: float32 array (examples, ...), from 0 to 1.
            y: int32 array (examples,).
        """
        stage = self.stages[index]
        base = self.bases[stage.task]
        x, y = getattr(base, f"x_{part}"), getattr(base, f"y_{part}")
        kept = self.rows(index, part)
        rows = rows if kept is None else kept[rows]
        x, y = x[rows], y[rows]
        if stage.pixels is not None:
            values = np.arange(x[0].size).reshape(len(stage.pixels), -1)[stage.pixels].ravel()
            x = np.take(x.reshape(len(x), -1), values, axis=1).reshape(x.shape)
        return x, y

    def rows(self, index, part):
        """Return which examples of its task in `tasks/` one stage shows: int array (examples,), or None for all."""
        stage = self.stages[index]
        if stage.labels is None:
            return None
        return np.flatnonzero(np.isin(getattr(self.bases[stage.task], f"y_{part}"), stage.labels))

    @property
    def first(self):
        """The task in `tasks/` that the first stage is made of, whose models, loss and head serve all: LoadedTask."""
        return self.bases[self.stages[0].task]


def permuted(task, pixels, tasks, seed):
    """List stages that show a task as it is, then again and again with its pixels in another random order.

    Args:
        task: str. A file in `tasks/`.
        pixels: int. How many pixels its images have.
        tasks: int. How many stages.
        seed: int. Draws the orders; the first ones are the same for any number of tasks.

    Raises:
        ValueError: fewer than one task.
    """
    checks.whole()("tasks", tasks)
    random = draws.generator(seed, "permutations", pixels)
    return [Stage(task), *(Stage(task, pixels=random.permutation(pixels)) for _ in range(tasks - 1))]


def split(task, classes, labels_per_task):
    """List stages that show the labels of a task in turn: 0 and 1, then 2 and 3, and so on.

    Args:
        task: str. A file in `tasks/`.
        classes: int. How many labels it has.
        labels_per_task: int. A divisor of it.

    Raises:
        ValueError: labels that cannot be shared out evenly.
    """
    checks.whole()("labels_per_task", labels_per_task)
    if classes % labels_per_task:
        raise ValueError(f"Expected labels_per_task to divide {classes}, received {labels_per_task!r}.")
    starts = range(0, classes, labels_per_task)
    return [Stage(task, labels=tuple(range(start, start + labels_per_task))) for start in starts]
