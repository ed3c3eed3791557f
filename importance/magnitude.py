"""|w|: large weights matter.

Options: `folded=True` takes the weights as they are with each BatchNormalization folded into the layer before it,
|w| |gamma| / sqrt(variance + epsilon) with the moving variance: before a normalisation the scale of weights has no
effect. Layers that no BatchNormalization follows, or that have an activation before it, have |w|.

Example:
    >>> import importance, keras
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="ones")])
    >>> importance.load("magnitude").score(model)[0].tolist()
    [[1.0]]

References:
    Han, Pool, Tran & Dally, "Learning both weights and connections for efficient neural networks", NeurIPS 2015.
"""

import numpy as np

from engine import batch_norms
from importance import Measure


def score(evidence, folded=False):
    """Take the absolute value; the sign of a weight says nothing about its importance."""
    if not folded:
        return [np.abs(w) for w in evidence.weights]
    every = zip(evidence.weights, evidence.parts, batch_norms.following(evidence.model, linear=True), strict=True)
    return [np.abs(w) * batch_norms.folded(part, norm) for w, part, norm in every]


MEASURE = Measure(score)
