"""What one step does, held to the penalty written out."""

import doctest

import keras
import numpy as np
import plain
import pytest
import reference_consolidation as reference

import consolidation
from consolidation import ElasticWeightConsolidation
from engine import training

RATE, STRENGTH = 0.1, 3.0


def zero(weights):
    return [keras.ops.zeros(w.shape) for w in weights]


def variables(*shapes):
    rng = np.random.default_rng(1)
    return [keras.Variable(rng.standard_normal(shape).astype("float32")) for shape in shapes]


def moved(optimizer, weights, seed=2):
    """Consolidate with random importances and move the weights away; return importances and anchors."""
    rng = np.random.default_rng(seed)
    optimizer.build(weights)
    importances = [rng.random(w.shape).astype("float32") for w in weights]
    anchors = plain.values(weights)
    optimizer.consolidate(importances)
    for w, a in zip(weights, anchors, strict=True):
        w.assign(a + rng.standard_normal(w.shape).astype("float32"))
    return importances, anchors


def test_one_step_by_hand():
    weight = keras.Variable([1.0, -2.0])
    optimizer = ElasticWeightConsolidation(keras.optimizers.SGD(0.1), strength=2.0)
    optimizer.build([weight])
    optimizer.consolidate([np.array([0.5, 3.0])])
    weight.assign([3.0, -1.0])
    assert optimizer.penalty() == 2 / 2 * (0.5 * 2**2 + 3.0 * 1**2)
    optimizer.apply([keras.ops.convert_to_tensor([1.0, -1.0])], [weight])
    # 3 - 0.1 (1 + 2 * 0.5 * 2), -1 - 0.1 (-1 + 2 * 3 * 1)
    np.testing.assert_allclose(plain.values([weight])[0], [2.7, -1.5], rtol=1e-6)


def test_the_gradient_is_that_of_the_penalty():
    weights = variables((3, 2), (2,), ())
    optimizer = ElasticWeightConsolidation(keras.optimizers.SGD(RATE), STRENGTH)
    importances, anchors = moved(optimizer, weights)
    before = plain.values(weights)
    assert optimizer.penalty() == pytest.approx(
        float(reference.penalty(before, STRENGTH, [importances], [anchors])), rel=1e-5
    )
    expected = reference.gradient(before, STRENGTH, [importances], [anchors])
    optimizer.apply(zero(weights), weights)
    for w, b, g in zip(plain.values(weights), before, expected, strict=True):
        np.testing.assert_allclose((b - w) / RATE, g, rtol=1e-4, atol=1e-5)


def test_the_stabilized_gradient_is_one_implicit_step_of_gradient_descent():
    weights = variables((3, 2), (2,))
    optimizer = ElasticWeightConsolidation(keras.optimizers.SGD(RATE), 50.0, penalty="stabilized")
    importances, anchors = moved(optimizer, weights)
    before = plain.values(weights)
    gradient = reference.stabilized_gradient(before, 50.0, importances, anchors, RATE)
    expected = reference.proximal(before, 50.0, importances, anchors, RATE)
    optimizer.apply(zero(weights), weights)
    for w, b, g, e in zip(plain.values(weights), before, gradient, expected, strict=True):
        np.testing.assert_allclose(w, b - RATE * g, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(w, e, rtol=1e-5, atol=1e-6)


def test_the_clamped_coefficient_is_the_plain_one_up_to_its_bound():
    weights = variables((3, 2), (2,))
    optimizer = ElasticWeightConsolidation(keras.optimizers.SGD(RATE), STRENGTH, "clamped", bound=0.1)
    importances, anchors = moved(optimizer, weights)
    factors = RATE * STRENGTH * np.concatenate([a.ravel() for a in importances])
    assert (factors < 0.1).any() and (factors > 0.1).any()  # some are clamped, some are not
    before = plain.values(weights)
    expected = reference.clamped_gradient(before, STRENGTH, importances, anchors, RATE, 0.1)
    optimizer.apply(zero(weights), weights)
    for w, b, g in zip(plain.values(weights), before, expected, strict=True):
        np.testing.assert_allclose(w, b - RATE * g, rtol=1e-5, atol=1e-6)
    assert optimizer.stability().largest == pytest.approx(factors.max(), rel=1e-5)  # of Omega itself


def test_what_is_clamped_is_the_sum_over_tasks_and_omega_stays():
    weight = keras.Variable([1.0])
    optimizer = ElasticWeightConsolidation(keras.optimizers.SGD(0.5), 1.0, "clamped", bound=0.25)
    optimizer.build([weight])
    for _ in range(2):
        optimizer.consolidate([np.array([0.4])])  # each below bound / rate = 0.5, their sum above
    np.testing.assert_allclose(plain.values(optimizer._importances)[0], [0.8])
    weight.assign([3.0])
    optimizer.apply([keras.ops.zeros(1)], [weight])
    assert float(weight[0]) == pytest.approx(3 - 0.25 * 2)
    assert optimizer.penalty() == pytest.approx(1 / 2 * 0.8 * (2.5 - 1) ** 2)


def test_the_decoupled_step_follows_the_wrapped_optimizers():
    weights = variables((3, 2), (2,))
    alone = [keras.Variable(plain.values([w])[0]) for w in weights]
    optimizer = ElasticWeightConsolidation(keras.optimizers.Adam(RATE), 50.0, penalty="decoupled")
    importances, anchors = moved(optimizer, weights)
    for a, w in zip(alone, weights, strict=True):
        a.assign(plain.values([w])[0])
    gradients = [keras.ops.ones(w.shape) for w in weights]
    optimizer.apply(gradients, weights)
    adam = keras.optimizers.Adam(RATE)
    adam.build(alone)
    adam.apply(gradients, alone)
    expected = reference.proximal(plain.values(alone), 50.0, importances, anchors, RATE)
    for w, e in zip(plain.values(weights), expected, strict=True):
        np.testing.assert_allclose(w, e, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["stabilized", "decoupled", "clamped"])
def test_the_coefficient_follows_a_schedule(kind):
    rates = [0.5, 0.05, 0.005]
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0, 1], rates)
    weight = keras.Variable([1.0])
    optimizer = ElasticWeightConsolidation(keras.optimizers.SGD(schedule), 10.0, kind)
    optimizer.build([weight])
    optimizer.consolidate([np.ones(1)])
    weight.assign([3.0])
    expected = 3.0
    for rate in rates:
        optimizer.apply([keras.ops.zeros(1)], [weight])
        factor = min(rate * 10, 0.1) if kind == "clamped" else rate * 10 / (1 + rate * 10)
        expected -= factor * (expected - 1)
        assert float(weight[0]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["stabilized", "decoupled"])
def test_all_penalties_agree_where_rate_times_strength_times_importance_is_small(kind):
    """To first order: a tenth of the strength, a tenth of the relative difference."""
    differences = []
    for strength in (1.0, 0.1, 0.01):
        steps = []
        for options in ({}, {"penalty": kind}):
            weights = variables((3, 2), (2,))
            optimizer = ElasticWeightConsolidation(keras.optimizers.SGD(RATE), strength, **options)
            moved(optimizer, weights)
            before = plain.values(weights)
            optimizer.apply(zero(weights), weights)
            steps.append(
                np.concatenate([(w - b).ravel() for w, b in zip(plain.values(weights), before, strict=True)]) / strength
            )
        differences.append(np.abs(steps[0] - steps[1]).max() / np.abs(steps[0]).max())
    assert 0.2 * RATE < differences[0] < RATE
    np.testing.assert_allclose(differences[1:], [differences[0] / 10, differences[0] / 100], rtol=0.2)


def test_nothing_happens_before_the_first_task_is_consolidated(setting):
    found = []
    for wrap in (lambda o: ElasticWeightConsolidation(o, 1e6), lambda o: o):
        model = setting.model(wrap(keras.optimizers.SGD(0.1, momentum=0.9)))
        setting.fit(model, 0, epochs=2)
        found.append(plain.values(model.trainable_variables))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_strength_zero_is_training_unprotected(setting):
    found = []
    for strength in (0.0, 5.0):
        optimizer = ElasticWeightConsolidation(keras.optimizers.SGD(0.1), 5.0)
        model = setting.model(optimizer)
        setting.fit(model, 0)
        optimizer.consolidate(setting.importances)
        optimizer.strength = strength
        setting.fit(model, 1)
        found.append(plain.values(model.trainable_variables))
    unprotected = setting.model(keras.optimizers.SGD(0.1))
    setting.fit(unprotected, 0)
    setting.fit(unprotected, 1)
    for w, zeroed, held in zip(plain.values(unprotected.trainable_variables), *found, strict=True):
        np.testing.assert_allclose(w, zeroed, rtol=1e-5, atol=1e-6)
        assert not np.allclose(w, held, rtol=1e-3)


def two_tasks(weights, **options):
    """Consolidate at two anchors, then move away; return the optimizer, importances and anchors of both."""
    optimizer = ElasticWeightConsolidation(keras.optimizers.SGD(RATE), STRENGTH, **options)
    first = moved(optimizer, weights)
    second = moved(optimizer, weights, seed=3)
    return optimizer, *zip(first, second, strict=True)


def test_separate_is_the_sum_of_one_penalty_for_each_task():
    weights = variables((3, 2), (2,))
    optimizer, importances, anchors = two_tasks(weights, separate=True)
    before = plain.values(weights)
    value = float(reference.penalty(before, STRENGTH, importances, anchors))
    assert optimizer.penalty() == pytest.approx(value, rel=1e-4)
    expected = reference.gradient(before, STRENGTH, importances, anchors)
    optimizer.apply(zero(weights), weights)
    for w, b, g in zip(plain.values(weights), before, expected, strict=True):
        np.testing.assert_allclose((b - w) / RATE, g, rtol=1e-3, atol=1e-4)


def test_separate_keeps_the_anchor_of_a_weight_that_only_an_earlier_task_needs():
    weight = keras.Variable([1.0, 1.0, 1.0])
    optimizer = ElasticWeightConsolidation(keras.optimizers.SGD(1.0), 1.0, separate=True)
    optimizer.build([weight])
    optimizer.consolidate([np.array([1.0, 0.0, 3.0])])
    weight.assign([2.0, 2.0, 2.0])
    optimizer.consolidate([np.array([0.0, 1.0, 1.0])])
    np.testing.assert_allclose(plain.values(optimizer._anchors)[0], [1.0, 2.0, 1.25])
    assert optimizer.penalty() == pytest.approx((1 * 1 + 0 + 3 * 1) / 2)


def test_without_separate_all_importances_hold_to_the_latest_anchor():
    weights = variables((3, 2), (2,))
    optimizer, importances, anchors = two_tasks(weights)
    value = float(reference.penalty(plain.values(weights), STRENGTH, importances, [anchors[1], anchors[1]]))
    assert optimizer.penalty() == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize("options", [{}, *({"penalty": kind} for kind in ("stabilized", "decoupled", "clamped"))])
def test_separate_is_the_sum_where_anchors_coincide(options):
    found = []
    for separate in (False, True):
        weights = variables((3, 2), (2,))
        optimizer = ElasticWeightConsolidation(keras.optimizers.SGD(RATE), STRENGTH, separate=separate, **options)
        importances, anchors = moved(optimizer, weights)
        away = plain.values(weights)
        training.assign(weights, anchors)
        optimizer.consolidate(importances)
        training.assign(weights, away)
        penalty = optimizer.penalty()
        optimizer.apply(zero(weights), weights)
        found.append([*plain.values(weights), penalty])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("separate", [False, True])
def test_decay_fades_earlier_tasks(separate):
    weights = variables((3, 2), (2,))
    optimizer, importances, anchors = two_tasks(weights, decay=0.25, separate=separate)
    faded = [[0.25 * a for a in importances[0]], importances[1]]
    for kept, one, two in zip(plain.values(optimizer._importances), *faded, strict=True):
        np.testing.assert_allclose(kept, one + two, rtol=1e-6)
    anchors = anchors if separate else [anchors[1], anchors[1]]
    value = float(reference.penalty(plain.values(weights), STRENGTH, faded, anchors))
    assert optimizer.penalty() == pytest.approx(value, rel=1e-4)


def test_the_mean_by_classes_by_hand():
    weight = keras.Variable([1.0, 0.0])
    optimizer = ElasticWeightConsolidation(keras.optimizers.SGD(RATE), 1.0, accumulate="mean")
    optimizer.build([weight])
    kept = []
    for importance, classes in (([1.0, 2.0], 2), ([4.0, 2.0], 1), ([0.0, 5.0], 3)):
        optimizer.consolidate([np.array(importance)], classes=classes)
        kept.append(plain.values(optimizer._importances)[0].tolist())
    # (2 * 1 + 1 * 4) / 3 and (2 * 2 + 1 * 2) / 3, then (3 * 2 + 3 * 0) / 6 and (3 * 2 + 3 * 5) / 6
    np.testing.assert_allclose(kept, [[1, 2], [2, 2], [1, 3.5]], rtol=1e-6)
    weight.assign([3.0, 1.0])
    assert optimizer.penalty() == pytest.approx((1 * 2**2 + 3.5 * 1**2) / 2)


@pytest.mark.parametrize("separate", [False, True])
def test_the_mean_is_the_sum_over_the_classes_seen(separate):
    """Of importances times the classes of their tasks; so anchors and penalties are those of a sum."""
    found = []
    for accumulate in ("mean", "sum"):
        weights = variables((3, 2), (2,))
        options = {"accumulate": accumulate, "separate": separate}
        optimizer = ElasticWeightConsolidation(keras.optimizers.SGD(RATE), STRENGTH, **options)
        optimizer.build(weights)
        rng = np.random.default_rng(4)
        for classes in (2, 5, 3):
            importances = [rng.random(w.shape).astype("float32") for w in weights]
            if accumulate == "mean":
                optimizer.consolidate(importances, classes=classes)
            else:
                optimizer.consolidate([classes / 10 * a for a in importances])
            for w in weights:
                w.assign(w + rng.standard_normal(w.shape).astype("float32"))
        found.append([*plain.values(optimizer._importances), *plain.values(optimizer._anchors), optimizer.penalty()])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_doctests():
    found = doctest.testmod(consolidation._elastic)
    assert found.attempted and not found.failed
