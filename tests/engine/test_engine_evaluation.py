import keras
import numpy as np
import pytest
from keras import layers

from engine import evaluation, training

CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

pytestmark = pytest.mark.xla


class Counting(evaluation.Evaluator):
    """Count the traces, one for each compilation: the backends' own caches forget at times of their own."""

    traces = 0

    def _all_thresholds(self, *arguments):
        self.traces += 1
        return super()._all_thresholds(*arguments)


def slow(model, x, y, ranks, new, threshold):
    """Loss, its standard error and accuracy with Keras's own evaluation, one threshold at a time."""
    old = training.values(model.trainable_variables)
    replaced = [np.where(r < threshold, n, w) for r, n, w in zip(ranks, new, old, strict=True)]
    training.assign(model.trainable_variables, replaced)
    logits = np.asarray(model(x, training=False), "float64")
    training.assign(model.trainable_variables, old)
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(y)), y]
    return losses.mean(), losses.std(ddof=1) / len(y) ** 0.5, (logits.argmax(axis=1) == y).mean()


def ranked(model):
    rng = np.random.default_rng(1)
    shapes = [v.shape for v in model.trainable_variables]
    ranks = [rng.random(s).astype("float32") for s in shapes]
    new = [rng.standard_normal(s).astype("float32") for s in shapes]
    return ranks, new


@pytest.mark.parametrize("batch_size", [500, 23, 10, 7])
def test_agrees_with_evaluating_one_threshold_at_a_time(classifier, batch_size):
    model, x, y = classifier
    ranks, new = ranked(model)
    evaluator = evaluation.Evaluator(model, CROSS_ENTROPY, x, y, batch_size)
    thresholds = [0.0, 0.3, 0.8, 1.0]
    found = evaluator(evaluator.place(ranks), evaluator.place(new), thresholds)
    for index, threshold in enumerate(thresholds):
        expected = slow(model, x, y, ranks, new, threshold)
        np.testing.assert_allclose([values[index] for values in found], expected, rtol=1e-5)


def test_skips_thresholds_that_are_nan_and_compiles_once(classifier):
    model, x, y = classifier
    ranks, new = ranked(model)
    evaluator = Counting(model, CROSS_ENTROPY, x, y, batch_size=10)
    ranks, new = evaluator.place(ranks), evaluator.place(new)
    whole = evaluator(ranks, new, [0.2, 0.5, 0.9])
    part = evaluator(ranks, new, [np.nan, 0.5, np.nan])
    for all_of_them, some in zip(whole, part, strict=True):
        assert some[1] == all_of_them[1] and some[0] == some[2] == 0
    training.assign(model.trainable_variables, [w * 0 for w in training.values(model.trainable_variables)])
    evaluator.set_examples(x[::-1], y[::-1], batch_size=10)
    assert evaluator(ranks, new, [0.0, 0.5, 0.9]).loss[0] == pytest.approx(np.log(3))  # reads the new weights
    assert evaluator.traces == 1


def test_regression_gives_the_mean_absolute_error():
    model = keras.Sequential([keras.Input((1,)), layers.Dense(2, use_bias=False, kernel_initializer="ones")])
    x, y = np.array([[1.0], [3.0]], "float32"), np.zeros((2, 2), "float32")
    evaluator = evaluation.Evaluator(model, keras.losses.MeanSquaredError(), x, y)
    ranks, new = [np.array([[0.0, 0.5]], "float32")], [np.zeros((1, 2), "float32")]
    found = evaluator(evaluator.place(ranks), evaluator.place(new), [0.0, 0.5])
    assert found.loss.tolist() == [5.0, 2.5]  # (1 + 9) / 2, then one of two outputs is 0
    assert found.accuracy.tolist() == [2.0, 1.0]
    assert found.loss_stderr[0] == pytest.approx(np.std([1, 9], ddof=1) / 2**0.5)


def both_ways(model, x, y, ranks, new, thresholds):
    found = []
    for sweep in (True, False):
        evaluator = evaluation.Evaluator(model, CROSS_ENTROPY, x, y, batch_size=7, sweep=sweep)
        assert evaluator.sweeps(len(thresholds)) == sweep
        found.append(evaluator(evaluator.place(ranks), evaluator.place(new), thresholds))
    return found


@pytest.mark.parametrize("fill", [0.0, 0.3])
def test_changing_the_first_layers_outputs_is_computing_them_anew(classifier, fill):
    model, x, y = classifier
    x = np.where(x > 0, x, 0)  # some inputs are exactly 0, as in images
    rng = np.random.default_rng(1)
    ranks = [rng.random(v.shape).astype("float32") for v in model.trainable_variables]
    new = [np.full(v.shape, fill, "float32") for v in model.trainable_variables]
    thresholds = np.linspace(0, 1, 60)
    thresholds[[7, 31]] = np.nan
    nested, plain = both_ways(model, x, y, ranks, new, thresholds)
    for a, b in zip(nested, plain, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)
    # Equal logits stay equal: where nothing of the first layer is left, no rounding decides between classes.
    np.testing.assert_array_equal(nested.accuracy, plain.accuracy)
    for end in (0, -1):
        assert [a[end] for a in nested] == [b[end] for b in plain]


def test_weights_that_take_no_part_stay(classifier):
    model, x, y = classifier
    ranks = [np.full(v.shape, np.inf, "float32") for v in model.trainable_variables]
    ranks[0][1] = np.linspace(0, 0.9, ranks[0].shape[1])
    new = [np.zeros(v.shape, "float32") for v in model.trainable_variables]
    nested, plain = both_ways(model, x, y, ranks, new, np.linspace(0, 1, 60))
    np.testing.assert_allclose(nested.loss, plain.loss, atol=2e-6)


def test_a_first_layer_whose_input_depends_on_weights_is_computed_anew():
    model = keras.Sequential([keras.Input((4,)), layers.LayerNormalization(), layers.Dense(3)])
    assert evaluation.Evaluator(model, CROSS_ENTROPY, np.ones((5, 4), "float32"), np.zeros(5, "int32"))._front is None
    inputs = keras.Input((4,))
    shared = layers.Dense(4)
    twice = keras.Model(inputs, layers.Dense(3)(shared(shared(inputs))))
    assert evaluation.Evaluator(twice, CROSS_ENTROPY, np.ones((5, 4), "float32"), np.zeros(5, "int32"))._front is None


def test_what_is_left_of_a_sweep_is_evaluated_as_it_would_have_been():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((40,)), layers.Dense(6, "relu"), layers.Dense(3)])
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(50, 40)).astype("float32"), rng.integers(0, 3, 50)
    evaluator = evaluation.Evaluator(model, CROSS_ENTROPY, x, y, batch_size=7, sweep=True)
    ranks = evaluator.place([rng.random(v.shape).astype("float32") for v in model.trainable_variables])
    new = evaluator.place([np.zeros(v.shape, "float32") for v in model.trainable_variables])
    thresholds = np.linspace(0, 1, 60)
    whole = evaluator(ranks, new, thresholds)
    for share in (0.02, 0.1, 0.3, 0.5, 0.9):  # each weight is added to the same partial sum, whatever is skipped
        left = np.where(rng.random(60) < share, thresholds, np.nan)
        wanted = ~np.isnan(left)
        for a, b in zip(whole, evaluator(ranks, new, left), strict=True):
            np.testing.assert_array_equal(a[wanted], b[wanted])


def test_a_sweep_is_chosen_where_it_takes_less_time():
    def fewest(inputs, units, examples):
        """The number of thresholds from which on they are swept."""
        model = keras.Sequential([keras.Input((inputs,)), layers.Dense(units), layers.Dense(3)])
        evaluator = evaluation.Evaluator(
            model, CROSS_ENTROPY, np.ones((examples, inputs), "float32"), np.zeros(examples, "int32")
        )
        swept = [evaluator.sweeps(number) for number in range(1000)]
        assert swept == sorted(swept)
        return swept.index(True)

    # Small layers and few examples save little at each threshold, and a sweep costs something in any case.
    assert 21 < fewest(784, 300, 1000) < 101 < fewest(64, 32, 180)
    assert fewest(64, 32, 180) > fewest(64, 32, 1000) > fewest(200, 32, 1000)
