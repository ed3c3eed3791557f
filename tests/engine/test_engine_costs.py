"""What a model costs: counted by hand, and by loops over the layers' places."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from test_engine_channels import BODIES, Gated, residual, sequential

import aggregation
import thresholding
from tasks import _models


def products(*parts, shape):
    return thresholding.sizes(sequential(shape, *parts)).multiply_adds


@pytest.mark.parametrize(
    "part, shape, expected",
    [
        (lambda: layers.Dense(5), (4,), 4 * 5),
        (lambda: layers.Dense(5), (3, 4), 3 * 4 * 5),
        (lambda: layers.Conv2D(5, 3, strides=2), (9, 7, 2), 4 * 3 * 3 * 3 * 2 * 5),
        (lambda: layers.Conv1D(4, 3, padding="same", groups=2), (6, 4), 6 * 4 * 3 * 2),
        (lambda: layers.Conv2DTranspose(5, 3, strides=2), (4, 3, 2), 4 * 3 * 9 * 2 * 5),
        (lambda: layers.DepthwiseConv2D(3, depth_multiplier=2), (5, 5, 4), 3 * 3 * 9 * 8),
        (lambda: layers.SeparableConv2D(6, 3, depth_multiplier=2), (5, 5, 4), 9 * (9 * 8 + 8 * 6)),
        (lambda: layers.EinsumDense("abc,cde->abde", (6, 2, 4)), (6, 3), 6 * 3 * 2 * 4),
        (lambda: layers.EinsumDense("...c,cd->...d", (7,)), (2, 6, 3), 2 * 6 * 3 * 7),
        (lambda: layers.SimpleRNN(4), (5, 3), 5 * (3 * 4 + 4 * 4)),
        (lambda: layers.LSTM(4, return_sequences=True), (5, 3), 5 * 4 * (3 * 4 + 4 * 4)),
        (lambda: layers.RNN([layers.GRUCell(2), layers.GRUCell(4)]), (5, 3), 5 * 3 * (3 * 2 + 2 * 2 + 2 * 4 + 4 * 4)),
        (lambda: layers.Bidirectional(layers.GRU(4)), (5, 3), 2 * 5 * 3 * (3 * 4 + 4 * 4)),
        (lambda: layers.ConvLSTM1D(4, 3), (5, 8, 2), 5 * 6 * 4 * (3 * 2 * 4 + 3 * 4 * 4)),
        (lambda: layers.TimeDistributed(layers.Conv1D(4, 3)), (5, 8, 2), 5 * 6 * 3 * 2 * 4),
        (lambda: layers.BatchNormalization(), (5, 3), 0),
        (lambda: layers.RandomZoom(0.1), (8, 8, 1), 0),
    ],
)
def test_products_of_one_layer(part, shape, expected):
    assert products(layers.Activation("relu"), part(), shape=shape) == expected


def test_products_of_attention():
    x, y = keras.Input((5, 6)), keras.Input((7, 4))
    many = keras.Model([x, y], layers.MultiHeadAttention(3, 2, value_dim=4)(x, y))
    projected = 5 * 6 * 3 * 2 + 7 * 4 * 3 * 2 + 7 * 4 * 3 * 4 + 5 * 3 * 4 * 6
    assert thresholding.sizes(many).multiply_adds == projected + 3 * 5 * 7 * (2 + 4)
    grouped = keras.Model(x, layers.GroupQueryAttention(2, 6, 3)(x, x))
    assert thresholding.sizes(grouped).multiply_adds == 5 * 6 * 2 * (6 + 3 + 3 + 6) + 6 * 5 * 5 * 4
    z = layers.Dense(6)(y)
    plain = keras.Model([x, y], layers.Attention()([x, z]))
    assert thresholding.sizes(plain).multiply_adds == 7 * 4 * 6 + 5 * 7 * 12


@pytest.mark.parametrize("name", sorted(BODIES))
def test_a_model_in_a_model_has_the_products_of_its_layers(name):
    shape = {"dense": (3,), "recurrent": (3, 3)}.get(name, (6, 3))
    inner = sequential(shape, *(make() for make in BODIES[name]))
    x = keras.Input(shape)
    twice = keras.Model(x, layers.Add()([inner(x), inner(ops.relu(x))]))
    own = thresholding.sizes(inner)
    assert own.multiply_adds > 0
    assert thresholding.sizes(twice) == (own.parameters, 2 * own.multiply_adds)


def test_a_smaller_network_is_smaller_in_all():
    model = _models.resnet((8, 8, 3), 3)
    groups = aggregation.load("channel").groups(model)
    scores = [np.abs(np.asarray(v)) for v in model.trainable_variables]
    smaller = thresholding.shrink(model, thresholding.rank(scores, groups, model=model), 0.5)
    before, after = thresholding.sizes(model), thresholding.sizes(smaller)
    assert before.parameters == model.count_params() and after.parameters < before.parameters / 2
    assert after.multiply_adds < before.multiply_adds / 2


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: sequential((None, 3), layers.LSTM(2)), "of unknown length"),
        (lambda: sequential((3, 4), layers.Dense(3), layers.Lambda(lambda t: 2 * t, name="mine")), "mine', a Lambda"),
        (lambda: sequential((3,), Gated(name="mine")), "mine', a Gated"),
        (lambda: keras.Model(x := keras.Input((3, 3)), ops.matmul(x, x)), "a Matmul"),
    ],
)
def test_what_cannot_be_counted_is_named(make, said):
    with pytest.raises(ValueError, match=f"Expected .*{said}"):
        thresholding.sizes(make())


def test_the_time_of_a_call():
    small, large = residual(), _models.mlp((2000,), 10, hidden=(2000, 2000))
    assert 0 < thresholding.latency(small, repeats=3) < 60
    # 512 times the work takes longer, whatever else the machine does.
    assert thresholding.latency(large, 1, 9) < thresholding.latency(large, 512, 9)


def test_the_time_of_a_call_by_xla_and_of_whole_numbers():
    model = sequential((4,), layers.Embedding(3, 2), layers.Flatten(), layers.Dense(1), dtype="int32")
    assert 0 < thresholding.latency(model, batch=2, repeats=2, xla=True) < 60


@pytest.mark.parametrize(
    "make, given, said",
    [
        (lambda: sequential((None, 3), layers.LSTM(2)), {}, "keras.Input of known lengths"),
        (residual, {"batch": 0}, "at least 1 example"),
        (residual, {"repeats": 0}, "at least 1 example and 1 repeat"),
    ],
)
def test_what_cannot_be_timed(make, given, said):
    with pytest.raises(ValueError, match=said):
        thresholding.latency(make(), **given)
