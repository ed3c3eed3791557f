"""1 / (|w| + eps): small weights matter. A negative control, which must come out worst.

Example:
    >>> import importance, keras
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="ones")])
    >>> importance.load("inverse_magnitude", epsilon=1.0).score(model)[0].tolist()
    [[0.5]]
"""

import numpy as np

from engine import checks
from importance import Measure


def score(evidence, epsilon: checks.number(1e-30) = 1e-12):
    """Take the reciprocal of the absolute value, kept finite at zero by `epsilon`."""
    return [1 / (np.abs(w) + np.float32(epsilon)) for w in evidence.weights]


MEASURE = Measure(score)
