"""Sums over examples of a function of each example's gradient: the numerics behind Fisher, MAS, Taylor and their kin.

For an objective l_n that depends on example n alone, and T such as the square, this computes sum_n T(dl_n / dw) for
every weight w. The mean gradient of a batch is of no use for it: the square of a mean is not the mean of squares.

One batched forward and backward pass gives each layer's inputs a and back-propagated signals d (the gradients at its
outputs before the activation), for all examples at once. What is left is local to the layer:

* a weight that each example uses once (Dense on vectors): the gradient is the product a_ni d_nk, so for
  T(ab) = T(a)T(b) the sum over examples is one matrix product of T(a) with T(d) ("outer");
* a weight shared over positions (convolutions, sequences): the example's gradient is summed over positions first, one
  matrix product an example, and T is applied to that ("product");
* anything else: the whole model's gradient is vectorised over examples ("generic"): always right, slower.

Memory does not grow with the number of examples: they are taken in chunks.
"""

import contextlib
import itertools
import math
import string
import weakref
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from keras import layers, ops

from engine import backend, structure

MEMORY = 2**30
LARGEST_CHUNK = 500
_NORMALISATIONS = (layers.BatchNormalization, layers.LayerNormalization)
_CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
_DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)


class Transform(NamedTuple):
    """What is done to each example's gradient before the sum.

    Attributes:
        function: callable, elementwise, with function(0) = 0.
        multiplicative: bool. function(a b) = function(a) function(b), which saves forming the product.
    """

    function: Callable
    multiplicative: bool


TRANSFORMS = {
    "square": Transform(ops.square, True),
    "absolute": Transform(ops.abs, True),
    "identity": Transform(lambda gradient: gradient, True),
}

_compiled = weakref.WeakKeyDictionary()


def sums(model, objective, x, y, transform="square", memory=MEMORY, chunk=None):
    """Sum T(gradient of one example's objective) over examples, for every trainable weight.

    The model runs in inference mode (`training=False`) and is left as it was.

    Args:
        model: keras.Model, built.
        objective: callable `objective(outputs, y) -> (examples,)`. One number an example, from that example alone.
            Use a function that lives on, not a new lambda each time: compiled code is kept for it.
        x: array (examples, ...).
        y: array (examples, ...): whatever the objective needs beside the outputs.
        transform: "square", "absolute", "identity", or an elementwise function T of `keras.ops` with T(0) = 0.
        memory: int. Bound on the extra memory in bytes, to within one example's need.
        chunk: int or None. Examples taken at once; None: as many as the memory allows, at most 500.

    Returns:
        list of float32 arrays like `model.trainable_variables`: sums, not means.

    Raises:
        ValueError: the objective does not give one number an example, or one that depends on the other examples.

    References:
        Goodfellow, "Efficient per-example gradient computations", arXiv 1510.01799 (2015);
        Dangel, Kunstner & Hennig, "BackPACK: packing more into backprop", ICLR 2020.
    """
    transform = TRANSFORMS[transform] if transform in TRANSFORMS else Transform(transform, False)
    kept = _compiled.setdefault(model, {})
    key = (objective, transform, x.shape[1:], np.shape(y)[1:])
    if key not in kept:
        _check_objective(model, objective, x, y)
        kept[key] = _Pass(model, objective, transform, x, y)
    return kept[key].sums(x, y, memory, chunk)


def paths(model, x):
    """Say how each layer's per-example gradients are computed.

    Args:
        model: keras.Model, built.
        x: array (examples, ...). One example is used.

    Returns:
        dict from layer name to "outer", "product" or "generic".
    """
    return {plan.layer.path: plan.path for plan in _plans(model, x)}


class _Plan(NamedTuple):
    layer: layers.Layer
    indices: list  # of the layer's variables among the model's
    path: str
    floats: int  # extra memory of one example


class _Pass:
    """One objective and transform, compiled for one model."""

    def __init__(self, model, objective, transform, x, y):
        self._model, self._objective, self._transform = model, objective, transform
        plans = _plans(model, x)
        self._exact = [plan for plan in plans if plan.path != "generic"]
        self._generic = [i for plan in plans if plan.path == "generic" for i in plan.indices]
        self._floats = _activations(model, x) + max(plan.floats for plan in plans)
        self._floats += sum(plan.floats for plan in plans if plan.path == "generic")
        self._one_chunk = backend.compiled(self._sum_chunk, xla=structure.xla(model))
        # Vectorising over examples does not convert to XLA everywhere on TensorFlow.
        self._one_generic_chunk = backend.compiled(self._sum_generic_chunk, xla=False)

    def sums(self, x, y, memory, chunk):
        chunk = chunk or int(np.clip(memory // (4 * self._floats), 1, LARGEST_CHUNK))
        chunk = min(chunk, len(x))
        trainable = [backend.read(v) for v in self._model.trainable_variables]
        others = [backend.read(v) for v in self._model.non_trainable_variables]
        total = None
        for start in range(0, len(x), chunk):
            rows = np.arange(start, start + chunk)
            counts = (rows < len(x)).astype("float32")
            rows = np.minimum(rows, len(x) - 1)  # the last chunk is filled up with examples that do not count
            part = self._chunk(trainable, others, x[rows], y[rows], counts)
            total = part if total is None else [a + b for a, b in zip(total, part, strict=True)]
        return [np.array(a, dtype="float32") for a in total]

    def _chunk(self, *arguments):
        arguments = [*arguments[:2], *(backend.on_device(a) for a in arguments[2:])]
        found = self._one_chunk(*arguments) if self._exact else {}
        if self._generic:
            found |= dict(zip(map(str, self._generic), self._one_generic_chunk(*arguments), strict=True))
        return [found[str(i)] for i in range(len(self._model.trainable_variables))]

    def _sum_chunk(self, trainable, others, x, y, counts):
        def run(tap):
            inputs = {}

            def visit(index, layer_inputs, value):
                inputs[index] = layer_inputs
                return tap(index, value)

            with _tapped([plan.layer for plan in self._exact], visit):
                outputs, _ = self._model.stateless_call(trainable, others, x, training=False)
            return ops.sum(self._objective(outputs, y) * counts), inputs

        signals, inputs = backend.gradients_at_taps(run)
        found = {}
        for number, plan in enumerate(self._exact):
            local = _RULES[_rule(plan.layer)]
            values = local(
                plan.layer, self._buffers(plan.layer, others), inputs[number], signals[number], self._transform
            )
            found |= {str(i): value for i, value in zip(plan.indices, values, strict=True)}
        return found

    def _sum_generic_chunk(self, trainable, others, x, y, counts):
        wanted = [trainable[i] for i in self._generic]

        def one_example(example):
            x, y, count = example

            def objective(arrays):
                weights = list(trainable)
                for index, array in zip(self._generic, arrays, strict=True):
                    weights[index] = array
                outputs, _ = self._model.stateless_call(weights, others, x[None], training=False)
                return self._objective(outputs, y[None])[0] * count

            return backend.gradients(objective, wanted)

        return [ops.sum(self._transform.function(g), axis=0) for g in backend.vectorised(one_example, (x, y, counts))]

    def _buffers(self, layer, others):
        """Return a layer's non-trainable values out of those of the whole model."""
        position = {id(v): i for i, v in enumerate(self._model.non_trainable_variables)}
        return [others[position[id(v)]] for v in layer.non_trainable_variables]


# The local rules. Each takes (layer, buffers, inputs (examples, ...), signals (examples, ...), transform) and returns
# the sums for the layer's trainable variables, in their order.


def _linear(layer, buffers, inputs, signals, transform):
    """Dense and EinsumDense: any contraction of the input with one kernel."""
    source, kernel, target = _equation(layer, len(inputs.shape))
    if transform.multiplicative and _used_once(source, kernel, target):
        a, d = transform.function(inputs), transform.function(signals)
        total = ops.einsum(f"{source},{target}->{kernel}", a, d)
    else:
        gradients = ops.einsum(f"{source},{target}->{source[0]}{kernel}", inputs, signals)
        total = ops.sum(transform.function(gradients), axis=0)
    return [total, *_added(layer, signals, transform)]


def _convolution(layer, buffers, inputs, signals, transform):
    """Convolutions: for each place in the kernel, the product of the shifted input with the signals."""
    channels, filters = inputs.shape[-1], signals.shape[-1]
    d = ops.reshape(signals, (-1, math.prod(signals.shape[1:-1]), filters))  # (n, p, k)
    totals = []
    for a in _shifted(layer, inputs, signals.shape[1:-1]):  # (n, p, c)
        if isinstance(layer, _DEPTHWISE):
            per_channel = ops.reshape(d, (-1, d.shape[1], channels, filters // channels))  # (n, p, c, m)
            gradients = ops.sum(a[..., None] * per_channel, axis=1)  # (n, c, m)
        else:
            gradients = ops.matmul(ops.transpose(a, (0, 2, 1)), d)  # (n, c, k)
        totals.append(ops.sum(transform.function(gradients), axis=0))
    kernel = layer.trainable_variables[0]
    return [ops.reshape(ops.stack(totals), kernel.shape), *_added(layer, signals, transform)]


def _normalisation(layer, buffers, inputs, signals, transform):
    """BatchNormalization and LayerNormalization: gamma times the normalised input, plus beta."""
    found = []
    for variable in layer.trainable_variables:
        if variable is layer.gamma:
            plain = [ops.full(v.shape, 1.0 if v is layer.gamma else 0.0) for v in layer.trainable_variables]
            normalised, _ = layer.stateless_call(plain, buffers, inputs, training=False)
            found.append(_broadcast(signals * normalised, variable.shape, transform))
        else:
            found.append(_broadcast(signals, variable.shape, transform))
    return found


def _embedding(layer, buffers, inputs, signals, transform):
    """Embedding: an example's gradient for a row is the sum of the signals where its token stands."""
    vocabulary, width = layer.embeddings.shape
    tokens = ops.cast(ops.reshape(inputs, (ops.shape(inputs)[0], -1)), "int32")  # (n, t)
    d = ops.reshape(signals, (-1, tokens.shape[1], width))  # (n, t, w)
    same = ops.cast(ops.equal(tokens[:, :, None], tokens[:, None, :]), d.dtype)  # (n, t, t)
    of_token = ops.matmul(same, d)  # at each place, the sum over all places of the same token
    # 1 where the token stands for the first time, so that each token of an example counts once.
    first = ops.cast(ops.equal(ops.sum(ops.tril(same, k=-1), axis=2), 0.0), d.dtype)
    values = transform.function(of_token) * first[:, :, None]
    return [ops.segment_sum(ops.reshape(values, (-1, width)), ops.reshape(tokens, (-1,)), num_segments=vocabulary)]


_RULES = {
    "linear": _linear,
    "convolution": _convolution,
    "normalisation": _normalisation,
    "embedding": _embedding,
}


def _rule(layer):
    """Name the exact rule for a layer, or None. Only the types themselves: a subclass may compute something else."""
    channels_last = getattr(layer, "data_format", "channels_last") == "channels_last"
    if type(layer) is layers.Dense or type(layer) is layers.EinsumDense:
        return "linear" if _plain_kernel(layer) else None
    if type(layer) in (*_CONVOLUTIONS, *_DEPTHWISE) and channels_last and _plain_kernel(layer):
        return "convolution" if getattr(layer, "groups", 1) == 1 or type(layer) in _DEPTHWISE else None
    if type(layer) in _NORMALISATIONS and layer.axis in (-1, [-1]) and not getattr(layer, "rms_scaling", False):
        return "normalisation"
    if type(layer) is layers.Embedding and _plain_kernel(layer, expected=("embeddings",)):
        return "embedding"
    return None


def _plain_kernel(layer, expected=("kernel", "bias")):
    """Say whether the layer's variables are the usual ones: no low-rank adaptation, quantisation or frozen kernel."""
    names = [v.name for v in layer.trainable_variables]
    return names == list(expected[: len(names)])


def _equation(layer, rank):
    """Return a contraction as letters (source, kernel, target), with the ellipsis spelled out."""
    if isinstance(layer, layers.Dense):
        positions = string.ascii_lowercase[: rank - 1]  # the first letter is the example
        return f"{positions}y", "yz", f"{positions}z"
    source, rest = layer.equation.split(",")
    kernel, target = rest.split("->")
    spare = "".join(letter for letter in string.ascii_uppercase if letter not in layer.equation)
    spelled = spare[: rank - len(source.replace("...", ""))]
    return source.replace("...", spelled), kernel, target.replace("...", spelled)


def _used_once(source, kernel, target):
    """Say whether each example uses each weight once: no letter but the example's is summed over."""
    return set(source[1:] + target[1:]) <= set(kernel)


def _added(layer, signals, transform):
    """Return the sums for a layer's bias, if it has one."""
    return [_broadcast(signals, v.shape, transform) for v in layer.trainable_variables if v.name == "bias"]


def _broadcast(gradients, shape, transform):
    """Return the sums for a variable that was broadcast to (examples, ...) and added."""
    rank = len(gradients.shape)
    aligned = (1,) * (rank - 1 - len(shape)) + tuple(shape)
    shared = [axis for axis in range(1, rank) if aligned[axis - 1] == 1]
    each = ops.sum(gradients, axis=shared) if shared else gradients
    return ops.reshape(ops.sum(transform.function(each), axis=0), shape)


def _shifted(layer, inputs, output_lengths):
    """Yield, for each place in the kernel, the inputs (n, p, c) that meet it at the output positions."""
    ranges, padding = [], [(0, 0)]
    for size, stride, dilation, length, output in zip(
        layer.kernel_size, layer.strides, layer.dilation_rate, inputs.shape[1:-1], output_lengths, strict=True
    ):
        reach = (output - 1) * stride + (size - 1) * dilation + 1
        missing = max(reach - length, 0)
        before = {"valid": 0, "same": missing // 2, "causal": missing}[layer.padding]
        padding.append((before, missing - before))
        ranges.append([slice(k * dilation, k * dilation + (output - 1) * stride + 1, stride) for k in range(size)])
    padded = ops.pad(inputs, [*padding, (0, 0)])
    for place in itertools.product(*ranges):
        window = padded[(slice(None), *place, slice(None))]
        yield ops.reshape(window, (-1, math.prod(output_lengths), inputs.shape[-1]))


# Which way for which layer


def _plans(model, x):
    """Choose a way for each layer that owns weights, by running one example through the model."""
    seen = {}
    owned = {}
    for index, part in enumerate(structure.parts(model)):
        owned.setdefault(id(part.layer), (part.layer, []))[1].append(index)
    found = [layer for layer, _ in owned.values()]

    def visit(number, inputs, value):
        seen.setdefault(number, []).append((inputs, tuple(value.shape)))
        return value

    with _tapped(found, visit):
        model(x[:1], training=False)
    plans = []
    for number, (layer, indices) in enumerate(owned.values()):
        calls = seen.get(number, [])
        # A layer that is called twice shares its weights between the calls: no local rule covers that.
        whole = [id(v) for v in layer.trainable_variables] == [id(model.trainable_variables[i]) for i in indices]
        local = _rule(layer) if len(calls) == 1 and whole and hasattr(calls[0][0], "shape") else None
        plans.append(
            _Plan(layer, indices, *_cost(layer, local, calls, [model.trainable_variables[i] for i in indices]))
        )
    return plans


def _cost(layer, local, calls, variables):
    """Return (path, extra floats of one example) for a layer."""
    weights = sum(math.prod(v.shape) for v in variables)
    if local is None:
        return "generic", 3 * weights
    inputs, _ = calls[0]
    if local == "linear":
        once = _used_once(*_equation(layer, len(inputs.shape)))
        return ("outer", 0) if once else ("product", weights)
    if local == "convolution":
        return "product", weights // math.prod(layer.kernel_size) + 2 * math.prod(inputs.shape[1:])
    if local == "embedding":
        return "product", math.prod(inputs.shape[1:]) ** 2
    return "product", math.prod(inputs.shape[1:])


def _activations(model, x):
    """Count the floats that one example's forward and backward pass holds, about."""
    total = [math.prod(x.shape[1:])]
    leaves = [layer for layer in structure.flat_layers(model) if not list(layer._flatten_layers(include_self=False))]

    def visit(number, inputs, value):
        total.append(math.prod(value.shape[1:]))
        return value

    with _tapped(leaves, visit, at_activation=False):
        model(x[:1], training=False)
    return 3 * sum(total)


@contextlib.contextmanager
def _tapped(found, visit, at_activation=True):
    """While open, each layer hands `visit(number, inputs, value)` its output before the activation.

    `visit` returns the value to go on with. Layers are changed on the instance and put back at the end.
    """
    changed = []

    def change(layer, name, value):
        changed.append((layer, name, layer.__dict__.get(name), name in layer.__dict__))
        object.__setattr__(layer, name, value)

    def tap(number, layer):
        call, current = layer.call, []
        linear = at_activation and _rule(layer) in ("linear", "convolution")

        def tapped_call(*args, **kwargs):
            inputs = args[0] if args else next(iter(kwargs.values()))
            current.append(inputs)
            outputs = call(*args, **kwargs)
            if not linear and hasattr(outputs, "shape"):
                outputs = visit(number, inputs, outputs)
            return outputs

        if linear:
            activation = layer.activation
            change(layer, "activation", lambda value: activation(visit(number, current[-1], value)))
        change(layer, "call", tapped_call)

    try:
        for number, layer in enumerate(found):
            tap(number, layer)
        yield
    finally:
        for layer, name, value, own in reversed(changed):
            if own:
                object.__setattr__(layer, name, value)
            else:
                object.__delattr__(layer, name)


def _check_objective(model, objective, x, y):
    """Raise unless the objective gives one number an example that depends on that example alone."""
    pair_x, pair_y = x[: min(2, len(x))], y[: min(2, len(x))]
    together = np.asarray(objective(model(pair_x, training=False), backend.on_device(pair_y)))
    if together.shape != (len(pair_x),):
        raise ValueError(
            f"Expected the objective to give one number an example, shape ({len(pair_x)},), received {together.shape}. "
            "Sum or average over the other axes, not over the examples."
        )
    for row in range(len(pair_x)):
        one = slice(row, row + 1)
        alone = np.asarray(objective(model(pair_x[one], training=False), backend.on_device(pair_y[one])))
        if not np.allclose(alone, together[one], rtol=1e-3, atol=1e-4, equal_nan=True):
            raise ValueError(
                f"Expected an objective of each example alone, received one that changes with the rest of the batch "
                f"({alone[0]} alone, {together[row]} beside another example). A layer or the objective mixes examples, "
                "as batch statistics in training mode do; per-example gradients do not exist for it."
            )
