"""Figures of scores: what is better where, how it moves over epochs, who agrees with whom, and what tests say."""

import numpy as np
import pandas as pd

from report.drawing.axes import entitle, hide_unused, label_lines, label_outside, panels, whole_numbers
from report.drawing.matrix import draw_matrix
from report.drawing.style import GREY, OTHERS, colours, house_style, style
from report.grid.blocks import groups
from report.grid.scores import DIRECTIONS, SCORES, scored
from report.statistics.intervals import BANDS, FEW, student_t
from report.statistics.tests import chain
from report.statistics.words import count, span
from report.tables.columns import FACETS, LABELS, first_and_controls, parts, same, title, varying

EVERYTHING = ("task", "model", "level")


@house_style
def heatmap(frame, score="area", by=EVERYTHING, epoch=None, ax=None):
    """Show the mean score of every measure in every setting.

    Each column is a setting (a task, model and level, say); its means are over the same networks for all measures. The
    best measure overall, by the mean rank of its means, stands on top; in bold is the first in the order of a column
    (`report.order`), whose mean need not be the best. A dash marks measures without a comparable score there, such as
    those whose loss at threshold 1 misses chance. A setting where all measures have one and the same score is left out,
    and the title says so.

    Args:
        frame: DataFrame of `report.read`, `report.scores` or `report.setting_means`.
        score: str. One of `report.grid.scores.SCORES`.
        by: list of str. What makes a column, as in `report.order`.
        epoch: int or None. The checkpoint. Defaults to each run's last.
        ax: Axes or None. Axes to draw into.

    Returns:
        Figure.
    """
    means = frame if "left_out" in frame.attrs else setting_means(frame, score, by, epoch)
    about = means.attrs
    means = means.loc[means.mul(SCORES[score]).rank().mean(axis=1).sort_values(kind="stable").index]
    rows, columns = means.shape
    figure, axes = panels(1, 1, (max(2.6 + 0.55 * columns, 4.5), 1.6 + 0.22 * rows), ax)
    draw_matrix(axes[0, 0], means, (0, 1), "cividis_r" if SCORES[score] > 0 else "cividis")
    said = zip(axes[0, 0].get_xticklabels(), means.columns, strict=True)
    axes[0, 0].set_xticklabels([f"{label.get_text()}\n{about['blocks'][name]}" for label, name in said])
    leading = [measure in about["first"][name] for measure in means.index for name in means.columns]
    for text, leads in zip(axes[0, 0].texts, leading, strict=True):
        text.set_fontweight("bold" if leads else "normal")
    entitle(figure, axes, f"{LABELS[score]}; bold: first in the order{_left_out(about['left_out'])}", ax)
    return figure


def setting_means(frame, score="area", by=EVERYTHING, epoch=None):
    """Average the score of each measure over the complete blocks of each setting: the numbers of `heatmap`.

    Returns:
        DataFrame (measures, settings); missing where a measure has no comparable score. Its `attrs` say for each
        setting what comes `first`, how many `blocks` there are, and which settings are `left_out`, since all measures
        have one and the same score there (as levels of which a layer is one group, compared within layers).
    """
    found = _settings(frame, score, by, epoch)
    measures = sorted({measure for group in found.values() for measure in group.cells["measure"]})
    means = pd.DataFrame({name: group.blocks.mean() for name, group in found.items()}, index=measures)
    alike = [name for name in means if means[name].count() > 1 and np.ptp(means[name].dropna()) < 1e-9]
    alike = alike if len(alike) < means.shape[1] else []
    means = means.drop(columns=alike)
    means = means.dropna(how="all") if means.notna().any(axis=None) and alike else means
    means.attrs |= {
        "first": {name: _first(group.blocks, SCORES[score]) for name, group in found.items()},
        "blocks": {name: count(len(group.blocks), group.kind) for name, group in found.items()},
        "left_out": [name.replace("\n", "/") for name in alike],
    }
    return means


def _left_out(settings):
    return f"\nnot shown: {', '.join(settings)}, where all measures score the same" if settings else ""


def _settings(frame, score, by, epoch):
    """Return {name of a setting: Group}."""
    found = groups(frame, by, score, epoch)
    shown = [name for name in found[0].where if name == "level" or len({str(g.where[name]) for g in found}) > 1]
    return {title(shown, [group.where[name] for name in shown]).replace(", ", "\n"): group for group in found}


def _first(blocks, sign):
    """List the measures that come first: several, if nothing tells them apart."""
    if blocks.empty:
        return []
    order, ranks = chain(blocks.to_numpy() * sign)
    return [blocks.columns[place] for place, rank in zip(order, ranks, strict=True) if rank == ranks[0]]


@house_style
def over_epochs(frame, score="area", highlight=None, ax=None):
    """Show how the order of the measures moves as training goes on.

    Panels are settings with several checkpoints in which measures differ; a line is a measure's mean over the networks
    that have a score for all of them, the band its 95 % Student's t interval within 0 and 1; fewer than five networks
    are thin lines instead.

    Args:
        frame: DataFrame of `report.read` or `report.scores`, or of `report.epoch_means`.
        score: str. One of `report.grid.scores.SCORES`.
        highlight: list of str or None. The measures to tell apart; the others are grey. Defaults to all, of more than
            twelve to the ten that are best in the end in a panel and the controls.
        ax: Axes, array of them, or None. Axes to draw into, one a panel.

    Returns:
        Figure.

    Raises:
        ValueError: there is no complete network, or one checkpoint alone in every setting.
    """
    means = frame if {"mean", "each"} <= set(frame.columns) else epoch_means(frame, score)
    settings = _moving(means)
    if not settings:
        raise ValueError(
            "Expected checkpoints at several epochs and measures that differ to draw lines over them, found neither. "
            "report.heatmap shows the scores at one."
        )
    columns = min(3, len(settings))
    rows = -(-len(settings) // columns)
    measures = sorted(means["measure"].unique())
    size = (max(1.2 + 3.2 * columns, 5.6), 2.4 * rows + 0.6)
    figure, axes = panels(rows, columns, size, ax, sharex=True, sharey=True)
    for axis, (heading, part) in zip(axes.flat, settings, strict=False):
        axis.set_title(f"{heading}, {span(part['networks'].min(), part['networks'].max(), 'networks')}")
        ends = part[part["epoch"] == part["epoch"].max()].set_index("measure")["mean"].mul(SCORES[score]).sort_values()
        _epoch_lines(axis, part, measures, first_and_controls(ends.index) if highlight is None else list(highlight))
    label_outside(axes, LABELS["epoch"], f"{score.replace('_', ' ')} ({DIRECTIONS[SCORES[score]]})")
    hide_unused(axes, len(settings), LABELS["epoch"])
    where = [name for name in ("task", "model") if means[name].nunique(dropna=False) == 1]
    about = title(where, [means[name].iloc[0] for name in where]) or "all tasks"
    whole_numbers(axes[0, 0].xaxis)
    grey = any(line.get_color() == GREY["color"] for axis in axes.flat for line in axis.get_lines())
    bands = [BANDS[few] for few in sorted(set(means["networks"] < FEW))]
    entitle(figure, axes, "; ".join([f"{about}: means", *bands, *[OTHERS] * grey]), ax)
    if ax is None:
        figure.get_layout_engine().execute(figure)
    for axis in axes.flat[: len(settings)]:
        label_lines(axis)
    return figure


def epoch_means(frame, score="area"):
    """Average the score of each measure over complete networks at every checkpoint: the numbers of `over_epochs`.

    Returns:
        DataFrame. One row for each setting, epoch and measure: `networks`, `mean`, `low` and `high` (its 95 % interval
        within 0 and 1; missing for fewer than five) and `each` (dict from network to score, for fewer than five).
    """
    rows = []
    for group in groups(scored(frame), [*EVERYTHING, "epoch"], score):
        few = len(group.blocks) < FEW
        for measure in group.blocks.columns if len(group.blocks) else []:
            mean, low, high = student_t(group.blocks[measure])
            row = {"measure": measure, "networks": len(group.blocks), "mean": mean}
            row |= {"low": np.nan if few else max(low, 0.0), "high": np.nan if few else min(high, 1.0)}
            rows.append(group.where | row | {"each": dict(group.blocks[measure]) if few else {}})
    if not rows:
        raise ValueError("Expected at least one complete network, found none. See the flags in report.scores(frame).")
    return pd.DataFrame(rows)


def moves(frame, score="area"):
    """Say whether `over_epochs` has anything to draw: networks with a score at several checkpoints, in some setting.

    Args:
        frame: DataFrame of `report.read` or `report.scores`.
        score: str. One of `report.grid.scores.SCORES`.

    Returns:
        bool.
    """
    try:
        return bool(_moving(epoch_means(frame, score)))
    except ValueError:  # no network is complete
        return False


def _moving(means):
    """List the settings in which there is anything to see over epochs, several of them and measures that differ."""
    names = ["level", *(name for name in varying(means, [n for n in FACETS if n in means]) if name != "level")]
    found = []
    for values, part in parts(means, names):
        apart = part.groupby("epoch")["mean"].agg(np.ptp).max() > 1e-9 or part["measure"].nunique() == 1
        found += [(title(names, values), part)] if part["epoch"].nunique() > 1 and apart else []
    return found


def _epoch_lines(axis, part, measures, told):
    for measure in measures:
        line = part[part["measure"] == measure].sort_values("epoch")
        if measure not in told:
            axis.plot(line["epoch"], line["mean"], **GREY, label=f"_{measure}")
            continue
        look = style(measure)
        axis.plot(line["epoch"], line["mean"], label=measure, **look)
        axis.fill_between(line["epoch"], line["low"], line["high"], color=look["color"], alpha=0.15, lw=0)
        for network in sorted({name for found in line["each"] for name in found}, key=str):
            one = [found.get(network, np.nan) for found in line["each"]]
            axis.plot(line["epoch"], one, color=look["color"], linewidth=0.5, alpha=0.4, label=f"_{network}")


def rank_correlation(frame, between="measures", score="area"):
    """Correlate scores by rank (Spearman).

    Args:
        frame: DataFrame of `report.read` or `report.scores`.
        between: str. "measures": do two measures do well on the same networks, checkpoints and levels? "settings": do
            two settings (task, model and level, at the last checkpoint) put the measures in the same order?
        score: str. One of `report.grid.scores.SCORES`.

    Returns:
        DataFrame, square, -1 to 1; missing for fewer than 3 values in common or where nothing varies.

    References:
        Spearman, The proof and measurement of association between two things, 1904.
    """
    if between == "settings":
        means = setting_means(frame, score)
        found = means.corr(method="spearman", min_periods=3)
        found.attrs["left_out"] = means.attrs["left_out"]
        return found
    if between != "measures":
        raise ValueError(f'Expected "measures" or "settings" in between, received {between!r}.')
    found = groups(frame, [*EVERYTHING, "epoch"], score)
    stacked = pd.concat([group.blocks for group in found], ignore_index=True)
    return stacked.reindex(columns=sorted(stacked)).corr(method="spearman", min_periods=3)


@house_style
def rank_agreement(frame, between="measures", score="area", ax=None):
    """Show who agrees with whom: the matrix of `rank_correlation`.

    Args:
        frame: DataFrame of `report.read`, `report.scores`, or of `report.rank_correlation`, which is square.
        between: str. As for `report.rank_correlation`; the title names it.
        score: str. Likewise.
        ax: Axes or None. Axes to draw into.

    Returns:
        Figure.
    """
    matrix = frame if frame.index.equals(frame.columns) else rank_correlation(frame, between, score)
    side = 0.42 * len(matrix)
    line = max(len(part) for name in matrix for part in str(name).split("\n"))
    longest = max(len(str(name)) for name in matrix)  # on one line, as rows are low
    size = (1.2 + 0.07 * longest + side, 1.0 + 0.07 * line + 0.6 * side)
    figure, axes = panels(1, 1, size, ax)
    draw_matrix(axes[0, 0], matrix, (-1, 1), "PuOr")
    about = f"rank correlation of {score.replace('_', ' ')} between {between} (Spearman)"
    entitle(figure, axes, f"{about}{_left_out(matrix.attrs.get('left_out'))}", ax)
    return figure


@house_style
def critical_difference(ordering, only=None, ax=None):
    """Draw the mean ranks of each group, with bars over measures that the tests do not tell apart.

    Args:
        ordering: Ordering, of `report.order` over all pairs.
        only: dict or None. The groups to draw, as {"task": "mnist", "model": "mlp"}. Defaults to all.
        ax: Axes, array of them, or None. Axes to draw into, one a panel.

    Returns:
        Figure, a panel for each group with two measures and enough networks for a test to tell two of them apart; rank
        1 is the best; `report.placings` shows the other groups too.
        These are the mean ranks of the Friedman test, which may put two measures the other way round than their own
        test; the ordering's sentences go by that.
        A bar joins measures of which no two are told apart in the ordering, at its level. Its dots are its members:
        what it passes over without a dot is none.

    Raises:
        ValueError: no group can be drawn, or the ordering compared with one measure only.

    References:
        Demsar, Statistical comparisons of classifiers over multiple data sets, JMLR 2006,
        https://www.jmlr.org/papers/v7/demsar06a.html.
    """
    only = only or {}
    tests = same(ordering.tests[ordering.told_apart], list(only), list(only.values()))
    drawn = [row for _, row in tests.iterrows()]
    if not drawn:
        raise ValueError(
            "Expected a group with two measures and enough networks to tell them apart, found none. See "
            "ordering.sentences; report.placings(ordering) draws the orders."
        )
    names = list(ordering.tests.columns[: ordering.tests.columns.get_loc("blocks")])
    figure, axes = panels(len(drawn), 1, (8.0, 3.0 * len(drawn)), ax)
    for axis, row in zip(axes.flat, drawn, strict=True):
        _rank_diagram(axis, ordering, names, row)
    if ax is None:  # a line for each name and each bar, and so much for a panel's title and numbers
        heights = [0.8 + 0.17 * abs(np.diff(axis.get_ylim())[0]) for axis in axes.flat]
        axes[0, 0].get_gridspec().set_height_ratios(heights)
        figure.set_size_inches(8.0, 0.3 + sum(heights))
    about = "Mean ranks, 1 the best. No two measures that a bar joins with dots are told apart"
    entitle(figure, axes, f"{about} (level {ordering.alpha:g}, adjusted).", ax)
    return figure


def _rank_diagram(axis, ordering, names, row):
    from scikit_posthocs import critical_difference_diagram

    values = [row[name] for name in names]
    ranks = same(ordering.table, names, values).dropna(subset="rank").set_index("measure")["mean_rank"]
    pairs = same(ordering.pairs, names, values)
    if len(pairs) < len(ranks) * (len(ranks) - 1) / 2:
        raise ValueError("Expected an ordering over all pairs, received one against one measure. Leave against out.")
    p = pd.DataFrame(np.eye(len(ranks)), ranks.index, ranks.index)
    for pair in pairs.itertuples():
        p.loc[pair.better, pair.worse] = p.loc[pair.worse, pair.better] = float(not pair.verdict.startswith("better"))
    options = {"color_palette": colours(ranks.index), "label_props": {"fontsize": 8}, "marker_props": {"s": 14}}
    options |= {"label_fmt_left": "{label} ({rank:.1f}) ", "label_fmt_right": " ({rank:.1f}) {label}"}
    options |= {"elbow_props": {"linewidth": 0.8}, "crossbar_props": {"marker": "o", "markersize": 3.5}}
    critical_difference_diagram(ranks, p, ax=axis, alpha=ordering.alpha, text_h_margin=0.1, **options)
    axis.spines["top"].set_visible(True)
    axis.grid(False)
    axis.set_title(f"{title(names, values) or 'overall'}: mean rank over {count(row['blocks'], row['blocks_are'])}")


@house_style
def placings(ordering, ax=None):
    """Show the place of every measure in the order of every group, also where there are too few networks for a test.

    Args:
        ordering: Ordering, of `report.order`.
        ax: Axes or None. Axes to draw into.

    Returns:
        Figure. Columns are groups in which measures differ at all, 1 is the first of the order; neighbours that are no
        better than one another share a place. The measure with the lowest mean share of the places stands on top. In
        columns with a star no test can tell any two measures apart: such an order is that of these networks.

    Raises:
        ValueError: measures do not differ anywhere.
    """
    names = list(ordering.tests.columns[: ordering.tests.columns.get_loc("blocks")])
    shown = {}
    for (_, row), tested in zip(ordering.tests.iterrows(), ordering.told_apart, strict=True):
        table = same(ordering.table, names, list(row[names])).set_index("measure")
        places = table.reindex(columns=["rank"])["rank"].dropna()
        if places.nunique() > 1:
            heading = "\n".join([*map(str, row[names]), count(row["blocks"], row["blocks_are"]) + "*" * (not tested)])
            shown[heading] = places
    if not shown:
        raise ValueError("Expected a group in which measures differ, found none. See ordering.sentences.")
    places = pd.DataFrame(shown)
    shares = places / places.max()
    places = places.loc[shares.mean(axis=1).sort_values(kind="stable").index]
    figure, axes = panels(1, 1, (max(2.6 + 0.45 * places.shape[1], 4.5), 1.9 + 0.2 * len(places)), ax)
    draw_matrix(axes[0, 0], places, (0, 1), "cividis_r", form="{:.0f}", shades=shares.loc[places.index])
    star = "" if ordering.told_apart.all() else "; * too few networks for any test"
    entitle(figure, axes, f"place in the order by {ordering.score.replace('_', ' ')}, 1 the best{star}", ax)
    return figure
