"""What a model is made of: which layer owns a weight, which part it plays, and which axes name its output units."""

from typing import NamedTuple

from keras import layers

from engine import backend


class Part(NamedTuple):
    """One trainable variable and its place in the model.

    Attributes:
        layer: keras.Layer. The innermost layer that owns the variable.
        role: str. The variable's name in its layer: "kernel", "bias", "gamma", "beta", "embeddings", ...
        shape: tuple of int.
    """

    layer: layers.Layer
    role: str
    shape: tuple


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
    return [Part(owner[id(v)], v.name, tuple(v.shape)) for v in model.trainable_variables]


def flat_layers(model):
    """List all layers of a model at every depth, each parent before its children."""
    return list(model._flatten_layers(include_self=True, recursive=True))


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


def is_convolution_kernel(part):
    """Say whether the variable is the kernel of a convolution of any kind."""
    return "Conv" in type(part.layer).__name__ and part.role.endswith("kernel")


def xla(model):
    """Choose whether to compile this model's functions with XLA, by the kinds of its layers and the device."""
    return backend.enough_xla(flat_layers(model))
