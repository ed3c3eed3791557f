"""Models as people bring them: how their weights are used, what their outputs are, and what they are given."""

import warnings

import keras
import numpy as np
import plain
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, ops

import importance
from engine import losses, per_example, structure, taps

SPARSE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((9, 6)).astype("float32"), RNG.integers(0, 3, 9).astype("int32")


def dense(units=3, activation=None, inputs=6):
    return keras.Sequential(
        [keras.Input((inputs,)), layers.Dense(5, activation="tanh"), layers.Dense(units, activation=activation)]
    )


def by_hand(model, x, y, loss):
    """The mean of each example's squared gradient, by plain autodiff of Keras's own call of the loss."""
    weights, others = plain.values(model.trainable_variables), plain.values(model.non_trainable_variables)
    gradient = plain.gradient_of(lambda w, x, y: loss(y, model.stateless_call(w, others, x)[0]))
    each = [gradient(weights, x[n : n + 1], y[n : n + 1]) for n in range(len(x))]
    return [np.mean(np.square(arrays), axis=0) for arrays in zip(*each, strict=True)]


# Weights that are used outside of their own layer's call


class Borrowing(layers.Layer):
    """Adds what another layer's kernel makes of the input, behind a rectifier that may be dead."""

    def __init__(self, lender, shift):
        super().__init__()
        self._lend, self._shift = (lambda: lender.kernel), shift

    def call(self, inputs):
        hidden, given = inputs
        return hidden + ops.relu(ops.matmul(given, self._lend()) - self._shift)


def borrowing(shift):
    given = keras.Input((6,))
    lender = layers.Dense(4, name="lender")
    hidden = Borrowing(lender, shift)([lender(given), given])
    return keras.Model(given, layers.Dense(3, name="last")(hidden))


@pytest.mark.parametrize("shift", [0.0, 1e3])
def test_a_kernel_that_another_layer_reads_takes_the_generic_way(shift):
    model = borrowing(shift)
    assert {path.split("/")[-1]: way for path, way in per_example.paths(model, X).items()} == {
        "lender": "generic",  # also where the second use is dead for all these examples
        "last": "outer",
    }
    for score, expected in zip(
        importance.load("fisher_empirical").score(model, X, Y, loss=SPARSE), by_hand(model, X, Y, SPARSE), strict=True
    ):
        np.testing.assert_allclose(score, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", ["signal", "wanda"])
def test_activations_name_the_layer_whose_weight_is_used_elsewhere(name):
    with pytest.raises(ValueError, match=r"'lender', a Dense with a weight that something else uses too"):
        importance.load(name).score(borrowing(0.0), X)


def test_reads_in_a_layer_of_its_own_are_no_other_use():
    assert [use.elsewhere for use in taps.uses(dense(), X)] == [False, False]


def in_the_batch(self, x):
    """Take the two halves of each example for examples."""
    return self.last(ops.reshape(self.first(ops.reshape(x, (-1, 3))), (-1, 8)))


def of_times(self, x):
    """Put times first, as many as the examples that the rules are tried on."""
    hidden = self.first(ops.transpose(ops.reshape(x, (-1, 2, 3)), (1, 0, 2)))
    return self.last(ops.reshape(ops.transpose(hidden, (1, 0, 2)), (-1, 8)))


def of_places(self, x):
    """Look up places, which all examples share."""
    return self.last(ops.reshape(x, (-1, 6, 1)) + self.first(ops.arange(6))[None])[:, 0]


def of_shared_places(self, x):
    """The same, with an axis of length 1 in the place of the examples."""
    return self.last(ops.reshape(x, (-1, 6, 1)) + self.first(ops.arange(6)[None]))[:, 0]


def twice(self, x):
    """Give each example twice."""
    hidden = ops.reshape(self.first(ops.repeat(x, 2, axis=0)), (-1, 2, 4))
    return self.last(hidden[:, 0] - 0.5 * hidden[:, 1])


def in_a_map(self, x):
    """Map the layer over the places of all examples."""
    places = ops.transpose(ops.reshape(x, (-1, 2, 3)), (1, 0, 2))
    return self.last(ops.sum(ops.vectorized_map(lambda place: self.first(place), places), axis=0))


@pytest.mark.parametrize("examples", [1, 9])
@pytest.mark.parametrize("call", [in_the_batch, of_times, of_places, of_shared_places, twice, in_a_map])
def test_examples_that_are_not_on_the_first_axis_of_a_layer(call, examples):
    class Moved(keras.Model):
        def __init__(self):
            super().__init__()
            looked_up = call in (of_places, of_shared_places)
            self.first = layers.Embedding(6, 4) if looked_up else layers.Dense(4, activation="tanh")
            self.last = layers.Dense(3)

    Moved.call = call
    model = Moved()
    model(X)
    importance.load("fisher_empirical").score(model, X[:examples], Y[:examples], loss=SPARSE)
    for score, expected in zip(
        importance.load("fisher_empirical").score(model, X, Y, loss=SPARSE), by_hand(model, X, Y, SPARSE), strict=True
    ):
        np.testing.assert_allclose(score, expected, rtol=1e-4, atol=1e-7)
    if call is not of_shared_places:
        with pytest.raises(ValueError, match=r"something else than examples on its first axis|a Dense in a loop"):
            importance.load("wanda").score(model, X)


def test_a_rule_that_is_not_the_gradient_is_not_used(monkeypatch):
    model = dense()
    true = per_example.local_rules.GRADIENTS["linear"]

    def wrong(layer, *arguments):
        found = true(layer, *arguments)
        return [2 * g for g in found] if layer is model.layers[0] else found

    monkeypatch.setitem(per_example.local_rules.GRADIENTS, "linear", wrong)
    assert list(per_example.paths(model, X).values()) == ["generic", "outer"]


# The loss of an example is what Keras gives for that example alone


class Cubed(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return ops.mean(ops.abs(y_pred - y_true) ** 3, axis=-1)


class Doubled(keras.losses.MeanSquaredError):
    def __call__(self, y_true, y_pred, sample_weight=None):
        return 2 * super().__call__(y_true, y_pred, sample_weight)


REDUCTIONS = ["sum_over_batch_size", "mean", "sum", "mean_with_sample_weight", None, "none"]


@settings(max_examples=40, deadline=None)
@given(
    reduction=st.sampled_from(REDUCTIONS),
    kind=st.sampled_from(["sparse", "ignore", "mse", "own"]),
    masked=st.booleans(),
    seed=st.integers(0, 99),
)
def test_losses_are_those_of_keras_for_each_example_alone(reduction, kind, masked, seed):
    rng = np.random.default_rng(seed)
    outputs, labels = rng.standard_normal((5, 4, 3)).astype("float32"), rng.integers(0, 3, (5, 4)).astype("int32")
    loss = {
        "sparse": keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction),
        "ignore": keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=1, reduction=reduction),
        "mse": keras.losses.MeanSquaredError(reduction=reduction),
        "own": Cubed(reduction=reduction),
    }[kind]
    y = labels if kind in ("sparse", "ignore") else rng.standard_normal(outputs.shape).astype("float32")
    mask = rng.random((5, 4)) < 0.6

    def given_by_model(rows):
        values = ops.convert_to_tensor(outputs[rows])
        if masked:
            keras.src.backend.set_keras_mask(values, ops.convert_to_tensor(mask[rows]))
        return values

    found = np.asarray(losses.per_example(loss, y, given_by_model(slice(None))))
    rows = [slice(n, n + 1) for n in range(5)]
    expected = [np.mean(np.asarray(loss(y[row], given_by_model(row)))) for row in rows]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_loss_with_a_call_of_its_own_is_refused():
    model = dense(1)
    with pytest.raises(ValueError, match=r"mean or sum of what its method `call` returns, received Doubled.*`call`\."):
        importance.load("taylor").score(model, X, X[:, :1], loss=Doubled())


def test_a_mask_of_another_shape_is_refused():
    values = ops.convert_to_tensor(np.zeros((2, 4, 3), "float32"))
    keras.src.backend.set_keras_mask(values, ops.ones((2, 5), "bool"))
    with pytest.raises(ValueError, match=r"a mask like the losses, \(examples, 4\), received one of shape \(2, 5\)"):
        losses.per_example(SPARSE, np.zeros((2, 4), "int32"), values)


def test_a_model_with_losses_of_its_own_says_so():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(3, activity_regularizer="l2")])
    model.compile("sgd", SPARSE)
    with pytest.raises(ValueError, match=r"adds losses of its own.*Pass loss=\.\.\."):
        importance.load("fisher_empirical").score(model, X, Y)
    assert importance.load("fisher_empirical").score(model, X, Y, loss=SPARSE)


def test_penalties_on_weights_are_no_part_of_the_loss():
    model, penalized = dense(), dense()
    penalized.layers[0].kernel.regularizer = keras.regularizers.L2(0.5)
    penalized.set_weights(plain.values(model.trainable_variables))
    for m in (model, penalized):
        m.compile("sgd", SPARSE)
    scores = [importance.load("fisher_empirical").score(m, X, Y) for m in (model, penalized)]
    assert all(np.array_equal(*pair) for pair in zip(*scores, strict=True))


@pytest.mark.parametrize(
    "written",
    ["sparse_categorical_crossentropy", keras.losses.sparse_categorical_crossentropy,
     [keras.losses.SparseCategoricalCrossentropy()], keras.losses.SparseCategoricalCrossentropy],
    ids=["name", "function", "list", "class"],
)  # fmt: skip
def test_losses_as_keras_takes_them(written):
    model, told = dense(3, "softmax"), keras.losses.SparseCategoricalCrossentropy()
    expected = importance.load("fisher_empirical").score(model, X, Y, loss=told)
    given = importance.load("fisher_empirical").score(model, X, Y, loss=written)
    model.compile("sgd", written)
    for found in (given, importance.load("fisher_empirical").score(model, X, Y)):
        assert all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize("written", [lambda y, outputs: ops.mean(outputs, axis=-1), [SPARSE, SPARSE], 3])
def test_losses_that_are_not_one_of_keras(written):
    with pytest.raises(ValueError, match=r"Expected one keras\.losses\.Loss object, or a name or function of Keras"):
        importance.load("fisher_empirical").score(dense(), X, Y, loss=written)


@pytest.mark.parametrize("wanted", [0, 2.5, "all"])
def test_numbers_of_examples_that_are_none(wanted):
    with pytest.raises(ValueError, match="examples to be a number of at least 1, or None for all"):
        importance.load("fisher_empirical").score(dense(), X, Y, examples=wanted)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="Keras computes these layers on TensorFlow alone")
@pytest.mark.xla
def test_layers_that_know_no_xla():
    model = keras.Sequential(
        [keras.Input((2,), dtype="int32"), layers.Hashing(5), layers.Embedding(5, 3), layers.Flatten(), layers.Dense(3)]
    )
    assert not structure.xla(model) and importance.load("fisher_empirical").score(model, np.arange(18).reshape(9, 2), Y)


def test_a_weighted_loss_is_refused():
    model = dense()
    model.compile("sgd", SPARSE, loss_weights=[0.5])
    with pytest.raises(ValueError, match=r"without loss_weights, received \[0\.5\]"):
        importance.load("fisher_empirical").score(model, X, Y)


# Whether outputs are logits


@pytest.mark.parametrize(
    "ends, expected",
    [
        (lambda x: layers.Dense(3)(x), "linear"),
        (lambda x: layers.Dense(3, activation="softmax")(x), "softmax"),
        (lambda x: layers.Reshape((3, 1))(layers.Softmax()(layers.Dense(3)(x))), "softmax"),
        (lambda x: layers.Dropout(0.5)(layers.Activation("sigmoid")(layers.Dense(3)(x))), "sigmoid"),
        (lambda x: ops.softmax(layers.Dense(3)(x)), "softmax"),
        (lambda x: ops.sigmoid(layers.Dense(3)(x)), "sigmoid"),
        (lambda x: layers.Dense(3, activation="relu")(x), None),
        (lambda x: layers.Rescaling(0.5)(layers.Dense(3, activation="sigmoid")(x)), None),
        (lambda x: layers.Dense(3, activation=lambda value: ops.softmax(value))(x), None),
        (lambda x: layers.Lambda(ops.softmax)(layers.Dense(3)(x)), None),
        (lambda x: dense(3, "softmax")(x), "softmax"),
    ],
)
def test_what_a_model_ends_with(ends, expected):
    given = keras.Input((6,))
    assert structure.end(keras.Model(given, ends(given))) == expected


class Probabilities(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner = layers.Dense(3)

    def call(self, x):
        return ops.softmax(self.inner(x))


def probabilities():
    model = Probabilities()
    model(X)
    return model


@pytest.mark.parametrize("name", ["fisher", "fisher_empirical", "obd", "mas", "fisher_sampled", "fisher_argmax"])
@pytest.mark.parametrize("build", [lambda: dense(3, "softmax"), probabilities], ids=["functional", "subclass"])
def test_a_softmax_end_that_was_not_compiled_is_no_logits(name, build):
    model, told = build(), keras.losses.SparseCategoricalCrossentropy()
    for found, expected in zip(
        importance.load(name).score(model, X, Y), importance.load(name).score(model, X, Y, loss=told), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("build", [lambda: dense(3, "softmax"), probabilities], ids=["functional", "subclass"])
def test_a_loss_that_takes_probabilities_for_logits_is_refused(build):
    with pytest.raises(ValueError, match=r"outputs that are logits.*received probabilities.*from_logits=False"):
        importance.load("fisher").score(build(), X, loss=SPARSE)


def test_a_loss_that_takes_logits_for_probabilities_is_refused():
    with pytest.raises(ValueError, match=r"outputs that are probabilities.*received values from .*from_logits=True"):
        importance.load("fisher").score(dense(), 9 * X, loss=keras.losses.SparseCategoricalCrossentropy())


@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_a_single_output_with_labels_of_0_and_1_is_binary(activation):
    model, y = dense(1, activation), (Y > 0).astype("int64")
    told = keras.losses.BinaryCrossentropy(from_logits=activation is None)
    for name in ("fisher_empirical", "fisher", "mas"):
        found, expected = (importance.load(name).score(model, X, y, loss=loss) for loss in (None, told))
        assert all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))
        assert any(np.abs(f).max() > 0 for f in found)


def behind(activation, *behind, units=3):
    """A network with layers behind its last activation."""
    model = dense(units, activation)
    return keras.Sequential([keras.Input((6,)), *model.layers, *behind])


ZEROS_AND_ONES = (Y > 0).astype("float32")


@pytest.mark.parametrize(
    "build, y",
    [
        (lambda: behind("softmax", layers.Rescaling(0.9, 0.02)), Y),
        (lambda: behind("sigmoid", layers.Rescaling(0.98, 0.01), units=1), (Y > 0).astype("int32")),
        (lambda: dense(1, "hard_sigmoid"), (Y > 0).astype("int32")),
        (lambda: dense(1, "tanh"), (Y > 0).astype("int32")),
        (lambda: behind("linear", layers.Reshape((3, 2)), layers.Softmax(axis=1), units=6), np.zeros((9, 3), int)),
        (lambda: behind("linear", layers.Reshape((2, 3)), layers.Softmax(), layers.Flatten(), units=6), Y),
        (lambda: dense(3), np.eye(3, dtype="float32")[Y]),
        (lambda: dense(1), ZEROS_AND_ONES[:, None]),
    ],
    ids=["rescaled", "rescaled sigmoid", "hard sigmoid", "tanh", "another axis", "flattened", "one-hot", "zeros, ones"],
)
def test_outputs_and_labels_that_fit_several_losses_are_refused(build, y):
    with pytest.raises(ValueError, match=r"received neither, .* leave open what the loss is\. Pass loss="):
        importance.load("fisher_empirical").score(build(), X, y)


@pytest.mark.parametrize(
    "build",
    [
        lambda: dense(3, lambda value: ops.softmax(value)),
        lambda: behind("linear", layers.Reshape((3, 1)), layers.Softmax(axis=1), layers.Lambda(lambda v: v[..., 0])),
    ],
)
def test_probabilities_are_known_by_their_values_where_the_model_does_not_say(build):
    model, told = build(), keras.losses.SparseCategoricalCrossentropy()
    for name in ("fisher_empirical", "mas"):
        found, expected = (importance.load(name).score(model, X, Y, loss=loss) for loss in (None, told))
        assert all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))
    with pytest.raises(ValueError, match="outputs='logits', received one of probabilities"):
        importance.load("mas", outputs="logits").score(model, X, Y)


def test_classes_along_another_axis():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(6), layers.Reshape((3, 2))])
    turned = keras.Sequential([keras.Input((6,)), *model.layers, layers.Permute((2, 1))])
    scores = [
        importance.load("mas").score(m, X, loss=keras.losses.CategoricalCrossentropy(from_logits=True, axis=axis))
        for m, axis in ((model, 1), (turned, -1))
    ]
    for one, other in zip(*scores, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize("loss", [keras.losses.MeanSquaredError(), keras.losses.MeanAbsoluteError(reduction="sum")])
def test_one_number_an_example_without_an_axis_of_its_own(loss):
    given = keras.Input((6,))
    model = keras.Model(given, ops.squeeze(dense(1)(given), axis=-1))
    for name in ("fisher_empirical", "taylor", "deletion"):
        found = importance.load(name).score(model, X, X[:, 0], loss=loss)
        expected = importance.load(name).score(keras.Model(given, model.layers[1].output), X, X[:, :1], loss=loss)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-8)


@pytest.mark.long
@pytest.mark.parametrize("dtype", ["float16"] if plain.BACKEND == "jax" else ["float16", "float64"])
def test_other_precisions(dtype):
    keras.utils.set_random_seed(0)
    whole, other = (
        keras.Sequential(
            [
                keras.Input((6,), dtype=d), layers.Dense(5, activation="tanh", dtype=d),
                layers.LayerNormalization(dtype=d), layers.Dense(3, dtype=d),
            ]
        )
        for d in ("float32", dtype)
    )  # fmt: skip
    other.set_weights(plain.values(whole.trainable_variables))
    names = ["fisher", "fisher_empirical", "hessian", "signal", "wanda", "mas", "deletion"]
    found, expected = (importance.score(names, model, X, Y, loss=SPARSE) for model in (other, whole))
    near = 1e-4 if dtype == "float64" else 0.05
    for name in names:
        for one, right in zip(found[name], expected[name], strict=True):
            np.testing.assert_allclose(one, right, rtol=near, atol=near * right.max())


class Mixing(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return ops.mean((y_pred - ops.mean(y_pred, axis=0)) ** 2, axis=-1)


@pytest.mark.parametrize("name", ["deletion", "fisher_empirical", "snip", "hessian"])
def test_a_loss_that_mixes_examples_is_refused(name):
    with pytest.raises(ValueError, match="one that changes with the rest of the batch"):
        importance.load(name).score(dense(), X, Y, loss=Mixing())


def test_labels_of_losses_with_targets_of_another_shape():
    loss = keras.losses.CategoricalGeneralizedCrossEntropy()
    model = dense(3, "softmax")
    for score, expected in zip(
        importance.load("fisher_empirical").score(model, X, Y, loss=loss), by_hand(model, X, Y, loss), strict=True
    ):
        np.testing.assert_allclose(score, expected, rtol=1e-4, atol=1e-7)


def test_a_layer_that_is_never_called_is_named():
    class Idle(keras.Model):
        def __init__(self):
            super().__init__()
            self.used, self.idle = layers.Dense(3), layers.Dense(2, name="idle")
            self.idle.build((None, 6))

        def call(self, x):
            return self.used(x)

    model = Idle()
    model(X)
    with pytest.raises(ValueError, match="'idle', a Dense that is never called"):
        importance.load("wanda").score(model, X)


@pytest.mark.parametrize(
    "build, y",
    [
        (lambda: dense(1), None),
        (lambda: dense(1), Y),
        (lambda: dense(3, "sigmoid"), None),
        (lambda: dense(3, "softmax"), np.eye(3, dtype="float32")[Y]),
    ],
)
def test_what_leaves_the_loss_open_is_refused(build, y):
    with pytest.raises(ValueError, match=r"a compiled model or loss=\.\.\.; received neither.*Pass loss="):
        importance.load("mas").score(build(), X, y)


@pytest.mark.parametrize("name", ["sparse_categorical_crossentropy", "SparseCategoricalCrossentropy"])
def test_a_loss_that_was_compiled_by_its_name(name):
    model = dense(3, "softmax")
    model.compile("sgd", name)
    told = keras.losses.SparseCategoricalCrossentropy()
    pairs = zip(*(importance.load("taylor").score(model, X, Y, loss=loss) for loss in (None, told)), strict=True)
    assert all(np.array_equal(*pair) for pair in pairs)


def test_one_hot_labels_score_like_integers():
    model, one_hot = dense(), keras.losses.CategoricalCrossentropy(from_logits=True)
    for name in ("fisher", "fisher_sampled", "fisher_argmax", "fisher_empirical", "mas"):
        found = importance.load(name).score(model, X, np.eye(3, dtype="float32")[Y], loss=one_hot)
        expected = importance.load(name).score(model, X, Y, loss=SPARSE)
        for pair in zip(found, expected, strict=True):
            np.testing.assert_allclose(*pair, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("option", [{"label_smoothing": 0.1}, {"ignore_class": 2}])
def test_losses_that_are_no_logarithm_of_the_models_distribution(option):
    one_hot = "label_smoothing" in option
    kind = keras.losses.CategoricalCrossentropy if one_hot else keras.losses.SparseCategoricalCrossentropy
    with pytest.raises(ValueError, match=rf"received \w+ with {next(iter(option))}=.*'fisher_empirical'"):
        importance.load("fisher").score(dense(), X, loss=kind(from_logits=True, **option))


# What models are given


def two_inputs(names=("left", "right")):
    left, right = (keras.Input((6,), name=name) for name in names)
    return keras.Model([left, right], layers.Dense(3)(layers.Concatenate()([left, right])))


@pytest.mark.parametrize(
    "name", ["fisher", "fisher_empirical", "signal", "wanda", "hessian", "deletion", "fisher_batched"]
)
def test_several_inputs_score_as_one_that_holds_them_all(name):
    several, one = two_inputs(), keras.Sequential([keras.Input((12,)), layers.Dense(3)])
    one.set_weights(plain.values(several.weights))
    expected = importance.load(name).score(one, np.concatenate([X, X[::-1]], axis=1), Y)
    for x in ([X, X[::-1]], {"right": X[::-1], "left": X}):
        for found, right in zip(importance.load(name).score(several, x, Y), expected, strict=True):
            np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-6)


def test_a_part_of_the_examples_is_taken_of_all_inputs_alike():
    taken = importance.Evidence(two_inputs(), {"left": X, "right": X + 1}, Y, examples=4)
    np.testing.assert_array_equal(taken.x["left"] + 1, taken.x["right"])
    assert taken.count == 4


def with_nan():
    x = X.copy()
    x[4, 2] = np.nan
    return x


@pytest.mark.parametrize(
    "build, x, message",
    [
        (
            dense,
            with_nan(),
            r"finite numbers in the input, received 1 that .*, the first in example 4",
        ),
        (dense, np.array([["a"] * 6] * 9), "numbers in the input, received <U1.*TextVectorization"),
        (dense, (row for row in X), "inputs as an array .*received generator.*np.concatenate"),
        (dense, np.full((9, 6), 2**40), "whole numbers of 32 bits in the input, received 1099511627776"),
        (two_inputs, {"left": X, "rihgt": X}, "the names of the model's, left, right; received left, rihgt"),
        (two_inputs, {"left": X, "right": X[:4]}, r"same number of examples in each input.*received \[4, 9\]"),
        (lambda: keras.Model(*_two_outputs()), X, r"a model with one output, received .* with 2"),
        (dense, [[1.0, 2.0], [1.0]], r"examples of one shape in the input.*Pad them"),
        (dense, np.float32(3), r"the input as an array \(examples, \.\.\.\), received .*3"),
        (dense, X[:, :3], r"can be called with some of the examples, received .* failed: .*to have value 6.*shape"),
        (lambda: None, X, r"Expected a keras\.Model, received None\."),
        (lambda: keras.Sequential([keras.Input((6,)), layers.Softmax()]), X, r"0 of them\. Give it a layer that has"),
        (lambda: frozen(), X, r"0 of them\. Set trainable = True"),
    ],
)
def test_inputs_that_do_not_fit(build, x, message):
    with pytest.raises(ValueError, match=message):
        importance.load("fisher_empirical").score(build(), x, Y, loss=SPARSE)


def frozen():
    model = dense()
    model.trainable = False
    return model


def _two_outputs():
    given = keras.Input((6,))
    return given, [layers.Dense(3)(given), layers.Dense(2)(given)]


@pytest.mark.parametrize(
    "y, message",
    [
        (np.array(["a", "b", "c"] * 3), r"labels as numbers, received <U1 such as \['a'\].*np\.unique"),
        ({"first": Y}, r"labels as one array .*received dict"),
        (np.full((9, 3), np.nan), "finite targets, received 27"),
        (Y.astype("int64") + 2**40, "whole numbers of 32 bits in the labels, received 1099511627776"),
        ([[1], [2, 3]] * 4, "examples of one shape in the labels"),
        ([Y, Y], r"as many labels as inputs; received 2 and 9\. Give one array"),
    ],
)
def test_labels_of_another_kind(y, message):
    with pytest.raises(ValueError, match=message):
        importance.load("fisher_empirical").score(dense(), X, y)


def test_a_call_without_the_argument_training():
    class Plain(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden, self.last = layers.Dense(5, activation="tanh"), layers.Dense(3)

        def call(self, x):
            return self.last(self.hidden(x))

    model = Plain()
    model(X)
    for score, expected in zip(
        importance.load("fisher_empirical").score(model, X, Y), by_hand(model, X, Y, SPARSE), strict=True
    ):
        np.testing.assert_allclose(score, expected, rtol=1e-4, atol=1e-7)


def test_scoring_checks_a_model_once(monkeypatch):
    model, calls = dense(), []
    true = structure.forward
    monkeypatch.setattr(structure, "forward", lambda *arguments: calls.append(1) or true(*arguments))
    importance.load("fisher_empirical").score(model, X, Y)
    first = len(calls)
    importance.load("fisher_empirical").score(model, X + 1, Y)
    assert len(calls) == first


def test_no_warning_is_given():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        importance.load("fisher").score(dense(3, "softmax"), X, Y)
