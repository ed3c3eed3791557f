"""What an entry of the zoo is. The zoo has a small network of every make that people bring, in `zoo_layers` by what
they are made of and in `zoo_models` by how they are put together and what they are trained for.

An entry says which measures have no right number for it and must be refused (`refused`), and which may be refused
though the plain loop has a number (`refusable`). Everything else has to agree with `plain_zoo`.
"""

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
from keras import losses

EXAMPLES = 5

FLOWS = frozenset({"signal", "wanda", "ria", "obs_layer", "variance"})  # need to know what each weight multiplies
OF_LABELS = frozenset({"fisher_reversed", "lrp"})  # need the logits behind a label
BELIEFS = OF_LABELS | {"fisher", "fisher_sampled", "fisher_argmax", "obd", "expected_rise"}  # a log-probability
EXACT = frozenset({"fisher", "obd", "expected_rise", "lrp"})  # cost a pass for each place, or want one label
ARGMAX = OF_LABELS | {"fisher_argmax"}  # mean nothing for a regression
UNITS = frozenset({"deletion"})  # needs to know which weights make up a unit
OF_LOSS = frozenset({"fisher_empirical", "fisher_batched", "taylor", "snip", "hessian", "deletion", "obs"})

CLASSES = losses.SparseCategoricalCrossentropy(from_logits=True)


class Entry(NamedTuple):
    """A network and what it is scored with.

    Attributes:
        name: str.
        make: callable. Gives the keras.Model.
        x: array (examples, ...), or a list or dict of them.
        y: array (examples, ...).
        loss: keras.losses.Loss. The objective, as the plain loop takes it.
        told: keras.losses.Loss or None. What the project is told of it.
        refused: frozenset of str. Measures that have no right number here.
        refusable: frozenset of str. Measures that may be refused.
        rounding: float. The relative precision in which the network computes.
        quick: bool. Whether a quick run takes it.
    """

    name: str
    make: Callable
    x: Any
    y: np.ndarray
    loss: losses.Loss
    told: losses.Loss | None
    refused: frozenset
    refusable: frozenset
    rounding: float
    quick: bool

    def build(self):
        """Build the network, with biases that are not 0 and statistics that are not those of the start."""
        keras.utils.set_random_seed(0)
        model = self.make()
        if not model.built:
            model(self.x, training=False)
        rng = np.random.default_rng(zlib.crc32(self.name.encode()))
        for v in model.trainable_variables:
            v.assign(np.asarray(v.value) + 0.3 * rng.standard_normal(v.shape).astype("float32"))
        for v in model.non_trainable_variables:
            if v.name.startswith("moving"):
                v.assign(0.5 + rng.random(v.shape).astype("float32"))
            elif v.name in ("kernel", "bias", "embeddings"):
                v.assign(np.asarray(v.value) + 0.3 * rng.standard_normal(v.shape).astype("float32"))
        return model


ENTRIES = {}
SAME = object()


def entry(
    x, y, loss=CLASSES, told=SAME, refused=frozenset(), refusable=frozenset(), rounding=2**-23, quick=False,
    normalised=False,
):  # fmt: skip
    """Enter a function that makes a network; `x` and `y` are callables `draw(rng)`, or lists or dicts of them.

    `normalised`: bool. Whether a BatchNormalization stands behind a layer.
    """
    refused = refused | (frozenset() if normalised else {"bn_scale"})
    refusable = refusable | {"variance"}  # which needs a graph
    refused, refusable = (who | ({"inverse_fisher"} if "fisher" in who else set()) for who in (refused, refusable))

    def enter(make):
        name = make.__name__
        rng = np.random.default_rng([1, zlib.crc32(name.encode())])
        drawn = keras.tree.map_structure(lambda draw: draw(rng), x)
        ENTRIES[name] = Entry(
            name, make, drawn, y(rng), loss, loss if told is SAME else told, refused, refusable, rounding, quick
        )
        return make

    return enter


def of(module):
    """List the entries of one of the zoo's modules, for `pytest.mark.parametrize`."""
    entries = [entry for entry in ENTRIES.values() if entry.make.__module__ == module.__name__]
    return [pytest.param(entry, id=entry.name, marks=() if entry.quick else (pytest.mark.zoo,)) for entry in entries]


def floats(*shape):
    return lambda rng: rng.standard_normal((EXAMPLES, *shape)).astype("float32")


def integers(high, *shape, low=0):
    return lambda rng: rng.integers(low, high, (EXAMPLES, *shape)).astype("int32")


def padded(high, length):
    """Tokens from 1, with 0 behind the end of each sequence; one fills its length."""

    def draw(rng):
        tokens = rng.integers(1, high, (EXAMPLES, length)).astype("int32")
        for row, stop in enumerate(rng.integers(1, length, EXAMPLES - 1)):
            tokens[row, stop:] = 0
        return tokens

    return draw


def prefixes(length):
    """1 up to the end of each sequence, 0 behind it."""
    return lambda rng: (np.arange(length) < rng.integers(1, length + 1, (EXAMPLES, 1))).astype("int32")


def one_hot(classes):
    return lambda rng: np.eye(classes, dtype="float32")[rng.integers(0, classes, EXAMPLES)]


def zeros_and_ones(*shape):
    return lambda rng: rng.integers(0, 2, (EXAMPLES, *shape)).astype("float32")


def sequential(*parts):
    return keras.Sequential(list(parts))


LABELS = integers(3)
TOKENS = integers(7, 4)
