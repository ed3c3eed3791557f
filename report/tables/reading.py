"""Read results into one dataframe: ours, those of earlier studies, finished or still growing."""

import csv
import glob
import gzip
import hashlib
import io
import json
import math
import pathlib
import warnings
import zlib

import numpy as np
import pandas as pd

from report.tables import legacy
from report.tables.columns import CHANCE, MISSING, REQUIRED, ROW, TEXT, VALUES, complete
from report.tables.networks import name_networks

ENDINGS = (".csv", ".csv.gz")
SHARD = "+"
"""What stands between the run's name and the trial's in the file of a worker that has not finished the trial."""
SCHEMA = 2
"""The latest version of the files that this code knows."""


class NoneOfThisKind(ValueError):
    """Of the files in some folders none holds what is read."""


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
        DataFrame with `report.tables.columns.REQUIRED`, `status`, `chance_loss`, `chance_accuracy`, `source`, the file
        of each row, `calibration`, from which examples scores come, as far as any of the files compares several (then
        one that does not is of what its `.json` says); `repair`, "none" of a file that compares none; `network`, which
        is the same wherever a network stands: what the file says, or what made the network by the `.json`, missing
        without one; `called`, what the file calls the measure, if an earlier study made it or the measure was redefined
        since; and `anytime`: whether by the `.json`
        the run is not finished, or has grown until it was settled, so that its networks were not counted beforehand.

    Raises:
        FileNotFoundError: there is no such file, or a folder or pattern holds none.
        ValueError: a file is empty or damaged, lacks columns or holds text where a number belongs, or rows contradict
            each other.

    Warns:
        UserWarning: rows or settings are not as they were written, by their checksums.

    Example:
        >>> frame = report.read("data")                                          # doctest: +SKIP
        >>> frame = report.read("old/*_TRIAL_*.csv", chance_loss=math.log(10))   # doctest: +SKIP
    """
    frames, abouts = zip(*read_each(read_file, paths, "results"), strict=True)
    frames = _with_calibrations(_told_if_growing(frames, abouts), abouts)
    frame = pd.concat(name_networks(frames, abouts), ignore_index=True)
    for name, given in zip(CHANCE, (chance_loss, chance_accuracy), strict=True):
        frame[name] = frame[name].fillna(np.nan if given is None else given)
    return drop_duplicates(legacy.name_means(frame))


def read_apart(groups, **options):
    """Read results of several origins, as those that came with the project and one's own, and keep them apart.

    Args:
        groups: dict of name to paths, as for `read`. Paths that are not there are passed over, and so are folders
            without results and what was named before. The first has its rows as they are; of the others the run and the
            task get the name in brackets, as in "mnist (yours)", so that nothing puts their networks together.
        **options: as for `read`.

    Returns:
        DataFrame of `read` with `origin`, the name.

    Raises:
        FileNotFoundError: no path is there.
        ValueError: as `read`.
    """
    found, seen = [], set()
    for name, paths in groups.items():
        paths = [path for path in ([paths] if isinstance(paths, (str, pathlib.Path)) else paths)]
        there = [path for path in paths if str(path) not in seen and (_matches(path) or _has_results(path))]
        seen |= set(map(str, paths))
        if there:
            try:
                frame = read(there, **options)
            except NoneOfThisKind:  # each of them was left out with a warning
                continue
            called = f" ({name})" if found else ""
            found.append(frame.assign(origin=name, run=frame["run"] + called, task=frame["task"] + called))
    if not found:
        read([path for paths in groups.values() for path in ([paths] if isinstance(paths, str) else paths)])
    return pd.concat(found, ignore_index=True)


def _has_results(path):
    folder = pathlib.Path(path)
    return folder.is_dir() and any(file.name.endswith(ENDINGS) for file in folder.iterdir())


def _told_if_growing(frames, abouts):
    """Say in each frame whether its run was looked at while it grew; the rows of one may stand in several files."""
    runs = [str(settings_of(pathlib.Path(frame["source"].iloc[0]))) for frame in frames]
    there = dict.fromkeys(runs, 0)
    for run, frame in zip(runs, frames, strict=True):
        there[run] += len(frame)
    growing = [
        about.get("until") is not None or there[run] < about.get("asked", 0)
        for run, about in zip(runs, abouts, strict=True)
    ]
    return [frame.assign(anytime=grows) for frame, grows in zip(frames, growing, strict=True)]


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


def read_each(reader, paths, kind):
    """Read all files that paths name.

    Args:
        reader: callable of a Path. None where there is nothing to read.
        paths: str, Path or list of them; those in a folder that the reader refuses are left out with a warning.
        kind: str. What is read, for messages, as in "runs of sequential learning".

    Returns:
        list of what the reader returned for each.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the reader refuses a file that was named, or none is of this kind.
    """
    files = find(paths)
    found = [value for file, strict in files.items() if (value := or_skip(reader, file, strict)) is not None]
    if not found:
        raise NoneOfThisKind(f"Expected {kind} in {_listed(files)}, found none. Name the files to see what is wrong.")
    return found


def _matches(path):
    """List the files that a path or a pattern names; a folder is none."""
    if pathlib.Path(path).is_file():  # though its name may look like a pattern
        return [pathlib.Path(path)]
    return [found for found in map(pathlib.Path, glob.glob(str(path))) if not found.is_dir()]


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


def or_skip(reader, file, strict):
    """Return what a reader makes of a file; None, with a warning, if it cannot and nobody asked for this file.

    Raises:
        ValueError, OSError: it cannot, and the file was asked for.
    """
    try:
        return reader(file)
    except (ValueError, OSError) as error:
        if strict:
            raise
        warnings.warn(f"Left out: {error}", stacklevel=5)
        return None


def has_rows(file):
    """Say whether there is anything to read: a shard may have no rows yet, or have moved into the CSV by now."""
    try:
        return SHARD not in file.name or file.read_bytes().count(b"\n") > 1
    except FileNotFoundError:
        return False


def read_file(file):
    """Read one file: (frame, what its settings file says), None if there is nothing to read; `read` says the rest."""
    if not has_rows(file):
        return None
    table, known = parse(file), about(file)
    name = stem(file)
    if legacy.is_legacy(table.columns):
        require(table, legacy.COLUMNS, file)
        table = legacy.translate(table, name)
    else:
        require(table, REQUIRED, file)
        table = legacy.name_redefined(table, known)
    frame = complete(table).assign(source=str(file), **_chance(known))
    frame = frame[[*REQUIRED, *CHANCE, *MISSING]]
    return _typed(frame, file), known


def parse(file):
    """Read a CSV file, without a last line that is still being written."""
    text = _whole_lines(_text(file))
    if not text.strip():
        raise ValueError(f"Expected results in {file}, found an empty file. Remove it, or run the experiment again.")
    try:
        _check_lines(text, file)
        table = pd.read_csv(io.StringIO(text), low_memory=False)
    except (csv.Error, pd.errors.ParserError) as error:
        raise ValueError(
            f"Expected a table of comma-separated values in {file}: {error}. Repair or remove it."
        ) from None
    if table.empty:
        raise ValueError(f"Expected results in {file}, found a header and no rows: no cell of the run is finished yet.")
    return table


def _text(file):
    """Return a file's text with "\\n" at the ends of lines, without the zeros that a power loss leaves at its end."""
    opened = gzip.open if file.name.endswith(".gz") else open
    try:
        with opened(file, "rt", encoding="utf-8", newline=None) as stream:
            return stream.read().rstrip("\0")
    except (UnicodeDecodeError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(
            f"Expected a CSV file in {file}, found something else or a part of one: {error}. Restore or remove it."
        ) from None
    except FileNotFoundError:
        raise
    except OSError as error:
        message = f"Expected a CSV file in {file}, which cannot be read: {error.strerror or error}. Move it away."
        raise OSError(error.errno, message) from None


def _check_lines(text, file):
    """Check that each line has a value for each column, a status if there is one, and is as it was written."""
    reader = csv.reader(io.StringIO(text))
    header, sums = next(filter(None, reader)), _sums(file)
    wrong, ends_in_status = [], header[-1] == "status"
    changed = [1] if sums and digest(["columns", *header]) not in sums else []
    for values in filter(None, reader):
        if len(values) != len(header) or (ends_in_status and not values[-1]) or "\0" in "".join(values):
            wrong.append(reader.line_num)
        elif sums and digest(values) not in sums:
            changed.append(reader.line_num)
    if wrong:
        raise ValueError(
            f"Expected a table of comma-separated values in {file}, {len(header)} in each line; {len(wrong)} lines are "
            f"others, such as {wrong[:5]}. Repair or remove it."
        )
    if changed:
        warnings.warn(
            f"{len(changed)} lines of {file} are not as they were written, such as {changed[:5]}: by "
            f"{_sums_of(file).name} they were changed since, by damage or by hand. They are read as they stand.",
            stacklevel=6,
        )


def _sums_of(file):
    return file.with_name(f"{stem(file)}.sums")


def _sums(file):
    """Return the digests of the rows of a file that were written; an empty set where none are kept."""
    try:
        return set(_sums_of(file).read_text(encoding="utf-8", errors="replace").split("\n")) - {""}
    except OSError:
        return set()


def digest(values):
    """Return the digest of a row, as it stands in the file of checksums beside the CSV; see docs/data-format.md.

    Args:
        values: list of str.
    """
    return hashlib.blake2b("\x1f".join(values).encode(), digest_size=6).hexdigest()


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
    if len(fields) > len(header) + last.count('"'):
        return text  # something else than the beginning of a line
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


def tables(paths, columns, kind, aside=None, optional=()):
    """Read all files of one kind.

    Args:
        paths: str, Path or list of them. Files (`.csv`, `.csv.gz`), patterns, or folders; files in a folder that hold
            something else are left out with a warning.
        columns: list of str. What such a file must have, and with `optional` all that is kept of it.
        kind: str. What is read, for messages, as in "runs of sequential learning".
        aside: str or None. Files whose name ends so (before `.csv`) are of another kind and passed over in silence.
        optional: list of str. What such a file may have.

    Returns:
        list of (Path, DataFrame).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file is empty or lacks columns, or none is of this kind.
    """

    def read_one(file):
        if (aside and stem(file).endswith(aside)) or not has_rows(file):
            return None
        table = parse(file)
        require(table, columns, file)
        if "measure" in columns and legacy.has_redefined(table):
            table = legacy.name_redefined(table, about(file))
        return file, table[[*columns, *(name for name in optional if name in table)]]

    return read_each(read_one, paths, kind)


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


def about(file):
    """Read the settings file of a run's file: dict, empty if there is none."""
    settings = settings_of(file)
    if not settings.is_file():
        return {}
    try:
        known = json.loads(settings.read_text(encoding="utf-8"))
        _check_settings(known)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"Expected JSON in {settings}: {error}. Restore it, or remove it to read without.") from None
    if known.get("schema", SCHEMA) > SCHEMA:
        raise ValueError(
            f"Expected {settings} to be of schema {SCHEMA} or earlier, found {known['schema']}: a later version wrote "
            "it. Update to read it."
        )
    if known.get("checksum", checksum(known)) != checksum(known):
        warnings.warn(
            f"{settings} is not as it was written: by its checksum it was changed since, by damage or by hand. What it "
            "says is taken as it stands.",
            stacklevel=5,
        )
    return known


def checksum(known):
    """Return the checksum of a settings file: of all that it says but this."""
    said = {name: value for name, value in known.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def _check_settings(known):
    """Raise ValueError unless what a report takes from a settings file is of the kind that it is to be."""
    if not isinstance(known, dict):
        raise ValueError(f"an object is needed, there is {type(known).__name__}")
    kinds = {
        "schema": int,
        "asked": int,
        "classes": (int, type(None)),
        "settings": (dict, type(None)),
        "data_sha256": dict,
        "measures_sha256": dict,
        "provenance": list,
    }
    kinds |= dict.fromkeys(CHANCE, (int, float, type(None)))
    for name, kind in kinds.items():
        value = known.get(name, kind)
        if value is not kind and (not isinstance(value, kind) or isinstance(value, bool)):
            raise ValueError(f"{name} is {value!r}")
        if isinstance(value, int) and not (name == "classes") <= value < 2**31:
            raise ValueError(f"{name} is {value}")
    for made in known.get("provenance", []):
        said = isinstance(made, dict) and isinstance(made.get("rows"), int)
        if not said or not isinstance(made.get("measures_sha256", {}), dict):
            raise ValueError(f"an entry of provenance is {made!r}")


def _chance(known):
    """Tell chance from what a settings file says: its own words, or ln k and 1/k for k classes, or nothing."""
    classes = known.get("classes")
    fallback = {"chance_loss": math.log(classes), "chance_accuracy": 1 / classes} if classes else {}
    values = {name: fallback.get(name) if known.get(name) is None else known[name] for name in CHANCE}
    return {name: np.nan if value is None else float(value) for name, value in values.items()}


def _with_calibrations(frames, abouts):
    """Say of files that have no calibrations what theirs is, if another file has some."""
    if all(frame["calibration"].isna().all() for frame in frames):
        return frames
    return [f.assign(calibration=f["calibration"].fillna(_calibration(k))) for f, k in zip(frames, abouts, strict=True)]


def _calibration(known):
    """Tell from what a settings file says by which examples its measures scored, as in "training:5000"."""
    settings = known.get("settings") or {}
    examples = settings.get("examples")
    of = settings.get("scored_on", np.nan)
    return of if examples is None else f"{of}:{examples}"


def _typed(frame, file):
    """Make numbers numbers and names text, and round away the last bits of thresholds (0.15000000000000002)."""
    frame = numeric(frame, ["seed", "epoch", "threshold", *VALUES], file)
    texts = {name: _as_text(frame[name]) for name in TEXT}
    return frame.assign(**texts, threshold=frame["threshold"].round(10))


def _as_text(column):
    there, texts = column.notna().to_numpy(), np.full(len(column), np.nan, object)
    texts[there] = list(map(str, column.to_numpy(object)[there]))
    return texts


def numeric(frame, names, file):
    """Make some columns numbers.

    Raises:
        ValueError: there is text in one of them.
    """
    for name in names:
        try:
            frame[name] = pd.to_numeric(frame[name])
        except ValueError:
            wrong = frame[name][pd.to_numeric(frame[name], errors="coerce").isna() & frame[name].notna()].iloc[0]
            raise ValueError(
                f"Expected numbers in the column {name} of {file}, found {wrong!r}. Were files appended to each other?"
            ) from None
    return frame


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
