"""Results on disk: rows of a CSV, appended and made durable at once, with a settings file beside it."""

import csv
import functools
import io
import json
import os
import pathlib
import re
import subprocess
import warnings

import pandas as pd

from engine import backend
from experiments.storage import files, locks
from experiments.storage.files import checksum, read, write_atomically
from experiments.storage.sums import Sums
from experiments.storage.table import Table

SCHEMA = 2
"""The version of what is written. Since 2 every draw has a name (`engine.draws`), so a seed stands for another network
than in 1, which is that of files that do not say."""


class Store:
    """One run's CSV and its settings file.

    Nothing is written before the first row. A last line that a crash cut off is removed; finished cells stay. Workers
    that share a run write the rows of a trial to a file of its own, a shard (`<name>+<trial>.csv`), which moves into
    the CSV when the trial is done; whoever reads the run reads both. Beside each is a file of checksums
    (`experiments.storage.sums`).

    Args:
        folder: str or path. Made if it is not there.
        name: str. The run's name; the files are `<name>.csv` and `<name>.json`.
        columns: list of str.
        key: list of str. The columns that name a cell; no two rows share them.
        about: dict or None. What the settings file says beside versions, backend, device and commit, with which the
            rows began, and the list of those of all rows (`provenance`); None: there is no settings file. Its
            "data_sha256" holds a digest of each data set's contents, by name, and "measures_sha256" one of each
            measure's file.
        run: str or None. What the column `run` of every row says, if there is one; None: the name.
        unstated: int. The schema of rows of which nothing says it.

    Raises:
        ValueError: the file has other columns, rows of another run, cells twice with different values, lines that are
            no rows or rows that were changed, was written by a later version, or its rows come from other data. It is
            left as it is.
        OSError: the folder cannot be written.

    Warns:
        UserWarning: the file of a measure has changed since rows of it were written; rows stand twice, which are taken
            once.
    """

    def __init__(self, folder, name, columns, key, about=None, run=None, unstated=1):
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._=,-]*", name):
            raise ValueError(
                f"Expected a run's name of letters, digits, '-', '_', '.', ',' and '=', received {name!r}."
            )
        self.folder, self.name, self._run = pathlib.Path(folder), name, run or name
        self.path = self.folder / f"{name}.csv"
        self.settings_path = self.folder / f"{name}.json"
        self._columns, self._key, self._about, self._asked = list(columns), list(key), about, 0
        self._unstated, self._lock = unstated, None
        self._main = self._table = self._table_at(self.path)
        self._check_folder()
        self._check_settings()
        self.refresh()
        self._check_measures()

    def check_goes_on(self):
        """Check that rows may be added: those that are there were drawn as the new ones would be.

        Raises:
            ValueError: they are of an earlier schema, or of another backend.

        Warns:
            UserWarning: other versions, or another commit, made those that are there.
        """
        self._check_drawn_alike()
        made_by = self._made_by()
        changed = _changes(made_by[-1], provenance()) if made_by else []
        if changed:
            warnings.warn(
                f"The rows of {self.path} from here on come from {', '.join(changed)}. {self.settings_path.name} says "
                "which come from what (provenance). Choose another `out` to have all of them from one.",
                stacklevel=3,
            )

    def check_data(self, now):
        """Check that data are those that the run is of.

        Args:
            now: dict from a name to a digest of the data that were read under it.

        Raises:
            ValueError: they are others.
        """
        # Any data may be given under any name (a small stand-in for MNIST, a folder of pictures), so there is no right
        # digest to compare with; but the rows of one run must come from the same data.
        before = {**(self._about or {}).get("data_sha256", {}), **self._settings().get("data_sha256", {})}
        changed = [name for name in now if before.get(name, now[name]) != now[name]]
        if changed:
            raise ValueError(
                f"Expected the data that the rows of {self.path} come from, received others for {', '.join(changed)}: "
                f"their contents (data_sha256 in {self.settings_path.name}) have changed since. Put the earlier data "
                "back, or choose another `out`."
            )

    def _check_drawn_alike(self):
        if not self.goes_on:
            raise ValueError(
                f"Expected all rows that were asked for in {self.path}, or one of schema {SCHEMA}, which can be "
                f"continued; rows are missing, and by {self.settings_path.name} it is of schema {self.schema}, in "
                "which a seed drew other numbers. Choose another `out`; or, to do all of it anew, remove this file, "
                f"that one and checkpoints/{self.name}."
            )
        before = self._settings().get("backend", backend.NAME)
        if self._about is not None and before != backend.NAME:
            raise ValueError(
                f"Expected the backend {before}, on which by {self.settings_path} this run began, received "
                f"{backend.NAME}, on which a seed makes another network. Set KERAS_BACKEND={before} before Python "
                "starts, or choose another `out`."
            )

    @property
    def goes_on(self):
        """Whether rows may be added: bool."""
        return not self._rows or self._about is None or self.schema == SCHEMA

    @property
    def schema(self):
        """The schema of the rows: int. Checksums are kept since 2, so that one is known without settings."""
        about = self._settings()
        return about.get("schema", SCHEMA if not about and Sums(self.path).path.exists() else self._unstated)

    @property
    def done(self):
        """The keys of the finished cells: set of tuples of str, as they are written."""
        return set(self._rows)

    def __contains__(self, key):
        return key in self._rows

    def refresh(self):
        """Read again what is on disk: others may have written since."""
        # Rows move from shards to the CSV and never back: read in this order, none is missed.
        shards = [row for path in self.shards() for row in self._table_at(path).rows()]
        self._rows = {self._written_key(row): row for row in self._main.rows()}
        for row in shards:
            self._rows.setdefault(self._written_key(row), row)

    def frame(self, **where):
        """Return all rows, or those that have some values in some columns, in the order in which they were written.

        Returns:
            pandas.DataFrame.
        """
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows(**where))
        text.seek(0)
        return pd.read_csv(text)

    @property
    def said(self):
        """What the settings file says: dict, empty if there is none that can be read."""
        return self._settings()

    @property
    def columns(self):
        """The columns of every row: list of str."""
        return self._columns

    def rows(self, **where):
        """List the rows that have some values in some columns: dicts of str."""
        where = {column: written(value) for column, value in where.items()}
        return [row for row in self._rows.values() if where.items() <= row.items()]

    def key_of(self, row):
        """Return a row's key as it stands in `done`."""
        return tuple(written(row[c]) for c in self._key)

    def append(self, rows):
        """Write rows and make them durable before returning.

        Args:
            rows: list of dict from column to value.

        Raises:
            OSError: they could not be written, and none of them is on disk.
            experiments.storage.locks.Lost: others may be writing too.
        """
        if not rows:
            return
        if self._lock and self.folder.exists():  # of a folder that is gone, the write itself tells
            self._lock.check()
        if self._table is self._main and not self._main.is_open:
            self.write_settings()
        rows = [{c: written(row[c]) for c in self._columns} for row in rows]
        self._table.append(rows)
        self._rows.update((self._written_key(row), row) for row in rows)

    def complete(self, rows):
        """Append those of some rows whose cells are not there yet."""
        self.append([row for row in rows if self.key_of(row) not in self._rows])

    def close(self):
        """Close the file; the next append opens it again."""
        self._table.close()

    @property
    def asked(self):
        """Of how many cells the run is to be, as this process knows: int."""
        return self._asked

    def expect(self, asked):
        """Let the settings file say from now on of how many cells the run is to be, in all."""
        self._asked = asked

    def write_settings(self):
        """Write the settings file, if there is to be one.

        Raises:
            ValueError: another process has begun this run with other data; an earlier version has.
        """
        if self._about is not None:
            self._check_settings()
            self._check_drawn_alike()
            made_by, now, changed = self._made_by(), provenance(), self._changed_measures()
            entry = {**now, "measures_sha256": changed} if changed else now
            if not made_by or {n: v for n, v in made_by[-1].items() if n not in ("rows", "since")} != entry:
                made_by.append({"rows": len(self._rows), "since": locks.now(), **entry})
            first = {name: made_by[0].get(name) for name in now}
            before = self._settings()
            # What was decided by looking at the run's first results stays so, whatever is asked for later.
            grown = {name: before[name] for name in ("until", "evaluated_examples") if name in before}
            about = {"schema": SCHEMA, **grown, **self._about, "key": self._key, "asked": self._asked, **first}
            about["provenance"] = made_by
            if "data_sha256" in about:  # what other data earlier rows come from stays known
                about["data_sha256"] = before.get("data_sha256", {}) | about["data_sha256"]
            if "measures_sha256" in about:
                # Of a measure that has rows and no digest, nobody knows by which file they were computed.
                there, known = self._measures(), about["measures_sha256"]
                known = {name: digest for name, digest in known.items() if name not in there}
                about["measures_sha256"] = known | self._measures_before()
            about = json.loads(json.dumps(about | self._restored()))  # as it will be read
            about["checksum"] = checksum(about)
            write_atomically(self.settings_path, json.dumps(about, indent=2).encode() + b"\n")

    def restore_settings(self):
        """Write the settings file anew, with a warning, if there are rows and it is missing or cut.

        Only while nobody else writes the run. Where nothing says of which schema the rows are, it stays as it is.
        """
        had_one = self.settings_path.exists() or Sums(self.path).path.exists()
        if self._about is None or self._settings() or not had_one:
            return
        self.refresh()
        if self._rows and self.goes_on:
            self._asked = max(self._asked, len(self._rows))
            self.write_settings()

    def _restored(self):
        """Say of how many rows nothing is known but what stands in them, for their settings file was lost: dict."""
        before = self._settings()
        if before or not self._rows:
            return {name: before[name] for name in ("restored",) if name in before}
        damaged = self.settings_path.with_name(self.settings_path.name + ".damaged")
        kept = ""
        if read(self.settings_path):
            files.move(self.settings_path, damaged)
            kept = f" What was left of it is in {damaged.name}."
        warnings.warn(
            f"The settings file {self.settings_path} was missing or damaged, and is written anew; versions, data and "
            f"measures of the {len(self._rows):,} rows that were there are taken on trust.{kept}",
            stacklevel=4,
        )
        return {"restored": len(self._rows)}

    def shard(self, trial, lock=None):
        """Append to a trial's shard from now on. Only the holder of the trial's lock may.

        Args:
            trial: str or None. None: to the CSV again.
            lock: experiments.storage.locks.Lock or None. The one by which this process may; its file is looked for
                before each append.
        """
        self.close()
        self._table = self._main if trial is None else self._table_at(self._shard_path(trial))
        self._lock = lock

    def shards(self):
        """List the shards that there are: paths, sorted."""
        return sorted(self.folder.glob(f"{self.name}+*.csv"))

    def shared(self):
        """Return the trials that have a shard, or the checksums of one: set of str."""
        paths = [*self.shards(), *self.folder.glob(f"{self.name}+*.sums")]
        return {path.stem.partition("+")[2] for path in paths}

    def fold(self, trial):
        """Move the rows of a trial's shard into the CSV. Only while nobody else writes the CSV or the shard.

        Args:
            trial: str.
        """
        path = self._shard_path(trial)
        if path.exists():
            present = {self._written_key(row) for row in self._main.rows()}
            rows = self._table_at(path).rows()
            self._main.append([row for row in rows if self._written_key(row) not in present])
            self._main.close()
        Sums(path).remove()
        files.remove(path)

    def _shard_path(self, trial):
        return self.folder / f"{self.name}+{trial}.csv"

    def _table_at(self, path):
        return Table(path, self._columns, self._key, self._run)

    def _written_key(self, row):
        return tuple(row[c] for c in self._key)

    def _check_folder(self):
        try:
            files.make_folder(self.folder)
            writable = os.access(self.folder, os.W_OK | os.X_OK)
        except OSError as error:
            raise OSError(
                f"Expected a folder for results at {self.folder}, received: {error}. Choose another `out`."
            ) from error
        if not writable:
            raise PermissionError(
                f"Expected a folder that can be written, received {self.folder}. Choose another `out`."
            )

    def _made_by(self):
        """Return what made the rows: list of dict, each with how many `rows` there were when it began."""
        about = self._settings()
        # Earlier files say only what made the last rows; of those before, nothing is known.
        said = {name: about[name] for name in ("versions", "backend", "device", "commit") if name in about}
        return about.get("provenance", [{"rows": 0, **said}] if said else [])

    def _measures_before(self):
        """Return the digests of the measures' files that the rows come from: {name: str}, where it is known."""
        before, there = self._settings().get("measures_sha256", {}), self._measures()
        return {name: digest for name, digest in before.items() if name in there}

    def _measures(self):
        """Return the names of the measures that rows are of: set of str."""
        return {row[c].partition(":")[0] for row in self._rows.values() for c in ("measure", "other") if c in row}

    def _changed_measures(self):
        """Return the digests of files of measures that have changed since there are rows of them: {name: str}."""
        now = (self._about or {}).get("measures_sha256")
        return {n: now.get(n) for n, before in self._measures_before().items() if now.get(n) != before} if now else {}

    def _check_measures(self):
        # Not an error, as with data: what has changed may be a sentence, and a night's run is to go on.
        changed = self._changed_measures()
        if changed:
            warnings.warn(
                f"The rows of {', '.join(changed)} in {self.path} were computed before importance/{min(changed)}.py "
                "was changed, and stay as they are. Remove those lines to have them computed anew, or choose another "
                "`out`.",
                stacklevel=4,
            )

    def _settings(self):
        """Return what the settings file says: dict, empty if there is none that can be read."""
        try:
            about = json.loads(self.settings_path.read_text(encoding="utf-8"))
            whole = type(about.get("schema", 1)) is int
            whole = whole and all(isinstance(about.get(f"{of}_sha256", {}), dict) for of in ("data", "measures"))
        except (OSError, ValueError, AttributeError, RecursionError):
            return {}
        return about if whole else {}

    def _check_settings(self):
        about = self._settings()
        schema = about.get("schema", 1)
        if schema > SCHEMA:
            raise ValueError(
                f"Expected {self.settings_path} to be of schema {SCHEMA} or earlier, received {schema}: it was written "
                "by a later version. Update, or choose another `out`."
            )
        if about.get("checksum", checksum(about)) != checksum(about):
            raise ValueError(
                f"Expected {self.settings_path} as it was written, received one whose checksum does not fit: it was "
                "changed since, by damage or by hand. Restore it; remove it to have it written anew; or, if all it "
                'says is right, remove its "checksum".'
            )
        self.check_data((self._about or {}).get("data_sha256", {}))


def written(value):
    """Return a value as it stands in a CSV: numbers with the digits that give them back exactly."""
    if isinstance(value, float) or hasattr(value, "dtype"):
        number = float(value)
        single = getattr(value, "dtype", None) == "float32"
        return f"{number:.9g}" if single else repr(number)
    return str(value)


def provenance():
    """Return what a result depends on beside its settings: versions, backend, device and commit."""
    return {"versions": backend.versions(), "backend": backend.NAME, "device": backend.device(), "commit": _commit()}


@functools.cache  # what this process has imported stays what it is
def _commit():
    here = pathlib.Path(__file__).parent
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=here, capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None


def _changes(before, now):
    """List what is another in one provenance than in an earlier one: "keras 3.15.1 (before: 3.15.0)"."""
    # A notebook that was saved is enough for "-dirty": it is written down, and nothing to be warned of.
    commits = (str(said.get("commit")).removesuffix("-dirty") for said in (before, now))
    flat = [{**said.get("versions", {}), "commit": c} for said, c in zip((before, now), commits, strict=True)]
    return [f"{name} {new} (before: {flat[0].get(name)})" for name, new in flat[1].items() if flat[0].get(name) != new]
