"""One number for a loss-threshold curve: how early the loss is lost, and how much can be replaced before it is."""

import numpy as np
import pandas as pd

from report.tables.columns import CELL, FACETS, complete, parts

SCORES = {"area": 1, "accuracy_area": 1, "tolerance": -1, "accuracy_tolerance": -1}
"""The scores, and which direction is better: 1 where smaller is, -1 where larger is."""

DIRECTIONS = {1: "smaller is better", -1: "larger is better"}

TIES = 0.5
"""Above this fraction of weights with an equal importance, a seeded shuffle decides more than the measure does."""

FRACTIONS = 0.05
"""Above this difference between threshold and replaced fraction, curves are compared at unequal fractions."""

REACHED = 0.1
"""The loss at threshold 1 may miss chance by this part of the way there."""

MISSES_CHANCE = "misses chance"
MEASURED_END = "measured end"
SMALL_RISE = "small rise"
INCOMPLETE = "incomplete"
FLAGS = {
    "nan loss": "some losses are not numbers; they count as chance",
    "failed": "a cell failed; the curve has no score",
    INCOMPLETE: "thresholds are missing that the run has elsewhere; the curve has no score",
    "no threshold 0": "the loss before replacing is not there; the curve has no score",
    "untrained": "the loss before replacing is not even 5 % below chance; the curve has no score",
    "chance unknown": "chance is not recorded, and the losses at threshold 1 do not agree; the curve has no score",
    "chance estimated": "chance is not recorded; the usual loss at threshold 1 stands for it",
    MISSES_CHANCE: "the loss at threshold 1 is not chance: not everything was replaced, so the score is not comparable",
    MEASURED_END: "everything was replaced, and the loss there is better than chance: scores go by that loss",
    SMALL_RISE: "replacing everything raises the loss by no more than the standard error of the rise, too little to "
    "order by; the curve has no score",
    "ties": f"more than {TIES:.0%} of the weights share their importance with others",
    "unequal fractions": f"the replaced fraction differs from the threshold by more than {FRACTIONS}",
}
"""What the words in the column `flags` mean."""


def scores(frame, ties=TIES, fractions=FRACTIONS):
    """Score every curve: one row for each network x epoch x measure x level x reduction x scope x fill.

    With loss(t) the validation loss at threshold t and end the loss of guessing,

        lost(t)   = clip((loss(t) - loss(0)) / (end - loss(0)), 0, 1)
        area      = mean of lost(t) over thresholds (trapezoids, so the spacing may be uneven)
        tolerance = the largest t for which lost(s) <= 0.1 for every s <= t

    so an area of 0 means that nothing is lost until everything is replaced and 1 that all is lost at once (smaller is
    better); larger tolerances are better. Where everything was replaced and the loss is still better than chance, as
    with weights that are rounded, end is that loss, loss(1), and the curve is flagged. `accuracy_area` is the same for
    the accuracy, and `accuracy_tolerance` the largest t up to which at most one point (0.01) of accuracy is lost; both
    are missing for regression. Losses that are not finite count as chance.

    Args:
        frame: DataFrame of `report.read`, or of a grid.
        ties: float. Tie fraction above which a curve is flagged.
        fractions: float. Largest difference between threshold and replaced fraction that is not flagged.

    Returns:
        DataFrame with the columns of `report.tables.columns.CELL`, the scores of `SCORES`, `tie_fraction` (largest over
        thresholds), `network`, `fold`, `anytime`, `examples`, `thresholds` (how many), `loss_start` and `loss_end` (at
        thresholds 0 and 1), `chance_loss` and `flags` (words of `FLAGS` joined by "; ", empty where all is well).
    """
    ordered = with_chance(complete(frame)).sort_values([*CELL, "threshold"], kind="stable").reset_index(drop=True)
    if ordered.empty:
        raise ValueError("Expected at least one row to score, received none. Choose other rows, or wait for the run.")
    ordered["grid"] = ordered.groupby("run", dropna=False)["threshold"].transform("nunique")
    number = ordered.groupby(CELL, dropna=False, sort=False).ngroup().to_numpy()
    starts = np.flatnonzero(np.diff(number, prepend=-1))
    columns = {name: ordered[name].to_numpy() for name in ordered.columns.difference([*CELL, "source"])}
    rows = []
    for start, stop in zip(starts, [*starts[1:], len(ordered)], strict=True):
        rows.append(_score({name: values[start:stop] for name, values in columns.items()}, ties, fractions))
    return pd.concat([ordered.loc[starts, CELL].reset_index(drop=True), pd.DataFrame(rows)], axis=1)


def with_chance(frame):
    """Fill in a missing chance loss by what most measures lose when everything is replaced.

    Replacing every weight leaves a network that guesses, so its loss is chance whatever the measure. Where at least
    three measures are there and more than half of them agree within 2 % on their (median) loss at threshold 1, that
    is chance; otherwise it stays missing. `chance_estimated` tells the rows so filled. Rows may change their order.
    """
    if frame["chance_loss"].notna().all():
        return frame.assign(chance_estimated=False)
    usual = [part.assign(usual=_usual_end(part)) for _, part in parts(frame, ["run", "task", "model"])]
    frame = pd.concat(usual, ignore_index=True) if usual else frame.assign(usual=np.nan)
    estimated = frame["chance_loss"].isna()
    frame = frame.assign(chance_loss=frame["chance_loss"].fillna(frame["usual"]))
    return frame.assign(chance_estimated=estimated & frame["chance_loss"].notna())


def _usual_end(part):
    ends = part[part["threshold"] == 1].groupby("measure")["validation_loss"].median()
    usual = ends.median()
    agreed = len(ends) >= 3 and (np.abs(ends - usual) <= 0.02 * usual).mean() > 0.5
    return usual if agreed else np.nan


def area(thresholds, lost):
    """Average a curve over its thresholds by trapezoids.

    Args:
        thresholds: array (thresholds,). Increasing.
        lost: array (thresholds,). Share lost, 0 to 1.

    Returns:
        float, 0 to 1; NaN for fewer than two thresholds.

    Example:
        >>> float(area(np.array([0, 0.5, 1]), np.array([0, 0, 1])))
        0.25
    """
    if len(thresholds) < 2:
        return np.nan
    return np.sum(np.diff(thresholds) * (lost[1:] + lost[:-1]) / 2) / (thresholds[-1] - thresholds[0])


def tolerance(thresholds, good):
    """Find the largest threshold up to which everything is good.

    Args:
        thresholds: array (thresholds,). Increasing.
        good: bool array (thresholds,).

    Returns:
        float; NaN if already the first is not good.
    """
    first_bad = len(good) if good.all() else int(np.argmin(good))
    return thresholds[first_bad - 1] if first_bad else np.nan


def share_lost(values, chance):
    """Say how much of the way from the first value to chance each value has gone, clipped to 0 and 1.

    Args:
        values: array (thresholds,). Losses or accuracies, the first before replacing; NaN counts as chance.
        chance: float. On either side of the first value.
    """
    way = (values - values[0]) / (chance - values[0])
    return np.clip(np.where(np.isnan(way), 1.0, way), 0, 1)


def _score(cell, ties, fractions):
    """Score one curve, given as arrays (thresholds,) by column."""
    thresholds, loss, chance = cell["threshold"], cell["validation_loss"], cell["chance_loss"][0]
    flags = _flags(cell, ties, fractions)
    found = {name: np.nan for name in SCORES}
    if not any("no score" in FLAGS[flag] for flag in flags):
        measured = MEASURED_END in flags
        lost = share_lost(loss, loss[-1] if measured else chance)
        found |= {"area": area(thresholds, lost), "tolerance": tolerance(thresholds, lost <= 0.1 + 1e-9)}
        found |= _accuracy_scores(cell, measured)
    return {
        **found,
        "tie_fraction": _largest(cell["tie_fraction"]),
        "network": cell["network"][0],
        "fold": cell["fold"][0],
        "anytime": bool(cell["anytime"].any()),
        "examples": _largest(cell["examples"]),
        "thresholds": len(thresholds),
        "loss_start": loss[0] if thresholds[0] == 0 else np.nan,
        "loss_end": loss[-1] if thresholds[-1] == 1 else np.nan,
        "chance_loss": chance,
        "flags": "; ".join(flags),
    }


def _accuracy_scores(cell, measured):
    """Score the accuracy; a task without a chance accuracy, such as a regression, has none of these scores.

    `measured`: whether the end is what was measured at threshold 1, instead of chance.
    """
    accuracy, chance = cell["validation_accuracy"], cell["chance_accuracy"][0]
    end = accuracy[-1] if measured else chance
    if np.isnan(chance) or not accuracy[0] > end:
        return {}
    accuracy = np.where(np.isfinite(cell["validation_loss"]), accuracy, np.nan)
    good = accuracy >= accuracy[0] - 0.01 - 1e-9
    return {
        "accuracy_area": area(cell["threshold"], share_lost(accuracy, end)),
        "accuracy_tolerance": tolerance(cell["threshold"], good),
    }


def _flags(cell, ties, fractions):
    thresholds, loss, chance = cell["threshold"], cell["validation_loss"], cell["chance_loss"][0]
    unreplaced = np.abs(cell["replaced_fraction"] - thresholds)
    misses, everything = _misses_chance(cell), bool(cell["replaced_fraction"][-1] > 1 - 1e-9)
    raised = {
        "nan loss": not np.isfinite(loss).all(),
        "failed": not all(status == "ok" or str(status).startswith("validation loss is") for status in cell["status"]),
        INCOMPLETE: len(thresholds) < cell["grid"][0],
        "no threshold 0": thresholds[0] != 0 or not np.isfinite(loss[0]),
        "untrained": loss[0] >= 0.95 * chance,
        "chance unknown": np.isnan(chance),
        "chance estimated": cell["chance_estimated"][0],
        MISSES_CHANCE: misses and not everything,
        MEASURED_END: misses and everything,
        SMALL_RISE: misses and everything and loss[-1] - loss[0] <= _error_of_rise(cell),
        "ties": _largest(cell["tie_fraction"]) > ties,
        "unequal fractions": _largest(unreplaced) > fractions,
    }
    return [name for name in FLAGS if raised[name]]


def _misses_chance(cell):
    """Tell whether the loss at threshold 1 is not what guessing gives.

    Exceeding chance counts only where the replaced fraction is not recorded: a fully replaced network with, say, its
    biases kept may be worse than guessing.
    """
    loss, chance = cell["validation_loss"], cell["chance_loss"][0]
    if cell["threshold"][-1] != 1 or not loss[0] < chance:
        return False
    way = (loss[-1] - loss[0]) / (chance - loss[0])
    return bool(way < 1 - REACHED or (way > 1 + REACHED and np.isnan(cell["replaced_fraction"][-1])))


def _error_of_rise(cell):
    """Return the standard error of loss(1) - loss(0); 0 where it is not recorded.

    It is that of different examples: of the same ones, as these are, it is smaller, by how much is not recorded.
    """
    return float(np.hypot(*np.nan_to_num(cell["validation_loss_stderr"][[0, -1]])))


def _largest(values):
    """Return the largest value that is not missing, or NaN."""
    there = values[~np.isnan(values)]
    return there.max() if len(there) else np.nan


def count_flags(cells):
    """Join the flags of several curves, each with how many of them have it, as in "ties (3 of 10)"."""
    flags = cells["flags"].str.split("; ").explode()
    counts = flags[flags != ""].value_counts(sort=False)
    return "; ".join(f"{flag} ({count} of {len(cells)})" for flag, count in counts.items())


def is_scored(frame):
    """Tell a frame of scores from one of rows."""
    return "area" in frame.columns


def scored(frame, **options):
    """Score a frame of rows; a frame of scores is returned as it is."""
    return frame if is_scored(frame) else scores(frame, **options)


def facet_columns(frame):
    """List the columns that tell the curves of one network, epoch and measure apart, in reading order."""
    return [name for name in FACETS if name in ("task", "model", "level") or frame[name].nunique(dropna=False) > 1]
