"""Figures of fine-tuning: forgotten against learnt, over steps, how hard the penalty pulls, how importances spread."""

import textwrap

import numpy as np

from report.drawing.axes import entitle, label_outside, legend_height, logarithmic, panels, share_legend
from report.drawing.meters import draw_meters, penalties_in
from report.drawing.style import DASHES, INK, colours, house_style, style
from report.fine_tuning.results import (
    METHOD,
    PLAIN,
    balanced,
    final,
    finite,
    importance_by_layer_kind,
    kinds,
    not_finite,
    relative,
)
from report.statistics.words import count
from report.tables.columns import choose, of_one_run, parts

PLAIN_LOOK = {"color": INK["grey"], "linestyle": DASHES["dashed"], "marker": "", "label": "plain fine-tuning, by step"}
OTHERS = {"lora": "factors of rank {:g}", "replay": "replay of {:g} % of the old text"}
"""What else there is without a penalty."""
OTHER_DASHES = ("dotted", "dashdot", "solid")
START_LOOK = {"color": INK["grey"], "linestyle": "none", "marker": "o", "markersize": 6, "label": "pretrained"}
METERS = {
    "ewc_largest": "largest rate · λ · Ω",
    "ewc_penalty_ratio": "penalty's gradient / task's",
    "ewc_task_left": "share left by clipping",
}
SPREAD = {
    "mean_ratio": {"marker": "o", "markerfacecolor": "white", "label": "mean of a variable"},
    "largest_ratio": {"marker": "o", "label": "largest weight of a variable"},
}


@house_style
def plot_frontiers(frame, measures=None, highest=None, ax=None):
    """Draw what is forgotten of the old text against what is learnt of the new one: down and left is better.

    Panels are penalties. A line joins a measure's runs after the last step, from the weakest to the strongest penalty;
    a few strengths λ are written beside the longest line of a panel. The dashed line is plain fine-tuning step by step,
    which begins at the pretrained model, the dot; black ones are low-rank factors, and replay, without a penalty. Thick
    lines are means of the losses over seeds, thin ones the seeds. Where a seed is missing or its weights did not stay
    finite, a thick line breaks; a panel's title names the latter.

    Args:
        frame: DataFrame of `read_fine_tuning`; the rows of one run.
        measures: list of str or None. Measures to show, in this order. Defaults to all.
        highest: float or None. Where the vertical axis ends. Defaults to what shows everything.
        ax: Axes, array of them, or None. Axes to draw into, one a panel.

    Returns:
        Figure.

    Raises:
        ValueError: rows of several runs, or none to draw.
    """
    heading, unprotected, protected = _split(frame)
    ends = choose(final(protected), {"measure": measures})
    measures = list(measures or sorted(ends["measure"].unique()))
    penalties = penalties_in(ends["penalty"])
    width = max(1.0 + 2.6 * len(penalties), 5.6)
    size = (width, 3.2 + legend_height(len(measures) + 1 + len(unprotected), width))
    figure, axes = panels(1, len(penalties), size, ax, sharex=True, sharey=True)
    for axis, penalty in zip(axes[0], penalties, strict=True):
        part = ends[ends["penalty"] == penalty]
        lines = [_path(axis, part[part["measure"] == m], "strength", style(m) | {"label": m}) for m in measures]
        _name_strengths(axis, max(lines, key=_length))
        for look, rows in unprotected:
            _path(axis, rows, "step", look)
        _start(axis, frame)
        axis.set_title("\n".join([penalty, *textwrap.wrap(_exploded(part), 44)]))
    axes[0, 0].margins(x=0.15)
    logarithmic(axes[0, 0], "xy")
    if highest is not None:
        axes[0, 0].set_ylim(top=highest)
    label_outside(axes, _label(frame, "new"), _label(frame, "old"))
    entitle(figure, axes, f"{heading}, after the last step: {_of_seeds(ends, 'thin lines: each')}", ax)
    share_legend(figure, axes, ax, last=(*(look["label"] for look, _ in unprotected), START_LOOK["label"]))
    return figure


def _split(frame):
    """Return the name of the one run, [(look, rows)] of what has no penalty, plain fine-tuning first, and the rest."""
    first, without = of_one_run(frame), frame["penalty"] == "none"
    unprotected = [(PLAIN_LOOK, frame[(frame[METHOD] == list(PLAIN)).all(axis=1)])]
    others = parts(frame[without & frame["measure"].isin(OTHERS)], ["measure", "strength"])
    for number, ((measure, strength), rows) in enumerate(others):
        dash, what = OTHER_DASHES[number % len(OTHER_DASHES)], OTHERS[measure].format(strength)
        look = {"color": INK["black"], "linestyle": DASHES[dash], "label": f"{what}, by step"}
        unprotected.append((PLAIN_LOOK | look, rows))
    return f"{first['model']}, {first['old_text']} → {first['new_text']}", unprotected, frame[~without]


def _of_seeds(frame, around):
    """Say of how many seeds lines are the mean, and what stands around them."""
    seeds = frame["seed"].nunique()
    return f"mean of {seeds} seeds; {around}" if seeds > 1 else "one seed"


def _over_seeds(cells, by):
    """Return the losses as two frames (values of `by`, seeds), `old` and `new`; missing where they are not finite."""
    known = finite(cells)
    places, seeds = sorted(cells[by].unique()), sorted(cells["seed"].unique())
    return [known.pivot(index=by, columns="seed", values=f"{text}_loss").reindex(places, columns=seeds)
            for text in ("old", "new")]  # fmt: skip


def _path(axis, cells, by, look):
    """Draw old against new perplexities, the seeds thin and their mean thick; return both means, new first."""
    old, new = _over_seeds(cells, by)
    axis.plot(np.exp(new), np.exp(old), color=look["color"], linewidth=0.6, alpha=0.4)
    means = new.mean(axis=1, skipna=False), old.mean(axis=1, skipna=False)
    if len(old):
        axis.plot(*map(np.exp, means), **look)
    return means


def _length(means):
    return sum(mean.dropna().diff().abs().sum() for mean in means)


def _name_strengths(axis, means):
    from matplotlib import patheffects

    new, old = (np.exp(mean.dropna()) for mean in means)
    halo = [patheffects.withStroke(linewidth=2, foreground="white")]
    for place in sorted({0, len(new) // 2, len(new) - 1} if len(new) else ()):
        where = (new.iloc[place], old.iloc[place])
        # Frontiers bend towards the lower left: there is room below, and above both ends.
        end = place in (0, len(new) - 1)
        beside = {"xytext": (0, 8), "ha": "center"} if end else {"xytext": (-3, -9), "ha": "right"}
        beside |= {"textcoords": "offset points", "fontsize": 6, "path_effects": halo, "zorder": 5}
        axis.annotate(f"λ = {new.index[place]:g}", where, **beside)


def _start(axis, frame):
    first = finite(frame[frame["step"] == 0]).drop_duplicates("seed")
    axis.plot(np.exp(first["new_loss"].mean()), np.exp(first["old_loss"].mean()), **START_LOOK)


def _exploded(cells):
    """Name the runs whose weights did not stay finite; nothing if all did."""
    found = parts(not_finite(cells), ["measure", "strength"])
    names = [f"{measure} at λ = {strength:g} ({count(len(part), 'seeds')})" for (measure, strength), part in found]
    unbroken = [name.replace(" ", "\N{NO-BREAK SPACE}") for name in names]
    return f"not finite: {', '.join(unbroken)}" if names else ""


def _label(frame, text):
    return f"perplexity of the {text} text ({frame[f'{text}_text'].iloc[0]})"


@house_style
def perplexity_over_steps(frame, chosen=None, ax=None):
    """Draw the perplexities of both texts over the steps of fine-tuning.

    Rows of panels are penalties, with plain fine-tuning beside in each. A line is the mean of the losses over seeds,
    the band reaches from the least to the most; where a seed is missing or not finite the line breaks, and the legend
    says in how many the weights did not stay finite.

    Args:
        frame: DataFrame of `read_fine_tuning`; the rows of one run.
        chosen: list of (measure, penalty, strength) or None. Defaults to each method at the strength with which both
            texts together are known best after the last step.
        ax: Axes, array of them, or None. Axes to draw into, one a panel.

    Returns:
        Figure.

    Raises:
        ValueError: rows of several runs, or a choice of which there are no runs.
    """
    heading, unprotected, protected = _split(frame)
    chosen = _chosen(protected, [name for name in balanced(frame) if name[1] != "none"] if chosen is None else chosen)
    penalties = penalties_in(name[1] for name, _ in chosen)
    figure, axes = panels(len(penalties), 2, (8.4, 0.5 + 2.0 * len(penalties)), ax, sharex=True, sharey="col")
    for row, penalty in zip(axes, penalties, strict=True):
        for (measure, of, strength), cells in chosen:
            if of == penalty:
                label = f"{measure}, λ = {strength:g}"
                exploded = len(not_finite(cells))
                label += f"\n(not finite in {count(exploded, 'seeds')})" if exploded else ""
                _steps(row, cells, style(measure) | {"label": label})
        for look, cells in unprotected:
            _steps(row, cells, look | {"label": look["label"].removesuffix(", by step")})
        for axis, text in zip(row, ("old", "new"), strict=True):
            axis.set_title(f"{penalty}: the {text} text ({frame[f'{text}_text'].iloc[0]})")
        row[0].set_ylabel("perplexity")
        row[1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, handlelength=3.2)
    for axis in axes[0]:
        logarithmic(axis, "y")
    label_outside(axes, "step of fine-tuning", "perplexity")
    entitle(figure, axes, f"{heading}: {_of_seeds(frame, 'bands: from the least to the most')}", ax)
    return figure


def _steps(row, cells, look):
    for axis, losses in zip(row, _over_seeds(cells, "step"), strict=True):
        if losses.empty:
            continue
        mean, steps = losses.mean(axis=1, skipna=False), losses.index
        axis.plot(steps, np.exp(mean), markevery=max(1, len(losses) // 7), **look)
        ends = np.exp(losses.min(axis=1)), np.exp(losses.max(axis=1))
        axis.fill_between(steps, *ends, where=mean.notna(), color=look["color"], alpha=0.15, lw=0)


def _chosen(frame, wanted):
    """Return [((measure, penalty, strength), rows)]."""
    known = {name: cells for name, cells in parts(frame, [*METHOD, "strength"])}
    absent = [name for name in map(tuple, wanted) if name not in known]
    if absent or not wanted:
        raise ValueError(
            f"Expected runs of each (measure, penalty, strength) chosen, found none of {absent or 'them'}. There are "
            f"{list(known)[:8]}{' and more' if len(known) > 8 else ''}."
        )
    return [(name, known[name]) for name in map(tuple, wanted)]


@house_style
def meter_trace(frame, strength=None, measures=None, penalties=None, ax=None):
    """Draw how hard the penalties pulled over the steps of fine-tuning, all at the same strength.

    Rows of panels are penalties. A line is the median over seeds, the band reaches from the least to the most. Dashed
    lines are at 1, above which a weight jumps over its anchor with plain gradient descent and the plain penalty, and at
    2, above which it moves away from it. What is not finite is not drawn.

    Args:
        frame: DataFrame of `read_fine_tuning`; the rows of one run.
        strength: float or None. Defaults to the largest with which all these penalties were run.
        measures: list of str or None. Measures to show. Defaults to all.
        penalties: list of str or None. Defaults to plain and stabilised, or to all where neither was run.
        ax: Axes, array of them, or None. Axes to draw into, one a panel.

    Returns:
        Figure.

    Raises:
        ValueError: rows of several runs, no such penalty, measure or strength, or no strength common to the penalties.
    """
    heading, _, protected = _split(frame)
    compared = [name for name in ("plain", "stabilized") if name in set(protected["penalty"])]
    protected = choose(protected, {"penalty": penalties or compared or None, "measure": measures})
    strength = _common_strength(protected) if strength is None else strength
    protected = choose(protected, {"strength": [strength]})
    chosen = parts(protected[protected["step"] > 0], [*METHOD, "strength"])
    return draw_meters(chosen, METERS, "step", "step of fine-tuning", f"{heading}, λ = {strength:g}", ax)


def _common_strength(frame):
    by_penalty = {penalty: set(cells["strength"]) for (penalty,), cells in parts(frame, ["penalty"])}
    common = set.intersection(*by_penalty.values())
    if not common:
        raise ValueError(
            f"Expected a strength with which all penalties were run, found {by_penalty}. Choose one of the penalties."
        )
    return max(common)


@house_style
def importance_spread(importances, measures=None, ax=None):
    """Draw how unevenly importance is spread over the model, for each kind of layer and each measure.

    Panels are kinds. In a measure's row a hollow point is the mean importance of a variable, a filled one its largest
    weight, both over the mean of the whole model (the vertical line) and averaged over seeds; the bar reaches from the
    mean of the kind to its largest weight. A variable without any importance has no place on the logarithmic axis.

    Args:
        importances: DataFrame of `read_importances`; the rows of one run.
        measures: list of str or None. Measures to show, from top to bottom. Defaults to all.
        ax: Axes, array of them, or None. Axes to draw into, one a panel.

    Returns:
        Figure.

    Raises:
        ValueError: rows of several runs, or none to draw.
    """
    run = of_one_run(importances)["run"]
    importances = choose(importances, {"measure": measures})
    measures = list(measures or sorted(importances["measure"].unique()))
    averaged = relative(importances).groupby(["kind", "measure", "variable"])[list(SPREAD)].mean().reset_index()
    bars = importance_by_layer_kind(importances).set_index(["kind", "measure"])
    found = kinds(importances)
    size = (1.7 + 1.8 * len(found), 1.3 + 0.3 * len(measures))
    figure, axes = panels(1, len(found), size, ax, sharex=True, sharey=True)
    for axis, kind in zip(axes[0], found, strict=True):
        for place, measure in enumerate(reversed(measures)):
            points = averaged[(averaged["kind"] == kind) & (averaged["measure"] == measure)]
            if len(points):
                _spread(axis, place, points, bars.loc[(kind, measure)], colours([measure])[measure])
        axis.axvline(1, color="#444444", linewidth=0.8, zorder=1)
        axis.set_title(kind)
    axes[0, 0].set_xscale("log")
    axes[0, 0].set_yticks(range(len(measures)), list(reversed(measures)))
    label_outside(axes, "importance / model's mean", "")
    seeds = count(importances["seed"].nunique(), "seeds")
    entitle(figure, axes, f"{run}: importance of weights by kind of layer, mean of {seeds}", ax)
    for look in SPREAD.values():
        axes[0, 0].plot([], [], color="#444444", linestyle="none", markersize=4, **look)
    share_legend(figure, axes, ax)
    return figure


def _spread(axis, place, points, bar, colour):
    axis.plot([bar["mean_ratio"], bar["largest_ratio"]], [place, place], color=colour, linewidth=3, alpha=0.25)
    for column, look in SPREAD.items():
        values = points[column][points[column] > 0]
        look = look | {"label": None, "color": colour, "linestyle": "none", "markersize": 3, "markeredgewidth": 0.7}
        axis.plot(values, np.full(len(values), place), **look)
