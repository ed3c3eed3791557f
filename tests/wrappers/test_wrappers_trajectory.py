"""Records pair the gradient of the task with the step that it made, and belong to their variables."""

import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import plain
import pytest
from keras import layers

import importance
from consolidation import ElasticWeightConsolidation
from engine import backend

MEASURES = ["synaptic_intelligence", "rwalk", "weight_change", "direction_stability"]
FOLDER = pathlib.Path(__file__).parent


def data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((48, 5)).astype("float32"), rng.integers(0, 3, 48).astype("int32")


def network(**options):
    keras.utils.set_random_seed(1)
    first = layers.Dense(4, activation="tanh", **options)
    return keras.Sequential([keras.Input((5,)), first, layers.Dense(3, **options)])


def scores(optimizer, batch=12, model=None, measures=MEASURES):
    model = model or network()
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    x, y = data()
    model.fit(x, y, batch_size=batch, epochs=3, shuffle=False, verbose=0)
    return importance.score(measures, model)


def same(one, other, rtol=1e-4):
    for measure in one:
        for a, b in zip(one[measure], other[measure], strict=True):
            np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6)


def tracked(optimizer):
    return importance.Tracked(optimizer, MEASURES)


def sgd(**options):
    return keras.optimizers.SGD(0.05, momentum=0.5, **options)


@pytest.mark.slow
def test_accumulated_gradients_make_one_step():
    expected = scores(tracked(sgd()))
    same(expected, scores(tracked(sgd(gradient_accumulation_steps=3)), batch=4), rtol=1e-3)
    held = ElasticWeightConsolidation(sgd(gradient_accumulation_steps=3), 5.0)
    same(expected, scores(tracked(held), batch=4), rtol=1e-3)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda: tracked(sgd(loss_scale_factor=64.0)),
        pytest.param(
            lambda: tracked(keras.optimizers.LossScaleOptimizer(sgd(), initial_scale=256.0)), marks=pytest.mark.slow
        ),
        lambda: keras.optimizers.LossScaleOptimizer(tracked(sgd()), initial_scale=256.0),
        lambda: ElasticWeightConsolidation(tracked(sgd(loss_scale_factor=64.0)), 5.0),
    ],
    ids=["factor", "inside", "outside", "penalty"],
)
def test_scaled_losses_are_unscaled(wrap):
    same(scores(tracked(sgd())), scores(wrap()))


@pytest.mark.parametrize("kind", [{}, {"penalty": "decoupled"}, {"penalty": "stabilized"}])
def test_a_penalty_is_scaled_with_the_loss(kind):
    found = []
    for inner in (sgd(), sgd(loss_scale_factor=64.0), keras.optimizers.LossScaleOptimizer(sgd(), initial_scale=256.0)):
        optimizer, model = ElasticWeightConsolidation(inner, 5.0, **kind), network()
        optimizer.build(model.trainable_variables)
        optimizer.consolidate([np.ones(v.shape) for v in model.trainable_variables])
        scores(optimizer, model=model, measures=[])
        found.append(plain.values(model.trainable_variables))
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_a_step_that_overflows_is_none():
    weight = keras.Variable([1.0, 2.0])
    optimizer = tracked(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=2.0))
    optimizer.build([weight])
    observe = importance.load("synaptic_intelligence").definition.observe
    for gradient in ([2.0, 2.0], [np.inf, 0.0], [0.0, 1.0]):  # the scale is 2, 2 and then 1
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [weight])
    # Steps of 0.1 by gradients (1, 1) and (0, 1): the gain is 0.1 times their squares.
    np.testing.assert_allclose(optimizer.record(observe)[0]["gain"], [0.1, 0.2], rtol=1e-5)


def test_regularizers_of_weights_are_not_of_the_task():
    """One step from the same weights: only the displacement differs, by the regularizer's part."""
    found = []
    for regularizer in (None, keras.regularizers.L2(0.5)):
        model = network(kernel_regularizer=regularizer, bias_regularizer=regularizer)
        start = plain.values(model.trainable_variables)
        optimizer = tracked(keras.optimizers.SGD(0.1))
        model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        x, y = data()
        model.fit(x, y, batch_size=48, verbose=0)
        moved = [a - b for a, b in zip(plain.values(model.trainable_variables), start, strict=True)]
        record = optimizer.record(importance.load("synaptic_intelligence").definition.observe)
        found.append([-r["gain"] / np.where(d == 0, 1, d) for r, d in zip(record, moved, strict=True)])
    for task, seen in zip(*found, strict=True):
        np.testing.assert_allclose(seen, task, rtol=1e-3, atol=1e-5)


class Adding(layers.Layer):
    def call(self, x, training=False):
        if training:
            self.add_loss(keras.ops.mean(x))
        return x


@pytest.mark.parametrize("how", ["activity", "add_loss"])
def test_losses_beside_the_tasks_are_refused_by_measures_of_gradients_alone(how):
    options = {"activity_regularizer": "l2"} if how == "activity" else {}
    added = [Adding()] if how == "add_loss" else []
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((5,)), layers.Dense(4, **options), *added, layers.Dense(3)])
    scores(tracked(sgd()), model=model, measures=["weight_change", "direction_stability"])
    for measure in ("synaptic_intelligence", "rwalk"):
        with pytest.raises(ValueError, match="activity_regularizer or add_loss, which an optimizer cannot tell apart"):
            importance.load(measure).score(model, data()[0])


def test_records_belong_to_their_variables():
    model = keras.Sequential([keras.Input((5,)), layers.Dense(5, use_bias=False), layers.Dense(5, use_bias=False)])
    first, second = model.trainable_variables
    optimizer = importance.Tracked(sgd(), ["weight_change"])
    optimizer.build([first, second])
    for _ in range(2):
        optimizer.apply([keras.ops.ones((5, 5))], [second])
    one, other = importance.load("weight_change").score(model, optimizer=optimizer)
    assert not one.any() and other.all()
    model.layers[1].trainable = False
    (one,) = importance.load("weight_change").score(model, optimizer=optimizer)
    assert not one.any()


def test_a_weight_that_was_not_known_is_named():
    model = network()
    model.layers[0].trainable = False
    optimizer = importance.Tracked(keras.optimizers.Adam(0.01), MEASURES)
    scores(optimizer, model=model)
    model.layers[0].trainable = True
    for measure in (*MEASURES, "adam_second_moment"):
        with pytest.raises(ValueError, match=r"dense.*built without.*optimizer\.build\(model\.trainable_variables\)"):
            importance.load(measure).score(model)


def test_a_frozen_layer_keeps_importances_and_anchors():
    weights = [keras.Variable([1.0, 2.0]), keras.Variable([3.0, 4.0])]
    optimizer = ElasticWeightConsolidation(keras.optimizers.SGD(0.1), 2.0)
    optimizer.build(weights)
    optimizer.consolidate([np.array([1.0, 2.0]), np.array([3.0, 4.0])])
    optimizer.apply([keras.ops.ones(2)], weights[1:])
    with pytest.raises(ValueError, match=r"Expected 2 importances .* received 1; "):
        optimizer.consolidate([np.ones(3)])
    optimizer.consolidate([np.ones(2)])
    np.testing.assert_array_equal(plain.values(optimizer._importances), [[1, 2], [4, 5]])
    np.testing.assert_allclose(plain.values(optimizer._anchors), [[1, 2], [2.9, 3.9]])


def test_importances_that_fit_several_sets_of_weights_are_refused():
    weights = [keras.Variable([1.0, 2.0]), keras.Variable([3.0, 4.0])]
    optimizer = ElasticWeightConsolidation(keras.optimizers.SGD(0.1), 2.0)
    optimizer.build(weights)
    optimizer.apply([keras.ops.ones(2)] * 2, weights[::-1])
    given = [np.array([1.0, 2.0]), np.array([3.0, 4.0])]
    with pytest.raises(ValueError, match=r"fit 2 sets of weights.*model\.trainable_variables"):
        optimizer.consolidate(given)
    optimizer.consolidate(given, weights[::-1])
    np.testing.assert_array_equal(plain.values(optimizer._importances), [[3, 4], [1, 2]])


def test_a_weight_without_gradient_is_not_pulled():
    weights = [keras.Variable([1.0]), keras.Variable([1.0])]
    optimizer = ElasticWeightConsolidation(keras.optimizers.Adam(0.1), 2.0)
    optimizer.build(weights)
    optimizer.consolidate([np.ones(1), np.ones(1)])
    for weight in weights:
        weight.assign([5.0])
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        optimizer.apply([None, keras.ops.zeros(1)], weights)
    assert float(weights[0][0]) == 5 and float(weights[1][0]) < 5


@pytest.mark.skipif(backend.NAME != "tensorflow", reason="only there a model may be built inside of its first step")
def test_a_model_that_is_built_while_it_is_first_trained():
    found = []
    for inputs in ([keras.Input((5,))], []):
        keras.utils.set_random_seed(1)
        start = keras.initializers.GlorotUniform(seed=3)
        model = keras.Sequential([*inputs, layers.Dense(4, kernel_initializer=start), layers.Dense(3)])
        measures = [*MEASURES, "net_displacement"]
        found.append(scores(importance.Tracked(sgd(), measures), model=model, measures=measures))
        assert found[-1]["net_displacement"][0].any()
    np.testing.assert_allclose(found[0]["net_displacement"][0].mean(), found[1]["net_displacement"][0].mean(), rtol=0.5)


@pytest.mark.slow
@pytest.mark.skipif(backend.NAME != "tensorflow", reason="strategies are TensorFlow's")
def test_two_replicas_train_and_record_as_one():
    done = subprocess.run(
        [sys.executable, str(FOLDER / "replicas.py")],
        env={**os.environ, "PYTHONPATH": str(FOLDER.parents[1])}, capture_output=True, check=True,
    )  # fmt: skip
    one, two = json.loads(done.stdout)
    assert one["bare"] == one["strength 0"] and two["bare"] == two["strength 0"]
    for found, expected in zip(keras.tree.flatten(two), keras.tree.flatten(one), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_records_are_found_in_every_wrapper():
    inside = importance.Tracked(sgd(), "rwalk")
    assert inside.measures == ["rwalk"]
    inside.restart()  # before the first step there is nothing to begin anew
    found = scores(importance.Tracked(inside, ["weight_change"]), measures=["rwalk", "weight_change"])
    same(found, scores(tracked(sgd()), measures=["rwalk", "weight_change"]))


@pytest.mark.parametrize(
    "importances, of, message",
    [
        ({"kernel": np.ones(2)}, None, "importances as a list, received dict"),
        (0.5, None, "importances as a list, received float"),
        ([np.ones(2)], lambda weights: weights[0], "variables as a list, received Variable"),
        ([np.ones(2)] * 2, lambda weights: weights[:1] * 2, "each of the variables once"),
    ],
)
def test_importances_that_no_weights_have(importances, of, message):
    weights = [keras.Variable([1.0, 2.0]), keras.Variable([3.0, 4.0])]
    optimizer = ElasticWeightConsolidation(keras.optimizers.SGD(0.1), 2.0)
    for ask in (optimizer.penalty, optimizer.stability):
        with pytest.raises(ValueError, match="has seen no weights yet"):
            ask()
    optimizer.build(weights)
    with pytest.raises(ValueError, match=message):
        optimizer.consolidate(importances, of and of(weights))
