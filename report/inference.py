"""The tests: pure functions of a matrix (blocks, measures) or of paired differences (blocks,).

One block is what is independent of the next: a trained network for a statement about one task and architecture, a task
for a statement over tasks. Every measure scores the same block, so all is paired. In a matrix, smaller is better.
"""

import math
from typing import NamedTuple

import numpy as np


class Friedman(NamedTuple):
    """The outcome of `friedman`; arrays (...,) where several matrices were given."""

    chi2: float
    f: float
    freedom: tuple
    p: float


def mean_ranks(matrix):
    """Rank the measures in each block, 1 the best and equal scores sharing their mean rank, and average over blocks.

    Args:
        matrix: array (..., blocks, measures). Smaller is better.

    Returns:
        array (..., measures).
    """
    return _ranks(matrix).mean(-2)


def _ranks(matrix):
    from scipy.stats import rankdata

    # Equal scores may differ in their last bits, which must not order them.
    return rankdata(np.round(matrix, 12), axis=-1)


def friedman(matrix):
    """Test whether all measures are equally good, by the Friedman test with the correction of Iman and Davenport.

    With r_ij the rank of measure j in block i, n blocks, k measures,

        chi2 = (k - 1) * sum_j (sum_i r_ij - n (k + 1) / 2)^2 / (sum_ij r_ij^2 - n k (k + 1)^2 / 4)
        F    = (n - 1) chi2 / (n (k - 1) - chi2),    distributed as F(k - 1, (k - 1)(n - 1)) under the null

    (the denominator of chi2 is the correction for ties). Where all blocks agree F is infinite; the p-value is then the
    exact (1 / k!)^(n - 1). Where nothing differs p is 1.

    Args:
        matrix: array (..., blocks, measures). At least two of each.

    Returns:
        Friedman.

    Example:
        >>> float(friedman([[1, 2, 3], [1, 2, 3], [2, 1, 3], [1, 2, 3]]).chi2)
        6.5

    References:
        Iman and Davenport, Approximations of the critical region of the Friedman statistic, 1980.
        Demsar, Statistical comparisons of classifiers over multiple data sets, JMLR 2006,
        https://www.jmlr.org/papers/v7/demsar06a.html.
    """
    from scipy.special import fdtrc

    ranks = _ranks(matrix)
    blocks, measures = ranks.shape[-2:]
    between = ((ranks.sum(-2) - blocks * (measures + 1) / 2) ** 2).sum(-1)
    within = (ranks**2).sum((-2, -1)) - blocks * measures * (measures + 1) ** 2 / 4
    chi2 = (measures - 1) * between / np.where(within > 0, within, 1)
    rest = blocks * (measures - 1) - chi2
    agree = rest < 1e-9 * blocks
    f = np.where(agree, np.inf, (blocks - 1) * chi2 / np.where(agree, 1, rest))
    freedom = (measures - 1, (measures - 1) * (blocks - 1))
    p = np.where(agree, math.exp(-math.lgamma(measures + 1) * (blocks - 1)), fdtrc(*freedom, np.where(agree, 0, f)))
    return Friedman(chi2[()], f[()], freedom, p[()])


def wilcoxon(differences):
    """Test whether paired differences are symmetric about zero: the exact two-sided signed-rank test.

    W is the sum of the ranks of abs(difference) over the positive differences. Under the null every sign is a fair
    coin, so the distribution of W is counted, not approximated, also where ties share ranks. Zeros are left out.

    Args:
        differences: array (blocks,).

    Returns:
        float, the p-value; 1 where all differences are zero.

    Example:
        >>> wilcoxon([1, 2, 3, 4, 5])
        0.0625

    References:
        Wilcoxon, Individual comparisons by ranking methods, 1945.
    """
    from scipy.stats import rankdata

    differences = np.round(np.asarray(differences, float), 12)
    differences = differences[differences != 0]
    if not len(differences):
        return 1.0
    doubled = np.round(2 * rankdata(np.abs(differences))).astype(int)  # whole numbers, for tied ranks end in .5
    chances = np.zeros(doubled.sum() + 1)
    chances[0] = 1.0
    for rank in doubled:
        chances[rank:] = (chances[rank:] + chances[: len(chances) - rank]) / 2
        chances[:rank] /= 2
    positive = doubled[differences > 0].sum()
    return float(min(1.0, 2 * min(chances[: positive + 1].sum(), chances[positive:].sum())))


def smallest_p(blocks, pairs):
    """Return the smallest Holm-adjusted p-value that `wilcoxon` can reach: pairs * 2^(1 - blocks), at most 1."""
    return min(1.0, pairs * 2.0 ** (1 - blocks))


def blocks_needed(pairs, alpha=0.05):
    """Return how many blocks are needed for `smallest_p` to reach alpha."""
    return math.ceil(1 + math.log2(pairs / alpha))


def holm(p):
    """Adjust p-values so that the chance of even one false alarm among them stays below the level.

    Sorted, p_(i) becomes the largest of (m - j + 1) p_(j) over j <= i, at most 1.

    Args:
        p: array (pairs,).

    Returns:
        array (pairs,), in the order given.

    References:
        Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    p = np.asarray(p, float)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


def bca_median(differences, resamples=4999, seed=0, confidence=0.95):
    """Bracket a median by the bias-corrected and accelerated bootstrap.

    With m the median, m*_b its bootstrap replicates and m_(i) its jackknife values (block i left out),

        z0 = Phi^-1(share of m*_b below m, equal ones counting half)
        a  = sum d_i^3 / (6 (sum d_i^2)^1.5),    d_i = mean of m_(.) - m_(i)
        ends = quantiles of m*_b at Phi(z0 + (z0 + z) / (1 - a (z0 + z))),    z = Phi^-1((1 -+ confidence) / 2)

    Args:
        differences: array (blocks,).
        resamples: int. Bootstrap replicates.
        seed: int. The same seed and number of blocks draw the same blocks, whatever their values.
        confidence: float.

    Returns:
        (low, high): floats.

    References:
        Efron, Better bootstrap confidence intervals, JASA 1987.
    """
    from scipy.special import ndtr, ndtri

    differences = np.asarray(differences, float)
    number = len(differences)
    drawn = np.random.default_rng(seed).integers(number, size=(resamples, number))
    medians = np.median(differences[drawn], axis=1)
    median = np.median(differences)
    below = ((medians < median).mean() + (medians <= median).mean()) / 2
    bias = ndtri(np.clip(below, 0.5 / resamples, 1 - 0.5 / resamples))
    left_out = np.array([np.median(np.delete(differences, block)) for block in range(number)])
    spread = left_out.mean() - left_out
    scale = (spread**2).sum() ** 1.5
    acceleration = (spread**3).sum() / (6 * scale) if scale > 0 else 0.0
    z = bias + ndtri(np.array([1 - confidence, 1 + confidence]) / 2)
    low, high = np.quantile(medians, ndtr(bias + z / (1 - acceleration * z)))
    return float(low), float(high)


def improvement(differences):
    """Return how often the difference is positive, zeros counting half: the probability of improvement.

    Of paired differences, so the two sides are compared on the same network.

    References:
        Agarwal et al., Deep reinforcement learning at the edge of the statistical precipice, 2021, arXiv 2108.13264.
    """
    differences = np.round(np.asarray(differences, float), 12)
    return float((differences > 0).mean() + (differences == 0).mean() / 2)


def rank_stability(matrix, resamples=4999, seed=0):
    """Say how stable the order of the measures' means is when the blocks are drawn anew.

    Args:
        matrix: array (blocks, measures). Smaller is better.
        resamples: int. Bootstrap replicates over blocks.
        seed: int.

    Returns:
        (best, low, high): arrays (measures,). The share of replicates in which a measure's mean is the best (equal
        ones share it), and the 2.5 % and 97.5 % quantiles of its rank.
    """
    blocks = len(matrix)
    drawn = np.random.default_rng(seed).multinomial(blocks, np.full(blocks, 1 / blocks), size=resamples)
    ranks = _ranks(drawn @ matrix / blocks)  # (resamples, measures)
    first = ranks == ranks.min(1, keepdims=True)
    low, high = np.quantile(ranks, [0.025, 0.975], axis=0)
    return (first / first.sum(1, keepdims=True)).mean(0), low, high
