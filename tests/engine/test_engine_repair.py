"""What is left of a layer makes up for what is gone as NumPy's least squares, plain means and Keras would have it."""

import keras
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from keras import layers

from engine import repair, training

DAMPING = repair.DAMPING


def inputs(shape, examples=40, seed=0):
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((examples, *[1] * len(shape)))  # so that one input can stand in for another
    return (rng.standard_normal((examples, *shape)) + common).astype("float32")


def fresh(*stack, shape):
    model = keras.Sequential([keras.Input(shape), *stack])
    rng = np.random.default_rng(7)
    training.assign(model.variables, [rng.uniform(0.1, 1, v.shape).astype("float32") - 0.4 for v in model.variables])
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.moving_variance.assign(np.ones(layer.moving_variance.shape))
    return model


def some(model, fraction, seed=1):
    rng = np.random.default_rng(seed)
    return [rng.random(v.shape) < fraction for v in model.trainable_variables]


def zeros(model):
    return [np.zeros(v.shape, "float32") for v in model.trainable_variables]


def replaced(model, gone, new):
    return [np.where(*each) for each in zip(gone, new, training.values(model.trainable_variables), strict=True)]


def by_lstsq(x, y, weights, gone, constant, damping=DAMPING):
    """Solve for one output at a time, with the ridge as further rows; inputs, outputs, weights and gone are matrices.

    `weights` (inputs, outputs) hold the replacements where `gone`; the last input is the constant, if there is one.
    """
    x, y, weights = (a.astype("float64") for a in (x, y, weights))
    kernel = x[:, :-1] if constant else x
    squares = (kernel**2).sum(axis=0)
    ridge = np.full(x.shape[1], np.sqrt(damping * squares[squares > 0].mean()))
    ridge[kernel.shape[1] :] = 0
    found = weights.copy()
    for output in range(y.shape[1]):
        left = ~gone[:, output]
        missing = y[:, output] - x @ weights[:, output]
        rows = np.concatenate([x[:, left], np.diag(ridge)[:, left]])
        found[left, output] += np.linalg.lstsq(rows, np.append(missing, np.zeros(len(ridge))), rcond=None)[0]
    return found


@settings(max_examples=12, deadline=None)
@given(st.floats(0.05, 0.95), st.booleans(), st.integers(0, 99), st.integers(5, 40))
def test_a_layer_is_what_lstsq_says(fraction, use_bias, seed, examples):
    model = fresh(layers.Dense(6, use_bias=use_bias), shape=(9,))
    x, gone = inputs((9,), examples, seed), some(model, fraction, seed)
    x[:, 4] = 0  # an input that is always 0 changes nothing
    new = [np.full(v.shape, 0.3, "float32") for v in model.trainable_variables]
    found, _ = repair.Repair(model, x, "least_squares", chunk=7)(gone, new)
    ones = np.ones((examples, int(use_bias)))
    weights = np.concatenate([np.reshape(w, (-1, 6)) for w in replaced(model, gone, new)])
    missing = np.concatenate([np.reshape(g, (-1, 6)) for g in gone])
    expected = by_lstsq(np.hstack([x, ones]), np.asarray(model(x)), weights, missing, use_bias)
    np.testing.assert_allclose(np.concatenate([np.reshape(w, (-1, 6)) for w in found]), expected, rtol=2e-3, atol=2e-4)
    for values, mask, fill in zip(found, gone, new, strict=True):
        assert np.array_equal(values[mask], fill[mask])


def test_later_layers_are_given_what_the_repaired_ones_before_give():
    first, second = layers.Dense(8, activation="tanh"), layers.Dense(3)
    model = fresh(first, second, shape=(5,))
    x, gone, new = inputs((5,)), some(model, 0.4), zeros(model)
    gone[1][:], gone[3][:] = False, False
    y = np.asarray(model(x))
    found, _ = repair.Repair(model, x, "least_squares")(gone, new)
    training.assign(model.trainable_variables, [*found[:2], *training.values(model.trainable_variables)[2:]])
    hidden = np.hstack([np.asarray(first(x)), np.ones((len(x), 1))])
    weights = np.vstack([replaced(model, gone, new)[2], np.asarray(second.bias)])
    expected = by_lstsq(hidden, y, weights, np.vstack([gone[2], gone[3]]), constant=True)
    np.testing.assert_allclose(np.vstack(found[2:]), expected, rtol=2e-3, atol=2e-4)


def test_of_units_that_are_gone_the_next_layer_takes_one_solve(monkeypatch):
    model = fresh(layers.Dense(6, activation="relu"), layers.Dense(4), shape=(5,))
    x, solved, factorised = inputs((5,)), [], repair._System._factorised
    monkeypatch.setattr(repair._System, "_factorised", lambda self, m: solved.append(len(m)) or factorised(self, m))
    gone = [np.zeros(v.shape, bool) for v in model.trainable_variables]
    gone[0][:, [1, 4]] = gone[1][[1, 4]] = True
    found, _ = repair.Repair(model, x, "least_squares")(gone, zeros(model))
    assert sorted(solved) == [0, 5, 6]  # of the first layer nothing is left or all; of the second what is not dead
    was = training.values(model.trainable_variables)
    assert all(np.array_equal(found[i][..., [0, 2, 3, 5]], was[i][..., [0, 2, 3, 5]]) for i in (0, 1))
    hidden = np.maximum(x @ found[0] + found[1], 0)
    weights = np.vstack([was[2], was[3]])
    expected = by_lstsq(np.hstack([hidden, np.ones((40, 1))]), np.asarray(model(x)), weights, weights > 9, True)
    np.testing.assert_allclose(np.vstack(found[2:]), expected, rtol=2e-3, atol=2e-4)
    assert np.array_equal(found[2][[1, 4]], was[2][[1, 4]])  # nothing comes from there


CONVOLUTIONS = {
    "same": lambda: layers.Conv2D(4, 3, padding="same"),
    "strides": lambda: layers.Conv2D(4, (3, 2), strides=2),
    "groups": lambda: layers.Conv2D(4, 2, groups=2, padding="same"),
    "depthwise": lambda: layers.DepthwiseConv2D(2, depth_multiplier=2, strides=2),
    "causal": lambda: layers.Conv1D(3, 3, padding="causal", dilation_rate=2, use_bias=False),
}
CONTRACTIONS = {
    "heads": (lambda: layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de"), (4, 5)),
    "out of heads": (lambda: layers.EinsumDense("abde,dec->abc", (None, 5), bias_axes="c"), (4, 2, 3)),
    "places": (lambda: layers.EinsumDense("abc,bcd->abd", (4, 3), bias_axes="bd"), (4, 5)),
    "another order": (lambda: layers.EinsumDense("abc,cd->adb", (3, 4), bias_axes="d"), (4, 5)),
    "a bias that outputs share": (lambda: layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="d"), (4, 5)),
    "dense": (lambda: layers.Dense(3), (4, 5)),
}  # fmt: skip
LAYERS = {name: (make, (6, 2) if name == "causal" else (6, 7, 2)) for name, make in CONVOLUTIONS.items()} | CONTRACTIONS


@pytest.mark.parametrize("name", LAYERS)
def test_every_kind_of_layer_is_what_lstsq_says(name):
    """Outputs are linear in the weights: a column of the system is what Keras gives for a single weight of 1."""
    make, shape = LAYERS[name]
    model = fresh(make(), shape=shape)
    x, gone, new = inputs(shape, 30), some(model, 0.3), zeros(model)
    own = model.trainable_variables[:1] if "share" in name else model.trainable_variables
    for mask in gone[len(own) :]:
        mask[:] = False  # it stays out of the system
    before = [w.astype("float64") for w in replaced(model, gone, new)]
    y = np.asarray(model(x), "float64")
    after, _ = repair.Repair(model, x, "least_squares", chunk=8)(gone, new)

    def outputs(weights):
        training.assign(model.trainable_variables, [w.astype("float32") for w in weights])
        return np.asarray(model(x), "float64").ravel()

    missing = y.ravel() - outputs(before)
    places = [(n, at) for n in range(len(own)) for at in np.ndindex(*own[n].shape)]
    columns = []
    for n, at in places:
        single = zeros(model)
        single[n][at] = 1
        columns.append(outputs(single))
    columns, of_kernel = np.array(columns).T, np.array([n == 0 for n, _ in places])
    ridge = of_kernel * np.sqrt(DAMPING * (columns[:, of_kernel] ** 2).sum(axis=0).mean())
    left = np.array([not gone[n][at] for n, at in places])
    rows = np.vstack([columns, np.diag(ridge)])[:, left]
    expected = np.zeros(len(places))
    expected[left] = np.linalg.lstsq(rows, np.append(missing, np.zeros(len(places))), rcond=None)[0]
    found = np.array([after[n][at] - before[n][at] for n, at in places])
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-4)
    assert abs(expected[left]).mean() > 0.003


@settings(max_examples=15, deadline=None)
@given(st.floats(0, 1), st.integers(0, 99), st.sampled_from([0.0, 0.4]))
@example(0.75, 14, 0.4)
def test_the_error_of_a_layer_is_never_larger_than_that_of_none(fraction, seed, fill):
    model = fresh(layers.Dense(6), shape=(5,))
    x, gone = inputs((5,), 12, seed), some(model, fraction, seed)
    new = [np.full(v.shape, fill, "float32") for v in model.trainable_variables]
    y = np.asarray(model(x), "float64")
    kernel, bias = replaced(model, gone, new)
    errors = {"none": ((x @ kernel + bias - y) ** 2).sum(axis=0)}
    for kind in ("bias", "least_squares"):
        kernel, bias = repair.Repair(model, x, kind)(gone, new)[0]
        errors[kind] = ((x @ kernel + bias - y) ** 2).sum(axis=0)
    rounded = 1 + 1e-6  # weights are float32
    assert (errors["bias"] <= errors["none"] * rounded + 1e-6).all()
    # With the bias, the ridge on the change keeps least squares below `bias` too.
    assert (errors["least_squares"] <= errors["bias"] * rounded + 1e-6).all()


@pytest.mark.parametrize("kind", ["bias", "least_squares", "batch_norm"])
def test_where_nothing_is_replaced_nothing_changes(kind):
    model = fresh(layers.Conv2D(3, 2), layers.BatchNormalization(), layers.Flatten(), layers.Dense(2), shape=(4, 4, 1))
    x, was = inputs((4, 4, 1)), [training.values(v) for v in (model.trainable_variables, model.non_trainable_variables)]
    made = repair.Repair(model, x, kind)
    gone = some(model, 0)
    for found, expected in zip(made(gone, zeros(model)), was, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    gone[-1][0] = gone[-2][:2] = True  # what comes before is as it was, too
    trainable, others = made(gone, zeros(model))
    assert all(np.array_equal(a, b) for a, b in zip([*trainable[:-2], *others], [*was[0][:-2], *was[1]], strict=True))
    for variables, values in zip((model.trainable_variables, model.non_trainable_variables), was, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(training.values(variables), values, strict=True))


def test_bias_by_hand():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2, activation="relu"), layers.Dense(1)])
    weights = [[[1, 2], [3, 4]], [10, 10], [[1], [1]], [0]]
    training.assign(model.trainable_variables, [np.array(w, "float32") for w in weights])
    x = np.array([[1, 1], [3, 1]], "float32")
    gone = [np.array([[True, False], [False, True]]), np.array([False, True]), *some(model, 0)[2:]]
    found, _ = repair.Repair(model, x, "bias")(gone, zeros(model))
    # Of the first unit 1 and 3 are gone; of the second 14 and 14, for which its own bias, gone too, cannot stand in.
    assert found[1].tolist() == [12, 0]
    # It gives 15 and 15 where it gave 14 and 16; the second 2 and 6 where it gave 16 and 20.
    assert found[3].tolist() == [14]
    assert np.array_equal(found[0], [[0, 2], [3, 0]]) and found[2].tolist() == [[1], [1]]


def test_batch_norm_by_hand():
    norm, second = layers.BatchNormalization(axis=1), layers.BatchNormalization()
    model = fresh(layers.Dense(3), layers.Reshape((3, 1)), norm, layers.Flatten(), layers.Dense(2), second, shape=(4,))
    x, gone = inputs((4,)), some(model, 0)
    gone[0][1:3] = True
    trainable, others = repair.Repair(model, x, "batch_norm", chunk=7)(gone, zeros(model))
    kernel, bias = trainable[:2]
    hidden = (x @ kernel + bias).astype("float64")
    np.testing.assert_allclose(others[0], hidden.mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(others[1], hidden.var(axis=0), rtol=1e-5)
    gamma, beta = trainable[2:4]
    normal = (hidden - hidden.mean(axis=0)) / np.sqrt(hidden.var(axis=0) + norm.epsilon) * gamma + beta
    after = normal @ trainable[4] + trainable[5]
    np.testing.assert_allclose(others[2], after.mean(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(others[3], after.var(axis=0), rtol=1e-4)


def test_residuals_are_followed_in_the_order_of_the_calls():
    """The layer that is made first is called last, so that its inputs come from the other."""
    late, early = layers.Dense(2), layers.Dense(3)
    late.build((None, 3)), early.build((None, 3))
    given_ = keras.Input((3,))
    model = keras.Model(given_, late(layers.add([early(given_), given_])))
    x, gone = inputs((3,)), [np.ones(v.shape, bool) if v is early.kernel else np.zeros(v.shape, bool) for v in
                             model.trainable_variables]  # fmt: skip
    y, places = np.asarray(model(x)), {id(v): n for n, v in enumerate(model.trainable_variables)}
    found, _ = repair.Repair(model, x, "least_squares")(gone, zeros(model))
    kernel, bias = (found[places[id(v)]] for v in (late.kernel, late.bias))
    seen = np.hstack([x + found[places[id(early.bias)]], np.ones((40, 1))])
    weights = np.vstack([np.asarray(late.kernel), np.asarray(late.bias)])
    expected = by_lstsq(seen, y, weights, weights > 9, True)
    np.testing.assert_allclose(np.vstack([kernel, bias]), expected, rtol=2e-3, atol=2e-4)
    assert not np.array_equal(kernel, np.asarray(late.kernel))


def test_what_cannot_be_solved_is_said():
    model = fresh(layers.Dense(3, use_bias=False), shape=(4,))
    x = inputs((4,))
    x[:, 1] = x[:, 0]
    gone = some(model, 0)
    gone[0][2] = True
    with pytest.raises(repair.Unsolvable, match="the inputs of Dense 1 depend on one another"):
        repair.Repair(model, x, "least_squares", damping=0)(gone, zeros(model))
    assert np.isfinite(repair.Repair(model, x, "least_squares")(gone, zeros(model))[0][0]).all()
    huge = np.full((5, 4), 1e30, "float32")
    training.assign(model.trainable_variables, [np.full((4, 3), 1e30, "float32")])
    with np.errstate(all="ignore"), pytest.raises(repair.Unsolvable, match="Dense 1 are not finite"):
        repair.Repair(model, huge * huge, "least_squares")(gone, zeros(model))


def test_where_nothing_comes_in_the_bias_alone_makes_up():
    model = fresh(layers.Dense(3, activation="relu"), layers.Dense(2), shape=(4,))
    x, gone = inputs((4,)), [np.ones((4, 3), bool), np.ones(3, bool), np.zeros((3, 2), bool), np.zeros(2, bool)]
    found, _ = repair.Repair(model, x, "least_squares")(gone, zeros(model))
    np.testing.assert_allclose(found[3], np.asarray(model(x)).mean(axis=0), rtol=1e-5)
    assert np.array_equal(found[2], np.asarray(model.layers[1].kernel))
    without = fresh(layers.Dense(3, activation="relu"), layers.Dense(2, use_bias=False), shape=(4,))
    found, _ = repair.Repair(without, x, "least_squares")(gone[:3], zeros(without))
    assert np.array_equal(found[2], np.asarray(without.layers[1].kernel))


def test_layers_that_are_left_out_are_named_and_a_repair_of_none_is_refused():
    shared, tokens = layers.Dense(3), keras.Input((4,), dtype="int32")
    hidden = layers.Embedding(5, 3)(tokens)
    hidden = layers.LayerNormalization()(shared(shared(hidden)))
    model = keras.Model(tokens, layers.Dense(2, use_bias=False)(hidden))
    x = np.zeros((3, 4), "int32")
    left = ["Embedding 1", "Dense 2", "LayerNormalization 3"]
    assert repair.left_out(model, x) == {"bias": [*left, "Dense 4"], "least_squares": left}
    for kind in ("bias", "batch_norm"):
        with pytest.raises(ValueError, match=f"layers that '{kind}' can repair"):
            repair.Repair(model, x, kind)
    with pytest.raises(ValueError, match="Expected a repair among none, bias, least_squares, batch_norm"):
        repair.Repair(model, x, "ridge")
