"""Units as in `unit`, but for those of the output layer, which take no part.

An output unit is a class: to replace it takes the class's share of the accuracy whatever the measure. With ten classes
in a network of few units that is all one sees at the level `unit`, where a threshold takes as large a share of the
output layer as of any other (scope "layer").
"""

import numpy as np

from engine import structure


def LEVEL(part):
    """Label the units of hidden layers."""
    if part.output is None:
        raise ValueError(
            "Expected a keras.Sequential or functional model for the level 'hidden_unit', which has to know what layer "
            "comes last; received a subclassed one. Use the level 'unit'."
        )
    return np.full(part.shape, structure.ABSENT) if part.output else structure.unit_labels(part)
