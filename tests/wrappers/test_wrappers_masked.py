"""Weights that were removed stay removed, and the others are trained as a plain loop trains them."""

import keras
import numpy as np
import plain
import pytest
from keras import layers

import thresholding
from consolidation import ElasticWeightConsolidation
from engine import backend, training
from importance import Tracked

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
of_keras = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
ON_TENSORFLOW = pytest.mark.skipif(backend.NAME != "tensorflow", reason="TensorFlow's own")


def data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((48, 5)).astype("float32"), rng.integers(0, 3, 48).astype("int32")


def network(**options):
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((5,)), layers.Dense(4, "tanh", **options), layers.Dense(3, **options)])


def held(model, optimizer, t=0.5):
    """Return the optimizer that holds some of the weights, their ranks, and what stands in for them."""
    rng = np.random.default_rng(3)
    ranks, fills = ([rng.random(v.shape).astype("float32") for v in model.trainable_variables] for _ in range(2))
    return thresholding.Masked(optimizer).hold(model, ranks, t, fills), ranks, fills


def check_removed(model, ranks, fills, t=0.5):
    for value, rank, fill in zip(plain.values(model.trainable_variables), ranks, fills, strict=True):
        np.testing.assert_array_equal(value[rank < t], fill[rank < t])


def fit(model, optimizer=None, epochs=2, batch=12, **options):
    if optimizer is not None:
        model.compile(optimizer, LOSS, jit_compile=False, **options)
    model.fit(*data(), batch_size=batch, epochs=epochs, shuffle=False, verbose=0)


def sgd(weight, gradient, state):
    state["velocity"] = 0.9 * state.get("velocity", 0) - 0.05 * gradient
    return weight + state["velocity"]


def adam(weight, gradient, state):
    state["n"] = state.get("n", 0) + 1
    state["m"] = 0.9 * state.get("m", 0) + 0.1 * gradient
    state["v"] = 0.999 * state.get("v", 0) + 0.001 * gradient**2
    rate = 0.05 * np.sqrt(1 - 0.999 ** state["n"]) / (1 - 0.9 ** state["n"])
    return weight - rate * state["m"] / (np.sqrt(state["v"]) + 1e-7)


@pytest.mark.parametrize("clip", [None, 0.3])
@pytest.mark.parametrize(
    "kind, rule", [(lambda **o: keras.optimizers.SGD(0.05, momentum=0.9, **o), sgd),
                   (lambda **o: keras.optimizers.Adam(0.05, **o), adam)], ids=["sgd", "adam"],
)  # fmt: skip
def test_it_is_a_plain_loop(kind, rule, clip):
    """Removed weights are not there: neither steps nor the norm of all gradients know of them."""
    model = network()
    optimizer, ranks, fills = held(model, kind(global_clipnorm=clip))
    weights, (x, y) = plain.values(model.trainable_variables), data()
    fit(model, optimizer)
    states = [{} for _ in weights]
    for number in range(8):
        rows = slice(12 * (number % 4), 12 * (number % 4) + 12)
        gradients = plain.step_gradient(model, weights, [], x[rows], y[rows])
        gradients = [np.where(rank < 0.5, 0, g) for g, rank in zip(gradients, ranks, strict=True)]
        norm = np.sqrt(sum(np.sum(g**2) for g in gradients))
        gradients = [g * min(1, clip / norm) if clip else g for g in gradients]
        moved = [rule(*each) for each in zip(weights, gradients, states, strict=True)]
        weights = [np.where(rank < 0.5, f, w) for w, rank, f in zip(moved, ranks, fills, strict=True)]
    for found, expected in zip(plain.values(model.trainable_variables), weights, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    check_removed(model, ranks, fills)


WRAPPED = {
    "decay": lambda wrap: wrap(keras.optimizers.AdamW(0.05, weight_decay=0.3)),
    "averages": lambda wrap: wrap(keras.optimizers.SGD(0.05, use_ema=True, ema_momentum=0.5)),
    "accumulation": lambda wrap: wrap(keras.optimizers.Adam(0.05, gradient_accumulation_steps=3)),
    "loss scale inside": lambda wrap: wrap(keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.05))),
    "loss scale outside": lambda wrap: keras.optimizers.LossScaleOptimizer(wrap(keras.optimizers.Adam(0.05))),
    "penalty outside": lambda wrap: ElasticWeightConsolidation(wrap(keras.optimizers.Adam(0.05)), 1.0),
    "penalty inside": lambda wrap: wrap(ElasticWeightConsolidation(keras.optimizers.Adam(0.05), 1.0)),
    "record outside": lambda wrap: Tracked(wrap(keras.optimizers.Adam(0.05)), ["weight_change"]),
}


@of_keras
@pytest.mark.parametrize("kind", WRAPPED)
def test_removed_weights_stay_in_fit_whatever_is_around_them(kind):
    model = network(kernel_constraint=keras.constraints.UnitNorm(), bias_regularizer="l2")
    found = []
    optimizer = WRAPPED[kind](lambda inner: found.append(held(model, inner)) or found[0][0])
    (_, ranks, fills) = found[0]
    before = plain.values(model.trainable_variables)
    fit(model, optimizer, epochs=3)
    check_removed(model, ranks, fills)
    for old, new, rank in zip(before, plain.values(model.trainable_variables), ranks, strict=True):
        assert (old != new)[rank >= 0.5].mean() > 0.5


@of_keras
def test_averages_that_stand_in_for_weights_have_the_removed_ones_at_their_fill():
    model, seen = network(), []
    optimizer, ranks, fills = held(model, keras.optimizers.Adam(0.05, use_ema=True, weight_decay=0.3))
    model.compile(optimizer, LOSS, jit_compile=False)
    look = keras.callbacks.LambdaCallback(
        on_test_begin=lambda logs: seen.append(check_removed(model, ranks, fills))
    )  # while the averages are in
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=False)
    x, y = data()
    model.fit(x, y, verbose=0, callbacks=[swap])
    model.evaluate(x, y, verbose=0, callbacks=[swap, look])
    assert len(seen) == 1
    check_removed(model, ranks, fills)


def test_a_fused_epoch_takes_other_masks_without_being_compiled_anew():
    model = network()
    optimizer = thresholding.Masked(keras.optimizers.Adam(0.05))
    training.compile_model(model, optimizer, LOSS, xla=False)
    start, of_optimizer = (training.values(v) for v in (training.model_variables(model), optimizer.variables))
    traces, step = [], model.train_step
    model.train_step = lambda *given: traces.append(1) or step(*given)
    x, y = data()
    for t in (0.0, 0.3, 1.0):
        training.assign(training.model_variables(model), start)
        training.assign(optimizer.variables, of_optimizer)
        rng = np.random.default_rng(3)
        ranks, fills = ([rng.random(v.shape).astype("float32") for v in model.trainable_variables] for _ in range(2))
        optimizer.hold(model, ranks, t, fills)
        training.train(model, x, y, [1], 12, seed=0)
        check_removed(model, ranks, fills, t)
        if not traces[1:]:
            first = len(traces)
    assert len(traces) == first > 0


def test_what_is_no_longer_removed_is_trained_again():
    model = network()
    optimizer, ranks, _ = held(model, keras.optimizers.SGD(0.05))
    assert [np.mean(mask) for mask in optimizer.removed(model)] == [np.mean(rank < 0.5) for rank in ranks]
    optimizer.hold(model, ranks, 0.2)
    before = plain.values(model.trainable_variables)
    assert all(not (w[rank < 0.2]).any() for w, rank in zip(before, ranks, strict=True))
    fit(model, optimizer)
    for old, new, rank in zip(before, plain.values(model.trainable_variables), ranks, strict=True):
        np.testing.assert_array_equal(old != new, rank >= 0.2)


def test_frozen_layers_keep_what_was_removed_of_them():
    model = network()
    optimizer, ranks, fills = held(model, keras.optimizers.Adam(0.05))
    model.layers[0].trainable = False
    optimizer.hold(model, [np.ones(v.shape) for v in model.trainable_variables], 0.5)
    model.layers[0].trainable = True
    fit(model, optimizer)
    for value, rank, fill in list(zip(plain.values(model.trainable_variables), ranks, fills, strict=True))[:2]:
        np.testing.assert_array_equal(value[rank < 0.5], fill[rank < 0.5])
    assert not any(mask.any() for mask in optimizer.removed(model)[2:])


@of_keras
@pytest.mark.parametrize("wrap", [lambda o: o, keras.optimizers.LossScaleOptimizer], ids=["alone", "scaled"])
def test_a_model_that_is_saved_goes_on_as_if_it_had_never_been(tmp_path, wrap):
    never, kept = network(), network()
    for model in (never, kept):
        optimizer, ranks, fills = held(model, keras.optimizers.Adam(0.05, weight_decay=0.1))
        fit(model, wrap(optimizer))
    path = tmp_path / "model.keras"
    kept.save(path)
    del kept
    again = keras.saving.load_model(path)
    for model in (never, again):
        fit(model)
    check_removed(again, ranks, fills)
    for one, other in zip(never.trainable_variables, again.trainable_variables, strict=True):
        np.testing.assert_array_equal(*plain.values([one, other]))


@ON_TENSORFLOW
def test_gradients_of_rows_stay_rows():
    import tensorflow as tf

    weights = [keras.Variable(np.ones((5, 2))), keras.Variable(np.ones((5, 2)))]
    bare, optimizer = keras.optimizers.Adam(0.1), thresholding.Masked(keras.optimizers.Adam(0.1))
    mask = np.arange(10).reshape(5, 2) % 3 == 0

    class Model:
        trainable_variables = weights[1:]

    optimizer.hold(Model, [np.where(mask, 0.0, 1.0)], 0.5, [np.full((5, 2), 7.0)])
    for one, v in ((bare, weights[0]), (optimizer, weights[1])):
        for _ in range(3):
            one.apply([tf.IndexedSlices(tf.ones((3, 2)), (0, 2, 2), (5, 2))], [v])
    alone, found = plain.values(weights)
    np.testing.assert_array_equal(found, np.where(mask, 7, alone))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"threshold": 1.5}, r"Expected threshold to be a finite number from 0 to 1, received 1\.5"),
        ({"ranks": [np.ones((5, 4))]}, r"Expected ranks with the shapes of model\.trainable_variables.*received \[\(5"),
        ({"replacements": [np.ones(3)] * 4}, r"Expected replacements with the shapes of model"),
    ],
)
def test_what_cannot_be_held(change, message):
    model = network()
    given = {"ranks": [np.ones(v.shape) for v in model.trainable_variables], "threshold": 0.5}
    with pytest.raises(ValueError, match=message):
        thresholding.Masked("sgd").hold(model, **{**given, **change})
    other, optimizer = network(), thresholding.Masked("sgd").hold(model, **given)
    with pytest.raises(ValueError, match="Unknown variable"):
        optimizer.hold(other, **given)
    assert not any(mask.any() for mask in thresholding.Masked("sgd").removed(model))
