"""|w mean_n dl_n/dw|: the change of the mean loss, to first order, when the weight is set to zero.

Made for networks before training, where the mean gradient is large; all examples are used, not one batch.

Example:
    >>> import importance, keras, numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2, kernel_initializer="ones")])
    >>> importance.load("snip").score(model, np.array([[2.0]]), np.array([0]))[0].tolist()
    [[1.0, 1.0]]

References:
    Lee, Ajanthan & Torr, "SNIP: single-shot network pruning based on connection sensitivity", ICLR 2019.
"""

import numpy as np

from importance import Measure


def score(evidence):
    """Take the absolute value of the weight times the gradient of the mean loss."""
    return [np.abs(w * g) for w, g in zip(evidence.weights, evidence.mean_gradient(), strict=True)]


MEASURE = Measure(score, needs="labels", cost="1 pass")
