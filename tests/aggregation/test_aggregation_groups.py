"""Which weights stand or fall together: ids written out by hand, and what holds for every level and network."""

import functools
import sys

import keras
import numpy as np
import pytest
from keras import layers

import aggregation
import thresholding
from engine import structure

ACROSS = ("attention_head", "channel")
"""Levels whose groups lie across layers."""


def groups(level, model):
    return [ids.tolist() for ids in aggregation.load(level).groups(model)]


@pytest.mark.parametrize(
    "level, kernel, bias",
    [
        ("weight", [[0, 1, 2], [3, 4, 5]], [6, 7, 8]),
        ("unit", [[0, 1, 2], [0, 1, 2]], [0, 1, 2]),
        ("conv_filter", [[0, 1, 2], [3, 4, 5]], [6, 7, 8]),
        ("layer", [[0, 0, 0], [0, 0, 0]], [0, 0, 0]),
    ],
)
def test_dense_of_two_inputs_and_three_units(level, kernel, bias):
    """Rows are inputs and columns are units: a unit is a column and its bias."""
    model = keras.Sequential([keras.Input((2,)), layers.Dense(3)])
    assert groups(level, model) == [kernel, bias]


@pytest.mark.parametrize(
    "level, kernel, bias",
    [
        ("weight", [[[[0, 1], [2, 3]]]], [4, 5]),
        ("unit", [[[[0, 1], [0, 1]]]], [0, 1]),
        ("conv_filter", [[[[0, 1], [0, 1]]]], [2, 3]),
        ("layer", [[[[0, 0], [0, 0]]]], [0, 0]),
    ],
)
def test_convolution_of_one_pixel_two_channels_and_two_filters(level, kernel, bias):
    """Axes are height, width, inputs, filters: a filter is what the last axis tells apart."""
    model = keras.Sequential([keras.Input((3, 3, 2)), layers.Conv2D(2, 1)])
    assert groups(level, model) == [kernel, bias]


def test_a_filter_spans_height_and_width():
    model = keras.Sequential([keras.Input((3, 3, 1)), layers.Conv2D(2, (2, 1), use_bias=False)])
    assert groups("unit", model) == groups("conv_filter", model) == [[[[[0, 1]]], [[[0, 1]]]]]


@pytest.mark.parametrize(
    "level, ids",
    [
        ("weight", [[[[[0, 1]]]], [2, 3], [4, 5], [6, 7]]),
        ("unit", [[[[[0, 1]]]], [0, 1], [2, 3], [2, 3]]),
        ("conv_filter", [[[[[0, 1]]]], [2, 3], [4, 5], [6, 7]]),
        ("layer", [[[[[0, 0]]]], [0, 0], [1, 1], [1, 1]]),
    ],
)
def test_gamma_and_beta_of_a_channel_are_one_unit(level, ids):
    model = keras.Sequential([keras.Input((3, 3, 1)), layers.Conv2D(2, 1), layers.BatchNormalization()])
    roles = [part.role for part in structure.parts(model)]
    assert roles == ["kernel", "bias", "gamma", "beta"]
    assert groups(level, model) == ids


def dense():
    return keras.Sequential([keras.Input((4,)), layers.Dense(5), layers.Dense(3, use_bias=False), layers.Dense(2)])


def convolutional():
    return keras.Sequential(
        [keras.Input((6, 6, 2)), layers.Conv2D(3, 2), layers.BatchNormalization(), layers.Conv2DTranspose(4, 2),
         layers.BatchNormalization(scale=False), layers.GlobalAveragePooling2D(), layers.Dense(2)]
    )  # fmt: skip


def depthwise():
    return keras.Sequential(
        [keras.Input((6, 6, 2)), layers.DepthwiseConv2D(2, depth_multiplier=3), layers.SeparableConv2D(4, 2),
         layers.Reshape((16, 4)), layers.Conv1D(3, 2), layers.LayerNormalization(), layers.Flatten(), layers.Dense(2)]
    )  # fmt: skip


def attention():
    tokens = keras.Input((5,))
    hidden = layers.Embedding(7, 4)(tokens)
    hidden = layers.LayerNormalization()(hidden + layers.MultiHeadAttention(2, 3)(hidden, hidden))
    return keras.Model(tokens, layers.Dense(2)(layers.GlobalAveragePooling1D()(hidden)))


built = functools.cache(lambda build: build())


@pytest.mark.parametrize("build", [dense, convolutional, depthwise, attention])
@pytest.mark.parametrize("level", aggregation.names())
def test_what_every_level_gives(level, build):
    model = built(build)
    if level == "attention_head" and build is not attention:
        return
    ids = aggregation.load(level).groups(model)
    assert [i.shape for i in ids] == [tuple(v.shape) for v in model.trainable_variables]
    assert all(i.dtype == np.int32 for i in ids)
    flat = np.concatenate([i.ravel() for i in ids])
    assert np.array_equal(np.unique(flat[flat >= 0]), np.arange(flat.max() + 1)) and flat.min() >= -1
    assert flat.min() == (-1 if level in (*ACROSS, "hidden_unit") else 0)
    owners = {}
    for part, i in zip(structure.parts(model), ids, strict=True) if level not in ACROSS else ():
        for group in np.unique(i[i >= 0]):
            assert owners.setdefault(group, part.layer) is part.layer
    again = aggregation.load(level).groups(model)
    assert all(np.array_equal(a, b) for a, b in zip(ids, again, strict=True))


@pytest.mark.parametrize("build", [dense, convolutional, depthwise, attention])
def test_a_coarser_level_joins_groups_and_splits_none(build):
    model = built(build)
    weight, unit, layer = (
        np.concatenate([i.ravel() for i in aggregation.load(level).groups(model)])
        for level in ("weight", "unit", "layer")
    )
    assert len(np.unique(weight)) == len(weight) > len(np.unique(unit)) > len(np.unique(layer))
    assert len(np.unique(layer)) == len({id(part.layer) for part in structure.parts(model)})
    assert len(np.unique(np.stack([unit, layer]), axis=1).T) == len(np.unique(unit))


def test_units_of_layers_that_are_neither_dense_nor_plain_convolutions():
    ids = dict(zip([(p.layer.name, p.role) for p in structure.parts(built(attention))],
                   aggregation.load("unit").groups(built(attention)), strict=True))  # fmt: skip
    embeddings = next(i for (_, role), i in ids.items() if role == "embeddings")
    assert (embeddings == embeddings[0]).all() and len(np.unique(embeddings)) == 4
    query, query_bias = ids["query", "kernel"], ids["query", "bias"]
    assert query.shape == (4, 2, 3) and (query == query[0]).all() and np.array_equal(query[0], query_bias)
    assert len(np.unique(query)) == 6
    output, output_bias = ids["attention_output", "kernel"], ids["attention_output", "bias"]
    assert output.shape == (2, 3, 4) and (output == output_bias).all() and len(np.unique(output)) == 4
    kernel = aggregation.load("unit").groups(built(depthwise))[0]
    assert kernel.shape == (2, 2, 2, 3) and (kernel == kernel[0, 0]).all() and len(np.unique(kernel)) == 6


@pytest.mark.parametrize("build", [dense, convolutional, depthwise, attention])
def test_hidden_units_are_all_but_those_of_the_last_layer(build):
    model = built(build)
    unit, hidden = (aggregation.load(level).groups(model) for level in ("unit", "hidden_unit"))
    last = model.layers[-1]
    for part, u, h in zip(structure.parts(model), unit, hidden, strict=True):
        assert part.output == (part.layer is last)
        assert (h == -1).all() if part.layer is last else np.array_equal(u, h)


def test_what_stands_between_the_last_kernel_and_the_output_belongs_to_it():
    inside = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.BatchNormalization()], name="inside")
    inputs = keras.Input((2,))
    two = inside(layers.Dense(4)(inputs))
    model = keras.Model(inputs, [layers.Softmax()(two), layers.Dense(5, name="other")(two)])
    found = {(part.layer.name, part.output) for part in structure.parts(model)}
    assert {name for name, output in found if output} == {"other", inside.layers[0].name, inside.layers[1].name}
    assert [output for name, output in found if name not in ("other", *(layer.name for layer in inside.layers))] == [
        False
    ]


def test_hidden_units_of_a_model_that_does_not_say_what_comes_last():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    model = Own()
    model(np.zeros((1, 2), "float32"))
    assert aggregation.load("unit").groups(model)[0].tolist() == [[0, 1], [0, 1]]
    with pytest.raises(ValueError, match=r"Sequential or functional model .* 'hidden_unit'.* Use the level 'unit'"):
        aggregation.load("hidden_unit").groups(model)


def nested(*inside, shape=(3,)):
    return keras.Sequential([keras.Input(shape), *inside])


def dense_(name, units=3):
    return layers.Dense(units, name=name)


def two_inputs():
    """A nested model that makes one output of its first input and hands on the second."""
    a, b = keras.Input((3,)), keras.Input((3,))
    return keras.Model([a, b], layers.Add()([dense_("inside")(a), b]))


def two_outputs():
    a = keras.Input((3,))
    return keras.Model(a, [dense_("inside")(a), layers.Softmax()(a)])


def in_time(y):
    return layers.Reshape((3, 1))(y)


def frozen(layer):
    layer.trainable = False
    return layer


TAILS = [
    (lambda h, y: nested(layers.Softmax())(y), {"last"}),
    (lambda h, y: nested(nested(layers.Reshape((3, 1))), layers.Flatten())(y), {"last"}),
    (lambda h, y: nested(nested(dense_("inside")), layers.ReLU())(y), {"inside"}),
    (lambda h, y: layers.Lambda(lambda t: 2 * t)(keras.ops.exp(y)), {"last"}),
    (lambda h, y: layers.Reshape((3, 1))(layers.Activation("softmax")(y)), {"last"}),
    (lambda h, y: layers.Add()([h, y]), {"last", "hidden"}),
    (lambda h, y: h + dense_("more")(y), {"more", "hidden"}),
    (lambda h, y: layers.Concatenate()([y, dense_("more", 2)(h)]), {"last", "more"}),
    (lambda h, y: [y, dense_("more")(h)], {"last", "more"}),
    (lambda h, y: two_inputs()([h, y]), {"inside", "last"}),
    (lambda h, y: two_inputs()([y, h]), {"inside", "hidden"}),
    (lambda h, y: two_outputs()(y)[0], {"inside"}),
    (lambda h, y: two_outputs()(y)[1], {"last"}),
    (lambda h, y: layers.PReLU(name="bent")(y), {"bent", "last"}),
    (lambda h, y: layers.LayerNormalization(axis=(1, 2), name="normal")(in_time(y)), {"normal", "last"}),
    (lambda h, y: layers.Normalization(mean=[1.0] * 3, variance=[1.0] * 3, invert=True)(y), {"last"}),
    (lambda h, y: frozen(dense_("head"))(y), set()),
    (lambda h, y: nested(frozen(dense_("head")), layers.BatchNormalization(name="normal"))(y), {"normal"}),
    (lambda h, y: layers.EinsumDense("ab,b->ab", 3, name="scaled")(y), {"scaled", "last"}),
    (lambda h, y: layers.EinsumDense("ab,bc->ac", 3, name="mixed")(y), {"mixed"}),
    (lambda h, y: layers.RNN(layers.LSTMCell(3, name="cell"))(in_time(y)), {"cell"}),
    (lambda h, y: layers.TimeDistributed(dense_("each"))(in_time(y)), {"each"}),
    (lambda h, y: layers.SpectralNormalization(dense_("even"))(y), {"even"}),
    (lambda h, y: layers.DepthwiseConv1D(1, name="own")(layers.Conv1D(2, 1, name="all")(in_time(y))), {"own", "all"}),
]  # The outputs as made of a hidden layer's and of those of a layer behind it, and which layers then make them.


@pytest.mark.parametrize("tail, expected", TAILS)
def test_what_makes_the_outputs(tail, expected):
    inputs = keras.Input((2,))
    hidden = dense_("hidden")(inputs)
    model = keras.Model(inputs, tail(hidden, dense_("last")(hidden)))
    assert {part.layer.name for part in structure.parts(model) if part.output} == expected
    absent = [i for part, i in zip(structure.parts(model), aggregation.load("hidden_unit").groups(model), strict=True)
              if part.output]  # fmt: skip
    assert all((i == -1).all() for i in absent)


def test_a_layer_that_is_used_for_an_output_too_makes_outputs():
    inputs, shared = keras.Input((3,)), dense_("shared")
    model = keras.Model(inputs, shared(layers.ReLU()(dense_("between")(shared(inputs)))))
    assert {part.layer.name for part in structure.parts(model) if part.output} == {"shared"}
    inside = nested(dense_("low"), layers.ReLU(), dense_("high"))
    model = keras.Model(inputs, inside(dense_("between")(inside(inputs))))
    assert {part.layer.name for part in structure.parts(model) if part.output} == {"high"}


class Gated(layers.Layer):
    """Built of layers of Keras: who knows how?"""

    def build(self, shape):
        self.inner = layers.Dense(shape[-1])
        self.inner.build(shape)

    def call(self, x):
        return x * self.inner(x)


class Scaled(layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(name="scale", shape=(1, shape[-1]))

    def call(self, x):
        return x * self.scale


@pytest.mark.parametrize("own", [Gated, Scaled])
def test_a_layer_of_another_kind_stops_hidden_units_at_the_end_only(own):
    last = keras.Sequential([keras.Input((2,)), layers.Dense(3), own()])
    with pytest.raises(ValueError, match=r"ends in a layer of another kind\. Use the level 'unit'"):
        aggregation.load("hidden_unit").groups(last)
    first = keras.Sequential([keras.Input((2,)), Gated(), layers.Dense(3)])
    assert [i.max() for i in aggregation.load("hidden_unit").groups(first)] == [1, 1, -1, -1]
    for level in ("weight", "layer", "conv_filter"):
        assert aggregation.load(level).groups(last)


class Convolution(layers.Layer):
    """A convolution that is none of Keras's."""

    def build(self, shape):
        self.kernel = self.add_weight(name="kernel", shape=(1, shape[-1], 2))

    def call(self, x):
        return keras.ops.conv(x, self.kernel)


@pytest.mark.parametrize(
    "layer, shape, filters",
    [
        (layers.Conv2D(4, 2, groups=2), (5, 4, 2), {"kernel": 4}),
        (layers.Conv2DTranspose(4, 2), (5, 4, 2), {"kernel": 4}),
        (layers.DepthwiseConv2D(2, depth_multiplier=2), (5, 4, 2), {"kernel": 4}),
        (layers.SeparableConv2D(3, 2, depth_multiplier=2), (5, 4, 2), {"depthwise_kernel": 4, "pointwise_kernel": 3}),
        (layers.ConvLSTM1D(3, 2), (5, 4, 2), {"kernel": 3, "recurrent_kernel": 3}),
    ],
)
def test_filters_and_layers_of_all_convolutions(layer, shape, filters):
    model = keras.Sequential([keras.Input(shape), layer])
    parts = structure.parts(model)
    unit, filter_, whole = (aggregation.load(level).groups(model) for level in ("unit", "conv_filter", "layer"))
    for part, u, f, w in zip(parts, unit, filter_, whole, strict=True):
        assert (w == 0).all()
        assert len(np.unique(f)) == filters.get(part.role, part.shape[-1])
        # The same partition as that of units: each filter is in one unit, and each unit has one filter here.
        assert len(np.unique(np.stack([u.ravel(), f.ravel()]), axis=1).T) == (
            len(np.unique(u)) if part.role in filters else f.size
        )
    kernels = [f for part, f in zip(parts, filter_, strict=True) if part.role in filters]
    shared = np.intersect1d(kernels[0], kernels[-1]) if len(kernels) == 2 else []
    assert len(shared) == (3 if "recurrent_kernel" in filters else 0)


def test_a_convolution_of_another_kind_has_no_filters_that_are_known():
    model = keras.Sequential([keras.Input((4, 3)), Convolution()])
    with pytest.raises(ValueError, match=r"received 'kernel' of shape \(1, 3, 2\) .* a Convolution"):
        aggregation.load("conv_filter").groups(model)


@pytest.mark.parametrize("scope", thresholding.SCOPES)
@pytest.mark.parametrize("level", ["unit", "conv_filter", "hidden_unit"])
def test_units_of_every_kind_fall_as_one(level, scope):
    inputs = keras.Input((6, 3))
    hidden = layers.Bidirectional(layers.LSTM(2, return_sequences=True))(layers.SeparableConv1D(4, 2)(inputs))
    hidden = layers.GRU(3, return_sequences=True)(layers.PReLU()(hidden))
    hidden = layers.EinsumDense("abc,cde->aebd", (2, 5, 3), bias_axes="ed")(hidden)
    hidden = layers.GroupQueryAttention(2, 2, 1)(*[layers.Reshape((5, 6))(hidden)] * 2)
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(hidden)))
    ids = aggregation.load(level).groups(model)
    importances = [np.random.default_rng(n).random(i.shape) for n, i in enumerate(ids)]
    ranks = thresholding.rank(importances, ids, scope=scope, model=model)
    flat, groups_ = np.concatenate([r.ravel() for r in ranks]), np.concatenate([i.ravel() for i in ids])
    assert np.isinf(flat[groups_ < 0]).all()
    ends = [np.ptp(flat[groups_ == group]) for group in range(groups_.max() + 1)]
    assert len(ends) > 20 and not any(ends)


def test_names_and_an_unknown_level():
    levels = ["attention_head", "channel", "conv_filter", "hidden_unit", "layer", "unit", "weight"]
    assert aggregation.names() == levels
    with pytest.raises(ValueError, match=r"aggregation/ \(attention_head, .*, unit, weight\), received 'filter'"):
        aggregation.load("filter")


def test_a_level_that_labels_with_another_shape():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(3)])
    level = aggregation.Level("halves", lambda part: np.zeros(part.shape[:1], "int64"))
    with pytest.raises(ValueError, match=r"aggregation/halves.py .* shape \(2, 3\) .* received \(2,\)"):
        level.groups(model)


def test_a_level_of_models_that_leaves_a_variable_out():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(3)])
    level = aggregation.Level("halves", lambda model: [np.zeros((2, 3), "int64")])
    with pytest.raises(ValueError, match=r"aggregation/halves.py .* shape \(3,\) .* received None"):
        level.groups(model)


@pytest.mark.parametrize(
    "number, name, expected",
    [
        (0, "tensor", [[[0, 0], [0, 0]], [0, 0], [[1], [1]], [1]]),
        (1, "role", [[[0, 0], [0, 0]], [1, 1], [[0], [0]], [1]]),
    ],
)
def test_a_new_file_is_a_new_level(tmp_path, monkeypatch, number, name, expected):
    """The examples in the package's docstring work when they are copied into the folder."""
    example = aggregation.__doc__.split("```python\n")[1 + number].split("```")[0]
    assert f"aggregation/{name}.py" in example
    (tmp_path / f"{name}.py").write_text(example, encoding="utf-8")
    monkeypatch.setattr(aggregation, "__path__", [*aggregation.__path__, str(tmp_path)])
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2), layers.Dense(1)])
    try:
        assert name in aggregation.names()
        assert groups(name, model) == expected
    finally:
        sys.modules.pop(f"aggregation.{name}", None)


def test_a_model_that_is_not_built():
    with pytest.raises(ValueError, match="Expected a built model with trainable weights"):
        aggregation.load("unit").groups(keras.Sequential([layers.Dense(2)]))
