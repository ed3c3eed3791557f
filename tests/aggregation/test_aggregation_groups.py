"""Which weights stand or fall together: ids written out by hand, and what holds for every level and network."""

import functools
import sys

import keras
import numpy as np
import pytest
from keras import layers

import aggregation
from engine import structure


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
    ids = aggregation.load(level).groups(model)
    assert [i.shape for i in ids] == [tuple(v.shape) for v in model.trainable_variables]
    assert all(i.dtype == np.int64 for i in ids)
    flat = np.concatenate([i.ravel() for i in ids])
    assert np.array_equal(np.unique(flat[flat >= 0]), np.arange(flat.max() + 1)) and flat.min() >= -1
    assert flat.min() == (-1 if level == "hidden_unit" else 0)
    owners = {}
    for part, i in zip(structure.parts(model), ids, strict=True):
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
    with pytest.raises(ValueError, match=r"Sequential or functional model for the level 'hidden_unit'"):
        aggregation.load("hidden_unit").groups(model)


def test_names_and_an_unknown_level():
    assert aggregation.names() == ["conv_filter", "hidden_unit", "layer", "unit", "weight"]
    with pytest.raises(ValueError, match=r"aggregation/ \(conv_filter, .*, unit, weight\), received 'filter'"):
        aggregation.load("filter")


def test_a_level_that_labels_with_another_shape():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(3)])
    level = aggregation.Level("halves", lambda part: np.zeros(part.shape[:1], "int64"))
    with pytest.raises(ValueError, match=r"aggregation/halves.py .* shape \(2, 3\) .* received \(2,\)"):
        level.groups(model)


def test_a_new_file_is_a_new_level(tmp_path, monkeypatch):
    """The example in the package's docstring works when it is copied into the folder."""
    example = aggregation.__doc__.split("```python\n")[1].split("```")[0]
    (tmp_path / "tensor.py").write_text(example, encoding="utf-8")
    monkeypatch.setattr(aggregation, "__path__", [*aggregation.__path__, str(tmp_path)])
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2), layers.Dense(1)])
    try:
        assert "tensor" in aggregation.names()
        assert groups("tensor", model) == [[[0, 0], [0, 0]], [0, 0], [[1], [1]], [1]]
    finally:
        sys.modules.pop("aggregation.tensor", None)


def test_a_model_that_is_not_built():
    with pytest.raises(ValueError, match="Expected a built model with trainable weights"):
        aggregation.load("unit").groups(keras.Sequential([layers.Dense(2)]))
