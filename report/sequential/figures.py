"""Figures of sequential learning: accuracy against strength, what is remembered of which task, and stability."""

import numpy as np
import pandas as pd

from report.drawing.axes import entitle, label_outside, legend_height, logarithmic, panels, share_legend, whole_numbers
from report.drawing.matrix import draw_matrix
from report.drawing.meters import PENALTIES, draw_meters, penalties_in
from report.drawing.style import DASHES, INK, house_style, style
from report.sequential.results import ENDS, PROTECTION, WHERE, best_strengths, final_accuracies
from report.statistics.intervals import FEW, student_t
from report.statistics.words import span
from report.tables.columns import choose, of_one_run, parts

ENDS_LOOK = {
    "joint": {"color": INK["black"], "linestyle": DASHES["dotted"], "label": "all tasks at once"},
    "none": {"color": INK["grey"], "linestyle": DASHES["dotted"], "label": "no protection"},
}
REPLAY_LOOK = {"color": INK["black"], "linestyle": DASHES["dashdot"]}
METERS = {
    "ewc_largest": "largest rate · λ · Ω",
    "ewc_percentile": "99.9th percentile of rate · λ · Ω",
    "ewc_penalty_ratio": "penalty's gradient / task's",
}
STRENGTH = "strength λ of (λ/2) Σ Ω (w − w*)²"
HIGHEST = 1e3
"""Where the vertical axis of an explosion ends."""


@house_style
def strength_curves(frame, measures=None, lowest=None, ax=None):
    """Draw the test accuracy over all tasks after the last one against the strength of the penalty.

    Panels are penalties. A line is a measure's mean over seeds, the bars its 95 % Student's t intervals within 0 and 1;
    fewer than five seeds are dots instead. Where the weights of a seed became infinite the line breaks. The two ends,
    and replay with its largest budget, are lines across with their intervals as bands. If each measure and penalty has
    a single strength, it is a row with a point instead.

    Args:
        frame: DataFrame of `read_sequential` or `final_accuracies`; the rows of one run.
        measures: list of str or None. Measures to show, in this order. Defaults to all.
        lowest: float, "quartile" or None. Where the vertical axis begins; "quartile" is the lower one of the means.
            The horizontal axis keeps to the strengths whose means show. Defaults to what shows everything.
        ax: Axes, array of them, or None. Axes to draw into, one a panel.

    Returns:
        Figure.

    Raises:
        ValueError: rows of several runs, or none to draw.
    """
    finals = final_accuracies(frame)
    where = _where(finals)
    protected = choose(finals[finals["penalty"] != "none"], {"measure": measures})
    measures = list(measures or sorted(protected["measure"].unique()))
    penalties = penalties_in(protected["penalty"])
    if protected.groupby(PROTECTION[:2])["strength"].nunique().max() == 1:
        return _each_once(protected, _across(finals), measures, where, ax)
    width, across = max(1.0 + 2.6 * len(penalties), 5.6), _across(finals)
    size = (width, 2.9 + legend_height(len(measures) + len(across), width))
    figure, axes = panels(1, len(penalties), size, ax, sharex=True, sharey=True)
    for axis, penalty in zip(axes[0], penalties, strict=True):
        of_penalty = protected[protected["penalty"] == penalty]
        for measure in measures:
            _curve(axis, of_penalty[of_penalty["measure"] == measure], measure)
        for look, rows in across:
            _end(axis, rows["test_accuracy"], look)
        axis.set_title(penalty)
        axis.set_xscale("log")
    # The means decide, because the interval of two or three seeds may reach far beyond what an accuracy can be.
    shown = pd.concat([protected, *(rows for _, rows in across)])
    means = shown.groupby(PROTECTION)["test_accuracy"].mean()
    means = means.dropna() if means.notna().any() else means.fillna(0.0)
    bottom = {None: means.min(), "quartile": means.quantile(0.25)}.get(lowest, lowest)
    margin = 0.07 * (means.max() - bottom) or 0.05
    axes[0, 0].set_ylim(bottom - margin if lowest is None else bottom, means.max() + margin)
    strengths = means[means >= bottom].drop("none", level="penalty", errors="ignore").index.unique("strength")
    if len(strengths):
        axes[0, 0].set_xlim(strengths.min() / 1.5, strengths.max() * 1.5)
    label_outside(axes, STRENGTH, "test accuracy, mean over all tasks")
    closer = "" if lowest is None else "closer: "
    entitle(figure, axes, f"{closer}{where}; {_bands(protected)}", ax)
    share_legend(figure, axes, ax, last=tuple(look["label"] for look, _ in across))
    return figure


def _across(finals):
    """Return [(look, rows)] of what has no strength: replay with its largest budget, and the two ends."""
    replayed, ends = finals[finals["measure"] == "replay"], ENDS_LOOK.items()
    most = parts(replayed, ["strength"])[-1:]
    looks = [(REPLAY_LOOK | {"label": _words("replay", "none", budget)}, rows) for (budget,), rows in most]
    return [*looks, *((look, finals[finals["measure"] == end]) for end, look in ends)]


def _bands(finals):
    """Say what stands for the mean, and what for how sure it is."""
    seeds = finals.groupby(PROTECTION)["seed"].nunique()
    looks = {True: "small dots: each seed", False: "bars: 95 % Student's t intervals"}
    bands = [looks[few] for few in sorted(set(seeds < FEW)) if seeds.max() > 1]
    return "; ".join([f"mean of {span(seeds.min(), seeds.max(), 'seeds')}", *bands])


def _each_once(protected, across, measures, where, ax):
    """Draw one point for each measure and penalty, all of which have a single strength: there is no curve."""
    rows = parts(protected, PROTECTION)
    rows.sort(key=lambda item: (measures.index(item[0][0]), item[0][1]), reverse=True)
    figure, axes = panels(1, 1, (5.6, 1.5 + 0.22 * len(rows)), ax)
    for place, ((measure, _, _), cells) in enumerate(rows):
        look = {"color": style(measure)["color"], "marker": style(measure)["marker"], "linestyle": "none"}
        axes[0, 0].plot(cells["test_accuracy"], [place] * len(cells), **look | {"alpha": 0.4, "markersize": 2.5})
        axes[0, 0].plot([cells["test_accuracy"].mean(skipna=False)], [place], **look)
    for look, straight in across:
        if straight["test_accuracy"].notna().any():
            axes[0, 0].axvline(straight["test_accuracy"].mean(), linewidth=1, zorder=1, **look)
    axes[0, 0].set_yticks(range(len(rows)), [_words(*name) for name, _ in rows])
    axes[0, 0].set_ylim(-0.6, len(rows) - 0.4)
    axes[0, 0].set_xlabel("test accuracy, mean over all tasks")
    drawn = pd.concat([protected, *(rows for _, rows in across)])
    entitle(figure, axes, f"{where}, one strength of each; {_bands(drawn)}", ax)
    share_legend(figure, axes, ax)
    return figure


def _curve(axis, cells, measure):
    if cells.empty:
        return
    by_strength = [(strength, part["test_accuracy"]) for (strength,), part in parts(cells, ["strength"])]
    means = [_interval(a) for _, a in by_strength]
    means = pd.DataFrame(means, [strength for strength, _ in by_strength], ["mean", "low", "high"])
    axis.plot(means.index, means["mean"], label=measure, **style(measure))
    axis.vlines(means.index, means["low"], means["high"], color=style(measure)["color"], linewidth=0.8)
    for strength, accuracies in by_strength:
        few = accuracies if 1 < len(accuracies) < FEW else accuracies[:0]
        axis.plot([strength] * len(few), few, ".", color=style(measure)["color"], markersize=2.5, alpha=0.6, label="_")


def _interval(accuracies):
    """Return the mean and its interval, which no accuracy leaves; no mean where the weights of a seed were infinite."""
    mean, low, high = student_t(accuracies) if accuracies.notna().all() else (np.nan,) * 3
    return (mean, max(low, 0.0), min(high, 1.0)) if len(accuracies) >= FEW else (mean, np.nan, np.nan)


def _end(axis, accuracies, look):
    mean, low, high = _interval(accuracies.dropna())
    if np.isnan(mean):
        return
    axis.axhline(mean, linewidth=1, zorder=1, **look)
    if not np.isnan(low):
        axis.axhspan(low, high, color=look["color"], alpha=0.12, lw=0, zorder=0)


@house_style
def accuracy_matrices(frame, chosen=None, ax=None):
    """Show what is known of each task after each: mean test accuracies over seeds.

    Args:
        frame: DataFrame of `read_sequential`; the rows of one run.
        chosen: list of (measure, penalty, strength) or None. Defaults to the best strength of each measure and penalty,
            the best first, and last the runs without protection.
        ax: Axes, array of them, or None. Axes to draw into, one a panel.

    Returns:
        Figure, a panel for each; the last row of a panel is what is left at the end.

    Raises:
        ValueError: rows of several runs, or a choice of which there are no finished runs.
    """
    where = _where(frame)
    chosen = _chosen(frame, [*_best_of(frame), ("none", "none", 0.0)] if chosen is None else chosen)
    found = [_matrix(cells) for _, cells in chosen]
    limits = (np.nanmin([0.99, *(matrix.min().min() for matrix in found)]), 1.0)
    columns = min(3, len(found))
    rows, tasks = -(-len(found) // columns), int(frame["tasks"].iloc[0])
    side = max(0.27 * tasks, 1.9)
    figure, axes = panels(rows, columns, (0.5 + columns * (side + 0.45), rows * (0.8 * side + 0.7)), ax)
    for axis, (name, cells), matrix in zip(axes.flat, chosen, found, strict=False):
        draw_matrix(axis, matrix.rename_axis(index=None, columns=None), limits, "cividis")
        for (after, on), text in zip(np.ndindex(*matrix.shape), axis.texts, strict=True):
            text.set_text("" if on > after else text.get_text())  # not learnt yet
        kept = matrix.loc[tasks].mean()
        seeds = cells["seed"].nunique()
        end = f"{kept:.3f} at the end" if np.isfinite(kept) else "weights became infinite"
        axis.set_title(f"{_words(*name)}\n{seeds} seed{'s' * (seeds != 1)}, {end}")
    for axis in axes.flat[len(found) :]:
        axis.set_visible(False)
    for number, axis in enumerate(axes.flat[: len(found)]):
        axis.set_xlabel("on task" if number >= len(found) - columns else "")
        axis.set_ylabel("after task" if number % columns == 0 else "")
    entitle(figure, axes, f"{where}: mean test accuracies of tasks", ax)
    return figure


def _matrix(cells):
    """Average the test accuracies over seeds (after task, on task), NaN where the weights of one were infinite."""
    grouped = cells.groupby(["after_task", "on_task"])["test_accuracy"]
    return grouped.agg(lambda values: values.mean(skipna=False)).unstack()


@house_style
def stability_trace(frame, chosen=None, ax=None):
    """Draw how hard the penalty pulled in each task, from the second on.

    Rows of panels are penalties. A line is the median over seeds, the band reaches from the least to the most. Dashed
    lines are at 1, above which a weight jumps over its anchor with plain gradient descent and the plain penalty, and at
    2, above which it moves away from it.

    Args:
        frame: DataFrame of `read_sequential`; the rows of one run.
        chosen: list of (measure, penalty, strength) or None. Defaults to the best strength of each measure and penalty.
        ax: Axes, array of them, or None. Axes to draw into, one a panel.

    Returns:
        Figure.

    Raises:
        ValueError: rows of several runs, or a choice of which there are no finished runs.
    """
    where = _where(frame)
    best = [name for name in _best_of(frame) if name[1] != "none"]
    chosen = _chosen(frame, best if chosen is None else chosen)
    chosen = [(name, cells[(cells["after_task"] > 1) & (cells["on_task"] == 1)]) for name, cells in chosen]
    return draw_meters(chosen, METERS, "after_task", "task", where, ax)


@house_style
def instability(frame, ax=None):
    """Draw what becomes of a second task where a penalty explodes, or where clipping lets it drown the task.

    Args:
        frame: DataFrame. One row for each `clip` (the optimizer's global norm, NaN for none), `largest` (rate *
            strength * Omega), `penalty` and `epoch` of the second task: its `loss`, and the `distance` of the weights
            from their anchors. What is not finite is not drawn.
        ax: Axes, array of them, or None. Axes to draw into, one a panel.

    Returns:
        Figure. Columns of panels are pairs of `clip` and `largest`; above the loss, below the distance.
    """
    columns = parts(choose(frame, {}), ["clip", "largest"])
    columns.sort(key=lambda item: (not np.isnan(item[0][0]), item[0][1]))
    width = max(1.0 + 2.3 * len(columns), 5.6)
    figure, axes = panels(2, len(columns), (width, 4.5 + legend_height(3, width)), ax, sharex=True, sharey="row")
    for (above, below), ((clip, largest), part) in zip(axes.T, columns, strict=True):
        how = "no clipping" if np.isnan(clip) else f"gradients clipped to norm {clip:g}"
        above.set_title(f"largest rate · λ · Ω = {largest:g}\n{how}")
        for axis, column in ((above, "loss"), (below, "distance")):
            for penalty, look in PENALTIES.items():
                line = part[part["penalty"] == penalty].sort_values("epoch")
                if line.empty:
                    continue
                shown = line[column].where(np.isfinite(line[column]) & (line[column] > 0))
                axis.plot(line["epoch"], shown, label=penalty, markevery=max(1, len(line) // 8), **look)
    for axis, column in ((axes[0, 0], "loss"), (axes[1, 0], "distance")):
        finite = frame[column][np.isfinite(frame[column]) & (frame[column] > 0)]
        axis.set_ylim(finite.min() / 1.3, min(finite.max(), HIGHEST) * 1.3)
        logarithmic(axis) if finite.max() < 1e3 * finite.min() else axis.set_yscale("log")
    whole_numbers(axes[0, 0].xaxis)
    label_outside(axes, "epoch of the second task", "")
    axes[0, 0].set_ylabel("loss on the second task (nats)")
    axes[1, 0].set_ylabel("distance from the anchors")
    entitle(figure, axes, "a second task, by plain gradient descent with a penalty that pulls too hard", ax)
    share_legend(figure, axes, ax)
    return figure


def _where(frame):
    """Name the one run that rows are of."""
    first = of_one_run(frame)
    return f"{first['sequence']}, {first['model']}, {first.get('protocol', 'unknown')} protocol"


def _best_of(frame):
    best = best_strengths(frame)
    best = best[~best["measure"].isin(ENDS)]
    return list(best[PROTECTION].itertuples(index=False, name=None))


def _chosen(frame, wanted):
    """Return [((measure, penalty, strength), rows of the finished runs)], without the end that was not run."""
    done = final_accuracies(frame)[[*WHERE[:1], *PROTECTION, "seed"]]
    rows = frame.merge(done, on=[*WHERE[:1], *PROTECTION, "seed"])
    found = [(name, rows[(rows[PROTECTION] == list(name)).all(axis=1)]) for name in wanted]
    absent = [name for name, cells in found if cells.empty and name[0] not in ENDS]
    if absent or not any(len(cells) for _, cells in found):
        known = sorted(set(done[PROTECTION].itertuples(index=False, name=None)))
        raise ValueError(
            f"Expected finished runs of each (measure, penalty, strength) chosen, found none of {absent or wanted}. "
            f"There are {known[:8]}{' and more' if len(known) > 8 else ''}."
        )
    return [(name, cells) for name, cells in found if len(cells)]


def _words(measure, penalty, strength):
    if measure in ENDS:
        return ENDS_LOOK[measure]["label"]
    return f"replay of {strength:g} a class" if measure == "replay" else f"{measure}, {penalty}, λ = {strength:g}"
