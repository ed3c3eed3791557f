"""What stands in for a weight that is replaced."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

import thresholding

RNG = np.random.default_rng(0)
WEIGHTS = [RNG.normal(1, 0.5, (200, 50)).astype("float32"), RNG.normal(0, 3, 5000).astype("float32")]
ORDERS = [[(RNG.permutation(w.size) / w.size).reshape(w.shape).astype("float32") for w in WEIGHTS] for _ in range(2)]
T = np.float32(0.3)


def test_zero():
    kept = ORDERS[0][0] >= T
    new = thresholding.threshold(WEIGHTS, ORDERS[0], 0.3, fill="zero")
    assert (new[0][~kept] == 0).all() and np.array_equal(new[0][kept], WEIGHTS[0][kept])
    assert (new[1] == 0).sum() == 1500


def test_initial():
    initial = [w + 1 for w in WEIGHTS]
    new = thresholding.threshold(WEIGHTS, ORDERS[0], 0.3, fill="initial", initial=initial)
    for w, i, r, n in zip(WEIGHTS, initial, ORDERS[0], new, strict=True):
        assert np.array_equal(n, np.where(r < T, i, w)) and n.dtype == np.float32


def test_noise_has_a_tenth_of_the_spread_of_its_variable():
    for noise, w in zip(thresholding.replacements(WEIGHTS, "noise", seed=3), WEIGHTS, strict=True):
        assert noise.shape == w.shape and noise.dtype == np.float32
        expected = w.std() / 10
        # Four standard errors of a standard deviation, and of a mean, of this many draws.
        assert noise.std() == pytest.approx(expected, rel=4 / np.sqrt(2 * noise.size))
        assert abs(noise.mean()) < 4 * expected / np.sqrt(noise.size)
        inside = (abs(noise) < expected).mean()
        assert inside == pytest.approx(0.6827, abs=4 * np.sqrt(0.6827 * 0.3173 / noise.size))


def test_every_measure_of_a_trial_meets_the_same_draw():
    one, other = (thresholding.threshold(WEIGHTS, ranks, 0.5, fill="noise", seed=7) for ranks in ORDERS)
    whole = thresholding.threshold(WEIGHTS, ORDERS[0], 1, fill="noise", seed=7)
    for a, b, all_, first, second in zip(one, other, whole, *ORDERS, strict=True):
        both = (first < 0.5) & (second < 0.5)
        assert 0 < both.sum() < both.size / 2
        assert np.array_equal(a[both], b[both]) and np.array_equal(a[both], all_[both])


def test_the_draw_depends_on_the_seed_and_the_variable():
    first, second = (thresholding.replacements(WEIGHTS, "noise", seed) for seed in (0, 1))
    assert not np.array_equal(first[0], second[0])
    twins = thresholding.replacements([WEIGHTS[0], WEIGHTS[0]], "noise")
    assert not np.array_equal(twins[0], twins[1])


def plain(kernel, bits):
    """Round a kernel (inputs, units) number by number, a scale for each column."""
    levels, rounded = 2 ** (bits - 1) - 1, np.zeros(kernel.shape)
    for unit in range(kernel.shape[1]):
        scale = max(abs(float(w)) for w in kernel[:, unit]) / levels
        for place, w in enumerate(kernel[:, unit]):
            candidates = [level * scale for level in range(-levels, levels + 1)]
            rounded[place, unit] = min(candidates, key=lambda value: abs(value - float(w)))
    return rounded


@pytest.fixture(scope="module")
def model():
    inputs = keras.Input((6, 6, 1))
    x = layers.BatchNormalization()(layers.Conv2D(4, 3)(inputs))
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


@pytest.mark.parametrize("bits", [2, 3, 5])
def test_rounding_has_a_scale_for_each_output_and_one_for_a_vector(model, bits):
    weights = [RNG.normal(0, 1, v.shape).astype("float32") for v in model.trainable_variables]
    found = thresholding.replacements(weights, f"rounded:{bits}", model=model)
    for w, new in zip(weights, found, strict=True):
        one_column = w.reshape(-1, 1) if w.ndim == 1 else w.reshape(-1, w.shape[-1])
        assert new.dtype == np.float32
        np.testing.assert_allclose(new, plain(one_column, bits).reshape(w.shape), rtol=1e-6, atol=1e-7)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 32), st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=2))
def test_rounding_keeps_the_largest_and_comes_within_half_a_step(bits, values):
    dense = keras.Sequential([keras.Input((4,)), layers.Dense(1, use_bias=False)])
    w = np.array([*values, 0.0, 1.0], "float32").reshape(4, 1)
    (new,) = thresholding.replacements([w], f"rounded:{bits}", model=dense)
    largest = np.abs(w).max()
    assert np.abs(new).max() == pytest.approx(largest, rel=1e-6) and new[2] == 0
    assert (np.abs(new - w) <= largest / (2 ** (bits - 1) - 1) / 2 + 1e-6 * largest).all()
    again = thresholding.replacements([new], f"rounded:{bits}", model=dense)[0]
    np.testing.assert_allclose(again, new, rtol=1e-6)


def test_weights_that_are_all_zero_stay_so():
    dense = keras.Sequential([keras.Input((2,)), layers.Dense(2)])
    kernel = np.array([[0, 0.3], [0, -1]], "float32")
    new = thresholding.replacements([kernel, np.zeros(2, "float32")], "rounded:2", model=dense)
    assert new[0].tolist() == [[0, 0], [0, -1]] and new[1].tolist() == [0, 0]


def test_the_mean_is_that_of_the_variable():
    for new, w in zip(thresholding.replacements(WEIGHTS, "mean"), WEIGHTS, strict=True):
        assert new.shape == w.shape and new.dtype == np.float32
        assert (new == new.flat[0]).all() and new.flat[0] == pytest.approx(w.astype("float64").mean(), rel=1e-6)


def test_a_layer_whose_units_are_unknown_is_not_rounded():
    class Own(layers.Layer):
        def build(self, shape):
            self.w = self.add_weight(shape=(shape[-1], 2), name="w")

        def call(self, x):
            return x @ self.w

    own = keras.Sequential([keras.Input((3,)), Own()])
    with pytest.raises(ValueError, match=r"Expected layers of Keras.*a Own\..*Or use another fill"):
        thresholding.replacements([np.ones((3, 2), "float32")], "rounded:2", model=own)


@pytest.mark.parametrize("fill", ["zero", "noise", "initial", "mean"])
def test_the_ends(fill):
    initial = [w * 2 for w in WEIGHTS]
    nothing = thresholding.threshold(WEIGHTS, ORDERS[0], 0, fill, 0, initial)
    assert all(np.array_equal(a, b) for a, b in zip(nothing, WEIGHTS, strict=True))
    everything = thresholding.threshold(WEIGHTS, ORDERS[0], 1, fill, 0, initial)
    expected = thresholding.replacements(WEIGHTS, fill, 0, initial)
    assert all(np.array_equal(a, b) for a, b in zip(everything, expected, strict=True))


def test_what_is_given_is_not_changed():
    before = [w.copy() for w in WEIGHTS]
    new = thresholding.threshold(WEIGHTS, ORDERS[0], 0)
    new[0][:] = 99
    assert all(np.array_equal(a, b) for a, b in zip(before, WEIGHTS, strict=True))


@pytest.mark.parametrize("t", [-0.1, 1.1, 21, float("nan")])
def test_thresholds_outside_0_to_1(t):
    with pytest.raises(ValueError, match=f"from 0 to 1, the fraction of weights to replace, received {t}"):
        thresholding.threshold(WEIGHTS, ORDERS[0], t)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"fill": "zeros"}, r"Expected fill to be one of 'noise', 'zero', .*'rounded:<bits>', received 'zeros'"),
        ({"fill": "rounded:1"}, "Expected the bits of fill to be a whole number of at least 2 and .* received 1"),
        ({"fill": "rounded:2"}, r"Expected model=..., .* for fill='rounded:2'; received None"),
        ({"fill": "initial"}, "Expected initial=..., the weights before training, .* received None"),
        ({"fill": "initial", "initial": WEIGHTS[:1]}, r"Expected initial with the shapes .*received \[\(200, 50\)\]"),
        ({"ranks": [r[:1] for r in ORDERS[0]]}, r"Expected ranks with the shapes .*received \[\(1, 50\), \(1,\)\]"),
        ({"ranks": ORDERS[0][:1]}, r"Expected ranks with the shapes .*received \[\(200, 50\)\]"),
    ],
)
def test_what_cannot_be_thresholded(change, message):
    with pytest.raises(ValueError, match=message):
        thresholding.threshold(**{"weights": WEIGHTS, "ranks": ORDERS[0], "t": 0.5, **change})
