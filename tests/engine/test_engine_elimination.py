"""Removing groups one after another, held against plain loops that assign weights and evaluate the model."""

import keras
import numpy as np
import pytest
from keras import layers

from engine import elimination, structure, training

RNG = np.random.default_rng(0)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def mlp():
    inputs = keras.Input((5,))
    x = layers.Dropout(0.5)(layers.Dense(6, "relu")(inputs))
    return keras.Model(inputs, layers.Dense(3)(layers.Dense(4, "tanh")(x)))


def around():
    """The second layer's inputs are units of the first, which have another way to the output."""
    inputs = keras.Input((5,))
    x = layers.Dense(4, "relu")(inputs)
    return keras.Model(inputs, layers.Dense(3)(layers.Add()([layers.Dense(4, "relu")(x), x])))


def mixed():
    """The second layer's inputs depend on all units of the first."""
    inputs = keras.Input((5,))
    x = layers.LayerNormalization()(layers.Dense(4)(inputs))
    return keras.Model(inputs, layers.Dense(3)(x))


def cnn():
    inputs = keras.Input((6, 6, 1))
    x = layers.BatchNormalization()(layers.Conv2D(4, 3, activation="relu")(inputs))
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


MODELS = {"mlp": mlp, "around": around, "mixed": mixed, "cnn": cnn}
FOLLOWED = {"mlp": 2, "around": 1, "mixed": 0, "cnn": 0}


class Case:
    """A model, some examples, its units as groups, what replaces them, and the loss by a plain loop."""

    def __init__(self, name, groups=None):
        keras.utils.set_random_seed(1)
        self.model = MODELS[name]()
        for v in self.model.trainable_variables:
            v.assign(RNG.normal(0, 1, v.shape))
        self.x = RNG.normal(0, 1, (13, *self.model.input_shape[1:])).astype("float32")
        self.y = RNG.integers(0, 3, 13)
        self.groups = groups or structure.grouped(structure.parts(self.model), structure.unit_labels)
        self.new = [RNG.normal(0, 0.1, v.shape).astype("float32") for v in self.model.trainable_variables]
        self.made = elimination.Elimination(self.model, LOSS, self.x, self.y, self.groups, self.new)

    def loss(self, gone):
        before = training.values(self.model.trainable_variables)
        changed = [
            np.where((ids >= 0) & gone[ids], new, old)
            for ids, new, old in zip(self.groups, self.new, before, strict=True)
        ]
        training.assign(self.model.trainable_variables, changed)
        found = float(LOSS(self.y, self.model(self.x, training=False)))
        training.assign(self.model.trainable_variables, before)
        return found


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(structure, "xla", lambda model: False)
    monkeypatch.setattr(elimination, "BATCH", 5)
    monkeypatch.setattr(elimination, "WORTH", 0)


@pytest.fixture(scope="module", params=MODELS)
def case(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structure, "xla", lambda model: False)
        patch.setattr(elimination, "BATCH", 5)
        patch.setattr(elimination, "WORTH", 0)
        yield Case(request.param)


def test_each_group_beside_those_that_are_gone(case):
    gone = np.zeros(case.made.count, bool)
    gone[RNG.permutation(case.made.count)[: case.made.count // 2]] = True
    wanted = ~gone & (RNG.random(case.made.count) < 0.7)
    found = case.made.losses(gone, wanted)
    assert np.isinf(found[~wanted]).all() and wanted.any()
    for group in np.flatnonzero(wanted):
        beside = gone.copy()
        beside[group] = True
        assert found[group] == pytest.approx(case.loss(beside), rel=1e-5), group


def test_a_following_layer_is_found_where_units_are_its_inputs_and_have_no_other_way(case, request):
    uses = elimination._units(case.model, case.x, case.groups, case.made.count)
    followed = [elimination._following(case.model, use, case.x) for use, _ in uses]
    assert sum(other is not None for other in followed) == FOLLOWED[request.node.callspec.params["case"]]


def test_layers_that_are_little_work_share_one_function(monkeypatch):
    case, found = Case("mlp"), []
    weights = sum(ids.size for ids in case.groups)
    for units, functions in ((0, 3), (3.5, 2), (4.5, 1), (6.5, 0)):  # layers of 6, 4 and 3 units, 13 examples
        monkeypatch.setattr(elimination, "WORTH", units * 13 * weights)
        made = elimination.Elimination(case.model, LOSS, case.x, case.y, case.groups, case.new)
        assert len({id(function) for function, *_ in made._parts}) == functions + (units > 0)
        found.append(made.losses(np.zeros(13, bool), np.ones(13, bool)))
    np.testing.assert_allclose(found, [found[0]] * 4, rtol=1e-6)


def test_greedy_is_the_plain_loop(case):
    scopes = [np.arange(case.made.count)]
    order, gone = elimination.greedy(case.made, scopes), np.zeros(case.made.count, bool)
    assert sorted(order) == list(range(case.made.count))
    for group in order:
        costs = {}
        for other in np.flatnonzero(~gone):
            beside = gone.copy()
            beside[other] = True
            costs[other] = case.loss(beside)
        assert costs[group] <= min(costs.values()) * (1 + 1e-5)
        gone[group] = True


def test_scopes_fall_side_by_side_and_the_order_goes_on_where_it_was_kept():
    case, kept = Case("mlp"), []
    scopes = [np.arange(6), np.arange(6, 10), np.arange(10, 13)]
    order = elimination.greedy(case.made, scopes, keep=lambda order: kept.append(list(order)), every=5)
    for count in range(14):
        shares = [np.isin(scope, order[:count]).mean() for scope in scopes]
        assert max(shares) - min(shares) <= 1 / 3 + 1e-9
    assert [len(part) for part in kept] == [5, 10] and list(order[:10]) == kept[1]
    assert np.array_equal(elimination.greedy(case.made, scopes, kept[0]), order)
    assert elimination.evaluations(scopes) == 21 + 10 + 6


def test_a_path_is_the_plain_loop_and_ends_where_the_loss_is_high_enough():
    case = Case("cnn")
    order, gone, expected = np.arange(case.made.count)[::-1], np.zeros(case.made.count, bool), []
    expected.append(case.loss(gone))
    for group in order:
        gone[group] = True
        expected.append(case.loss(gone))
    np.testing.assert_allclose(case.made.path(order), expected, rtol=1e-5)
    for limit in 0.9 * np.array(expected):
        end = next(place for place, loss in enumerate(expected) if loss >= limit)
        found = case.made.path(order, limit)
        np.testing.assert_allclose(found[: end + 1], expected[: end + 1], rtol=1e-5)
        assert (found[end:] == found[end]).all(), limit


def test_groups_over_several_layers_and_weights_that_stay():
    groups = structure.grouped(structure.parts(Case("mlp").model), structure.unit_labels)
    groups[2], groups[3] = np.where(groups[2] >= 6, groups[2] % 4, -1), np.full(4, -1)  # with units of the first layer
    groups[4], groups[5] = np.full((4, 3), -1), np.array([6, -1, 7])
    groups[2][0] = -1
    case = Case("mlp", groups)
    gone = np.zeros(case.made.count, bool)
    gone[[1, 7]] = True
    found = case.made.losses(gone, ~gone)
    for group in np.flatnonzero(~gone):
        beside = gone.copy()
        beside[group] = True
        assert found[group] == pytest.approx(case.loss(beside), rel=1e-5), group


def test_the_model_stays_as_it_was(case):
    before = training.values(case.model.variables)
    case.made.losses(np.zeros(case.made.count, bool), np.ones(case.made.count, bool))
    case.made.path(np.arange(case.made.count))
    assert all(np.array_equal(a, b) for a, b in zip(before, training.values(case.model.variables), strict=True))
