"""Axes that a figure makes or is given: panels, what stands beside them, logarithms, legends."""

import math


def panels(rows, columns, size, **options):
    """Make an empty figure, owned by the caller alone.

    Args:
        rows: int. Panels from top to bottom.
        columns: int. Panels from left to right.
        size: (float, float). Width and height of the figure in inches.
        **options: as for `matplotlib.pyplot.subplots`.

    Returns:
        (Figure, array (rows, columns) of Axes).
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False, **options)
    # Out of pyplot's list of open figures: a notebook would show it a second time, and it would never be freed.
    plt.close(figure)
    return figure, axes


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


def share_legend(figure, axes, last=("chance",)):
    """Put every label that occurs in an array of axes into one legend below them, those that begin as `last` last."""
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
