"""Beside an ordering: what is probable, what a pair says by itself, and how scores are distributed over tasks."""

import itertools

import numpy as np
import pandas as pd

from report.grid.blocks import groups
from report.grid.ordering import gains
from report.grid.scores import SCORES
from report.statistics.bayes import signed_rank_posterior
from report.statistics.tests import wilcoxon


def posterior(frame, by=("task", "model", "level"), score="area", *, epoch=None, margin=0.01, samples=10000, seed=0):
    """Say how probable it is, for each pair of measures, that one is better or that they are practically equal.

    The Bayesian signed-rank test; see `report.statistics.bayes.signed_rank_posterior`. These are no error rates:
    nothing is adjusted for the number of pairs.

    Args:
        frame: DataFrame of `report.read` or of `report.scores`.
        by, score, epoch: as for `report.order`.
        margin: float, above 0. As for `report.order`.
        samples, seed: int. Of the draws.

    Returns:
        DataFrame. One row for each group and pair: `better` and `worse` by the signed ranks, `blocks`, and the
        probabilities `p_better` (that the better one is better by more than the margin), `p_equal` and `p_worse`.
    """
    rows = []
    for group in groups(frame, by, score, epoch):
        if min(group.blocks.shape) < 2:
            continue
        better, worse, gain = gains(group, score)
        found = signed_rank_posterior(gain, margin, samples, seed)
        for one, other, (more, equal, less) in zip(better, worse, found, strict=True):
            about = {"better": one, "worse": other, "blocks": len(group.blocks)}
            rows.append(group.where | about | {"p_better": more, "p_equal": equal, "p_worse": less})
    return pd.DataFrame(rows)


def comparisons(frame, by=("task", "model", "level"), score="area", *, epoch=None):
    """Compare each two measures by themselves: the cells of a multi-comparison matrix.

    Unlike an adjusted p-value or a mean rank, a cell does not change when another measure joins or leaves, as long as
    the networks are the same. So its `p` is not adjusted for the number of pairs: for one pair that was chosen
    beforehand it is a test, for all of them a description.

    Args:
        frame: DataFrame of `report.read` or of `report.scores`.
        by, score, epoch: as for `report.order`.

    Returns:
        DataFrame. One row for each group and ordered pair: `measure`, `other`, `mean_difference` (above 0 where the
        measure is better), in how many blocks it is better, equal and worse (`wins`, `ties`, `losses`), and `p` of the
        signed-rank test. Measures stand in the order of their mean scores, the best first.

    References:
        Ismail-Fawaz et al., An approach to multiple comparison benchmark evaluations that is stable under manipulation
        of the comparate set, 2023, arXiv 2305.11921.
    """
    rows = []
    for group in groups(frame, by, score, epoch):
        costs = group.blocks * SCORES[score]
        names = list(costs.mean().sort_values(kind="stable").index) if len(costs) else []
        for measure, other in itertools.permutations(names, 2):
            gain = np.round((costs[other] - costs[measure]).to_numpy(), 12)
            counts = {"wins": (gain > 0).sum(), "ties": (gain == 0).sum(), "losses": (gain < 0).sum()}
            about = {"measure": measure, "other": other, "mean_difference": gain.mean()}
            rows.append(group.where | about | counts | {"p": float(wilcoxon(gain))})
    return pd.DataFrame(rows)


def profiles(frame, by=("level",), score="area", *, epoch=None, points=101):
    """Say in which share of the networks each measure reaches a score, each task weighing the same.

    Args:
        frame: DataFrame of `report.read` or of `report.scores`.
        by: list of str. What is shown apart, as for `report.order`; "task" and "model" are taken together.
        score: str. As for `report.order`.
        epoch: int or None. The checkpoint. Defaults to each run's last.
        points: int. How many scores, from 0 to 1.

    Returns:
        DataFrame. One row for each group, measure and `score_reached`: the `share` of networks whose score is at least
        as good, averaged over tasks and architectures, `tasks` (how many of these there are) and `networks`. All
        measures are there on the same networks.

    References:
        Agarwal et al., Deep reinforcement learning at the edge of the statistical precipice, 2021, arXiv 2108.13264
        (score distributions).
    """
    reached, rows = np.linspace(0, 1, points), []
    by = [name for name in by if name not in ("task", "model")]
    tasks = groups(frame, [*by, "task", "model"], score, epoch)
    for where, found in itertools.groupby(tasks, key=lambda group: _without_task(group.where)):
        blocks = [group.blocks for group in found if len(group.blocks)]
        for measure in sorted(set.intersection(*(set(part) for part in blocks))) if blocks else ():
            shares = [_share(part[measure].to_numpy() * SCORES[score], reached * SCORES[score]) for part in blocks]
            about = dict(where) | {"measure": measure, "tasks": len(blocks), "networks": sum(map(len, blocks))}
            at = zip(reached, np.mean(shares, axis=0), strict=True)
            rows += [about | {"score_reached": x, "share": share} for x, share in at]
    return pd.DataFrame(rows)


def _without_task(where):
    return tuple((name, value) for name, value in where.items() if name not in ("task", "model"))


def _share(costs, reached):
    return (costs[:, None] <= reached + 1e-12).mean(0)
