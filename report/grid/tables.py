"""Tables of the scores: the first ordering, curves at chosen thresholds, LaTeX."""

import numpy as np
import pandas as pd

from report.grid.scores import MISSES_CHANCE, count_flags, facet_columns, scored
from report.statistics.intervals import student_t
from report.tables.columns import complete, parts
from report.tables.networks import by_network, once_each


def table(frame, columns=("area", "tolerance")):
    """Order the measures by their mean area, with intervals over networks.

    Args:
        frame: DataFrame of `report.read` or of `report.scores`.
        columns: list of str. Scores to show, of `report.grid.scores.SCORES`.

    Returns:
        DataFrame. One row for each task, model, level (and reduction, scope, fill where there are several), epoch and
        measure: `networks` that have a score (one that two runs hold counts once; `splits`, where all rows are of
        splits of the examples), each score's mean with `_low` and
        `_high`, its 95 % Student's t interval over networks within 0 and 1, and `flags` with the number of networks
        they hold for.
        Within an epoch the best measure stands first; those whose loss at threshold 1 misses chance stand last,
        whatever their area.
    """
    frame = once_each(by_network(scored(frame)))
    keys = [*facet_columns(frame), "epoch"]
    rows = []
    for values, part in parts(frame, keys):
        where = dict(zip(keys, values, strict=True))
        found = [where | _table_row(measure, cells, columns) for (measure,), cells in parts(part, ["measure"])]
        rows += sorted(found, key=lambda row: (MISSES_CHANCE in row["flags"], np.isnan(row["area"]), row["area"]))
    return _counting(pd.DataFrame(rows), frame)


def _table_row(measure, cells, columns):
    row = {"measure": measure, "networks": int(cells["area"].notna().sum()), "area": np.nan}
    for name in columns:
        row[name], low, high = student_t(cells[name])
        row |= {f"{name}_low": max(low, 0.0), f"{name}_high": min(high, 1.0)}  # no score is beyond; a NaN stays one
    return row | {"flags": count_flags(cells)}


def at_thresholds(frame, thresholds, metric="validation_accuracy"):
    """Read the curves at chosen thresholds: mean and 95 % interval over networks.

    Args:
        frame: DataFrame of `report.read`.
        thresholds: list of float. Each must have been evaluated.
        metric: str. A column, such as "validation_accuracy" or "validation_loss".

    Returns:
        DataFrame. One row for each task, model, level (and reduction, scope, fill where there are several), epoch,
        threshold and measure: `networks` (one that several runs hold counts once; or `splits`), the mean of the metric,
        and its interval as `_low` and `_high`. The measure that is best over these thresholds on average comes first.

    Raises:
        ValueError: a threshold was not evaluated.
    """
    frame = once_each(by_network(complete(frame)))
    thresholds = np.round(np.atleast_1d(thresholds), 10)
    absent = sorted(set(thresholds) - set(frame["threshold"]))
    if absent:
        known = ", ".join(f"{t:g}" for t in sorted(set(frame["threshold"]))[:25])
        raise ValueError(
            f"Expected thresholds among those evaluated ({known}), received {', '.join(f'{t:g}' for t in absent)}."
        )
    where = [*facet_columns(frame), "epoch"]
    keys = [*where, "threshold", "measure"]
    frame = frame[frame["threshold"].isin(thresholds)]
    rows = []
    for values, part in parts(frame, keys):
        mean, low, high = student_t(part[metric])
        found = {
            "networks": int(part[metric].notna().sum()),
            metric: mean,
            f"{metric}_low": low,
            f"{metric}_high": high,
        }
        rows.append(dict(zip(keys, values, strict=True)) | found)
    table = pd.DataFrame(rows)
    table["best"] = table.groupby([*where, "measure"], dropna=False)[metric].transform("mean")
    table["best"] *= -1 if metric == "validation_accuracy" and frame["chance_accuracy"].notna().any() else 1
    found = [part.sort_values("best", kind="stable") for _, part in parts(table, [*where, "threshold"])]
    return _counting(pd.concat(found, ignore_index=True).drop(columns="best"), frame)


def _counting(table, frame):
    """Call what was counted by its name: of one network that was trained elsewhere, splits of the examples."""
    return table.rename(columns={"networks": "splits"}) if frame["fold"].notna().all() else table
