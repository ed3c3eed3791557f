"""What the meter of a penalty showed, and how penalties look."""

import numpy as np

from report.drawing.axes import label_outside, legend_height, panels, share_legend, whole_numbers
from report.drawing.style import DASHES, INK, style

PENALTIES = {
    "plain": {"color": INK["vermillion"], "linestyle": DASHES["solid"], "marker": "o"},
    "stabilized": {"color": INK["blue"], "linestyle": DASHES["dashed"], "marker": "s"},
    "decoupled": {"color": INK["green"], "linestyle": DASHES["dotted"], "marker": "^"},
}
LIMITS = {"ewc_largest": (1, 2), "ewc_percentile": (1, 2)}
"""Where a weight begins to jump over its anchor, and to move away from it."""


def draw_meters(chosen, meters, over, below):
    """Draw what the meter of the penalty showed; `stability_trace` says how.

    Args:
        chosen: list of ((measure, penalty, strength), DataFrame of rows, one a seed and value of `over`).
        meters: dict of column to its name in titles, a column of panels each.
        over: str. The column along the horizontal axis; whole numbers.
        below: str. The label of that axis.

    Returns:
        Figure.
    """
    penalties = [penalty for penalty in PENALTIES if penalty in {name[1] for name, _ in chosen}]
    width = 8.4
    size = (width, 0.5 + 1.9 * len(penalties) + legend_height(len({name[0] for name, _ in chosen}), width))
    figure, axes = panels(len(penalties), len(meters), size, sharex=True, sharey="col")
    for line, penalty in zip(axes, penalties, strict=True):
        for axis, (column, what) in zip(line, meters.items(), strict=True):
            for (measure, of, _), cells in sorted(chosen, key=lambda item: item[0][0]):
                if of == penalty:
                    _trace(axis, cells, measure, column, over)
            for limit in LIMITS.get(column, ()):
                axis.axhline(limit, color="#444444", linestyle="--", linewidth=0.8, zorder=1)
            if column == "ewc_task_left":
                axis.set_ylim(0, 1.05)
            else:
                axis.set_yscale("log")
            axis.set_title(f"{penalty}: {what}")
    label_outside(axes, below, "")
    whole_numbers(axes[0, 0].xaxis)
    share_legend(figure, axes)
    return figure


def _trace(axis, cells, measure, column, over):
    values = cells[column].where(np.isfinite(cells[column]) & (cells[column] > 0))  # a logarithmic axis knows no 0
    by_place = values.groupby(cells[over])
    median = by_place.median()
    every = max(1, len(median) // 8)
    axis.plot(median.index, median, label=measure, markevery=every, **style(measure))
    axis.fill_between(median.index, by_place.min(), by_place.max(), color=style(measure)["color"], alpha=0.15, lw=0)
