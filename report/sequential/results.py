"""Sequential learning, from the rows of its runs: the best strengths, beside published ones, and who is better."""

import itertools
import json

import numpy as np
import pandas as pd

from report.statistics.intervals import paired_t, student_t
from report.statistics.tests import hodges_lehmann, holm, wilcoxon
from report.tables.columns import parts
from report.tables.reading import once, require, settings_of, tables

WHERE = ["run", "sequence", "model", "protocol"]
PROTECTION = ["measure", "penalty", "strength"]
ROW = ["run", *PROTECTION, "seed", "after_task", "on_task"]
ACCURACIES = ["validation_accuracy", "test_accuracy"]
METER = ["ewc_largest", "ewc_percentile", "ewc_above_1", "ewc_above_2", "ewc_penalty_ratio", "ewc_task_left"]
COLUMNS = [*WHERE[:3], "tasks", *ROW[1:], *ACCURACIES, *METER, "seconds", "status"]
FISHERS = ("fisher", "fisher_sampled", "fisher_empirical", "fisher_argmax")
"""Measures that are means over examples of squared gradients of their log-likelihood, in whatever way labels come."""
ENDS = ("none", "joint")
"""The "measures" of runs without protection, and of runs on all tasks at once."""


def read_sequential(paths):
    """Read runs of sequential learning.

    Args:
        paths: str, Path or list of them. Files (`.csv`, `.csv.gz`), patterns, or folders; files in a folder that hold
            something else are left out with a warning.

    Returns:
        DataFrame. One row for each run, task learnt and task tested, as they were written, and what the `.json` beside
        the file says: `protocol`, or "unknown"; `old_per_new`, how many training examples an earlier task has for each
        of a later one, a mean over all such pairs, NaN in files of before that was written, and where importances
        were not added up but averaged over tasks.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file is empty or lacks columns; rows contradict each other.
    """
    found = tables(paths, COLUMNS, "runs of sequential learning")
    frame = pd.concat([table.assign(**_about(file)) for file, table in found], ignore_index=True)
    return once(frame, ROW, ACCURACIES)


def _about(file):
    settings = settings_of(file)
    known = json.loads(settings.read_text(encoding="utf-8")) if settings.is_file() else {}
    pairs = [old / new for old, new in itertools.combinations(known.get("examples_per_task", []), 2)]
    settings = known.get("settings", {})
    summed = settings.get("accumulate", "sum") == "sum"
    return {
        "protocol": settings.get("protocol", "unknown"),
        "old_per_new": np.mean(pairs) if pairs and summed else np.nan,
    }


def final_accuracies(frame):
    """Average the accuracies over all tasks after the last one.

    Args:
        frame: DataFrame of `read_sequential`, rows as the experiment writes them, or of this function, which is
            returned as it is.

    Returns:
        DataFrame. One row for each finished measure, penalty, strength and seed of a run: `validation_accuracy` and
        `test_accuracy`, NaN where the weights became infinite.
    """
    frame = frame if "protocol" in frame else frame.assign(protocol="unknown")
    if "after_task" not in frame:
        return frame
    last = frame[frame["after_task"] == frame["tasks"]]
    grouped = last.groupby([*WHERE, *PROTECTION, "seed"], sort=True)
    whole = grouped["on_task"].size() == grouped["tasks"].first()
    means = grouped[ACCURACIES].agg(lambda values: values.mean(skipna=False))
    return means[whole].reset_index()


def best_strengths(frame, published=None, search_seeds=()):
    """Say how well each measure and penalty does at its best strength, and beside it what was published.

    Best is the highest mean validation accuracy (which under the published protocol is that on the test data); a run
    whose weights became infinite counts as 0 there. Strengths that were run with different seeds are made comparable by
    least squares, accuracy = strength + seed, so that easy seeds flatter none; one with a single seed or two is left
    out where others have more. Where other seeds report, so are strengths that were not reported.

    Args:
        frame: DataFrame of `read_sequential`.
        published: str, Path or None. A table of published results, such as `data/published/ewc.csv`.
        search_seeds: list of int. The seeds that strengths are chosen with; the others say how well they do. If there
            are none, and under the published protocol, all seeds do both, which flatters the strengths a little.

    Returns:
        DataFrame. One row for each run's measure and penalty, the best first: `strength`, where a Fisher is among the
        measures of files that say how large the tasks are, `laplace_strength`, `seeds`, the mean
        `test_accuracy` with `_low` and `_high`, its 95 % Student's t interval over seeds; and if something was
        published, `published_strength`, `published_accuracy` and `difference` (ours less theirs).
    """
    rows = []
    for values, part in parts(final_accuracies(frame), WHERE):
        found = []
        for (measure, penalty), cells in parts(part, PROTECTION[:2]):
            choosing, reporting = _share_out(cells, search_seeds)
            reported = choosing["strength"].isin(reporting["strength"])
            strength = _best(choosing[reported] if reported.any() else choosing)
            accuracies = reporting[reporting["strength"] == strength]["test_accuracy"]
            found.append(
                dict(zip(WHERE, values, strict=True))
                | {"measure": measure, "penalty": penalty, "strength": strength}
                | _summary(accuracies)
            )
        rows += sorted(found, key=lambda row: -np.nan_to_num(row["test_accuracy"]))
    table = _with_laplace(pd.DataFrame(rows), frame)
    if published is None:
        return table
    known = _published(published)[["sequence", "model", "measure", "penalty", "strength", "accuracy"]]
    known = known.rename(columns={"strength": "published_strength", "accuracy": "published_accuracy"})
    table = table.merge(known, how="left", on=["sequence", "model", "measure", "penalty"])
    return table.assign(difference=table["test_accuracy"] - table["published_accuracy"])


def _with_laplace(table, frame):
    """Put beside the strength of a Fisher penalty how many times it is what Laplace's approximation gives.

    It approximates the log posterior of an earlier task with N_old examples by -(N_old / 2) sum F (w - w*)^2, F a mean
    over examples. Beside the mean loss of N_new examples that is a strength of N_old / N_new, which is 1 in these
    units. Any other importance has no such unit (NaN), and the rho of an adaptive strength is none.
    """
    if table.empty or "old_per_new" not in frame:
        return table
    ratios = table["run"].map(frame.groupby("run")["old_per_new"].first())
    fixed = ~table["penalty"].str.contains(":adaptive")
    strengths = (table["strength"] / ratios).where(fixed & table["measure"].str.partition(":")[0].isin(FISHERS))
    if strengths.notna().any():
        table.insert(table.columns.get_loc("strength") + 1, "laplace_strength", strengths)
    return table


def reproduced(frame, published, margin=0.005):
    """Compare with published results at the very strengths that were published.

    Args:
        frame: DataFrame of `read_sequential`.
        published: str or Path. A CSV with the columns `sequence, model, measure, penalty, strength, accuracy,
            half_width` (of a 95 % interval); `strength` is that of the penalty (strength / 2) * sum Omega (w - w*)^2.
        margin: float. How large a difference may be.

    Returns:
        DataFrame. One row for each published result of which there are runs: `seeds`, our mean `test_accuracy` with
        `_low` and `_high`, `published_accuracy` and `published_half_width`, `difference` and whether it is `within`
        the margin; and `carried_accuracy` and `carried_difference` without the first seed, which under the published
        protocol is the only one that begins with a new optimizer (NaN under others, and with one seed).
    """
    known = _published(published).rename(
        columns={"accuracy": "published_accuracy", "half_width": "published_half_width"}
    )
    keys = ["sequence", "model", *PROTECTION]
    finals = final_accuracies(frame)
    rows = []
    for row in known.to_dict("records"):
        same = (finals[keys] == [row[key] for key in keys]).all(axis=1)
        for values, cells in parts(finals[same], WHERE):
            about = dict(zip(WHERE, values, strict=True)) | {key: row[key] for key in PROTECTION}
            about |= _summary(cells["test_accuracy"])
            about |= {key: row[key] for key in ("published_accuracy", "published_half_width")}
            difference = about["test_accuracy"] - row["published_accuracy"]
            about |= {"difference": difference, "within": abs(difference) <= margin}
            later = cells[(cells["seed"] > cells["seed"].min()) & (cells["protocol"] == "published")]
            carried = later["test_accuracy"].mean(skipna=False)
            about |= {"carried_accuracy": carried, "carried_difference": carried - row["published_accuracy"]}
            rows.append(about)
    return pd.DataFrame(rows)


def compare_best(frame, alpha=0.05, search_seeds=(), published=None):
    """Test which measures, each at its best strength, are better; and for each measure, which penalties.

    Runs of one seed share data, data order and initial weights, so they are compared as pairs, a run whose weights
    became infinite counting as an accuracy of 0: t-tests of the mean difference, adjusted by Holm within each family,
    which is the pairs of measures under one penalty, or the pairs of penalties of one measure. Who is better is the
    sign of what is tested, the mean. The exact Wilcoxon test, which does not assume normal differences but cannot reach
    small p-values with few seeds, stands beside, not adjusted, with its own estimate of the difference.

    Args:
        frame: DataFrame of `read_sequential`.
        alpha: float. Level of the tests.
        search_seeds: list of int. As for `best_strengths`; the others are compared.
        published: str, Path or None. A table as for `reproduced`: compare at the strengths in it rather than the best.

    Returns:
        DataFrame. One row for each pair: `family`, `better`, `worse`, `seeds` in common, the mean `difference` of the
        test accuracies with `_low` and `_high`, its 95 % Student's t interval, `hodges_lehmann`, the estimate of the
        Wilcoxon test, below 0 where it is on the other side than the mean, and `p_wilcoxon`; `p`, `p_holm`, and
        `verdict`: "better", "not told apart", or "one seed" where there is no test.
    """
    chosen = best_strengths(frame, search_seeds=search_seeds) if published is None else reproduced(frame, published)
    if chosen.empty:
        return chosen
    finals = final_accuracies(frame).merge(chosen[[*WHERE, *PROTECTION]], on=[*WHERE, *PROTECTION])
    finals = finals[~finals["measure"].isin(ENDS)].fillna({"test_accuracy": 0.0})
    rows = []
    for values, part in parts(finals, WHERE):
        about, (_, part) = dict(zip(WHERE, values, strict=True)), _share_out(part, search_seeds)
        for family, compared in (("penalty", "measure"), ("measure", "penalty")):
            for (name,), cells in parts(part, [family]):
                by_seed = cells.pivot(index="seed", columns=compared, values="test_accuracy")
                rows += [about | {"family": name} | row for row in _pairs(by_seed, alpha)]
    return pd.DataFrame(rows)


def _pairs(by_seed, alpha):
    """Compare the columns of a frame (seeds, compared)."""
    rows = []
    for one, other in itertools.combinations(by_seed.columns, 2):
        gain = (by_seed[one] - by_seed[other]).dropna()
        if len(gain) and gain.mean() < 0:
            one, other, gain = other, one, -gain
        mean, low, high = student_t(gain)
        rows.append(
            {"better": one, "worse": other, "seeds": len(gain), "difference": mean, "difference_low": low,
             "difference_high": high, "hodges_lehmann": hodges_lehmann(gain)[0] if len(gain) else np.nan,
             "p_wilcoxon": wilcoxon(gain), "p": paired_t(gain), "p_holm": 1.0, "verdict": "one seed"}
        )  # fmt: skip
    tested = [row for row in rows if row["seeds"] > 1]  # a pair that cannot be tested is none of the family
    for row, p in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row |= {"p_holm": p, "verdict": "better" if p <= alpha else "not told apart"}
    return rows


def _share_out(cells, search_seeds):
    """Return the rows that strengths are chosen by, and those that say how well they do."""
    choosing = cells["seed"].isin(list(search_seeds)) & (cells["protocol"] != "published")
    return (cells[choosing], cells[~choosing]) if choosing.any() else (cells, cells)


def _best(cells):
    """Return the strength with the highest validation accuracy beside what its seeds explain."""
    cells = cells.fillna({"validation_accuracy": 0.0})
    seeds = cells.groupby("strength")["seed"].transform("size")
    cells = cells[seeds >= min(3, seeds.max())]
    strengths, seeds = (pd.get_dummies(cells[name], dtype=float) for name in ("strength", "seed"))
    design = np.hstack([strengths, seeds])
    effects = np.linalg.lstsq(design, cells["validation_accuracy"], rcond=None)[0]
    return strengths.columns[effects[: len(strengths.columns)].round(12).argmax()]


def _summary(accuracies):
    """Average over seeds; where the weights of one became infinite, there is no mean."""
    mean, low, high = student_t(accuracies) if accuracies.notna().all() else (np.nan,) * 3
    return {"seeds": len(accuracies), "test_accuracy": mean, "test_accuracy_low": low, "test_accuracy_high": high}


def _published(path):
    table = pd.read_csv(path)
    require(table, ["sequence", "model", *PROTECTION, "accuracy", "half_width"], path)
    return table.astype({"strength": float})
