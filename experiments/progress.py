"""How far the runs in a folder are, from their files alone: nothing is computed, and nobody is disturbed."""

import csv
import datetime
import gzip
import io
import json
import math
import pathlib
from collections import Counter

import pandas as pd

from experiments import locks

COLUMNS = ["run", "kind", "done", "missing", "failed", "reason", "per_minute", "minutes_left", "state"]
_GRID = ["seed", "epoch", "measure", "level", "reduction", "scope", "fill", "threshold"]
_SEQUENTIAL = ["measure", "penalty", "strength", "seed", "after_task", "on_task"]
_FINE_TUNING = ["measure", "penalty", "strength", "seed", "step"]


def status(folder="data"):
    """Say how far each run in a folder is.

    Args:
        folder: str or path.

    Returns:
        pandas.DataFrame. One row a run, with

        - `run`; `kind`: "grid", "sequential" or "fine_tuning";
        - `done`, `missing`: how many cells (rows) there are and how many are still to be; only a grid writes down what
          it was asked for, so of the others, while nobody works on them, only the runs that were begun count;
        - `failed`: how many of those done have a status other than "ok", and `reason`: the most frequent one, or why
          the work stopped;
        - `per_minute`, `minutes_left`: cells a minute since the present work began, and the minutes that the missing
          ones take at that rate; NaN if nobody is working;
        - `state`: "finished", "unfinished", "stopped", or who is working on it since when.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"Expected a folder with results, received {str(folder)!r}, which is none.")
    about = {path.stem: _settings(path) for path in folder.glob("*.json")}
    rows = [_row(folder, run, known) for run, known in sorted(about.items()) if "settings" in known]
    return pd.DataFrame(rows, columns=COLUMNS)


def _row(folder, run, about):
    settings = about["settings"]
    kind = _kind(settings)
    cells = _cells(folder, run, {"grid": _GRID, "sequential": _SEQUENTIAL, "fine_tuning": _FINE_TUNING}[kind])
    notes = _notes(folder, run)
    working = [note for note in notes if locks.alive(note)]
    asked = max([len(cells), _asked(kind, settings, cells), *(note.get("asked", 0) for note in notes)])
    missing = asked - len(cells)
    failures = Counter(status for status in cells.values() if status not in ("ok", ""))
    stopped = [note.get("reason", f"{locks.described(note)}, ended before it was done") for note in notes]
    stopped = [reason for note, reason in zip(notes, stopped, strict=True) if note not in working]
    reasons = [*(stopped if missing else []), *(reason for reason, _ in failures.most_common())]
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


def _kind(settings):
    if "sequence" in settings:
        return "sequential"
    return "fine_tuning" if {"old", "new"} <= settings.keys() else "grid"


def _settings(path):
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def _cells(folder, run, key):
    """Return {key: status} of a run's rows; those of shards first, as they move from there to the CSV."""
    found = {}
    for path in [*sorted(folder.glob(f"{run}+*.csv")), folder / f"{run}.csv", folder / f"{run}.csv.gz"]:
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        whole = content[: content.rfind(b"\n") + 1].decode(errors="replace")
        for row in csv.DictReader(io.StringIO(whole)):
            if set(key) <= row.keys():
                found[tuple(row[c] for c in key)] = row.get("status") or ""
    return found


def _notes(folder, run):
    """Return what those noted who work on a run, or did and died."""
    checkpoints = folder / "checkpoints"
    places = [(checkpoints, run), *((checkpoints / run, p.stem) for p in sorted((checkpoints / run).glob("*.holder")))]
    return [note for place in places if (note := locks.Lock(*place).note())]


def _asked(kind, settings, cells):
    """Count the cells of a run: those of every seed that was asked for or begun, or of every run that was begun."""
    if kind == "sequential":
        begun = {cell[:4] for cell in cells}
        tasks = max((int(cell[4]) for cell in cells), default=0)
        return sum(tasks if run[0] == "joint" else tasks * (tasks + 1) // 2 for run in begun)
    if kind == "fine_tuning":
        return len({cell[:4] for cell in cells}) * (1 + _evaluations(settings["steps"], settings["every"]))
    count = _evaluations(settings["epochs"], settings["every"])
    for name in ("measures", "levels", "reductions", "scopes", "thresholds"):
        count *= len(settings[name])
    return count * len({*map(str, settings["seeds"]), *(cell[0] for cell in cells)})


def _evaluations(length, every):
    return len({*range(every, length + 1, every), length})


def _rate(working, done):
    """Return cells a minute since the first of those at work began; NaN if that cannot be told."""
    if not working:
        return math.nan
    first = min(working, key=lambda note: note["since"])
    now = datetime.datetime.now(datetime.timezone.utc)
    seconds = (now - datetime.datetime.fromisoformat(first["since"])).total_seconds()
    return 60 * (done - first.get("done", done)) / seconds if seconds > 0 else math.nan
