"""What is refused, and what the message says."""

import keras
import numpy as np
import pytest

import importance
from consolidation import ElasticWeightConsolidation, StabilityMeter, find


def wrapped(**options):
    return ElasticWeightConsolidation(keras.optimizers.SGD(0.1), **{"strength": 1.0, **options})


@pytest.fixture
def optimizer():
    optimizer = wrapped()
    optimizer.build([keras.Variable(np.ones((2, 3))), keras.Variable(np.ones(3))])
    return optimizer


@pytest.mark.parametrize("strength", [-1.0, float("nan"), float("inf"), "a", None, True, [1.0]])
def test_a_strength_below_zero_or_not_finite(strength):
    with pytest.raises(ValueError, match="Expected strength to be a finite number of at least 0, received"):
        wrapped(strength=strength)
    optimizer = wrapped()
    with pytest.raises(ValueError, match="Expected strength to be a finite number of at least 0, received"):
        optimizer.strength = strength


@pytest.mark.parametrize("decay", [-0.1, 1.5, float("nan"), "half", False])
def test_a_decay_out_of_its_range(decay):
    with pytest.raises(ValueError, match="Expected decay to be a finite number from 0 to 1, received"):
        wrapped(decay=decay)


def test_what_does_not_go_with_a_mean_or_with_a_sum(optimizer):
    with pytest.raises(ValueError, match="accumulate to be one of 'sum', 'mean', received 'max'"):
        wrapped(accumulate="max")
    with pytest.raises(ValueError, match=r'decay=1.0 with accumulate="mean", .* received 0.5'):
        wrapped(accumulate="mean", decay=0.5)
    ones = [np.ones((2, 3)), np.ones(3)]
    with pytest.raises(ValueError, match=r'no number of classes with accumulate="sum", received 2'):
        optimizer.consolidate(ones, classes=2)
    assert not optimizer.stability().largest
    mean = wrapped(accumulate="mean")
    mean.build([keras.Variable(a) for a in ones])
    for classes in (0, -1, float("nan"), "two"):
        with pytest.raises(ValueError, match="Expected classes to be a finite number above 0, received"):
            mean.consolidate(ones, classes=classes)


@pytest.mark.parametrize("name", ["stabilized", "decoupled", "separate", "adaptive"])
@pytest.mark.parametrize("value", ["false", 0])
def test_what_is_neither_true_nor_false(name, value):
    with pytest.raises(ValueError, match=f"Expected {name} to be True or False, received"):
        wrapped(**{name: value})


@pytest.mark.parametrize("optimizer", ["adm", 5, None])
def test_what_is_no_optimizer(optimizer):
    with pytest.raises(ValueError, match="Expected an optimizer of Keras, or the name of one, received"):
        ElasticWeightConsolidation(optimizer, 1.0)


@pytest.mark.parametrize("penalty", ["stable", True, None, ("plain",)])
def test_what_is_no_penalty(penalty):
    with pytest.raises(ValueError, match="one of 'plain', 'stabilized', 'decoupled', 'clamped', received"):
        ElasticWeightConsolidation(keras.optimizers.SGD(0.1), 1.0, penalty)


@pytest.mark.parametrize("bound", [0, -0.1, float("inf"), True, None])
def test_a_bound_that_holds_nothing(bound):
    with pytest.raises(ValueError, match="Expected bound to be a finite number above 0, received"):
        wrapped(penalty="clamped", bound=bound)


@pytest.mark.parametrize("kind", ["stabilized", "decoupled"])
def test_the_booleans_of_before_go_on_working_and_say_what_to_write(kind):
    with pytest.warns(FutureWarning, match=f'write penalty="{kind}" instead'):
        assert wrapped(**{kind: True}).kind == kind
    with pytest.warns(FutureWarning, match='write penalty="plain" instead'):
        assert wrapped(**{kind: False}).kind == "plain"
    with pytest.raises(ValueError, match=f"received penalty='clamped' and {kind}=True"):
        wrapped(penalty="clamped", **{kind: True})


def test_a_strength_that_follows_gradients_where_no_gradient_is_added():
    with pytest.raises(ValueError, match=r"plain, stabilized, clamped with adaptive=True, received 'decoupled'"):
        wrapped(penalty="decoupled", adaptive=True)


def test_both_cures_at_once():
    with pytest.raises(ValueError, match="at most one of stabilized=True and decoupled=True"):
        wrapped(stabilized=True, decoupled=True)


@pytest.mark.parametrize(
    "importances, message",
    [
        ([np.ones((2, 3))], "Expected 2 importances .* received 1. Score the model"),
        ([np.ones((3, 2)), np.ones(3)], r"received 2; \(2, 3\) for .*, received \(3, 2\)"),
        ([np.ones((2, 3)), np.ones(3), np.ones(1)], "received 3"),
        ([np.ones((2, 3)), np.array([1, -1, 1])], "0 values that are not finite and 1 negative ones for"),
        ([np.full((2, 3), np.nan), np.ones(3)], "6 values that are not finite and 0 negative ones for"),
        ([np.ones((2, 3)), np.array([1, np.inf, 1])], "1 values that are not finite"),
    ],
)
def test_importances_that_do_not_fit(optimizer, importances, message):
    with pytest.raises(ValueError, match=message):
        optimizer.consolidate(importances)
    assert not optimizer.stability().largest  # nothing was taken over


def test_consolidating_before_training(setting):
    model = setting.model(wrapped())
    with pytest.raises(ValueError, match=r"Call model.fit first; .*optimizer.build\(model.trainable_variables\)"):
        model.optimizer.consolidate(setting.importances)
    model.optimizer.build(model.trainable_variables)  # a model that comes trained
    model.optimizer.consolidate(setting.importances)


@pytest.mark.parametrize("kind", ["stabilized", "decoupled", "clamped"])
def test_a_learning_rate_of_zero(kind, setting):
    with pytest.raises(ValueError, match=f'Expected a learning rate above 0 with penalty="{kind}"'):
        ElasticWeightConsolidation(keras.optimizers.SGD(0.0), 1.0, kind)
    model = setting.model(wrapped(penalty=kind))
    setting.fit(model, 0)
    model.optimizer.learning_rate = 0.0
    with pytest.raises(ValueError, match="Expected a learning rate above 0"):
        model.optimizer.consolidate(setting.importances)
    ElasticWeightConsolidation(keras.optimizers.SGD(0.0), 1.0)  # the plain coefficient does not contain it
    warmed_up = keras.optimizers.schedules.PolynomialDecay(0.0, 10, 0.1)
    ElasticWeightConsolidation(keras.optimizers.SGD(warmed_up), 1.0, kind)


def test_accumulated_gradients_with_a_step_that_is_not_in_them():
    inner = keras.optimizers.SGD(0.1, gradient_accumulation_steps=4)
    with pytest.raises(ValueError, match=r"gradient_accumulation_steps=4\. Use penalty=\"stabilized\""):
        ElasticWeightConsolidation(inner, 1.0, penalty="decoupled")
    ElasticWeightConsolidation(inner, 1.0, penalty="stabilized")


def test_a_meter_without_a_penalty(setting):
    with pytest.raises(ValueError, match="compiled with an ElasticWeightConsolidation optimizer, received SGD"):
        setting.fit(setting.model(keras.optimizers.SGD(0.1)), 0, callbacks=[StabilityMeter()])


def test_weights_that_the_optimizer_was_not_built_for(optimizer):
    other = keras.Variable(np.ones(3))
    with pytest.raises(ValueError, match="Unknown variable"):
        optimizer.apply([keras.ops.ones(3)], [other])
    with pytest.raises(ValueError, match="Unknown variable"):
        optimizer.consolidate([np.ones(3)], [other])
    with pytest.raises(ValueError, match="a gradient for each of 1 weights, received 2"):
        optimizer.apply([keras.ops.ones((2, 3))] * 2, optimizer._trainable_variables[:1])


def test_find():
    inner = wrapped()
    assert find(importance.Tracked(inner)) is inner and find(keras.optimizers.SGD(0.1)) is None
