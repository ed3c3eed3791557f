"""The columns of a result, and how they are called on an axis: all that `report` knows of the rest of the project."""

import numpy as np
import pandas as pd

NETWORK = ["run", "seed"]
"""One trained network: a run and the seed of one of its trials."""

FACETS = ["task", "model", "level", "reduction", "scope", "fill", "calibration", "repair"]
"""Choices that are shown or tested apart, and never averaged over without being asked."""

CELL = ["run", "task", "model", "seed", "epoch", "measure", "level", "reduction", "scope", "fill"]
CELL += ["calibration", "repair"]
"""One loss-threshold curve."""

ROW = [*CELL, "threshold"]
"""One evaluation; a file holds each once."""

VALUES = [
    "replaced_fraction",
    "tie_fraction",
    "examples",
    "validation_loss",
    "validation_loss_stderr",
    "validation_accuracy",
    "seconds",
]
"""What an evaluation gave. For regression `validation_accuracy` holds the mean absolute error."""

REQUIRED = [name for name in (*ROW, *VALUES) if name not in ("calibration", "repair")]
CHANCE = ["chance_loss", "chance_accuracy"]
TEXT = ["run", "task", "model", "measure", "level", "reduction", "scope", "fill"]
TEXT += ["calibration", "repair", "status", "source", "network", "fold", "called"]
MISSING = {"status": "ok", "source": "", "network": np.nan, "fold": np.nan, "called": np.nan, "anytime": False}
MISSING |= {"calibration": np.nan, "repair": "none"}
"""What stands in columns that rows need not have. `anytime`: whether their run was looked at while it grew;
`calibration`: from which examples scores come, where a run compares several; `repair`: what was done to the rest of the
network after weights were replaced, "none" where a run does not say."""

LEVELS = ["weight", "unit", "hidden_unit", "conv_filter", "channel", "attention_head", "layer"]
"""From fine to coarse: the order in which levels are shown. Other names follow in alphabetical order."""

CONTROLS = ["random", "inverse_magnitude"]
"""Measures that others are held against: what knows nothing, and what is wrong on purpose."""

ORACLES = ["greedy", "shapley"]
"""Lines that measures are held against: orders found by removing groups, which take no part in an ordering."""


def is_oracle(measure):
    """Say whether a measure's name is that of an oracle line, whatever its options."""
    return str(measure).partition(":")[0] in ORACLES


LABELS = {
    "threshold": "fraction of weights replaced",
    "validation_loss": "validation loss (nats)",
    "validation_accuracy": "validation accuracy",
    "epoch": "epoch",
    "area": "area under the loss curve (0 = best, 1 = worst)",
    "accuracy_area": "area under the accuracy curve (0 = best, 1 = worst)",
    "tolerance": "tolerance (fraction of weights, larger = better)",
    "accuracy_tolerance": "accuracy tolerance (fraction of weights, larger = better)",
}
"""Axis labels with their units."""


def complete(frame):
    """Give a frame every column of `report.read`: missing ones are NaN, never guessed.

    Args:
        frame: DataFrame. Rows as the experiments write them.

    Returns:
        DataFrame, the same rows in the same order. Chance, and whether a run was still growing (`anytime`), are also
        taken from `frame.attrs`, where a run leaves them.

    Raises:
        ValueError: a column that says what was measured is missing.
    """
    needed = ["epoch", "measure", "threshold", "validation_loss"]
    absent = [name for name in needed if name not in frame.columns]
    if absent:
        raise ValueError(
            f"Expected a frame with the columns {', '.join(needed)}, received one without {', '.join(absent)} "
            f"(it has {', '.join(map(str, frame.columns)) or 'no columns'}). Read results with report.read(paths)."
        )
    names = [*REQUIRED, *CHANCE, *MISSING]
    known = {name: np.nan if frame.attrs.get(name) is None else frame.attrs[name] for name in CHANCE}
    known["anytime"] = frame.attrs.get("anytime", MISSING["anytime"])
    return frame.assign(**{n: {**MISSING, **known}.get(n, np.nan) for n in names if n not in frame.columns})


def varying(frame, names=FACETS):
    """List the columns among `names` that hold more than one value, a missing one counting as a value."""
    return [name for name in names if frame[name].nunique(dropna=False) > 1]


def title(names, values):
    """Name a part of a frame in one line, as in "mnist, mlp, unit".

    Args:
        names: list of str. Columns.
        values: list. One value a column; a missing one reads as, for example, "unknown level".
    """
    return ", ".join(words(name, value) for name, value in zip(names, values, strict=True))


def words(name, value):
    """Say one value of a column: tasks, models and levels by themselves, all else with its column."""
    if pd.isna(value):
        return f"unknown {name}"
    if isinstance(value, str):
        return value if name in ("task", "model", "level") else f"{name} {value}"
    return f"{name} {value:g}"


def parts(frame, names):
    """Split a frame by columns, in sorted order (levels from fine to coarse), a missing value being one of its own.

    Args:
        frame: DataFrame.
        names: list of str. Columns; none of them gives the whole frame as the only part.

    Returns:
        list of (tuple of values, DataFrame).
    """
    if not names:
        return [((), frame)]
    found = list(frame.groupby(list(names), dropna=False, sort=True))
    if "level" in names:
        found.sort(key=lambda item: tuple(map(_place, names, item[0])))
    return found


def _place(name, value):
    if pd.isna(value):
        return (2, 0, "")
    if name == "level" and value in LEVELS:
        return (0, LEVELS.index(value), "")
    return (1, 0, value) if isinstance(value, str) else (1, value, "")


def same(frame, names, values):
    """Select the rows in which each column equals its value, a missing value equalling a missing one."""
    keep = np.ones(len(frame), bool)
    for name, value in zip(names, values, strict=True):
        keep &= (frame[name].isna() if pd.isna(value) else frame[name] == value).to_numpy()
    return frame[keep]


def last_checkpoint(frame):
    """Select the rows of each run's last checkpoint."""
    return frame[frame["epoch"] == frame.groupby("run", dropna=False)["epoch"].transform("max")]


def measures_in(names, frame):
    """Keep the measures among `names` that occur in a frame; all that occur, if none does or `names` is None."""
    there = set(frame["measure"])
    return [name for name in names or () if name in there] or sorted(there)


def oracles_in(frame):
    """List the oracle lines that a frame has rows of, with their options."""
    return sorted(name for name in frame["measure"].unique() if is_oracle(name))


def first_and_controls(measures, most=10):
    """Of many measures, the best first, choose the first ones and the controls; all, if these are about as many.

    Example:
        >>> first_and_controls(["obd", "magnitude", "fisher", "mas", "random"], most=1)
        ['obd', 'random']
    """
    measures = list(measures)
    return (
        measures
        if len(measures) <= most + len(CONTROLS)
        else [name for place, name in enumerate(measures) if place < most or name in CONTROLS]
    )


def runs(frame):
    """Describe each run in a frame.

    Returns:
        DataFrame. One row a run: its task and model, how many networks (`seeds`), measures, levels and thresholds, the
        epochs of its checkpoints, rows, `failed` rows, the `folder` it is in, and a `note` on a file of an earlier
        study, or of before a measure was redefined: which of its measures are called otherwise here, and whether it
        names no trial.
    """
    rows = []
    for (run,), part in parts(frame, ["run"]):
        counts = {name: part[column].nunique() for name, column in _COUNTED.items()}
        epochs = ", ".join(f"{epoch:g}" for epoch in sorted(part["epoch"].unique()))
        failed = int((part["status"] != "ok").sum())
        names = {
            name: ", ".join(map(str, part[name].dropna().unique())) or "unknown"
            for name in ("task", "model", "level", "scope", "fill")
        }
        row = {"run": run, **names, **counts, "epochs": epochs, "rows": len(part), "failed": failed}
        rows.append(row | {"folder": _folder(part), "note": _note(part)})
    return pd.DataFrame(rows).set_index("run")


def _folder(part):
    """Name the folder of a run's files; nothing if they are in several or in none."""
    sources = part["source"].unique() if "source" in part else []
    found = {str(source).replace("\\", "/").rpartition("/")[0] for source in sources}
    return found.pop() if len(found) == 1 else ""


def _note(part):
    """Say what is to know of a file of an earlier study, or of before a measure was redefined."""
    called = part["called"] if "called" in part else part["measure"].map({})
    if called.isna().all():
        return ""
    pairs = dict(zip(called.dropna(), part["measure"][called.notna()], strict=True))
    renamed = [f"{there} -> {here}" for there, here in sorted(pairs.items()) if there != here]
    trial = ["no trial in the file's name: one network, or a mean over several"] * bool(part["seed"].isna().all())
    of = "of an earlier study; " if part["model"].isna().all() else ""
    return "; ".join([*trial, *[f"{of}renamed: {', '.join(renamed)}"] * bool(renamed)])


_COUNTED = {"seeds": "seed", "measures": "measure", "thresholds": "threshold"}


def choose(frame, wanted):
    """Keep the rows whose columns hold wanted values.

    Args:
        frame: DataFrame.
        wanted: dict of column name to list of values, or to None for all.

    Raises:
        ValueError: a value does not occur, or no row is left.
    """
    for name, values in wanted.items():
        if values is None:
            continue
        known = frame[name].dropna().unique()
        unknown = [value for value in values if value not in known]
        if unknown:
            kind = f"{name.removesuffix('y')}ies" if name.endswith("y") else f"{name}s"
            raise ValueError(f"Expected {kind} among {', '.join(map(str, sorted(known)))}, received {unknown}.")
        frame = frame[frame[name].isin(values)]
    if frame.empty:
        raise ValueError("Expected at least one row to draw, received none. Choose other rows, or wait for the run.")
    return frame


def of_one_run(frame):
    """Return the first row of a frame, as what names the run that all its rows are of.

    Raises:
        ValueError: rows of several runs, or none.
    """
    runs = frame["run"].unique()
    if len(runs) != 1:
        raise ValueError(
            f"Expected rows of one run, received {len(runs)} ({', '.join(map(str, runs[:5]))}). Choose one: "
            "frame[frame['run'] == name]."
        )
    return frame.iloc[0]
