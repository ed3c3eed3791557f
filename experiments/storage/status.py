"""How far the runs in a folder are, from their files alone: nothing is computed, and nobody is disturbed."""

import csv
import datetime
import io
import json
import math
import pathlib
from collections import Counter

import pandas as pd

from experiments.storage import first_version, locks
from experiments.storage.files import plain, read, unpacked
from experiments.storage.sums import Sums

COLUMNS = ["run", "kind", "done", "missing", "failed", "reason", "per_minute", "minutes_left", "state"]


def status(folder="runs"):
    """Say how far each run in a folder is.

    Args:
        folder: str or path.

    Returns:
        pandas.DataFrame. One row a run, with

        - `run`; `kind`: the study, a file in experiments/;
        - `done`, `missing`: how many cells (rows) there are and how many of those last asked for are still to be. The
          first version wrote down what was asked for of a grid alone: of its other runs, while nobody works on them,
          what was begun counts;
        - `failed`: how many of those done have a status other than "ok", and `reason`: the most frequent one, or why
          the work stopped. A row that is not as it was written counts as failed;
        - `per_minute`, `minutes_left`: cells a minute since the present work began, and the minutes that the missing
          ones take at that rate; NaN if nobody is working;
        - `state`: "finished", "unfinished", "stopped", who is working on it since when, or "cannot be read", where a
          file is damaged and `reason` says which.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"Expected a folder with results, received {str(folder)!r}, which is none.")
    rows = [_told(folder, path.stem) for path in sorted(folder.glob("*.json"))]
    return pd.DataFrame(filter(None, rows), columns=COLUMNS)


def _told(folder, run):
    path = folder / f"{run}.json"
    try:
        about = _settings(path)
    except (OSError, ValueError) as error:
        return _unreadable(run, error)
    rows = [path.with_name(f"{run}.csv"), path.with_name(f"{run}.csv.gz")]
    if "settings" not in about and not any(map(pathlib.Path.exists, rows)):
        return None  # of something else
    try:
        return _row(folder, run, about)
    except (OSError, ValueError) as error:
        return _unreadable(run, error)
    except (LookupError, TypeError, AttributeError, ArithmeticError) as error:
        return _unreadable(run, f"Expected the settings of a run in {path}, received others: {error!r}. Restore it.")


def _unreadable(run, reason):
    row = dict.fromkeys(("done", "missing", "failed"), 0) | dict.fromkeys(("per_minute", "minutes_left"), math.nan)
    return {"run": run, "kind": "", **row, "reason": str(reason), "state": "cannot be read"}


def _row(folder, run, about):
    if {"kind", "key", "asked"} <= about.keys():
        kind, cells, asked = about["kind"], _cells(folder, run, about["key"]), about["asked"]
    else:
        kind = first_version.kind(about["settings"])
        cells = _cells(folder, run, first_version.KEYS[kind])
        asked = first_version.asked(kind, about["settings"], cells)
    notes, damaged = _notes(folder, run)
    working = [note for note in notes if locks.alive(note)]
    asked = max([len(cells), asked, *(note.get("asked", 0) for note in notes)])
    missing = asked - len(cells)
    failures = Counter(status for status in cells.values() if status not in ("ok", ""))
    stopped = [note.get("reason", f"{locks.described(note)}, ended before it was done") for note in notes]
    stopped = [reason for note, reason in zip(notes, stopped, strict=True) if note not in working]
    reasons = [*damaged, *(stopped if missing else []), *(reason for reason, _ in failures.most_common())]
    rate = _rate(working, len(cells))
    if working:
        state = " and ".join(map(locks.described, working))
    else:
        state = "finished" if not missing else "stopped" if stopped else "unfinished"
    return {
        "run": run, "kind": kind, "done": len(cells), "missing": missing, "failed": failures.total(),
        "reason": reasons[0] if reasons else "", "per_minute": rate,
        "minutes_left": missing / rate if rate > 0 else math.nan, "state": state,
    }  # fmt: skip


def _settings(path):
    try:
        about = json.loads(read(path).decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"Expected settings in {path}, received what is no JSON: {error}. Run again to have it written anew."
        ) from error
    return about if isinstance(about, dict) else {}


def _cells(folder, run, key):
    """Return {key: status} of a run's rows; those of shards first, as they move from there to the CSV."""
    found = {}
    for path in [*sorted(folder.glob(f"{run}+*.csv")), folder / f"{run}.csv", folder / f"{run}.csv.gz"]:
        content = plain(unpacked(path) if path.suffix == ".gz" else read(path))
        whole = content[: content.rfind(b"\n") + 1].decode(errors="replace")
        try:
            rows = list(csv.DictReader(io.StringIO(whole)))
        except csv.Error as error:
            raise ValueError(f"Expected rows in {path}, received something else: {error}.") from error
        wrong = [number for number, row in enumerate(rows, 2) if None in row or None in row.values()]
        if wrong or (rows and not set(key) <= rows[0].keys()):
            raise ValueError(
                f"Expected rows with {', '.join(key)} in {path}, received others, such as lines {wrong[:5] or 'all'}."
            )
        changed = set(Sums(path.with_name(path.name.removesuffix(".gz"))).changed(rows))
        for number, row in enumerate(rows):
            status = f"not as it was written ({path.name})" if number in changed else row.get("status") or ""
            found[tuple(row[c] for c in key)] = status
    return found


def _notes(folder, run):
    """Return what those noted who work on a run, or did and died, and the sentences on notes that cannot be read."""
    checkpoints, found, damaged = folder / "checkpoints", [], []
    places = [(checkpoints, run), *((checkpoints / run, p.stem) for p in sorted((checkpoints / run).glob("*.holder")))]
    for where, name in places:
        note = locks.Lock(where, name).note()
        if note is not None:
            found.append(note)
        elif (path := where / f"{name}.holder").exists():
            damaged.append(f"{path} cannot be read")
    return found, damaged


def _rate(working, done):
    """Return cells a minute since the first of those at work began; NaN if that cannot be told."""
    if not working:
        return math.nan
    first = min(working, key=lambda note: note["since"])
    now = datetime.datetime.now(datetime.UTC)
    seconds = (now - datetime.datetime.fromisoformat(first["since"])).total_seconds()
    return 60 * (done - first.get("done", done)) / seconds if seconds > 0 else math.nan
