"""Scopes other than layers and the model: against plain loops, and what holds for any importances."""

import functools

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers
from reference_scopes import ranks as plain_ranks

import aggregation
import thresholding
from engine import structure

few_examples = settings(max_examples=30, deadline=None)
ALLOCATED = ["model:lamp", "model:owl"]
SCOPES = ["layer", "model", "output", "2:4", "1:2", *ALLOCATED]


@functools.cache
def dense():
    return keras.Sequential([keras.Input((8,)), layers.Dense(4), layers.Dense(3)])


@functools.cache
def convolutional():
    return keras.Sequential([keras.Input((4, 4, 2)), layers.Conv2D(4, 2), layers.Conv2D(4, (2, 2))])


def shapes(model):
    return [tuple(v.shape) for v in model.trainable_variables]


def shaped(flat, model):
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes(model)])[:-1]
    return [part.reshape(shape) for part, shape in zip(np.split(flat, ends), shapes(model), strict=True)]


def flattened(arrays):
    return np.concatenate([a.ravel() for a in arrays])


def size(model):
    return sum(int(np.prod(shape)) for shape in shapes(model))


@functools.cache
def partition(make, scope, level="weight"):
    return thresholding.Partition(aggregation.load(level).groups(make()), make(), scope)


@st.composite
def all_different(draw, make=dense):
    """Draw importances that are all different, of very different sizes or not."""
    order = draw(st.permutations(range(size(make()))))
    power = draw(st.sampled_from([0.5, 1, 8]))
    return ((np.array(order) + 1) / len(order)).astype("float32") ** np.float32(power)


@few_examples
@given(scores=all_different(), scope=st.sampled_from(SCOPES))
def test_ranks_are_those_of_plain_loops(scores, scope):
    agrees(partition(dense, scope).rank(shaped(scores, dense())), scores, dense(), scope)


def agrees(found, scores, model, scope):
    """Compare with the plain loops; in a few allocations weights of two layers tie, which the loops put together."""
    ranks, expected = flattened(found.ranks), plain_ranks(scores.astype("float64"), shapes(model), scope)
    together = np.array([(expected == rank).sum() for rank in expected]) if scope in ALLOCATED else 1
    room = np.where(np.isinf(expected), 0, (together - 1) / len(ranks))
    assert (ranks >= expected - 1e-6).all() and (ranks <= expected + room + 1e-6).all()
    if scope in ALLOCATED:
        np.testing.assert_allclose(np.sort(ranks), np.arange(len(ranks)) / len(ranks), rtol=1e-6)


@pytest.mark.parametrize("scope", SCOPES)
def test_the_inputs_of_a_filter_are_its_rows_columns_and_channels_in_order(scope):
    scores = np.random.default_rng(0).permutation(size(convolutional())).astype("float32") + 1
    agrees(partition(convolutional, scope).rank(shaped(scores, convolutional())), scores, convolutional(), scope)


ties = st.lists(st.integers(0, 3), min_size=size(dense()), max_size=size(dense())).map(
    lambda values: np.array(values, "float32")
)


@few_examples
@given(scores=ties, scope=st.sampled_from(SCOPES), seed=st.integers(0, 3))
def test_masks_are_nested_and_counted_and_what_falls_first_is_not_more_important(scores, scope, seed):
    made = partition(dense, scope)
    found = made.rank(shaped(scores, dense()), seed=seed)
    flat = flattened(found.ranks)
    ts = np.unique(np.concatenate([flat[np.isfinite(flat)], np.linspace(0, 1, 9, dtype="float32")]))
    assert found.replaced(ts).tolist() == [(flat < t).sum() for t in ts]
    assert (flat < 1).sum() == made.participating
    where = np.array([0] * 36 + [1] * 15)  # layers; in blocks ranks are compared within less, as the plain loops show
    if not scope[0].isdigit() and scope != "output":
        for layer in (0, 1):
            own, ranks = scores[where == layer], flat[where == layer]
            assert scope == "model" or (np.diff(own[np.argsort(ranks, kind="stable")]) >= 0).all()
    again = flattened(made.rank(shaped(scores, dense()), seed=seed).ranks)
    assert np.array_equal(flat, again)


@few_examples
@given(scores=ties, scope=st.sampled_from(["2:4", "1:2", "3:4"]))
def test_of_each_block_the_same_number_falls(scores, scope):
    length = int(scope.split(":")[1])
    found = partition(dense, scope).rank(shaped(scores, dense()))
    assert all(np.isinf(ranks).all() for ranks in found.ranks[1::2])  # biases
    for fallen in range(length + 1):
        t = np.float32(fallen / length)
        for kernel in found.ranks[::2]:
            blocks = (kernel < t).T.reshape(kernel.shape[1], -1, length)
            assert (blocks.sum(axis=2) == fallen).all()


@few_examples
@given(scores=ties, t=st.floats(0, 1, width=32))
def test_of_each_output_the_same_fraction_falls(scores, t):
    kernel, bias, *_ = partition(dense, "output").rank(shaped(scores, dense())).ranks
    fallen = (kernel < np.float32(t)).sum(axis=0) + (bias < np.float32(t))
    assert (abs(fallen - 9 * t) < 1 + 1e-4).all() and np.ptp(fallen) == 0


@few_examples
@given(scores=all_different(), scope=st.sampled_from(ALLOCATED), t=st.floats(0, 1, width=32))
def test_an_allocation_keeps_the_fraction_and_the_order_within_layers(scores, scope, t):
    found = flattened(partition(dense, scope).rank(shaped(scores, dense())).ranks)
    assert 0 <= (found < t).sum() - t * len(found) + 1e-3 < 1 + 2e-3
    within = flattened(partition(dense, "layer").rank(shaped(scores, dense())).ranks)
    fractions = []
    for layer in (slice(0, 36), slice(36, None)):
        assert np.array_equal(np.argsort(found[layer]), np.argsort(within[layer]))
        fractions.append((found[layer] < t).mean())
    if scope == "model:owl" and all(0 < fraction < 1 for fraction in fractions):
        assert abs(fractions[0] - fractions[1]) <= 0.16 + 2 / 15


def test_lamp_of_magnitudes_is_the_published_score():
    """Two layers by hand: 1/(1+4+9), 4/(4+9), 9/9, and 1/(1+1), 1/1 by place, so that the smaller layer falls later."""
    model = keras.Sequential([keras.Input((1,)), layers.Dense(3, use_bias=False), layers.Dense(1, use_bias=False)])
    model.layers[1].kernel.assign([[2.0], [1.0], [4.0]])
    ids = aggregation.load("weight").groups(model)
    found = thresholding.rank([np.array([[1.0, 2.0, 3.0]]), np.array([[2.0], [1.0], [4.0]])], ids, scope="model:lamp",
                              model=model)  # fmt: skip
    # 1/14, 4/13, 1 and 4/20, 1/21, 1: in order 1/21, 1/14, 4/20, 4/13, and the two at the top of their layers
    assert np.round(found[0] * 6, 4).tolist()[0][:2] == [1, 3] and np.round(found[1] * 6, 4)[:2, 0].tolist() == [2, 0]
    assert sorted([found[0][0, 2] * 6, found[1][2, 0] * 6]) == pytest.approx([4, 5])


def test_owl_takes_less_of_a_layer_with_outliers():
    model = keras.Sequential([keras.Input((1,)), layers.Dense(100, use_bias=False), layers.Dense(1, use_bias=False)])
    scores = [np.linspace(1, 2, 100)[None], np.linspace(1, 2, 100)[:, None]]
    scores[1][-10:] = 100
    ids = aggregation.load("weight").groups(model)
    made = thresholding.Partition(ids, model, "model:owl").rank([s.astype("float32") for s in scores])
    assert (made.ranks[0] < 0.5).sum() == 58 and (made.ranks[1] < 0.5).sum() == 42
    assert made.tie_fraction == 0.05  # the ten outliers alone: places of two layers that are alike are no ties


@pytest.mark.parametrize("scope", ALLOCATED)
@pytest.mark.parametrize("level", ["unit", "layer"])
def test_groups_are_shared_out_as_one(level, scope):
    made, ids = partition(dense, scope, level), aggregation.load(level).groups(dense())
    scores = np.random.default_rng(3).random(size(dense())).astype("float32")
    found, members = flattened(made.rank(shaped(scores, dense())).ranks), flattened(ids)
    assert not any(np.ptp(found[members == group]) for group in np.unique(members))
    zeros = made.rank(shaped(np.zeros_like(scores), dense()))
    assert (flattened(zeros.ranks) < 1).all()


def test_what_has_no_output_is_compared_within_its_layer():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2), layers.BatchNormalization(), layers.Dense(1)])
    ids = aggregation.load("weight").groups(model)
    scores = [np.arange(a.size, dtype="float32").reshape(a.shape) for a in ids]
    found = thresholding.rank(scores, ids, scope="output", model=model)
    gamma, beta = found[2:4]
    assert sorted([*gamma, *beta]) == [0, 0.25, 0.5, 0.75]


def test_blocks_of_recurrent_and_other_kernels():
    """The gates of a unit are outputs of their own; depthwise kernels, embeddings and biases are seen as they are."""
    model = keras.Sequential([keras.Input((3, 4)), layers.LSTM(2), layers.Dense(2)])
    ids = aggregation.load("weight").groups(model)
    scores = [np.random.default_rng(0).random(a.shape) for a in ids]
    found = thresholding.rank(scores, ids, scope="1:2", model=model)
    for part, ranks in zip(structure.parts(model), found, strict=True):
        if part.role == "bias":
            assert np.isinf(ranks).all()
        else:
            assert ((ranks < 0.5).reshape(-1, 2, ranks.shape[1]).sum(axis=1) == 1).all()


# What must not be


@pytest.mark.parametrize("scope", ["4:2", "2:2", "0:4", "2:4:8", "model:", "model:lamb", "lamp", 2, None, 124])
def test_what_is_no_scope(scope):
    with pytest.raises(
        ValueError, match=r"Expected scope to be one of 'layer', 'output', .* such as '2:4'.*, received"
    ):
        thresholding.Partition(aggregation.load("weight").groups(dense()), dense(), scope)


def test_inputs_that_do_not_divide():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(6), layers.Dense(3, name="narrow")])
    ids = aggregation.load("weight").groups(model)
    with pytest.raises(ValueError, match=r"inputs that 4 divides for the scope '2:4', received 6 .* in '.*narrow'"):
        thresholding.Partition(ids, model, "2:4")
    assert thresholding.Partition(ids, model, "1:2")


class Scaled(layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(name="scale", shape=(1, shape[-1]))

    def call(self, x):
        return x * self.scale


@pytest.mark.parametrize("scope", ["output", "2:4"])
def test_layers_whose_outputs_nobody_knows(scope):
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4), Scaled(name="own")])
    ids = aggregation.load("weight").groups(model)
    with pytest.raises(ValueError, match=r"what an output is, received 'scale' in '.*own', a Scaled. Use the scope"):
        thresholding.Partition(ids, model, scope)


@pytest.mark.parametrize("scope", ["output", "2:4"])
def test_groups_in_scopes_of_weights(scope):
    with pytest.raises(ValueError, match=r"Expected weights that stand alone for the scope .* at the level 'weight'"):
        partition(dense, scope, "unit")


@pytest.mark.parametrize("thresholds", [[0, 0.3, 0.5, 1], [0, 0.25, 0.75, 1], [0.49999]])
def test_thresholds_between_blocks(thresholds):
    with pytest.raises(ValueError, match=r"multiples of 1/4, 0.5 among them, .*'2:4'.* thresholds=\[0, 0.25, 0.5, 0.7"):
        thresholding.check_thresholds("2:4", thresholds)


def test_thresholds_that_are_rounded_are_multiples():
    thresholding.check_thresholds("2:3", [0, 0.3333333333, 0.6666666667, 1])
    thresholding.check_thresholds("layer", [0.123])
    third = keras.Sequential([keras.Input((3,)), layers.Dense(2, use_bias=False)])
    ids = aggregation.load("weight").groups(third)
    (ranks,) = thresholding.rank([np.random.default_rng(0).random((3, 2))], ids, scope="2:3", model=third)
    assert [(ranks < np.float32(t)).sum() for t in (0.3333333333, 0.6666666667)] == [2, 4]
