"""Figures of retraining: how good networks are after it, against how much was removed."""

from report.drawing.axes import entitle, label_outside, legend_height, logarithmic, panels, share_legend
from report.drawing.style import DASHES, INK, house_style, style
from report.retraining.results import COSTS, NONE, best_rates
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
AXES = {"accuracy": "test accuracy", "loss": "test loss (nats)"}
AGAINST = {
    "fraction": "fraction of weights removed",
    "parameters": "parameters",
    "multiply_adds": "multiply-adds of an example",
    "latency_1": "ms of a call with 1 example",
    "latency_32": "ms of a call with 32 examples",
    "latency_xla_1": "ms of a call with 1 example, XLA",
    "latency_xla_32": "ms of a call with 32 examples, XLA",
}


@house_style
def plot(frame, by="measure", metric="accuracy", against="fraction", ax=None):
    """Draw how good networks are after retraining against what was removed, each at its best learning rate.

    Rows of panels are levels and scopes. A point is the mean over networks, its bar the 95 % Student's t interval;
    fewer than five networks are dots instead. A line breaks where a network failed. The line across is the mean of the
    networks of which nothing is removed, trained on as long, with its interval as a band. Against a cost a point is the
    mean of both; removals of which some network could not be cut are left out, and the title says how many.

    Args:
        frame: DataFrame, as `experiments.retraining.run` or `read` gives it; the rows of one run. Of epoch 0 alone,
            `frame[frame["epoch"] == 0]`, the figure is of networks right after the removal.
        by: str. "measure": lines are measures, columns of panels protocols; "protocol": the other way round.
        metric: str. "accuracy" or "loss".
        against: str. "fraction", or a cost that the run has: "parameters", "multiply_adds", "latency_1", "latency_32",
            "latency_xla_1", "latency_xla_32".
        ax: Axes, array of them, or None. Axes to draw into, one a panel.

    Returns:
        Figure.

    Raises:
        ValueError: rows of several runs, or none of which something is removed; another `by` or `metric`; a cost that
            the run does not have.
    """
    if by not in ("measure", "protocol"):
        raise ValueError(f"Expected by to be 'measure' or 'protocol', received {by!r}.")
    _check_against(frame, against)
    first, best = of_one_run(frame), best_rates(frame, metric)
    across = {"measure": "protocol", "protocol": "measure"}[by]
    removed, uncut = _without_uncut(best[best["measure"] != NONE], against)
    removed = choose(removed, {})
    unpruned = best[best["measure"] == NONE]
    rows, columns = parts(removed, ["level", "scope"]), [name for (name,), _ in parts(removed, [across])]
    lines = [name for (name,), _ in parts(removed, [by])]
    width = max(1.0 + (2.3 if against == "fraction" else 2.8) * len(columns), 5.6)
    size = (width, 2.3 * len(rows) + 0.6 + legend_height(len(lines) + 1, width))
    figure, axes = panels(len(rows), len(columns), size, ax, sharex=True, sharey="row")
    for line, ((level, scope), part) in zip(axes, rows, strict=True):
        for axis, column in zip(line, columns, strict=True):
            cells = part[part[across] == column]
            for name in lines:
                look = style(name) if by == "measure" else PROTOCOLS.get(name) or style(name)
                _curve(axis, cells[cells[by] == name], against, f"test_{metric}", name, look)
            _across(axis, unpruned, against, f"test_{metric}")
            if against in COSTS:
                logarithmic(axis, "x")
            place = [title(["level", "scope"], (level, scope))] if len(rows) > 1 else []
            axis.set_title(", ".join([column, *place]))
    when = "right after the removal" if frame["epoch"].max() == 0 else "after retraining"
    label_outside(axes, AGAINST[against], AXES[metric])
    networks = removed.groupby([by, across, "level", "scope", "fraction"])["seed"].nunique()
    spread = "dots: each network" if networks.max() < FEW else "bars: 95 % Student's t intervals"
    about = f"{first['task']}, {first['model']}, {when}: mean of {span(networks.min(), networks.max(), 'networks')}"
    about += f"; {spread}" if networks.max() > 1 else ""
    entitle(figure, axes, f"{about}; {uncut} removals that cannot be cut are left out" if uncut else about, ax)
    share_legend(figure, axes, ax, last=(UNPRUNED["label"],))
    return figure


def _check_against(frame, against):
    if against not in AGAINST:
        raise ValueError(f"Expected against to be one of {', '.join(AGAINST)}, received {against!r}.")
    if against not in frame or frame[against].isna().all():
        raise ValueError(
            f"Expected rows with {against!r} of what is left, received none. Run the study with costs=['parameters', "
            "'multiply_adds', 'latency'], at a level whose groups can be cut; `cost_status` says what cannot."
        )


def _without_uncut(cells, against):
    """Leave out removals of which some network has no such cost, and count them."""
    where = ["measure", "level", "scope", "protocol", "fraction"]
    found = cells.groupby(where)[against].transform(lambda of: of.notna().all())
    return cells[found], len(cells[~found].drop_duplicates(where))


def _curve(axis, cells, against, column, label, look):
    of_each = [part for _, part in parts(cells, ["fraction"])]
    if not of_each:
        return
    places, found = [part[against].mean() for part in of_each], [_interval(part[column]) for part in of_each]
    axis.plot(places, [mean for mean, _, _ in found], label=label, **look)
    for place, part, (_, low, high) in zip(places, of_each, found, strict=True):
        if len(part) >= FEW:
            axis.vlines([place], [low], [high], color=look["color"], linewidth=0.8)
        elif len(part) > 1:
            axis.plot(part[against], part[column], ".", color=look["color"], markersize=2.5, alpha=0.6, label="_")


def _across(axis, cells, against, column):
    values = cells[column]
    mean, low, high = _interval(values)
    if mean == mean:  # there is one
        axis.axhline(mean, linewidth=1, zorder=1, **UNPRUNED)
        if against in COSTS:
            axis.plot([cells[against].mean()], [mean], "o", color=UNPRUNED["color"], markersize=3, label="_")
    if len(values) >= FEW and low == low:
        axis.axhspan(low, high, color=UNPRUNED["color"], alpha=0.12, lw=0, zorder=0)


def _interval(values):
    """Return the mean and its interval; none where a network failed."""
    return student_t(values) if values.notna().all() else (float("nan"),) * 3
