"""Which measure is better, on what, and how sure that is."""

import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd

from report.grid import layout
from report.grid import sentences as wording
from report.grid.blocks import groups
from report.grid.scores import SCORES, count_flags, scored
from report.statistics.evidence import e_holm, equality_evidence, largest_evidence, median_sequence, sign_evidence
from report.statistics.intervals import student_t
from report.statistics.tests import (
    chain,
    direction,
    friedman,
    hodges_lehmann,
    holm,
    improvement,
    mean_ranks,
    rank_stability,
    sign_test,
    smallest_p,
    wilcoxon,
)
from report.tables.columns import CELL

SETTLED = ("better", "better, within the margin", "practically equal")
"""The verdicts on a pair that is settled: its measures are told apart, or are practically equal, or both."""


@dataclass(frozen=True)
class Ordering:
    """An ordering; `table, sentences = report.order(frame)` takes it apart.

    Attributes:
        table: DataFrame. One row for each group and measure, the best first: `rank`, `measure`, `blocks`, the mean
            score with its 95 % Student's t interval within 0 and 1 (`_low`, `_high`), `median`, `mean_rank`, `p_best`
            (how often its mean is the best when blocks are drawn anew), `rank_low` and `rank_high` (95 % of the means'
            ranks then), and `flags`. Measures that are left out come last, without numbers.
        sentences: list of str. For each group its order, the neighbours in it, and every doubt; at last the method.
        summary: str. The orders without single pairs, in lines of at most 120 characters: on each line measures of
            which none is better than its neighbour, and below every doubt.
        pairs: DataFrame. One row for each group and pair of measures: `better` and `worse` by the signed ranks of the
            differences, whose Hodges-Lehmann estimate is `difference`, with its 95 % interval (`low`, `high`) or, where
            the run may be looked at at any time, the 95 % confidence sequence of the median; the `mean_difference` and
            the `median_difference`, below 0 where they disagree with it; `improvement` (how often the better one is
            better); `p` of the signed-rank test and `p_sign` of the sign test, each with its adjusted `_holm`; the
            e-values `e` of the signs and `e_equal` of a median within the margin, likewise; and the `verdict`.
        tests: DataFrame. One row a group: `blocks`, `blocks_are`, `measures`, `anytime` (whether its verdicts hold
            whenever one looks), `chi2`, `f`, `df1`, `df2`, `p`, and `e`, the mean of the pairs' e-values.
        flagged: DataFrame. Every curve with a flag, and whether it was `counted`.
        score: str. What was compared.
        alpha: float. The level of the tests.
    """

    table: pd.DataFrame
    sentences: list
    summary: str
    pairs: pd.DataFrame
    tests: pd.DataFrame
    flagged: pd.DataFrame
    score: str
    alpha: float

    def __iter__(self):
        return iter((self.table, self.sentences))

    def __str__(self):
        return "\n".join(self.sentences)

    @property
    def told_apart(self):
        """Which groups of `tests` differ, with enough blocks for a test to tell two measures apart: Series of bool."""
        tests = self.tests.reindex(columns=[*self.tests.columns, *({"chi2"} - set(self.tests.columns))])
        pairs = tests["measures"] * (tests["measures"] - 1) // 2
        ways = zip(tests["blocks"], pairs, tests["anytime"], strict=True)
        least = [_least(blocks, number, anytime) for blocks, number, anytime in ways]
        return (tests["measures"] > 1) & (tests["chi2"] > 0) & (np.array(least) <= self.alpha)

    @property
    def settled(self):
        """How many pairs are settled, by verdict, and of how many: (int, int)."""
        verdicts = self.pairs["verdict"] if len(self.pairs) else pd.Series(dtype=object)
        return int(verdicts.isin(SETTLED).sum()), len(verdicts)

    @property
    def drawable(self):
        """Whether `report.critical_difference` has a group to draw."""
        return bool(self.told_apart.any())


def order(
    frame,
    by=("task", "model", "level"),
    score="area",
    *,
    epoch=None,
    against=None,
    anytime=None,
    margin=0.01,
    alpha=0.05,
    resamples=4999,
    seed=0,
):
    """Order the measures, with tests.

    One trained network is one block, in whatever files it stands, and every measure scores the same networks, so
    everything is paired. Where a
    group has several tasks (because "task" is not in `by`), tasks are the blocks, each the mean of its networks, and
    the statement is one over tasks; likewise for architectures on one task.

    The Friedman test with the Iman-Davenport correction asks whether the measures differ at all; exact Wilcoxon
    signed-rank tests of pairs, adjusted by Holm within a group, ask which do. They test whether the paired differences
    are symmetric about 0, and which measure is the better of two is the sign of what they test, the sum of the signed
    ranks, in the order as in every pair. Neighbours in the order agree with it; the mean decides between those that it
    does not tell apart at all, and which stands where otherwise several orders are left. Two measures are practically
    equal if the Hodges-Lehmann interval of their difference, which belongs to that test, lies within the margin,
    whatever the test says.

    Those tests are for a number of networks that was chosen beforehand. Whoever looks while a run grows, and stops it
    when it looks decided, needs verdicts that hold at every look: with `anytime`, pairs are told apart by the e-values
    of their signs, and are practically equal by those of a median within the margin, each adjusted by e-Holm; see
    `report.statistics.evidence`. The better one is still who the signed ranks favour; where the signs are on the other
    side, the pair is not told apart.

    Args:
        frame: DataFrame of `report.read` or of `report.scores`.
        by: list of str. What is ordered apart: of `report.tables.columns.FACETS`, "epoch" and "run". What is not in
            it is averaged within each network, except reduction, scope and fill, which are always kept apart.
        score: str. "area", "accuracy_area", "tolerance" or "accuracy_tolerance".
        epoch: int or None. The checkpoint. Defaults, unless "epoch" is in `by`, to the last of the runs; where these
            differ, to the one at which most networks are, of equally many the latest.
        against: str or None. Compare only with this measure, which needs fewer blocks than all pairs.
        anytime: bool or None. Whether verdicts are to hold at every look. None: where blocks are networks or splits of
            a run that is still growing, or that has grown until it was settled, as far as the frame says
            (`report.read`); True needs blocks that do not change once they are there.
        margin: float. Largest difference of scores that does not matter.
        alpha: float. Level of the tests.
        resamples: int. Bootstrap replicates, for how stable ranks are.
        seed: int. Of the bootstrap.

    Returns:
        Ordering.

    Raises:
        ValueError: an unknown column, score, epoch or measure; an `anytime` that is none of these.

    Example:
        >>> print(report.order(report.read("data/mnist-cnn.csv")))   # doctest: +SKIP
        on mnist/cnn/unit, fisher > magnitude (difference 0.031 [0.022, 0.040], p = 0.002, 20 networks)
    """
    frame = scored(frame)
    if against is not None and against not in set(frame["measure"]):
        raise ValueError(
            f"Expected a measure among {', '.join(sorted(set(frame['measure'])))} in against, received {against!r}."
        )
    if anytime not in (None, True, False):
        raise ValueError(
            f"Expected anytime to be True, False or None (True where a run is growing), received {anytime!r}."
        )
    options = {"against": against, "margin": margin, "alpha": alpha, "resamples": resamples, "seed": seed}
    found = groups(frame, by, score, epoch)
    used = [_holds_at_every_look(group, anytime) for group in found]
    ordered = [_order_group(g, score, options | {"anytime": at}) for g, at in zip(found, used, strict=True)]
    tables, sentences, pairs, tests, flagged = zip(*ordered, strict=True)
    full, short = (list(itertools.chain(*lists)) for lists in zip(*sentences, strict=True))
    methods = wording.of_methods(options, used)
    return Ordering(
        pd.concat(tables, ignore_index=True),
        [*full, *methods],
        "\n".join([*short, *itertools.chain(*map(layout.of_method, methods))]),
        pd.concat(pairs, ignore_index=True),
        pd.DataFrame(list(tests)),
        pd.concat(flagged, ignore_index=True),
        score,
        alpha,
    )


def _least(blocks, pairs, anytime):
    """Return the least level at which one of so many pairs can be told apart."""
    return 1 / largest_evidence(blocks, max(pairs, 1)) if anytime else smallest_p(blocks, pairs)


def settled(frame, by=("task", "model", "level"), score="area", *, epoch=None, margin=0.01, alpha=0.05, anytime=True):
    """Count the pairs that are settled: told apart or practically equal, as `order` with `anytime` says, or both.

    Returns:
        (settled, pairs): int, over all groups.
    """
    options = {"against": None, "margin": margin, "alpha": alpha, "anytime": anytime}
    found = [group for group in groups(frame, by, score, epoch) if min(group.blocks.shape) > 1]
    verdicts = [pair["verdict"] for group in found for pair in compare_pairs(group, score, options)]
    return sum(verdict in SETTLED for verdict in verdicts), len(verdicts)


def _holds_at_every_look(group, anytime):
    """Say whether a group's verdicts are to: the mean of a task's networks is no block that stays as it is."""
    return is_growing(group) and group.kind in ("networks", "splits") if anytime is None else bool(anytime)


def is_growing(group):
    """Say whether rows of a group are of a run that was looked at while it grew."""
    return "anytime" in group.cells and bool(group.cells["anytime"].any())


def _order_group(group, score, options):
    compared = group.blocks.shape[0] > 0 and group.blocks.shape[1] > 0
    table = _table(group, score, options) if compared else _aside_rows(group)
    enough = group.blocks.shape[0] > 1 and group.blocks.shape[1] > 1
    pairs = compare_pairs(group, score, options) if enough else []
    test = _test(group, score) | {"e": float(np.mean([pair["e"] for pair in pairs]))} if enough else {}
    names = list(table["measure"][table["rank"].notna()]) if "rank" in table else []
    doubts = wording.of_doubts(group, _pair_count(group, options["against"]), options)
    if is_growing(group) and not options["anytime"]:
        doubts.append(wording.of_looks(group))
    doubts += wording.of_directions(group, names, pairs)
    order_first = _sentences(group, names, pairs, test, score, options)
    known = {frozenset((pair["better"], pair["worse"])): pair for pair in pairs}
    signs = [_sign(known.get(frozenset(two))) for two in itertools.pairwise(names)]
    short = layout.of_group(group, names, signs, test, score, doubts, options["anytime"])
    sentences = [*order_first, *doubts], short
    size = {"blocks": len(group.blocks), "blocks_are": group.kind, "measures": group.blocks.shape[1]}
    size["anytime"] = options["anytime"]
    where = pd.DataFrame([group.where | pair for pair in pairs])
    return table, sentences, where, group.where | size | test, _flagged(group, score)


def _table(group, score, options):
    """Make the rows of a group, the best first."""
    cost = group.blocks.to_numpy() * SCORES[score]
    best, low, high = rank_stability(cost, options["resamples"], options["seed"])
    rows = []
    for position, measure in enumerate(group.blocks.columns):
        mean, mean_low, mean_high = student_t(group.blocks[measure])
        numbers = {
            "measure": measure,
            "blocks": len(group.blocks),
            score: mean,
            f"{score}_low": max(mean_low, 0.0),  # no score is beyond 0 and 1; a NaN stays one
            f"{score}_high": min(mean_high, 1.0),
            "median": group.blocks[measure].median(),
            "mean_rank": mean_ranks(cost)[position],
            "p_best": best[position],
            "rank_low": low[position],
            "rank_high": high[position],
            "flags": count_flags(group.cells[group.cells["measure"] == measure]),
        }
        rows.append(numbers)
    order, ranks = chain(cost)
    rows = pd.DataFrame([rows[place] for place in order])
    rows.insert(0, "rank", ranks)
    rows = pd.concat([rows, _aside_rows(group)[["measure", "blocks", "flags"]]], ignore_index=True)
    return _labelled(rows, group)


def _aside_rows(group):
    """Make the rows of measures without a place: those set aside, or all where no block is complete."""
    measures = [*([] if len(group.blocks) else group.blocks.columns), *group.aside]
    cells = {measure: group.cells[group.cells["measure"] == measure] for measure in measures}
    flags = [count_flags(found) or group.aside.get(measure, "") for measure, found in cells.items()]
    return _labelled(pd.DataFrame({"measure": list(cells), "blocks": 0, "flags": flags}), group)


def _labelled(rows, group):
    return pd.concat([pd.DataFrame([group.where] * len(rows), index=rows.index), rows], axis=1)


def _test(group, score):
    chi2, f, (df1, df2), p = friedman(group.blocks.to_numpy() * SCORES[score])
    return {"chi2": chi2, "f": f, "df1": df1, "df2": df2, "p": p}


def _compared(group, against):
    """List the pairs of measures to test: all, or those with one of them."""
    found = itertools.combinations(group.blocks.columns, 2)
    return [pair for pair in found if against is None or against in pair]


def gains(group, score, against=None):
    """Subtract measures in pairs, the better by the signed ranks first (by the mean, where those say nothing).

    Returns:
        better, worse: lists of str.
        gain: array (pairs, blocks). Above 0 where the better one is better.
    """
    compared = _compared(group, against)
    one, other = (group.blocks[[pair[side] for pair in compared]].to_numpy().T for side in (0, 1))
    gain = SCORES[score] * (other - one)
    towards = direction(gain)
    turned = (towards < 0) | ((towards == 0) & (gain.mean(-1).round(12) < 0))
    gain[turned] *= -1
    better, worse = ([pair[int(t) ^ side] for pair, t in zip(compared, turned, strict=True)] for side in (0, 1))
    return better, worse, gain


def _pair_count(group, against):
    return max(1, len(_compared(group, against)))


def compare_pairs(group, score, options):
    """Compare pairs of measures, as `gains` gives them.

    Returns:
        list of dict, one for each pair.
    """
    better, worse, gain = gains(group, score, options["against"])
    difference, low, high = hodges_lehmann(gain)
    equal = (-options["margin"] <= low) & (high <= options["margin"])
    if options["anytime"]:
        low, high = median_sequence(gain)
    p, p_sign = wilcoxon(gain), sign_test(gain)
    e, e_equal = sign_evidence(gain), equality_evidence(gain, options["margin"])
    columns = {
        "better": better,
        "worse": worse,
        "difference": difference,
        "low": low,
        "high": high,
        "mean_difference": gain.mean(-1),
        "median_difference": np.median(gain, axis=-1),
        "improvement": improvement(gain),
        "p": p,
        "p_holm": holm(p),
        "p_sign": p_sign,
        "p_sign_holm": holm(p_sign),
        "e": e,
        "e_holm": e_holm(e),
        "e_equal": e_equal,
        "e_equal_holm": e_holm(e_equal),
    }
    told = columns["p_holm"] <= options["alpha"]
    if options["anytime"]:
        enough = 1 / options["alpha"]
        told = (columns["e_holm"] >= enough) & (columns["improvement"] > 0.5)
        equal = columns["e_equal_holm"] >= enough
    columns["verdict"] = [_verdict(*said) for said in zip(told, equal, strict=True)]
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _verdict(told, equal):
    if told:
        return "better, within the margin" if equal else "better"
    return "practically equal" if equal else "not told apart"


def _sentences(group, names, pairs, test, score, options):
    if not test:
        return []
    known = {frozenset((pair["better"], pair["worse"])): pair for pair in pairs}
    neighbours = [known.get(frozenset(two)) for two in itertools.pairwise(names)]
    signs = [_sign(pair) for pair in neighbours]
    told = neighbours if all(neighbours) else pairs
    return [
        wording.of_order(group, names, signs, test, score, options["anytime"]),
        *(wording.of_pair(group, pair, options["margin"], options["anytime"]) for pair in told),
    ]


def _sign(pair):
    """Return what stands between two neighbours in an order: a comma where they were not compared."""
    signs = {"better": " > ", "better, within the margin": " = ", "practically equal": " = ", "not told apart": " ~ "}
    return signs[pair["verdict"]] if pair else ", "


def _flagged(group, score):
    """List the curves of a group that have a flag, and whether they count in the ordering."""
    cells = group.cells[group.cells["flags"] != ""]
    counted = cells[score].notna() & ~cells["measure"].isin(list(group.aside))
    return cells[[*CELL, "tie_fraction", "loss_end", "chance_loss", "flags"]].assign(counted=counted)
