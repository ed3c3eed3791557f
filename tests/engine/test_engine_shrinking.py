"""Smaller networks: equal to those with zeros in the place of what is gone, and of plain Keras."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from keras import layers, ops
from test_engine_channels import BODIES, Gated, built, drawn, examples, outputs, plans, residual, sequential

import aggregation
import thresholding
from engine import backend, channels, structure
from tasks import _models


def ranks_of(model, gone, level="channel"):
    """Return ranks by which the groups of some numbers fall at 0.5, and no others."""
    groups = aggregation.load(level).groups(model)
    return [np.where(np.isin(ids, gone), 0, 0.9).astype("float32") for ids in groups]


def masked_outputs(model, ranks, x, threshold=0.5):
    """Return what a model gives with zeros for what is ranked below a threshold, and leave it as it was."""
    before = [backend.copied(v) for v in model.trainable_variables]
    try:
        for v, value in zip(model.trainable_variables, thresholding.threshold(before, ranks, threshold), strict=True):
            v.assign(value)
        return outputs(model, x)
    finally:
        for v, value in zip(model.trainable_variables, before, strict=True):
            v.assign(value)


def shrunk(model, gone, level="channel"):
    """Shrink a model; fails unless what it gives is what the masked one gives, and the model is as it was."""
    ranks, x, before = ranks_of(model, gone, level), examples(model), list(map(backend.copied, model.weights))
    calls = {id(layer): len(layer._inbound_nodes) for layer in structure.flat_layers(model)}
    smaller = thresholding.shrink(model, ranks, 0.5)
    for one, other in zip(outputs(smaller, x), masked_outputs(model, ranks, x), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * max(1, np.abs(other).max()))
    assert all((a == backend.copied(v)).all() for a, v in zip(before, model.weights, strict=True))
    assert calls == {id(layer): len(layer._inbound_nodes) for layer in structure.flat_layers(model)}
    assert smaller.count_params() < model.count_params() or not len(gone)
    return smaller


def lengths(model):
    """Return how many channels each layer makes that has a kernel."""
    return {layer.name: layer.kernel.shape[-1] for layer in structure.flat_layers(model) if hasattr(layer, "kernel")}


def test_a_residual_network():
    smaller = shrunk(drawn(residual()), [0, 3, 4, 9])
    assert lengths(smaller) == {
        "stem": 1, "inner": 1, "back": 1, "deep": 2, "wide": 3, "projection": 3, "out": 3,
    }  # fmt: skip
    assert smaller.get_layer("bn_inner").moving_mean.shape == (1,)


def test_separable_depthwise_and_transposed_convolutions():
    model = drawn(sequential(
        (6, 6, 1), layers.Conv2D(3, 1, name="a"), layers.DepthwiseConv2D(2, depth_multiplier=2, name="b"),
        layers.SeparableConv2D(3, 2, depth_multiplier=2, name="c"), layers.Conv2DTranspose(4, 2, name="d"),
        layers.Flatten(), layers.Dense(2, name="out"),
    ))  # fmt: skip
    smaller = shrunk(model, [1, 4, 5, 6])
    assert isinstance(smaller, keras.Sequential) and smaller.name == model.name
    assert [tuple(w.shape) for w in smaller.weights] == [
        (1, 1, 1, 2), (2,), (2, 2, 2, 2), (4,), (2, 2, 4, 2), (1, 1, 8, 1), (1,), (2, 2, 3, 1), (3,), (75, 2), (2,),
    ]  # fmt: skip


def test_concatenated_channels():
    x = keras.Input((4,))
    a, b = layers.Dense(2, name="a")(x), layers.Dense(3, name="b")(x)
    both = layers.BatchNormalization(name="norm")(layers.Concatenate()([b, a]))
    partly = layers.Concatenate()([layers.Add()([a, layers.Dense(2, name="c")(both)]), x])
    model = drawn(keras.Model(x, layers.Dense(1, name="out")(partly)))
    made = {v.path: labels for v, labels in zip(model.weights, channels.follow(model).made, strict=True)}
    of_a, of_b = made["a/kernel"][0], made["b/kernel"][0]
    smaller = shrunk(model, [of_a[1], of_b[0], of_b[2]])
    assert lengths(smaller) == {"a": 1, "b": 1, "c": 1, "out": 1}
    assert smaller.get_layer("norm").gamma.shape == (2,) and smaller.get_layer("out").kernel.shape == (5, 1)


TAKEN = {
    "dense": [1, 2, 5], "convolutions": [0, 2, 5, 6], "recurrent": [0, 3, 5, 8, 10], "einsums": [0, 4, 9, 13],
    "attention": [0, 4, 9],
}  # fmt: skip
"""The channels that are taken out of the networks of `BODIES`: such that something is left everywhere."""


@pytest.mark.parametrize("name", sorted(BODIES))
def test_layers_of_all_kinds(name):
    shape = {"dense": (3,), "recurrent": (3, 3)}.get(name, (6, 3))
    shrunk(drawn(sequential(shape, *(make() for make in BODIES[name]), layers.Flatten(), layers.Dense(2))), TAKEN[name])


def test_models_in_models_and_layers_that_are_shared():
    inner = sequential((3,), layers.Dense(4, "relu", name="inside"), layers.Dense(2, name="back"))
    y = keras.Input((2,))
    functional = keras.Model(y, [layers.Dense(3, name="left")(y), ops.relu(y)], name="functional")
    x, z = keras.Input((2,), name="x"), keras.Input((2,), name="z")
    first, second = layers.Dense(3, name="a")(x), layers.Dense(3, name="b")(z)
    left, right = functional(layers.Subtract()([inner(first), inner(second)]))
    model = drawn(keras.Model({"x": x, "z": z}, layers.Dense(1, name="out")(layers.Concatenate()([left, right]))))
    found = channels.follow(model)
    made = {"/".join(v.path.split("/")[-2:]): m for v, m in zip(model.weights, found.made, strict=True)}
    gone = [made[f"{name}/kernel"][0, 1] for name in ("a", "inside", "back", "left")]
    ranks, given_ = ranks_of(model, gone), dict(zip("xz", examples(model), strict=True))
    smaller = thresholding.shrink(model, ranks, 0.5)
    expected = masked_outputs(model, ranks, [given_])
    np.testing.assert_allclose(outputs(smaller, [given_])[0], expected[0], atol=1e-5)
    assert lengths(smaller) == {"a": 2, "b": 2, "inside": 3, "back": 1, "left": 2, "out": 1}
    assert isinstance(smaller.get_layer(inner.name), keras.Sequential)


def test_shapes_and_slices_where_the_channels_stay_apart():
    x = keras.Input((8,))
    y = ops.reshape(layers.Dense(8, name="a")(x), (-1, 2, 4))[:, 0]
    y = ops.expand_dims(layers.Dense(6, name="b")(layers.Reshape((4,))(y)), 1)
    model = drawn(keras.Model(x, layers.Dense(1)(ops.squeeze(layers.Reshape((-1, 6))(y), 1))))
    found = channels.follow(model).made
    with pytest.raises(ValueError, match=r"go from a part of .*reshape"):
        shrunk(model, [found[0][0, 0]])
    smaller = shrunk(model, [*found[0][0, [1, 5]], found[2][0, 3]])
    assert lengths(smaller)["a"] == 6 and lengths(smaller)["b"] == 5


def test_a_part_of_the_channels_that_is_sliced_is_refused():
    x = keras.Input((3,))
    model = drawn(keras.Model(x, layers.Dense(1)(layers.Dense(4, name="a")(x)[:, 1:3])))
    with pytest.raises(ValueError, match="a GetItem, which says something about single channels"):
        shrunk(model, [0])


def test_frozen_layers_and_statistics_are_taken_over():
    model = drawn(sequential((3,), layers.Dense(3, name="a"), layers.Dense(4, name="b"), layers.BatchNormalization(),
                             layers.Dense(2)))  # fmt: skip
    model.get_layer("a").trainable = False
    smaller = shrunk(model, [0, 2])
    assert not smaller.get_layer("a").trainable and lengths(smaller)["a"] == 3 and lengths(smaller)["b"] == 2


def test_what_was_adapted_to_data_is_taken_over():
    normalization = layers.Normalization()
    normalization.adapt(np.random.default_rng(0).normal(3, 5, (50, 3)).astype("float32"))
    model = sequential((3,), normalization, layers.Dense(4, "relu"), layers.Dense(2))
    for v in model.trainable_variables:
        v.assign(ops.abs(v) + 1)
    shrunk(model, [1, 2])


# Heads


def attending(**options):
    x = keras.Input((5, 6))
    attended = layers.MultiHeadAttention(3, 2, name="many", **options)(x, x, use_causal_mask=True)
    grouped = layers.GroupQueryAttention(2, 6, 3, name="grouped")(layers.LayerNormalization()(attended), x)
    return drawn(keras.Model(x, layers.Dense(2)(layers.Concatenate()([attended, grouped]))))


@pytest.mark.parametrize("options", [{}, {"use_bias": False}, {"output_shape": 6}])
def test_heads(options):
    smaller = shrunk(attending(**options), [1, 3, 4], "attention_head")  # both heads of the first key and value
    assert smaller.get_layer("many").get_config()["num_heads"] == 2
    config = smaller.get_layer("grouped").get_config()
    assert (config["num_query_heads"], config["num_key_value_heads"]) == (4, 2)


def test_query_heads_of_which_one_is_taken_in_each_group():
    smaller = shrunk(attending(), [3, 6, 8], "attention_head")
    config = smaller.get_layer("grouped").get_config()
    assert (config["num_query_heads"], config["num_key_value_heads"]) == (3, 3)


@pytest.mark.parametrize(
    "gone, said",
    [([3], r"as many query heads .*grouped.*leave \[1, 2, 2\]"), ([0, 1, 2], "all that 'many' is made of")],
)
def test_heads_that_cannot_be_taken(gone, said):
    with pytest.raises(ValueError, match=said):
        shrunk(attending(), gone, "attention_head")


def test_channels_around_attention():
    x = keras.Input((5, 4))
    queries, values = layers.Dense(4, name="q")(x), layers.Dense(3, name="v")(x)
    attended = layers.MultiHeadAttention(2, 2, name="many")(queries, values)
    model = drawn(keras.Model(x, layers.Dense(2)(attended)))
    made = [labels[..., 0] for labels in channels.follow(model).made]
    named = {v.path: m for v, m in zip(model.weights, made, strict=True)}
    gone = [named["q/kernel"].flat[0], named["v/kernel"].flat[0], named["many/attention_output/kernel"].flat[0]]
    assert shrunk(model, gone).get_layer("many").get_config()["output_shape"] == (3,)
    assert shrunk(model, gone[:1]).get_layer("many").get_config()["output_shape"] == (4,)


# Random networks


@pytest.mark.long
@settings(max_examples=20, deadline=None, phases=[Phase.explicit, Phase.generate])  # building is slow, plans are short
@given(plan=plans(), which=st.sets(st.integers(0, 99), min_size=1, max_size=4), seed=st.integers(0, 9))
def test_random_networks(plan, which, seed):
    model = drawn(built(plan, lambda name, default: default), seed)
    found = channels.follow(model)
    gone = sorted({number % len(found.differs) for number in which})
    empty = any(m.min() >= 0 and np.isin(m, gone).all() for m in found.made)
    if empty or any(found.differs[channel] for channel in gone):
        with pytest.raises(ValueError, match=r"leave something of each layer|is something else than"):
            shrunk(model, gone)
        return
    smaller = shrunk(model, gone)
    left = {
        v.path.split("/")[-2]: int((~np.isin(m.reshape(-1, m.shape[-1])[0], gone)).sum())
        for v, m in zip(model.weights, found.made, strict=True) if v.name == "kernel"
    }  # fmt: skip
    reference = built(plan, lambda name, default: left[name])
    assert [tuple(v.shape) for v in smaller.weights] == [tuple(v.shape) for v in reference.weights]


# Networks of the project, by ranks


def by_magnitude(model, level, scope="layer"):
    scores = [np.abs(backend.copied(v)) for v in model.trainable_variables]
    return thresholding.rank(scores, aggregation.load(level).groups(model), model=model, scope=scope)


@pytest.mark.long
@pytest.mark.parametrize(
    "name, level, shape",
    [("resnet", "channel", (8, 8, 3)), ("mlp", "hidden_unit", (5,)), ("vit", "attention_head", (16, 16, 3))],
)
def test_networks_of_the_project_at_a_fraction(name, level, shape):
    build = {"resnet": _models.resnet, "vit": _models.vit, "mlp": _models.mlp}[name]
    model = drawn(build(shape, 3, **({"blocks": 2, "width": 16, "heads": 4} if name == "vit" else {})))
    for v in model.trainable_variables:
        v.assign(backend.copied(v) / 4)
    ranks, x = by_magnitude(model, level), examples(model)
    smaller = thresholding.shrink(model, ranks, 0.5)
    expected = masked_outputs(model, ranks, x)[0]
    np.testing.assert_allclose(outputs(smaller, x)[0] / abs(expected).max(), expected / abs(expected).max(), atol=1e-5)
    assert smaller.count_params() < 0.9 * model.count_params()
    assert outputs(thresholding.shrink(model, ranks, 0), x)[0] == pytest.approx(outputs(model, x)[0], rel=1e-5)
    with pytest.raises(ValueError, match="Use a lower threshold"):
        thresholding.shrink(model, ranks, 1)


# Without this project

LOADED = """
import sys, keras, numpy as np
saved = np.load("saved.npz")
found = keras.models.load_model("smaller.keras")(saved["x"], training=False)
np.testing.assert_allclose(np.asarray(found), saved["expected"], atol=1e-6)
assert not {"engine", "thresholding"} & set(sys.modules)
"""


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:__array__ implementation")  # in Keras's own saving
def test_a_smaller_network_is_one_of_plain_keras(tmp_path):
    x = keras.Input((5, 4))
    y = sequential((5, 4), layers.Bidirectional(layers.LSTM(3, return_sequences=True)), layers.Dense(4))(x)
    y = ops.reshape(layers.MultiHeadAttention(2, 3)(y, y)[:, 1:], (-1, 2, 2, 4))
    y = layers.EinsumDense("abcd,de->abce", (2, 2, 3), bias_axes="e")(layers.BatchNormalization()(y))
    model = drawn(keras.Model(x, layers.Dense(2)(layers.Flatten()(y))))
    found = channels.follow(model)
    smaller = shrunk(model, [0, 3, 7, 11, len(found.differs) - 1])
    smaller.save(tmp_path / "smaller.keras")
    given_ = examples(smaller)[0]
    np.savez(tmp_path / "saved.npz", x=given_, expected=outputs(smaller, [given_])[0])
    done = subprocess.run([sys.executable, "-c", LOADED], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind, needs", [("tf_saved_model", "tensorflow"), ("onnx", "tf2onnx")])
def test_a_smaller_network_is_exported_as_keras_offers(kind, needs, tmp_path):
    pytest.importorskip(needs)
    if backend.NAME != "tensorflow":
        pytest.skip("what is exported is that of TensorFlow")
    smaller = shrunk(drawn(residual()), [0, 3, 9])
    x = examples(smaller)[0]
    smaller.export(tmp_path / "exported", format=kind, verbose=False)
    if kind == "onnx":
        session = pytest.importorskip("onnxruntime").InferenceSession(tmp_path / "exported")
        (found,) = session.run(None, {session.get_inputs()[0].name: x})
    else:
        found = layers.TFSMLayer(tmp_path / "exported", call_endpoint="serve")(x)
    np.testing.assert_allclose(found, outputs(smaller, [x])[0], atol=1e-5)


# What is refused


def normalised():
    return sequential(
        (3,), layers.Dense(4, name="a"), layers.LayerNormalization(name="norm"), layers.Dense(2, name="out")
    )


def gated():
    x = keras.Input((3,))
    y = layers.Dense(4, name="a")(x)
    return keras.Model(x, layers.Dense(1)(layers.Multiply()([y, layers.Softmax(name="gate")(y)])))


class Unsaid(layers.Layer):
    def __init__(self, *factors):
        super().__init__()
        self.factors = factors

    def call(self, x):
        return self.factors[0] * x


def beside(unknown):
    """A network in which a layer without weights, of which nothing is known, comes before all that is."""
    x = keras.Input((3,))
    return keras.Model(x, layers.Dense(1)(layers.Dense(2)(unknown(x))))


def two_ways():
    return sequential((3, 3), layers.Bidirectional(layers.GRU(2), name="both"), layers.Dense(1))


def dense():
    return sequential((3,), layers.Dense(4, "relu", name="a"), layers.Dense(2, name="out"))


@pytest.mark.parametrize(
    "make, level, gone, said",
    [
        (normalised, "channel", [1], "reach 'sequential.*norm', where a channel that is zero"),
        (gated, "channel", [1], "reach 'gate', where"),
        (dense, "unit", [5], "some of '.*/out/kernel'"),
        (residual, "unit", [0], "some of 'stem/kernel'"),
        (normalised, "weight", [1], "some of '.*a/kernel' are below 0.5.*level 'channel'"),
        (residual, "channel", [2, 3, 4], "all that 'inner/kernel' is made of"),
        (two_ways, "channel", [0], "'.*both', a Bidirectional, of which different numbers of units"),
        (lambda: beside(layers.Lambda(lambda x: 2 * x)), "channel", [0], "a Lambda, which cannot be made anew"),
        (lambda: beside(Unsaid(2)), "channel", [0], "a Unsaid, which does not say its settings"),
        (lambda: sequential((3,), Gated(name="mine"), layers.Dense(1)), "weight", [0], "received '.*mine', a Gated"),
    ],
)  # fmt: skip
def test_what_cannot_be_cut_is_named(make, level, gone, said):
    model = drawn(make())
    with pytest.raises(ValueError, match=f"Expected .*{said}"):
        shrunk(model, gone, level)


def test_units_are_cut_where_nothing_ties_them():
    assert lengths(shrunk(drawn(dense()), [1, 2], "unit")) == {"a": 2, "out": 2}


def test_ranks_of_another_model_and_thresholds_that_are_none():
    model = normalised()
    with pytest.raises(ValueError, match="Expected ranks with the shapes"):
        thresholding.shrink(model, [np.zeros(3)], 0.5)
    with pytest.raises(ValueError, match="Expected a threshold from 0 to 1"):
        thresholding.shrink(model, ranks_of(model, []), 1.5)
