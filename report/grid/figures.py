"""Figures of scores: what is better where, how it moves over epochs, who agrees with whom, and what tests say."""

import numpy as np
import pandas as pd

from report.drawing.axes import label_outside, legend_height, panels, share_legend
from report.drawing.matrix import draw_matrix
from report.drawing.style import colours, house_style, style
from report.grid.blocks import groups
from report.grid.scores import DIRECTIONS, SCORES, scored
from report.statistics.intervals import student_t
from report.statistics.tests import chain
from report.tables.columns import FACETS, LABELS, parts, same, title, varying

EVERYTHING = ("task", "model", "level")


@house_style
def heatmap(frame, score="area", by=EVERYTHING, epoch=None):
    """Show the mean score of every measure in every setting.

    Each column is a setting (a task, model and level, say); its means are over the same networks for all measures. The
    best measure overall, by the mean rank of its means, stands on top; in bold is the first in the order of a column
    (`report.order`), whose mean need not be the best. A dash marks measures without a comparable score there, such as
    those whose loss at threshold 1 misses chance.

    Args:
        frame: DataFrame of `report.read` or `report.scores`.
        score: str. One of `report.grid.scores.SCORES`.
        by: list of str. What makes a column, as in `report.order`.
        epoch: int or None. The checkpoint. Defaults to each run's last.

    Returns:
        Figure.
    """
    settings = _settings(frame, score, by, epoch)
    means = _means(settings)
    means = means.loc[means.mul(SCORES[score]).rank().mean(axis=1).sort_values(kind="stable").index]
    rows, columns = means.shape
    figure, axes = panels(1, 1, (2.6 + 0.55 * columns, 1.4 + 0.22 * rows))
    draw_matrix(axes[0, 0], means, (0, 1), "cividis_r" if SCORES[score] > 0 else "cividis")
    best = {name: _first(group.blocks, SCORES[score]) for name, group in settings.items()}
    leading = [measure in best[name] for measure in means.index for name in means.columns]
    for text, leads in zip(axes[0, 0].texts, leading, strict=True):
        text.set_fontweight("bold" if leads else "normal")
    axes[0, 0].set_title(LABELS[score])
    return figure


def setting_means(frame, score="area", by=EVERYTHING, epoch=None):
    """Average the score of each measure over the complete blocks of each setting.

    Returns:
        DataFrame (measures, settings); missing where a measure has no comparable score.
    """
    return _means(_settings(frame, score, by, epoch))


def _settings(frame, score, by, epoch):
    """Return {name of a setting: Group}."""
    found = groups(frame, by, score, epoch)
    shown = [name for name in found[0].where if name == "level" or len({str(g.where[name]) for g in found}) > 1]
    return {title(shown, [group.where[name] for name in shown]).replace(", ", "\n"): group for group in found}


def _means(settings):
    measures = sorted({measure for group in settings.values() for measure in group.cells["measure"]})
    return pd.DataFrame({name: group.blocks.mean() for name, group in settings.items()}, index=measures)


def _first(blocks, sign):
    """List the measures that come first: several, if nothing tells them apart."""
    if blocks.empty:
        return []
    order, ranks = chain(blocks.to_numpy() * sign)
    return [blocks.columns[place] for place, rank in zip(order, ranks, strict=True) if rank == ranks[0]]


@house_style
def over_epochs(frame, score="area"):
    """Show how the order of the measures moves as training goes on.

    Panels are settings; a line is a measure's mean over the networks that have a score for all of them, the band its
    95 % Student's t interval over networks.

    Args:
        frame: DataFrame of `report.read` or `report.scores`.
        score: str. One of `report.grid.scores.SCORES`.

    Returns:
        Figure.
    """
    means = pd.DataFrame(_epoch_rows(groups(scored(frame), [*EVERYTHING, "epoch"], score)))
    if means.empty:
        raise ValueError("Expected at least one complete network, found none. See the flags in report.scores(frame).")
    names = ["level", *(name for name in varying(means, [n for n in FACETS if n in means]) if name != "level")]
    settings = [(title(names, values), part) for values, part in parts(means, names)]
    columns = min(3, len(settings))
    rows = -(-len(settings) // columns)
    measures = sorted(means["measure"].unique())
    width = max(1.0 + 2.4 * columns, 5.6)
    size = (width, 2.1 * rows + 0.4 + legend_height(len(measures), width))
    figure, axes = panels(rows, columns, size, sharex=True, sharey=True)
    for axis, (heading, part) in zip(axes.flat, settings, strict=False):
        axis.set_title(heading)
        _epoch_lines(axis, part, measures)
    label_outside(axes, LABELS["epoch"], f"{score.replace('_', ' ')} ({DIRECTIONS[SCORES[score]]})")
    for axis, above in zip(axes.flat[len(settings) :], axes.flat[len(settings) - columns :], strict=False):
        axis.set_visible(False)
        above.tick_params(labelbottom=True)
        above.set_xlabel(LABELS["epoch"])
    share_legend(figure, axes)
    return figure


def _epoch_rows(found):
    rows = []
    for group in found:
        for measure in group.blocks.columns if len(group.blocks) else []:
            mean, low, high = student_t(group.blocks[measure])
            rows.append(group.where | {"measure": measure, "mean": mean, "low": low, "high": high})
    return rows


def _epoch_lines(axis, part, measures):
    for measure in measures:
        line = part[part["measure"] == measure].sort_values("epoch")
        axis.plot(line["epoch"], line["mean"], label=measure, **style(measure))
        axis.fill_between(line["epoch"], line["low"], line["high"], color=style(measure)["color"], alpha=0.15, lw=0)


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
        return setting_means(frame, score).corr(method="spearman", min_periods=3)
    if between != "measures":
        raise ValueError(f'Expected "measures" or "settings" in between, received {between!r}.')
    found = groups(frame, [*EVERYTHING, "epoch"], score)
    stacked = pd.concat([group.blocks for group in found], ignore_index=True)
    return stacked.reindex(columns=sorted(stacked)).corr(method="spearman", min_periods=3)


@house_style
def rank_agreement(frame, between="measures", score="area"):
    """Show who agrees with whom: the matrix of `rank_correlation`, whose arguments these are.

    Returns:
        Figure.
    """
    matrix = rank_correlation(frame, between, score)
    side = 0.42 * len(matrix)
    line = max(len(part) for name in matrix for part in str(name).split("\n"))
    longest = max(len(str(name)) for name in matrix)  # on one line, as rows are low
    figure, axes = panels(1, 1, (1.2 + 0.07 * longest + side, 1.0 + 0.07 * line + 0.6 * side))
    draw_matrix(axes[0, 0], matrix, (-1, 1), "PuOr")
    axes[0, 0].set_title(f"rank correlation of {score.replace('_', ' ')} between {between}")
    return figure


@house_style
def critical_difference(ordering):
    """Draw the mean ranks of each group, with a bar over measures that the tests do not tell apart.

    Args:
        ordering: Ordering, of `report.order` over all pairs.

    Returns:
        Figure, a panel for each group with at least two measures, two blocks and some difference; rank 1 is the best.
        These are the mean ranks of the Friedman test, which may put two measures the other way round than their own
        test; the ordering's sentences go by that.
        Bars join measures whose adjusted pairwise p-values all exceed the level of the ordering.

    Raises:
        ValueError: no group can be drawn, or the ordering compared with one measure only.

    References:
        Demsar, Statistical comparisons of classifiers over multiple data sets, JMLR 2006,
        https://www.jmlr.org/papers/v7/demsar06a.html.
    """
    drawn = [row for _, row in ordering.tests[ordering.told_apart].iterrows()]
    if not drawn:
        raise ValueError("Expected a group with two measures and two blocks, found none. See ordering.sentences.")
    names = list(ordering.tests.columns[: ordering.tests.columns.get_loc("blocks")])
    most = max(row["measures"] for row in drawn)
    columns = min(2, len(drawn))
    rows = -(-len(drawn) // columns)
    figure, axes = panels(rows, columns, (6.3 * columns, rows * (0.9 + 0.14 * most)))
    for axis, row in zip(axes.flat, drawn, strict=False):
        _rank_diagram(axis, ordering, names, row)
    for axis in axes.flat[len(drawn) :]:
        axis.set_visible(False)
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
        p.loc[pair.better, pair.worse] = p.loc[pair.worse, pair.better] = pair.p_holm
    options = {"color_palette": colours(ranks.index), "label_props": {"fontsize": 8}, "marker_props": {"s": 14}}
    options |= {"label_fmt_left": "{label} ({rank:.1f}) ", "label_fmt_right": " ({rank:.1f}) {label}"}
    critical_difference_diagram(ranks, p, ax=axis, alpha=ordering.alpha, text_h_margin=0.1, **options)
    axis.spines["top"].set_visible(True)
    axis.grid(False)
    axis.set_title(f"{title(names, values) or 'overall'}: mean rank over {row['blocks']} {row['blocks_are']}")
