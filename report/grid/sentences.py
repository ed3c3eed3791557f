"""Sentences that can be pasted into a paper."""

import itertools
import math

from report.grid.scores import DIRECTIONS, FLAGS, MISSES_CHANCE, SCORES
from report.statistics.evidence import blocks_to_settle, largest_evidence
from report.statistics.tests import blocks_needed, smallest_p
from report.statistics.words import count, e_value, p_value
from report.tables.columns import words


def place(where):
    """Say where an ordering holds, as in "on mnist/cnn/unit"; over everything, where nothing was split."""
    return "on " + "/".join(words(name, value) for name, value in where.items()) if where else "overall"


def of_pair(group, pair, margin, anytime=False):
    """Say how two measures compare, the better one first."""
    claim = {
        "better": "{better} > {worse}",
        "better, within the margin": "{better} > {worse}, but practically equal (within {margin:g})",
        "practically equal": "{better} and {worse} are practically equal (within {margin:g})",
        "not told apart": "{better} and {worse} are not told apart",
    }[pair["verdict"]]
    claim = claim.format(better=pair["better"], worse=pair["worse"], margin=margin)
    of = ", median in" if anytime else ""
    interval = "" if math.isnan(pair["low"]) else f"{of} [{pair['low']:.3f}, {pair['high']:.3f}]"
    difference = f"difference {pair['difference']:.3f}{interval}"
    mean = f", mean {pair['mean_difference']:.3f} the other way" if mean_disagrees(pair) else ""
    blocks = count(len(group.blocks), group.kind)
    return f"{place(group.where)}, {claim} ({difference}{mean}, {_strength(pair, anytime)}, {blocks})"


def _strength(pair, anytime):
    """Say how strong the evidence is for a verdict: that for equality where it is all that there is."""
    if not anytime:
        return p_value(pair["p_holm"])
    return e_value(pair["e_equal_holm" if pair["verdict"] == "practically equal" else "e_holm"])


def mean_disagrees(pair):
    """Say whether the mean of a pair's differences is on the other side than their signed ranks."""
    return round(pair["mean_difference"], 12) < 0


def of_order(group, order, signs, test, score, anytime=False):
    """Say the whole order, with the test of whether there is any."""
    chain = order[0] + "".join(f"{sign}{name}" for sign, name in zip(signs, order[1:], strict=True))
    return (
        f"{place(group.where)}, {chain} by {score} ({DIRECTIONS[SCORES[score]]}; {of_any_difference(test, anytime)}, "
        f"{count(len(group.blocks), group.kind)}; {scope(group)})"
    )


def of_any_difference(test, anytime):
    """Say whether there is any order: by evidence that may be looked at at any time, or by the Friedman test."""
    if anytime:
        return f"evidence of any difference, the mean over pairs: {e_value(test['e'])}"
    found = f"F({test['df1']}, {test['df2']}) = {test['f']:.4g}, {p_value(test['p'])}"
    return f"Friedman test: {found}"


def scope(group):
    """Say what a statement is about: the blocks decide."""
    about = {
        "splits": "a statement for this network, over splits of the examples",
        "networks": "a statement about this task and architecture",
        "models": "a statement over architectures",
    }
    return about.get(group.kind, "a statement over tasks, each the mean of its seeds")


def of_methods(options, used):
    """Say how pairs were compared, and what the signs mean.

    Args:
        options: dict.
        used: list of bool. For each group, whether its verdicts hold at every look.

    Returns:
        list of str. One sentence for each way that was used.
    """
    several = len(set(used)) > 1
    said = {False: _of_tests(options), True: _of_evidence(options)}
    where = {False: " of finished runs" if several else "", True: " of runs that are growing" if several else ""}
    return [f"Pairs{where[way]}: {said[way]}" for way in sorted(set(used))]


def _of_evidence(options):
    pairs = f"all pairs with {options['against']}" if options["against"] else "all pairs"
    return (
        f"anytime-valid, so that looking after every network and stopping when one likes raises no error. E-values of "
        f"whether a difference is as often above 0 as below, ties left out, adjusted by e-Holm for {pairs}; better is "
        f"who both the signs and the signed ranks favour, differences are Hodges-Lehmann estimates, with 95 % "
        f"confidence sequences of the median; > is better at the level {options['alpha']:g} (e of at least "
        f"{1 / options['alpha']:g}), ~ is not told apart, = is practically equal (e-values, likewise adjusted, of a "
        f"median within {options['margin']:g}). Intervals of means in the table are for a number of blocks that was "
        f"fixed beforehand"
    )


def _of_tests(options):
    pairs = f"all pairs with {options['against']}" if options["against"] else "all pairs"
    return (
        f"for a number of blocks that was fixed beforehand, exact Wilcoxon signed-rank tests of whether paired "
        f"differences are symmetric about 0, p adjusted by Holm for {pairs}; better is who the signed ranks favour, "
        f"and differences are Hodges-Lehmann estimates with 95 % intervals of the same test; > is better at the level "
        f"{options['alpha']:g}, ~ is not told apart, = is practically equal (within {options['margin']:g})"
    )


def of_directions(group, order, pairs):
    """Say where the mean disagrees with what was tested, and where a pair disagrees with the order.

    Args:
        group: Group.
        order: list of str. The measures, the best first.
        pairs: list of dict.

    Returns:
        list of str.
    """
    here, neighbours = place(group.where), {frozenset(two) for two in itertools.pairwise(order)}
    told = [pair for pair in pairs if pair["verdict"].startswith("better")]
    shown = [p for p in pairs if p in told or {p["better"], p["worse"]} in neighbours]
    against = [f"{p['better']} and {p['worse']} ({p['mean_difference']:.2g})" for p in shown if mean_disagrees(p)]
    said = [f"{here}, by the mean it is the other way round for {', '.join(against)}"] if against else []
    back = [f"{p['better']} > {p['worse']}" for p in told if order.index(p["better"]) > order.index(p["worse"])]
    return said + ([f"{here}, pairs run in a circle: the order is against {', '.join(back)}"] if back else [])


def of_looks(group):
    """Say that p-values were asked for, or are all there can be, of a run that is looked at while it grows."""
    return (
        f"{place(group.where)}, the run is growing, or has grown until it was settled, and these p-values are for a "
        "number of networks that was fixed beforehand: they are not to be read from a look at it; anytime=True, with "
        "networks as blocks, has what may be"
    )


def of_doubts(group, pairs, options):
    """Say everything that keeps an ordering from meaning what it seems to.

    Args:
        group: Group.
        pairs: int. How many pairs of measures are tested.
        options: dict. Those of `report.order`.

    Returns:
        list of str.
    """
    here, (blocks, measures), alpha = place(group.where), group.blocks.shape, options["alpha"]
    units = "splits" if group.kind == "splits" else "networks"
    doubts = [_of_aside(here, group, measure, reason) for measure, reason in group.aside.items()]
    if group.dropped:
        dropped = count(group.dropped, units)
        doubts.append(f"{here}, {dropped} left out where a measure has no score, so that all are compared on the same")
    if measures < 2:
        doubts.append(f"{here}, there is nothing to order: {count(measures, 'measures')} to compare")
    elif not blocks:
        names = ", ".join(group.blocks.columns)
        doubts.append(
            f"{here}, no {units.removesuffix('s')} has all of {names}: averages over different sets are not compared"
        )
    elif blocks < 2:
        doubts.append(f"{here}, no test is possible with {count(blocks, group.kind)}: at least 2 are needed")
    elif options["anytime"] and largest_evidence(blocks, pairs) < 1 / alpha:
        doubts.append(
            f"{here}, too few blocks to settle pairs: with {count(blocks, group.kind)} and {count(pairs, 'pairs')} no "
            f"adjusted e-value can exceed {largest_evidence(blocks, pairs):.3g}; {blocks_to_settle(pairs, alpha)} are "
            "needed, or fewer comparisons (against=a measure)"
        )
    elif not options["anytime"] and smallest_p(blocks, pairs) > alpha:
        doubts.append(
            f"{here}, too few blocks to tell pairs apart: with {count(blocks, group.kind)} and "
            f"{count(pairs, 'pairs')} no adjusted p-value can fall below {smallest_p(blocks, pairs):.3g}; "
            f"{blocks_needed(pairs, alpha)} are needed, or fewer comparisons (against=a measure)"
        )
    if group.repeated:
        doubts.append(
            f"{here}, {count(group.repeated, units)} that several runs hold count once, as the run has them that "
            "has the most measures of them, of equally many on the most examples, then at the most thresholds"
        )
    if group.elsewhere:
        epochs = ", ".join(f"{epoch:g}" for epoch in sorted(group.cells["epoch"].unique()))
        doubts.append(
            f"{here}, {count(group.elsewhere, units)} left out that are not there at epoch {epochs}, where most "
            "are; epoch=... or by=[..., 'epoch'] compares at others"
        )
    if group.divided:
        doubts.append(
            f"{here}, {count(group.divided, 'splits')} left out, for they overlap with the others, of another number "
            "of folds"
        )
    runs = group.cells["run"].nunique(dropna=False)
    if group.kind == "networks" and runs > 1:
        doubts.append(f"{here}, networks of {runs} runs are put together; by=[..., 'run'] keeps them apart")
    return [*doubts, *_of_flags(here, group)]


def power(networks, measures, alpha=0.05, kind="networks", anytime=False):
    """Say before a run whether it will be able to tell measures apart.

    Args:
        networks: int. Seeds; of one network that was trained elsewhere, folds.
        measures: int.
        alpha: float. Level of the tests of `report.order`.
        kind: str. What the blocks are: "networks" or "splits".
        anytime: bool. Whether one wants to look at every network, or to go on until pairs are settled.

    Returns:
        str.

    Example:
        >>> print(power(3, 4))
        Tests: 3 networks cannot tell 4 measures apart, whatever comes out. 8 can, or 7 if all are compared with one.
    """
    pairs = measures * (measures - 1) // 2
    if not pairs:
        return f"Tests: there is nothing to order, with {count(measures, 'measures')}."
    said = f"Tests: {count(networks, kind)} {{}} tell {measures} measures apart"
    if anytime:
        needed = [blocks_to_settle(number, alpha) for number in (pairs, measures - 1)]
        can = said.format("can" if networks >= needed[0] else "cannot")
        to_one = f", or {needed[1]} if all are compared with one" if pairs > 1 else ""
        return f"{can}, at any look. It takes {needed[0]} that agree to settle the first pair{to_one}."
    if networks > 1 and smallest_p(networks, pairs) <= alpha:
        return f"{said.format('can')}: adjusted p-values reach down to {smallest_p(networks, pairs):.2g}."
    to_one = f", or {blocks_needed(measures - 1, alpha)} if all are compared with one" if pairs > 1 else ""
    return f"{said.format('cannot')}, whatever comes out. {blocks_needed(pairs, alpha)} can{to_one}."


def _of_aside(here, group, measure, reason):
    if reason != MISSES_CHANCE:
        return f"{here}, {measure} is left out of the order: it {reason}"
    cells = group.cells[group.cells["measure"] == measure]
    cells = cells[cells["flags"].str.contains(MISSES_CHANCE, regex=False)]
    return (
        f"{here}, {measure} is left out of the order: everything was to be replaced at threshold 1, yet its loss there "
        f"is {cells['loss_end'].median():.3g} where chance is {cells['chance_loss'].median():.4g} (median of "
        f"{count(len(cells), 'curves')}), so not everything was, most likely because of equal importances"
    )


def _of_flags(here, group):
    """List what is flagged, measure by measure; misses of chance have their own sentences."""
    found = []
    for flag, meaning in FLAGS.items():
        cells = group.cells.assign(hit=group.cells["flags"].str.contains(flag, regex=False))
        hits = cells.groupby("measure")["hit"].agg(["sum", "size"])
        listed = [f"{measure} ({hit} of {size})" for measure, hit, size in hits.itertuples() if hit]
        if listed and not (flag == MISSES_CHANCE and group.aside):
            names = "all measures" if (hits["sum"] == hits["size"]).all() else ", ".join(listed)
            found.append(f"{here}, {flag}: {names}; {meaning}")
    return found
