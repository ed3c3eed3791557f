"""The kernel weights that make one channel of a convolution; every other weight, biases too, stands alone."""

import numpy as np

from aggregation import unit
from engine import structure


def LEVEL(part):
    """Label the weights of a filter alike, and no others."""
    return unit.LEVEL(part) if structure.is_convolution_kernel(part) else np.full(part.shape, -1)
