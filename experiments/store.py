"""Results on disk: rows of a CSV, appended and made durable at once, with a settings file beside it."""

import contextlib
import csv
import errno
import gzip
import io
import json
import os
import pathlib
import re
import subprocess
import warnings

import pandas as pd

from engine import backend
from experiments.files import told, write_atomically, write_durably

SCHEMA = 1


class Store:
    """One run's CSV and its settings file.

    Nothing is written before the first row. A last line that a crash cut off is removed; finished cells stay. Workers
    that share a run write the rows of a trial to a file of its own, a shard (`<name>+<trial>.csv`), which moves into
    the CSV when the trial is done; whoever reads the run reads both.

    Args:
        folder: str or path. Made if it is not there.
        name: str. The run's name; the files are `<name>.csv` and `<name>.json`.
        columns: list of str.
        key: list of str. The columns that name a cell; no two rows share them.
        about: dict or None. What the settings file says beside versions, backend, device and commit; None: there is no
            settings file. Its "data_sha256" holds a digest of each data set's contents, by name, and "measures_sha256"
            one of each measure's file.
        run: str or None. What the column `run` of every row says, if there is one; None: the name.

    Raises:
        ValueError: the file has other columns, rows of another run, or cells twice, was written by a later version, or
            its rows come from other data.
        OSError: the folder cannot be written.

    Warns:
        UserWarning: the file of a measure has changed since rows of it were written.
    """

    def __init__(self, folder, name, columns, key, about=None, run=None):
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._=,-]*", name):
            raise ValueError(
                f"Expected a run's name of letters, digits, '-', '_', '.', ',' and '=', received {name!r}."
            )
        self.folder, self.name, self._run = pathlib.Path(folder), name, run or name
        self.path = self.folder / f"{name}.csv"
        self.settings_path = self.folder / f"{name}.json"
        self._columns, self._key, self._about = list(columns), list(key), about
        self._main = self._table = _Table(self.path, self._columns, self._run)
        self._check_folder()
        self._check_settings()
        self.refresh()
        self._check_measures()

    @property
    def done(self):
        """The keys of the finished cells: set of tuples of str, as they are written."""
        return set(self._rows)

    def refresh(self):
        """Read again what is on disk: others may have written since."""
        # Rows move from shards to the CSV and never back: read in this order, none is missed.
        shards = [row for path in self.shards() for row in _Table(path, self._columns, self._run).rows()]
        rows = self._main.rows()
        self._rows = {self._written_key(row): row for row in rows}
        if len(self._rows) < len(rows):
            raise ValueError(f"Expected each cell once in {self.path}, some stand twice. Move the file and run again.")
        for row in shards:
            self._rows.setdefault(self._written_key(row), row)

    def frame(self):
        """Return all rows as a dataframe, in the order in which they were written."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows.values())
        text.seek(0)
        return pd.read_csv(text)

    def key_of(self, row):
        """Return a row's key as it stands in `done`."""
        return tuple(written(row[c]) for c in self._key)

    def append(self, rows):
        """Write rows and make them durable before returning.

        Args:
            rows: list of dict from column to value.

        Raises:
            OSError: they could not be written, and none of them is on disk.
        """
        if not rows:
            return
        if self._table is self._main and not self._main.is_open:
            self.write_settings()
        rows = [{c: written(row[c]) for c in self._columns} for row in rows]
        self._table.append(rows)
        self._rows.update((self._written_key(row), row) for row in rows)

    def close(self):
        """Close the file; the next append opens it again."""
        self._table.close()

    def write_settings(self):
        """Write the settings file, if there is to be one.

        Raises:
            ValueError: another process has begun this run with other data.
        """
        if self._about is not None:
            self._check_settings()
            about = {"schema": SCHEMA, **self._about, **provenance()}
            if "measures_sha256" in about:
                about["measures_sha256"] = about["measures_sha256"] | self._measures_before()
            write_atomically(self.settings_path, json.dumps(about, indent=2).encode() + b"\n")

    def shard(self, trial):
        """Append to a trial's shard from now on. Only the holder of the trial's lock may.

        Args:
            trial: str or None. None: to the CSV again.
        """
        self.close()
        self._table = self._main if trial is None else _Table(self._shard_path(trial), self._columns, self._run)

    def shards(self):
        """List the shards that there are: paths, sorted."""
        return sorted(self.folder.glob(f"{self.name}+*.csv"))

    def fold(self, trial):
        """Move the rows of a trial's shard into the CSV. Only while nobody else writes the CSV or the shard.

        Args:
            trial: str.
        """
        path = self._shard_path(trial)
        if not path.exists():
            return
        present = {self._written_key(row) for row in self._main.rows()}
        rows = _Table(path, self._columns, self._run).rows()
        self._main.append([row for row in rows if self._written_key(row) not in present])
        self._main.close()
        path.unlink()

    def _shard_path(self, trial):
        return self.folder / f"{self.name}+{trial}.csv"

    def _written_key(self, row):
        return tuple(row[c] for c in self._key)

    def _check_folder(self):
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            writable = os.access(self.folder, os.W_OK | os.X_OK)
        except OSError as error:
            raise OSError(
                f"Expected a folder for results at {self.folder}, received: {error}. Choose another `out`."
            ) from error
        if not writable:
            raise PermissionError(
                f"Expected a folder that can be written, received {self.folder}. Choose another `out`."
            )

    def _measures_before(self):
        """Return the digests of the measures' files that the rows come from: {name: str}, where it is known."""
        try:
            before = json.loads(self.settings_path.read_text(encoding="utf-8")).get("measures_sha256", {})
        except (OSError, ValueError, AttributeError):
            return {}
        there = {row["measure"].partition(":")[0] for row in self._rows.values()}
        return {name: digest for name, digest in before.items() if name in there}

    def _check_measures(self):
        # Not an error, as with data: what has changed may be a sentence, and a night's run is to go on.
        now = (self._about or {}).get("measures_sha256")
        changed = [name for name, before in self._measures_before().items() if now.get(name) != before] if now else []
        if changed:
            warnings.warn(
                f"The rows of {', '.join(changed)} in {self.path} were computed before importance/{changed[0]}.py was "
                "changed, and stay as they are. Remove those lines to have them computed anew, or choose another "
                "`out`.",
                stacklevel=4,
            )

    def _check_settings(self):
        try:
            about = json.loads(self.settings_path.read_text(encoding="utf-8"))
            schema, before = about.get("schema", SCHEMA), about.get("data_sha256", {})
        except (OSError, ValueError, AttributeError):
            return  # it is written anew with the first row
        if schema > SCHEMA:
            raise ValueError(
                f"Expected {self.settings_path} to be of schema {SCHEMA} or earlier, received {schema}: it was written "
                "by a later version. Update, or choose another `out`."
            )
        # Any data may be given under any name (a small stand-in for MNIST, a folder of pictures), so there is no right
        # digest to compare with; but the rows of one run must come from the same data.
        now = (self._about or {}).get("data_sha256", {})
        changed = [name for name in now if before.get(name, now[name]) != now[name]]
        if changed:
            raise ValueError(
                f"Expected the data that the rows of {self.path} come from, received others for {', '.join(changed)}: "
                f"their contents (data_sha256 in {self.settings_path.name}) have changed since. Put the earlier data "
                "back, or choose another `out`."
            )


class _Table:
    """A CSV file whose rows are durable as soon as they are appended; packed (`.csv.gz`) it can be read too."""

    def __init__(self, path, columns, run):
        self._path, self._packed = path, path.with_name(path.name + ".gz")
        self._columns, self._run = columns, run
        self._file = None

    @property
    def is_open(self):
        return self._file is not None

    def rows(self):
        """Read the rows, without a last one that a crash cut off: list of dict of str."""
        text = self._content()
        whole = text[: text.rfind(b"\n") + 1].decode(errors="replace")
        reader = csv.DictReader(io.StringIO(whole))
        if reader.fieldnames and reader.fieldnames != self._columns:
            raise ValueError(
                f"Expected the columns {', '.join(self._columns)} in {self._path}, received "
                f"{', '.join(reader.fieldnames)}. Another file is in the way: move it, or choose another `out`."
            )
        rows = list(reader)
        bad = [number for number, row in enumerate(rows, 2) if None in row or None in row.values()]
        if bad:
            raise ValueError(
                f"Expected {len(self._columns)} values in each line of {self._path}, lines {bad[:5]} have others."
            )
        others = {row["run"] for row in rows} - {self._run} if "run" in self._columns else None
        if others:
            raise ValueError(
                f"Expected only rows of the run {self._run} in {self._path}, received rows of {sorted(others)[:3]}. "
                "Remove those lines, or move the file and run again."
            )
        return rows

    def append(self, rows):
        if self._file is None:
            self._open()
        text = io.StringIO()
        csv.DictWriter(text, self._columns, lineterminator="\n").writerows(rows)
        content = text.getvalue().encode()
        with told(self._path):
            try:
                write_durably(self._file.fileno(), content)
                if os.fstat(self._file.fileno()).st_nlink == 0:
                    raise FileNotFoundError(errno.ENOENT, "the file was removed while the run was writing it")
            except OSError:
                with contextlib.suppress(OSError):
                    self._file.truncate(self._end)  # a part of a row must not stand before the next one
                self.close()
                raise
        self._end += len(content)

    def close(self):
        if self._file is not None:
            self._file.close()
            self._file = None

    def _content(self):
        try:
            text = self._path.read_bytes()
        except FileNotFoundError:
            text = b""
        return gzip.decompress(self._packed.read_bytes()) if not text and self._packed.exists() else text

    def _open(self):
        text = self._content()
        whole = text[: text.rfind(b"\n") + 1].replace(b"\r\n", b"\n") or (",".join(self._columns) + "\n").encode()
        if whole != text or not self._path.exists() or not self._path.stat().st_size:
            write_atomically(self._path, whole)
        self._packed.unlink(missing_ok=True)
        with told(self._path):
            self._file = self._path.open("ab", buffering=0)
        self._end = len(whole)


def written(value):
    """Return a value as it stands in a CSV: numbers with the digits that give them back exactly."""
    if isinstance(value, float) or hasattr(value, "dtype"):
        number = float(value)
        single = getattr(value, "dtype", None) == "float32"
        return f"{number:.9g}" if single else repr(number)
    return str(value)


def provenance():
    """Return what a result depends on beside its settings: versions, backend, device and commit."""
    here = pathlib.Path(__file__).parent
    try:
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=here, capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        commit = None
    return {"versions": backend.versions(), "backend": backend.NAME, "device": backend.device(), "commit": commit}
