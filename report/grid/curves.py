"""Loss-threshold curves as small multiples."""

import numpy as np

from report.drawing.axes import label_outside, legend_height, logarithmic, panels, share_legend
from report.drawing.style import house_style, style
from report.statistics.intervals import half_width
from report.tables.columns import FACETS, LABELS, choose, complete, parts, title, varying
from report.tables.networks import by_network, once_each

WIDE = 20
"""From this ratio of the largest to the smallest mean loss on, the vertical axis is logarithmic."""


@house_style
def curves(frame, levels=None, epochs=None, metric="validation_loss", measures=None):
    """Draw a metric against the fraction of weights replaced.

    Rows of panels are levels (and tasks, models, reductions, scopes and fills where there are several), columns are
    epochs. A line is a measure's mean over networks, the band around it the 95 % Student's t interval; a single
    network has no band, and one that several runs hold counts once. The dashed line is chance, where it is known. All
    panels share their axes; the vertical one is logarithmic for a loss that ranges widely. Where a network's value is
    not a number, so is the mean: the line breaks.

    Args:
        frame: DataFrame of `report.read`, or of a grid.
        levels: list of str or None. Levels to show, in this order. Defaults to all.
        epochs: list of int or None. Epochs to show, in this order. Defaults to all.
        metric: str. "validation_loss" or "validation_accuracy".
        measures: list of str or None. Measures to show, in this order. Defaults to all.

    Returns:
        Figure.

    Raises:
        ValueError: nothing is left to draw, or the metric is none of the two.
    """
    if metric not in ("validation_loss", "validation_accuracy"):
        raise ValueError(f"Expected the metric validation_loss or validation_accuracy, received {metric!r}.")
    frame = choose(complete(frame), {"level": levels, "epoch": epochs, "measure": measures})
    means = summarise(once_each(by_network(frame)), metric)
    measures = list(measures or sorted(means["measure"].unique()))
    rows = _rows(means, levels)
    columns = list(epochs or sorted(means["epoch"].unique()))
    width = max(1.0 + 2.1 * len(columns), 5.6)
    height = (1.8 if len(columns) > 2 else 2.4) * len(rows)
    size = (width, height + 0.4 + legend_height(len(measures) + 1, width))
    figure, axes = panels(len(rows), len(columns), size, sharex=True, sharey=True)
    _set_limits(axes[0, 0], means, metric)
    for line, (heading, part) in zip(axes, rows, strict=True):
        for axis, epoch in zip(line, columns, strict=True):
            axis.set_title(f"{heading}, {title(['epoch'], [epoch])}")
            _panel(axis, part[part["epoch"] == epoch], measures)
    label_outside(axes, LABELS["threshold"], metric_label(frame, metric))
    share_legend(figure, axes)
    return figure


def summarise(frame, metric):
    """Average a metric over networks.

    Returns:
        DataFrame. One row for each task, model, level, reduction, scope, fill, epoch, measure and threshold: `mean`
        (missing where a network's value is), `low` and `high` (its 95 % interval; missing for one network) and
        `chance`.
    """
    keys = [*FACETS, "epoch", "measure", "threshold"]
    values = frame[metric].where(np.isfinite(frame[metric]))
    frame = frame.assign(value=values, broken=values.isna(), chance=frame[metric.replace("validation", "chance")])
    grouped = frame.groupby(keys, dropna=False)
    means = grouped["value"].agg(mean="mean", deviation="std", networks="size").reset_index()
    mean = means["mean"].mask(grouped["broken"].any().to_numpy())
    half = half_width(means["deviation"], means["networks"])
    # An interval around a mean loss may reach below zero, where no logarithmic axis can follow.
    floor = mean / 10 if metric == "validation_loss" else -np.inf
    return means.assign(
        mean=mean,
        low=np.maximum(mean - half, floor),
        high=mean + half,
        chance=grouped["chance"].first().to_numpy(),
    )


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


def _panel(axis, part, measures):
    for number, measure in enumerate(measures):
        line = part[part["measure"] == measure]
        if line.empty:
            continue
        every = max(1, len(line) // 7)
        # Markers of different measures start apart, so that they do not hide each other where curves coincide.
        look = style(measure) | {"markevery": (number * every // len(measures), every), "label": measure}
        axis.plot(line["threshold"], line["mean"], **look)
        axis.fill_between(line["threshold"], line["low"], line["high"], color=look["color"], alpha=0.18, lw=0)
    for chance in part["chance"].dropna().unique():
        axis.axhline(chance, color="#444444", linestyle="--", linewidth=0.8, zorder=1, label=f"chance ({chance:.4g})")


def metric_label(frame, metric):
    """Return a metric's axis label; a regression's loss has no nats, and its "accuracy" is an error."""
    regression = frame["chance_loss"].notna().any() and frame["chance_accuracy"].isna().all()
    if not regression:
        return LABELS[metric]
    return "validation loss" if metric == "validation_loss" else "mean absolute error"
