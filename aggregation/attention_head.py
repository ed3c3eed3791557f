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

from engine import heads, structure


def LEVEL(model):
    """Label the weights of a head alike.

    Raises:
        ValueError: the model has no attention layers of Keras that can be trained.
    """
    found, count = {}, 0
    for layer in structure.flat_layers(model):
        if isinstance(layer, heads.KINDS) and all(v.trainable for v in layer.weights):
            found |= heads.labels(layer, count)
            count += heads.count(layer)
    if not count:
        raise ValueError(
            f"Expected a model with trainable MultiHeadAttention or GroupQueryAttention layers for the level "
            f"'attention_head', received {model.name!r}, which has none. Use the level 'channel' or 'unit'."
        )
    return [found.get(id(v), np.full(v.shape, structure.ABSENT)) for v in model.trainable_variables]
