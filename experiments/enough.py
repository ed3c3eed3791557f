"""How many examples an evaluation needs: as few as tell the areas of measures apart as well as all of them would.

A grid with `evaluated="auto"` evaluates its first network on `PILOT` examples, and from how the examples differ there
follows how many are needed. To first order an example moves the area under a measure's curve of the share that is lost
(`report.grid.scores`) by its influence, so on n of M examples the difference of two measures' areas misses that on all
M with a standard error of sd(difference of influences) sqrt(1/n - 1/M), and its mean over N networks, each of which
draws its own n, with one of sqrt(1/N) of that. That may be a tenth of the `MARGIN` within which areas are practically
equal, or a twentieth of the difference itself where that is more: neither changes a verdict.

References:
    Efron, The jackknife, the bootstrap and other resampling plans, SIAM, 1982 (the infinitesimal jackknife).
"""

import numpy as np

PILOT = 500
MARGIN = 0.01
_OF_MARGIN, _OF_DIFFERENCE = 1 / 10, 1 / 20
_REACHED = 0.9


def influences(losses, thresholds, chance):
    """Say by how much each example moves the area of a curve.

    Args:
        losses: float array (thresholds, examples). Those at threshold 0 come first.
        thresholds: float array (thresholds,), ascending from 0.
        chance: float. The loss of guessing. Where the loss at threshold 1 is better by a tenth of the way or more, as
            with weights that are rounded, that stands in for it, as in reports.

    Returns:
        area: float. Mean over thresholds, by trapezoids, of the share of the way to chance that is lost.
        moves: float64 array (examples,), of mean 0: the derivative of the area by the weight of each example, so that
            the area's standard error is their standard deviation / sqrt(examples). A curve has no area, and both are
            NaN, where the loss before replacing is no number or not below chance.
    """
    losses, thresholds = np.asarray(losses, "float64"), np.asarray(thresholds, "float64")
    means = losses.mean(axis=1)
    measured = thresholds[-1] == 1 and means[-1] - means[0] < _REACHED * (chance - means[0])
    way = (means[-1] if measured else chance) - means[0]
    if not way > 0:
        return np.nan, np.full(losses.shape[1], np.nan)
    lost = np.where(np.isnan(means), 1, (means - means[0]) / way)
    steps = np.diff(thresholds, prepend=thresholds[0]) + np.diff(thresholds, append=thresholds[-1])
    share = steps / steps.sum()
    moving = (lost > 0) & (lost < 1)  # where the share is cut off, no example moves it
    off, weight, lost_there = losses - means[:, None], share[moving], lost[moving]
    moves = weight @ off[moving] + (weight @ (lost_there - 1)) * off[0]
    if measured:
        moves = moves - (weight @ lost_there) * off[-1]
    return float(share @ np.clip(lost, 0, 1)), moves / way


def needed(curves, every, networks):
    """Say on how many examples the curves have to be evaluated.

    Args:
        curves: list of (area, moves), as `influences` gives them, of the measures that are compared.
        every: int. How many examples there are.
        networks: int. How many networks the areas are averaged over.

    Returns:
        int, at most `every`: the smallest number for which every difference of two areas is exact enough.
    """
    found = 1
    for index, (area, moves) in enumerate(curves):
        for other, others_moves in curves[:index]:
            allowed = max(_OF_MARGIN * MARGIN, _OF_DIFFERENCE * abs(area - other))
            variance = np.var(moves - others_moves)
            if np.isfinite(variance) and variance > 0:
                found = max(found, 1 / (networks * allowed**2 / variance + 1 / every))
    return min(every, int(np.ceil(found - 1e-9)))
