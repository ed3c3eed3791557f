"""What stands in for a weight that is replaced."""

import numpy as np
import pytest

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


@pytest.mark.parametrize("fill", ["zero", "noise", "initial"])
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
        ({"fill": "zeros"}, "Expected fill to be one of 'noise', 'zero', 'initial', received 'zeros'"),
        ({"fill": "initial"}, "Expected initial=..., the weights before training, .* received None"),
        ({"fill": "initial", "initial": WEIGHTS[:1]}, r"Expected initial with the shapes .*received \[\(200, 50\)\]"),
        ({"ranks": [r[:1] for r in ORDERS[0]]}, r"Expected ranks with the shapes .*received \[\(1, 50\), \(1,\)\]"),
        ({"ranks": ORDERS[0][:1]}, r"Expected ranks with the shapes .*received \[\(200, 50\)\]"),
    ],
)
def test_what_cannot_be_thresholded(change, message):
    with pytest.raises(ValueError, match=message):
        thresholding.threshold(**{"weights": WEIGHTS, "ranks": ORDERS[0], "t": 0.5, **change})
