"""A CSV file of rows, each durable as soon as it is appended, with a checksum of each beside it."""

import contextlib
import csv
import errno
import io
import os
import warnings

from experiments.storage import files
from experiments.storage.files import plain, read, told, unpacked, write_atomically
from experiments.storage.sums import Sums

_MEASURED = ("seconds",)
"""Columns that are others whenever the same row is computed."""


class Table:
    """A CSV file whose rows are durable as soon as they are appended; packed (`.csv.gz`) it can be read too.

    Args:
        path: pathlib.Path.
        columns, key: list of str.
        run: str. What the column `run` says, if there is one.
    """

    def __init__(self, path, columns, key, run):
        self._path, self._packed = path, path.with_name(path.name + ".gz")
        self._columns, self._key, self._run = columns, key, run
        self._sums, self._file, self._warned = Sums(path), None, False

    @property
    def is_open(self):
        """Whether rows have been appended since it was made or closed."""
        return self._file is not None

    def rows(self):
        """Read the rows, each once, without a last one that a crash cut off: list of dict of str."""
        return self._once(self._read(self._whole()))

    def append(self, rows):
        """Add rows, dicts of str; raises OSError if they could not be written, and none of them is on disk then."""
        if self._file is None:
            self._open()
        content = self._text(rows)
        try:
            self._sums.append(rows)  # first, so that a crash never leaves a row without its checksum
            with told(self._path):
                files.append_durably(self._file.fileno(), content)
                if os.fstat(self._file.fileno()).st_nlink == 0:
                    raise FileNotFoundError(errno.ENOENT, "the file was removed while the run was writing it")
        except OSError:
            with contextlib.suppress(OSError):
                files.cut(self._file.fileno(), self._end)  # a part of a row must not stand before the next one
            self.close()
            raise
        self._end += len(content)

    def close(self):
        """Close the file."""
        self._sums.close()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _once(self, rows):
        """Return each row once: two processes may have written it, if the file of their lock was removed."""
        found = {}
        for row in rows:
            first = found.setdefault(tuple(row[c] for c in self._key), row)
            other = next((c for c in self._columns if c not in _MEASURED and row[c] != first[c]), None)
            if other:
                cell = ", ".join(f"{c}={row[c]}" for c in self._key)
                raise ValueError(
                    f"Expected each cell once in {self._path}, some stand twice: of {cell}, {other} is {first[other]} "
                    f"and {row[other]}. Remove the wrong lines, or move the file, and run again."
                )
        if len(found) < len(rows) and not self._warned:
            self._warned = True
            warnings.warn(
                f"{len(rows) - len(found)} rows of {self._path} stand twice, with the same values, and are taken once.",
                stacklevel=4,
            )
        return list(found.values())

    def _content(self):
        # In this order: the packed file is removed when all that it holds is in the other one.
        packed = unpacked(self._packed)
        content = read(self._path)
        if packed:
            longer, shorter = sorted((plain(content), plain(packed)), key=len, reverse=True)
            if not longer.startswith(shorter):
                raise ValueError(
                    f"Expected either {self._path} or {self._packed.name}, or both with the same rows, received two "
                    "that differ. Move away the one that is not to count."
                )
            return longer
        return content

    def _whole(self):
        """Read the lines, without a last one that a crash cut off: bytes, empty if there is nothing, not a header."""
        content = plain(self._content())
        whole = content[: content.rfind(b"\n") + 1]
        cut = content[len(whole) :].decode(errors="replace")
        if whole:
            begins = _line([self._run])[:-1] + "," if self._columns[0] == "run" else ""
            is_row = (cut.startswith(begins) or begins.startswith(cut)) and "\0" not in cut
        else:
            is_row = _line(self._columns).startswith(cut)
        if not is_row or cut.count(",") >= len(self._columns) + cut.count('"'):
            raise ValueError(
                f"Expected rows in {self._path}, or the beginning of one at its end, received {cut[:60]!r}. It is left "
                "as it is: restore the file, or move it away and run again."
            )
        return whole if whole.strip() else b""

    def _read(self, whole):
        reader, rows, lines, bad = csv.reader(io.StringIO(whole.decode(errors="replace"))), [], [], []
        try:
            header = next(filter(None, reader), self._columns)
            if header != self._columns:
                raise ValueError(
                    f"Expected the columns {', '.join(self._columns)} in {self._path}, received {', '.join(header)}. "
                    "Another file is in the way: move it, or choose another `out`."
                )
            for values in filter(None, reader):
                lines.append(reader.line_num)
                rows.append(dict(zip(self._columns, values, strict=False)))
                text, without = "".join(values), header[-1] == "status" and not values[-1]
                if len(values) != len(header) or without or values == header or "\ufffd" in text or "\0" in text:
                    bad.append(reader.line_num)
        except csv.Error as error:
            bad.append(f"{reader.line_num} ({error})")
        if bad:
            raise ValueError(
                f"Expected {len(self._columns)} values in each line of {self._path}, lines {bad[:5]} have others. "
                "Restore the file, or remove those lines to have them computed anew."
            )
        others = {row["run"] for row in rows} - {self._run} if "run" in self._columns else None
        if others:
            raise ValueError(
                f"Expected only rows of the run {self._run} in {self._path}, received rows of {sorted(others)[:3]}. "
                "Remove those lines, or move the file and run again."
            )
        changed = [lines[place] for place in self._sums.changed(rows)]
        if changed:
            raise ValueError(
                f"Expected the rows of {self._path} as they were written, received others in {len(changed)} of "
                f"{len(rows)} lines, {changed[:5]}: by {self._sums.path.name} they were changed since, by damage or by "
                "hand. Restore the file; remove those lines to have them computed anew; or, if they are right, remove "
                f"{self._sums.path.name}."
            )
        return rows

    def _open(self):
        whole = self._whole()
        rows = self._read(whole)
        self._sums.open(self._columns, rows)
        whole, once = whole or _line(self._columns).encode(), self._once(rows)
        if len(once) < len(rows):
            whole = _line(self._columns).encode() + self._text(once)
        try:
            if whole != read(self._path):
                write_atomically(self._path, whole)
            files.remove(self._packed)
            with told(self._path):
                self._file = files.opened(self._path, "ab")
        except OSError:
            self._sums.close()
            raise
        self._end = len(whole)

    def _text(self, rows):
        text = io.StringIO()
        csv.DictWriter(text, self._columns, lineterminator="\n").writerows(rows)
        return text.getvalue().encode()


def _line(values):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()
