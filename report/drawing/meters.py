"""What the meter of a penalty showed, and how penalties look."""

import numpy as np

from report.drawing.axes import entitle, label_outside, legend_height, panels, share_legend, whole_numbers
from report.drawing.style import DASHES, INK, style

PENALTIES = {
    "plain": {"color": INK["vermillion"], "linestyle": DASHES["solid"], "marker": "o"},
    "stabilized": {"color": INK["blue"], "linestyle": DASHES["dashed"], "marker": "s"},
    "decoupled": {"color": INK["green"], "linestyle": DASHES["dotted"], "marker": "^"},
    "clamped": {"color": INK["purple"], "linestyle": DASHES["dashdot"], "marker": "v"},
}


def penalties_in(names):
    """List each of some penalties once: the kinds in their order, each followed by its variants, "plain:adaptive"."""
    kinds = list(PENALTIES)

    def place(name):
        kind = name.partition(":")[0]
        return (kinds.index(kind) if kind in kinds else len(kinds), name)

    return sorted(set(names), key=place)


LIMITS = {1: ((0, (4, 2)), "1: jumps over its anchor"), 2: ((0, (1, 1.5)), "2: moves away from its anchor")}
"""Where a weight begins to do what, with plain gradient descent and the plain penalty, and how the line looks."""

LIMITED = ("ewc_largest", "ewc_percentile")
"""What those limits are of."""


def draw_meters(chosen, meters, over, below, about, ax=None):
    """Draw what the meter of the penalty showed; `stability_trace` says how.

    Args:
        chosen: list of ((measure, penalty, strength), DataFrame of rows, one a seed and value of `over`).
        meters: dict of column to its name in titles, a column of panels each.
        over: str. The column along the horizontal axis; whole numbers.
        below: str. The label of that axis.
        about: str. The title.
        ax: Axes, array of them, or None. Axes to draw into, one a panel.

    Returns:
        Figure.
    """
    penalties = penalties_in(name[1] for name, _ in chosen)
    width = 8.4
    size = (width, 0.5 + 1.9 * len(penalties) + legend_height(len({name[0] for name, _ in chosen}) + 2, width))
    figure, axes = panels(len(penalties), len(meters), size, ax, sharex=True, sharey="col")
    for line, penalty in zip(axes, penalties, strict=True):
        for axis, (column, what) in zip(line, meters.items(), strict=True):
            for (measure, of, _), cells in sorted(chosen, key=lambda item: item[0][0]):
                if of == penalty:
                    _trace(axis, cells, measure, column, over)
            for limit, (dash, label) in LIMITS.items() if column in LIMITED else ():
                axis.axhline(limit, color="#444444", linestyle=dash, linewidth=0.9, zorder=1, label=label)
            if column == "ewc_task_left":
                axis.set_ylim(0, 1.05)
            else:
                axis.set_yscale("log")
            axis.set_title(f"{penalty}: {what}")
    label_outside(axes, below, "")
    whole_numbers(axes[0, 0].xaxis)
    seeds = max((cells["seed"].nunique() for _, cells in chosen), default=0)
    around = f"median of {seeds} seeds; bands: from the least to the most" if seeds > 1 else "one seed"
    entitle(figure, axes, f"{about}: {around}", ax)
    share_legend(figure, axes, ax, last=("1:", "2:"))
    return figure


def _trace(axis, cells, measure, column, over):
    values = cells[column].where(np.isfinite(cells[column]) & (cells[column] > 0))  # a logarithmic axis knows no 0
    by_place = values.groupby(cells[over])
    median = by_place.median()
    every = max(1, len(median) // 8)
    axis.plot(median.index, median, label=measure, markevery=every, **style(measure))
    axis.fill_between(median.index, by_place.min(), by_place.max(), color=style(measure)["color"], alpha=0.15, lw=0)
