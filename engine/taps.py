"""Listen to the layers of a model while it runs, from outside: what each is given and what it gives."""

import contextlib

from keras import layers

from engine import structure

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


def calls(of_layers, model, x):
    """Run one example through a model; return, for each layer, what it was called with, a list."""
    found = [[] for _ in of_layers]

    def visit(number, inputs, value):
        found[number].append(inputs)
        return value

    with tapped(of_layers, visit):
        structure.forward(model, x[:1])
    return found


def in_loop(model, layer):
    """Say whether a layer is run inside another's loop over time, where one call stands for many."""
    loops = [outer for outer in structure.flat_layers(model) if isinstance(outer, (layers.RNN, layers.TimeDistributed))]
    return any(layer is inner for outer in loops for inner in outer._flatten_layers(include_self=False))


@contextlib.contextmanager
def tapped(tapped_layers, visit, before_activation=False):
    """While open, each layer hands `visit(number, inputs, value)` its value at every call.

    `visit` returns the value to go on with. Layers are changed on the instance and put back at the end.

    Args:
        tapped_layers: list of keras.Layer. `number` is the place in this list.
        visit: callable. `inputs` is the layer's first argument, `value` what it computed.
        before_activation: bool. Whether to take a dense or convolutional layer's value before its activation.
    """
    changed = []

    def change(layer, name, value):
        changed.append((layer, name, layer.__dict__.get(name), name in layer.__dict__))
        object.__setattr__(layer, name, value)

    def tap(number, layer):
        call, given = layer.call, []
        at_activation = before_activation and type(layer) in _ACTIVATED

        def tapped_call(*args, **kwargs):
            inputs = args[0] if args else next(iter(kwargs.values()))
            given.append(inputs)
            outputs = call(*args, **kwargs)
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
