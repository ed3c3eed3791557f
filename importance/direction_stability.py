"""1 / (1 + r), r = the fraction of a weight's moves that reverse the one before: weights that keep their course matter.

A move is a step with d_t = w_t - w_(t-1) different from 0, a reversal one with d_t d_(t-1) < 0. A weight that never
moved gives no evidence of stability and scores 0.

Example:
    >>> import importance, keras, numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")])
    >>> model.compile(importance.Tracked(keras.optimizers.SGD(0.25), ["direction_stability"]), "mse")
    >>> _ = model.fit(np.array([[1.0], [1.0]]), np.array([[0.0], [0.0]]), batch_size=1, verbose=0)  # 1, 0.5, 0.25
    >>> importance.load("direction_stability").score(model)[0].tolist()
    [[1.0]]
"""

import numpy as np
from keras import ops

from importance import Measure


def start(weight):
    """Begin with no moves and no reversals."""
    return {name: np.zeros_like(weight) for name in ("last_step", "reversals", "moves")}


def observe(record, gradient, before, after):
    """Count a move, and a reversal of the step before."""
    step = after - before
    return {
        "last_step": step,
        "reversals": record["reversals"] + ops.cast(step * record["last_step"] < 0, step.dtype),
        "moves": record["moves"] + ops.cast(ops.not_equal(step, 0), step.dtype),
    }


def score(evidence):
    """Return the reciprocal of one plus the fraction of moves that were reversals."""
    return [_stability(record) for record in evidence.trajectory(observe, gradients=False)]


def _stability(record):
    moves = record["moves"]
    return np.where(moves > 0, 1 / (1 + record["reversals"] / np.maximum(moves, 1)), 0)


MEASURE = Measure(score, needs="trajectory", start=start, observe=observe)
