"""A softmax or sigmoid at a network's end is taken off without touching the network; what cannot be is refused."""

import keras
import ml_dtypes
import numpy as np
import pytest
from keras import layers

from engine import backend, ends, losses, structure

X = np.random.default_rng(0).random((20, 6), "float32")
SPARSE, BINARY = keras.losses.SparseCategoricalCrossentropy(), keras.losses.BinaryCrossentropy()


def build(*last, functional=False):
    given = keras.Input((6,))
    model = keras.Sequential([given, layers.Dense(5, "tanh"), *last])
    return keras.Model(given, model.outputs[0]) if functional else model


CASES = {
    "dense softmax": ([layers.Dense(3, "softmax")], SPARSE, "softmax"),
    "softmax layer": ([layers.Dense(3), layers.Softmax()], SPARSE, "softmax"),
    "activation layer": ([layers.Dense(3), layers.Activation("softmax")], SPARSE, "softmax"),
    "sigmoid": ([layers.Dense(1, "sigmoid")], BINARY, "sigmoid"),
    "sigmoid layer": ([layers.Dense(2), layers.Activation("sigmoid")], BINARY, "sigmoid"),
    "one-hot": ([layers.Dense(3, "softmax")], keras.losses.CategoricalCrossentropy(label_smoothing=0.1), "softmax"),
    "convolution": (
        [layers.Reshape((5, 1)), layers.Conv1D(3, 1, activation="softmax")], SPARSE, "softmax",
    ),
}  # fmt: skip


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_the_loss_is_the_same_without_it(name, own):
    last, loss, end = CASES[name]
    model = build(*[layer.from_config(layer.get_config()) for layer in last])
    before, weights = np.asarray(structure.forward(model, X)), [backend.copied(v) for v in model.weights]
    bare, bare_loss, taken = ends.as_logits(model, loss, own)
    assert taken == end and losses.from_logits(bare_loss) and type(bare_loss) is type(loss)
    kept = {key: value for key, value in bare_loss.get_config().items() if key != "from_logits"}
    assert kept == {key: value for key, value in loss.get_config().items() if key != "from_logits"}
    y = np.random.default_rng(1).integers(0, 2, before.shape if end == "sigmoid" else before.shape[:-1])
    y = np.eye(3, dtype="float32")[y] if name == "one-hot" else y
    logits = structure.forward(bare, X)
    assert structure.end(bare) == "linear" and not losses.are_distributions(np.asarray(logits))
    assert np.isclose(float(loss(y, before)), float(bare_loss(y, logits)), rtol=1e-5)
    assert all(np.array_equal(a, b) for a, b in zip(weights, map(backend.copied, bare.weights), strict=True))
    if not own:
        assert np.array_equal(before, np.asarray(structure.forward(model, X)))


def test_of_ones_own_network_the_variables_stay_those_of_its_optimizer():
    model = build(layers.Dense(3, "softmax"))
    bare, _, _ = ends.as_logits(model, SPARSE, own=True)
    assert all(a is b for a, b in zip(model.variables, bare.variables, strict=True))


def test_several_inputs_keep_their_names():
    inputs = {name: keras.Input((6,), name=name) for name in ("a", "b")}
    model = keras.Model(inputs, layers.Dense(3, "softmax")(layers.Concatenate()(list(inputs.values()))))
    bare, _, _ = ends.as_logits(model, SPARSE)
    assert bare({"a": X, "b": X}).shape == (20, 3)


@pytest.mark.parametrize(
    "loss", [keras.losses.SparseCategoricalCrossentropy(from_logits=True), keras.losses.MeanSquaredError()]
)
def test_what_takes_outputs_as_they_are_is_left(loss):
    model = build(layers.Dense(3, "sigmoid"))
    assert ends.as_logits(model, loss) == (model, loss, None)


class Subclass(keras.Model):
    def __init__(self):
        super().__init__()
        self.last = layers.Dense(3, "softmax")

    def call(self, x):
        return self.last(x)


@pytest.mark.parametrize(
    "model",
    [
        build(layers.Dense(3, "softmax"), layers.Dropout(0.1)),
        keras.Sequential([keras.Input((6,)), build(layers.Dense(3, "softmax"))]),
        Subclass(),
    ],
    ids=["before a dropout", "nested", "subclass"],
)
def test_an_end_that_cannot_be_taken_off_is_refused(model):
    with pytest.raises(ValueError, match="Expected a network that gives logits, or one whose last layer is a softmax"):
        ends.as_logits(model, SPARSE)


def test_logits_that_nearly_add_up_to_one_are_no_probabilities():
    logits = np.array([[0.7577504, 0.1868455, 0.05996726]], "float32")
    assert not losses.are_distributions(logits)
    odds = np.exp(4 * np.random.default_rng(0).random((50, 10)))
    exact = odds / odds.sum(axis=-1, keepdims=True)
    for dtype in ("float32", "float16", ml_dtypes.bfloat16):
        assert losses.are_distributions(exact.astype(dtype))
    assert np.abs(exact.astype(ml_dtypes.bfloat16).astype("float64").sum(axis=-1) - 1).max() > 1e-3
