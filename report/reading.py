"""Read results into one dataframe: ours, those of earlier studies, finished or still growing."""

import glob
import gzip
import io
import json
import pathlib
import warnings

import numpy as np
import pandas as pd

from report import legacy
from report.columns import CHANCE, MISSING, REQUIRED, ROW, TEXT, VALUES, complete

ENDINGS = (".csv", ".csv.gz")
SHARD = "+"
"""What stands between the run's name and the trial's in the file of a worker that has not finished the trial."""
SCHEMA = 1
"""The latest version of the files that this code knows."""


def read(paths, chance_loss=None, chance_accuracy=None):
    """Read one or many results.

    Each row is one evaluation. `chance_loss` and `chance_accuracy` come from the `.json` beside the file; where it
    does not say, they are missing unless given here. A last line that is still being written is left out.

    Args:
        paths: str, Path or list of them. Files (`.csv`, `.csv.gz`), patterns such as `"data/mnist-*.csv"`, or folders;
            files in a folder that hold something else are left out with a warning.
        chance_loss: float or None. For files that do not record it, such as those of earlier studies: ln k nats for k
            classes that are equally frequent.
        chance_accuracy: float or None. Likewise.

    Returns:
        DataFrame with `report.columns.REQUIRED`, `status`, `chance_loss`, `chance_accuracy` and `source`, the file of
        each row.

    Raises:
        FileNotFoundError: there is no such file, or a folder or pattern holds none.
        ValueError: a file is empty, lacks columns or holds text where a number belongs, or rows contradict each other.

    Example:
        >>> frame = report.read("data")                                          # doctest: +SKIP
        >>> frame = report.read("old/*_TRIAL_*.csv", chance_loss=math.log(10))   # doctest: +SKIP
    """
    files = find(paths)
    frames = [frame for file, strict in files.items() if (frame := _read_or_skip(file, strict)) is not None]
    if not frames:
        raise ValueError(f"Expected results in {_listed(files)}, found none. Name the files to see what is wrong.")
    frame = pd.concat(frames, ignore_index=True)
    for name, given in zip(CHANCE, (chance_loss, chance_accuracy), strict=True):
        frame[name] = frame[name].fillna(np.nan if given is None else given)
    return drop_duplicates(frame)


def find(paths):
    """List the files that paths, patterns and folders name.

    Returns:
        dict of Path to bool: whether a file was asked for by itself, and must therefore be a result.
    """
    found = {}
    for path in [paths] if isinstance(paths, (str, pathlib.Path)) else paths:
        folder = pathlib.Path(path).is_dir()
        names = [p for p in pathlib.Path(path).iterdir() if p.name.endswith(ENDINGS)] if folder else _matches(path)
        names += [] if folder else [shard for name in names or [pathlib.Path(path)] for shard in _shards(name)]
        if not names:
            raise FileNotFoundError(_not_found(path))
        # Sorted, shards come first: rows move from them to the CSV and never back, so that none is missed.
        found.update({name: found.get(name, False) or not (folder or SHARD in name.name) for name in sorted(names)})
    if not found:
        raise FileNotFoundError("Expected at least one path, received none. Name a CSV file, a pattern or a folder.")
    return found


def _matches(path):
    return [pathlib.Path(path)] if pathlib.Path(path).is_file() else [pathlib.Path(p) for p in glob.glob(str(path))]


def _shards(file):
    run = stem(file)
    return [p for p in file.parent.glob(f"{glob.escape(run)}{SHARD}*.csv") if SHARD not in run]


def _not_found(path):
    folder = pathlib.Path(path) if pathlib.Path(path).is_dir() else pathlib.Path(path).parent
    there = [p.name for p in folder.iterdir() if p.name.endswith(ENDINGS)] if folder.is_dir() else []
    return (
        f"Expected a CSV file, a pattern or a folder with CSV files, received {str(path)!r}, where there is none. "
        f"{folder} has {_listed(there) or 'no CSV files'}."
    )


def _listed(names, most=8):
    names = sorted(map(str, names))
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _read_or_skip(file, strict):
    try:
        return read_file(file) if has_rows(file) else None
    except ValueError as error:
        if strict:
            raise
        warnings.warn(f"Left out: {error}", stacklevel=3)
        return None


def has_rows(file):
    """Say whether there is anything to read: a shard may have no rows yet, or have moved into the CSV by now."""
    try:
        return SHARD not in file.name or file.read_bytes().count(b"\n") > 1
    except FileNotFoundError:
        return False


def read_file(file):
    """Read one file; `read` says the rest."""
    table = parse(file)
    name = stem(file)
    if legacy.is_legacy(table.columns):
        require(table, legacy.COLUMNS, file)
        table = legacy.translate(table, name)
    else:
        require(table, REQUIRED, file)
    frame = complete(table).assign(source=str(file), **_chance(settings_of(file)))
    frame = frame[[*REQUIRED, *CHANCE, *MISSING]]
    return _typed(frame, file)


def parse(file):
    """Read a CSV file, without a last line that is still being written."""
    text = _whole_lines(_text(file))
    if not text.strip():
        raise ValueError(f"Expected results in {file}, found an empty file. Remove it, or run the experiment again.")
    try:
        table = pd.read_csv(io.StringIO(text), low_memory=False)
    except pd.errors.ParserError as error:
        raise ValueError(
            f"Expected a table of comma-separated values in {file}: {error}. Repair or remove it."
        ) from None
    if table.empty:
        raise ValueError(f"Expected results in {file}, found a header and no rows: no cell of the run is finished yet.")
    return table


def _text(file):
    opened = gzip.open if file.name.endswith(".gz") else open
    try:
        with opened(file, "rt", encoding="utf-8", newline="") as stream:
            return stream.read()
    except (UnicodeDecodeError, EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"Expected a CSV file in {file}, found something else or a part of one: {error}.") from None


def _whole_lines(text):
    """Drop a last line that is still being written.

    A line without its newline may be cut off anywhere, also within its last field. Ours end in the status, so a line
    that ends in "ok" is whole; any other must have all its fields.
    """
    head, newline, last = text.rpartition("\n")
    if not last or not newline:
        return text
    header = text.partition("\n")[0].strip().split(",")
    fields = last.split(",")
    whole = len(fields) == len(header) and fields[-1] != "" and (header[-1] != "status" or fields[-1] == "ok")
    return text if whole else head + newline


def require(table, names, file):
    """Raise if columns are missing."""
    absent = [name for name in names if name not in table.columns]
    if absent:
        raise ValueError(
            f"Expected the columns {', '.join(names)} in {file}, found {', '.join(map(str, table.columns))}: "
            f"without {', '.join(absent)}. Is it another kind of result?"
        )


def tables(paths, columns, kind, aside=None):
    """Read all files of one kind.

    Args:
        paths: str, Path or list of them. Files (`.csv`, `.csv.gz`), patterns, or folders; files in a folder that hold
            something else are left out with a warning.
        columns: list of str. What such a file must have, and all that is kept of it.
        kind: str. What is read, for messages, as in "runs of sequential learning".
        aside: str or None. Files whose name ends so (before `.csv`) are of another kind and passed over in silence.

    Returns:
        list of (Path, DataFrame).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file is empty or lacks columns, or none is of this kind.
    """
    found = []
    for file, strict in find(paths).items():
        if (aside and stem(file).endswith(aside)) or not has_rows(file):
            continue
        try:
            table = parse(file)
            require(table, columns, file)
        except ValueError as error:
            if strict:
                raise
            warnings.warn(f"Left out: {error}", stacklevel=3)
            continue
        found.append((file, table[columns]))
    if not found:
        raise ValueError(f"Expected {kind} in {_listed(find(paths))}, found none. Name the files of such a run.")
    return found


def once(frame, row, values):
    """Keep each row once.

    Args:
        frame: DataFrame.
        row: list of str. Columns that say which row it is.
        values: list of str. Columns in which rows that say the same must agree.

    Raises:
        ValueError: two rows give the same other values.
    """
    unique = frame.drop_duplicates([*row, *values])
    twice = unique[unique.duplicated(row)]
    if len(twice):
        raise ValueError(
            f"Expected each row once, found {len(twice)} that contradict others, such as "
            f"{twice.iloc[0][row].to_dict()}. Are these different runs of one name? Read them one at a time."
        )
    return unique.reset_index(drop=True)


def stem(file):
    """Return a file's name without `.csv` or `.csv.gz`."""
    return file.name.removesuffix(".gz").removesuffix(".csv")


def settings_of(file):
    """Return where the settings of a run's file, or of a part of it that a process is still writing, are."""
    return file.with_name(f"{stem(file).partition(SHARD)[0]}.json")


def _chance(settings):
    """Read chance from a settings file: its own words, or ln k and 1/k for k classes, or nothing."""
    if not settings.is_file():
        return dict.fromkeys(CHANCE, np.nan)
    try:
        known = json.loads(settings.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"Expected JSON in {settings}: {error}. Restore it, or remove it to read without.") from None
    if known.get("schema", SCHEMA) > SCHEMA:
        raise ValueError(
            f"Expected {settings} to be of schema {SCHEMA} or earlier, found {known['schema']}: a later version wrote "
            "it. Update to read it."
        )
    classes = known.get("classes")
    fallback = {"chance_loss": np.log(classes), "chance_accuracy": 1 / classes} if classes else {}
    values = {name: fallback.get(name) if known.get(name) is None else known[name] for name in CHANCE}
    return {name: np.nan if value is None else float(value) for name, value in values.items()}


def _typed(frame, file):
    """Make numbers numbers and names text, and round away the last bits of thresholds (0.15000000000000002)."""
    for name in ["seed", "epoch", "threshold", *VALUES]:
        try:
            frame[name] = pd.to_numeric(frame[name])
        except ValueError:
            wrong = frame[name][pd.to_numeric(frame[name], errors="coerce").isna() & frame[name].notna()].iloc[0]
            raise ValueError(
                f"Expected numbers in the column {name} of {file}, found {wrong!r}. Were files appended to each other?"
            ) from None
    for name in TEXT:
        frame[name] = frame[name].astype(object).where(frame[name].notna(), np.nan)
        frame[name] = frame[name].map(str, na_action="ignore").astype(object)
    frame["threshold"] = frame["threshold"].round(10)
    return frame.assign(status=frame["status"].fillna("ok"))


def drop_duplicates(frame):
    """Keep each evaluation once.

    Rows that say the same are one (the time they took and the file they stand in may differ).

    Raises:
        ValueError: two rows give the same evaluation other values.
    """
    said = [*ROW, *(name for name in VALUES if name != "seconds"), "status"]
    unique = frame.drop_duplicates(said)
    twice = unique[unique.duplicated(ROW, keep=False)]
    if len(twice):
        first, second = (row for _, row in twice.sort_values(ROW, kind="stable").head(2).iterrows())
        raise ValueError(
            f"Expected each evaluation once, found {len(twice)} rows that contradict each other, such as "
            f"{', '.join(f'{name}={first[name]}' for name in ROW)}: validation loss {first['validation_loss']} in "
            f"{first['source']}, {second['validation_loss']} in {second['source']}. Are these different runs of one "
            "name? Read them one at a time, or remove one."
        )
    return unique.reset_index(drop=True)
