"""Importances to ranks to weights: examples by hand, and what holds for any importances."""

import functools
import tracemalloc

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from keras import layers
from scipy import stats

import aggregation
import thresholding
from engine import draws

LEVELS = ["conv_filter", "layer", "unit", "weight"]  # where all weights take part
SHAPES = [(3, 4), (4,), (4, 2), (2,)]  # 16 weights in the first layer, 10 in the second
LAYERS = [[0, 1], [2, 3]]
unit_fraction = st.floats(0, 1, width=32)


@functools.cache
def model():
    return keras.Sequential([keras.Input((3,)), layers.Dense(4), layers.Dense(2)])


@functools.cache
def one_layer(units):
    return keras.Sequential([keras.Input((1,)), layers.Dense(units, use_bias=False)])


@functools.cache
def groups(level):
    return aggregation.load(level).groups(model())


def partition(level, scope="layer", variables="all"):
    return thresholding.Partition(groups(level), model(), scope, variables)


def scopes(scope):
    """List which variables make up each scope."""
    return LAYERS if scope == "layer" else [[0, 1, 2, 3]]


def whole_numbers(highest):
    """Draw importances that are whole numbers, so that a few often tie and monotone functions of them are exact."""
    return st.tuples(*(arrays.arrays("float32", shape, elements=st.integers(0, highest)) for shape in SHAPES))


importances = st.one_of(
    whole_numbers(3),
    st.tuples(*(arrays.arrays("float32", s, elements=st.floats(0, np.finfo("float32").max, width=32)) for s in SHAPES)),
)
a_ranking = {
    "scores": importances,
    "level": st.sampled_from(LEVELS),
    "scope": st.sampled_from(thresholding.SCOPES),
    "reduction": st.sampled_from(sorted(thresholding.REDUCTIONS)),
    "seed": st.integers(0, 5),
}
few_examples = settings(max_examples=60, deadline=None)


# By hand


def test_rank_is_the_fraction_that_falls_before():
    ranks = thresholding.rank(
        [np.array([[4.0, 1.0, 3.0, 2.0]])], [np.arange(4).reshape(1, 4)], model=one_layer(4), seed=0
    )
    assert ranks[0].dtype == np.float32 and ranks[0].tolist() == [[0.75, 0, 0.5, 0.25]]
    weights = [np.array([[10.0, 20.0, 30.0, 40.0]])]
    for t, kept in {
        0: [10, 20, 30, 40], 0.25: [10, 0, 30, 40], 0.3: [10, 0, 30, 0], 0.5: [10, 0, 30, 0], 0.75: [10, 0, 0, 0],
        0.8: [0, 0, 0, 0], 1: [0, 0, 0, 0],
    }.items():  # fmt: skip
        (replaced,) = thresholding.threshold(weights, ranks, t)
        assert replaced.dtype == np.float32 and replaced.tolist() == [kept], t


@pytest.mark.parametrize(
    "reduction, values, ranks",
    [
        ("mean", [3, 4, 2.5], [2 / 6, 5 / 6, 0]),
        ("sum", [9, 4, 5], [3 / 6, 0, 1 / 6]),
        ("minimum", [1, 4, 0], [2 / 6, 5 / 6, 0]),
        ("maximum", [6, 4, 5], [3 / 6, 0, 1 / 6]),
    ],
)
def test_a_group_shares_what_the_reduction_makes_of_its_members(reduction, values, ranks):
    scores, ids = [np.array([[1.0, 2.0, 6.0, 4.0, 0.0, 5.0]])], [np.array([[0, 0, 0, 1, 2, 2]])]
    made = thresholding.Partition(ids, one_layer(6))
    assert [v.tolist() for v in made.values(scores, reduction)] == [values]
    first, alone, last = ranks
    found = made.rank(scores, reduction).ranks[0][0]
    np.testing.assert_allclose(found, [first, first, first, alone, last, last], rtol=1e-6)


def test_scope_says_within_what_ranks_are_compared():
    scores = [np.full(shape, 1.0 if index < 2 else 5.0) for index, shape in enumerate(SHAPES)]
    within = thresholding.rank(scores, groups("weight"), scope="layer", model=model())
    across = thresholding.rank(scores, groups("weight"), scope="model", model=model())
    for variables, size in zip(LAYERS, (16, 10), strict=True):
        joined = np.sort(np.concatenate([within[v].ravel() for v in variables]))
        np.testing.assert_allclose(joined, np.arange(size) / size, rtol=1e-6)
    first, second = (np.concatenate([across[v].ravel() for v in variables]) for variables in LAYERS)
    np.testing.assert_allclose(np.sort(first), np.arange(16) / 26, rtol=1e-6)
    np.testing.assert_allclose(np.sort(second), np.arange(16, 26) / 26, rtol=1e-6)


def test_a_unit_falls_with_its_bias():
    scores = [np.zeros(shape) for shape in SHAPES]
    scores[0][:] = [3, 1, 2, 4]
    scores[1][:] = [3, 1, 2, 4]
    ranks = thresholding.rank(scores, groups("unit"), model=model())
    assert ranks[0].tolist() == [[0.5, 0, 0.25, 0.75]] * 3 and ranks[1].tolist() == [0.5, 0, 0.25, 0.75]


def test_variables_that_take_no_part_are_never_replaced():
    scores = [np.zeros(shape) for shape in SHAPES]
    made = partition("unit", variables=["kernel"])
    ranks = made.rank(scores).ranks
    assert np.isinf(ranks[1]).all() and np.isinf(ranks[3]).all()
    assert np.isfinite(ranks[0]).all() and made.participating == 20
    weights = [np.ones(shape) for shape in SHAPES]
    replaced = thresholding.threshold(weights, ranks, 1.0)
    assert [w.mean() for w in replaced] == [0, 1, 0, 1]
    assert made.rank(scores).replaced([0, 1]).tolist() == [0, 20]
    only = thresholding.rank(scores, groups("weight"), model=model(), scope="model", variables=["bias"])
    assert np.sort(np.concatenate([only[1], only[3]])) == pytest.approx(np.arange(6) / 6)


@pytest.mark.parametrize("scope", thresholding.SCOPES)
def test_hidden_units_fall_as_units_do_and_output_units_never(scope):
    random = np.random.default_rng(1)
    scores = [random.random(shape) for shape in SHAPES]
    made = partition("hidden_unit", scope)
    hidden, unit = made.rank(scores), partition("unit").rank(scores)
    assert all(np.array_equal(hidden.ranks[v], unit.ranks[v]) for v in (0, 1))
    assert all(np.isinf(hidden.ranks[v]).all() for v in (2, 3))
    assert made.participating == 16 and hidden.replaced([0, 0.5, 1]).tolist() == [0, 8, 16]
    assert [len(v) for v in made.values(scores)] == [4]
    with pytest.raises(ValueError, match="a level and variables that leave none"):
        thresholding.Partition(aggregation.load("hidden_unit").groups(one_layer(3)), one_layer(3))


def test_minus_zero_ties_with_zero():
    scores = [np.array([[0.0, -0.0, -0.0, 0.0]])]
    made = thresholding.Partition([np.arange(4).reshape(1, 4)], one_layer(4)).rank(scores)
    assert made.tie_fraction == 1


def test_tie_fraction_counts_weights_in_groups_whose_importance_another_group_has():
    ids = [np.array([[0, 0, 1, 2, 3, 3, 3, 4]])]
    scores = [np.array([[5.0, 5.0, 5.0, 1.0, 2.0, 2.0, 2.0, 3.0]])]
    assert thresholding.Partition(ids, one_layer(8)).rank(scores).tie_fraction == 3 / 8


def test_ranks_stay_below_one_however_many_weights_there_are():
    made = object.__new__(thresholding.Partition)
    made._shapes, made.participating = [(2,)], 2**26 + 1
    made._scopes = [thresholding._Scope([(0, None)], None, np.array([2**26, 1]), None)]
    found = made.rank([np.array([1.0, 2.0])])
    assert found.ranks[0].max() < 1
    assert found.replaced([1.0]).tolist() == [2**26 + 1]


# For any importances


@few_examples
@given(**a_ranking, ts=st.lists(unit_fraction, min_size=1, max_size=6))
def test_between_nothing_and_everything_the_fraction_asked_for(scores, level, scope, reduction, seed, ts):
    found = partition(level, scope).rank(scores, reduction, seed)
    ids = groups(level)
    for t in [0.0, *sorted(ts), 1.0]:
        masks = [ranks < np.float32(t) for ranks in found.ranks]
        for variables in scopes(scope):
            mask = np.concatenate([masks[v].ravel() for v in variables])
            members = np.concatenate([ids[v].ravel() for v in variables])
            _, inverse, sizes = np.unique(members, return_inverse=True, return_counts=True)
            fallen = np.bincount(inverse, mask)
            assert np.isin(fallen / sizes, [0, 1]).all()
            surplus = mask.sum() - t * len(mask)
            assert -1e-4 <= surplus < sizes.max() + 1e-4
            if t in (0, 1):
                assert mask.sum() == t * len(mask)


@few_examples
@given(**a_ranking, ts=st.lists(unit_fraction, min_size=2, max_size=8))
def test_masks_are_nested_and_counted(scores, level, scope, reduction, seed, ts):
    found = partition(level, scope, ["kernel"] if seed == 1 else "all").rank(scores, reduction, seed)
    ts = np.sort(np.array([0, *ts, 1], "float32"))
    masks = np.stack([np.concatenate([(r < t).ravel() for r in found.ranks]) for t in ts])
    assert (np.diff(masks.astype(int), axis=0) >= 0).all()
    assert found.replaced(ts).tolist() == masks.sum(axis=1).tolist()


@few_examples
@given(**a_ranking)
def test_thresholds_at_the_ranks_themselves_are_counted_exactly(scores, level, scope, reduction, seed):
    found = partition(level, scope).rank(scores, reduction, seed)
    flat = np.concatenate([r.ravel() for r in found.ranks])
    ts = np.unique(np.concatenate([flat, np.nextafter(flat, np.float32(2)), np.linspace(0, 1, 21, dtype="float32")]))
    assert found.replaced(ts).tolist() == [(flat < t).sum() for t in ts]


@few_examples
@given(**a_ranking)
def test_what_falls_first_is_not_more_important(scores, level, scope, reduction, seed):
    made = partition(level, scope)
    found = made.rank(scores, reduction, seed)
    for variables, values in zip(scopes(scope), made.values(scores, reduction), strict=True):
        members = np.concatenate([groups(level)[v].ravel() for v in variables])
        ranks = np.concatenate([found.ranks[v].ravel() for v in variables])
        shared = values[np.unique(members, return_inverse=True)[1]]
        assert (np.diff(shared[np.argsort(ranks, kind="stable")]) >= 0).all()


@few_examples
@given(
    scores=whole_numbers(1000),
    level=st.sampled_from(["weight", "unit"]),
    reduction=st.sampled_from(["minimum", "maximum"]),
    scope=st.sampled_from(thresholding.SCOPES),
    seed=st.integers(0, 5),
)
def test_only_the_order_of_importances_counts(scores, level, reduction, scope, seed):
    made = partition(level, scope)
    expected = made.rank(scores, reduction, seed)
    for transform in (lambda v: 3 * v + 1, np.square, np.sqrt):
        found = made.rank([transform(s) for s in scores], reduction, seed)
        assert all(np.array_equal(a, b) for a, b in zip(found.ranks, expected.ranks, strict=True))
        assert found.tie_fraction == expected.tie_fraction


@few_examples
@given(**a_ranking)
def test_ranks_are_those_of_a_plain_sort(scores, level, scope, reduction, seed):
    """One sort by importance and, where it is the same, by place in the shuffle that the seed draws for the scope."""
    found = partition(level, scope).rank(scores, reduction, seed)
    reduce = {"mean": np.mean, "sum": np.sum, "minimum": np.min, "maximum": np.max}[reduction]
    for number, variables in enumerate(scopes(scope)):
        flat, ids, ranks = (
            np.concatenate([a[v].ravel() for v in variables]) for a in (scores, groups(level), found.ranks)
        )
        names = np.unique(ids)
        with np.errstate(over="ignore"):  # a sum that is too large is the largest there is
            values = np.array([reduce(flat[ids == name].astype("float64")) for name in names])
        values = np.minimum(values, np.finfo("float32").max).astype("float32")
        place = np.argsort(draws.generator(seed, "ties", number).permutation(len(names)))
        before = 0
        for group in np.lexsort((place, values)):
            assert (ranks[ids == names[group]] == np.float32(before / len(flat))).all()
            before += (ids == names[group]).sum()


@pytest.mark.parametrize("scope", thresholding.SCOPES)
@pytest.mark.parametrize("level", ["weight", "unit", "conv_filter"])
def test_groups_and_ranks_take_at_most_eight_arrays_of_the_weights_size(level, scope):
    inputs = keras.Input((400,))
    wide = keras.Model(inputs, layers.Dense(500)(layers.Dense(700)(inputs)))
    scores = [np.ones(tuple(v.shape), "float32") for v in wide.trainable_variables]
    tracemalloc.start()
    try:
        ids = aggregation.load(level).groups(wide)
        found = thresholding.Partition(ids, wide, scope).rank(scores)
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.ranks[0].shape == scores[0].shape
    assert 1 < taken / sum(s.nbytes for s in scores) < 8


# Ties

MANY = 4000


@functools.cache
def even(seed):
    """Rank weights that are all equally important."""
    ids = [np.arange(MANY).reshape(1, MANY)]
    return thresholding.Partition(ids, one_layer(MANY)).rank([np.ones((1, MANY))], seed=seed)


def test_half_of_equally_important_weights_fall_at_one_half():
    assert even(0).tie_fraction == 1
    assert (even(0).ranks[0] < 0.5).sum() == MANY // 2
    assert even(0).replaced([0, 0.5, 1]).tolist() == [0, MANY // 2, MANY]


def test_the_seed_orders_equal_importances():
    first, second = ((even(seed).ranks[0] < 0.5)[0] for seed in (0, 1))
    assert not np.array_equal(first, second)
    # Two independent halves share a quarter of all weights: 1000, standard deviation 16.
    assert abs((first & second).sum() - MANY / 4) < 80
    ids = [np.arange(MANY).reshape(1, MANY)]
    again = thresholding.rank([np.ones((1, MANY))], ids, model=one_layer(MANY), seed=0)
    assert np.array_equal(again[0], even(0).ranks[0])


def test_position_does_not_order_equal_importances():
    for seed in range(3):
        rho = stats.spearmanr(np.arange(MANY), even(seed).ranks[0][0]).statistic
        assert abs(rho) < 4 / np.sqrt(MANY)  # standard deviation 1 / sqrt(4000)
        per_quarter = (even(seed).ranks[0][0] < 0.5).reshape(4, -1).sum(axis=1)
        assert (abs(per_quarter - MANY / 8) < 70).all()  # standard deviation 14


def test_layers_do_not_share_a_shuffle():
    twins = keras.Sequential([keras.Input((30,)), layers.Dense(30, use_bias=False), layers.Dense(30, use_bias=False)])
    ids = aggregation.load("weight").groups(twins)
    first, second = thresholding.rank([np.ones((30, 30))] * 2, ids, model=twins, seed=0)
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("tied", [1.0, 0.6])
def test_a_rule_by_percentile_spares_whatever_ties_there(tied):
    """The percentile is the tied value itself, and nothing is below itself: the rule keeps all and looks lossless."""
    scores = np.ones((1, MANY))
    scores[0, int(tied * MANY) :] = 2
    assert np.percentile(scores, 50) == 1 and (scores < np.percentile(scores, 50)).sum() == 0
    ids = [np.arange(MANY).reshape(1, MANY)]
    (ranks,) = thresholding.rank([scores], ids, model=one_layer(MANY))
    assert (ranks < 0.5).sum() == MANY / 2 and (scores[ranks < 0.5] == 1).all()


# What must not be


@pytest.mark.parametrize(
    "change, message",
    [
        ({"scope": "layers"}, r"Expected scope to be one of 'layer', .*'model:owl', or blocks .*, received 'layers'"),
        ({"reduction": "median"}, "Expected reduction to be one of 'mean', .*'maximum', received 'median'"),
        ({"variables": "kernel"}, "Expected variables to be one of 'all', received 'kernel'"),
        (
            {"variables": ["kernels"]},
            r"variables to be 'all' or some of this model's 'bias', 'kernel', received \['kern",
        ),
        ({"variables": []}, r"received \[\]"),
        ({"model": None}, "Expected model=..., which says what layer each weight belongs to; received None"),
        ({"groups": [np.zeros((4, 3), int)]}, r"Expected groups with the shapes .*\(3, 4\), .* received \[\(4, 3\)\]"),
        ({"importances": [np.ones(3)]}, r"Expected importances with the shapes .*\(3, 4\), .* received \[\(3,\)\]"),
    ],
)
def test_what_cannot_be_ranked(change, message):
    given_ = {"importances": [np.ones(shape) for shape in SHAPES], "groups": groups("unit"), "model": model()}
    with pytest.raises(ValueError, match=message):
        thresholding.rank(**{**given_, **change})


@pytest.mark.parametrize(
    "value, counts",
    [
        (np.nan, "1 NaN, 0 infinite and 0 negative"),
        (np.inf, "0 NaN, 1 infinite and 0 negative"),
        (-1e-9, "0 NaN, 0 infinite and 1 negative"),
    ],
)
def test_importances_that_are_no_importances(value, counts):
    scores = [np.ones(shape) for shape in SHAPES]
    scores[2][1, 1] = value
    with pytest.raises(ValueError, match=f"finite and at least 0, received {counts} values"):
        thresholding.rank(scores, groups("weight"), model=model())
