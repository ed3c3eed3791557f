"""From scores to complete blocks: what may be compared, what was left out, and why."""

from typing import NamedTuple

import pandas as pd

from report.grid.scores import MISSES_CHANCE, SCORES, count_flags, scored
from report.tables.columns import FACETS, NETWORK, is_oracle, parts, varying
from report.tables.networks import TRIAL, at_one_checkpoint, by_network, in_one_division, once_each

NOT_THERE = "has scores at other checkpoints only"


class Group(NamedTuple):
    """What one ordering is about.

    Fields:
        where: dict of column to value, such as {"task": "mnist", "model": "cnn", "level": "unit"}.
        blocks: DataFrame (blocks, measures) of scores, none missing.
        kind: str. What a block is: "networks", "models", "tasks", or "splits" of the examples that one network is
            judged by.
        aside: dict of measure to reason: measures that have no place in the ordering.
        dropped: int. Networks left out, wholly or at a level, because a measure has no score there.
        repeated: int. Networks that several runs hold at the checkpoint.
        elsewhere: int. Networks left out because they are not there at the checkpoint at which most are.
        divided: int. Splits left out, since others of the same examples are there.
        cells: DataFrame. The rows of scores it was made of.
    """

    where: dict
    blocks: pd.DataFrame
    kind: str
    aside: dict
    dropped: int
    repeated: int
    elsewhere: int
    divided: int
    cells: pd.DataFrame


def groups(frame, by, score="area", epoch=None, oracles=False):
    """Split a frame into groups of complete blocks.

    A measure that has a comparable score on less than half of a group's networks is set aside; then a network on
    which any other has none is dropped, so that averages are never over different sets of seeds. A network is one
    block, whatever runs hold it (`report.tables.networks`), unless "run" is in `by`. A curve whose loss at threshold 1
    misses chance is not comparable. What is neither in `by` nor part of the block (levels, for example) is averaged
    within each network. Reductions, scopes, fills, calibrations and repairs are never averaged: where there are
    several, they join `by`.
    Without "epoch" in `by`, runs count at their last epoch; where these differ, at the one at which most networks are,
    of equally many the latest.

    Args:
        frame: DataFrame of `report.read` or `report.scores`.
        by: list of str. Columns of `report.tables.columns.FACETS`, "epoch" or "run".
        score: str. One of `report.grid.scores.SCORES`.
        epoch: int or None. The epoch to use instead of the last.
        oracles: bool. Whether the lines of `report.tables.columns.ORACLES` are among the measures.

    Returns:
        list of Group.
    """
    of_oracles = frame["measure"].map(is_oracle).to_numpy(bool)
    frame = frame if oracles or of_oracles.all() else frame[~of_oracles]
    frame = _at_epoch(scored(frame), by, epoch)
    frame = frame.assign(trial=0) if "run" in by else by_network(frame)
    by = complete_by(frame, by)
    if score not in SCORES:
        raise ValueError(f"Expected a score among {', '.join(SCORES)}, received {score!r}.")
    return [_group(dict(zip(by, values, strict=True)), part, score) for values, part in parts(frame, by)]


def complete_by(frame, by):
    """Check the columns to split by, and add those that must not be averaged over."""
    allowed = [*FACETS, "epoch", "run"]
    unknown = [name for name in by if name not in allowed]
    if isinstance(by, str) or unknown:
        raise ValueError(f"Expected a list of columns among {', '.join(allowed)}, received {by!r}.")
    extra = [name for name in ("reduction", "scope", "fill", "calibration", "repair") if name not in by]
    split = {name for _, part in parts(frame, list(by)) for name in varying(part, extra)}
    return [*by, *(name for name in extra if name in split)]


def _at_epoch(frame, by, epoch):
    if epoch is not None:
        chosen = frame[frame["epoch"] == epoch]
        if chosen.empty:
            known = ", ".join(f"{e:g}" for e in sorted(frame["epoch"].unique()))
            raise ValueError(f"Expected an epoch among {known}, received {epoch}.")
        return chosen
    if "epoch" in by:
        return frame
    runs = frame.groupby(["run", "task", "model"], dropna=False)["epoch"]
    return frame[frame["epoch"] == runs.transform("max")]


def block_kind(part):
    """Say what is independent in a part of a frame: tasks where there are several, then models, then networks.

    Where there is one network alone and it was judged by several splits of the examples, these are.
    """
    several = next((f"{name}s" for name in ("task", "model") if part[name].nunique(dropna=False) > 1), "networks")
    return "splits" if several == "networks" and _of_one_network(part) else several


def _of_one_network(part):
    folds = part.get("fold")
    return folds is not None and bool(folds.notna().all()) and part["network"].nunique() == 1


def _group(where, part, score):
    count = len(part[TRIAL].drop_duplicates())
    part = in_one_division(part)
    divided = count - len(part[TRIAL].drop_duplicates())
    there = part if "epoch" in where else at_one_checkpoint(part)
    elsewhere = len(part[TRIAL].drop_duplicates()) - len(there[TRIAL].drop_duplicates())
    repeated = int((there.groupby(TRIAL, dropna=False)["trial"].nunique() > 1).sum())
    gone = {name: NOT_THERE for name in sorted(set(part["measure"]) - set(there["measure"]))}
    part = once_each(there)
    kind = block_kind(part)
    comparable = part[score].mask(part["flags"].str.contains(MISSES_CHANCE, regex=False))
    network = ["task", "model", *NETWORK]
    keys = [*network, *(name for name in ("level", "epoch") if name not in where)]
    number = part.groupby(keys, dropna=False).ngroup()
    cells = part.assign(number=number, value=comparable).pivot(index="number", columns="measure", values="value")
    aside = _set_aside(cells, part, "splits" if kind == "splits" else "networks")
    kept = cells.drop(columns=list(aside))
    aside |= gone
    labels = part.assign(number=number).drop_duplicates("number").set_index("number").sort_index()
    whole = kept.notna().all(axis=1)
    dropped = len(labels[~whole].drop_duplicates(network))
    blocks = _average(kept[whole], labels[whole], kind)
    return Group(where, blocks, kind, aside, dropped, repeated, elsewhere, divided, part)


def _set_aside(cells, part, units):
    """Find the measures without a comparable score on half of the networks, with the reason."""
    reasons = {}
    for measure in cells.columns[cells.notna().mean() < 0.5]:
        found = part[part["measure"] == measure]
        why = f" ({flags})" if (flags := count_flags(found)) else ""
        scored_on = f"has a score on only {cells[measure].notna().sum()} of {len(cells)} {units}{why}"
        reasons[measure] = MISSES_CHANCE if found["flags"].str.contains(MISSES_CHANCE, regex=False).any() else scored_on
    return reasons


def _average(complete, labels, kind):
    """Average cells into splits, these into networks, models and tasks, each step weighing its parts equally."""
    steps = [["task", "model", *NETWORK]]
    if kind != "splits" and "fold" in labels and labels["fold"].notna().any():
        alone = labels["network"].where(labels["fold"].notna(), labels["run"].astype(str) + labels["seed"].astype(str))
        labels = labels.assign(whole=alone)
        steps += [["task", "model", "whole"]]
    if kind not in ("networks", "splits"):
        steps += [["task", "model"]] + ([["task"]] if kind == "tasks" else [])
    for keys in steps:
        group = labels.groupby(keys, dropna=False, sort=True).ngroup()
        complete = complete.groupby(group).mean()
        labels = labels.assign(group=group).drop_duplicates("group").set_index("group").loc[complete.index]
    names = NETWORK if kind in ("networks", "splits") else [kind.removesuffix("s")]
    complete.index = pd.MultiIndex.from_frame(labels[names]) if len(names) > 1 else pd.Index(labels[names[0]])
    return complete
