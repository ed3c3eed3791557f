"""What the loss does without some weights: the short way of whole units against running the whole model."""

import keras
import numpy as np
import pytest
from keras import layers

import aggregation
from engine import elimination, removal

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def residual():
    given = keras.Input((5, 5, 2))
    first = layers.Conv2D(4, 3, padding="same", activation="relu")(given)
    inner = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same", groups=2, use_bias=False)(first))
    joined = layers.Activation("relu")(layers.Add()([first, inner]))
    deep = layers.DepthwiseConv2D(2, depth_multiplier=2)(joined)
    return keras.Model(given, layers.Dense(3)(layers.GlobalAveragePooling2D()(deep)))


def dense():
    given = keras.Input((5,))
    shared = layers.Dense(5, "tanh")
    return keras.Model(given, layers.Dense(3)(layers.Dense(6, "relu")(shared(shared(given)))))


def chain():
    """Dense layers one behind the other, with what may stand between them."""
    stack = [layers.Dense(6, "tanh"), layers.BatchNormalization(), layers.PReLU(), layers.Dense(5, use_bias=False)]
    stack += [layers.LeakyReLU(0.1), layers.Dropout(0.5), layers.Dense(4, "softmax"), layers.Dense(3)]
    return keras.Sequential([keras.Input((5,)), *stack])


def test_only_of_units_that_one_dense_layer_alone_hears_of_one_row_is_changed():
    def following(model):
        x = np.random.default_rng(0).standard_normal((4, *model.input_shape[1:])).astype("float32")
        groups = aggregation.load("unit").groups(model)
        units = elimination._units(model, x, groups, 1 + max(ids.max() for ids in groups))
        found = {use.layer.name: elimination._following(model, use, x) for use, _ in units}
        return [found[layer.name] and found[layer.name].layer for layer in model.layers if layer.name in found]

    model = chain()
    _, second, third, _ = (layer for layer in model.layers if isinstance(layer, layers.Dense))
    assert following(model) == [second, third, None, None]  # a softmax makes an output of all units
    given = keras.Input((4,))
    heard_twice = layers.Dense(5)(given)
    assert following(keras.Model(given, layers.Dense(3)(layers.Dense(5)(heard_twice) + heard_twice)))[0] is None
    frozen = layers.Dense(3, trainable=False)
    assert following(keras.Model(given, layers.Dense(2)(frozen(heard_twice)))) == [None, None]


@pytest.mark.parametrize("build, units", [(residual, 4 + 4 + 3), (dense, 6 + 3), (chain, 6 + 5 + 4 + 3)])
@pytest.mark.parametrize("level", ["unit", "layer"])
def test_of_whole_units_it_is_what_the_whole_model_says(build, units, level, monkeypatch):
    keras.utils.set_random_seed(0)
    model, rng = build(), np.random.default_rng(1)
    for variable in model.variables:  # statistics of normalisations that are not their start
        variable.assign(rng.random(variable.shape).astype("float32"))
    x, y = rng.standard_normal((7, *model.input_shape[1:])).astype("float32"), rng.integers(0, 3, 7)
    groups = aggregation.load(level).groups(model)
    new = [rng.standard_normal(v.shape).astype("float32") for v in model.trainable_variables]
    wanted = np.unique(np.concatenate([g.ravel() for g in groups]))[1::2]

    def changes():
        return removal.loss_changes(model, LOSS, x, y, groups, wanted, new)

    monkeypatch.setattr(elimination, "BATCH", 3)
    monkeypatch.setattr(elimination, "GROUPS_AT_ONCE", 4)
    count = 1 + max(ids.max() for ids in groups)
    found = [owners[owners >= 0] for _, owners in elimination._units(model, x, groups, count)]
    assert sum(map(len, found)) == (units if level == "unit" else 0)
    short = changes()
    monkeypatch.setattr(elimination, "_units", lambda *arguments: [])
    for found, expected in zip(short, changes(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        assert np.abs(expected).max() > 1e-3
