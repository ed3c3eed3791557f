"""All weights of a layer stand or fall together."""

import numpy as np


def LEVEL(part):
    """Label all weights of a layer alike."""
    return np.zeros(part.shape, dtype="int64")
