"""How far measures agree on which weights matter, and with the truth: rank correlations of their scores."""

import numpy as np
import pandas as pd

from report.drawing.axes import entitle, panels, share_legend
from report.drawing.matrix import draw_matrix
from report.drawing.style import colours, house_style
from report.statistics.intervals import FEW, student_t
from report.tables import legacy
from report.tables.columns import choose, last_checkpoint, parts, title, varying
from report.tables.networks import at_one_checkpoint, by_network, name_networks, once_each
from report.tables.reading import about, has_rows, numeric, parse, read_each, require

WHERE = ["task", "model", "level", "reduction", "scope"]
PAIR = ["run", "seed", "epoch", *WHERE, "measure", "other"]
COLUMNS = [*PAIR, "groups", "spearman"]
SCOPES = {"layer": "within layers", "model": "over the whole network"}


def read_agreement(paths):
    """Read how the measures' scores agree: what a grid writes to `agreement/`.

    Args:
        paths: str, Path or list of them. Files (`.csv`, `.csv.gz`), patterns, or folders.

    Returns:
        DataFrame. One row for each network x epoch x level x reduction x scope and ordered pair of measures: `groups`,
        and `spearman`, the rank correlation of the groups' scores (-1 to 1; missing where a measure tells no groups
        apart). Each pair stands in both orders. `network` is as in `report.read`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file is empty or lacks columns; those of a folder are left out with a warning.
    """

    def read_one(file):
        if not has_rows(file):
            return None
        table = parse(file)
        require(table, COLUMNS, file)
        own, of_grid = about(file), about(file.parent.with_name(file.name))  # a grid's stand in a folder beside it
        table = legacy.name_redefined(table, own or of_grid, ["measure", "other"])
        table = table.reindex(columns=[*COLUMNS, "network"])
        return numeric(table, ["seed", "epoch", "groups", "spearman"], file), of_grid or own

    frames, abouts = zip(*read_each(read_one, paths, "the agreement of measures"), strict=True)
    frame = pd.concat(name_networks(frames, abouts), ignore_index=True).drop_duplicates()
    turned = frame.rename(columns={"measure": "other", "other": "measure"})[frame.columns]
    both = pd.concat([frame, turned], ignore_index=True)
    twice = both[both.duplicated(PAIR)]
    if len(twice):
        raise ValueError(
            f"Expected each pair of measures once, found {len(twice)} rows that contradict others, such as "
            f"{twice.iloc[0].to_dict()}. Are these different runs of one name?"
        )
    return both


def agreement_with(frame, measure="deletion", epoch=None):
    """Say how well every measure's scores agree with one measure's; with `deletion`, the true rise of the loss.

    Args:
        frame: DataFrame of `read_agreement`.
        measure: str. The measure to compare with.
        epoch: int or None. The checkpoint. Defaults to each run's last.

    Returns:
        DataFrame. One row for each task, model, level, reduction, scope and measure, best first: `networks`, the mean
        `spearman` with `_low` and `_high`, its 95 % Student's t interval over networks, and the number of `groups`.
    """
    frame = choose(_at(frame, epoch), {"other": [measure]})
    rows = []
    for values, part in parts(frame, WHERE):
        found = []
        for (name,), cells in parts(part, ["measure"]):
            mean, low, high = student_t(cells["spearman"])
            row = {"measure": name, "networks": int(cells["spearman"].notna().sum()), "spearman": mean}
            row |= {"spearman_low": low, "spearman_high": high, "groups": int(cells["groups"].iloc[0])}
            found.append(dict(zip(WHERE, values, strict=True)) | row)
        rows += sorted(found, key=lambda row: -row["spearman"] if np.isfinite(row["spearman"]) else np.inf)
    return pd.DataFrame(rows)


@house_style
def plot_agreement_with(frame, measure="deletion", level=None, epoch=None, ax=None):
    """Draw `agreement_with` at one level, of units if it is not said: a point for each measure with its 95 % interval.

    Columns are tasks, models (and reductions); within each, filled points correlate within layers, hollow ones over
    the whole network. The measure that agrees best within layers, averaged over columns, stands on top. Intervals end
    at -1 and 1; fewer than five networks have none.

    Args:
        frame: DataFrame of `read_agreement` or of `agreement_with`.
        measure, epoch: as for `agreement_with`.
        level: str or None. Defaults to "unit", or "hidden_unit" where there is none.
        ax: Axes, array of them, or None. Axes to draw into, one a column.

    Returns:
        Figure.
    """
    level = level or ("unit" if "unit" in set(frame["level"]) else "hidden_unit")
    table = frame if "spearman_low" in frame else agreement_with(frame, measure, epoch)
    found = choose(table, {"level": [level]})
    within = found[found["scope"] == "layer"] if "layer" in set(found["scope"]) else found
    order = within.groupby("measure")["spearman"].mean().sort_values(na_position="first").index
    names = varying(found, ["task", "model", "reduction"]) or ["task", "model"]
    columns = parts(found, names)
    figure, axes = panels(
        1, len(columns), (1.7 + 2.3 * len(columns), 1.4 + 0.17 * len(order)), ax, sharex=True, sharey=True
    )
    for axis, (values, part) in zip(axes[0], columns, strict=True):
        for (scope,), points in parts(part, ["scope"]):
            _points(axis, points.set_index("measure").reindex(order), scope)
        axis.axvline(0, color="#444444", linewidth=0.8, zorder=1)
        groups = part["groups"].iloc[0]
        axis.set_title(f"{title(names, values)}\n{part['networks'].max()} networks, {groups} {level}s")
        axis.set_yticks(range(len(order)), order)
        axis.set_xlim(-1.05, 1.05)
        axis.set_xlabel(f"rank correlation with {measure}")
    about = f"rank correlation of {level} scores with {measure}: means over networks"
    entitle(figure, axes, f"{about}; bars: 95 % Student's t intervals, of {FEW} networks or more", ax)
    share_legend(figure, axes, ax)
    return figure


def _points(axis, points, scope):
    hollow = {"markerfacecolor": "white"} if scope == "model" else {}
    shift = -0.18 if scope == "model" else 0.18
    for place, (name, row) in enumerate(points.iterrows()):
        colour = colours([name])[name]
        low, high = max(row["spearman_low"], -1), min(row["spearman_high"], 1)
        ends = [[row["spearman"] - low], [high - row["spearman"]]]
        ends = np.nan if row["networks"] < FEW else ends
        look = {"fmt": "o", "color": colour, "elinewidth": 1, "markersize": 4, **hollow}
        axis.errorbar([row["spearman"]], [place + shift], xerr=None if np.isnan(ends).any() else ends, **look)
    axis.plot([], [], "o", color="#444444", label=SCOPES.get(scope, scope), **hollow)


@house_style
def agreement_matrix(frame, level="weight", scope="layer", epoch=None, ax=None):
    """Draw how far the scores of every two measures agree at one level: their mean rank correlation over networks.

    Args:
        frame: DataFrame of `read_agreement`.
        level, scope: str.
        epoch: int or None. The checkpoint. Defaults to each run's last.
        ax: Axes or None. Axes to draw into.

    Returns:
        Figure. Measures that agree stand beside each other.
    """
    frame = choose(_at(frame, epoch), {"level": [level], "scope": [scope]})
    means = frame.pivot_table("spearman", "measure", "other", dropna=False)
    means = means.mask(np.eye(len(means), dtype=bool), 1.0)
    order = _seriated(means)
    means = means.loc[order, order].rename_axis(index=None, columns=None)
    side = 0.34 * len(means)
    figure, axes = panels(1, 1, (2.4 + side, 2.0 + 0.6 * side), ax)
    draw_matrix(axes[0, 0], means, (-1, 1), "PuOr")
    tasks = "; ".join(title(["task", "model"], values) for values, _ in parts(frame, ["task", "model"]))
    entitle(figure, axes, f"mean rank correlation of {level} scores {SCOPES.get(scope, scope)} ({tasks})", ax)
    return figure


def _seriated(means):
    """Put alike measures beside each other: the leaves of an average-linkage tree, in their best order."""
    from scipy.cluster import hierarchy
    from scipy.spatial.distance import squareform

    if len(means) < 3:
        return list(means.index)
    distance = squareform(1 - means.fillna(0).to_numpy(), checks=False)
    tree = hierarchy.linkage(distance, "average", optimal_ordering=True)
    return list(means.index[hierarchy.leaves_list(tree)])


def _at(frame, epoch):
    """Select a checkpoint; a network that two runs hold counts once."""
    frame = last_checkpoint(frame) if epoch is None else choose(frame, {"epoch": [epoch]})
    frame = by_network(frame, (*PAIR[2:3], *WHERE[2:], *PAIR[-2:]), "spearman")
    return pd.concat([once_each(at_one_checkpoint(part)) for _, part in parts(frame, WHERE)])
