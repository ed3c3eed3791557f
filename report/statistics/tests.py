"""The tests: pure functions of a matrix (blocks, measures) or of paired differences (blocks,).

One block is what is independent of the next: a trained network for a statement about one task and architecture, a task
for a statement over tasks. Every measure scores the same block, so all is paired. In a matrix, smaller is better.
"""

import functools
import itertools
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
    coin, so the distribution of W is counted, not approximated, also where ties share ranks. Zeros are left out. It is
    no test of the median: differences that are skewed about a median of 0 are not symmetric about it.

    Args:
        differences: array (..., blocks).

    Returns:
        float or array (...,), the p-value; 1 where all differences are zero.

    Example:
        >>> float(wilcoxon([1, 2, 3, 4, 5]))
        0.0625

    References:
        Wilcoxon, Individual comparisons by ranking methods, 1945.
    """
    doubled = _signed_ranks(differences)
    sizes = np.sort(np.abs(doubled), axis=-1)
    total, positive = sizes.sum(-1), np.where(doubled > 0, doubled, 0).sum(-1)
    smaller = np.minimum(positive, total - positive)
    p = [_at_most(tuple(row[row > 0]))[w] for row, w in zip(_rows(sizes), smaller.ravel(), strict=True)]
    return np.minimum(1.0, 2 * np.reshape(p, smaller.shape))[()]


def direction(differences):
    """Say which way `wilcoxon` leans: the sign of the sum of the signed ranks of abs(difference).

    Args:
        differences: array (..., blocks).

    Returns:
        int or array (...,). 1, -1, or 0 where the positive and the negative differences weigh the same.

    Example:
        >>> int(direction([-1, -1, -1, 9]))  # the mean is positive
        -1
    """
    return np.sign(_signed_ranks(differences).sum(-1))


def _signed_ranks(differences):
    """Return twice the rank of each abs(difference) among those above 0, with the difference's sign: int, like them."""
    from scipy.stats import rankdata

    # Equal differences may differ in their last bits. Tied ranks may end in .5, and counting needs whole numbers.
    differences = np.round(np.asarray(differences, float), 12)
    ranks = rankdata(np.abs(differences), axis=-1) - (differences == 0).sum(-1, keepdims=True)
    return np.sign(differences).astype(int) * np.round(2 * ranks).astype(int)


def _rows(array):
    return array.reshape(math.prod(array.shape[:-1]), array.shape[-1])


@functools.lru_cache(maxsize=1000)
def _at_most(numbers):
    """Return P(S <= s) for s from 0 to their sum, S the sum of those numbers that a fair coin each chooses."""
    chances = np.zeros(sum(numbers) + 1)
    chances[0] = 1.0
    for number in numbers:
        chances[number:] = (chances[number:] + chances[: len(chances) - number]) / 2
        chances[:number] /= 2
    return np.cumsum(chances)


def hodges_lehmann(differences, confidence=0.95):
    """Estimate by how much paired differences lie beside zero, as `wilcoxon` sees it.

    The estimate is the median of the means of all pairs of differences, each with itself too; its interval, from one of
    those means to another, holds the shifts that the signed-rank test does not reject.

    Args:
        differences: array (..., blocks).
        confidence: float.

    Returns:
        (estimate, low, high): floats or arrays (...,); low and high are NaN where so few blocks can reject nothing (5
        for 95 %).

    Example:
        >>> [float(number) for number in hodges_lehmann([1.0, 2.0, 3.0, 4.0, 5.0, 15.0])]
        [3.5, 1.0, 15.0]

    References:
        Hodges and Lehmann, Estimates of location based on rank tests, 1963.
    """
    differences = np.asarray(differences, float)
    blocks = differences.shape[-1]
    first, second = np.triu_indices(blocks)
    means = np.sort((differences[..., first] + differences[..., second]) / 2, axis=-1)
    # As many means lie below the interval as the test rejects values of W on that side.
    tail = (1 - confidence) / 2 + 1e-12
    outside = np.searchsorted(_at_most(tuple(range(1, blocks + 1))), tail, side="right") - 1
    missing = np.full(means.shape[:-1], np.nan)
    low, high = (missing, missing) if outside < 0 else (means[..., outside], means[..., -1 - outside])
    return np.median(means, axis=-1), low[()], high[()]


def sign_test(differences):
    """Test whether the median of paired differences is zero: the exact two-sided sign test. Zeros are left out.

    Args:
        differences: array (..., blocks).

    Returns:
        float or array (...,), the p-value; 1 where all differences are zero.

    Example:
        >>> float(sign_test([1, 2, 3, 4, -5]))
        0.375
    """
    from scipy.special import bdtr

    differences = np.round(np.asarray(differences, float), 12)
    more, less = ((sign * differences > 0).sum(-1) for sign in (1, -1))
    return np.minimum(1.0, 2 * bdtr(np.minimum(more, less), more + less, 0.5))


def chain(matrix):
    """Order measures so that none is worse than the next by `direction`, the sign of what `wilcoxon` tests.

    Sorted by their means, each is put before those at the end that it is better than, one after another. So neighbours
    always agree with the test; of others the signs may run in a circle.

    Args:
        matrix: array (blocks, measures). Smaller is better.

    Returns:
        order: list of int. The measures, the best first.
        ranks: array (measures,). The place of each in that order; neighbours that are no better share theirs.

    Example:
        >>> order, ranks = chain(np.array([[1.0, 0.9], [1.0, 0.8], [1.0, 0.7], [1.0, 9.0]]))
        >>> order, ranks.tolist()  # by the mean the first is better
        ([1, 0], [1.0, 2.0])
    """
    from scipy.stats import rankdata

    order = []
    for new in np.argsort(np.mean(matrix, axis=0).round(12), kind="stable"):
        place = len(order)
        while place and direction(matrix[:, order[place - 1]] - matrix[:, new]) > 0:
            place -= 1
        order.insert(place, int(new))
    better = [direction(matrix[:, worse] - matrix[:, good]) != 0 for good, worse in itertools.pairwise(order)]
    return order, rankdata(np.cumsum([0, *better]))


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


def improvement(differences):
    """Return how often the difference is positive, zeros counting half: the probability of improvement.

    Of paired differences (..., blocks), so the two sides are compared on the same network.

    References:
        Agarwal et al., Deep reinforcement learning at the edge of the statistical precipice, 2021, arXiv 2108.13264.
    """
    differences = np.round(np.asarray(differences, float), 12)
    return (differences > 0).mean(-1) + (differences == 0).mean(-1) / 2


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
