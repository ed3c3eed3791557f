"""What a model costs: how many weights it has, how much it multiplies, and how long it takes here."""

import math
import statistics
import time
from typing import NamedTuple

import keras
import numpy as np
from keras import layers

from engine import backend, channel_rules, channels, structure, units


class Sizes(NamedTuple):
    """How large a model is.

    Attributes:
        parameters: int. All weights, statistics of normalisations among them: `model.count_params()`.
        multiply_adds: int. Products that are summed up for one example, in inference mode: those of kernels and of
            attention's scores. What is done place by place (normalisations, activations, biases, additions, pooling)
            and looked up is not counted, nor what an augmentation does.
    """

    parameters: int
    multiply_adds: int


def sizes(model):
    """Count a model's weights, and its products for one example.

    Args:
        model: keras.Model, built: a Sequential or functional one, which may contain others, of inputs whose lengths
            are known but for the number of examples.

    Returns:
        Sizes.

    Raises:
        ValueError: a model that is written as a subclass, a layer or operation of which it is not known what it does
            (named), or a length that is not known.

    Example:
        >>> import keras, thresholding
        >>> model = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Conv2D(4, 3), keras.layers.Flatten()])
        >>> thresholding.sizes(model)
        Sizes(parameters=40, multiply_adds=576)
    """
    walk, _ = channels.walked(model)
    if walk.unknown:
        raise ValueError(
            f"Expected a model whose tensors have known lengths, received {model.name!r} with one of unknown length at "
            f"{walk.unknown[0]!r}. Give them in keras.Input(shape)."
        )
    return Sizes(model.count_params(), sum(map(_products, walk.calls)))


def latency(model, batch=1, repeats=100, xla=False):
    """Time a model on this machine: a compiled call in inference mode, until its outputs are there.

    Args:
        model: keras.Model, built, made with `keras.Input` of known lengths. Inputs are random; whole numbers are 0.
        batch: int. Number of examples in a call.
        repeats: int. How many calls are timed, after some that are not.
        xla: bool. Compile with XLA on TensorFlow; JAX always does.

    Returns:
        float. Seconds of a call, the median.

    Raises:
        ValueError: lengths that are not known, or not at least one example and one repeat.

    Example:
        >>> import keras, thresholding
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> 0 < thresholding.latency(model, batch=32, repeats=3) < 60
        True
    """
    if batch < 1 or repeats < 1:
        raise ValueError(f"Expected at least 1 example and 1 repeat, received batch={batch!r}, repeats={repeats!r}.")
    x, mode = _random_inputs(model, batch), structure.mode(model)
    # The weights are no arguments: to hand over those of a small network takes as long as to compute with them.
    run = backend.compiled(lambda x: model(x, **mode), xla)
    found = []
    for _ in range(_WARMING + repeats):
        start = time.perf_counter()
        backend.to_numpy(run(x))
        found.append(time.perf_counter() - start)
    return statistics.median(found[_WARMING:])


_WARMING = 3


def _random_inputs(model, batch):
    rng, symbols = np.random.default_rng(0), structure.symbols(model)
    if symbols is None or any(None in symbol.shape[1:] for symbol in keras.tree.flatten(symbols)):
        raise ValueError(
            f"Expected a model that was made with keras.Input of known lengths, received {model.name!r}. Build it with "
            "such inputs, which say what to time it on."
        )

    def drawn(symbol):
        shape = (batch, *symbol.shape[1:])
        return keras.ops.convert_to_tensor(
            rng.normal(size=shape) if "float" in symbol.dtype else np.zeros(shape), symbol.dtype
        )

    return keras.tree.map_structure(drawn, symbols)


# Products


def _products(call):
    """Return the products of a call, with those inside."""
    operation, inside = call.operation, sum(map(_products, call.inside))
    kind = units.kind_among(operation, _PRODUCTS)
    if isinstance(operation, keras.Model):
        return inside
    if isinstance(operation, layers.TimeDistributed):
        return inside * _first(call).shape[0]
    if kind is not None:
        return inside + _PRODUCTS[kind](operation, call)
    try:
        channel_rules.rule(operation)
    except channel_rules.Unknown:
        if not type(operation).__module__.startswith("keras.src.layers.preprocessing."):
            raise ValueError(
                "Expected layers of Keras and operations of keras.ops of which it is known what they multiply, "
                f"received {channel_rules.name(operation)!r}, a {type(operation).__name__}."
            ) from None
    return inside


def _first(call):
    return next(iter(call.arguments.values()))


def _places(layer, flow):
    """Return how many places a flow has beside its channels."""
    axis = channel_rules.channel_axis(layer, len(flow.shape))
    return math.prod(length for place, length in enumerate(flow.shape) if place != axis)


def _size(variable):
    return math.prod(variable.shape)


def _dense(layer, call):
    return math.prod(_first(call).shape[:-1]) * _size(layer.kernel)


def _convolution(layer, call):
    """Each place of the output takes every weight of the kernel once, also in groups and depthwise."""
    return _places(layer, call.made[0]) * _size(layer.kernel)


def _transposed(layer, call):
    return _places(layer, _first(call)) * _size(layer.kernel)


def _separable(layer, call):
    return _places(layer, call.made[0]) * (_size(layer.depthwise_kernel) + _size(layer.pointwise_kernel))


def _einsum(layer, call):
    given, made = _first(call).shape, call.made[0].shape
    letters = channel_rules.einsum_letters(layer, len(given), len(made))
    lengths: dict[str, int] = {}
    for names, shape in zip(letters, (given, layer.kernel.shape, made), strict=True):
        lengths |= dict(zip(names, shape, strict=True))
    return math.prod(lengths.values())


def _logits(layer, call):
    return math.prod(_first(call).shape) * layer.input_dim if call.arguments.get("reverse") else 0


def _heads(layer, call):
    query, value = call.arguments["query"].shape, call.arguments["value"].shape
    key = call.arguments.get("key")
    dense = [(layer._query_dense, query), (layer._key_dense, key.shape if key else value), (layer._value_dense, value)]
    dense += [(layer._output_dense, query), (getattr(layer, "_gate_dense", None), query)]
    projections = sum(math.prod(shape[:-1]) * _size(part.kernel) for part, shape in dense if part is not None)
    axes = getattr(layer, "_attention_axes", None) or range(1, len(value))
    seen = math.prod(value[axis - 1] for axis in axes)
    features = layer._query_dense.kernel.shape[-1] + layer._value_dense.kernel.shape[-1]
    return projections + math.prod(query[:-1]) * seen * layer._query_dense.kernel.shape[1] * features


def _attention(layer, call):
    query, value = (flow.shape for flow in call.arguments["inputs"][:2])
    return query[0] * value[0] * (query[-1] + value[-1])


def _recurrent(layer, call):
    cells = getattr(layer.cell, "cells", [layer.cell])
    steps, spatial = _first(call).shape[0], call.made[0].shape[1 if layer.return_sequences else 0 :]
    places = math.prod(spatial) // spatial[channel_rules.channel_axis(layer.cell, len(spatial))]
    return steps * places * sum(_size(cell.kernel) + _size(cell.recurrent_kernel) for cell in cells)


_OF_KINDS = [
    ((layers.Dense,), _dense),
    (
        (layers.Conv1D, layers.Conv2D, layers.Conv3D, layers.DepthwiseConv1D, layers.DepthwiseConv2D),
        _convolution,
    ),
    ((layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose), _transposed),
    ((layers.SeparableConv1D, layers.SeparableConv2D), _separable),
    ((layers.EinsumDense,), _einsum),
    ((layers.ReversibleEmbedding,), _logits),
    ((layers.MultiHeadAttention, layers.GroupQueryAttention), _heads),
    ((layers.Attention,), _attention),
    ((layers.RNN, layers.SimpleRNN, layers.LSTM, layers.GRU), _recurrent),
    ((layers.ConvLSTM1D, layers.ConvLSTM2D, layers.ConvLSTM3D), _recurrent),
]
_PRODUCTS = {kind: count for kinds, count in _OF_KINDS for kind in kinds}
"""How the products of a call are counted, for each kind of layer that has kernels or scores."""
