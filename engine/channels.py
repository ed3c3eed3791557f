"""Follow the channels of a model through its graph: which weights make each of them, and which read it.

A channel is what can be taken out of a network as a whole: a unit or filter with its bias, the gamma and beta of the
normalisations behind it, its kernel in depthwise layers, and every channel that something ties to it, such as a
residual addition. The weights that read it, such as the rows of the next kernel, belong to the channels that these
make; they go with it where the network becomes smaller.

What each kind of layer does is said in `engine.channel_rules`.
"""

import inspect
from typing import NamedTuple

import keras
import numpy as np
from keras.src.models.functional import Functional  # which has no public name
from scipy import sparse

from engine import channel_rules, structure
from engine.channel_rules import FIXED, Flow, Unknown


class Call(NamedTuple):
    """A call of a layer, model or operation.

    Attributes:
        operation: keras.Operation.
        arguments: dict from the names of its arguments to what was given, with a Flow for each tensor.
        made: list of Flow, its outputs.
        inside: list of Call: those of a model's layers, or of what a wrapper wraps.
    """

    operation: object
    arguments: dict
    made: list
    inside: list


class Channels(NamedTuple):
    """The channels of a model, numbered from 0 in the order of the first weights that make them.

    Attributes:
        made: list of int arrays, read-only, like `model.weights`: the channel that a weight helps to make, and is part
            of; `structure.ABSENT` if it is part of none that may go.
        read: list of int arrays likewise: the channel whose values a weight is multiplied with; `structure.ABSENT` if
            that is none that may go. What remains without channel c is the weights that neither make nor read it.
        differs: list of tuples of str, one for each channel: the paths of the layers and names of the operations at
            which a channel whose weights are all zero is something else than a channel that is not there, for it
            changes the others (a LayerNormalization, grouped filters) or is read as a constant (a sigmoid). Where this
            is empty, the network without the channel gives what the network with zeros in its place gives.
        calls: list of Call, in the order of the graph, whose flows have the channel of each place as their labels;
            `structure.ABSENT` where that is none that may go.
    """

    made: list
    read: list
    differs: list
    calls: list


def follow(model):
    """Find the channels of a model.

    Args:
        model: keras.Model, built: a Sequential or functional one, which may contain others.

    Returns:
        Channels.

    Raises:
        ValueError: a model that is written as a subclass, or a layer or operation of which it is not known what it does
            to channels; names it and says what to do.
    """
    structure.parts(model)  # says what is wrong with a model that has no weights yet
    walk, outputs = walked(model)
    for flow in outputs:
        walk.tie(flow.labels, FIXED)
    return walk.result()


def walked(model):
    """Walk a model's graph: return the Walk, and the flows of the outputs."""
    walk, inputs = Walk(model.weights), getattr(model, "inputs", None) or ()
    return walk, walk.through(model, [channel_rules.fixed(walk.shape(symbol)) for symbol in inputs])


class Walk:
    """What is known so far of a model's channels, while its graph is walked.

    Args:
        weights: list of keras.Variable.

    Attributes:
        calls: list of Call, so far; the labels of their flows are not joined yet.
        unknown: list of str. Symbols with lengths that are not known, but for that of the examples.
    """

    def __init__(self, weights):
        self.calls, self.unknown = [], []
        self._weights, self._places = weights, {id(v): place for place, v in enumerate(weights)}
        self._made, self._read = [None] * len(weights), [None] * len(weights)
        self._ties, self._differs, self._new, self._count = [], [], {}, FIXED + 1

    # What rules say

    def new(self, layer, count):
        """Return the channels that a layer makes, int array (count,): the same ones each time that it is called."""
        if id(layer) not in self._new:
            self._new[id(layer)] = np.arange(self._count, self._count + count)
            self._count += count
        return self._new[id(layer)]

    def tie(self, *labels):
        """Let channels at the same places stand or fall together; return the first labels, broadcast."""
        first, *others = np.broadcast_arrays(*labels)
        self._ties += [np.unique(np.stack([first.ravel(), other.ravel()]), axis=1) for other in others]
        return first

    def along(self, flow, *axes):
        """Return the labels along some axes of a flow, an array of these axes alone; ties what differs elsewhere."""
        labels, kept = flow.labels, {axis % len(flow.shape) for axis in axes}
        for axis, length in enumerate(labels.shape):
            if axis not in kept and length > 1:
                labels = self.tie(labels.take([0], axis), labels).take([0], axis)
        lengths = [length if axis in kept else 1 for axis, length in enumerate(flow.shape)]
        return np.broadcast_to(labels, lengths).reshape([flow.shape[axis] for axis in sorted(kept)])

    def makes(self, variable, labels):
        """Say which channels a variable helps to make: labels that broadcast to its shape."""
        self._put(self._made, variable, labels)

    def reads(self, variable, labels, flow):
        """Say which channels of a flow a variable is multiplied with: labels that broadcast to its shape."""
        self._put(self._read, variable, labels)
        for name in flow.constant:
            self.differ(labels, name)

    def differ(self, labels, name):
        """Say where a channel that is zero is something else than one that is not there."""
        self._differs.append((np.unique(labels), name))

    def _put(self, where, variable, labels):
        place = self._places.get(id(variable))
        if place is None:
            raise Unknown("with a weight that is computed of others")
        labels = np.broadcast_to(labels, variable.shape)
        where[place] = labels if where[place] is None else self.tie(where[place], labels)

    # The graph

    def shape(self, symbol):
        """Return the shape of a symbol without the examples, 1 for lengths that are not known."""
        self.unknown += [symbol.name] if None in symbol.shape[1:] else []
        return tuple(1 if length is None else length for length in symbol.shape[1:])

    def through(self, model, flows):
        """Follow flows through a model or a part of it: list of Flow, its outputs."""
        graph = model
        if type(model).call is keras.Sequential.call:
            graph = model._functional
        elif type(model).call is not Functional.call:
            raise ValueError(
                f"Expected a Sequential or functional model, whose graph says where channels go, received "
                f"{model.name!r}, a {type(model).__name__} with a call of its own. Build it with keras.Model(inputs, "
                "outputs), or use the level 'unit' or 'weight'."
            )
        found = {id(symbol): flow for symbol, flow in zip(graph._inputs, flows, strict=True)}
        for depth in sorted(graph._nodes_by_depth, reverse=True):
            for node in graph._nodes_by_depth[depth]:
                if not node.is_input:
                    args, kwargs = node.arguments.fill_in(found)
                    made = self.call(node.operation, [self.shape(symbol) for symbol in node.outputs], args, kwargs)
                    found |= {id(symbol): flow for symbol, flow in zip(node.outputs, made, strict=True)}
        return [found[id(symbol)] for symbol in graph._outputs]

    def call(self, operation, shapes, args, kwargs):
        """Follow flows through a call of a layer or operation: list of Flow, one for each of `shapes`."""
        before, self.calls = self.calls, []
        given = [value for value in keras.tree.flatten([args, kwargs]) if isinstance(value, Flow)]
        if isinstance(operation, keras.Model):
            arguments, made = {"inputs": given}, self.through(operation, given)
        else:
            bound = inspect.signature(operation.call).bind(*args, **kwargs)
            bound.apply_defaults()
            arguments, made = bound.arguments, self._by_rule(operation, shapes, given, bound)
        self.calls = [*before, Call(operation, dict(arguments), made, self.calls)]
        return made

    def _by_rule(self, operation, shapes, given, bound):
        for argument, value in bound.arguments.items():
            if "mask" in argument and isinstance(value, Flow):
                self.tie(value.labels, FIXED)
        try:
            made = channel_rules.rule(operation)(self, operation, shapes, *bound.args)
            if len(made) != len(shapes) or not all(_fits(*pair) for pair in zip(made, shapes, strict=True)):
                raise Unknown("that changes the number of channels")
        except Unknown as error:
            if not getattr(operation, "weights", ()) and not any(flow.labels.any() for flow in given):
                return [channel_rules.fixed(shape) for shape in shapes]  # made of the inputs alone
            raise ValueError(
                "Expected layers of Keras and operations of keras.ops of which it is known what they do to channels, "
                f"received {channel_rules.name(operation)!r}, a {' '.join([type(operation).__name__, *error.args])}. "
                "Build the model of such layers, or use the level 'unit' or 'weight', which look at one layer at a "
                "time."
            ) from error
        return made

    def result(self):
        """Join what is tied, and number the channels: Channels."""
        self._check_all_known()
        for variable, labels in zip(self._weights, self._made, strict=True):
            if labels is not None and not variable.trainable and variable.name not in channel_rules.STATISTICS:
                self.tie(labels, FIXED)  # what is frozen cannot be taken away
        pairs = np.concatenate([*self._ties, np.full((2, 1), FIXED)], axis=1)
        links = sparse.coo_matrix((np.ones(pairs.shape[1], bool), pairs), (self._count, self._count))
        _, joined = sparse.csgraph.connected_components(links, directed=False)
        numbers, count = np.full(self._count, structure.ABSENT), 0
        for labels in (labels for labels in self._made if labels is not None):
            present, first = np.unique(joined[structure.once(labels)], return_index=True)
            for group in present[np.argsort(first)]:
                if group != joined[FIXED] and numbers[group] < 0:
                    numbers[group], count = count, count + 1
        number = numbers[joined]
        differs = [{} for _ in range(count)]
        for labels, name in self._differs:
            for channel in np.unique(number[labels]):
                if channel >= 0:
                    differs[channel][name] = None
        made, read = (
            [self._of_weight(*pair, number) for pair in enumerate(known)] for known in (self._made, self._read)
        )
        return Channels(made, read, [tuple(names) for names in differs], _numbered(self.calls, number))

    def _of_weight(self, place, labels, number):
        shape = self._weights[place].shape
        return np.broadcast_to(number[FIXED if labels is None else structure.once(labels)], shape)

    def _check_all_known(self):
        for variable, made, read in zip(self._weights, self._made, self._read, strict=True):
            if variable.trainable and made is None and read is None:
                raise ValueError(
                    f"Expected weights of which it is known what they do to channels, received {variable.path!r}, "
                    "which is none that its kind of layer has. Use the level 'unit' or 'weight'."
                )


def _numbered(calls, number):
    """Put the numbers of channels in place of the labels of calls."""

    def own(value):
        return Flow(number[value.labels], value.shape, value.constant) if isinstance(value, Flow) else value

    return [
        Call(operation, keras.tree.map_structure(own, arguments), list(map(own, made)), _numbered(inside, number))
        for operation, arguments, made, inside in calls
    ]


def _fits(flow, shape):
    lengths = flow.labels.shape
    return len(lengths) == len(shape) and all(a in (1, b) for a, b in zip(lengths, shape, strict=True))
