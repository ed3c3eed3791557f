"""Levels whose groups lie across layers: heads written out by hand, and what scopes make of such groups."""

import keras
import numpy as np
import pytest
from keras import layers

import aggregation
import thresholding
from engine import backend, structure


def heads(layer, other=None):
    """Return the groups of a model with one attention layer by the roles of its variables."""
    x = keras.Input((5, 4))
    model = keras.Model(x, layers.Dense(2)(layer(x, x if other is None else other(x))))
    ids = aggregation.load("attention_head").groups(model)
    return {"/".join(v.path.split("/")[-2:]): i for v, i in zip(model.trainable_variables, ids, strict=True)}


@pytest.mark.parametrize("bias", [True, False])
def test_a_head_is_its_query_key_value_and_slice_of_the_output(bias):
    ids = heads(layers.MultiHeadAttention(2, 3, value_dim=1, use_bias=bias))
    for role, size in {"query": 3, "key": 3, "value": 1}.items():
        assert ids[f"{role}/kernel"].tolist() == [[[0] * size, [1] * size]] * 4
        assert not bias or ids[f"{role}/bias"].tolist() == [[0] * size, [1] * size]
    assert ids["attention_output/kernel"].tolist() == [[[0] * 4], [[1] * 4]]
    rest = [i for name, i in ids.items() if name.startswith("dense") or name == "attention_output/bias"]
    assert len(rest) == 2 + bias and all((i == -1).all() for i in rest)


def test_of_grouped_queries_the_group_is_the_query_head():
    ids = heads(layers.GroupQueryAttention(2, 4, 2))
    assert ids["query/kernel"][0].tolist() == ids["query/bias"].tolist() == [[0, 0], [1, 1], [2, 2], [3, 3]]
    assert ids["attention_output/kernel"][:, 0, 0].tolist() == [0, 1, 2, 3]
    assert all((ids[f"{role}/{name}"] == -1).all() for role in ("key", "value") for name in ("kernel", "bias"))
    alone = heads(layers.GroupQueryAttention(2, 3, 3))
    assert alone["key/bias"].tolist() == alone["value/bias"].tolist() == [[0, 0], [1, 1], [2, 2]]


@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.MultiHeadAttention(3, 2),
        lambda: layers.MultiHeadAttention(2, 2, use_gate=True),
        lambda: layers.GroupQueryAttention(2, 4, 2),
        lambda: layers.GroupQueryAttention(2, 2, 2, use_gate=True),
    ],
)
def test_without_a_head_the_layer_gives_what_the_others_give(make):
    """The output is a sum over heads: what each adds is what is missing without it."""
    x = keras.Input((5, 4))
    model = keras.Model(x, make()(x, x))
    rng = np.random.default_rng(0)
    for v in model.weights:
        v.assign(rng.normal(size=v.shape))
    ids, given = aggregation.load("attention_head").groups(model), rng.normal(size=(2, 5, 4)).astype("float32")
    weights = [backend.copied(v) for v in model.weights]

    def run(kept):
        own = dict(zip([id(v) for v in model.trainable_variables], ids, strict=True))
        model.set_weights(
            [np.where(np.isin(own[id(v)], gone(kept)), 0, w) for v, w in zip(model.weights, weights, strict=True)]
        )
        return model.predict_on_batch(given)

    every = range(max(i.max() for i in ids) + 1)

    def gone(kept):
        return [head for head in every if head not in kept]

    nothing, whole = run([]), run(every)
    alone = sum(run([head]) - nothing for head in every)
    np.testing.assert_allclose(alone, whole - nothing, atol=1e-4)
    assert all(abs(run(gone([head])) - whole).max() > 1e-3 for head in every)


def cut(variables, ids, gone, smaller):
    """Copy what is not of some heads into a smaller model's variables."""
    for v, own, i in zip(smaller, variables, ids, strict=True):
        v.assign(backend.copied(own)[~np.isin(i, gone)].reshape(v.shape))


def attending(make):
    keras.utils.set_random_seed(1)
    x = keras.Input((5, 4))
    return keras.Model(x, make()(x, x))


def without(model, ids, gone, given):
    kept = [backend.copied(v) for v in model.weights]
    for v, value, i in zip(model.weights, kept, ids, strict=True):
        v.assign(np.where(np.isin(i, gone), 0, value))
    found = model.predict_on_batch(given)
    for v, value in zip(model.weights, kept, strict=True):
        v.assign(value)
    return found


def test_without_a_head_the_layer_is_the_one_built_without_it():
    model, smaller = (attending(lambda n=n: layers.MultiHeadAttention(n, 3)) for n in (3, 2))
    ids, given = aggregation.load("attention_head").groups(model), np.random.default_rng(0).random((2, 5, 4), "float32")
    for head in range(3):
        cut(model.weights, ids, [head], smaller.weights)
        found = smaller.predict_on_batch(given)
        np.testing.assert_allclose(found, without(model, ids, [head], given), atol=1e-5)


def test_a_shared_key_and_value_head_is_of_no_use_without_its_queries():
    model, smaller = (attending(lambda n=n: layers.GroupQueryAttention(3, 2 * n, n)) for n in (3, 2))
    ids, given = aggregation.load("attention_head").groups(model), np.random.default_rng(0).random((2, 5, 4), "float32")
    shared = [i.copy() for i in ids]
    for v, i in zip(model.weights, shared, strict=True):
        if v.path.split("/")[-2] in ("key", "value"):
            i.reshape(-1, 3, 3)[:, 1] = 2  # the second, which queries 2 and 3 use
    cut(model.weights, shared, [2, 3], smaller.weights)
    np.testing.assert_allclose(smaller.predict_on_batch(given), without(model, ids, [2, 3], given), atol=1e-5)


def test_heads_of_several_layers_have_numbers_of_their_own_and_frozen_ones_none():
    x = keras.Input((5, 4))
    first, second, frozen = (layers.MultiHeadAttention(2, 2) for _ in range(3))
    model = keras.Model(x, frozen(second(first(x, x), x), x))
    frozen.trainable = False
    ids = aggregation.load("attention_head").groups(model)
    assert [np.unique(i[i >= 0]).tolist() for i in ids] == [[0, 1]] * 7 + [[]] + [[2, 3]] * 7 + [[]]


def test_a_model_without_heads():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(3)], name="plain")
    with pytest.raises(ValueError, match=r"trainable MultiHeadAttention .* received 'plain', which has none"):
        aggregation.load("attention_head").groups(model)


def transformer():
    tokens = keras.Input((5,), dtype="int32")
    stream = layers.Embedding(7, 4)(tokens)
    stream = stream + layers.MultiHeadAttention(2, 3)(layers.LayerNormalization()(stream), stream)
    stream = stream + layers.Dense(4)(layers.Dense(6, activation="relu")(stream))
    return keras.Model(tokens, layers.Dense(3)(layers.GlobalAveragePooling1D()(stream)))


@pytest.mark.parametrize("level, counts", [("channel", {"layer": [4, 6], "model": [10]}),
                                           ("attention_head", {"layer": [2], "model": [2]})])  # fmt: skip
@pytest.mark.parametrize("scope", ["layer", "model"])
def test_groups_across_layers_fall_as_one_in_the_scope_of_their_first_layer(level, counts, scope):
    model = transformer()
    ids = aggregation.load(level).groups(model)
    made = thresholding.Partition(ids, model, scope)
    rng = np.random.default_rng(0)
    importances = [rng.random(i.shape) for i in ids]
    assert [len(values) for values in made.values(importances)] == counts[scope]
    found = made.rank(importances)
    flat, members = (np.concatenate([a.ravel() for a in arrays]) for arrays in (found.ranks, ids))
    assert np.isinf(flat[members < 0]).all() and np.isfinite(flat[members >= 0]).all()
    assert not any(np.ptp(flat[members == group]) for group in range(members.max() + 1))
    assert made.participating == (members >= 0).sum()
    for t in (0, 0.25, 0.5, 1):
        assert found.replaced([t]) == (flat < t).sum()
    means = np.array(
        [np.concatenate([a.ravel() for a in importances])[members == g].mean() for g in range(members.max() + 1)]
    )
    np.testing.assert_allclose(np.sort(np.concatenate(made.values(importances))), np.sort(means), rtol=1e-6)


def test_where_a_role_takes_no_part_a_group_is_in_the_scope_of_the_first_layer_that_does():
    x = keras.Input((4,))
    model = keras.Model(x, layers.Dense(1)(layers.BatchNormalization()(layers.Dense(3)(x))))
    ids = aggregation.load("channel").groups(model)
    made = thresholding.Partition(ids, model, "layer", ["gamma"])
    ranks = made.rank([np.arange(i.size, dtype="float32").reshape(i.shape) for i in ids]).ranks
    assert [part.role for part, r in zip(structure.parts(model), ranks, strict=True) if np.isfinite(r).any()] == [
        "gamma"
    ]
