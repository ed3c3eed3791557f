"""The state of a training on disk: plain arrays with a checksum, written atomically, never unpickled."""

import contextlib
import hashlib
import io
import json
import pathlib
import warnings
import zipfile

import numpy as np

from experiments.storage import files, origin

_ABOUT = "about"


class Checkpoints:
    """The checkpoints of one training.

    Args:
        folder: str or path. Made when the first is saved.
        keep: int or None. How many of the last are kept: two, in case the last one is damaged. None: all.
        of: dict or None. What the training comes from, as JSON knows it: run, trial, data, backend. Each file says so,
            beside its epoch, and one that says something else is not gone on from. None: whoever reads looks after it.
    """

    def __init__(self, folder, keep=2, of=None):
        self.folder, self._keep, self._of = pathlib.Path(folder), keep, of

    def save(self, epoch, arrays, /, **about):
        """Keep the state after an epoch.

        Args:
            epoch: int.
            arrays: list of NumPy arrays, or dict from name to array. What is alike is written once.
            **about: what the file says of itself; whatever JSON knows.
        """
        files.make_folder(self.folder)
        if not isinstance(arrays, dict):
            arrays = {f"{index:05d}": array for index, array in enumerate(arrays)}
        first = {}
        alike = {name: first.setdefault(_content(array), name) for name, array in arrays.items()}
        says = {
            "says": {**self._expected(epoch), **about},
            "alike": {name: one for name, one in alike.items() if one != name},
        }
        content = io.BytesIO()
        np.savez(content, **{one: arrays[one] for one in first.values()}, **{_ABOUT: np.array(json.dumps(says))})
        content = content.getvalue()
        files.write_atomically(self.path(epoch), hashlib.sha256(content).digest() + content)
        for old in self.epochs()[: -self._keep] if self._keep else ():
            files.remove(self.path(old))

    def epochs(self):
        """List the epochs that were kept, ascending."""
        return sorted(int(path.stem) for path in self.folder.glob("*.npz") if path.stem.isdigit())

    def load(self, epoch):
        """Return the list of arrays kept after an epoch, or None, with a warning, as `read` does."""
        found = self.read(epoch)
        return found and [found[0][name] for name in sorted(found[0])]

    def read(self, epoch):
        """Read a file whole.

        Returns:
            tuple ({name: array}, what the file says of itself) of an epoch; None, with a warning, if it is damaged or
            of something else.
        """
        path = self.path(epoch)
        try:
            content = path.read_bytes()
        except OSError:
            content = b""
        if hashlib.sha256(content[32:]).digest() != content[:32]:
            return _passed_over(f"The checkpoint {path} is damaged")
        with np.load(io.BytesIO(content[32:]), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        says = json.loads(arrays.pop(_ABOUT).item()) if _ABOUT in arrays else {}  # earlier files say nothing
        arrays |= {name: arrays[one] for name, one in says.get("alike", {}).items()}
        about = says.get("says", {})
        other = origin.difference(about, self._expected(epoch))
        return _passed_over(f"Expected {path} to be of {other}") if other else (arrays, about)

    def glance(self, epoch):
        """Return (what the file of an epoch says of itself, {name: bytes} of its arrays) without a check.

        Of one that cannot be opened both are empty.
        """
        with contextlib.suppress(Exception):  # what is damaged may raise anything
            with zipfile.ZipFile(self.path(epoch)) as file, file.open(f"{_ABOUT}.npy") as about:
                sizes = {each.filename.removesuffix(".npy"): each.file_size for each in file.infolist()}
                return json.loads(np.lib.format.read_array(about).item())["says"], sizes
        return {}, {}

    def latest(self, most):
        """Return the last state that is not past an epoch and is not damaged.

        Args:
            most: int. The epoch.

        Returns:
            epoch: int. 0 if there is none.
            arrays: list of NumPy arrays, or None.
        """
        for epoch in reversed([epoch for epoch in self.epochs() if epoch <= most]):
            arrays = self.load(epoch)
            if arrays is not None:
                return epoch, arrays
        return 0, None

    def clear(self):
        """Remove all checkpoints: the trial is finished."""
        for path in [*self.folder.glob("*.npz"), *self.folder.glob("*.part")]:
            files.remove(path)
        for folder in (self.folder, self.folder.parent):
            files.remove_if_empty(folder)

    def _expected(self, epoch):
        return {} if self._of is None else {**self._of, "epoch": epoch}

    def path(self, epoch):
        """Return the path of the file of an epoch."""
        return self.folder / f"{epoch:05d}.npz"


def _passed_over(why):
    warnings.warn(f"{why}; going on from the one before it, or from the start.", stacklevel=4)


def _content(array):
    return array.dtype.str, array.shape, hashlib.sha256(array.tobytes()).digest()
