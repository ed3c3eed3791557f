"""Every public word of a Keras optimizer is passed on to the wrapped one, or is the wrapper's own for a reason."""

import pickle

import keras
import numpy as np
import plain
import pytest

import importance
import thresholding
from consolidation import ElasticWeightConsolidation, StabilityMeter
from engine import backend, wrapper

PASSED_ON = {
    "clipnorm", "clipvalue", "ema_momentum", "ema_overwrite_frequency", "exclude_from_weight_decay",
    "finalize_variable_values", "global_clipnorm", "gradient_accumulation_steps", "iterations", "learning_rate",
    "loss_scale_factor", "scale_loss", "update_step", "use_ema", "weight_decay",
}  # fmt: skip
OWN_AND_INNER = {"apply", "apply_gradients", "build", "set_weights", "stateless_apply", "variables"}
OWN = {
    "name": "a wrapper has one too",
    "built": "a wrapper may be put around an optimizer that has been trained",
    "get_config": "the wrapped optimizer is in it",
    "from_config": "the same",
    "add_variable": "for the wrapper's own arrays",
    "add_variable_from_reference": "the same",
    "add_optimizer_variables": "the same",
    "assign": "has no state",
    "assign_add": "the same",
    "assign_sub": "the same",
    "save_own_variables": "goes through `variables`",
    "load_own_variables": "the same",
}
WRAPPERS = [
    lambda o: ElasticWeightConsolidation(o, 0.0), importance.Tracked, thresholding.Masked, wrapper.OptimizerWrapper,
]  # fmt: skip


def test_every_public_word_is_decided_on():
    public = {name for name in dir(keras.optimizers.Optimizer(learning_rate=0.1)) if not name.startswith("_")}
    assert public == PASSED_ON | OWN_AND_INNER | set(OWN), "a Keras version has added or dropped something"


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_attributes_are_read_from_the_wrapped_optimizer_and_set_on_it(wrap):
    inner = keras.optimizers.Adam(0.5, beta_1=0.7, clipnorm=2.0, use_ema=True, ema_momentum=0.3, weight_decay=0.1)
    outer = wrap(wrap(inner))
    for name in sorted(PASSED_ON - {"iterations", "learning_rate"}):
        if not callable(getattr(inner, name)):
            assert getattr(outer, name) == getattr(inner, name)
            setattr(outer, name, 4)
            assert getattr(inner, name) == 4
    outer.beta_1 = 0.6
    assert inner.beta_1 == 0.6 and not hasattr(outer, "momentum") and outer.amsgrad is False
    outer.learning_rate = 0.25
    assert float(inner.learning_rate) == 0.25
    assert int(outer.iterations) == int(inner.iterations)


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_set_weights_sets_the_wrapped_optimizers_too(wrap):
    weights = [keras.Variable(np.ones((2, 2)))]
    one, other = (wrap(keras.optimizers.Adam(0.1)) for _ in range(2))
    for optimizer in (one, other):
        optimizer.build(weights)
    assert int(one.apply_gradients([(keras.ops.ones((2, 2)), weights[0])])) == 1
    other.set_weights(plain.values(one.variables))
    for a, b in zip(plain.values(one.variables), plain.values(other.variables), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("wrap", WRAPPERS[:3])
def test_pickled(wrap):
    optimizer = wrap(keras.optimizers.SGD(0.5, momentum=0.9))
    assert pickle.loads(pickle.dumps(optimizer)).get_config() == optimizer.get_config()


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_what_the_bare_optimizer_refuses_is_refused_alike(wrap):
    known, other = keras.Variable(np.ones(2)), keras.Variable(np.ones(2))
    for optimizer in (keras.optimizers.SGD(0.1), wrap(keras.optimizers.SGD(0.1))):
        with pytest.raises(ValueError, match="must already be built"):
            optimizer.apply([keras.ops.ones(2)])
        optimizer.build([known])
        optimizer.apply([], [known])
        with pytest.raises(ValueError, match="Unknown variable"):
            optimizer.apply([keras.ops.ones(2)], [other])
        with pytest.raises(ValueError, match="No gradients provided for any variable"):
            optimizer.apply([None], [known])
        assert int(optimizer.iterations) == 0 and plain.values([known])[0].tolist() == [1, 1]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_callbacks_see_averages_and_schedulers_the_rate():
    x, y = np.ones((8, 2), "float32"), np.ones((8, 1), "float32")
    found = []
    for wrap in (lambda o: o, lambda o: importance.Tracked(ElasticWeightConsolidation(o, 0.0))):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile(wrap(keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)), "mse", jit_compile=False)
        callbacks = [
            keras.callbacks.SwapEMAWeights(swap_on_epoch=True),
            keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2),
        ]
        logs = model.fit(x, y, 4, epochs=3, verbose=0, callbacks=callbacks, validation_data=(x, y)).history
        found.append([*plain.values(model.trainable_variables), logs["val_loss"], logs["learning_rate"]])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_loss_that_would_be_scaled_twice_is_refused():
    inside = importance.Tracked(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)))
    with pytest.raises(ValueError, match="at most one scaling of the loss"):
        keras.optimizers.LossScaleOptimizer(inside)


def test_wrappers_are_found_through_keras_own():
    penalty = ElasticWeightConsolidation(keras.optimizers.Adam(0.01), 1.0)
    policy = keras.dtype_policies.DTypePolicy("mixed_float16")
    layers = [keras.layers.Dense(3, dtype=policy), keras.layers.Dense(2, dtype="float32")]
    model = keras.Sequential([keras.Input((4,)), *layers], name="half")
    tracked = importance.Tracked(penalty, ["synaptic_intelligence"])
    model.compile(keras.optimizers.LossScaleOptimizer(tracked), "mse")
    x = np.random.default_rng(0).standard_normal((16, 4)).astype("float32")
    logs = model.fit(x, x[:, :2], 8, epochs=2, verbose=0, callbacks=[StabilityMeter()]).history
    assert logs["ewc_task_left"] == [1, 1]
    assert importance.load("synaptic_intelligence").score(model)[0].any()
    assert importance.load("adam_second_moment").score(model)[0].any()


@pytest.mark.skipif(backend.NAME != "tensorflow", reason="TensorFlow's own")
@pytest.mark.parametrize("wrap", WRAPPERS)
def test_rows_and_checkpoints_of_tensorflow(wrap, tmp_path):
    import tensorflow as tf

    weight, alone = keras.Variable(np.ones((5, 2))), keras.Variable(np.ones((5, 2)))
    optimizer, bare = wrap(keras.optimizers.Adam(0.1)), keras.optimizers.Adam(0.1)
    for one, v in ((optimizer, weight), (bare, alone)):  # places that are numbers, no array
        one.apply([tf.IndexedSlices(tf.ones((3, 2)), (0, 2, 4), (5, 2))], [v])
    np.testing.assert_array_equal(*plain.values([weight, alone]))
    path = tf.train.Checkpoint(optimizer=optimizer).save(str(tmp_path / "kept"))
    optimizer.apply([tf.ones((5, 2))], [weight])
    tf.train.Checkpoint(optimizer=optimizer).restore(path)
    assert int(optimizer.iterations) == 1
