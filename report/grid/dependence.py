"""Whether an ordering depends on a choice of the study: on the calibration data, say, or on what replaces a weight."""

import itertools
from typing import NamedTuple

import numpy as np
import pandas as pd

from report.grid.blocks import groups
from report.grid.ordering import compare_pairs
from report.grid.scores import scored
from report.grid.sentences import place
from report.statistics.intervals import student_t
from report.statistics.tests import holm, wilcoxon
from report.statistics.words import count, p_value
from report.tables.columns import FACETS, parts, words
from report.tables.networks import TRIAL, by_network


class Dependence(NamedTuple):
    """How orderings under several values of a choice compare; printing it gives the sentences.

    Attributes:
        table: DataFrame. One row for each group and pair of values, `one` and `other`: `blocks` and `measures` that
            both have; `tau`, Kendall's tau-b of the mean scores, and `tau_mean` with `_low` and `_high`, that within
            each block, averaged, with its 95 % Student's t interval; `difference`, the mean score under `one` minus
            that under `other`, over measures, likewise; and of so many `pairs` of measures how many are told apart
            under both (`told_apart`) and how many of these the other way round (`opposite`).
        measures: DataFrame. One row for each of these and each measure: its `difference` with interval, and `p` of the
            signed-rank test, with `p_holm` adjusted over the measures.
        sentences: list of str. One a row of `table`.
    """

    table: pd.DataFrame
    measures: pd.DataFrame
    sentences: list

    def __str__(self):
        return "\n".join(self.sentences)


def dependence(
    frame, axis="calibration", by=("task", "model", "level"), score="area", *, epoch=None, margin=0.01, alpha=0.05
):
    """Compare the orderings under each two values of a choice, on the same networks.

    Args:
        frame: DataFrame of `report.read` or of `report.scores`.
        axis: str. The choice: "calibration", "repair", "fill", "scope", "reduction" or "level".
        by, score, epoch, margin, alpha: as for `report.order`.

    Returns:
        Dependence.

    Raises:
        ValueError: another axis, or one that has fewer than two values on common networks.

    Example:
        >>> print(report.dependence(report.read("runs"), "calibration"))      # doctest: +SKIP

    References:
        Kendall, A new measure of rank correlation, 1938.
    """
    if axis not in FACETS[2:]:
        raise ValueError(f"Expected an axis among {', '.join(FACETS[2:])}, received {axis!r}.")
    by = [*(name for name in by if name != axis), axis]
    options = {"against": None, "margin": margin, "alpha": alpha, "anytime": False}
    table, measures = [], []
    for where, found in _apart(groups(frame, by, score, epoch), axis):
        for one, other in itertools.combinations(found, 2):
            both = [group.blocks.columns for group in (one, other)], [group.blocks.index for group in (one, other)]
            columns, blocks = (first.intersection(second) for first, second in both)
            if len(columns) > 1 and len(blocks):
                pair = [group._replace(blocks=group.blocks.loc[blocks, columns]) for group in (one, other)]
                about = where | {"one": one.where[axis], "other": other.where[axis]}
                table.append(about | _compared(pair, score, options))
                measures += [about | row for row in _by_measure(pair)]
    if not table:
        raise ValueError(
            f"Expected two values of {axis} or more, with the same networks and measures, received fewer: "
            f"{', '.join(map(str, frame[axis].dropna().unique())) if axis in frame else 'none'}."
        )
    table = pd.DataFrame(table)
    measures = pd.DataFrame(measures)
    names = list(table.columns[: table.columns.get_loc("one")])
    most = measures.loc[measures.groupby([*names, "one", "other"], dropna=False)["difference"].transform(_is_largest)]
    sentences = [
        _sentence(row, largest, names, axis, score)
        for (_, row), (_, largest) in zip(table.iterrows(), most.iterrows(), strict=True)
    ]
    return Dependence(table, measures, sentences)


def choices(frame):
    """List the axes of `dependence` of which a network has several values.

    Args:
        frame: DataFrame of `report.read` or of `report.scores`.

    Returns:
        list of str. Some of "reduction", "scope", "fill" and "calibration".
    """
    of_a_network = by_network(scored(frame)).groupby(TRIAL, dropna=False)
    return [name for name in FACETS[3:] if (of_a_network[name].nunique(dropna=False) > 1).any()]


def _apart(found, axis):
    """Put together the groups that differ in the axis alone: list of (where, groups)."""
    frame = pd.DataFrame([{k: v for k, v in group.where.items() if k != axis} for group in found])
    names = list(frame)
    return [
        (dict(zip(names, values, strict=True)), [found[place] for place in part.index])
        for values, part in parts(frame.assign(_=0), names)
    ]


def _compared(pair, score, options):
    from scipy.stats import kendalltau

    one, other = (group.blocks for group in pair)
    taus = [kendalltau(a, b).statistic for a, b in zip(one.to_numpy(), other.to_numpy(), strict=True)]
    found = {"blocks": len(one), "blocks_are": pair[0].kind, "measures": one.shape[1]}
    found["tau"] = kendalltau(one.mean(), other.mean()).statistic
    within = {name: np.clip(value, -1, 1) for name, value in _interval("tau_mean", taus).items()}  # no tau is beyond
    found |= within | _interval("difference", (one - other).mean(axis=1))
    told = [_told(group, score, options) if len(one) > 1 else set() for group in pair]
    backwards = {(worse, better) for better, worse in told[1]}
    found |= {"pairs": one.shape[1] * (one.shape[1] - 1) // 2, "opposite": len(told[0] & backwards)}
    return found | {"told_apart": len(told[0] & (told[1] | backwards))}


def _told(group, score, options):
    pairs = compare_pairs(group, score, options)
    return {(pair["better"], pair["worse"]) for pair in pairs if pair["verdict"].startswith("better")}


def _by_measure(pair):
    differences = pair[0].blocks - pair[1].blocks
    p = wilcoxon(differences.to_numpy().T)
    adjusted = holm(p)
    return [
        {"measure": name, **_interval("difference", differences[name]), "p": p[number], "p_holm": adjusted[number]}
        for number, name in enumerate(differences)
    ]


def _interval(name, values):
    return dict(zip((name, f"{name}_low", f"{name}_high"), student_t(values), strict=True))


def _is_largest(values):
    return np.arange(len(values)) == int(np.argmax(np.abs(values.to_numpy())))


def _sentence(row, most, names, axis, score):
    score = score.replace("_", " ")
    here = place({name: row[name] for name in names})
    blocks = count(row["blocks"], row["blocks_are"])
    means = "" if np.isnan(row["tau_mean"]) else f", within each {_bracketed(row, 'tau_mean', 2)} on average"
    if not row["told_apart"]:
        answer = "no pair is told apart under both"
    elif row["opposite"]:
        answer = (
            f"{row['opposite']} of {count(row['told_apart'], 'pairs')} told apart under both are the other way round"
        )
    else:
        answer = f"none of {count(row['told_apart'], 'pairs')} told apart under both is the other way round"
    return (
        f"{here}, the orders of {count(row['measures'], 'measures')} with {words(axis, row['one'])} and with "
        f"{words(axis, row['other'])}: Kendall's tau {row['tau']:.2f}{means} ({blocks}); {answer}; the {score} differs "
        f"by {_bracketed(row, 'difference', 3)} on average, most for {most['measure']}: "
        f"{_bracketed(most, 'difference', 3)}, {p_value(most['p_holm'])}"
    )


def _bracketed(row, name, digits):
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    interval = "" if np.isnan(low) else f" [{low:.{digits}f}, {high:.{digits}f}]"
    return f"{row[name]:.{digits}f}{interval}"
