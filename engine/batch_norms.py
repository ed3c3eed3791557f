"""Which BatchNormalization scales what a layer gives: the pairing of the two, from the graph of a functional model."""

import keras
import numpy as np
from keras import layers
from keras.src.models.functional import Functional  # which has no public name

from engine import backend, structure, units


def following(model, linear=False):
    """Find the BatchNormalization that each variable's layer is scaled by.

    Args:
        model: keras.Model, built.
        linear: bool. Whether to leave out layers with an activation of their own, which stands between the two.

    Returns:
        list in the order of `model.trainable_variables`: of a BatchNormalization's own variables that layer; of another
        layer's the one that takes what the layer gives, channel by channel, if nothing else takes it too; else None.

    Raises:
        ValueError: no layer of the model is followed by one.
    """
    pairs = _pairs(model, linear)
    parts = structure.parts(model)
    if not any(id(part.layer) in pairs for part in parts):
        kinds = sorted({type(part.layer).__name__ for part in parts})
        raise ValueError(
            "Expected a Sequential or functional model in which a BatchNormalization takes what a trainable layer "
            f"gives, and nothing else does, received {model.name!r} of {', '.join(kinds)}, where there is none. Use "
            "the measure 'magnitude'."
        )
    norm = layers.BatchNormalization
    return [part.layer if isinstance(part.layer, norm) else pairs.get(id(part.layer)) for part in parts]


def scales(part, norm):
    """Return |gamma| of each weight's channel, float32 like the variable of `part`; 1 where there is no gamma.

    Args:
        part: engine.structure.Part.
        norm: keras.layers.BatchNormalization or None. What `following` found for it.
    """
    if norm is None or norm.gamma is None:
        return np.ones(part.shape, "float32")
    return _of_units(part, norm, np.abs(backend.copied(norm.gamma)))


def folded(part, norm):
    """Return what a BatchNormalization multiplies each weight of a layer before it with in the end: float32, likewise.

    That is |gamma| / sqrt(variance + epsilon) of the weight's channel with the moving variance; 1 for its own weights.
    """
    if norm is None or norm is part.layer:
        return np.ones(part.shape, "float32")
    spread = np.sqrt(backend.copied(norm.moving_variance) + np.float32(norm.epsilon))
    return scales(part, norm) / _of_units(part, norm, spread)


def _of_units(part, norm, values):
    if norm is part.layer:
        return np.reshape(values, part.shape).astype("float32")
    unit = units.labels(part)
    there = (unit >= 0) & (unit < len(values))  # a separable layer's depthwise kernel makes channels of its own
    return np.where(there, values[np.where(there, unit, 0)], 1).astype("float32")


def _pairs(model, linear):
    """Return {id of a layer: the BatchNormalization that follows it}, at every depth of the model."""
    takers, givers = {}, {}
    for graph in map(_graph, structure.flat_layers(model)):
        if graph is None:
            continue
        for node in (node for nodes in graph._nodes_by_depth.values() for node in nodes):
            for tensor in node.input_tensors:
                takers.setdefault(id(tensor), set()).add(node.operation)
            givers.setdefault(id(node.operation), (node.operation, []))[1].append(node.output_tensors)
        for tensor in graph.outputs:
            takers.setdefault(id(tensor), set()).add(None)
    found = {}
    for layer, calls in givers.values():
        taking = set().union(*(takers.get(id(tensor), {None}) for tensors in calls for tensor in tensors))
        norm = taking.pop() if len(taking) == 1 else None
        if isinstance(norm, layers.BatchNormalization) and _scaled(layer, norm, calls[0][0], linear):
            found[id(layer)] = norm
    return found


def _graph(layer):
    graph = layer._functional if type(layer).call is keras.Sequential.call else layer
    return graph if isinstance(graph, Functional) else None


def _scaled(layer, norm, tensor, linear):
    """Say whether a normalisation is over the units of the layer whose tensor it takes."""
    if not isinstance(layer, (layers.Dense, *units.CONVOLUTIONS)):
        return False
    rank = len(tensor.shape)
    last = -1 if getattr(layer, "data_format", None) != "channels_first" else 1
    active = getattr(layer, "activation", None) not in (None, keras.activations.linear)
    return norm.axis % rank == last % rank and not (linear and active)
