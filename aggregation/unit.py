"""An output neuron with its incoming weights and its bias; a filter with its bias; a channel's gamma and beta.

A Dense kernel has shape (inputs, units) and a Conv2D kernel (height, width, inputs, filters): the *last* axis tells
units apart. Pooling over it instead, as earlier code did, mixes the units and separates the inputs.
"""

import numpy as np

from engine import structure


def LEVEL(part):
    """Label the weights of a unit by its index among the layer's units."""
    axes = structure.output_axes(part)
    lengths = [part.shape[axis] for axis in axes]
    index = np.arange(np.prod(lengths, dtype=int)).reshape(lengths)
    aligned = [length if axis in axes else 1 for axis, length in enumerate(part.shape)]
    return np.broadcast_to(index.reshape(aligned), part.shape)
