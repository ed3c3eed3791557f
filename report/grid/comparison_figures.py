"""Figures of comparisons: the multi-comparison matrix, score distributions over tasks, and pairs that are settled."""

import numpy as np

from report.drawing.axes import hide_unused, label_outside, legend_below, panels, share_legend
from report.drawing.matrix import draw_matrix
from report.drawing.style import colours, house_style, style
from report.statistics.words import span
from report.tables.columns import parts, title


@house_style
def comparison_matrix(cells, alpha=0.05, ax=None):
    """Draw a multi-comparison matrix: in each cell how the measure of its row compares with that of its column.

    Args:
        cells: DataFrame of `report.comparisons`, of one group.
        alpha: float. Cells with a p of at most this much are in bold.
        ax: Axes or None. Axes to draw into.

    Returns:
        Figure. A cell has the mean difference (above 0, and blue, where the row is better), wins / ties / losses of the
        row, and the p of the signed-rank test, which is not adjusted.

    Raises:
        ValueError: cells of several groups.
    """
    if cells.duplicated(["measure", "other"]).any() or cells.empty:
        raise ValueError("Expected the cells of one group, received those of none or several. Choose a level, say.")
    names = list(dict.fromkeys(cells["measure"]))
    values = cells.pivot(index="measure", columns="other", values="mean_difference").loc[names, names]
    most = max(np.nanmax(np.abs(values.to_numpy())), 1e-9)
    side = len(names)
    figure, axes = panels(1, 1, (1.6 + 0.78 * side, 1.3 + 0.5 * side), ax)
    axis = axes[0, 0]
    draw_matrix(axis, values.rename_axis(index=None, columns=None), (-most, most), "RdBu")
    at = {(c.measure, c.other): c for c in cells.itertuples()}
    for text, (row, column) in zip(axis.texts, np.ndindex(side, side), strict=True):
        if row != column:
            cell = at[names[row], names[column]]
            text.set_text(f"{cell.mean_difference:+.3f}\n{cell.wins}/{cell.ties}/{cell.losses}\n{_p(cell.p)}")
            text.set(fontsize=6, fontweight="bold" if cell.p <= alpha else "normal")
    first = cells.iloc[0]
    where = cells.columns[: cells.columns.get_loc("measure")]
    blocks = first["wins"] + first["ties"] + first["losses"]
    about = f"{title(where, tuple(first[where]))}; {blocks} blocks; row against column:" if len(where) else ""
    says = "mean difference (blue: row better), wins/ties/losses, p of one pair alone"
    axis.set_title("\n".join(filter(None, (about, says))))
    return figure


def comparison_matrices(cells, most=10):
    """Draw the matrix of the measures with the best means for each group; cells stay as they are when others leave.

    Args:
        cells: DataFrame of `report.comparisons`.
        most: int. How many measures.

    Returns:
        list of (str, Figure): what group it is, such as "mnist, cnn, weight", and its `comparison_matrix`.
    """
    if cells.empty:
        return []
    names = list(cells.columns[: cells.columns.get_loc("measure")])
    found = []
    for values, part in parts(cells, names):
        best = list(dict.fromkeys(part["measure"]))[:most]
        shown = part[part["measure"].isin(best) & part["other"].isin(best)]
        found.append((title(names, values), comparison_matrix(shown)))
    return found


def _p(p):
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


@house_style
def performance_profiles(shares, score="area", ax=None):
    """Draw in which share of the networks each measure reaches a score, each task weighing the same.

    Args:
        shares: DataFrame of `report.profiles`.
        score: str. What it is of, for the axis.
        ax: Axes, array of them, or None. Axes to draw into, one for each group.

    Returns:
        Figure, a panel for each group. Of two lines, the higher one is of the better measure at that score.
    """
    names = list(shares.columns[: shares.columns.get_loc("measure")])
    found = parts(shares, names)
    telling = [(v, part) for v, part in found if part.groupby("score_reached")["share"].agg(np.ptp).max() > 0]
    found = telling or found  # without panels in which all measures are the same
    columns = min(4, len(found))
    rows = -(-len(found) // columns)
    width = max(0.8 + 2.6 * columns, 5.6)
    below = 0.2 * -(-shares["measure"].nunique() // int(width / 1.8))  # the legend's lines
    figure, axes = panels(rows, columns, (width, 0.6 + 2.2 * rows + below), ax, sharex=True, sharey=True)
    for axis, (values, part) in zip(axes.flat, found, strict=False):
        for (measure,), line in parts(part, ["measure"]):
            look = {**style(measure), "marker": ""}
            axis.plot(line["score_reached"], line["share"], drawstyle="steps-post", label=measure, **look)
        where = f"up to {part['tasks'].max()} tasks and architectures, " if part["tasks"].max() > 1 else ""
        about = f"{where}{span(part['networks'].min(), part['networks'].max(), 'networks')}"
        axis.set_title("\n".join(filter(None, (title(names, values), about))))
        axis.set(xlim=(0, 1), ylim=(-0.02, 1.02))
    label_outside(axes, score.replace("_", " "), "share of networks that reach it")
    hide_unused(axes, len(found), score.replace("_", " "))
    share_legend(figure, axes, ax)
    return figure


@house_style
def settled_pairs(counts, ax=None):
    """Draw how many pairs of measures are settled after how many networks.

    Args:
        counts: DataFrame of `report.settling`.
        ax: Axes, array of them, or None. Axes to draw into, one for each group.

    Returns:
        Figure, a panel for each group: filled, the pairs that are told apart and above them those that are practically
        equal, looking after each network; as a line, what tests for a number that was fixed beforehand would settle.
    """
    names = list(counts.columns[: counts.columns.get_loc("blocks")])
    found = parts(counts, names)
    figure, axes = panels(1, len(found), (0.8 + 2.9 * len(found), 3.1), ax)
    fill = list(colours(["magnitude", "inverse_magnitude"]).values())
    for axis, (values, part) in zip(axes.flat, found, strict=True):
        looked, fixed = (part[part["anytime"] == way] for way in (True, False))
        pairs, step = part["pairs"].iloc[0], {"step": "mid", "linewidth": 0}
        axis.fill_between(
            looked["blocks"], 0, looked["better"], color=fill[0], label="told apart, at every look", **step
        )
        top = looked["settled"]
        axis.fill_between(looked["blocks"], looked["better"], top, color=fill[1], label="practically equal", **step)
        axis.step(
            fixed["blocks"], fixed["settled"], where="mid", color="black", linewidth=1, label="number fixed before"
        )
        axis.axhline(pairs, color="#7F7F7F", linestyle=":", linewidth=1, label=f"all {pairs} pairs")
        axis.set_title(title(names, values))
        axis.set(xlabel="networks", ylim=(0, 1.05 * pairs), xlim=(2, part["blocks"].max()))
    axes.flat[0].set_ylabel("pairs of measures that are settled")
    if ax is None:
        legend_below(figure, dict(zip(*reversed(axes.flat[0].get_legend_handles_labels()), strict=True)), 3.8)
    else:
        axes.flat[0].legend(loc="upper left", fontsize=6.5)
    return figure
