"""What a model is made of: which layer owns a weight, which part it plays, and which axes name its output units."""

from typing import NamedTuple

import numpy as np
from keras import layers

from engine import backend


class Part(NamedTuple):
    """One trainable variable and its place in the model.

    Attributes:
        layer: keras.Layer. The innermost layer that owns the variable.
        role: str. The variable's name in its layer: "kernel", "bias", "gamma", "beta", "embeddings", ...
        shape: tuple of int.
        output: bool or None. Whether the layer's units are outputs of the model; None if the model, being written as a
            subclass, does not say what comes after what.
    """

    layer: layers.Layer
    role: str
    shape: tuple
    output: bool | None = None


ABSENT = -2
"""The label of weights that a level leaves out."""


def parts(model):
    """Describe the variables of a model, in the order of `model.trainable_variables`.

    Args:
        model: keras.Model, built.

    Returns:
        list of Part.

    Raises:
        ValueError: the model has no weights yet.
    """
    if not model.built or not model.trainable_variables:
        raise ValueError(
            f"Expected a built model with trainable weights, received {model.name!r} with "
            f"{len(model.trainable_variables)} of them. Call it on data once, or give it an Input."
        )
    # Parents come before their children, so the innermost owner is written last.
    owner = {id(v): layer for layer in flat_layers(model) for v in layer.trainable_variables}
    last = _output_layers(model)
    return [
        Part(owner[id(v)], v.name, tuple(v.shape), None if last is None else id(owner[id(v)]) in last)
        for v in model.trainable_variables
    ]


def _output_layers(model):
    """Return the ids of the layers between a model's outputs and the last kernels before them; None if unknown."""
    if not getattr(model, "outputs", None):
        return None
    found, ahead = set(), list(model.outputs)
    while ahead:
        operation, node, _ = ahead.pop()._keras_history
        if getattr(operation, "outputs", None):  # a model in the model
            ahead += operation.outputs
            continue
        weights = getattr(operation, "trainable_variables", ())
        found |= {id(layer) for layer in flat_layers(operation)} if weights else set()
        if not any(len(w.shape) > 1 for w in weights):
            ahead += operation._inbound_nodes[node].input_tensors
    return found


def flat_layers(model):
    """List all layers of a model at every depth, each parent before its children."""
    return list(model._flatten_layers(include_self=True, recursive=True))


def forward(model, x):
    """Run a model in inference mode; no variable of it changes, whatever its layers do."""
    values = [[backend.read(v) for v in vs] for vs in (model.trainable_variables, model.non_trainable_variables)]
    return model.stateless_call(*values, x, training=False)[0]


def output_axes(part):
    """Name the axes of a variable that tell output units (or channels) apart.

    A Dense kernel (inputs, units) has (1,); a Conv2D kernel (height, width, inputs, filters) has (3,); a transposed
    convolution's (height, width, filters, inputs) has (2,); a depthwise one's (height, width, inputs, multiplier) has
    (2, 3). For a layer whose kind is unknown it is the last axis.

    Args:
        part: Part.

    Returns:
        tuple of int, ascending.
    """
    layer, rank = part.layer, len(part.shape)
    if part.role == "kernel" and isinstance(layer, layers.EinsumDense):
        kernel, output = layer.equation.replace("...", "").split(",")[1].split("->")
        return tuple(axis for axis, letter in enumerate(kernel) if letter in output)
    if part.role == "bias" and isinstance(layer, layers.EinsumDense):
        # A bias may have leading axes of length 1; those tell nothing apart.
        return tuple(axis for axis, length in enumerate(part.shape) if length > 1) or (rank - 1,)
    if rank > 1 and isinstance(layer, (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)):
        return (rank - 2,)
    depthwise = isinstance(layer, (layers.DepthwiseConv1D, layers.DepthwiseConv2D)) or part.role == "depthwise_kernel"
    if rank > 1 and depthwise:
        return (rank - 2, rank - 1)
    if isinstance(layer, layers.LayerNormalization):
        return tuple(range(rank))
    return (rank - 1,) if rank else ()


def unit_labels(part):
    """Label each weight with the unit (or channel, or filter) it belongs to: int array of the part's shape."""
    axes = output_axes(part)
    lengths = [part.shape[axis] for axis in axes]
    index = np.arange(np.prod(lengths, dtype=int)).reshape(lengths)
    aligned = [length if axis in axes else 1 for axis, length in enumerate(part.shape)]
    return np.broadcast_to(index.reshape(aligned), part.shape)


def layer_labels(part):
    """Label all weights of a layer alike."""
    return np.zeros(part.shape, dtype="int64")


def weight_labels(part):
    """Label no two weights alike."""
    return np.full(part.shape, -1)


def grouped(parts, label):
    """Give every weight of a model the id of its group.

    Args:
        parts: list of Part.
        label: callable `label(part) -> int array` of the part's shape. Equal labels in the same layer are one group,
            across its variables; labels in different layers never meet; -1: a group of its own; `ABSENT`: none.

    Returns:
        list of int64 arrays of the parts' shapes. Ids run over the whole model from 0; -1 where there is no group.
    """
    groups, ids, count = [], {}, 0
    for part in parts:
        labels = np.asarray(label(part))
        out = np.empty(part.shape, dtype="int64")
        alone, named = labels == -1, labels >= 0
        out[~named] = -1
        out[alone] = count + np.arange(alone.sum())
        count += int(alone.sum())
        present, inverse = np.unique(labels[named], return_inverse=True)
        for key in ((id(part.layer), int(value)) for value in present):
            if key not in ids:
                ids[key], count = count, count + 1
        out[named] = np.array([ids[id(part.layer), int(value)] for value in present], dtype="int64")[inverse]
        groups.append(out)
    return groups


def is_convolution_kernel(part):
    """Say whether the variable is the kernel of a convolution of any kind."""
    return "Conv" in type(part.layer).__name__ and part.role.endswith("kernel")


def xla(model):
    """Choose whether to compile this model's functions with XLA, by the kinds of its layers and the device."""
    return backend.enough_xla(flat_layers(model))
