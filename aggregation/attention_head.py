"""A head of an attention layer: its query, key and value with their biases, and its slice of the output kernel.

Of grouped-query attention the group is the query head, with its slices of the query and of the output kernel. A key and
value head that several query heads share is of no use once the last of them is gone, and of use until then: it takes no
part. Nothing reads what it gives when its query heads are gone. If one query head alone uses it, it belongs to that
head, as in multi-head attention.

The bias of the output, all other layers, and attention layers of which a part is frozen take no part. The layers are
found wherever they are, in subclassed models and inside of other layers too. What only has such heads inside of a
kernel of its own, as some layers of others do, is not known.
"""

import numpy as np
from keras import layers

from engine import structure


def LEVEL(model):
    """Label the weights of a head alike.

    Raises:
        ValueError: the model has no attention layers of Keras that can be trained.
    """
    heads, count = {}, 0
    for layer in structure.flat_layers(model):
        if isinstance(layer, (layers.MultiHeadAttention, layers.GroupQueryAttention)):
            if all(v.trainable for v in layer.weights):
                number = layer._query_dense.kernel.shape[1]
                heads |= _slices(layer, np.arange(count, count + number))
                count += number
    if not count:
        raise ValueError(
            f"Expected a model with trainable MultiHeadAttention or GroupQueryAttention layers for the level "
            f"'attention_head', received {model.name!r}, which has none. Use the level 'channel' or 'unit'."
        )
    return [heads.get(id(v), np.full(v.shape, structure.ABSENT)) for v in model.trainable_variables]


def _slices(layer, heads):
    """Label the weights of one layer: dict from a variable's id to its labels."""
    found = {id(layer._output_dense.kernel): _placed(heads, layer._output_dense.kernel, 0)}
    for dense in (layer._query_dense, layer._key_dense, layer._value_dense, getattr(layer, "_gate_dense", None)):
        for variable in dense.weights if dense is not None else ():
            axis = len(variable.shape) - 2  # the last is that of the head's features
            alone = variable.shape[axis] == len(heads)
            labels = heads if alone else np.full(variable.shape[axis], structure.ABSENT)
            found[id(variable)] = _placed(labels, variable, axis)
    return found


def _placed(labels, variable, axis):
    """Lay labels along one axis of a variable."""
    along = labels.reshape([-1 if place == axis else 1 for place in range(len(variable.shape))])
    return np.broadcast_to(along, variable.shape)
