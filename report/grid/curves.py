"""Loss-threshold curves as small multiples."""

import numpy as np

from report.drawing.axes import entitle, label_lines, label_outside, logarithmic, panels
from report.drawing.style import GREY, OTHERS, house_style, style
from report.statistics.intervals import BANDS, FEW, half_width
from report.statistics.words import span
from report.tables.columns import FACETS, LABELS, choose, complete, first_and_controls, parts, title, varying
from report.tables.networks import TRIAL, by_network, once_each

WIDE = 20
"""From this ratio of the largest to the smallest mean loss on, the vertical axis is logarithmic."""


@house_style
def curves(frame, levels=None, epochs=None, metric="validation_loss", measures=None, highlight=None, ax=None):
    """Draw a metric against the fraction of weights replaced.

    Rows of panels are levels (and tasks, models, reductions, scopes and fills where there are several), columns are
    epochs. A line is a measure's mean over networks, one that several runs hold counting once. The band around it is
    the 95 % Student's t interval, cut off where the metric ends; with fewer than five networks each is a thin line
    instead. Names stand beside the last panel of a row, from top to bottom in the order of the lines where these are
    furthest apart. The dashed line is chance, where it is known. All panels share their axes; the vertical one is
    logarithmic for a loss that ranges widely. A row in which all measures have one and the same curve (as where a layer
    is one group, compared within layers) is left out, and the title says so. Where a network's value is not a number,
    so is the mean: the line breaks.

    Args:
        frame: DataFrame of `report.read`, of a grid, or of `report.curve_means`.
        levels: list of str or None. Levels to show, in this order. Defaults to all.
        epochs: list of int or None. Epochs to show, in this order. Defaults to all.
        metric: str. "validation_loss" or "validation_accuracy".
        measures: list of str or None. Measures to show, in this order. Defaults to all.
        highlight: list of str or None. Those of them to tell apart; the others are grey. Defaults to all, of more than
            twelve to the ten that are best in a row of panels and the controls.
        ax: Axes, array of them, or None. Axes to draw into, one a panel.

    Returns:
        Figure.

    Raises:
        ValueError: nothing is left to draw, or the metric is none of the two.
    """
    means = choose(curve_means(frame, metric), {"level": levels, "epoch": epochs, "measure": measures})
    choose(means, {"measure": highlight})
    measures = list(measures or sorted(means["measure"].unique()))
    rows, alike = _telling(_rows(means, levels))
    columns = list(epochs or sorted(means["epoch"].unique()))
    width = max(2.2 + 2.1 * len(columns), 5.6)
    size = (width, (1.8 if len(columns) > 2 else 2.4) * len(rows) + 0.7)
    figure, axes = panels(len(rows), len(columns), size, ax, sharex=True, sharey=True)
    _set_limits(axes[0, 0], means, metric)
    for line, (heading, part) in zip(axes, rows, strict=True):
        told = _told_apart(part, highlight, metric)
        for axis, epoch in zip(line, columns, strict=True):
            axis.set_title(f"{heading}, {title(['epoch'], [epoch])}")
            _panel(axis, part[part["epoch"] == epoch], measures, told)
    label_outside(axes, LABELS["threshold"], metric_label(means, metric))
    grey = any(
        line.get_label().startswith("_") and line.get_color() == GREY["color"] for line in axes[0, 0].get_lines()
    )
    entitle(figure, axes, _about(means) + f"; {OTHERS}" * grey + alike, ax)
    if ax is None:
        figure.get_layout_engine().execute(figure)  # names are spread over the height that is left to a panel
    for axis in axes[:, -1]:
        label_lines(axis, _heights(axis))
    return figure


def _telling(rows):
    """Leave out rows of panels in which all measures have the same curve, unless all are such; say which."""
    place = ["epoch", "threshold"]
    alike = [
        heading
        for heading, part in rows
        if part["measure"].nunique() > 1 and part.groupby(place)["mean"].agg(np.ptp).max() < 1e-9
    ]
    if not alike or len(alike) == len(rows):
        return rows, ""
    kept = [(heading, part) for heading, part in rows if heading not in alike]
    return kept, f"\nnot shown: {', '.join(alike)}, where all measures are the same"


def _about(means):
    """Say what the lines and bands of a figure are."""
    where = [name for name in ("task", "model") if means[name].nunique(dropna=False) == 1]
    about = title(where, [means[name].iloc[0] for name in where]) or "all tasks"
    least, most = means["networks"].min(), means["networks"].max()
    each = [BANDS[few] for few in sorted(set(means["networks"] < FEW)) if most > 1]
    return "; ".join([f"{about}: mean of {span(least, most, means['counted'].iloc[0])}", *each])


def _told_apart(part, highlight, metric):
    """List the measures of a row of panels that have a colour of their own."""
    if highlight is not None:
        return list(highlight)
    last = part[part["epoch"] == part["epoch"].max()].groupby("measure")["mean"].mean()
    return first_and_controls(last.sort_values(ascending=metric == "validation_loss", kind="stable").index)


def _heights(axis):
    """Return where each name would stand beside a panel: as its line, where the lines are furthest apart."""
    lines = {line.get_label(): line for line in axis.get_lines() if not line.get_label().startswith("_")}
    curved = {name: line for name, line in lines.items() if len(line.get_xdata()) > 2}
    values = {name: dict(zip(line.get_xdata(), line.get_ydata(), strict=True)) for name, line in curved.items()}
    there = sorted(set.intersection(*(set(found) for found in values.values()))) if values else []
    if there:
        matrix = np.array([[found[threshold] for threshold in there] for found in values.values()], float)
        scale = np.log(matrix.clip(1e-300)) if axis.get_yscale() == "log" else matrix
        at = there[int(np.argmax(np.nan_to_num(np.ptp(scale, axis=0), nan=-1)))]
        heights = {name: found[at] for name, found in values.items() if np.isfinite(found[at])}
    else:
        heights = {name: np.nanmean(line.get_ydata()) for name, line in curved.items()}
    return heights | {name: line.get_ydata()[0] for name, line in lines.items() if name not in curved}


def curve_means(frame, metric="validation_loss"):
    """Average the curves over networks: the numbers of `curves`.

    Args:
        frame: DataFrame of `report.read`, of a grid, or of this function, which is returned as it is.
        metric: str. "validation_loss" or "validation_accuracy".

    Returns:
        DataFrame. One row for each task, model, level, reduction, scope, fill, epoch, measure and threshold: `networks`
        (`counted`: "networks" or "splits"), `mean` (missing where a network's value is), `low` and `high` (its 95 %
        interval within what the metric can be; missing for fewer than five networks), `each` (dict from network to
        value, for fewer than five), `chance`, and whether this is of a `regression`.
    """
    if {"mean", "low", "high", "each"} <= set(frame.columns):
        return frame
    if metric not in ("validation_loss", "validation_accuracy"):
        raise ValueError(f"Expected the metric validation_loss or validation_accuracy, received {metric!r}.")
    frame = once_each(by_network(choose(complete(frame), {})))
    keys = [*FACETS, "epoch", "measure", "threshold"]
    values = frame[metric].where(np.isfinite(frame[metric]))
    frame = frame.assign(value=values, broken=values.isna(), chance=frame[metric.replace("validation", "chance")])
    regression = bool(frame["chance_loss"].notna().any() and frame["chance_accuracy"].isna().all())
    grouped = frame.groupby(keys, dropna=False)
    means = grouped["value"].agg(mean="mean", deviation="std", networks="size").reset_index()
    mean = means["mean"].mask(grouped["broken"].any().to_numpy())
    half = half_width(means["deviation"], means["networks"])
    half = (
        half.where(means["networks"] >= FEW)
        if hasattr(half, "where")
        else np.where(means["networks"] >= FEW, half, np.nan)
    )
    # No loss is below zero, and no logarithmic axis goes there.
    floor = mean / 10 if metric == "validation_loss" else 0.0
    ceiling = 1.0 if metric == "validation_accuracy" and not regression else np.inf
    return means.drop(columns="deviation").assign(
        mean=mean,
        low=np.maximum(mean - half, floor),
        high=np.minimum(mean + half, ceiling),
        each=_each(frame, grouped, means["networks"]),
        chance=grouped["chance"].first().to_numpy(),
        counted="splits" if frame["fold"].notna().all() else "networks",
        regression=regression,
    )


def _each(frame, grouped, networks):
    """Return the values of each network where there are few, as dict from its number."""
    number, place = frame.groupby(TRIAL, dropna=False).ngroup().to_numpy(), grouped.ngroup().to_numpy()
    found = [{} for _ in range(len(networks))]
    for which in np.flatnonzero(networks.to_numpy()[place] < FEW):
        found[place[which]][number[which]] = frame["value"].to_numpy()[which]
    return found


def _rows(means, levels):
    """Split into rows of panels as (heading, part), levels in the order asked for."""
    names = ["level", *(name for name in varying(means) if name != "level")]
    found = [(title(names, values), part) for values, part in parts(means, names)]
    if levels:
        found.sort(key=lambda row: list(levels).index(row[1]["level"].iloc[0]))
    return found


def _set_limits(axis, means, metric):
    """Fix the shared axes before anything is drawn: finding their limits again after every line is slow."""
    seen = means[["mean", "low", "high", "chance"]].to_numpy(float)
    seen, centre = seen[np.isfinite(seen)], means["mean"][means["mean"] > 0]
    low, high = (seen.min(), seen.max()) if len(seen) else (0.0, 1.0)
    if metric == "validation_loss" and len(centre) and centre.max() > WIDE * centre.min() and low > 0:
        axis.set_ylim(max(low, centre.min() / 2) / 1.1, high * 1.1)
        logarithmic(axis)
    else:
        margin = 0.05 * (high - low) or 0.05
        axis.set_ylim(low - margin, high + margin)
    axis.set_xlim(means["threshold"].min() - 0.02, means["threshold"].max() + 0.02)


def _panel(axis, part, measures, told):
    for number, measure in enumerate(measures):
        line = part[part["measure"] == measure].sort_values("threshold")
        if line.empty:
            continue
        if measure not in told:
            axis.plot(line["threshold"], line["mean"], **GREY, label=f"_{measure}")
            continue
        every = max(1, len(line) // 7)
        # Markers of different measures start apart, so that they do not hide each other where curves coincide.
        look = style(measure) | {"markevery": (number * every // len(measures), every), "label": measure}
        axis.plot(line["threshold"], line["mean"], **look)
        axis.fill_between(line["threshold"], line["low"], line["high"], color=look["color"], alpha=0.18, lw=0)
        for network in sorted({name for found in line["each"] for name in found}):
            one = [found.get(network, np.nan) for found in line["each"]]
            axis.plot(line["threshold"], one, color=look["color"], linewidth=0.5, alpha=0.4, label=f"_{network}")
    for chance in part["chance"].dropna().unique():
        axis.axhline(chance, color="#444444", linestyle="--", linewidth=0.8, zorder=1, label=f"chance ({chance:.4g})")


def metric_label(means, metric):
    """Return a metric's axis label; a regression's loss has no nats, and its "accuracy" is an error."""
    if not means["regression"].any():
        return LABELS[metric]
    return "validation loss" if metric == "validation_loss" else "mean absolute error"
