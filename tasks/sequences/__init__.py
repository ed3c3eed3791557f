"""Tasks one after another: one file a sequence, which says what becomes of the tasks in `tasks/`.

`names()` lists the sequences and `load(name)` reads one. All tasks of a sequence share one head, with an output for
each class, so that one model learns them all. Sequences of label subsets are learnt in one of three `SCENARIOS` (van de
Ven, Tuytelaars and Tolias, Three types of incremental learning, Nature Machine Intelligence, 2022):

    class   nothing says which task an image is from: all outputs compete, in training and in testing
    task    the task is told: an output for each class, of which those of the image's task are active, in the loss, in
            the measures and in the test
    domain  the task is not told, and does not matter: labels are numbered within their task, 0 and 1 for even and odd,
            and all tasks share as many outputs

A complete sequence:

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

__all__ = ["SCENARIOS", "LoadedSequence", "Stage", "load", "names", "permuted", "split"]

SCENARIOS = ("class", "domain", "task")


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


def load(name, *, validation=0.1, seed=0, scenario="class", **options):
    """Read a sequence's data.

    Args:
        name: str. One of `names()`.
        validation: float or "test". As for `tasks.load`: the fraction of the training examples held out, or the
            published protocol.
        seed: int. Draws the sequence, such as its permutations, and which examples are held out.
        scenario: str. What is asked of an image of a sequence of label subsets: one of `SCENARIOS`.
        **options: the sequence's own, such as `tasks=5` of "permuted_mnist".

    Returns:
        LoadedSequence.

    Raises:
        ValueError: no such sequence, option or scenario; tasks that do not fit one model, or the scenario.

    Example:
        >>> sequence = load("split_digits")
        >>> len(sequence), sequence[1].classes, sorted(set(sequence[1].y_test.tolist()))
        (5, 10, [2, 3])
    """
    stages, seed = variants.load(__name__, name, "SEQUENCE"), checks.whole(0)("seed", seed)
    stages = stages(seed, **checks.options(f"the sequence {name!r}", stages, options, leaving=1))
    bases = {task: tasks.load(task, validation=validation, seed=seed) for task in {stage.task for stage in stages}}
    return LoadedSequence(name, stages, bases, scenario)


class LoadedSequence:
    """A sequence with its data read. `len()` counts its tasks; `sequence[k]`, k from 0, makes one: a `LoadedTask`.

    Tasks are made when they are asked for, because together they may not fit the memory.

    Args:
        name: str.
        stages: list of Stage.
        bases: dict from the name of a task in `tasks/` to its LoadedTask.
        scenario: str. One of `SCENARIOS`; but "class" only for stages that share out the labels of one task in `tasks/`
            in equal numbers.

    Attributes:
        name, stages, bases, scenario: as given.

    Raises:
        ValueError: tasks whose inputs or numbers of classes differ, or that do not fit the scenario.
    """

    def __init__(self, name, stages, bases, scenario="class"):
        self.name, self.stages, self.bases = name, list(stages), bases
        self.scenario = checks.choice(*SCENARIOS)("scenario", scenario)
        heads = {(base.input_shape, base.classes) for base in bases.values()}
        if len(heads) != 1 or None in {classes for _, classes in heads}:
            found = ", ".join(f"{task}: {base.input_shape}, {base.classes}" for task, base in sorted(bases.items()))
            raise ValueError(
                f"Expected the tasks of the sequence {name!r} to be classifications with one input shape and one "
                f"number of classes, since one model learns them all; received {found}."
            )
        self._within = None if self.scenario == "class" else self._numbers_within()

    def _numbers_within(self):
        """Return what number each label has within its task: int32 array (classes,), -1 for those of none."""
        groups = [stage.labels or () for stage in self.stages]
        labels = [label for group in groups for label in group]
        if not self.apart or len(set(labels)) < len(labels) or len(set(map(len, groups))) > 1:
            raise ValueError(
                f"Expected a sequence whose tasks share out the labels of one data set in equal numbers for "
                f"scenario={self.scenario!r}, such as 'split_mnist'; received {self.name!r}. Leave scenario out: all "
                "of its tasks ask for the same labels."
            )
        within = np.full(next(iter(self.bases.values())).classes, -1, "int32")
        for group in groups:
            within[list(group)] = range(len(group))
        return within

    @property
    def apart(self):
        """Whether each task has labels of its own, of one data set."""
        return len(self.bases) == 1 and all(stage.labels is not None for stage in self.stages)

    def asked(self, y):
        """Return what the labels (examples,) of a task in `tasks/` are in this scenario: int32 array (examples,)."""
        return self._within[y] if self.scenario == "domain" else y

    def __len__(self):
        return len(self.stages)

    def __getitem__(self, index):
        stage = self.stages[index]
        base = self.bases[stage.task]
        arrays = {}
        for part in ("train", "validation", "test"):
            arrays[f"x_{part}"], arrays[f"y_{part}"] = self.examples(index, part)
        return self._told(dataclasses.replace(base, name=f"{self.name}[{index}]", **arrays))

    def _told(self, task):
        """Return a task with the outputs that the scenario calls for."""
        if self.scenario == "class":
            return task
        groups = tuple(tuple(stage.labels) for stage in self.stages)
        if self.scenario == "task":
            return dataclasses.replace(task, groups=groups)
        return dataclasses.replace(task, classes=len(groups[0]), labels=tuple(range(len(groups[0]))))

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
        x, y = x[rows], self.asked(y[rows])
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
    def sizes(self):
        """How many training examples each task has: list of int."""
        rows = (self.rows(index, "train") for index in range(len(self)))
        bases = (self.bases[stage.task] for stage in self.stages)
        return [len(base.y_train if kept is None else kept) for base, kept in zip(bases, rows, strict=True)]

    @property
    def first(self):
        """The task in `tasks/` that the first stage is made of, whose models, loss and head serve all: LoadedTask."""
        base = self.bases[self.stages[0].task]
        asked = {name: self.asked(getattr(base, name)) for name in ("y_train", "y_validation", "y_test")}
        return self._told(dataclasses.replace(base, **asked))


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
