"""Fine-tuning a language model, from the rows of its runs: what is forgotten for what is learnt.

A method is a measure with a penalty. Its frontier is what it can reach with any strength and any number of steps, so
methods are compared where they have learnt the new text equally well.
"""

import numpy as np
import pandas as pd

from report.statistics.intervals import paired_t, student_t
from report.statistics.tests import holm
from report.statistics.words import count
from report.tables.columns import parts
from report.tables.reading import find, once, parse, require, stem, tables

WHERE = ["run", "model", "old_text", "new_text"]
METHOD = ["measure", "penalty"]
CELL = [*METHOD, "strength", "seed"]
ROW = ["run", *CELL, "step"]
LOSSES = ["old_loss", "new_loss"]
PERPLEXITIES = ["old_perplexity", "new_perplexity"]
METER = ["ewc_largest", "ewc_percentile", "ewc_above_1", "ewc_above_2", "ewc_penalty_ratio", "ewc_task_left"]
COLUMNS = [*WHERE, *CELL, "step", *LOSSES, *PERPLEXITIES, *METER, "seconds", "status"]
PLAIN = ("none", "none")
"""Measure and penalty of plain fine-tuning."""

ROUNDING = 1e-9
"""Nats by which a loss may miss the one asked for: what the logarithm of an exponential loses."""

BESIDE = "-importances"
"""How the file beside a run's ends that holds the importances of its pretrained models."""
IMPORTANCES = ["run", "measure", "seed", "variable", "kind", "size", "mean", "largest"]
KINDS = ["embedding", "attention", "dense", "normalisation"]
"""The order in which kinds of layers are shown. Other names follow in alphabetical order."""


def read_fine_tuning(paths):
    """Read runs of fine-tuning.

    Args:
        paths: str, Path or list of them. Files (`.csv`, `.csv.gz`), patterns, or folders; files in a folder that hold
            something else are left out with a warning, the importances beside a run without one.

    Returns:
        DataFrame. One row for each run, measure, penalty, strength, seed and recorded step, as they were written:
        losses in nats a token of held-out text, and their exponentials, the perplexities. Step 0 is the pretrained
        model.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file is empty or lacks columns; rows contradict each other.
    """
    found = tables(paths, COLUMNS, "runs of fine-tuning", aside=BESIDE)
    frame = once(pd.concat([table for _, table in found], ignore_index=True), ROW, LOSSES)
    return frame.assign(status=frame["status"].fillna("ok"))


def read_importances(paths):
    """Read the importances of the pretrained models: what a run writes to `<run>-importances.csv`.

    Args:
        paths: str, Path or list of them. Those files, or what `read_fine_tuning` reads: then the files beside.

    Returns:
        DataFrame. One row for each run, measure, seed and variable: the `kind` of its layer, its `size` in weights, and
        the `mean` and the `largest` importance of a weight.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file is empty or lacks columns; rows contradict each other.
    """
    files = {file for path in find(paths) for file in _beside(path) if file.is_file()}
    if not files:
        raise FileNotFoundError(
            f"Expected importances in {paths}, or beside it in a file named <run>{BESIDE}.csv, found none. Copy that "
            "file to the run's CSV."
        )
    frames = []
    for file in sorted(files):
        table = parse(file)
        require(table, IMPORTANCES, file)
        frames.append(table[IMPORTANCES])
    return once(pd.concat(frames, ignore_index=True), IMPORTANCES[:4], IMPORTANCES[4:])


def _beside(file):
    """List where the importances of a run's file may be: the file itself, if it holds them."""
    name = stem(file)
    return [file] if name.endswith(BESIDE) else [file.with_name(f"{name}{BESIDE}.csv{gz}") for gz in ("", ".gz")]


def finite(frame):
    """Select the rows whose weights, and therefore losses, are finite."""
    return frame[_is_finite(frame)]


def _is_finite(frame):
    return (frame["status"] == "ok") & np.isfinite(frame[LOSSES]).all(axis=1)


def not_finite(frame):
    """List the runs whose weights did not stay finite.

    Args:
        frame: DataFrame of `read_fine_tuning`.

    Returns:
        DataFrame. One row for each run, measure, penalty, strength and seed: the first `step` at which a weight or a
        loss was not finite, and the `status` then.
    """
    left = frame[~_is_finite(frame)].sort_values("step", kind="stable")
    return left.drop_duplicates(["run", *CELL])[[*ROW, "status"]].sort_values(ROW).reset_index(drop=True)


def frontier(frame):
    """Find what each method can reach: the Pareto frontier of the two perplexities over all its strengths and steps.

    A point is on it if no other of the same run, measure, penalty and seed has a lower perplexity of one text and none
    higher of the other. Of equal points the one with the fewest steps, then the lowest strength, stands for all. For
    plain fine-tuning this is stopping early.

    Args:
        frame: DataFrame of `read_fine_tuning`. Rows that are not finite are on no frontier; `not_finite` lists them.

    Returns:
        DataFrame. One row for each point, from the lowest `new_perplexity` to the lowest `old_perplexity` of each run,
        measure, penalty and seed, with the `strength` and `step` that reached it, and both losses.
    """
    keys = ["run", *METHOD, "seed"]
    ordered = finite(frame).sort_values([*keys, "new_loss", "old_loss", "step", "strength"])
    lowest = ordered.groupby(keys)["old_loss"].cummin()
    before = lowest.groupby([ordered[key] for key in keys]).shift(fill_value=np.inf)
    found = ordered[ordered["old_loss"] < before]
    return found[[*keys, "strength", "step", *reversed(PERPLEXITIES), *reversed(LOSSES)]].reset_index(drop=True)


def at_equal_new(frame, new_perplexity=None, level=0.95):
    """Compare how well each method still knows the old text, where all know the new one equally well.

    Each seed's frontier is read off at the new perplexity: between two neighbouring points the losses are interpolated
    linearly; beyond the last point, where the new text may be known less well than asked, the old perplexity is that
    point's. Runs of one seed share the pretrained model and the batches, so methods are compared with plain fine-tuning
    as pairs:

        ratio = exp(mean over seeds of (old loss of the method - old loss of plain fine-tuning))

    and below 1 less is forgotten. The frontier is the best of all strengths and steps on the very text that is
    reported, so a method with a finer grid is flattered a little: give all the same.

    Args:
        frame: DataFrame of `read_fine_tuning`.
        new_perplexity: float or None. At least 1. Defaults, in each run, to the lowest that every method with all the
            seeds reaches in every one of them.
        level: float. Confidence of the intervals, between 0 and 1.

    Returns:
        DataFrame. One row for each run and method, the best first: `new_perplexity`; `old_perplexity` with `_low` and
        `_high`, exponentials of the mean loss and of its Student's t interval over `seeds`; the `strengths` and `steps`
        between which the points lie, as (lowest, highest) over seeds, or one where they are equal; `ratio` to plain
        fine-tuning with `_low` and `_high`, its paired Student's t interval, `p` of the paired t-test and `p_holm`,
        adjusted for all methods of the run (intervals and tests are missing with fewer than two common seeds); and a
        `note`. A method that does not reach the new perplexity in every one of its seeds has no numbers, since the
        seeds that do would flatter it: the note says so, and which strengths ended in weights that are not finite.

    Raises:
        ValueError: a perplexity below 1, a level that is not between 0 and 1, or no method has all the seeds.
    """
    if new_perplexity is not None and not new_perplexity >= 1:
        raise ValueError(f"Expected a new_perplexity of at least 1, received {new_perplexity}. It is exp(loss).")
    if not 0 < level < 1:
        raise ValueError(f"Expected a level between 0 and 1, received {level}. Write 0.95 for 95 %.")
    rows = []
    for values, part in parts(frame, WHERE):
        about = dict(zip(WHERE, values, strict=True))
        rows += [about | row for row in _compared(part, new_perplexity, level)]
    return pd.DataFrame(rows)


def _compared(part, new_perplexity, level):
    """Compare the methods of one run; the best first."""
    target = _reached_by_all(part) if new_perplexity is None else np.log(new_perplexity)
    points = _read_off(part, target)
    plain = points[(points[METHOD] == list(PLAIN)).all(axis=1)]
    broken = not_finite(part)
    rows = []
    for method, cells in parts(points, METHOD):
        mean, low, high = np.exp(_unless_missing(cells["old_loss"], level))
        rows.append(
            dict(zip(METHOD, method, strict=True))
            | {"new_perplexity": np.exp(target), "old_perplexity": mean, "old_perplexity_low": low,
               "old_perplexity_high": high, "seeds": len(cells), "strengths": _ends(cells, "strength"),
               "steps": _ends(cells, "step")}
            | _ratio(cells, plain if method != PLAIN else plain[:0], level)
            | {"note": _note(cells, broken[(broken[METHOD] == list(method)).all(axis=1)])}
        )  # fmt: skip
    tested = [row for row in rows if not np.isnan(row["p"])]
    for row, p in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row["p_holm"] = p
    return sorted(rows, key=lambda row: np.nan_to_num(row["old_perplexity"], nan=np.inf))


def _reached_by_all(part):
    """Return the lowest new loss that every method with all the seeds reaches in every one of them."""
    least = finite(part).groupby([*METHOD, "seed"])["new_loss"].min().unstack()
    whole = least.reindex(columns=part["seed"].unique()).dropna()
    if whole.empty:
        raise ValueError(
            f"Expected a method with all {part['seed'].nunique()} seeds of the run {part['run'].iloc[0]}, found none. "
            "Wait for the run, choose among its seeds, or give a new_perplexity."
        )
    return whole.max().max()


def _read_off(part, target):
    """Interpolate each frontier of a run at a new loss.

    Returns:
        DataFrame. One row for each method and seed: the `old_loss`, missing where the new loss is not reached; the
        `least` new loss; `strength_low`, `strength_high`, `step_low` and `step_high` of the points to both sides.
    """
    keys = [*METHOD, "seed"]
    curves = dict(parts(frontier(part), keys))
    rows = []
    for key, _ in parts(part, keys):
        row = dict(zip(keys, key, strict=True)) | {"old_loss": np.nan, "least": np.nan}
        curve = curves.get(key)
        rows.append(row if curve is None else row | _at(curve, target))
    ends = ["strength_low", "strength_high", "step_low", "step_high"]
    return pd.DataFrame(rows, columns=[*keys, "old_loss", "least", *ends])


def _at(curve, target):
    new, old = curve["new_loss"].to_numpy(), curve["old_loss"].to_numpy()
    if target < new[0] - ROUNDING:
        return {"least": new[0]}
    right = min(np.searchsorted(new, target), len(new) - 1)
    left = right if new[right] <= target or right == 0 else right - 1
    around = curve.iloc[[left, right]]
    ends = {f"{name}_{end}": around[name].agg(how) for name in ("strength", "step")
            for end, how in (("low", "min"), ("high", "max"))}  # fmt: skip
    return {"old_loss": np.interp(target, new, old), "least": new[0]} | ends


def _unless_missing(values, level):
    return student_t(values, level) if values.notna().all() else (np.nan,) * 3


def _ends(cells, name):
    """Return the lowest and the highest over seeds, once if they are equal; nothing if a seed misses them."""
    low, high = cells[f"{name}_low"], cells[f"{name}_high"]
    return tuple(sorted({float(low.min()), float(high.max())})) if cells["old_loss"].notna().all() else ()


def _ratio(cells, plain, level):
    """Compare with plain fine-tuning on common seeds, as the ratio of old perplexities."""
    both = cells.merge(plain, on="seed", suffixes=("", "_plain"))
    gain = both["old_loss"] - both["old_loss_plain"]
    mean, low, high = np.exp(_unless_missing(gain, level))
    p = paired_t(gain) if len(gain) > 1 and not np.isnan(mean) else np.nan
    return {"ratio": mean, "ratio_low": low, "ratio_high": high, "p": p, "p_holm": np.nan}


def _note(cells, broken):
    """Say what keeps a method from its numbers, and which of its runs exploded."""
    missed = cells["old_loss"].isna().sum()
    best = np.exp(cells["least"].max(skipna=False))
    reach = f"all reach {best:.4g}" if np.isfinite(best) else "a seed has no finite weights"
    said = [f"reached in {len(cells) - missed} of {len(cells)} seeds ({reach})"] if missed else []
    by_strength = broken.groupby("strength")["seed"].nunique().items()
    said += [f"not finite at strength {strength:g} in {count(seeds, 'seeds')}" for strength, seeds in by_strength]
    return "; ".join(said)


def balanced(frame):
    """Choose the strength of each method with which both texts together are known best after the last step.

    Args:
        frame: DataFrame of `read_fine_tuning`; the rows of one run.

    Returns:
        list of (measure, penalty, strength). The lowest sum of the two losses, averaged over seeds, among strengths at
        which all of them are finite; a method without one has none.
    """
    sums = final(frame).assign(both=lambda cells: cells[LOSSES].sum(axis=1, skipna=False))
    means = sums.groupby([*METHOD, "strength"])["both"].agg(lambda values: values.mean(skipna=False)).dropna()
    return list(means.loc[means.groupby(METHOD).idxmin()].index)


def final(frame):
    """Select the rows of the last step, and the last row of each run that is not finite, with missing losses.

    Args:
        frame: DataFrame of `read_fine_tuning`. Runs that have not come to the last step of their frame are left out.
    """
    last = frame.sort_values("step", kind="stable").drop_duplicates(ROW[:-1], keep="last")
    good = _is_finite(last)
    losses = last[LOSSES].where(good)
    arrived = last["step"] == last.groupby("run")["step"].transform("max")
    return last.assign(**losses)[arrived | ~good]


def importance_by_layer_kind(importances):
    """Say how unevenly each measure spreads importance over the kinds of layers.

    With the model's mean the mean importance of all its weights, each variable's counting as often as it has weights,
    a `mean_ratio` above 1 says that a weight of this kind matters more than one of the model on average, and the
    `largest_ratio` times rate and strength is what decides whether the plain penalty is stable.

    Args:
        importances: DataFrame of `read_importances`.

    Returns:
        DataFrame. One row for each run, measure and kind of layer: `weights`, how many there are; `mean_ratio`, their
        mean importance, and `largest_ratio`, the largest, both over the model's mean and averaged over `seeds` (missing
        where a model has no importance at all).
    """
    cells = relative(importances)
    cells = cells.assign(total=cells["mean_ratio"] * cells["size"])
    by_seed = cells.groupby(["run", "measure", "kind", "seed"]).agg(
        weights=("size", "sum"),
        total=("total", lambda total: total.sum(min_count=1)),
        largest_ratio=("largest_ratio", "max"),
    )
    by_seed = by_seed.assign(mean_ratio=by_seed["total"] / by_seed["weights"]).reset_index()
    table = by_seed.groupby(["run", "measure", "kind"]).agg(
        weights=("weights", "first"), seeds=("seed", "nunique"), mean_ratio=("mean_ratio", "mean"),
        largest_ratio=("largest_ratio", "mean"),
    ).reset_index()  # fmt: skip
    return table.sort_values(["run", "measure", "kind"], key=_by_kind, kind="stable").reset_index(drop=True)


def relative(importances):
    """Add `mean_ratio` and `largest_ratio`, both over the mean importance of all weights of the model."""
    keys = ["run", "measure", "seed"]
    total = importances["mean"] * importances["size"]
    grouped = [importances[key] for key in keys]
    mean = total.groupby(grouped).transform("sum") / importances["size"].groupby(grouped).transform("sum")
    mean = mean.where(mean > 0)
    return importances.assign(mean_ratio=importances["mean"] / mean, largest_ratio=importances["largest"] / mean)


def kinds(importances):
    """List the kinds of layers that occur, in the order in which they are shown."""
    return sorted(importances["kind"].unique(), key=_place)


def _by_kind(column):
    return column.map(_place) if column.name == "kind" else column


def _place(kind):
    return (KINDS.index(kind), "") if kind in KINDS else (len(KINDS), kind)
