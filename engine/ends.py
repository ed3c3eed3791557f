"""The end of a classifier: a softmax or sigmoid that makes probabilities of its logits, and the network without it."""

import keras
from keras import layers

from engine import backend, losses, structure


def as_logits(model, loss, own=False):
    """Take a softmax or sigmoid off a network that its loss takes for probabilities.

    The two give the same loss but for rounding, and for the limit of 1e-7 that Keras sets to probabilities.

    Args:
        model: keras.Model, built, with one output.
        loss: keras.losses.Loss.
        own: bool. Whether the model may be changed; it is the user's otherwise, and a changed layer is one of its own,
            with the same weights.

    Returns:
        model: keras.Model that gives logits; the same one, if its loss takes what it gives for anything else.
        loss: keras.losses.Loss, which takes them.
        end: str. What was taken off: "softmax" or "sigmoid"; None: nothing was.

    Raises:
        ValueError: the loss takes outputs for probabilities, and they do not come from such a last layer.
    """
    if losses.from_logits(loss) or "from_logits" not in loss.get_config():
        return model, loss, None
    end = structure.end(model)
    last, node = _origin(model)
    alone = isinstance(last, (layers.Softmax, layers.Activation))
    if end not in ("softmax", "sigmoid") or not (alone or getattr(last, "activation", None) is not None):
        raise ValueError(
            f"Expected a network that gives logits, or one whose last layer is a softmax or sigmoid, which is taken "
            f"off; received {model.name!r}, whose outputs {type(loss).__name__} takes for probabilities and whose last "
            f"layer is {'not known' if last is None else type(last).__name__}. Build it to end with logits, and pass a "
            "loss with from_logits=True."
        )
    given, symbols = last._inbound_nodes[node].input_tensors[0], structure.symbols(model)
    if alone:
        model = keras.Model(symbols, given, name=model.name)
    elif own:
        last.activation = keras.activations.linear  # and its variables remain those that an optimizer knows
        model = keras.Model(symbols, model.outputs[0], name=model.name)
    else:
        linear = type(last).from_config({**last.get_config(), "activation": "linear"})
        model = keras.Model(symbols, linear(given), name=model.name)
        backend.assign(linear.weights, [backend.copied(v) for v in last.weights])
    return model, type(loss).from_config({**loss.get_config(), "from_logits": True}), end


def _origin(model):
    """Return the operation that a model's output comes from, and at which of its calls; None of a subclassed model."""
    return model.outputs[0]._keras_history[:2] if getattr(model, "outputs", None) else (None, None)
