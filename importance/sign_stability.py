"""1 / (1 + number of steps at which w changed its sign): weights that keep their sign matter.

Most weights never change their sign and tie at 1: look at the tie fraction beside any result. A step counts when
w_(t-1) w_t < 0; a weight that stops at exactly zero has no sign to change.

Example:
    >>> import importance, keras, numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")])
    >>> model.compile(importance.Tracked(keras.optimizers.SGD(0.25), ["sign_stability"]), "mse")
    >>> _ = model.fit(np.array([[1.0], [1.0]]), np.array([[0.0], [0.0]]), batch_size=1, verbose=0)  # 1, 0.5, 0.25
    >>> importance.load("sign_stability").score(model)[0].tolist()
    [[1.0]]
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
    return [1 / (1 + record["sign_changes"]) for record in evidence.trajectory(observe, gradients=False)]


MEASURE = Measure(score, needs="trajectory", start=start, observe=observe)
