"""|w_ij| ||a_j||_2, the norm over examples: large weights on strong inputs matter.

The norm is over all places at which the weight is used (tokens, or positions of a convolution). A bias multiplies the
constant 1, so its norm is the root of the number of examples times places. Meant to be compared within an output unit.

Example:
    >>> import importance, keras, numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="ones")])
    >>> [s.tolist() for s in importance.load("wanda").score(model, np.array([[3.0], [4.0]]))]
    [[[5.0]], [0.0]]

References:
    Sun, Liu, Bair & Kolter, "A simple and effective pruning approach for large language models", arXiv 2306.11695.
"""

import numpy as np

from importance import Measure


def score(evidence):
    """Multiply the absolute weight with the norm of what it multiplies."""
    return [np.abs(w) * np.sqrt(flow.square) for w, flow in zip(evidence.weights, evidence.flows(), strict=True)]


MEASURE = Measure(score, needs="inputs", cost="1 forward pass, shared with signal")
