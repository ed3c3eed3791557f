"""Evidence that may be looked at after every network: e-values of signs, and what they settle.

A test of a fixed size keeps its level if the number of networks was chosen beforehand. Who looks at a growing run and
stops when it looks decided needs evidence that holds at every look. Here that is an e-value: a number E >= 0 whose
expectation, whenever one stops, is at most 1 if the hypothesis is true, so that

    P(E_n >= 1 / alpha for any n) <= alpha    (Ville's inequality).

Functions take paired differences (..., blocks), in which zeros are ties.

References:
    Ramdas, Grunwald, Vovk and Shafer, Game-theoretic statistics and safe anytime-valid inference, Statistical Science
    2023, arXiv 2210.01948.
    Grunwald, de Heide and Koolen, Safe testing, JRSS B 2024, arXiv 1906.07801.
"""

import math

import numpy as np


def sign_evidence(differences):
    """Weigh the evidence against a fair coin: that a difference, where there is one, is as often above 0 as below.

    With k differences above 0 among the n that are not 0,

        E_n = 2^n B(k + 1/2, n - k + 1/2) / B(1/2, 1/2),

    the likelihood of the signs under a coin whose chance is drawn from Beta(1/2, 1/2), over that under a fair one.
    The side that has more signs has been called wrongly, at any look, with a chance of at most alpha too.

    Args:
        differences: array (..., blocks).

    Returns:
        float or array (...,), 0 or above; 1 where all differences are zero.

    Example:
        >>> round(float(sign_evidence([0.1] * 7)), 1), round(float(sign_evidence([0.1, -0.1, 0.2, -0.2])), 2)
        (26.8, 0.38)
    """
    more, less = _signs(differences)
    return _evidence(more, less)


def equality_evidence(differences, margin):
    """Weigh the evidence that the median of the differences lies within the margin, -margin and margin included.

    Two one-sided e-values, as of `sign_evidence` with the coin drawn from the half of Beta(1/2, 1/2) above 1/2: one
    against "at most half of the differences are >= -margin", one against "at most half are <= margin". If the median
    is outside, one of these is true, so the smaller of the two is an e-value against that.

    Args:
        differences: array (..., blocks).
        margin: float, 0 or above.

    Returns:
        float or array (...,), 0 or above.

    Example:
        >>> round(float(equality_evidence([0.001] * 7, 0.01)), 1)
        53.5
    """
    differences = np.round(np.asarray(differences, float), 12)
    inside = [(sign * differences >= -margin).sum(-1) for sign in (1, -1)]
    return np.minimum(*(_one_sided(count, differences.shape[-1] - count) for count in inside))


def median_sequence(differences, confidence=0.95):
    """Bracket the median of differences by an interval that holds at every look: a confidence sequence.

    It holds all c for which `sign_evidence` of (differences - c) stays below 1 / (1 - confidence), and so reaches from
    one of the ordered differences to the one as far from the other end.

    Args:
        differences: array (..., blocks).
        confidence: float.

    Returns:
        (low, high): floats or arrays (...,); NaN where there are too few differences to exclude anything.

    Example:
        >>> low, high = median_sequence(np.arange(1.0, 31.0))
        >>> float(low), float(high)
        (7.0, 24.0)
    """
    ordered = np.sort(np.asarray(differences, float), axis=-1)
    blocks = ordered.shape[-1]
    counts = np.arange(blocks // 2 + 1)
    outside = int((_evidence(counts, blocks - counts) >= 1 / (1 - confidence) - 1e-9).sum())
    if not outside:
        missing = np.full(ordered.shape[:-1], np.nan)[()]
        return missing, missing
    return ordered[..., outside - 1], ordered[..., blocks - outside]


def e_holm(evidence):
    """Adjust e-values so that the chance of even one false alarm among them, at any look, stays below the level.

    Sorted from the largest, E_(i) of m becomes the smallest of E_(j) / (m - j + 1) over j <= i. Those that reach
    1 / alpha are rejected at the level alpha; how the e-values depend on each other does not matter.

    Args:
        evidence: array (pairs,).

    Returns:
        array (pairs,), in the order given.

    Example:
        >>> e_holm([300.0, 30.0, 50.0]).tolist()
        [100.0, 25.0, 25.0]

    References:
        Vovk and Wang, E-values: calibration, combination and applications, Annals of Statistics 2021.
    """
    evidence = np.asarray(evidence, float)
    order = np.argsort(-evidence, kind="stable")
    adjusted = np.empty_like(evidence)
    adjusted[order] = np.minimum.accumulate(evidence[order] / np.arange(len(evidence), 0, -1))
    return adjusted


def largest_evidence(blocks, pairs=1):
    """Return the largest e-value, adjusted for so many pairs, that `sign_evidence` can reach with so many blocks."""
    return float(_evidence(np.array(blocks), np.array(0)) / pairs)


def blocks_to_settle(pairs, alpha=0.05):
    """Return how many unanimous blocks `sign_evidence` needs to settle the first of so many pairs.

    Example:
        >>> [blocks_to_settle(pairs) for pairs in (1, 10, 45, 276)]
        [7, 11, 13, 16]
    """
    blocks = 1
    while largest_evidence(blocks, pairs) < 1 / alpha:
        blocks += 1
    return blocks


def _signs(differences):
    # Equal scores may differ in their last bits.
    differences = np.round(np.asarray(differences, float), 12)
    return (differences > 0).sum(-1), (differences < 0).sum(-1)


def _log_evidence(more, less):
    from scipy.special import betaln

    return (more + less) * math.log(2) + betaln(more + 0.5, less + 0.5) - betaln(0.5, 0.5)


def _evidence(more, less):
    return np.exp(_log_evidence(more, less))


def _one_sided(more, less):
    """Weigh the evidence that a coin falls on the first side in more than half of all throws."""
    from scipy.special import betainc

    return 2 * _evidence(more, less) * betainc(less + 0.5, more + 0.5, 0.5)
