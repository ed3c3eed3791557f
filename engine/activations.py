"""What flows through a network: the inputs that each weight multiplies, and the outputs that each bias moves."""

import math
from typing import NamedTuple

import numpy as np
from keras import layers, ops

from engine import backend, chunks, local_rules, per_example, structure, taps

_ACTIVATIONS = (layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU, layers.PReLU, layers.Softmax)
_ADDED = ("bias", "beta")


class Flow(NamedTuple):
    """Sums over the examples and the places at which a weight is used, for one variable.

    Each array has the variable's shape or broadcasts to it.

    Attributes:
        absolute: array. Sum of the absolute values of what the weight multiplies.
        square: array. Sum of the squares of what the weight multiplies.
        output: array. Sum of the absolute outputs of its unit, for a weight that is added; else 0.
        uses: array. How many terms each sum has.
        added: bool. Whether the weight is added, as a bias is: then it multiplies the constant 1.
    """

    absolute: np.ndarray
    square: np.ndarray
    output: np.ndarray
    uses: np.ndarray
    added: bool


def flows(model, x, memory=chunks.MEMORY, chunk=None):
    """Watch all examples go through a model in inference mode.

    The output of a unit is what its layer gives, after the layer's own activation, or after the activation layer that
    stands directly behind it.

    Args:
        model: keras.Model, built.
        x: array (examples, ...).
        memory: int. Bound on the extra memory in bytes.
        chunk: int or None. Examples taken at once; None: as many as the memory allows, at most 500.

    Returns:
        list of Flow, in the order of `model.trainable_variables`.

    Raises:
        ValueError: a layer with weights of which it is not known what they multiply.
    """
    watcher = chunks.kept(model, ("flows", x.shape[1:]), lambda: _Watcher(model, x))
    at_once = chunk or chunks.size(model, x, memory, watcher.extra)
    totals = chunks.totals(watcher(*part) for part in chunks.of(x, np.zeros(len(x), "float32"), at_once))
    variables = model.trainable_variables
    return [Flow(*totals[4 * i : 4 * i + 4], variable.name in _ADDED) for i, variable in enumerate(variables)]


class _Watcher:
    def __init__(self, model, x):
        self._model = model
        self._owned = [(layer, [model.trainable_variables[i] for i in where]) for layer, where in taps.owners(model)]
        calls = taps.calls([layer for layer, _ in self._owned], model, x)
        self._rules = [self._rule(*owned, inputs) for owned, inputs in zip(self._owned, calls, strict=True)]
        self.extra = 2 * max(
            math.prod(getattr(layer, "kernel_size", (1,))) * math.prod(inputs[0].shape[1:])
            for (layer, _), inputs in zip(self._owned, calls, strict=True)
        )
        self._function = backend.compiled(self._sum_chunk, xla=structure.xla(model))

    def __call__(self, x, y, counts):
        return self._function(*chunks.values(self._model), x, counts)

    def _rule(self, layer, variables, calls):
        found = None
        if calls and not taps.in_loop(self._model, layer):
            found = local_rules.kind(layer, calls[0], variables)
        if found is None:
            raise ValueError(
                f"Expected layers of which it is known what their weights multiply (Dense, EinsumDense, convolutions, "
                f"Embedding, BatchNormalization, LayerNormalization, and what is made of them), received "
                f"{layer.path!r}, a {type(layer).__name__}. Use a measure of gradients, such as 'fisher' or 'taylor'."
            )
        return found

    def _watch(self, trainable, others, x):
        """Return, for each layer with weights, a list of (inputs, outputs of its units), one a call."""
        followers = [layer for layer in structure.flat_layers(self._model) if isinstance(layer, _ACTIVATIONS)]
        seen = [[] for _ in self._owned]
        last = []  # the value given last, and where it is kept

        def visit(number, inputs, value):
            if number < len(self._owned):
                seen[number].append((inputs, value))
                last[:] = [value, seen[number]]
            elif last and inputs is last[0]:
                last[1][-1] = (last[1][-1][0], value)
            return value

        with taps.tapped([*(layer for layer, _ in self._owned), *followers], visit):
            self._model.stateless_call(trainable, others, x, training=False)
        return seen

    def _sum_chunk(self, trainable, others, x, counts):
        def counted(function):
            return lambda a: function(a) * ops.reshape(counts, (-1,) + (1,) * (len(a.shape) - 1))

        totals = {}
        watched = self._watch(trainable, others, x)
        for (layer, variables), rule, calls in zip(self._owned, self._rules, watched, strict=True):
            held = per_example.buffers(self._model, layer, others)
            for inputs, outputs in calls:
                inputs = inputs if rule == "embedding" else ops.cast(inputs, "float32")
                absolute, square, uses = (
                    local_rules.INPUTS[rule](layer, variables, held, inputs, outputs.shape, counted(function))
                    for function in (ops.abs, ops.square, ops.ones_like)
                )
                outputs = ops.cast(outputs, "float32")
                for v in variables:
                    if v.name in _ADDED:
                        ones, output = (_onto(counted(f)(outputs), v.shape) for f in (ops.ones_like, ops.abs))
                        sums = [ones, ones, output, ones]
                    else:
                        sums = [absolute[v.name], square[v.name], ops.zeros(()), uses[v.name]]
                    before = totals.get(id(v), [0.0] * 4)
                    totals[id(v)] = [a + b for a, b in zip(before, sums, strict=True)]
        return [total for v in self._model.trainable_variables for total in totals[id(v)]]


def _onto(values, shape):
    """Sum (examples, ...) over everything that a variable broadcast to it has not."""
    rank = len(values.shape)
    aligned = (1,) * (rank - len(shape)) + tuple(shape)
    shared = [axis for axis in range(rank) if axis == 0 or aligned[axis] == 1]
    return ops.reshape(ops.sum(values, axis=shared), shape)
