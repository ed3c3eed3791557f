"""A strength that follows the gradients, held to the loop written out."""

import keras
import numpy as np
import plain
import pytest
import reference_consolidation as reference

from consolidation import ADAPTABLE, ElasticWeightConsolidation

RATE, SHAPES = 0.1, [(3, 2), (2,)]
KINDS = pytest.mark.parametrize("kind", ADAPTABLE)


def arrays(seed):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype("float32") for shape in SHAPES]


def held(kind="plain", rho=0.5, scale=1.0, inner=None):
    """Consolidate where the weights are; return the optimizer, its weights, importances and anchors."""
    weights = [keras.Variable(a) for a in arrays(1)]
    optimizer = ElasticWeightConsolidation(inner or keras.optimizers.SGD(RATE), rho, kind, adaptive=True)
    optimizer.build(weights)
    importances = [scale * np.abs(a) for a in arrays(2)]
    optimizer.consolidate(importances)
    return optimizer, weights, importances, plain.values(weights)


def take(optimizer, weights, gradients):
    """Take steps with these task gradients; return the strength of each."""
    strengths = []
    for of_step in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(g) for g in of_step], weights)
        strengths.append(optimizer.present_strength)
    return strengths


@KINDS
def test_the_strength_of_each_step_is_that_of_the_loop_written_out(kind):
    optimizer, weights, importances, anchors = held(kind)
    gradients = [arrays(seed) for seed in range(10, 16)]
    found = take(optimizer, weights, gradients)
    expected, strengths = reference.adaptive(anchors, gradients, 0.5, importances, anchors, RATE, kind)
    np.testing.assert_allclose(found, strengths, rtol=1e-4)
    assert found[0] == 0 and min(found[1:]) > 0 and float(optimizer.strength) == 0.5
    for w, e in zip(plain.values(weights), expected, strict=True):
        np.testing.assert_allclose(w, e, rtol=1e-4, atol=1e-6)
    assert optimizer.penalty() == pytest.approx(
        float(reference.penalty(plain.values(weights), strengths[-1], [importances], [anchors])), rel=1e-4
    )
    largest = RATE * strengths[-1] * max(a.max() for a in importances)
    assert optimizer.stability().largest == pytest.approx(largest, rel=1e-4)


@KINDS
@pytest.mark.parametrize("jit_compile", [True, False])
def test_a_compiled_fit_follows_that_loop(setting, kind, jit_compile):
    optimizer = ElasticWeightConsolidation(keras.optimizers.SGD(RATE), 2.0, kind, adaptive=True)
    model = setting.model(optimizer, jit_compile)
    setting.fit(model, 0)
    assert optimizer.present_strength == 0 == optimizer.penalty()  # nothing is held yet
    optimizer.consolidate(setting.importances)
    anchors = weights = plain.values(model.trainable_variables)
    setting.fit(model, 1, epochs=2)
    gradients = []
    for rows in [slice(n, n + 8) for _ in range(2) for n in range(0, 24, 8)]:
        gradients.append(plain.step_gradient(model, weights, [], setting.x[1][rows], setting.y[1][rows]))
        weights, strengths = reference.adaptive(anchors, gradients, 2.0, setting.importances, anchors, RATE, kind)
    for w, e in zip(plain.values(model.trainable_variables), weights, strict=True):
        np.testing.assert_allclose(w, e, rtol=1e-3, atol=1e-5)
    assert optimizer.present_strength == pytest.approx(strengths[-1], rel=1e-3)


def test_rho_has_no_scale():
    """Importances a thousand times as large give the same steps, with a strength a thousandth as large."""
    gradients = [arrays(seed) for seed in range(10, 14)]
    found = []
    for scale in (1.0, 1000.0):
        optimizer, weights, *_ = held(scale=scale)
        found.append([*plain.values(weights), np.array(take(optimizer, weights, gradients)) * scale])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4)


def test_every_task_begins_anew():
    optimizer, weights, importances, _ = held()
    gradients = [arrays(seed) for seed in range(10, 14)]
    take(optimizer, weights, gradients)
    optimizer.consolidate(importances)
    anchors, importances = plain.values(weights), [2 * a for a in importances]
    assert optimizer.present_strength == 0
    _, strengths = reference.adaptive(anchors, gradients, 0.5, importances, anchors, RATE, "plain")
    np.testing.assert_allclose(take(optimizer, weights, gradients), strengths, rtol=1e-4)


def test_where_nothing_is_pulled_or_nothing_is_learnt_the_strength_is_zero():
    optimizer, weights, *_, anchors = held()
    nothing = [np.zeros_like(a) for a in anchors]
    assert take(optimizer, weights, [nothing] * 3) == [0, 0, 0]  # 0 / 0
    for w, a in zip(plain.values(weights), anchors, strict=True):
        np.testing.assert_array_equal(w, a)
    for w in weights:
        w.assign(w + 1.0)
    assert take(optimizer, weights, [nothing]) == [0.0]


def test_a_step_that_is_not_finite_leaves_the_averages():
    """As a loss that is scaled up too far makes one; the optimizer that scales passes over it."""
    inner = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(RATE), initial_scale=1.0)
    optimizer, weights, importances, anchors = held(inner=inner)
    gradients = [arrays(seed) for seed in range(10, 14)]
    endless = [np.full_like(a, np.inf) for a in gradients[0]]
    take(optimizer, weights, [*gradients[:2], endless])
    inner.dynamic_scale.assign(1.0)
    found = take(optimizer, weights, gradients[2:])
    _, strengths = reference.adaptive(anchors, gradients, 0.5, importances, anchors, RATE, "plain")
    np.testing.assert_allclose(found, strengths[2:], rtol=1e-4)
