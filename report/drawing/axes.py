"""Axes that a figure makes or is given: panels, what stands beside them, logarithms, legends, labels at lines."""

import math
import textwrap

import numpy as np

LABEL = 6.5
"""Points of the letters of a label beside a line."""


def panels(rows, columns, size, ax=None, **options):
    """Make an empty figure, owned by the caller alone, or take the axes that were given.

    Args:
        rows: int. Panels from top to bottom.
        columns: int. Panels from left to right.
        size: (float, float). Width and height of the figure in inches.
        ax: Axes, array of them, or None. Axes to draw into, one a panel; `sharex` and `sharey` make them share.
        **options: as for `matplotlib.pyplot.subplots`.

    Returns:
        (Figure, array (rows, columns) of Axes).

    Raises:
        ValueError: other than one Axes a panel.
    """
    if ax is not None:
        return _given(rows, columns, ax, options)
    import matplotlib.pyplot as plt

    from report.drawing.picture import Drawing

    options |= {"FigureClass": Drawing, "layout": "constrained", "squeeze": False}
    figure, axes = plt.subplots(rows, columns, figsize=size, **options)
    # Out of pyplot's list of open figures: a notebook would show it a second time, and it would never be freed.
    plt.close(figure)
    return figure, axes


def _given(rows, columns, ax, options):
    axes = np.asarray(ax, dtype=object)
    if axes.size != rows * columns:
        raise ValueError(
            f"Expected {rows * columns} axes in ax, one for each of {rows} x {columns} panels, received {axes.size}. "
            f"Give plt.subplots({rows}, {columns})[1], or choose what makes fewer panels."
        )
    axes = axes.reshape(rows, columns)
    for along in ("x", "y"):
        group = getattr(axes[0, 0], f"get_shared_{along}_axes")()
        for axis in axes.flat[1:] if options.get(f"share{along}") is True else ():
            if not group.joined(axes[0, 0], axis):
                getattr(axis, f"share{along}")(axes[0, 0])
    return axes[0, 0].get_figure(), axes


def entitle(figure, axes, text, ax=None):
    """Write above a figure what all its panels are of; in given axes, above the title of the first panel."""
    if ax is None:
        wide = int(figure.get_figwidth() * 15)
        figure.suptitle("\n".join(line for part in text.split("\n") for line in textwrap.wrap(part, wide)), fontsize=8)
    else:
        axes[0, 0].set_title("\n".join(filter(None, (text, axes[0, 0].get_title()))))


def hide_unused(axes, used, below=None):
    """Hide the panels after the first ones, and label the horizontal axis of those that stand above them."""
    columns = axes.shape[1]
    for number, axis in enumerate(axes.flat):
        if number >= used:
            axis.set_visible(False)
        elif number + columns >= used and below:
            axis.tick_params(labelbottom=True)
            axis.set_xlabel(below)


def label_lines(axis, heights=None):
    """Name the lines of a panel beside it, in their colours and in the order of their heights, none over another.

    Args:
        axis: Axes, with its limits set. Labels that begin with "_" are passed over.
        heights: dict of label to float, or None. Where a name would like to stand, in data coordinates. Defaults to
            where its line ends; then a thin line leads from there to the name.
    """
    lines = {line.get_label(): line for line in axis.get_lines() if not line.get_label().startswith("_")}
    ends = {name: _end(line) for name, line in lines.items()}
    wanted = {name: ends[name][1] if heights is None else heights[name] for name in lines if ends[name] is not None}
    if heights is not None:
        wanted = {name: height for name, height in wanted.items() if name in heights}
    if not wanted:
        return
    leads, names = heights is None, sorted(wanted, key=wanted.get)
    to_axes = axis.transData + axis.transAxes.inverted()
    x = axis.get_xlim()[1]
    tall = axis.get_position().height * axis.get_figure().get_figheight()
    places = spread_out(
        [to_axes.transform((x, wanted[name]))[1] for name in names], 1.3 * LABEL / 72 / max(tall, 0.5), -0.1, 1.1
    )
    for name, place in zip(names, places, strict=True):
        line = lines[name]
        if leads:
            end = to_axes.transform(ends[name])
            axis.plot([end[0], 1.03], [end[1], place], transform=axis.transAxes, color=line.get_color(), linewidth=0.4,
                      clip_on=False, label=f"_{name}")  # fmt: skip
        sample = [1.04, 1.1]
        axis.plot(sample, [place] * 2, transform=axis.transAxes, color=line.get_color(), marker=line.get_marker(),
                  linestyle=line.get_linestyle(), markevery=[1], markersize=3, linewidth=1, clip_on=False,
                  label=f"_{name}")  # fmt: skip
        axis.annotate(name, (sample[1], place), xycoords="axes fraction", xytext=(4, 0), textcoords="offset points",
                      color=line.get_color(), fontsize=LABEL, va="center", annotation_clip=False)  # fmt: skip


def _end(line):
    x, y = (np.asarray(values, float) for values in line.get_data())
    known = np.flatnonzero(np.isfinite(y))
    return (x[known[-1]], y[known[-1]]) if len(known) else None


def spread_out(places, apart, low=-np.inf, high=np.inf):
    """Move sorted places as little as it takes to hold a distance, in sum of squares.

    Args:
        places: list of float, increasing.
        apart: float. The least distance between neighbours.
        low, high: float. Where the first may begin and the last may end; if that is too little room, both give way.

    Returns:
        list of float, increasing by at least `apart`.

    Example:
        >>> [float(place) for place in spread_out([0.0, 0.0, 5.0], 1.0)]
        [-0.5, 0.5, 5.0]
    """
    from scipy.optimize import isotonic_regression

    steps = apart * np.arange(len(places))
    ends = sorted((low, high - steps[-1]))
    return np.clip(isotonic_regression(np.asarray(places, float) - steps).x, *ends) + steps


def legend_below(figure, entries, width, title=None):
    """Put one legend under the panels, with as many columns as the figure is wide.

    Args:
        figure: Figure.
        entries: dict of label to line.
        width: float. The figure's width in inches.
        title: str or None.
    """
    options = {"ncols": legend_columns(len(entries), width), "frameon": False, "handlelength": 3.2, "title": title}
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", **options)


def legend_columns(entries, width):
    """Return how many columns a legend below a figure of a width in inches has."""
    return max(1, min(entries, int(width / 1.75)))


def legend_height(entries, width):
    """Return the height in inches to leave for `legend_below`."""
    return 0.2 + 0.17 * math.ceil(entries / legend_columns(entries, width))


def label_outside(axes, below, beside):
    """Label the lowest and the leftmost of an array (rows, columns) of axes that share theirs."""
    for axis in axes[-1]:
        axis.set_xlabel(below)
    for axis in axes[:, 0]:
        axis.set_ylabel(beside)


def share_legend(figure, axes, ax=None, last=("chance",)):
    """Put every label that occurs in an array of axes into one legend below them, those that begin as `last` last.

    Given axes (`ax`) get none: their lines have labels, and where a legend goes is the caller's to say.
    """
    if ax is not None:
        return
    entries = {}
    for axis in axes.flat:
        lines, labels = axis.get_legend_handles_labels()
        entries.update(zip(labels, lines, strict=True))
    order = sorted(entries, key=lambda label: label.startswith(last))
    legend_below(figure, {label: entries[label] for label in order}, figure.get_figwidth())


def logarithmic(axis, which="y"):
    """Make axes logarithmic, with ticks written as plain numbers, also where they span less than a power of ten.

    Args:
        axis: Axes, with its limits already set: they decide how many ticks there are.
        which: str. "x", "y" or "xy".
    """
    from matplotlib import ticker

    for name in which:
        along = getattr(axis, f"{name}axis")
        getattr(axis, f"set_{name}scale")("log")
        low, high = along.get_view_interval()
        subs = (1, 2, 5) if high > 20 * low else (1, 1.5, 2, 3, 5, 7)
        along.set_major_locator(ticker.LogLocator(subs=subs) if high > 3 * low else ticker.MaxNLocator(5))
        along.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
        along.set_minor_locator(ticker.NullLocator())


def whole_numbers(axis):
    """Put ticks at whole numbers alone."""
    from matplotlib import ticker

    axis.set_major_locator(ticker.MaxNLocator(integer=True))
