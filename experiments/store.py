"""Results on disk: rows of a CSV, appended and made durable at once, with a settings file beside it."""

import csv
import gzip
import io
import json
import os
import pathlib
import re
import subprocess

import pandas as pd

from engine import backend

SCHEMA = 1


class Store:
    """One run's CSV and its settings file.

    Nothing is written before the first row. A last line that a crash cut off is removed; finished cells stay.

    Args:
        folder: str or path. Made if it is not there.
        name: str. The run's name; the files are `<name>.csv` and `<name>.json`.
        columns: list of str.
        key: list of str. The columns that name a cell; no two rows share them.
        about: dict or None. What the settings file says beside versions, backend, device and commit; None: there is no
            settings file.

    Raises:
        ValueError: the file has other columns, or cells twice.
        OSError: the folder cannot be written.
    """

    def __init__(self, folder, name, columns, key, about=None):
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._=,-]*", name):
            raise ValueError(
                f"Expected a run's name of letters, digits, '-', '_', '.', ',' and '=', received {name!r}."
            )
        self.folder = pathlib.Path(folder)
        self.path = self.folder / f"{name}.csv"
        self.settings_path = self.folder / f"{name}.json"
        self._packed = self.folder / f"{name}.csv.gz"
        self._columns, self._key, self._about = list(columns), list(key), about
        self._file = None
        self._check_folder()
        self._rows = self._read()

    @property
    def done(self):
        """The keys of the finished cells: set of tuples of str, as they are written."""
        return {tuple(row[c] for c in self._key) for row in self._rows}

    def frame(self):
        """Return all rows as a dataframe, in the order in which they were written."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        text.seek(0)
        return pd.read_csv(text)

    def key_of(self, row):
        """Return a row's key as it stands in `done`."""
        return tuple(written(row[c]) for c in self._key)

    def append(self, rows):
        """Write rows and make them durable before returning.

        Args:
            rows: list of dict from column to value.
        """
        if not rows:
            return
        if self._file is None:
            self._open()
        rows = [{c: written(row[c]) for c in self._columns} for row in rows]
        text = io.StringIO()
        csv.DictWriter(text, self._columns, lineterminator="\n").writerows(rows)
        self._file.write(text.getvalue().encode())
        self._file.flush()
        os.fsync(self._file.fileno())
        self._rows += rows

    def close(self):
        """Close the file; the next append opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

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

    def _content(self):
        text = self.path.read_bytes() if self.path.exists() else b""
        return gzip.decompress(self._packed.read_bytes()) if not text and self._packed.exists() else text

    def _read(self):
        text = self._content()
        whole = text[: text.rfind(b"\n") + 1].decode(errors="replace")  # what a crash cut off is not a row
        reader = csv.DictReader(io.StringIO(whole))
        if reader.fieldnames and reader.fieldnames != self._columns:
            raise ValueError(
                f"Expected the columns {', '.join(self._columns)} in {self.path}, received "
                f"{', '.join(reader.fieldnames)}. Another file is in the way: move it, or choose another `out`."
            )
        rows = list(reader)
        bad = [number for number, row in enumerate(rows, 2) if None in row or None in row.values()]
        if bad:
            raise ValueError(
                f"Expected {len(self._columns)} values in each line of {self.path}, lines {bad[:5]} have others."
            )
        if len({tuple(row[c] for c in self._key) for row in rows}) < len(rows):
            raise ValueError(f"Expected each cell once in {self.path}, some stand twice. Move the file and run again.")
        return rows

    def _open(self):
        if self._about is not None:
            self._write_settings()
        text = self._content()
        self._file = self.path.open("r+b" if self.path.exists() else "w+b")
        end = text.rfind(b"\n") + 1
        if end == 0:
            text = (",".join(self._columns) + "\n").encode()
            end = len(text)
        # Rewriting what is there costs nothing and covers all cases: new, torn, unpacked.
        self._file.write(text[:end])
        self._file.truncate(end)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._packed.unlink(missing_ok=True)

    def _write_settings(self):
        about = {"schema": SCHEMA, **self._about, **provenance()}
        write_atomically(self.settings_path, json.dumps(about, indent=2).encode() + b"\n")


def written(value):
    """Return a value as it stands in a CSV: numbers with the digits that give them back exactly."""
    if isinstance(value, float) or hasattr(value, "dtype"):
        number = float(value)
        single = getattr(value, "dtype", None) == "float32"
        return f"{number:.9g}" if single else repr(number)
    return str(value)


def write_atomically(path, content):
    """Write a file so that at any instant either the old or the whole new content is there.

    Args:
        path: pathlib.Path.
        content: bytes.
    """
    temporary = path.with_name(path.name + ".part")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


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
