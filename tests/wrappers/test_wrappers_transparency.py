"""A wrapper that does nothing, or only watches, lets the weights go as the wrapped optimizer alone moves them.

To the last bit: with strength 0, with tracking, and with nothing removed. What is removed stays at its fill, likewise.
"""

import itertools
import sys
import types
import warnings

import keras
import numpy as np
import plain
import pytest

import importance
import thresholding
from consolidation import ElasticWeightConsolidation
from engine import backend

STEPS = 4
_OTHER = "float64" if backend.NAME == "tensorflow" else "float16"  # which JAX has without being asked
OPTIMIZERS = sorted(
    name
    for name, kind in vars(keras.optimizers).items()
    if isinstance(kind, type)
    and issubclass(kind, keras.Optimizer)
    and kind not in (keras.Optimizer, keras.optimizers.LossScaleOptimizer, keras.optimizers.MultiOptimizer)
)
SHAPES = {"trunk/kernel": (3, 2), "trunk/bias": (2,), "head/kernel": (2, 3), "head/bias": (3,)}


def held(optimizer):
    return ElasticWeightConsolidation(optimizer, 0.0)


def tracked(optimizer):
    return importance.Tracked(optimizer, ["synaptic_intelligence", "rwalk"])


WRAPPERS = held, tracked, thresholding.Masked


def variables(dtype="float32"):
    rng = np.random.default_rng(0)
    made = []
    for path, shape in SHAPES.items():
        scope, name = path.split("/")
        with keras.name_scope(scope):
            made.append(keras.Variable(rng.standard_normal(shape), dtype=dtype, name=name))
    return made


def gradients_of(step, weights, dtype="float32"):
    rng = np.random.default_rng([1, step])
    return [keras.ops.convert_to_tensor(rng.standard_normal(w.shape), dtype=dtype) for w in weights]


def plainly(optimizer, weights, step):
    optimizer.apply(gradients_of(step, weights), weights)


def without_some(optimizer, weights, step):
    gradients = gradients_of(step, weights)
    if step % 2:
        gradients[2:] = [None, None]
    optimizer.apply(gradients, weights)


def in_another_order(optimizer, weights, step):
    order = np.random.default_rng(step).permutation(len(weights)) if step else range(len(weights))
    gradients = gradients_of(step, weights)
    optimizer.apply_gradients([(gradients[n], weights[n]) for n in order])


def partly_frozen(optimizer, weights, step):
    frozen = 2 if 0 < step < 3 else 0
    optimizer.apply(gradients_of(step, weights)[frozen:], weights[frozen:])


def by_no_variables(optimizer, weights, step):
    optimizer.apply(gradients_of(step, weights))


def of_another_type(optimizer, weights, step):
    optimizer.apply(gradients_of(step, weights, _OTHER if step % 2 else "float32"), weights)


def excluding(optimizer, weights, step):
    if not step:
        optimizer.exclude_from_weight_decay(var_list=[weights[2]], var_names=["bias"])
    plainly(optimizer, weights, step)


def set_from_outside(optimizer, weights, step):
    optimizer.clipvalue = 0.1 * step
    optimizer.learning_rate = 0.1 / (step + 1)
    plainly(optimizer, weights, step)


def schedule():
    return keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)


SETTINGS = {
    "plain": ({}, plainly),
    "accumulation": ({"gradient_accumulation_steps": 2}, plainly),
    "accumulation without some gradients": ({"gradient_accumulation_steps": 2}, without_some),
    "averages": ({"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 2}, plainly),
    "averages of accumulation": ({"use_ema": True, "ema_momentum": 0.5, "gradient_accumulation_steps": 2}, plainly),
    "clipnorm": ({"clipnorm": 0.5}, plainly),
    "global_clipnorm": ({"global_clipnorm": 0.5}, plainly),
    "clipvalue": ({"clipvalue": 0.3}, plainly),
    "decay": ({"weight_decay": 0.1}, excluding),
    "schedule": ({"learning_rate": schedule()}, plainly),
    "callable": ({"learning_rate": lambda: 0.03}, plainly),
    "loss scale": ({"loss_scale_factor": 8.0}, plainly),
    "frozen": ({"weight_decay": 0.1}, partly_frozen),
    "frozen, with averages": ({"use_ema": True, "ema_overwrite_frequency": 2}, partly_frozen),
    "without some gradients": ({"weight_decay": 0.1}, without_some),
    "another order": ({"global_clipnorm": 1.0}, in_another_order),
    "no variables": ({}, by_no_variables),
    "another type": ({}, of_another_type),
    "set from outside": ({}, set_from_outside),
}


_MOVING = {"weight_decay", "use_ema"}
"""What moves weights whose gradient is 0."""


def trained(optimizer, step, dtype="float32"):
    """Do some steps; return everything that the bare optimizer has and moves."""
    weights = variables(dtype)
    if step in (by_no_variables, partly_frozen):
        optimizer.build(weights)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Gradients do not exist", UserWarning)
        for number in range(STEPS):
            step(optimizer, weights, number)
    optimizer.finalize_variable_values(weights)
    return [*plain.values(weights), *plain.values(optimizer.variables)]


def check(alone, wrapped):
    own = len(wrapped) - len(alone)  # a wrapper's variables stand between the weights and the wrapped optimizer's
    for one, other in zip(alone, [*wrapped[: len(SHAPES)], *wrapped[len(SHAPES) + own :]], strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.fixture
def nothing_compiled(monkeypatch):
    """Compile nothing: every optimizer would have to, for a few steps, and JAX for every choice that Keras makes."""
    monkeypatch.setattr(backend, "fused", lambda function: function)
    if backend.NAME == "jax":
        monkeypatch.setattr(sys.modules["jax"].lax, "cond", lambda chosen, one, other: one() if chosen else other())


def pairs():
    """Every optimizer with every setting in every wrapper; what leaves out none of their pairs is not slow."""
    for (m, name), (n, setting), (k, wrap) in itertools.product(*map(enumerate, (OPTIMIZERS, SETTINGS, WRAPPERS))):
        slow = [pytest.mark.slow] if (m + n) % len(WRAPPERS) != k else []
        # Muon alone does not take gradients of another type.
        if name != "Muon" or SETTINGS[setting][1] is not of_another_type:
            yield pytest.param(name, setting, wrap, marks=slow, id=f"{wrap.__name__}-{setting}-{name}")


@pytest.mark.parametrize("name, setting, wrap", [*pairs()])
def test_every_optimizer_in_every_setting(name, setting, wrap, nothing_compiled):
    options, step = SETTINGS[setting]
    alone, wrapped = (make(getattr(keras.optimizers, name)(**options)) for make in (lambda bare: bare, wrap))
    check(trained(alone, step), trained(wrapped, step))


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("setting", [name for name, (options, _) in SETTINGS.items() if _MOVING & options.keys()])
def test_what_is_removed_stays_at_its_fill_under_every_optimizer(name, setting, nothing_compiled):
    options, step = SETTINGS[setting]
    random, weights = np.random.default_rng(2), variables()
    ranks, fills = ([random.random(w.shape).astype("float32") for w in weights] for _ in range(2))
    optimizer = thresholding.Masked(getattr(keras.optimizers, name)(**options))
    optimizer.hold(types.SimpleNamespace(trainable_variables=weights), ranks, 0.5, fills)

    def check_removed():
        for value, rank, fill in zip(plain.values(weights), ranks, fills, strict=True):
            np.testing.assert_array_equal(value[rank < 0.5], fill[rank < 0.5])

    start = plain.values(weights)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Gradients do not exist", UserWarning)
        for number in range(STEPS):
            step(optimizer, weights, number)
            check_removed()
    optimizer.finalize_variable_values(weights)
    check_removed()
    moved = [np.any(a != b) for a, b in zip(plain.values(weights), start, strict=True)]
    assert any(moved)
