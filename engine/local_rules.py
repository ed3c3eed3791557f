"""How a layer's weights meet its inputs: what the per-example passes and the activation measures need to know.

A rule says, for one kind of layer, how the gradient of one example comes from the layer's inputs and back-propagated
signals (`GRADIENTS`), and which input each weight multiplies (`INPUTS`, and example by example `patches`). `kind` names
the rule of a layer, or None.
"""

import itertools
import math
import operator
import string
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from keras import layers, ops

_DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
_CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D, *_DEPTHWISE)
_NORMALISATIONS = (layers.BatchNormalization, layers.LayerNormalization)


def kind(layer, inputs, variables):
    """Name the rule for a layer, or None if it has none.

    Args:
        layer: keras.Layer. Only these very types: a subclass may compute something else.
        inputs: array (examples, ...), what it is called with.
        variables: list of keras.Variable. Those of its trainable variables that the model trains.
    """
    names = [v.name for v in variables]
    if len(names) != len(layer.trainable_variables) or not hasattr(inputs, "shape"):
        return None
    usual = names in (["kernel"], ["kernel", "bias"])  # no low-rank adaptation, no quantisation, no frozen kernel
    if type(layer) is layers.Dense and usual:
        return "linear"
    if type(layer) is layers.EinsumDense and usual and _invertible(*equation(layer, len(inputs.shape))):
        return "linear"
    if type(layer) in _CONVOLUTIONS and usual and layer.data_format == "channels_last":
        return "convolution"
    if type(layer) in _NORMALISATIONS and set(names) <= {"gamma", "beta"} and _over_last_axis(layer, inputs):
        return "normalisation"
    if type(layer) is layers.Embedding and names == ["embeddings"]:
        return "embedding"
    return None


def used_once(layer, inputs):
    """Say whether each example uses each weight of a linear layer once: no letter but the example's is summed over."""
    source, kernel, target = equation(layer, len(inputs.shape))
    return set(source[1:] + target[1:]) <= set(kernel)


class Transform(NamedTuple):
    """What is summed of the gradients that signals stand for.

    Attributes:
        function: callable, elementwise, with function(0) = 0. Of each gradient.
        multiplicative: bool. function(a b) = function(a) function(b), which saves forming the product.
        paired: bool. The first half of the signals goes with the second, and the products of their gradients g h are
            summed; `function` is the square, which they are where both are one.
    """

    function: Callable
    multiplicative: bool
    paired: bool = False

    def parts(self, signals):
        """Return the signals as lists of those whose gradients do not meet one another: one list, or two of pairs."""
        half = len(signals) // 2
        return [signals[:half], signals[half:]] if self.paired else [signals]

    def of(self, gradients):
        """Yield what is summed of gradients, an array each, of single ones or of all in a part."""
        return map(operator.mul, *self.parts(list(gradients))) if self.paired else map(self.function, gradients)


# The gradients. Each rule takes (layer, variables, buffers, inputs (examples, ...), signals, transform), where signals
# are a list of arrays (examples, ...), one for each objective, and returns, for each variable, the sum over examples
# and objectives, or pairs of them, of what the transform makes of the gradients.


def linear_gradients(layer, variables, buffers, inputs, signals, transform):
    """Dense and EinsumDense: any contraction of the input with one kernel."""
    source, kernel, target = equation(layer, len(inputs.shape))
    if transform.multiplicative and used_once(layer, inputs):
        a, d = transform.function(inputs), sum(transform.of(signals))
        total = ops.einsum(f"{source},{target}->{kernel}", a, d)
    else:
        gradients = (ops.einsum(f"{source},{target}->{source[0]}{kernel}", inputs, s) for s in signals)
        total = sum(ops.sum(each, axis=0) for each in transform.of(gradients))
    return [total, *(_added(signals, v.shape, transform) for v in variables[1:])]


def convolution_gradients(layer, variables, buffers, inputs, signals, transform):
    """Convolutions: for each place in the kernel, the product of the shifted input with the signals."""
    groups = inputs.shape[-1] if type(layer) in _DEPTHWISE else layer.groups
    _, *lengths, filters = signals[0].shape
    windows, places = shifted(layer, inputs, lengths), math.prod(lengths)  # (n, p, c) each
    joined = [_joined(part, places) for part in transform.parts(signals)]  # (n, p, zk) each
    # For one objective a small product for each place in the kernel is faster than a large one for all, as less is
    # copied; for several the product is what counts.
    if groups == 1 and len(signals) > 1:
        windows = [ops.concatenate(list(windows), axis=-1)]

    def gradients(a, d):
        if groups == 1:
            return ops.matmul(ops.transpose(a, (0, 2, 1)), d)  # (n, c, zk)
        # Group g joins its own channels with its own filters; the kernel is (channels of a group, all filters).
        of_inputs = ops.reshape(a, (-1, places, groups, a.shape[-1] // groups))
        of_signals = ops.reshape(d, (-1, places, d.shape[-1] // filters, groups, filters // groups))
        found = ops.einsum("npgc,npzgk->nczgk", of_inputs, of_signals)
        return ops.reshape(found, (-1, a.shape[-1] // groups, d.shape[-1]))

    totals = []
    for a in windows:
        (found,) = transform.of(gradients(a, d) for d in joined)
        totals.append(_sum_joined(ops.sum(found, axis=0), filters))
    kernel = ops.reshape(ops.stack(totals), variables[0].shape)
    return [kernel, *(_added(signals, v.shape, transform) for v in variables[1:])]


def normalisation_gradients(layer, variables, buffers, inputs, signals, transform):
    """BatchNormalization and LayerNormalization: gamma times the normalised input, plus beta."""
    normalised = _normalised(layer, variables, buffers, inputs)
    each = {"gamma": [s * normalised for s in signals], "beta": signals}
    return [_added(each[v.name], v.shape, transform) for v in variables]


def embedding_gradients(layer, variables, buffers, inputs, signals, transform):
    """Embedding: an example's gradient for a row is the sum of the signals where its token stands."""
    vocabulary, width = variables[0].shape
    tokens = _tokens(inputs)  # (n, t)
    joined = [_joined(part, tokens.shape[1]) for part in transform.parts(signals)]  # (n, t, zw) each
    same = ops.cast(ops.equal(tokens[:, :, None], tokens[:, None, :]), signals[0].dtype)  # (n, t, t)
    # At each place, the sum over all places of the same token.
    (of_token,) = transform.of(ops.matmul(same, d) for d in joined)
    # 1 where the token stands for the first time, so that each token of an example counts once.
    first = ops.cast(ops.equal(ops.sum(ops.tril(same, k=-1), axis=2), 0.0), same.dtype)
    values = ops.reshape(_sum_joined(of_token, width) * first[:, :, None], (-1, width))
    return [ops.segment_sum(values, ops.reshape(tokens, (-1,)), num_segments=vocabulary)]


GRADIENTS = {
    "linear": linear_gradients,
    "convolution": convolution_gradients,
    "normalisation": normalisation_gradients,
    "embedding": embedding_gradients,
}


# The inputs. Each rule takes (layer, variables, buffers, inputs (examples, ...), output_shape, function) and returns,
# for the variables that multiply something, the sum of function(what it multiplies) over examples and places, in a
# shape that broadcasts to the variable's.


def linear_inputs(layer, variables, buffers, inputs, output_shape, function):
    """Dense and EinsumDense: the inputs, summed over the letters that the kernel has not."""
    source, kernel, _ = equation(layer, len(inputs.shape))
    total = ops.einsum(f"{source}->{''.join(letter for letter in kernel if letter in source)}", function(inputs))
    shape = [length if letter in source else 1 for letter, length in zip(kernel, variables[0].shape, strict=True)]
    return {"kernel": ops.reshape(total, shape)}


def convolution_inputs(layer, variables, buffers, inputs, output_shape, function):
    """Convolutions: the inputs that meet each place in the kernel, zeros of the padding included."""
    sums = [ops.sum(function(a), axis=(0, 1)) for a in shifted(layer, inputs, output_shape[1:-1])]  # (c,) each
    shape, groups = variables[0].shape, getattr(layer, "groups", 1)
    if type(layer) in _DEPTHWISE or groups == 1:
        return {"kernel": ops.reshape(ops.stack(sums), (*shape[:-1], 1))}
    of_groups = ops.reshape(ops.stack(sums), (-1, groups, shape[-2]))  # (places, g, c of a group)
    each = ops.repeat(ops.transpose(of_groups, (0, 2, 1)), shape[-1] // groups, axis=2)
    return {"kernel": ops.reshape(each, shape)}


def normalisation_inputs(layer, variables, buffers, inputs, output_shape, function):
    """Normalisations: gamma multiplies the normalised input."""
    values = function(_normalised(layer, variables, buffers, inputs))
    return {"gamma": ops.sum(values, axis=tuple(range(len(inputs.shape) - 1)))}


def embedding_inputs(layer, variables, buffers, inputs, output_shape, function):
    """Embedding: each row multiplies a 1 where its token stands, a 0 elsewhere."""
    one, zero = (ops.reshape(function(like(output_shape[:-1])), (-1,)) for like in (ops.ones, ops.zeros))
    tokens = ops.reshape(_tokens(inputs), (-1,))
    there = ops.segment_sum(one - zero, tokens, num_segments=variables[0].shape[0])
    return {"embeddings": (there + ops.sum(zero))[:, None]}


INPUTS = {
    "linear": linear_inputs,
    "convolution": convolution_inputs,
    "normalisation": normalisation_inputs,
    "embedding": embedding_inputs,
}


class View(NamedTuple):
    """A variable seen as matrices (inputs, outputs), one for each block; different blocks share neither.

    Attributes:
        split: tuple of int. The variable's shape, with the axis of grouped filters divided.
        order: tuple of int. The axes of `split`, those of blocks first, then of inputs, then of outputs.
        shape: tuple of int. (blocks, inputs, outputs).
    """

    split: tuple
    order: tuple
    shape: tuple

    def of(self, array):
        """Return a variable's array as (blocks, inputs, outputs)."""
        return np.reshape(np.transpose(np.reshape(array, self.split), self.order), self.shape)

    def back(self, matrices):
        """Return such matrices, or what broadcasts to them, in the order of the variable; reshape it to its shape."""
        spread = np.broadcast_to(matrices, self.shape).reshape([self.split[axis] for axis in self.order])
        return np.transpose(spread, np.argsort(self.order))


def view(rule, layer, variable, rank):
    """Return the View of a variable of a layer: which axes are of inputs, and which of outputs.

    Args:
        rule: str. As `kind` names it.
        layer: keras.Layer.
        variable: keras.Variable of it. One that is added (a bias, beta) has one input, the constant 1; gamma has an
            input and an output of its own for each channel.
        rank: int. Of the layer's inputs, the examples' axis included.
    """
    split, places = tuple(variable.shape), range(len(variable.shape))
    blocks, inputs = [], []
    if variable.name == "gamma":
        blocks = [*places]
    elif rule == "linear" and variable.name == "kernel":
        source, kernel, target = equation(layer, rank)
        blocks = [axis for axis in places if kernel[axis] in source and kernel[axis] in target]
        inputs = [axis for axis in places if kernel[axis] not in target]
    elif rule == "convolution" and variable.name == "kernel":
        if type(layer) in _DEPTHWISE:
            blocks, inputs = [places[-2]], [*places[:-2]]
        else:
            split = (*split[:-1], layer.groups, split[-1] // layer.groups)
            blocks, inputs = [places[-1]], [*places[:-1]]
    elif rule == "embedding":
        inputs = [0]
    outputs = [axis for axis in range(len(split)) if axis not in (*blocks, *inputs)]
    shape = tuple(math.prod(split[axis] for axis in axes) for axes in (blocks, inputs, outputs))
    return View(split, (*blocks, *inputs, *outputs), shape)


def patches(rule, layer, inputs, dtype=None):
    """Return what a kernel multiplies at every place of every example.

    Args:
        rule: str. "linear" or "convolution".
        layer: keras.Layer.
        inputs: NumPy array (examples, ...), what it is called with.
        dtype: str or None. Of what is returned; None: the inputs'.

    Returns:
        NumPy array (blocks, examples and places, inputs), blocks and inputs as in the kernel's `view`.
    """
    if rule == "linear":
        source, kernel, target = equation(layer, inputs.ndim)
        blocks = [letter for letter in kernel if letter in source and letter in target]
        summed = [letter for letter in kernel if letter not in target]
        rows = [letter for letter in source if letter in target and letter not in kernel]
        found = np.einsum(f"{source}->{''.join([*blocks, *rows, *summed])}", inputs, dtype=dtype)
        lengths = dict(zip(source, inputs.shape, strict=True))
        return found.reshape([math.prod(lengths[x] for x in letters) for letters in (blocks, rows, summed)])
    lengths = layer.compute_output_shape(inputs.shape)[1:-1]
    padding, places = _windows(layer, inputs.shape[1:-1], lengths)
    padded, channels = np.pad(inputs, [(0, 0), *padding, (0, 0)]), inputs.shape[-1]
    blocks = channels if type(layer) in _DEPTHWISE else layer.groups
    found = np.empty((blocks, len(inputs), *lengths, len(places), channels // blocks), dtype or inputs.dtype)
    for number, place in enumerate(places):  # each is copied once, into its place and kind of number
        window = padded[(slice(None), *place)].reshape(len(inputs), *lengths, blocks, -1)
        found[..., number, :] = np.moveaxis(window, -2, 0)
    return found.reshape(blocks, -1, len(places) * (channels // blocks))


def equation(layer, rank):
    """Return a contraction as letters (source, kernel, target), with the ellipsis spelled out.

    The first letter of source and target is the example.
    """
    if isinstance(layer, layers.Dense):
        positions = string.ascii_lowercase[: rank - 1]
        return f"{positions}y", "yz", f"{positions}z"
    source, rest = layer.equation.replace(" ", "").split(",")
    kernel, target = rest.split("->")
    spare = "".join(letter for letter in string.ascii_uppercase if letter not in layer.equation)
    spelled = spare[: rank - len(source.replace("...", ""))]
    return source.replace("...", spelled), kernel, target.replace("...", spelled)


def shifted(layer, inputs, output_lengths):
    """Yield, for each place in the kernel, the inputs (n, p, c) that meet it at the output positions."""
    padding, places = _windows(layer, inputs.shape[1:-1], output_lengths)
    padded = ops.pad(inputs, [(0, 0), *padding, (0, 0)])
    for place in places:
        window = padded[(slice(None), *place, slice(None))]
        yield ops.reshape(window, (-1, math.prod(output_lengths), inputs.shape[-1]))


def _windows(layer, lengths, output_lengths):
    """Return how a convolution's inputs are padded, a pair a direction, and for each place in its kernel the slices."""
    ranges, padding = [], []
    for size, stride, dilation, length, output in zip(
        layer.kernel_size, layer.strides, layer.dilation_rate, lengths, output_lengths, strict=True
    ):
        reach = (output - 1) * stride + (size - 1) * dilation + 1
        missing = max(reach - length, 0)
        before = {"valid": 0, "same": missing // 2, "causal": (size - 1) * dilation}[layer.padding]
        padding.append((before, max(missing - before, 0)))
        ranges.append([slice(k * dilation, k * dilation + (output - 1) * stride + 1, stride) for k in range(size)])
    return padding, list(itertools.product(*ranges))


def _invertible(source, kernel, target):
    """Say whether the kernel's gradient is the contraction of inputs with signals, one example at a time."""
    letters = [source, kernel, target]
    once = all(len(set(part)) == len(part) for part in letters)
    return once and source[0] == target[0] and source[0] not in kernel and set(kernel) <= set(source + target)


def _over_last_axis(layer, inputs):
    axis = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    plain = not getattr(layer, "rms_scaling", False)
    return plain and [a % len(inputs.shape) for a in axis] == [len(inputs.shape) - 1]


def _normalised(layer, variables, buffers, inputs):
    """Return what gamma multiplies: the layer's output with gamma = 1 and beta = 0."""
    plain = [ops.full(v.shape, 1.0 if v.name == "gamma" else 0.0) for v in variables]
    mode = {"training": False} if type(layer) is layers.BatchNormalization else {}
    return ops.cast(layer.stateless_call(plain, buffers, inputs, **mode)[0], "float32")


def _tokens(inputs):
    return ops.cast(ops.reshape(inputs, (ops.shape(inputs)[0], -1)), "int32")


def _joined(signals, places):
    """Join arrays (n, ..., channels), one for each objective, to one (n, places, objectives channels)."""
    return ops.reshape(ops.concatenate(signals, axis=-1), (-1, places, len(signals) * signals[0].shape[-1]))


def _sum_joined(array, channels):
    """Sum an array (..., objectives channels) over the objectives that `_joined` joined."""
    return ops.sum(ops.reshape(array, (*ops.shape(array)[:-1], -1, channels)), axis=-2)


def _added(signals, shape, transform):
    """Return the sums for a variable that was broadcast to (examples, ...) and added; its gradients are the signals."""
    rank = len(signals[0].shape)
    aligned = (1,) * (rank - 1 - len(shape)) + tuple(shape)
    shared = [axis for axis in range(1, rank) if aligned[axis - 1] == 1]
    each = [ops.sum(s, axis=shared) for s in signals] if shared else signals
    return ops.reshape(ops.sum(sum(transform.of(each)), axis=0), shape)
