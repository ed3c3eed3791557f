"""1 / (1 + number of steps at which w changed its sign): weights that keep their sign matter.

Most weights never change their sign and tie at 1: look at the tie fraction beside any result. A step counts when
w_(t-1) w_t < 0; a weight that stops at exactly zero has no sign to change.
"""

import numpy as np
from keras import ops

from importance import Measure


def start(weight):
    """Begin with no sign changes."""
    return {"sign_changes": np.zeros_like(weight)}


def observe(record, gradient, before, after):
    """Count a step across zero."""
    return {"sign_changes": record["sign_changes"] + ops.cast(before * after < 0, after.dtype)}


def score(evidence):
    """Return the reciprocal of one plus the number of sign changes."""
    return [1 / (1 + record["sign_changes"]) for record in evidence.trajectory(observe)]


MEASURE = Measure(score, needs="trajectory", start=start, observe=observe)
