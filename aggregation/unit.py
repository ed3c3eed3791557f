"""An output neuron with its incoming weights and its bias; a filter with its bias; a channel's gamma and beta.

A Dense kernel has shape (inputs, units) and a Conv2D kernel (height, width, inputs, filters): the *last* axis tells
units apart. Pooling over it instead, as earlier code did, mixes the units and separates the inputs.
"""

from engine import structure

LEVEL = structure.unit_labels
