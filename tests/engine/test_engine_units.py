"""What a unit is: written out by hand for small layers, and seen from outside, by what a layer gives without it."""

import keras
import numpy as np
import pytest
from keras import layers
from keras.src.applications.convnext import LayerScale

from engine import backend, structure

to_numpy = keras.ops.convert_to_numpy

IMAGE, SEQUENCE, FLAT, VIDEO = (5, 4, 3), (5, 3), (4,), (3, 4, 4, 2)


def network(layer, shape, dtype="float32"):
    """Put a layer into a model, its weights drawn at random, all of them far from 0."""
    inputs = keras.Input(shape, dtype=dtype)
    attention = isinstance(layer, (layers.MultiHeadAttention, layers.GroupQueryAttention))
    given = (inputs, inputs) if attention else ([inputs, inputs],) if isinstance(layer, layers.Attention) else (inputs,)
    model = keras.Model(inputs, layer(*given))
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(rng.uniform(0.5, 1.0, variable.shape) * rng.choice([-1.0, 1.0], variable.shape))
    return model


def groups(model):
    """Return the ids of the units by the roles of their variables (with the layer's name where there are several)."""
    parts = structure.parts(model)
    several = len({id(part.layer) for part in parts}) > 1
    names = [f"{part.layer.name}/{part.role}" if several else part.role for part in parts]
    return dict(zip(names, structure.grouped(parts, structure.unit_labels), strict=True))


def without(model, group, x):
    """Return a model's outputs for x when the weights of a group are 0."""
    kept = [backend.copied(v) for v in model.trainable_variables]
    ids = structure.grouped(structure.parts(model), structure.unit_labels)
    for variable, value, i in zip(model.trainable_variables, kept, ids, strict=True):
        variable.assign(np.where(i == group, 0, value))
    try:
        return to_numpy(model(x, training=False))
    finally:
        for variable, value in zip(model.trainable_variables, kept, strict=True):
            variable.assign(value)


def inputs(model, shape, dtype="float32"):
    rng = np.random.default_rng(1)
    return rng.integers(0, 6, (4, *shape)) if dtype == "int32" else rng.normal(size=(4, *shape)).astype("float32")


EINSUMS = [
    ("abc,cde->abde", (5, 2, 4), "de"), ("abc,cde->abed", (5, 4, 2), "ed"), ("abc,cde->aebd", (4, 5, 2), "ebd"),
    ("abc,cde->adbe", (2, 5, 4), "de"), ("abc,cde->abde", (5, 2, 4), None), ("...c,cd->...d", (4,), "d"),
    ("abc,bcd->abd", (5, 4), "bd"), ("abc,bd->acd", (3, 4), "d"), ("abc,bd->acd", (3, 4), "cd"),
    ("abc,cd->adb", (4, 5), "d"), ("ab...,bc->ac...", (4,), "c"),
]  # fmt: skip
LINEAR = [
    (lambda: layers.Dense(4), FLAT), (lambda: layers.Dense(4, use_bias=False), SEQUENCE),
    (lambda: layers.Conv1D(4, 2), SEQUENCE), (lambda: layers.Conv2D(6, 2, groups=3), IMAGE),
    (lambda: layers.Conv2D(4, (1, 2), strides=2), IMAGE), (lambda: layers.Conv3D(2, 2), VIDEO),
    (lambda: layers.Conv2D(4, 2, dilation_rate=2), IMAGE),
    (lambda: layers.Conv1DTranspose(4, 2), SEQUENCE), (lambda: layers.Conv2DTranspose(2, 2, strides=2), IMAGE),
    (lambda: layers.Conv3DTranspose(3, 2), VIDEO),
    (lambda: layers.DepthwiseConv1D(2, depth_multiplier=2), SEQUENCE),
    (lambda: layers.DepthwiseConv2D(2, depth_multiplier=2), IMAGE),
    *[(lambda e=e: layers.EinsumDense(e[0], e[1], bias_axes=e[2]), SEQUENCE) for e in EINSUMS],
    (lambda: layers.BatchNormalization(), IMAGE), (lambda: layers.BatchNormalization(axis=1), IMAGE),
    (lambda: layers.LayerNormalization(), SEQUENCE), (lambda: layers.LayerNormalization(axis=(1, 2)), SEQUENCE),
    (lambda: layers.LayerNormalization(axis=1), SEQUENCE), (lambda: layers.GroupNormalization(3), IMAGE),
    (lambda: layers.RMSNormalization(), SEQUENCE), (lambda: layers.RMSNormalization(axis=(1, 2)), SEQUENCE),
    (lambda: LayerScale(1.0, 3), SEQUENCE), (lambda: layers.TimeDistributed(layers.Dense(4)), SEQUENCE),
    (lambda: layers.SpectralNormalization(layers.Dense(4)), FLAT),
]  # fmt: skip


@pytest.mark.parametrize("build, shape", LINEAR)
def test_without_a_unit_its_own_outputs_are_0_and_no_others_change(build, shape):
    model = network(build(), shape)
    x = inputs(model, shape)
    whole = to_numpy(model(x, training=False))
    owned = np.zeros(whole.shape[1:], int)
    count = 1 + max(int(ids.max()) for ids in groups(model).values())
    assert count > 1
    for group in range(count):
        found = without(model, group, x)
        changed = (found != whole).any(axis=0)
        assert changed.any() and not found[:, changed].any()
        owned += changed
    assert (owned == 1).all()


@pytest.mark.parametrize("shared", [None, [1], [2], [1, 2]])
def test_a_slope_belongs_to_the_outputs_that_it_bends(shared):
    model = network(layers.PReLU(shared_axes=shared), SEQUENCE)
    x = -np.abs(inputs(model, SEQUENCE))
    whole, ids = to_numpy(model(x)), groups(model)["alpha"]
    assert len(np.unique(ids)) == ids.size
    owned = sum((without(model, group, x) != whole).any(axis=0).astype(int) for group in ids.ravel())
    assert (owned == 1).all()


@pytest.mark.parametrize(
    "build, shape, gates",
    [
        (lambda: layers.SimpleRNN(3, return_sequences=True), SEQUENCE, 1),
        (lambda: layers.LSTM(3, return_sequences=True), SEQUENCE, 4),
        (lambda: layers.GRU(3, return_sequences=True), SEQUENCE, 3),
        (lambda: layers.GRU(3, return_sequences=True, reset_after=False), SEQUENCE, 3),
        (lambda: layers.RNN(layers.LSTMCell(3), return_sequences=True), SEQUENCE, 4),
        (lambda: layers.ConvLSTM1D(3, 2, return_sequences=True), IMAGE, 4),
        (lambda: layers.ConvLSTM2D(3, 2, return_sequences=True), VIDEO, 4),
    ],
)
def test_without_a_recurrent_unit_its_output_is_0_for_ever(build, shape, gates):
    model = network(build(), shape)
    x = inputs(model, shape)
    assert (to_numpy(model(x)) != 0).any(axis=tuple(range(len(shape)))).all()
    for role, ids in groups(model).items():
        assert np.bincount(ids.ravel()).tolist() == [ids.size // 3] * 3, role
        assert (ids[..., 0] == 0).all() and (ids[..., 3::3] == 0).all()
    for unit in range(3):
        silent = ~without(model, unit, x).any(axis=tuple(range(len(shape))))
        assert silent.tolist() == [unit == other for other in range(3)]
    assert groups(model)["kernel"].shape[-1] == gates * 3


def test_gates_by_hand():
    ids = groups(network(layers.GRU(2), (5, 1)))
    assert ids["kernel"].tolist() == [[0, 1, 0, 1, 0, 1]]
    assert ids["recurrent_kernel"].tolist() == [[0, 1, 0, 1, 0, 1]] * 2 == ids["bias"].tolist()


def test_both_directions_and_stacked_cells_have_units_of_their_own():
    parts = structure.parts(network(layers.Bidirectional(layers.LSTM(2)), SEQUENCE))
    ids = structure.grouped(parts, structure.unit_labels)
    assert [np.unique(i).tolist() for i in ids] == [[0, 1]] * 3 + [[2, 3]] * 3
    cells = layers.RNN([layers.LSTMCell(2, name="low"), layers.GRUCell(3, name="high")])
    ids = groups(network(cells, SEQUENCE))
    assert np.unique(ids["low/bias"]).tolist() == [0, 1] and np.unique(ids["high/kernel"]).tolist() == [2, 3, 4]


@pytest.mark.parametrize("build, shape", [(layers.SeparableConv1D, SEQUENCE), (layers.SeparableConv2D, IMAGE)])
def test_the_two_steps_of_a_separable_convolution(build, shape):
    model = network(build(4, 2, depth_multiplier=2), shape)
    ids = groups(model)
    assert np.unique(ids["depthwise_kernel"]).tolist() == [0, 1, 2, 3, 4, 5]
    assert (ids["depthwise_kernel"].reshape(-1, 3, 2) == [[0, 1], [2, 3], [4, 5]]).all()
    assert (ids["pointwise_kernel"] == [6, 7, 8, 9]).all() and ids["bias"].tolist() == [6, 7, 8, 9]
    x = inputs(model, shape)
    whole = to_numpy(model(x))
    for filter_ in range(4):
        found = without(model, 6 + filter_, x)
        assert [(found != whole)[..., k].any() for k in range(4)] == [k == filter_ for k in range(4)]
        assert not found[..., filter_].any()
    for channel in range(6):  # A channel of the depthwise step goes into every filter.
        assert (without(model, channel, x) != whole).any(axis=tuple(range(len(shape)))).all()


def test_einsum_labels_by_hand():
    ids = groups(network(layers.EinsumDense("abc,cde->abed", (5, 3, 2), bias_axes="ed"), SEQUENCE))
    assert ids["kernel"][0].tolist() == [[0, 1, 2], [3, 4, 5]]  # (d, e)
    assert ids["bias"].tolist() == [[0, 3], [1, 4], [2, 5]]  # (e, d)
    ids = groups(network(layers.EinsumDense("abc,cde->abde", (5, 2, 3), bias_axes="e"), SEQUENCE))
    assert np.unique(ids["kernel"]).tolist() == [0, 1, 2, 3, 4, 5]
    assert ids["bias"].tolist() == [6, 7, 8], "a bias that two units share belongs to neither"
    ids = groups(network(layers.EinsumDense("abc,cde->abde", (5, 2, 3), bias_axes="d"), SEQUENCE))
    assert ids["bias"].tolist() == [[6], [7]]


def test_attention_is_made_of_einsum_layers():
    heads = network(layers.MultiHeadAttention(2, 3), SEQUENCE)
    shared = network(layers.GroupQueryAttention(2, 4, 2), SEQUENCE)
    for model, widths in ((heads, (6, 6, 6, 3)), (shared, (8, 4, 4, 3))):
        ids = list(groups(model).values())
        for kernel, bias, width in zip(ids[::2], ids[1::2], widths, strict=True):
            assert np.array_equal(np.unique(kernel), np.unique(bias)) and len(np.unique(bias)) == width
            assert np.array_equal(np.broadcast_to(bias, kernel.shape), kernel)
    for layer in (layers.Attention(use_scale=True, score_mode="concat"), layers.AdditiveAttention()):
        ids = np.concatenate([a.ravel() for a in groups(network(layer, SEQUENCE)).values()])
        assert np.array_equal(ids, np.arange(len(ids)))


def test_embeddings_are_grouped_by_columns_unless_they_are_used_both_ways():
    assert groups(network(layers.Embedding(6, 2), (3,), "int32"))["embeddings"].tolist() == [[0, 1]] * 6
    assert groups(network(layers.ReversibleEmbedding(6, 2), (3,), "int32"))["embeddings"].tolist() == [[0, 1]] * 6
    tokens, embed = keras.Input((3,)), layers.ReversibleEmbedding(6, 2, name="tied")
    with pytest.raises(ValueError, match=r"used in one way, received those of 'tied'.* level 'weight' or 'layer'"):
        groups(keras.Model(tokens, embed(embed(tokens), reverse=True)))
    tokens, embed = keras.Input((3,)), layers.ReversibleEmbedding(6, 2, tie_weights=False)
    ids = groups(keras.Model(tokens, embed(embed(tokens), reverse=True)))
    assert ids["embeddings"].tolist() == [[0, 1]] * 6 and ids["reverse_embeddings"].tolist() == [[2, 3, 4, 5, 6, 7]] * 2


class Own(layers.Layer):
    """A layer that is none of Keras's."""

    def build(self, shape):
        self.kernel = self.add_weight(name="kernel", shape=(3, shape[-1]))

    def call(self, x):
        return keras.ops.matmul(x, keras.ops.transpose(self.kernel))


class Turned(layers.Dense):
    """A subclass that computes something else."""

    def call(self, x):
        return keras.ops.matmul(x, keras.ops.transpose(self.kernel))


class Named(layers.Dense):
    """A subclass that computes the same."""


class OwnCell(layers.SimpleRNNCell):
    """A cell that computes something else."""

    def call(self, x, states, training=False):
        output, states = super().call(x, states, training)
        return output, states


def adapted():
    layer = layers.Dense(4)
    layer.build((None, 4))
    layer.enable_lora(2)
    return layer


@pytest.mark.parametrize(
    "build, shape, message",
    [
        (Own, FLAT, r"'kernel' of shape \(3, 4\) in '.*own.*', a Own\. Use the level 'weight' or 'layer'"),
        (lambda: Turned(4), FLAT, "a Turned"),
        (lambda: layers.RNN(OwnCell(2)), SEQUENCE, "a OwnCell"),
        (adapted, FLAT, "'lora_kernel_a'"),
    ],
)
def test_layers_of_a_kind_that_is_not_known(build, shape, message):
    model = network(build(), shape)
    with pytest.raises(ValueError, match=message):
        groups(model)
    for labels in (structure.weight_labels, structure.layer_labels):
        structure.grouped(structure.parts(model), labels)


def test_a_subclass_with_the_same_call_is_what_it_was():
    assert groups(network(Named(2), FLAT))["kernel"].tolist() == [[0, 1]] * 4


def test_layers_that_several_models_share_keep_their_weights():
    given, first, second = keras.Input((4,)), layers.Dense(4, name="first"), layers.Dense(3, name="second")
    inner = keras.Model(given, second(first(given)), name="inner")
    x = keras.Input((4,))
    model = keras.Model(x, layers.Concatenate()([first(x), second(x), inner(x)]))
    assert [part.layer.name for part in structure.parts(model)] == ["first", "first", "second", "second"]
    ids = structure.grouped(structure.parts(model), structure.layer_labels)
    assert [np.unique(i).tolist() for i in ids] == [[0], [0], [1], [1]]
