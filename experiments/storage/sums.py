"""Checksums of rows: what tells a row that was changed from one that was written; see docs/data-format.md."""

import hashlib
import warnings

from experiments.storage import files
from experiments.storage.files import read, told, write_atomically

HEADER = b"# a digest of each row that was written, see docs/data-format.md\n"
_DIGITS = 12


def digest(values):
    """Return the digest of a row: 12 hexadecimal digits.

    Args:
        values: iterable of str. The row's, in the order of the columns.
    """
    return hashlib.blake2b("\x1f".join(values).encode(), digest_size=_DIGITS // 2).hexdigest()


class Sums:
    """The side file of a CSV, `<name>.sums`: a line for its columns and one for each row, on disk before the row is.

    So a row without its line was changed, and a line without its row is one of a row that was removed, or that a crash
    kept from being written: both are missing, and computed anew.

    Args:
        path: pathlib.Path. That of the CSV.
    """

    def __init__(self, path):
        self.path, self._file = path.with_name(path.name.removesuffix(".csv") + ".sums"), None

    def changed(self, rows):
        """List the places of the rows that are not as they were written; none where no checksums are kept.

        Args:
            rows: list of dict of str.
        """
        known = set(read(self.path).decode(errors="replace").split("\n"))
        return [place for place, row in enumerate(rows) if digest(row.values()) not in known] if known != {""} else []

    def open(self, columns, rows):
        """Make ready for more rows. Those that are there and have no checksums get them as they are, with a warning."""
        content = read(self.path)
        whole = content[: content.rfind(b"\n") + 1]
        if len(content) - len(whole) == _DIGITS:  # a crash may have cut off the end of the line alone
            whole = content + b"\n"
        if not content:
            whole = HEADER + f"{digest(('columns', *columns))}\n".encode() + _lines(rows)
        if rows and not content:
            warnings.warn(
                f"There is no {self.path}, which holds checksums of rows. The {len(rows):,} rows that are there, of an "
                "earlier version or without their checksums by now, are taken as they are.",
                stacklevel=2,
            )
        if whole != content:
            write_atomically(self.path, whole)
        with told(self.path):
            self._file = files.opened(self.path, "ab")

    def append(self, rows):
        """Write the checksums of rows that are about to be written."""
        with told(self.path):
            files.append_durably(self._file.fileno(), _lines(rows))

    def close(self):
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def remove(self):
        """Remove the file, before the rows are."""
        files.remove(self.path)


def _lines(rows):
    return "".join(f"{digest(row.values())}\n" for row in rows).encode()
