"""What flows through a network: the inputs that each weight multiplies, and the outputs that each bias moves."""

import math
from typing import NamedTuple

import numpy as np
from keras import layers, ops

from engine import backend, chunks, examples, local_rules, per_example, structure, taps

_ACTIVATIONS = (layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU, layers.PReLU, layers.Softmax)
_ADDED = ("bias", "beta")


class Flow(NamedTuple):
    """Sums over the examples and the places at which a weight is used, for one variable.

    Each array has the variable's shape or broadcasts to it.

    Attributes:
        absolute: array. Sum of the absolute values of what the weight multiplies.
        square: array. Sum of the squares of what the weight multiplies.
        signed: array. Sum of what the weight multiplies.
        output: array. Sum of the absolute outputs of its unit, for a weight that is added; else 0.
        uses: array. How many terms each sum has.
        added: bool. Whether the weight is added, as a bias is: then it multiplies the constant 1.
    """

    absolute: np.ndarray
    square: np.ndarray
    signed: np.ndarray
    output: np.ndarray
    uses: np.ndarray
    added: bool


def flows(model, x, memory=chunks.MEMORY, chunk=None):
    """Watch all examples go through a model in inference mode.

    The output of a unit is what its layer gives, after the layer's own activation, or after the activation layer that
    stands directly behind it, if there is one and no other.

    Args:
        model: keras.Model, built.
        x: array (examples, ...), or a dict or list of them.
        memory: int. Bound on the extra memory in bytes.
        chunk: int or None. Examples taken at once; None: as many as the memory allows, at most 500.

    Returns:
        list of Flow, in the order of `model.trainable_variables`.

    Raises:
        ValueError: a layer with weights of which it is not known what they multiply.
    """
    watcher = _watcher(model, x)
    at_once = chunk or chunks.size(model, x, memory, watcher.extra)
    nothing = np.zeros(examples.count(x), "float32")
    totals = chunks.totals(watcher(*part) for part in chunks.of(x, nothing, at_once))
    variables = model.trainable_variables
    return [Flow._make([*totals[5 * i : 5 * i + 5], variable.name in _ADDED]) for i, variable in enumerate(variables)]


def products(model, x, memory=chunks.MEMORY, chunk=None):
    """Sum, for each kernel, the products of the inputs that meet in one output, over the examples and places.

    Args:
        model, x, memory, chunk: as for `flows`. The products themselves, inputs squared for a layer, come on top.

    Returns:
        list in the order of `model.trainable_variables`: float64 arrays (blocks, inputs, inputs), X^T X with blocks and
        inputs as in `views`; None for a variable of which no two inputs meet, as in an embedding or a bias.

    Raises:
        ValueError: as `flows`.
    """
    watcher = _watcher(model, x)
    at_once = chunk or chunks.size(model, x, memory, 3 * watcher.extra)  # in float64, and once more as it is made
    totals = [None] * len(model.trainable_variables)
    for x_, _, counts in chunks.of(x, np.zeros(examples.count(x)), at_once):
        for place, found in watcher.products(x_, int(np.sum(np.asarray(counts)))):
            totals[place] = found if totals[place] is None else totals[place] + found
    return totals


def views(model, x):
    """Return the `local_rules.View` of each variable, in the order of `model.trainable_variables`.

    Raises:
        ValueError: as `flows`.
    """
    return _watcher(model, x).views()


def _watcher(model, x):
    return chunks.kept(model, ("flows", examples.signature(x)), lambda: _Watcher(model, x))


class _Watcher:
    def __init__(self, model, x):
        self._model = model
        uses = taps.uses(model, x)
        self._owned = [(use.layer, [model.trainable_variables[i] for i in use.indices]) for use in uses]
        self._places = [use.indices for use in uses]
        self._calls = [len(use.calls) for use in uses]
        self._rules = [self._rule(use, variables) for use, (_, variables) in zip(uses, self._owned, strict=True)]
        self._ranks = [len(use.calls[0].shape) for use in uses]
        self.extra = 2 * max(
            math.prod(getattr(use.layer, "kernel_size", (1,))) * math.prod(use.calls[0].shape[1:]) for use in uses
        )
        self._function = backend.compiled(self._sum_chunk, xla=structure.xla(model))
        self._given = backend.compiled(self._inputs_of_chunk, xla=structure.xla(model))

    def __call__(self, x, y, counts):
        return self._function(*chunks.values(self._model), x, counts)

    def products(self, x, count):
        """Yield (place of a kernel, its products of inputs) for the first `count` examples."""
        given = self._given(*chunks.values(self._model), x)
        for (layer, variables), places, rule, calls in zip(self._owned, self._places, self._rules, given, strict=True):
            names = [v.name for v in variables]
            if calls:
                patches = [local_rules.patches(rule, layer, backend.to_numpy(a)[:count]) for a in calls]
                yield places[names.index("kernel")], sum(map(_squares, patches))

    def views(self):
        """Return a View for each variable, in the order of the model's."""
        found = {}
        for (layer, variables), places, rule, rank in zip(
            self._owned, self._places, self._rules, self._ranks, strict=True
        ):
            found |= {place: local_rules.view(rule, layer, v, rank) for place, v in zip(places, variables, strict=True)}
        return [found[place] for place in sorted(found)]

    def _inputs_of_chunk(self, trainable, others, x):
        """Return, for each layer whose kernel's inputs meet in outputs, what it is called with."""
        watched = self._watch(trainable, others, x)
        return [
            [ops.cast(inputs, "float32") for inputs, _ in calls] if rule in ("linear", "convolution") else []
            for rule, calls in zip(self._rules, watched, strict=True)
        ]

    def _rule(self, use, variables):
        layer, found = use.layer, None
        if use.elsewhere and not use.looped:
            raise ValueError(
                f"Expected weights that multiply what their own layer is given, received {layer.path!r}, a "
                f"{type(layer).__name__} with a weight that something else uses too, as tied embeddings are. Use a "
                "measure of gradients, such as 'fisher' or 'taylor'."
            )
        if use.calls and use.by_example and not use.looped:
            found = local_rules.kind(layer, use.calls[0], variables)
        if found is None:
            called = "" if use.calls else " that is never called, or gives no single array"
            called = called if use.by_example else " that is called with something else than examples on its first axis"
            raise _unknown(layer, " in a loop" if use.looped else called)
        return found

    def _watch(self, trainable, others, x):
        """Return, for each layer with weights, a list of (inputs, outputs of its units), one a call."""
        followers = [layer for layer in structure.flat_layers(self._model) if isinstance(layer, _ACTIVATIONS)]
        seen = [[] for _ in self._owned]  # of each layer, a list of [inputs, value, what follows it], one a call

        def visit(number, inputs, value):
            if number < len(self._owned):
                seen[number].append([inputs, value, []])
            else:
                for call in (call for of_layer in seen for call in of_layer if call[1] is inputs):
                    call[2].append(value)
            return value

        with taps.tapped([*(layer for layer, _ in self._owned), *followers], visit):
            structure.outputs(self._model, trainable, others, x)
        for (layer, _), calls, expected in zip(self._owned, seen, self._calls, strict=True):
            if len(calls) != expected:  # what is compiled holds a loop's body once
                raise _unknown(layer, " in a loop")
        return [[(i, follows[0] if len(follows) == 1 else value) for i, value, follows in calls] for calls in seen]

    def _sum_chunk(self, trainable, others, x, counts):
        def counted(function):
            return lambda a: function(a) * ops.reshape(counts, (-1,) + (1,) * (len(a.shape) - 1))

        totals = {}
        watched = self._watch(trainable, others, x)
        for (layer, variables), rule, calls in zip(self._owned, self._rules, watched, strict=True):
            held = per_example.buffers(self._model, layer, others)
            for inputs, outputs in calls:
                inputs = inputs if rule == "embedding" else ops.cast(inputs, "float32")
                absolute, square, signed, uses = (
                    local_rules.INPUTS[rule](layer, variables, held, inputs, outputs.shape, counted(function))
                    for function in (ops.abs, ops.square, lambda a: a, ops.ones_like)
                )
                outputs = ops.cast(outputs, "float32")
                for v in variables:
                    if v.name in _ADDED:
                        ones, output = (_onto(counted(f)(outputs), v.shape) for f in (ops.ones_like, ops.abs))
                        sums = [ones, ones, ones, output, ones]
                    else:
                        sums = [absolute[v.name], square[v.name], signed[v.name], ops.zeros(()), uses[v.name]]
                    before = totals.get(id(v), [0.0] * 5)
                    totals[id(v)] = [a + b for a, b in zip(before, sums, strict=True)]
        return [total for v in self._model.trainable_variables for total in totals[id(v)]]


def _squares(patches):
    """Return X^T X of each block of (blocks, rows, inputs), in float64: float32 loses what its inverse needs."""
    return np.stack([block.T @ block for block in patches.astype("float64")])


def _unknown(layer, how):
    return ValueError(
        "Expected layers of which it is known what their weights multiply (Dense, EinsumDense, convolutions, "
        "Embedding, BatchNormalization, LayerNormalization, and what is made of them), received "
        f"{layer.path!r}, a {type(layer).__name__}{how}. Use a measure of gradients, such as 'fisher' or 'taylor'."
    )


def _onto(values, shape):
    """Sum (examples, ...) over everything that a variable broadcast to it has not."""
    rank = len(values.shape)
    aligned = (1,) * (rank - len(shape)) + tuple(shape)
    shared = [axis for axis in range(rank) if axis == 0 or aligned[axis] == 1]
    return ops.reshape(ops.sum(values, axis=shared), shape)
