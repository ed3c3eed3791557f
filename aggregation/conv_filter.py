"""The kernel weights that make one channel of a convolution; every other weight, biases too, stands alone."""

from aggregation import unit
from engine import structure


def LEVEL(part):
    """Label the weights of a filter alike, and no others."""
    return unit.LEVEL(part) if structure.is_convolution_kernel(part) else structure.weight_labels(part)
