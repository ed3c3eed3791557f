"""What each kind of layer and operation does to channels: which of its weights make one, and which read it.

A rule is `rule(walk, layer, shapes, *arguments) -> list of Flow`: it tells an `engine.channels.Walk` about the layer's
weights and returns the channels of the outputs, whose shapes without the axis of examples are `shapes`. `arguments` are
those of the layer's `call`, with a Flow for each tensor.
"""

import numpy as np
from keras import layers, ops, tree
from keras.src.layers.merging.base_merge import Merge  # which has no public name
from keras.src.ops import core, nn
from keras.src.ops import numpy as array_ops

from engine import backend, units

FIXED = 0
"""The channel of what may not go: the inputs, the outputs, and all that is tied to them."""
STATISTICS = ("moving_mean", "moving_variance")
"""Weights that are not trained and say nothing of their own."""


class Unknown(Exception):
    """It is not known what an operation does to channels; the argument, if any, says how it is used."""


class Flow:
    """The channels of a tensor.

    Attributes:
        labels: int array with an axis for each of the tensor's but that of the examples, of length 1 where nothing
            changes along it: the channel at each place.
        shape: tuple of int. The tensor's, without the examples; 1 for lengths that are not known.
        constant: frozenset of str. Where a channel whose weights are all zero has become something else than zero.
    """

    def __init__(self, labels, shape, constant=()):
        self.labels, self.shape, self.constant = np.asarray(labels), tuple(shape), frozenset(constant)

    @property
    def full(self):
        """The labels at every place."""
        return np.broadcast_to(self.labels, self.shape)


def fixed(shape):
    """Return the flow of a tensor of which nothing may go."""
    return Flow(np.full((1,) * len(shape), FIXED), shape)


def name(operation):
    """Return the path of a layer, or the name of an operation."""
    return getattr(operation, "path", None) or operation.name


def rule(operation):
    """Return the rule of an operation.

    Raises:
        Unknown: there is none.
    """
    kind = type(operation) if isinstance(operation, Merge) else units.kind_among(operation, _RULES)
    if kind not in _RULES:
        raise Unknown
    return _RULES[kind]


# What rules are made of


def channel_axis(layer, rank):
    """Return where the channels lie in a tensor of `rank` axes, that of the examples left out."""
    return 0 if getattr(layer, "data_format", None) == "channels_first" else rank - 1


def _spread(labels, shape, axis, constant=()):
    """Return the flow of a tensor whose channels lie along one axis."""
    return Flow(np.reshape(labels, [-1 if a == axis % len(shape) else 1 for a in range(len(shape))]), shape, constant)


def _compact(labels, shape, constant):
    """Return a flow with axes of length 1 where nothing changes."""
    for axis in range(labels.ndim):
        first = labels.take([0], axis)
        labels = first if (labels == first).all() else labels
    return Flow(labels, shape, constant)


def _constant(walk, labels, operation, function, *others):
    """Return what a function makes of a channel that is zero, as a flow's `constant`; a softmax changes others too."""
    value, beside = (backend.to_numpy(function(ops.convert_to_tensor([[0.0, x]]), *others)) for x in (0, 1))
    if value.shape == (1, 2) and value[0, 0] != beside[0, 0]:
        walk.differ(labels, name(operation))
    return set() if value.shape == (1, 2) and not value.any() else {name(operation)}


def _makes(walk, layer, made, kernel=None):
    walk.makes(layer.kernel if kernel is None else kernel, made)
    if layer.bias is not None:
        walk.makes(layer.bias, made)


# Layers with kernels


def _dense(walk, layer, shapes, x, *_):
    made = walk.new(layer, layer.units)
    walk.reads(layer.kernel, walk.along(x, -1)[:, None], x)
    _makes(walk, layer, made)
    return [_spread(made, shapes[0], -1, _constant(walk, made, layer, layer.activation))]


def _convolution(walk, layer, shapes, x, *_):
    axis, made = channel_axis(layer, len(x.shape)), walk.new(layer, layer.filters)
    given = walk.along(x, axis)[:, None]
    if layer.groups > 1:  # each filter reads the channels of its group, and the groups have to stay of one size
        given = np.repeat(given.reshape(layer.groups, -1), layer.filters // layer.groups, axis=0).T
        walk.differ([*given.ravel(), *made], name(layer))
    walk.reads(layer.kernel, given, x)
    _makes(walk, layer, made)
    return [_spread(made, shapes[0], axis, _constant(walk, made, layer, layer.activation))]


def _transposed(walk, layer, shapes, x, *_):
    axis, made = channel_axis(layer, len(x.shape)), walk.new(layer, layer.filters)
    walk.reads(layer.kernel, walk.along(x, axis), x)
    walk.makes(layer.kernel, made[:, None])
    if layer.bias is not None:
        walk.makes(layer.bias, made)
    return [_spread(made, shapes[0], axis, _constant(walk, made, layer, layer.activation))]


def _depthwise(walk, layer, shapes, x, *_):
    axis = channel_axis(layer, len(x.shape))
    given = walk.along(x, axis)
    kept = np.repeat(given, layer.depth_multiplier)
    walk.makes(layer.kernel, given[:, None])
    if layer.bias is not None:
        walk.makes(layer.bias, kept)
    return [_spread(kept, shapes[0], axis, _constant(walk, kept, layer, layer.activation))]


def _separable(walk, layer, shapes, x, *_):
    axis, made = channel_axis(layer, len(x.shape)), walk.new(layer, layer.filters)
    given = walk.along(x, axis)
    walk.makes(layer.depthwise_kernel, given[:, None])
    walk.reads(layer.pointwise_kernel, np.repeat(given, layer.depth_multiplier)[:, None], Flow(given, given.shape))
    _makes(walk, layer, made, layer.pointwise_kernel)
    return [_spread(made, shapes[0], axis, _constant(walk, made, layer, layer.activation))]


def _einsum(walk, layer, shapes, x, *_):
    """Channels are new unless the kernel only scales: has no letter that the input or the output lacks."""
    given, kernel, output = einsum_letters(layer, len(x.shape), len(shapes[0]))
    read = [letter for letter in given if letter in kernel]
    labels = walk.along(x, *map(given.index, read))
    unit, made = read, labels
    if not set(kernel) <= set(given) & set(output):
        walk.reads(layer.kernel, _placed(labels, read, kernel), x)
        unit = [letter for letter in kernel if letter in output]
        lengths = [layer.kernel.shape[kernel.index(letter)] for letter in unit]
        made = walk.new(layer, int(np.prod(lengths))).reshape(lengths)
    walk.makes(layer.kernel, _placed(made, unit, kernel))
    constant = _constant(walk, made, layer, layer.activation)
    if layer.bias is not None:
        letters = output[min(map(output.index, layer.bias_axes)) :]
        if set(unit) <= set(layer.bias_axes):
            walk.makes(layer.bias, _placed(made, unit, letters))
        else:  # shared by several channels
            walk.makes(layer.bias, FIXED)
            constant = {name(layer)}
    return [Flow(_placed(made, unit, output), shapes[0], constant)]


def einsum_letters(layer, given_rank, output_rank):
    """Return the letters of an EinsumDense layer's input, kernel and output, the examples' left out."""
    (given, kernel), output = (side.split(",") for side in layer.equation.replace(" ", "").split("->"))
    given, output = given, output[0]
    free = "".join(map(chr, range(0x100, 0x101 + given_rank - len(given.replace("...", "")))))
    given, output = given.replace("...", free), output.replace("...", free)
    if given[0] != output[0] or given[0] in kernel or len(output) != output_rank + 1:
        raise Unknown("whose equation does not keep the examples on the first axis")
    return given[1:], kernel, output[1:]


def _placed(labels, letters, where):
    """Lay labels, which have an axis for each of some letters, along those of `where`, with length 1 for the others."""
    labels = labels.transpose([letters.index(letter) for letter in where if letter in letters])
    lengths = iter(labels.shape)
    return labels.reshape([next(lengths) if letter in letters else 1 for letter in where])


def _embedding(walk, layer, shapes, *_):
    made = walk.new(layer, layer.output_dim)
    walk.makes(layer.embeddings, made)
    return [_spread(made, shapes[0], -1)]


def _reversible_embedding(walk, layer, shapes, x, reverse=False):
    """A layer whose embeddings give logits too, in a second call: a channel is a column of the one and of the other."""
    found = _embedding(walk, layer, shapes)
    if not layer.tie_weights:
        walk.makes(layer.reverse_embeddings, FIXED)
    if not reverse:
        return found
    given = walk.along(x, -1)
    if layer.tie_weights:
        walk.tie(given, walk.new(layer, layer.output_dim))
        walk.reads(layer.embeddings, given, x)
    else:
        walk.reads(layer.reverse_embeddings, given[:, None], x)
    return [fixed(shapes[0])]


# Attention


def _heads(walk, layer, shapes, query, value, key, *_):
    """What attention gives are new channels; what is inside of its heads is none (see the level attention_head)."""
    inside = [(layer._query_dense, query), (layer._key_dense, key or value), (layer._value_dense, value)]
    inside += [(layer._gate_dense, query)] if hasattr(layer, "_gate_dense") else []
    for dense, flow in inside:
        walk.reads(dense.kernel, walk.along(flow, -1)[:, None, None], flow)
        _makes(walk, dense, FIXED)
    lengths = layer._output_dense.kernel.shape[2:]
    made = walk.new(layer, int(np.prod(lengths))).reshape(lengths)
    _makes(walk, layer._output_dense, made)
    given, *scores = shapes
    return [Flow(made.reshape((1,) * (len(given) - made.ndim) + made.shape), given), *map(fixed, scores)]


def _attention(walk, layer, shapes, inputs, *_):
    """Attention without kernels: queries and keys stand or fall together, values go through."""
    query, value, key = [*inputs, inputs[1]][:3]
    if layer.score_mode != "dot" or len(shapes) > 1:
        raise Unknown("whose scores are not dot products, or are given too")
    walk.tie(walk.along(query, -1), walk.along(key, -1))
    for flow in (query, key):
        for reason in flow.constant:
            walk.differ(flow.labels, reason)
    for variable in layer.weights:
        walk.makes(variable, FIXED)
    return [_spread(walk.along(value, -1), shapes[0], -1, value.constant)]


# Recurrent layers


def _recurrent(walk, layer, shapes, x, initial_state, *_):
    cells = getattr(layer.cell, "cells", [layer.cell])
    states = tree.flatten(initial_state) if initial_state is not None else []
    if len(cells) > 1 and (states or len(shapes) > 1):
        raise Unknown("of several cells whose states are given or taken")
    axis = 1 - len(x.shape) if getattr(layer.cell, "data_format", None) == "channels_first" else -1
    labels, constant = walk.along(x, axis), x.constant
    for cell in cells:
        labels, constant = _cell(walk, cell, labels, constant)
    for state in states:
        walk.tie(labels, walk.along(state, axis))
    return [_spread(labels, shape, axis, constant) for shape in shapes]


def _cell(walk, cell, given, constant):
    """A unit is all its gates, which lie one after another; through the recurrence it is read by the others too."""
    if units.kind_among(cell, units.CELLS) is None:
        raise Unknown(f"of {type(cell).__name__}")
    made = walk.new(cell, getattr(cell, "units", None) or cell.filters)
    after = _constant(walk, made, cell, cell.activation)
    walk.reads(cell.kernel, given[:, None], Flow(given, given.shape, constant))
    walk.reads(cell.recurrent_kernel, made[:, None], Flow(made, made.shape, after))
    gates = np.tile(made, cell.kernel.shape[-1] // len(made))
    _makes(walk, cell, gates)
    walk.makes(cell.recurrent_kernel, gates)
    return made, after


def _bidirectional(walk, layer, shapes, x, initial_state, *_):
    if initial_state is not None or layer.return_state:
        raise Unknown("whose states are given or taken")
    each = (*shapes[0][:-1], shapes[0][-1] // (2 if layer.merge_mode == "concat" else 1))
    flows = [walk.call(way, [each], [x], {})[0] for way in (layer.forward_layer, layer.backward_layer)]
    if layer.merge_mode is None:
        return flows
    return [_joined(shapes[0], flows, -1) if layer.merge_mode == "concat" else _tied(walk, shapes[0], flows)]


def _in_time(walk, layer, shapes, x, *_):
    rest = walk.along(x, *range(1, len(x.shape)))
    flows = walk.call(layer.layer, [shape[1:] for shape in shapes], [Flow(rest, x.shape[1:], x.constant)], {})
    return [Flow(flow.labels[None], shape, flow.constant) for flow, shape in zip(flows, shapes, strict=True)]


# Normalisations, and layers with a weight for each place


def _normalised(walk, layer, shapes, x, *_):
    """Gamma and beta are of the channel; what is computed of several channels changes with each of them."""
    axes = sorted(_places(layer.axis, len(x.shape)))
    labels = walk.along(x, *axes)
    owned = [getattr(layer, role, None) for role in ("gamma", "beta", *STATISTICS)]
    owned += [layer.scale] if isinstance(layer, layers.RMSNormalization) else []
    for variable in (v for v in owned if v is not None):
        walk.makes(variable, labels)
    if not isinstance(layer, layers.BatchNormalization):
        walk.differ(x.labels, name(layer))
    scaled = isinstance(layer, layers.RMSNormalization) or layer.gamma is not None
    labels = labels.reshape([length if axis in axes else 1 for axis, length in enumerate(x.shape)])
    return [Flow(labels, shapes[0], () if scaled else x.constant | {name(layer)})]


def _places(axes, rank):
    """Return axes as places among those without that of the examples."""
    found = [axis % (rank + 1) - 1 for axis in (axes if isinstance(axes, (list, tuple)) else [axes])]
    if -1 in found:
        raise Unknown("over the examples")
    return found


def _bent(walk, layer, shapes, x, *_):
    axes = [axis for axis, length in enumerate(layer.alpha.shape) if length > 1]
    labels = walk.along(x, *axes) if len(axes) else np.full((), FIXED)
    if any(length > 1 for axis, length in enumerate(x.labels.shape) if axis not in axes):
        labels = np.full_like(labels, FIXED)  # an alpha of several channels is of none
    walk.makes(layer.alpha, labels.reshape(layer.alpha.shape))
    return _same(walk, layer, shapes, x)


def _layer_scale(walk, layer, shapes, x, *_):
    labels = walk.along(x, -1)
    (variable,) = layer.weights
    walk.makes(variable, labels)
    return [_spread(labels, shapes[0], -1)]


# What has no weights


def _same(walk, operation, shapes, x, *_):
    return [Flow(x.labels, shapes[0], x.constant)]


def _kept(walk, layer, shapes, x, *_):
    """Channels stay on their axis, whatever becomes of the others."""
    labels = walk.along(x, channel_axis(layer, len(x.shape)))
    return [_spread(labels, shapes[0], channel_axis(layer, len(shapes[0])), x.constant)]


def _elementwise(walk, operation, shapes, x, *others):
    if any(isinstance(value, Flow) for value in (others if isinstance(x, Flow) else [x, *others])):
        raise Unknown("of several tensors")
    return [Flow(x.labels, shapes[0], x.constant | _constant(walk, x.labels, operation, operation.call, *others))]


def _shifted(walk, layer, shapes, x, *_):
    return [Flow(x.labels, shapes[0], x.constant | {name(layer)})]


def _rescaled(walk, layer, shapes, x, *_):
    return (_shifted if np.any(layer.offset) else _same)(walk, layer, shapes, x)


def _reshaped(walk, operation, shapes, x, *_):
    labels = x.full
    if isinstance(operation, layers.Flatten) and operation.data_format == "channels_first" and labels.ndim > 1:
        labels = np.moveaxis(labels, 0, -1)
    if labels.size != np.prod(shapes[0]):
        raise Unknown("with lengths that are not known")
    return [_compact(labels.reshape(shapes[0]), shapes[0], x.constant)]


def _permuted(walk, operation, shapes, x, *_):
    axes = (0, *operation.dims) if isinstance(operation, layers.Permute) else operation.axes
    axes = [axis % (len(x.shape) + 1) for axis in axes or range(len(x.shape), -1, -1)]
    if axes[0] != 0:
        raise Unknown("that moves the axis of the examples")
    return [Flow(x.labels.transpose([axis - 1 for axis in axes[1:]]), shapes[0], x.constant)]


def _part(walk, operation, shapes, x, key):
    key = tuple(key) if isinstance(key, (list, tuple)) else (key,)
    if key[0] not in (slice(None), Ellipsis):
        raise Unknown("of some of the examples")
    try:
        labels = x.full[None][key][0]
    except IndexError:
        raise Unknown("with lengths that are not known") from None
    return [_compact(labels, shapes[0], x.constant)]


def _picked(walk, operation, shapes, x, *_):
    """Places along an axis are chosen by something else, which channels do not follow."""
    (axis,) = _places(operation.axis, len(x.shape))
    labels = walk.along(x, *(a for a in range(len(x.shape)) if a != axis))
    if len(shapes[0]) != len(x.shape):
        raise Unknown("that changes the number of axes")
    return [_compact(np.expand_dims(labels, axis), shapes[0], x.constant)]


def _reduced(walk, operation, shapes, x, *_):
    gone = _places(range(len(x.shape) + 1) if operation.axis is None else operation.axis, len(x.shape))
    labels = walk.along(x, *(axis for axis in range(len(x.shape)) if axis not in gone))
    return [_compact(labels.reshape(shapes[0]), shapes[0], x.constant)]


def _concatenated(walk, operation, shapes, flows, *_):
    if not all(isinstance(flow, Flow) for flow in flows):
        raise Unknown("of constants")
    return [_joined(shapes[0], flows, *_places(operation.axis, len(shapes[0])))]


def _joined(shape, flows, axis):
    axis %= len(shape)
    lengths = np.max([flow.labels.shape for flow in flows], axis=0)
    parts = [np.broadcast_to(f.labels, [*lengths[:axis], f.shape[axis], *lengths[axis + 1 :]]) for f in flows]
    return Flow(np.concatenate(parts, axis), shape, frozenset().union(*(flow.constant for flow in flows)))


# What combines tensors place by place


def _operands(given):
    """Return the flows among operands, and the constants."""
    given = given[0] if isinstance(given[0], (list, tuple)) else given
    flows = [value for value in given if isinstance(value, Flow)]
    return flows, [backend.to_numpy(ops.convert_to_tensor(value)) for value in given if not isinstance(value, Flow)]


def _tied(walk, shape, flows):
    labels = walk.tie(*(flow.labels for flow in flows))
    return Flow(labels, shape, frozenset().union(*(flow.constant for flow in flows)))


def _added(walk, operation, shapes, *given):
    """What is added, averaged or compared stands or falls together."""
    flows, others = _operands(given)
    if len({len(flow.shape) for flow in flows}) > 1:
        raise Unknown("of tensors with different numbers of axes")
    found = _tied(walk, shapes[0], flows)
    moved = {name(operation)} if any(value.any() or value.size > 1 for value in others) else set()
    return [Flow(found.labels, shapes[0], found.constant | moved)]


def _multiplied(walk, operation, shapes, *given):
    """What is multiplied stands or falls together, but for what is the same for all channels, which goes with none."""
    flows, others = _operands(given)
    if len({len(flow.shape) for flow in flows}) > 1:
        raise Unknown("of tensors with different numbers of axes")
    varied = np.max([flow.labels.shape for flow in flows], axis=0) > 1
    own = [flow for flow in flows if not (varied & (np.array(flow.shape) == 1)).any()]
    for flow in flows:
        if flow not in own:
            walk.tie(flow.labels, FIXED)
    found = _tied(walk, shapes[0], own or flows)
    constant = found.constant if all(flow.constant for flow in own) else set()
    cut = {name(operation)} if any(value.size > 1 for value in others) else set()  # a constant for each channel
    return [Flow(found.labels, shapes[0], constant | cut)]


def _divided(walk, operation, shapes, x, by):
    if isinstance(by, Flow):
        raise Unknown("by a tensor")
    return _multiplied(walk, operation, shapes, x, by)


def _named(source, names):
    return [getattr(source, name) for name in names.split()]


_OF_KINDS = [
    ((layers.Dense,), _dense),
    ((layers.Conv1D, layers.Conv2D, layers.Conv3D), _convolution),
    ((layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose), _transposed),
    ((layers.DepthwiseConv1D, layers.DepthwiseConv2D), _depthwise),
    ((layers.SeparableConv1D, layers.SeparableConv2D), _separable),
    ((layers.EinsumDense,), _einsum),
    ((layers.Embedding,), _embedding),
    ((layers.ReversibleEmbedding,), _reversible_embedding),
    ((layers.MultiHeadAttention, layers.GroupQueryAttention), _heads),
    ((layers.Attention,), _attention),
    (_named(layers, "RNN SimpleRNN LSTM GRU ConvLSTM1D ConvLSTM2D ConvLSTM3D"), _recurrent),
    ((layers.Bidirectional,), _bidirectional),
    ((layers.TimeDistributed,), _in_time),
    (_named(layers, "BatchNormalization LayerNormalization GroupNormalization RMSNormalization"), _normalised),
    ((layers.PReLU,), _bent),
    ((units.LayerScale,), _layer_scale),
    (
        _named(
            layers,
            "Identity Dropout SpatialDropout1D SpatialDropout2D SpatialDropout3D AlphaDropout GaussianDropout "
            "GaussianNoise ActivityRegularization Masking",
        ),
        _same,
    ),
    (
        [getattr(layers, f"{what}{n}D") for n in (1, 2, 3) for what in (
            "MaxPooling", "AveragePooling", "GlobalMaxPooling", "GlobalAveragePooling", "ZeroPadding", "Cropping",
            "UpSampling",
        )] + [layers.RepeatVector],
        _kept,
    ),
    (_named(layers, "Activation ReLU LeakyReLU ELU Softmax"), _elementwise),
    ((layers.Normalization,), _shifted),
    ((layers.Rescaling,), _rescaled),
    (_named(layers, "Flatten Reshape") + _named(array_ops, "Reshape ExpandDims Squeeze"), _reshaped),
    ((layers.Permute, array_ops.Transpose), _permuted),
    ((array_ops.GetItem,), _part),
    ((array_ops.TakeAlongAxis,), _picked),
    (_named(array_ops, "Mean Sum Max Min"), _reduced),
    ((layers.Concatenate, array_ops.Concatenate), _concatenated),
    (_named(layers, "Add Subtract Average Maximum Minimum"), _added),
    (_named(array_ops, "Add Subtract Maximum Minimum"), _added),
    ((layers.Multiply, array_ops.Multiply), _multiplied),
    (_named(array_ops, "Divide TrueDivide"), _divided),
    (
        _named(
            array_ops,
            "Abs Absolute Negative Square Sqrt Exp Expm1 Log1p Tanh Sin Cos Arctan Sign Power Clip Copy Sinh Round",
        ) + _named(core, "Cast StopGradient") + _named(
            nn,
            "Relu Relu6 Sigmoid Softplus Softsign Silu LogSigmoid LeakyRelu HardSigmoid HardSilu Elu Selu Gelu Celu "
            "TanhShrink HardTanh Softmax LogSoftmax",
        ),
        _elementwise,
    ),
]  # fmt: skip
_RULES = {kind: rule for kinds, rule in _OF_KINDS for kind in kinds}
