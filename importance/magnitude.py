"""|w|: large weights matter.

Example:
    >>> import importance, keras
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="ones")])
    >>> importance.load("magnitude").score(model)[0].tolist()
    [[1.0]]

References:
    Han, Pool, Tran & Dally, "Learning both weights and connections for efficient neural networks", NeurIPS 2015.
"""

import numpy as np

from importance import Measure


def score(evidence):
    """Take the absolute value; the sign of a weight says nothing about its importance."""
    return [np.abs(w) for w in evidence.weights]


MEASURE = Measure(score)
