"""What a model is made of: which layer owns a weight, which part it plays, and which unit it belongs to."""

import contextlib
import json
import math
import re
from typing import NamedTuple

import keras
import numpy as np
from keras import Model, layers, ops

from engine import backend, units


class Part(NamedTuple):
    """One trainable variable and its place in the model.

    Attributes:
        layer: keras.Layer. The innermost layer that owns the variable.
        role: str. The variable's name in its layer: "kernel", "bias", "gamma", "beta", "embeddings", ...
        shape: tuple of int.
        output: bool or None. Whether the layer's units are outputs of the model; None if that is not known: the model
            is written as a subclass, or ends in a layer of which it is not known what its outputs are made of.
    """

    layer: layers.Layer
    role: str
    shape: tuple
    output: bool | None = None


ABSENT = -2
"""The label of weights that a level leaves out."""

_PASSING = (layers.Dropout, layers.Reshape, layers.Flatten, layers.Permute, layers.Identity)


def parts(model):
    """Describe the variables of a model, in the order of `model.trainable_variables`.

    Args:
        model: keras.Model, built.

    Returns:
        list of Part.

    Raises:
        ValueError: the model has no weights yet.
    """
    if not isinstance(model, Model):
        raise ValueError(f"Expected a keras.Model, received {model!r}. A layer alone goes into a keras.Sequential.")
    if not model.built or not model.trainable_variables:
        remedy = "Set trainable = True for what is frozen." if model.weights else "Give it a layer that has weights."
        raise ValueError(
            f"Expected a built model with trainable weights, received {model.name!r} with "
            f"{len(model.trainable_variables)} of them{'' if model.built else ', not built'}. "
            f"{remedy if model.built else 'Call it on data once, or give it an Input.'}"
        )
    owner = {}
    for layer in flat_layers(model):  # A layer that several models share may come before a model that contains it.
        of_inner = {id(v) for inner in layer._flatten_layers(include_self=False) for v in inner.trainable_variables}
        owner |= {id(v): layer for v in layer.trainable_variables if id(v) not in of_inner}
    last = _output_layers(model)
    return [
        Part(owner[id(v)], v.name, tuple(v.shape), None if last is None else id(owner[id(v)]) in last)
        for v in model.trainable_variables
    ]


def _output_layers(model):
    """Return the ids of the layers between a model's outputs and the last kernels before them; None if unknown."""
    if not getattr(model, "outputs", None):
        return None
    found, seen = set(), set()
    ahead: list = [(tensor, ()) for tensor in model.outputs]  # with the calls of nested models that it lies inside
    while ahead:
        tensor, calls = ahead.pop()
        place = (id(tensor), *map(id, calls))
        if place in seen:
            continue
        seen.add(place)
        operation, node, index = tensor._keras_history
        call = operation._inbound_nodes[node]
        if isinstance(operation, Model) and getattr(operation, "outputs", None):
            ahead.append((operation.outputs[index], (*calls, call)))
        elif calls and not call.input_tensors:  # an input of a nested model
            *outer, around = calls
            inside, given = around.operation.inputs, around.input_tensors
            same = len(inside) == len(given)
            ahead += [(g, tuple(outer)) for n, g in enumerate(given) if not same or inside[n] is tensor]
        else:
            mixes = units.mixes(operation)
            if mixes is None:
                return None
            found |= {id(layer) for layer in flat_layers(operation)} if isinstance(operation, layers.Layer) else set()
            if not mixes:
                ahead += [(given, calls) for given in call.input_tensors]
    return found


def end(model):
    """Say what a model's output went through last: "softmax", "sigmoid" or "linear"; None if the model does not say.

    Layers that only move values or act in training (Reshape, Dropout, ...) are looked through.
    """
    found = getattr(model, "outputs", None)
    if not found or len(found) != 1:
        return None
    operation, node, _ = found[0]._keras_history
    while True:
        if getattr(operation, "outputs", None):
            return end(operation)
        if not isinstance(operation, _PASSING) or not operation._inbound_nodes[node].input_tensors:
            break
        operation, node, _ = operation._inbound_nodes[node].input_tensors[0]._keras_history
    kind = type(operation)
    if not kind.__module__.startswith("keras."):
        return None
    name = getattr(getattr(operation, "activation", None), "__name__", kind.__name__.lower())  # also of keras.ops
    return name if name in ("softmax", "sigmoid", "linear") else None


_CALLS = ("keras_history", "input_layers", "output_layers")
"""Where a functional model says which layer gave a value."""


def described(model):
    """Say what a model is made of, whatever Keras called its layers this time and it was compiled with: str, JSON."""
    said = {name: value for name, value in json.loads(model.to_json()).items() if name != "compile_config"}
    parts = flat_layers(model)
    parts += [o for layer in parts for o in getattr(layer, "operations", ()) if not isinstance(o, keras.Layer)]
    numbers = {}
    for number, part in enumerate(parts):
        numbers.setdefault(part.name, str(number))
    return json.dumps(_renamed(said, numbers))


def _renamed(said, numbers, place=None):
    """Put numbers for the names of layers and operations, where Keras says names; words like them stand elsewhere."""
    if isinstance(said, dict):
        return {key: _renamed(value, numbers, place if place in _CALLS else key) for key, value in said.items()}
    if isinstance(said, list):
        return [_renamed(value, numbers, place) for value in said]
    return numbers.get(said, said) if place in ("name", *_CALLS) and isinstance(said, str) else said


def flat_layers(model):
    """List all layers of a model at every depth, each parent before its children."""
    return list(model._flatten_layers(include_self=True, recursive=True))


def outputs(model, trainable, others, x):
    """Return what a model gives in inference mode with other values in place of its variables; it is left as it is.

    Args:
        model: keras.Model, built, with one output.
        trainable, others: lists of arrays like `model.trainable_variables` and `model.non_trainable_variables`.
        x: array (examples, ...), or what a model with several inputs takes.

    Returns:
        array (examples, ...).

    Raises:
        ValueError: the model has several outputs, or cannot be called with these inputs.
    """
    with calling(model):
        found = keras.tree.flatten(model.stateless_call(trainable, others, x, **mode(model))[0])
    if len(found) != 1:
        raise ValueError(
            f"Expected a model with one output, received {model.name!r} with {len(found)}. Build one with the output "
            "that is meant: keras.Model(model.inputs, model.outputs[0])."
        )
    return found[0]


@contextlib.contextmanager
def calling(model):
    """Open a context for a call of a model, in which what Keras says of inputs that do not fit becomes a sentence."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Expected a model that can be called with some of the examples, received {model.name!r}, whose call "
            f"failed: {said(error)}. Give the inputs that model(x) takes, of any number of examples."
        ) from error


def said(error):
    """Return what an error of Keras says, in a sentence."""
    text = re.sub(r"\x1b\[[0-9]*m", "", str(error))
    lines = re.sub(r"\[\[.*\]\]", "...", text, flags=re.DOTALL).splitlines()  # the numbers of an array
    lines = [line.strip(" .-") for line in lines if line and not line.startswith("Exception encountered")]
    return "; ".join(lines[:3])[:300] or type(error).__name__


def adds_losses(model, x=None, training=False):
    """Say whether a model adds losses of its own to that of its outputs; penalties on single weights are not meant.

    Args:
        model: keras.Model, built.
        x: inputs (examples, ...). None: the model is called with zeros, if it was made with `keras.Input` of known
            shapes; of any other it is told whether it has layers that do so.
        training: bool. The mode in which it is called.
    """
    expected = symbols(model)
    if x is not None:
        one = keras.tree.map_structure(lambda a: a[:1], x)
    elif expected is not None and all(None not in symbol.shape[1:] for symbol in keras.tree.flatten(expected)):
        one = keras.tree.map_structure(lambda symbol: ops.zeros((1, *symbol.shape[1:]), symbol.dtype), expected)
    else:
        return any(layer.activity_regularizer or layer._losses or layer._loss_ids for layer in model._flatten_layers())
    with keras.StatelessScope(collect_losses=True) as scope:
        model(one, **mode(model, training))
    return bool(scope.losses)


def symbols(model):
    """Return the inputs that a model was made with, one alone or as it takes them; None of a subclassed one."""
    found = getattr(model, "_inputs_struct", None)
    found = getattr(model, "inputs", None) if found is None else found
    return found[0] if isinstance(found, (list, tuple)) and len(found) == 1 else found


def mode(model, training=False):
    """Return the arguments of a call in a mode; as in Keras, `training` where the model knows it."""
    return {"training": training} if model._call_has_training_arg else {}


def forward(model, x):
    """Run a model in inference mode; no variable of it changes, whatever its layers do."""
    trainable, others = model.trainable_variables, model.non_trainable_variables
    return outputs(model, [backend.read(v) for v in trainable], [backend.read(v) for v in others], x)


unit_labels, output_labels, column_labels = units.labels, units.output_labels, units.column_labels


def layer_labels(part):
    """Label all weights of a layer alike."""
    return np.broadcast_to(0, part.shape)


def weight_labels(part):
    """Label no two weights alike."""
    return np.broadcast_to(-1, part.shape)


def absent_labels(part):
    """Label weights that take no part."""
    return np.broadcast_to(ABSENT, part.shape)


def grouped(parts, label, across=False):
    """Give every weight of a model the id of its group.

    Args:
        parts: list of Part.
        label: callable `label(part) -> int array` of the part's shape. Equal labels in the same layer are one group,
            across its variables; labels in different layers never meet; -1: a group of its own; `ABSENT`: none.
        across: bool. Whether equal labels are one group in different layers too.

    Returns:
        list of int arrays of the parts' shapes, read-only. Ids run over the whole model from 0; -1 where there is no
        group. Where labels repeat along an axis, as those of units do, so do the ids, and take no memory.
    """
    groups, ids, count = [], {}, 0
    # Large networks have few arrays of their size to spare.
    small = sum(math.prod(part.shape) for part in parts) < 2**31
    for part in parts:
        place = None if across else id(part.layer)
        labels = np.asarray(label(part))
        distinct = once(labels)
        distinct = labels if (distinct == -1).any() else distinct
        out = np.full(distinct.shape, -1, "int32" if small else "int64")
        alone, named = distinct == -1, distinct >= 0
        number = int(np.count_nonzero(alone))
        out[alone] = np.arange(count, count + number, dtype=out.dtype)
        count += number
        present, places, _ = numbered(distinct[named])
        for key in ((place, int(value)) for value in present):
            if key not in ids:
                ids[key], count = count, count + 1
        out[named] = np.array([ids[place, int(value)] for value in present], out.dtype)[places]
        groups.append(np.broadcast_to(out, part.shape))
    return groups


def once(labels):
    """Leave out what an array only repeats along an axis, without memory of its own."""
    return labels[tuple(slice(1) if stride == 0 else slice(None) for stride in labels.strides)]


def numbered(labels):
    """Number the values of integers from 0, in ascending order.

    Args:
        labels: int array (n,).

    Returns:
        int array (values,): the values; int array (n,): the number of each label's; int array (values,): how many
        labels have it.
    """
    low, high = (int(labels.min()), int(labels.max())) if len(labels) else (0, 0)
    if high - low > 2 * len(labels) + 1000:
        return np.unique(labels, return_inverse=True, return_counts=True)
    above = labels - labels.dtype.type(low)
    counts = np.bincount(above, minlength=1)
    present = counts > 0
    places = np.cumsum(present, dtype=labels.dtype) - labels.dtype.type(1)
    return np.flatnonzero(present) + low, above if present.all() else places[above], counts[present]


def is_convolution_kernel(part):
    """Say whether the variable is the kernel of a convolution of any kind."""
    convolution = isinstance(part.layer, units.CONVOLUTIONS) or "Conv" in type(part.layer).__name__
    return convolution and part.role.endswith("kernel")


def xla(model):
    """Choose whether to compile this model's functions with XLA, by the kinds of its layers and the device."""
    return backend.enough_xla(flat_layers(model))
