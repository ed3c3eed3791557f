"""Units as in `unit`, but for those of the output layer, which take no part.

An output unit is a class: to replace it takes the class's share of the accuracy whatever the measure. With ten classes
in a network of few units that is all one sees at the level `unit`, where a threshold takes as large a share of the
output layer as of any other (scope "layer").

The output layer is what makes the outputs: the last layer that mixes its inputs (a dense layer, a convolution, a
recurrent or an attention layer as a whole), and every normalisation behind it. Several layers are output layers where
there are several outputs, or where branches are added or joined behind the last kernels.
"""

from engine import structure


def LEVEL(part):
    """Label the units of hidden layers."""
    if part.output is None:
        raise ValueError(
            "Expected a keras.Sequential or functional model that ends in layers of Keras for the level 'hidden_unit', "
            "which has to know what makes the outputs; received a subclassed model, or one that ends in a layer of "
            "another kind. Use the level 'unit'."
        )
    return structure.absent_labels(part) if part.output else structure.unit_labels(part)
