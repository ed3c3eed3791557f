"""After how many networks which share of the pairs of measures is settled."""

import pandas as pd

from report.grid.blocks import groups
from report.grid.ordering import SETTLED, compare_pairs


def settling(frame, by=("task", "model", "level"), score="area", *, epoch=None, margin=0.01, alpha=0.05):
    """Count the pairs that are settled after each number of networks, taken in the order of their seeds.

    Args:
        frame: DataFrame of `report.read` or of `report.scores`.
        by, score, epoch, margin, alpha: as for `report.order`.

    Returns:
        DataFrame. One row for each group, number of `blocks` from 2 on, and way to decide: `anytime` (True: by e-values
        after each network; False: by the tests for a number that was fixed beforehand, as if it had been this one),
        `better` (pairs that are told apart), `equal` (that are practically equal and not told apart), `settled` (their
        sum), and `pairs`.
    """
    rows = []
    for group in groups(frame, by, score, epoch):
        for blocks in range(2, len(group.blocks) + 1) if group.blocks.shape[1] > 1 else ():
            part = group._replace(blocks=group.blocks.sort_index().iloc[:blocks])
            for anytime in (True, False):
                options = {"against": None, "margin": margin, "alpha": alpha, "anytime": anytime}
                verdicts = [pair["verdict"] for pair in compare_pairs(part, score, options)]
                settled = sum(verdict in SETTLED for verdict in verdicts)
                better = sum(verdict.startswith("better") for verdict in verdicts)
                counts = {"better": better, "equal": settled - better, "settled": settled, "pairs": len(verdicts)}
                rows.append(group.where | {"blocks": blocks, "anytime": anytime} | counts)
    return pd.DataFrame(rows)
