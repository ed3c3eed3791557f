"""Figures of retraining: how good networks are after it, against how much was removed."""

from report.drawing.axes import entitle, label_outside, legend_height, panels, share_legend
from report.drawing.style import DASHES, INK, house_style, style
from report.retraining.results import NONE, best_rates
from report.statistics.intervals import FEW, student_t
from report.statistics.words import span
from report.tables.columns import choose, of_one_run, parts, title

PROTOCOLS = {
    "one_shot": {"color": INK["blue"], "linestyle": DASHES["solid"], "marker": "o"},
    "iterative": {"color": INK["vermillion"], "linestyle": DASHES["dashed"], "marker": "s"},
    "rewind": {"color": INK["green"], "linestyle": DASHES["dashdot"], "marker": "^"},
    "repaired": {"color": INK["purple"], "linestyle": DASHES["dotted"], "marker": "D"},
}
UNPRUNED = {"color": INK["black"], "linestyle": DASHES["dotted"], "label": "nothing removed"}
AXES = {"accuracy": "test accuracy after retraining", "loss": "test loss after retraining (nats)"}


@house_style
def plot(frame, by="measure", metric="accuracy", ax=None):
    """Draw how good networks are after retraining against the fraction removed, each at its best learning rate.

    Rows of panels are levels and scopes. A point is the mean over networks, its bar the 95 % Student's t interval;
    fewer than five networks are dots instead. A line breaks where a network failed. The line across is the mean of the
    networks of which nothing is removed, trained on as long, with its interval as a band.

    Args:
        frame: DataFrame, as `experiments.retraining.run` or `read` gives it; the rows of one run.
        by: str. "measure": lines are measures, columns of panels protocols; "protocol": the other way round.
        metric: str. "accuracy" or "loss".
        ax: Axes, array of them, or None. Axes to draw into, one a panel.

    Returns:
        Figure.

    Raises:
        ValueError: rows of several runs, or none of which something is removed; another `by` or `metric`.
    """
    if by not in ("measure", "protocol"):
        raise ValueError(f"Expected by to be 'measure' or 'protocol', received {by!r}.")
    first, best = of_one_run(frame), best_rates(frame, metric)
    across = {"measure": "protocol", "protocol": "measure"}[by]
    removed = choose(best[best["measure"] != NONE], {})
    unpruned = best[best["measure"] == NONE][f"test_{metric}"]
    rows, columns = parts(removed, ["level", "scope"]), [name for (name,), _ in parts(removed, [across])]
    lines = [name for (name,), _ in parts(removed, [by])]
    width = max(1.0 + 2.3 * len(columns), 5.6)
    size = (width, 2.3 * len(rows) + 0.6 + legend_height(len(lines) + 1, width))
    figure, axes = panels(len(rows), len(columns), size, ax, sharex=True, sharey="row")
    for line, ((level, scope), part) in zip(axes, rows, strict=True):
        for axis, column in zip(line, columns, strict=True):
            cells = part[part[across] == column]
            for name in lines:
                look = style(name) if by == "measure" else PROTOCOLS.get(name) or style(name)
                _curve(axis, cells[cells[by] == name], f"test_{metric}", name, look)
            _across(axis, unpruned)
            place = [title(["level", "scope"], (level, scope))] if len(rows) > 1 else []
            axis.set_title(", ".join([column, *place]))
    label_outside(axes, "fraction of weights removed", AXES[metric])
    networks = removed.groupby([by, across, "level", "scope", "fraction"])["seed"].nunique()
    spread = "dots: each network" if networks.max() < FEW else "bars: 95 % Student's t intervals"
    about = f"{first['task']}, {first['model']}: mean of {span(networks.min(), networks.max(), 'networks')}"
    entitle(figure, axes, f"{about}; {spread}" if networks.max() > 1 else about, ax)
    share_legend(figure, axes, ax, last=(UNPRUNED["label"],))
    return figure


def _curve(axis, cells, column, label, look):
    by_fraction = [(fraction, part[column]) for (fraction,), part in parts(cells, ["fraction"])]
    if not by_fraction:
        return
    fractions, found = [fraction for fraction, _ in by_fraction], [_interval(values) for _, values in by_fraction]
    axis.plot(fractions, [mean for mean, _, _ in found], label=label, **look)
    for (fraction, values), (_, low, high) in zip(by_fraction, found, strict=True):
        if len(values) >= FEW:
            axis.vlines([fraction], [low], [high], color=look["color"], linewidth=0.8)
        elif len(values) > 1:
            axis.plot([fraction] * len(values), values, ".", color=look["color"], markersize=2.5, alpha=0.6, label="_")


def _across(axis, values):
    mean, low, high = _interval(values)
    if mean == mean:  # there is one
        axis.axhline(mean, linewidth=1, zorder=1, **UNPRUNED)
    if len(values) >= FEW and low == low:
        axis.axhspan(low, high, color=UNPRUNED["color"], alpha=0.12, lw=0, zorder=0)


def _interval(values):
    """Return the mean and its interval; none where a network failed."""
    return student_t(values) if values.notna().all() else (float("nan"),) * 3
