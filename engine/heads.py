"""Which weights of an attention layer are those of which head."""

import numpy as np
from keras import layers

from engine import structure

KINDS = (layers.MultiHeadAttention, layers.GroupQueryAttention)


def labels(layer, first=0):
    """Label the weights of an attention layer with their query head; see `aggregation/attention_head.py`.

    Args:
        layer: keras.Layer, of one of `KINDS`, built.
        first: int. The label of its first head.

    Returns:
        dict from the id of a weight to an int array of its shape; `structure.ABSENT` where several query heads share a
        key and value head. The bias of the output is not among them.
    """
    heads = np.arange(first, first + count(layer))
    found = {id(layer._output_dense.kernel): along(heads, layer._output_dense.kernel, 0)}
    for variable in inside(layer):
        axis = head_axis(variable)
        alone = variable.shape[axis] == len(heads)
        own = heads if alone else np.full(variable.shape[axis], structure.ABSENT)
        found[id(variable)] = along(own, variable, axis)
    return found


def count(layer):
    """Return the number of query heads."""
    return layer._query_dense.kernel.shape[1]


def inside(layer):
    """List the weights that make queries, keys, values and gates."""
    dense = (layer._query_dense, layer._key_dense, layer._value_dense, getattr(layer, "_gate_dense", None))
    return [variable for part in dense if part is not None for variable in part.weights]


def head_axis(variable):
    """Return the axis of the heads in one of `inside`: the last is that of a head's features."""
    return len(variable.shape) - 2


def along(labels, variable, axis):
    """Lay labels along one axis of a variable."""
    return np.broadcast_to(
        labels.reshape([-1 if place == axis else 1 for place in range(len(variable.shape))]), variable.shape
    )
