"""Each statistic against hand-computed values, other libraries and plain enumeration, and its rate of false alarms."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import scikit_posthocs
import scipy.stats
from statsmodels.stats.multitest import multipletests

from report.statistics.tests import (
    blocks_needed,
    direction,
    friedman,
    hodges_lehmann,
    holm,
    improvement,
    mean_ranks,
    rank_stability,
    sign_test,
    smallest_p,
    wilcoxon,
)


@pytest.fixture
def random():
    return np.random.default_rng(0)


def test_mean_ranks_share_ties():
    assert mean_ranks([[0.1, 0.2, 0.2], [0.1, 0.3, 0.2]]).tolist() == [1, 2.75, 2.25]


def test_mean_ranks_ignore_the_last_bits():
    assert mean_ranks([[0.1 + 0.2, 0.3]]).tolist() == [1.5, 1.5]


def test_friedman_by_hand():
    # Rank sums 5, 7, 12 over four blocks: chi2 = 12 / (4 * 3 * 4) * (25 + 49 + 144) - 3 * 4 * 4 = 6.5,
    # and F = 3 * 6.5 / (4 * 2 - 6.5) = 13 with 2 and 6 degrees of freedom.
    found = friedman([[1, 2, 3], [1, 2, 3], [2, 1, 3], [1, 2, 3]])
    assert found.chi2 == pytest.approx(6.5)
    assert found.f == pytest.approx(13)
    assert found.freedom == (2, 6)
    assert found.p == pytest.approx(scipy.stats.f.sf(13, 2, 6))


@pytest.mark.parametrize("decimals", [1, 6])
def test_friedman_agrees_with_scipy_also_with_ties(random, decimals):
    matrix = random.normal(size=(12, 5)).round(decimals)
    assert friedman(matrix).chi2 == pytest.approx(scipy.stats.friedmanchisquare(*matrix.T).statistic)


def test_friedman_where_all_blocks_agree_is_exact():
    found = friedman([[1, 2, 3]] * 4)
    assert math.isinf(found.f)
    assert found.p == pytest.approx(1 / 6**3)


def test_friedman_where_nothing_differs():
    assert friedman(np.ones((4, 3))).p == 1


def test_friedman_of_many_matrices_is_friedman_of_each(random):
    matrices = random.normal(size=(3, 6, 4))
    np.testing.assert_allclose(friedman(matrices).p, [friedman(matrix).p for matrix in matrices])


def test_wilcoxon_by_hand():
    # All five signs agree: 2 of 32 equally likely outcomes are as extreme.
    assert wilcoxon([1, 2, 3, 4, 5]) == pytest.approx(2 / 32)
    # W = 1: {} and {1} on one side, so 4 of 32.
    assert wilcoxon([-1, 2, 3, 4, 5]) == pytest.approx(4 / 32)
    assert wilcoxon([0, 0]) == 1


@pytest.mark.parametrize("blocks", [5, 10, 30])
def test_wilcoxon_agrees_with_scipy(random, blocks):
    for _ in range(10):
        differences = random.normal(0.3, 1, blocks)
        assert wilcoxon(differences) == pytest.approx(scipy.stats.wilcoxon(differences, method="exact").pvalue)


@pytest.mark.parametrize("differences", [[1, 1, -1, 2, 2, 3], [0, 1, 1, 1, -2, 4, 4], [0.3, 0.1 + 0.2, -0.3, 0.5, 1]])
def test_wilcoxon_with_ties_agrees_with_all_sign_flips(differences):
    sizes = np.round(np.abs([d for d in differences if d]), 12)
    ranks = scipy.stats.rankdata(sizes)
    observed = sum(rank for rank, d in zip(ranks, [d for d in differences if d], strict=True) if d > 0)
    outcomes = np.array([np.dot(signs, ranks) for signs in itertools.product([0, 1], repeat=len(ranks))])
    expected = min(1, 2 * min((outcomes <= observed).mean(), (outcomes >= observed).mean()))
    assert wilcoxon(differences) == pytest.approx(expected)


def test_holm_by_hand_and_as_in_statsmodels(random):
    # 0.01 * 4, 0.02 * 3, 0.03 * 2 -> 0.06 (not below its predecessor), 0.5 * 1
    assert holm([0.5, 0.01, 0.03, 0.02]).tolist() == pytest.approx([0.5, 0.04, 0.06, 0.06])
    p = random.uniform(size=20)
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1])


def test_pairwise_p_values_agree_with_scikit_posthocs(random):
    matrix = random.normal([0, 0.5, 1, 1.5], size=(10, 4))
    pairs = list(itertools.combinations(range(4), 2))
    found = holm([wilcoxon(matrix[:, j] - matrix[:, i]) for i, j in pairs])
    melted = pd.DataFrame(matrix).melt(var_name="measure")
    expected = scikit_posthocs.posthoc_wilcoxon(melted, val_col="value", group_col="measure", p_adjust="holm")
    np.testing.assert_allclose(found, [expected.loc[i, j] for i, j in pairs])


def test_smallest_p_is_reached_and_enough_blocks_are_enough():
    for blocks in (3, 5, 8):
        assert smallest_p(blocks, 1) == wilcoxon(range(1, blocks + 1))
    assert smallest_p(4, 45) == 1
    for pairs in (1, 3, 45, 190):
        needed = blocks_needed(pairs)
        assert smallest_p(needed, pairs) <= 0.05 < smallest_p(needed - 1, pairs)
    assert blocks_needed(1) == 6


def walsh(differences):
    return sorted((a + b) / 2 for a, b in itertools.combinations_with_replacement(differences, 2))


@pytest.mark.parametrize("blocks", [5, 6, 9, 14])
def test_hodges_lehmann_holds_the_shifts_that_the_test_does_not_reject(random, blocks):
    differences = random.gamma(2, size=blocks)
    estimate, low, high = hodges_lehmann(differences)
    means = walsh(differences)
    assert estimate == pytest.approx(np.median(means))
    kept = [m for m in means if wilcoxon(differences - m + 1e-9) > 0.05 and wilcoxon(differences - m - 1e-9) > 0.05]
    if blocks < 6:
        assert np.isnan(low) and np.isnan(high)
        return
    assert wilcoxon(differences - low - 1e-9) > 0.05 >= wilcoxon(differences - low + 1e-9)
    assert wilcoxon(differences - high + 1e-9) > 0.05 >= wilcoxon(differences - high - 1e-9)
    assert low < min(kept) and max(kept) < high


def test_hodges_lehmann_of_equal_differences_is_their_value():
    assert hodges_lehmann([0.5] * 6) == (0.5, 0.5, 0.5)


def test_direction_is_that_of_the_test_and_of_the_estimate(random):
    for _ in range(200):
        differences = random.standard_t(2, size=9).round(2)
        signed = np.sign(differences) * scipy.stats.rankdata(np.abs(differences)) * (differences != 0)
        if (differences == 0).any():
            continue
        assert direction(differences) == np.sign(signed.sum())
        assert direction(differences) * hodges_lehmann(differences)[0] >= 0
        assert direction(-differences) == -direction(differences)
    assert direction([0, 0]) == direction([1, -1]) == direction([0.1 + 0.2 - 0.3]) == 0
    assert direction([0, 0, 0, 0, -1, -1, 9]) == 0  # zeros are left out, as in the test


def test_sign_test_agrees_with_scipy(random):
    for _ in range(20):
        differences = random.normal(0.3, size=11).round(1)
        there = differences[differences != 0]
        expected = scipy.stats.binomtest(int((there > 0).sum()), len(there)).pvalue
        assert sign_test(differences) == pytest.approx(expected)
    assert sign_test([0, 0]) == 1


def test_improvement_counts_ties_half():
    assert improvement([1, -1, 0, 2]) == pytest.approx(0.625)


def test_rank_stability_of_clear_and_of_equal_measures():
    best, low, high = rank_stability(np.array([[1.0, 2, 3]] * 5), 99)
    assert best.tolist() == [1, 0, 0] and low.tolist() == high.tolist() == [1, 2, 3]
    best, low, high = rank_stability(np.ones((5, 4)), 99)
    assert best.tolist() == [0.25] * 4 and low.tolist() == [2.5] * 4


def test_rank_stability_agrees_with_enumeration():
    # Of 4 equally likely pairs of blocks: measure 0 is better in one block, 1 in the other, equal when mixed.
    best, _, _ = rank_stability(np.array([[0.0, 1.0], [1.0, 0.0]]), 20000)
    np.testing.assert_allclose(best, [0.5, 0.5], atol=0.02)
    best, _, _ = rank_stability(np.array([[0.0, 1.0], [2.0, 0.0]]), 20000)
    np.testing.assert_allclose(best, [0.25, 0.75], atol=0.02)


SIMULATIONS, BLOCKS, MEASURES = 500, 15, 4


@pytest.fixture(scope="module")
def null_data():
    """Identical measures, shuffled: all that differs between blocks is the network, between measures nothing."""
    random = np.random.default_rng(7)
    shape = (SIMULATIONS, BLOCKS, MEASURES)
    return 0.5 + 0.1 * random.normal(size=(SIMULATIONS, BLOCKS, 1)) + 0.02 * random.standard_t(4, size=shape)


def rate_is_at_most(alarms, level):
    """Allow three standard errors of a rate over the simulations."""
    return np.mean(alarms) <= level + 3 * math.sqrt(level * (1 - level) / len(alarms))


@pytest.mark.parametrize("level", [0.05, 0.2])
def test_friedman_false_alarms(null_data, level):
    alarms = friedman(null_data).p <= level
    assert rate_is_at_most(alarms, level)
    assert np.mean(alarms) >= level - 3 * math.sqrt(level * (1 - level) / SIMULATIONS)


@pytest.mark.parametrize("level", [0.05, 0.2])
def test_wilcoxon_false_alarms(null_data, level):
    alarms = [wilcoxon(data[:, 0] - data[:, 1]) <= level for data in null_data]
    assert rate_is_at_most(alarms, level)
    assert np.mean(alarms) >= level / 2


def test_holm_false_alarms_of_any_pair(null_data):
    pairs = list(itertools.combinations(range(MEASURES), 2))
    smallest = [holm([wilcoxon(data[:, i] - data[:, j]) for i, j in pairs]).min() for data in null_data]
    assert rate_is_at_most(np.array(smallest) <= 0.05, 0.05)


def test_hodges_lehmann_covers_the_truth_and_seldom_says_equal_beyond_the_margin(null_data):
    ends = np.array([hodges_lehmann(data[:, 0] - data[:, 1])[1:] for data in null_data])
    assert rate_is_at_most((ends[:, 0] > 0) | (ends[:, 1] < 0), 0.05)
    margin = 0.02  # differences of the null that are moved to just outside of it
    assert rate_is_at_most((ends[:, 1] + margin <= margin) & (ends[:, 0] + margin >= -margin), 0.025)


def test_best_is_shared_fairly_among_equals(null_data):
    best = np.mean([rank_stability(data, 199)[0] for data in null_data], axis=0)
    np.testing.assert_allclose(best, 1 / MEASURES, atol=0.06)
