"""The contract of a measure."""

from collections.abc import Callable
from typing import NamedTuple

NEEDS = ("nothing", "inputs", "labels", "trajectory", "optimizer")


class Measure(NamedTuple):
    """What a file in `importance/` defines as `MEASURE`.

    A measure that watches training also gives `start` and `observe`, which see one variable at a time and are compiled
    into the training step. Measures that give the *same* two functions share one record of the trajectory.

    Attributes:
        score: `score(evidence, **options) -> list of arrays` like `model.trainable_variables`. `evidence` is an
            `importance._evidence.Evidence`.
        needs: str. One of `NEEDS`.
        cost: str. What scoring costs, in passes over the examples.
        start: `start(weight) -> {name: array}`, or None. The record before the first step; `weight` and the arrays
            are NumPy arrays.
        observe: `observe(record, gradient, before, after) -> {name: array}`, or None. What a step that moved the weight
            from `before` to `after` changes in the record; `gradient` is that of the loss (see `Tracked`). All arrays
            have the weight's shape, or are scalars; use `keras.ops`.
        of_fill: bool. Whether the score depends on what is put in the place of the weights, `evidence.replacements`.
        general: bool. Whether a grid of all measures takes it: not where it is for few networks, or for one question.
    """

    score: Callable
    needs: str = "nothing"
    cost: str = "none"
    start: Callable | None = None
    observe: Callable | None = None
    of_fill: bool = False
    general: bool = True
