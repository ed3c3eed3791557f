"""What a unit is in each kind of layer: which of its weights make one of its outputs."""

import re
from typing import Any

import numpy as np
from keras import layers
from keras.src.applications.convnext import LayerScale  # which has no public name
from keras.src.layers.rnn.conv_lstm import ConvLSTMCell  # nor has this one


def labels(part):
    """Label each weight with the unit (or channel, or filter) it belongs to; see `aggregation/unit.py`.

    Args:
        part: engine.structure.Part.

    Returns:
        int array of the part's shape. The labels of a layer's variables agree; -1: a group of its own.

    Raises:
        ValueError: a layer of which it is not known what its units are.
    """
    roles = _UNITS.get(_kind(part.layer), {})
    label = roles.get(part.role, roles.get(re.sub(r"_\d+$", "", part.role)))  # Keras numbers what it gives no name
    if label is None:
        raise ValueError(
            f"Expected layers of Keras, of which it is known what a unit is, received {part.role!r} of shape "
            f"{part.shape} in {part.layer.path!r}, a {type(part.layer).__name__}. Use the level 'weight' or 'layer', "
            "or write a level that knows the layer (aggregation/__init__.py shows one)."
        )
    return label(part)


def output_labels(part):
    """Label each weight with the output unit that it is an input of, as `labels` do, bias included.

    Where there is no kernel, as in normalisations, and for a bias that several units share, there is none: these
    weights of a layer are labelled alike, with -1.
    """
    if isinstance(part.layer, _WITHOUT_KERNELS):
        return np.full(part.shape, -1)
    return labels(part)


def column_labels(part):
    """Label each weight of a kernel with the one output that it is an input of; of what is no kernel, return None.

    The inputs of an output are its weights in the order of the kernel: rows, columns, channels. A recurrent unit has
    several outputs, one for each gate.
    """
    own = labels(part)
    if isinstance(part.layer, _WITHOUT_KERNELS) or not part.role.endswith("kernel"):
        return None
    return _LAST(part) if _kind(part.layer) in CELLS else own


def mixes(operation):
    """Say whether weights make each output of an operation from many of its inputs; None if that is not known.

    Args:
        operation: keras.Operation, such as a layer.
    """
    if not isinstance(operation, layers.Layer):
        return False
    found, nested = False, False
    for layer in operation._flatten_layers(include_self=True, recursive=True):
        inner = list(layer._flatten_layers(include_self=False))
        if isinstance(layer, _WRAPPERS + _CHANNELWISE):
            continue
        nested |= bool(inner)
        kind = _kind(layer)
        if kind is layers.EinsumDense:
            found |= not set(_letters(layer)[0]) <= set(_letters(layer)[1])
            continue
        of_inner = {id(v) for part in inner for v in part.weights}
        if any(len(v.shape) > 1 for v in layer.weights if id(v) not in of_inner):
            if kind is None:
                return None
            found = True
    return None if found and nested else found


def _kind(layer):
    """Return the class of Keras that says what a layer's weights do, or None."""
    cls: Any = type(layer)
    if (cls.__module__.partition(".")[0], cls.__name__) == ("keras_hub", "PositionEmbedding"):
        return layers.Embedding  # whose tokens are the places
    return kind_among(layer, _UNITS)


def kind_among(operation, known):
    """Return the class among those that are known that says what an operation does, or None.

    A subclass is of the kind of its parent unless it has a call of its own, and may compute something else.
    """
    cls: Any = type(operation)
    return next((kind for kind in cls.__mro__ if kind in known and cls.call is kind.call), None)


def _along(*axes):
    """Return a function that labels a part by its place along some axes, in row-major order."""

    def label(part):
        kept = [axis % len(part.shape) for axis in axes]
        lengths = [part.shape[axis] for axis in kept]
        index = np.arange(np.prod(lengths, dtype=int)).reshape(lengths)
        return np.broadcast_to(
            index.reshape([n if axis in kept else 1 for axis, n in enumerate(part.shape)]), part.shape
        )

    return label


def _each(part):
    return np.arange(np.prod(part.shape, dtype=int)).reshape(part.shape)


def _alone(part):
    return np.full(part.shape, -1)


def _gates(part):
    """Label the gates of a recurrent unit alike: they lie one after another along the last axis."""
    units = getattr(part.layer, "units", None) or part.layer.filters
    return _LAST(part) % units


def _letters(layer):
    """Return the letters of an EinsumDense layer's kernel and output, those of the ellipsis left out."""
    kernel, output = layer.equation.replace("...", "").replace(" ", "").split(",")[1].split("->")
    return kernel, output


def _einsum_kernel(part):
    kernel, output = _letters(part.layer)
    return _along(*(axis for axis, letter in enumerate(kernel) if letter in output))(part)


def _einsum_bias(part):
    """Label a bias by the letters that tell the kernel's units apart.

    A bias without one of these letters is shared by several units: it belongs to none, and each of it stands alone.
    """
    layer = part.layer
    kernel, output = _letters(layer)
    letters = output[min(output.index(letter) for letter in layer.bias_axes) :]
    labels = np.zeros(part.shape, dtype="int64")
    for letter, length in zip(kernel, layer.kernel.shape, strict=True):
        if letter not in output or length == 1:
            continue
        if letter not in layer.bias_axes:
            return _alone(part)
        along = np.arange(length).reshape(
            [length if axis == letters.index(letter) else 1 for axis in range(labels.ndim)]
        )
        labels = labels * length + along
    return labels


def _depthwise_first(part):
    """Label the channels between the two steps of a separable convolution, apart from its filters."""
    return part.layer.filters + _along(-2, -1)(part)


def _used_in_one_way(part):
    """Label the columns of embeddings, unless their rows give logits too."""
    reverse = any(call.arguments.kwargs.get("reverse") for call in part.layer._inbound_nodes)
    if part.layer.tie_weights and reverse:
        raise ValueError(
            f"Expected weights that are used in one way, received those of {part.layer.path!r}, which embed tokens and "
            "give logits too: a column is a unit of the one and a row of the other. Use the level 'weight' or 'layer'."
        )
    return _LAST(part)


def _reverse_embeddings(part):
    return part.layer.output_dim + _LAST(part)


_LAST = _along(-1)
_PLAIN = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
_TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
_DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
_SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
CELLS = (layers.SimpleRNNCell, layers.LSTMCell, layers.GRUCell, ConvLSTMCell)
CONVOLUTIONS = (*_PLAIN, *_TRANSPOSED, *_DEPTHWISE, *_SEPARABLE, ConvLSTMCell)
_OF_KINDS = [
    ((layers.Dense, *_PLAIN), {"kernel": _LAST, "bias": _LAST}),
    (_TRANSPOSED, {"kernel": _along(-2), "bias": _LAST}),
    (_DEPTHWISE, {"kernel": _along(-2, -1), "bias": _LAST}),
    (_SEPARABLE, {"depthwise_kernel": _depthwise_first, "pointwise_kernel": _LAST, "bias": _LAST}),
    ((layers.EinsumDense,), {"kernel": _einsum_kernel, "bias": _einsum_bias}),
    (CELLS, {"kernel": _gates, "recurrent_kernel": _gates, "bias": _gates}),
    ((layers.Embedding,), {"embeddings": _LAST}),
    ((layers.ReversibleEmbedding,), {"embeddings": _used_in_one_way, "reverse_embeddings": _reverse_embeddings}),
    ((layers.BatchNormalization, layers.GroupNormalization), {"gamma": _LAST, "beta": _LAST}),
    ((layers.LayerNormalization,), {"gamma": _each, "beta": _each}),
    ((layers.RMSNormalization,), {"scale": _each}),
    ((layers.PReLU,), {"alpha": _each}),
    ((LayerScale,), {"variable": _each}),
    ((layers.Attention, layers.AdditiveAttention), {"scale": _alone, "concat_score_weight": _alone}),
]
_UNITS = {kind: roles for kinds, roles in _OF_KINDS for kind in kinds}
"""How the variables of each kind of layer are labelled with its units."""
_CHANNELWISE = (
    *_DEPTHWISE, layers.BatchNormalization, layers.GroupNormalization, layers.LayerNormalization,
    layers.RMSNormalization, layers.Normalization, layers.PReLU, LayerScale,
)  # fmt: skip
"""Layers that make each output channel of one input channel."""
_WITHOUT_KERNELS = (
    layers.BatchNormalization, layers.GroupNormalization, layers.LayerNormalization, layers.RMSNormalization,
    layers.PReLU, LayerScale, layers.Attention, layers.AdditiveAttention,
)  # fmt: skip
_WRAPPERS = (
    layers.RNN, layers.StackedRNNCells, layers.Bidirectional, layers.TimeDistributed, layers.SpectralNormalization,
    layers.MultiHeadAttention, layers.GroupQueryAttention,
)  # fmt: skip
"""Layers that are made of layers, of which it is known that nothing goes around what mixes its inputs."""
