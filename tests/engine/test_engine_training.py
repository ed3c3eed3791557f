import keras
import numpy as np
import pytest
from keras import layers

import importance
from engine import backend, training, wrapper

MEASURES = ["synaptic_intelligence", "weight_change", "direction_stability", "rwalk"]
IN_KERAS = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in its own saving


def network():
    keras.utils.set_random_seed(0)
    # The gradient of a bias before BatchNormalization is rounding alone, which Adam makes steps of.
    hidden = [layers.Dense(6, use_bias=False), layers.BatchNormalization(), layers.ReLU()]
    model = keras.Sequential([keras.Input((4,)), *hidden, layers.Dense(3)])
    optimizer = importance.Tracked(keras.optimizers.Adam(0.01), MEASURES)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    training.compile_model(model, optimizer, loss, ["accuracy"])
    return model


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((25, 4)).astype("float32"), rng.integers(0, 3, 25).astype("int32")


def same(one, other, **tolerance):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, **tolerance) if tolerance else np.testing.assert_array_equal(a, b)


def test_order_is_decided_by_seed_and_epoch():
    first = training.order(25, 8, seed=1, epoch=2)
    assert first.shape == (3, 8) and len(np.unique(first)) == 24
    assert np.array_equal(first, training.order(25, 8, 1, 2))
    assert not np.array_equal(first, training.order(25, 8, 1, 3))
    assert not np.array_equal(first, training.order(25, 8, 2, 2))
    assert training.order(5, 8, 0, 1).shape == (1, 5)  # fewer examples than a batch


@pytest.mark.xla
def test_a_resumed_run_goes_on_identically(data):
    whole, logs = network(), []
    training.train(whole, *data, range(1, 4), 8, seed=3, on_epoch=lambda epoch, log: logs.append((epoch, log)))
    assert [epoch for epoch, _ in logs] == [1, 2, 3] and set(logs[0][1]) >= {"loss", "accuracy"}
    first = network()
    on_device = training.placed(*data)  # which serves several calls
    assert not any(isinstance(array, np.ndarray) for array in on_device)
    for epoch in (1, 2):
        training.train(first, *on_device, [epoch], 8, seed=3)
    kept = training.state(first, first.optimizer)
    resumed = network()
    training.restore(resumed, resumed.optimizer, kept)
    training.train(resumed, *data, [3], 8, seed=3)
    same(training.state(whole, whole.optimizer), training.state(resumed, resumed.optimizer))


def test_examples_that_do_not_fit_the_device_are_sent_there_in_parts(data, monkeypatch):
    whole, in_parts, logs = network(), network(), []
    training.train(whole, *data, [1, 2], 8, seed=3, on_epoch=lambda _, log: logs.append(log["loss"]))
    monkeypatch.setattr(training, "_AT_ONCE", data[0].nbytes // 2)
    assert training.placed(*data)[0] is data[0]
    training.train(in_parts, *data, [1, 2], 8, seed=3, on_epoch=lambda _, log: logs.append(log["loss"]))
    same(training.state(whole, whole.optimizer), training.state(in_parts, in_parts.optimizer), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(logs[:2], logs[2:], rtol=1e-5)


@pytest.mark.skipif(backend.NAME == "jax", reason="JAX compiles for one shape at a time")
def test_a_step_is_traced_once_for_all_numbers_of_examples(data, monkeypatch):
    model, traced = network(), []
    step = model.train_step
    monkeypatch.setattr(model, "train_step", lambda batch: traced.append(batch) or step(batch))
    for examples in (25, 17, 9):
        training.train(model, *(array[:examples] for array in data), [1], 8, seed=0)
    assert len(traced) == 1 and traced[0][0].shape == (8, 4)


@pytest.mark.xla
def test_a_compiled_epoch_is_what_fit_does_with_the_same_batches(data):
    looped, fitted = network(), network()
    training.train(looped, *data, [1], 8, seed=3)
    rows = training.order(25, 8, seed=3, epoch=1).ravel()
    fitted.fit(data[0][rows], data[1][rows], batch_size=8, shuffle=False, verbose=0)
    same(training.state(looped, looped.optimizer), training.state(fitted, fitted.optimizer), rtol=1e-4, atol=1e-5)


def test_restoring_another_models_state_is_refused(data):
    model = network()
    with pytest.raises(ValueError, match="belong to another model"):
        training.restore(model, model.optimizer, training.state(model, model.optimizer)[1:])


@pytest.mark.slow
@IN_KERAS
def test_a_saved_model_goes_on_identically(data, tmp_path):
    x, y = data
    whole = network()
    whole.fit(x, y, batch_size=5, epochs=2, shuffle=False, verbose=0)
    whole.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    same(training.state(whole, whole.optimizer), training.state(loaded, loaded.optimizer))
    for model in (whole, loaded):
        model.fit(x, y, batch_size=5, epochs=1, shuffle=False, verbose=0)
    same(training.state(whole, whole.optimizer), training.state(loaded, loaded.optimizer), rtol=1e-6, atol=1e-7)
    one, other = (importance.score(MEASURES, model) for model in (whole, loaded))
    for measure in MEASURES:
        same(one[measure], other[measure], rtol=1e-4, atol=1e-6)


def test_tracking_does_not_change_training(data):
    found = []
    for wrap in (lambda optimizer: importance.Tracked(optimizer, MEASURES), lambda optimizer: optimizer):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((4,)), layers.Dense(6, activation="tanh"), layers.Dense(3)])
        model.compile(wrap(keras.optimizers.SGD(0.1, momentum=0.9)), "mse")
        x, y = data
        model.fit(x, np.eye(3)[y], batch_size=5, epochs=2, shuffle=False, verbose=0)
        found.append(training.values(model.trainable_variables))
    same(*found, rtol=1e-5, atol=1e-6)


@IN_KERAS
def test_the_wrapper_passes_on_what_belongs_to_the_wrapped_optimizer():
    inner = keras.optimizers.SGD(0.5)
    outer = wrapper.OptimizerWrapper(wrapper.OptimizerWrapper(inner))
    assert wrapper.unwrapped(outer)[-1] is inner
    assert float(outer.learning_rate) == 0.5
    outer.learning_rate = 0.25
    assert float(inner.learning_rate) == 0.25
    weight = keras.Variable([1.0])
    outer.build([weight])
    outer.apply([keras.ops.convert_to_tensor([2.0])], [weight])
    assert float(weight[0]) == 0.5 and int(outer.iterations) == 1
    copy = wrapper.OptimizerWrapper.from_config(outer.get_config(), {"OptimizerWrapper": wrapper.OptimizerWrapper})
    assert isinstance(copy.inner.inner, keras.optimizers.SGD)


def test_restart_begins_a_new_trajectory(data):
    model = network()
    training.train(model, *data, [1], 8, seed=0)
    model.optimizer.restart()
    assert not any(score.any() for score in importance.load("weight_change").score(model))
    assert not any(score.any() for score in importance.load("synaptic_intelligence").score(model))


def test_slow_convolutions_are_told_of_and_nothing_else_is(monkeypatch):
    convolutional = keras.Sequential([keras.Input((5, 5, 1)), layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(2)])
    loss = keras.losses.MeanSquaredError()
    for on_jax, on_cpu in ((True, True), (True, False), (False, True)):
        monkeypatch.setattr(backend, "on_cpu", lambda on_cpu=on_cpu: on_cpu)
        said = [
            backend.slow_convolutions(model.layers) for model in (convolutional, keras.Sequential([layers.Dense(2)]))
        ]
        if on_jax == (backend.NAME == "jax"):
            assert said == [on_jax and on_cpu, False]
    monkeypatch.setattr(backend, "slow_convolutions", lambda layers: True)
    with pytest.warns(UserWarning, match=r"three times as long as TensorFlow .* Set KERAS_BACKEND=tensorflow before"):
        training.compile_model(convolutional, keras.optimizers.SGD(), loss)
