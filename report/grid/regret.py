"""How far measures are from a line that no ordering of theirs is meant to beat: greedy elimination, say."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from report.drawing.axes import entitle, hide_unused, panels
from report.drawing.style import colours, house_style
from report.grid.blocks import groups
from report.grid.scores import SCORES
from report.grid.sentences import place
from report.statistics.intervals import FEW, student_t
from report.statistics.tests import holm, wilcoxon
from report.statistics.words import count, p_value
from report.tables.columns import CONTROLS, is_oracle, parts, title, varying


class Regrets(NamedTuple):
    """What measures lose against a line; printing it gives the sentences.

    Attributes:
        table: DataFrame. One row for each group and measure, the least regret first: `to`, the line; `blocks`;
            `regret`, the mean over blocks of how much worse the measure's score is than the line's, with `_low` and
            `_high`, its 95 % Student's t interval; `p` of the signed-rank test, with `p_holm` adjusted over the group's
            measures, missing of other lines; and `attained`, the part of the way from random to the line that its mean
            has gone, missing without `random`.
        sentences: list of str. One a group.
    """

    table: pd.DataFrame
    sentences: list

    def __str__(self):
        return "\n".join(self.sentences)


def regret(frame, to="greedy", by=("task", "model", "level"), score="area", *, epoch=None):
    """Say how much worse each measure is than an oracle line, on the same networks.

    Args:
        frame: DataFrame of `report.read` or of `report.scores`.
        to: str. The line: an oracle among the frame's measures, with its options, or any measure.
        by, score, epoch: as for `report.order`.

    Returns:
        Regrets.

    Raises:
        ValueError: there are no networks on which the line and another measure have a score.

    Example:
        >>> print(report.regret(report.read("runs")))                         # doctest: +SKIP
    """
    rows, sentences = [], []
    for group in groups(frame, by, score, epoch, oracles=True):
        blocks = group.blocks * SCORES[score]
        if to not in blocks or not len(blocks) or blocks.shape[1] < 2:
            continue
        found = _of_group(blocks, to)
        about = {"to": to, "blocks": len(blocks), "blocks_are": group.kind}
        rows += [group.where | about | row for row in found]
        sentences.append(_sentence(group, found, to, score))
    if not rows:
        raise ValueError(
            f"Expected the line {to!r} and measures that have a score on the same networks, received "
            f"{', '.join(sorted(set(frame['measure'])))}. A grid computes it with oracles=[{to!r}]."
        )
    return Regrets(pd.DataFrame(rows), sentences)


def _of_group(blocks, to):
    regrets = blocks.drop(columns=to).sub(blocks[to], axis=0)
    p, means = wilcoxon(regrets.to_numpy().T), blocks.mean()
    measures = np.array([not is_oracle(name) for name in regrets])
    adjusted = np.full(len(p), np.nan)
    adjusted[measures] = holm(p[measures])
    rows = []
    for number, measure in enumerate(regrets):
        mean, low, high = student_t(regrets[measure])
        way = means["random"] - means[to] if "random" in means else np.nan
        row = {"measure": measure, "regret": mean, "regret_low": low, "regret_high": high}
        row |= {"p": p[number], "p_holm": adjusted[number]}
        rows.append(row | {"attained": (means["random"] - means[measure]) / way if way > 0 else np.nan})
    return sorted(rows, key=lambda row: row["regret"])


def _sentence(group, rows, to, score):
    rows = [row for row in rows if not is_oracle(row["measure"])]
    if not rows:
        return f"{place(group.where)}, there are no measures to hold against {to}"
    best = rows[0]
    interval = "" if np.isnan(best["regret_low"]) else f" [{best['regret_low']:.3f}, {best['regret_high']:.3f}]"
    part = "" if np.isnan(best["attained"]) else f"; that is {best['attained']:.0%} of the way from random to {to}"
    return (
        f"{place(group.where)}, of {count(len(rows), 'measures')} {best['measure']} is closest to {to}: its "
        f"{score.replace('_', ' ')} is worse by {best['regret']:.3f}{interval} ({p_value(best['p_holm'])}, "
        f"{count(len(group.blocks), group.kind)}){part}"
    )


@house_style
def plot_regret(found, most=12, ax=None):
    """Draw the regret of each measure: points with 95 % intervals, the line they are held against at 0.

    Args:
        found: Regrets, or its table.
        most: int. How many measures to show, those with the least regret, and the controls.
        ax: Axes, array of them, or None. Axes to draw into, one for each group.

    Returns:
        Figure, a panel for each group. Fewer than five networks have no intervals.
    """
    table = found.table if isinstance(found, Regrets) else found
    names = list(table.columns[: table.columns.get_loc("to")])
    apart, to = varying(table, names), table["to"].iloc[0]
    panes = [(values, _shown(part, most)) for values, part in parts(table, names)]
    columns = min(3, len(panes))
    rows = -(-len(panes) // columns)
    tallest = max(len(part) for _, part in panes)
    figure, axes = panels(rows, columns, (1.6 + 2.6 * columns, rows * (1.2 + 0.17 * tallest)), ax, sharex=True)
    for axis, (values, part) in zip(axes.flat, panes, strict=False):
        for height, (_, row) in enumerate(part[::-1].iterrows()):
            ends = [[row["regret"] - row["regret_low"]], [row["regret_high"] - row["regret"]]]
            few = row["blocks"] < FEW or np.isnan(row["regret_low"])
            look = {"fmt": "o", "markersize": 4, "elinewidth": 1, "color": colours([row["measure"]])[row["measure"]]}
            axis.errorbar([row["regret"]], [height], xerr=None if few else ends, **look)
        axis.axvline(0, color="#444444", linewidth=0.8, zorder=1)
        axis.set_yticks(range(len(part)), part["measure"][::-1])
        here = dict(zip(names, values, strict=True))
        blocks = count(part["blocks"].iloc[0], part["blocks_are"].iloc[0])
        axis.set_title("\n".join(filter(None, (title(apart, [here[name] for name in apart]), blocks))))
        axis.set_xlabel(f"regret to {to}")
    hide_unused(axes, len(panes), f"regret to {to}")
    alike = [name for name in names if name not in apart]
    where = title(alike, [table[name].iloc[0] for name in alike])
    about = f"how much worse than {to}: means, 95 % Student's t intervals of {FEW} blocks or more"
    entitle(figure, axes, f"{where}: {about}" if where else about, ax)
    return figure


def _shown(part, most):
    part = part.sort_values("regret", kind="stable").reset_index(drop=True)
    return part[(part.index < most) | part["measure"].isin(CONTROLS)]
