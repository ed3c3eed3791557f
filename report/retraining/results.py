"""Retraining after removal, from the rows of its runs: the best learning rates, and who is better than what."""

import numpy as np
import pandas as pd

from report.statistics.intervals import paired_t, student_t
from report.statistics.tests import holm, wilcoxon
from report.tables.columns import parts
from report.tables.reading import once, tables

WHERE = ["run", "task", "model"]
REMOVAL = ["level", "scope", "protocol", "fraction"]
ROW = [*WHERE, "seed", "measure", *REMOVAL, "learning_rate", "epoch"]
VALUES = ["removed_fraction", "validation_loss", "validation_accuracy", "test_loss", "test_accuracy"]
COLUMNS = [*ROW, "fill", *VALUES, "seconds", "status"]
COSTS = ["parameters", "multiply_adds", "latency_1", "latency_32", "latency_xla_1", "latency_xla_32"]
"""What the network costs that a retraining ends with, where a run says so; NaN where it could not be cut."""
NONE, RANDOM = "none", "random"
"""The "measure" of networks of which nothing is removed, and the one that knows nothing."""
TESTED = ("difference", "difference_low", "difference_high", "p", "p_wilcoxon", "p_holm")
METRICS = {"accuracy": 1, "loss": -1}
"""What is compared, and whether more of it is better. Of a regression, whose "accuracy" is an error: the loss."""


def read(paths):
    """Read runs of retraining.

    Args:
        paths: str, Path or list of them. Files (`.csv`, `.csv.gz`), patterns, or folders; files in a folder that hold
            something else are left out with a warning.

    Returns:
        DataFrame. One row for each retraining and epoch, as they were written, with the costs of those that have them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file is empty or lacks columns; rows contradict each other.
    """
    found = tables(paths, COLUMNS, "runs of retraining", optional=[*COSTS, "cost_status"])
    frame = pd.concat([table for _, table in found], ignore_index=True)
    return once(frame, ROW, VALUES)


def best_rates(frame, metric="accuracy"):
    """Choose for each measure and removal the learning rate that is best on validation data after the last epoch.

    Best is the mean over the networks that have all of its rates, or, if there are none, over all it has; one whose
    weights became infinite counts as the worst.

    Args:
        frame: DataFrame, as `experiments.retraining.run` or `read` gives it.
        metric: str. "accuracy" or "loss".

    Returns:
        DataFrame. The rows of the last epoch of the retrainings with these rates.

    Raises:
        ValueError: an unknown metric.
    """
    if metric not in METRICS:
        raise ValueError(f"Expected metric to be one of {', '.join(METRICS)}, received {metric!r}.")
    last = frame[frame["epoch"] == frame.groupby("run")["epoch"].transform("max")]
    chosen = []
    for _, cells in parts(last, [*WHERE, "measure", *REMOVAL]):
        goodness = METRICS[metric] * cells.pivot(index="seed", columns="learning_rate", values=f"validation_{metric}")
        asked = cells.pivot(index="seed", columns="learning_rate", values="epoch").notna()
        goodness = goodness.mask(asked & goodness.isna(), -np.inf)
        whole = goodness[asked.all(axis=1)]
        best = (whole if len(whole) else goodness).mean().idxmax()
        chosen.append(cells[cells["learning_rate"] == best])
    return pd.concat(chosen, ignore_index=True)


def summary(frame, metric="accuracy"):
    """Say how good networks are after retraining, each measure at its best learning rate, and whether that is better.

    Networks of one seed share initial weights, data and their order, so they are compared as pairs, with random removal
    and with the networks of which nothing is removed: by t-tests of the mean difference, adjusted by Holm within each
    level, scope, protocol and fraction. The exact Wilcoxon test, which cannot reach small p-values with few networks,
    stands beside, not adjusted.

    Args:
        frame, metric: as for `best_rates`.

    Returns:
        DataFrame. One row for each run, level, scope, protocol, fraction and measure, the best first (and last the
        networks of which nothing is removed): the `learning_rate`, how many `networks`, how many of them `failed`, the
        mean `test_<metric>` with `_low` and `_high`, its 95 % Student's t interval (none where some failed); the mean
        costs, if the run has them (NaN where some network could not be cut); and for each baseline, "random" and
        "unpruned": `<baseline>_difference`, the mean gain (above 0: better), with `_low` and `_high`, `<baseline>_p`,
        `_p_wilcoxon` and `_p_holm`, of the pairs of which neither failed; NaN where there are no two.
    """
    rows = []
    for _, of_run in parts(best_rates(frame, metric), WHERE):
        unpruned = _by_network(of_run[of_run["measure"] == NONE], metric)
        for _, part in parts(of_run, REMOVAL):
            found = {measure: _about(cells, metric) for (measure,), cells in parts(part, ["measure"])}
            values = {measure: _by_network(part[part["measure"] == measure], metric) for measure in found}
            for name, baseline, other in (("random", RANDOM, values.get(RANDOM)), ("unpruned", NONE, unpruned)):
                others = {} if other is None else {m: v for m, v in values.items() if m != baseline}
                tested = _tested({m: METRICS[metric] * (v - other).dropna() for m, v in others.items()})
                for measure, row in found.items():
                    row |= {f"{name}_{key}": tested.get(measure, {}).get(key, np.nan) for key in TESTED}
            rows += sorted(found.values(), key=lambda row: _place(row, metric))
    return pd.DataFrame(sorted(rows, key=lambda row: row["measure"] == NONE))


def _place(row, metric):
    mean = row[f"test_{metric}"]
    return np.isnan(mean), -METRICS[metric] * mean


def _by_network(cells, metric):
    return cells.set_index("seed")[f"test_{metric}"]


def _about(cells, metric):
    first, values, name = cells.iloc[0], _by_network(cells, metric), f"test_{metric}"
    mean, low, high = student_t(values) if values.notna().all() else (np.nan,) * 3
    return {
        **{key: first[key] for key in (*WHERE, *REMOVAL, "measure", "learning_rate")},
        "networks": len(values), "failed": int(values.isna().sum()),
        name: mean, f"{name}_low": low, f"{name}_high": high,
        **{cost: cells[cost].mean(skipna=False) for cost in COSTS if cost in cells},
    }  # fmt: skip


def _tested(gains):
    """Test the gains of several measures over one baseline: {measure: {key of `TESTED`: float}}, of two pairs or more.

    Args:
        gains: dict from measure to a Series (networks,).
    """
    tested = {measure: gain for measure, gain in gains.items() if len(gain) > 1}
    adjusted = holm([paired_t(gain) for gain in tested.values()])
    return {
        measure: dict(zip(TESTED, (*student_t(gain), paired_t(gain), wilcoxon(gain), p), strict=True))
        for (measure, gain), p in zip(tested.items(), adjusted, strict=True)
    }
