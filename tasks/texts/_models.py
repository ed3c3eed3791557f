"""Causal language models as Keras models from tokens to logits."""

import inspect
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from keras import layers, ops

from engine import checks


class Language(NamedTuple):
    """A way to write text as tokens, and a model of it.

    Attributes:
        name: str.
        vocabulary: int. How many tokens there are.
        encode: callable. From str to a list or array of int.
        build: callable. From the length of a sequence to a keras.Model: int32 tokens (sequences, length) to logits
            (sequences, length, vocabulary) of the token that comes next.
        pretrained: bool. Whether the model comes trained.
        longest: int or None. The longest sequence that there can be a model for; None: any.
    """

    name: str
    vocabulary: int
    encode: object
    build: object
    pretrained: bool
    longest: int | None = None

    def check(self, length):
        """Raise a ValueError if sequences are longer than a model takes."""
        if self.longest is not None and length > self.longest:
            raise ValueError(
                f"Expected sequences of at most {self.longest} tokens for {self.name!r}, received "
                f"sequence_length={length}."
            )


def language(model="gpt", **options):
    """Return a language model by its name.

    Args:
        model: str or path. "gpt", a small one on bytes; else a GPT-2 preset of KerasHub, its name or its folder.
        **options: of `gpt`.

    Returns:
        Language.

    Raises:
        ImportError: a preset, and KerasHub is not installed.
        ValueError: a folder that holds no preset; options that a preset does not have.
    """
    options = check_options(model, options)
    if model == "gpt":
        return Language("gpt", 256, _bytes, lambda length: gpt(length, **options), pretrained=False)
    return _preset(str(model))


def check_options(model, options):
    """Return the options of a language model, each in its one form.

    Raises:
        ValueError: options that it does not have, or values that they cannot have.
    """
    if model != "gpt":
        if options:
            raise ValueError(f"Expected no options for the preset {str(model)!r}, received {', '.join(options)}.")
        return {}
    options = checks.options("the model 'gpt'", gpt, options, leaving=1)
    defaults = inspect.signature(gpt).parameters
    width, heads = (options.get(name, defaults[name].default) for name in ("width", "heads"))
    if width < heads:
        raise ValueError(f"Expected a width of at least the number of heads, received width={width}, heads={heads}.")
    return options


def gpt(length, blocks=2, width=128, heads=4, vocabulary: checks.whole(256) = 256):
    """Build a small GPT: pre-normalised blocks of causal attention and a fourfold dense layer.

    Args:
        length: int. Of the sequences.
        blocks: int.
        width: int.
        heads: int.
        vocabulary: int.

    Returns:
        keras.Model, with 478,976 weights by default and for 128 tokens.

    References:
        Radford et al., "Language models are unsupervised multitask learners", 2019.
    """
    tokens = keras.Input((length,), dtype="int32", name="tokens")
    places = ops.cumsum(ops.ones_like(tokens), axis=1) - 1
    hidden = layers.Embedding(vocabulary, width, name="token_embedding")(tokens)
    hidden = hidden + layers.Embedding(length, width, name="position_embedding")(places)
    for number in range(1, blocks + 1):
        normal = layers.LayerNormalization(name=f"attention_norm_{number}")(hidden)
        attention = layers.MultiHeadAttention(heads, width // heads, name=f"attention_{number}")
        hidden = hidden + attention(normal, normal, use_causal_mask=True)
        inner = layers.LayerNormalization(name=f"dense_norm_{number}")(hidden)
        inner = layers.Dense(4 * width, activation="gelu", name=f"dense_in_{number}")(inner)
        hidden = hidden + layers.Dense(width, name=f"dense_out_{number}")(inner)
    hidden = layers.LayerNormalization(name="last_norm")(hidden)
    return keras.Model(tokens, layers.Dense(vocabulary, name="output")(hidden), name="gpt")


def one_position(model):
    """Let a language model answer at one place of a sequence, so that a token is an example, not a sequence.

    Args:
        model: keras.Model. From tokens (sequences, length) to logits (sequences, length, vocabulary).

    Returns:
        keras.Model with the same weights in the same order: from int32 (examples, 1 + length), the place (from 0)
        before the tokens, to the logits there (examples, vocabulary).
    """
    length = model.input_shape[1]
    given = keras.Input((1 + length,), dtype="int32", name="place_and_tokens")
    logits = model(given[:, 1:])
    there = ops.take_along_axis(logits, given[:, :1, None], axis=1)
    return keras.Model(given, ops.squeeze(there, axis=1), name=f"{model.name}_at_one_position")


def _bytes(text):
    return np.frombuffer(text.encode(), "uint8")


def _preset(name):
    try:
        import keras_hub
    except ImportError as error:
        raise ImportError(
            f"Expected KerasHub to be installed for the language model {name!r}, found no such package. Do pip install "
            "-r requirements-hub.txt, or use model='gpt'."
        ) from error
    if Path(name).is_dir() and not Path(name, "config.json").is_file():
        raise ValueError(
            f"Expected a folder with a preset of KerasHub (config.json, tokenizer.json, weights), received {name}, "
            "which has no config.json. Write one with model.save_to_preset(folder)."
        )
    try:
        # Importances are sums of squares of small numbers: half precision would lose most of them.
        whole = keras_hub.models.GPT2CausalLM.from_preset(name, dtype="float32")
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(
            f"Expected the name or the folder of a GPT-2 preset of KerasHub, received {name!r}: {error}"
        ) from error

    def build(length):
        found.check(length)
        tokens = keras.Input((length,), dtype="int32", name="tokens")
        backbone = type(whole.backbone).from_config(whole.backbone.get_config())
        backbone.set_weights(whole.backbone.get_weights())
        hidden = backbone({"token_ids": tokens, "padding_mask": ops.ones_like(tokens)})
        return keras.Model(tokens, backbone.token_embedding(hidden, reverse=True), name=_plain(name))

    tokenizer = whole.preprocessor.tokenizer
    encode = lambda text: np.asarray(tokenizer(text))  # noqa: E731
    longest = whole.backbone.max_sequence_length
    found = Language(_plain(name), tokenizer.vocabulary_size(), encode, build, pretrained=True, longest=longest)
    return found


def _plain(name):
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in Path(name).name)
