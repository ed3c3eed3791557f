"""Listen to the layers of a model while it runs, from outside: what each is given and what it gives."""

import contextlib
from typing import NamedTuple

import keras
from keras import layers

from engine import backend, examples, structure

_CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D, layers.DepthwiseConv1D, layers.DepthwiseConv2D)
_ACTIVATED = (layers.Dense, layers.EinsumDense, *_CONVOLUTIONS)


def owners(model):
    """List the layers that own trainable weights, each with the places of its weights.

    Returns:
        list of (keras.Layer, list of int): positions in `model.trainable_variables`.
    """
    found = {}
    for index, part in enumerate(structure.parts(model)):
        found.setdefault(id(part.layer), (part.layer, []))[1].append(index)
    return list(found.values())


class Use(NamedTuple):
    """How a model uses a layer that owns trainable weights.

    Attributes:
        layer: keras.Layer.
        indices: list of int. The places of its weights in `model.trainable_variables`.
        calls: list of arrays (1, ...). What it is called with on one example, an entry a call.
        elsewhere: bool. Whether a weight of it is read outside of these calls, as tied embeddings are.
        looped: bool. Whether it is called in a loop, such as that of a recurrent layer, where one call stands for many.
    """

    layer: layers.Layer
    indices: list
    calls: list
    elsewhere: bool
    looped: bool

    @property
    def by_example(self):
        """Whether the first axis of all that it is called with is that of the examples."""
        return all(hasattr(inputs, "shape") and tuple(inputs.shape[:1]) == (1,) for inputs in self.calls)


def uses(model, x):
    """Run one example through a model and watch its weights: a list of Use."""
    owned = owners(model)
    own = {id(model.trainable_variables[i]): layer for layer, indices in owned for i in indices}
    found, elsewhere, running = [[] for _ in owned], set(), []
    loops = [outer for outer in structure.flat_layers(model) if isinstance(outer, (layers.RNN, layers.TimeDistributed))]
    looped = {id(inner) for outer in loops for inner in outer._flatten_layers(include_self=False)}

    def visit(number, inputs, value):
        found[number].append(inputs)
        if backend.is_symbolic(value):
            looped.add(id(owned[number][0]))
        return value

    def read(variable):
        layer = own.get(id(variable))
        if layer is not None and not (running and running[-1] is layer):
            elsewhere.add(id(layer))

    tapping = tapped([layer for layer, _ in owned], visit, running=running)
    with tapping, _Reading(model, read), structure.calling(model):
        model(examples.take(x, slice(1)), **structure.mode(model))
    return [
        Use(layer, indices, calls, id(layer) in elsewhere, id(layer) in looped)
        for (layer, indices), calls in zip(owned, found, strict=True)
    ]


class _Reading(keras.StatelessScope):
    """A scope in which no variable changes, and `read(variable)` is called whenever one is read."""

    def __init__(self, model, read):
        super().__init__([(v, backend.read(v)) for v in model.variables])
        self._read = read

    def get_current_value(self, variable):
        self._read(variable)
        return super().get_current_value(variable)


def calls(layer, model, x):
    """Run one example through a model; return what a layer of it was called with, a list."""
    found = []

    def visit(_, inputs, value):
        found.append(inputs)
        return value

    with tapped([layer], visit):
        structure.forward(model, examples.take(x, slice(1)))
    return found


@contextlib.contextmanager
def tapped(tapped_layers, visit, before_activation=False, running=None):
    """While open, each layer hands `visit(number, inputs, value)` its value at every call.

    `visit` returns the value to go on with. Layers are changed on the instance and put back at the end.

    Args:
        tapped_layers: list of keras.Layer. `number` is the place in this list.
        visit: callable. `inputs` is the layer's first argument, `value` what it computed.
        before_activation: bool. Whether to take a dense or convolutional layer's value before its activation.
        running: list or None. Holds the layers that are being called, the innermost last.
    """
    changed, running = [], [] if running is None else running

    def change(layer, name, value):
        changed.append((layer, name, layer.__dict__.get(name), name in layer.__dict__))
        object.__setattr__(layer, name, value)

    def tap(number, layer):
        call, given = layer.call, []
        at_activation = before_activation and type(layer) in _ACTIVATED

        def tapped_call(*args, **kwargs):
            inputs = args[0] if args else next(iter(kwargs.values()))
            given.append(inputs)
            running.append(layer)
            outputs = call(*args, **kwargs)
            running.pop()
            return outputs if at_activation or not hasattr(outputs, "shape") else visit(number, inputs, outputs)

        if at_activation:
            activation = layer.activation
            change(layer, "activation", lambda value: activation(visit(number, given[-1], value)))
        change(layer, "call", tapped_call)

    try:
        for number, layer in enumerate(tapped_layers):
            tap(number, layer)
        yield
    finally:
        for layer, name, value, own in reversed(changed):
            if own:
                object.__setattr__(layer, name, value)
            else:
                object.__delattr__(layer, name)
