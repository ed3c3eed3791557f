"""The state of a training on disk: plain arrays with a checksum, written atomically, never unpickled."""

import hashlib
import io
import pathlib
import warnings

import numpy as np

from experiments.files import write_atomically


class Checkpoints:
    """The checkpoints of one trial.

    Args:
        folder: str or path. Made when the first is saved.
    """

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)

    def save(self, epoch, arrays):
        """Keep the state after an epoch, and the one before it in case this one is damaged.

        Args:
            epoch: int.
            arrays: list of NumPy arrays.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        np.savez(content, **{f"{index:05d}": array for index, array in enumerate(arrays)})
        content = content.getvalue()
        write_atomically(self._path(epoch), hashlib.sha256(content).digest() + content)
        for old in self.epochs()[:-2]:
            self._path(old).unlink(missing_ok=True)

    def epochs(self):
        """List the epochs that were kept, ascending."""
        return sorted(int(path.stem) for path in self.folder.glob("*.npz") if path.stem.isdigit())

    def load(self, epoch):
        """Return the arrays kept after an epoch, or None, with a warning, if the file is damaged."""
        path = self._path(epoch)
        try:
            content = path.read_bytes()
        except OSError:
            content = b""
        if hashlib.sha256(content[32:]).digest() != content[:32]:
            warnings.warn(f"The checkpoint {path} is damaged; going on from the one before it.", stacklevel=2)
            return None
        with np.load(io.BytesIO(content[32:]), allow_pickle=False) as arrays:
            return [arrays[name] for name in sorted(arrays.files)]

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
            path.unlink(missing_ok=True)
        for folder in (self.folder, self.folder.parent):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    def _path(self, epoch):
        return self.folder / f"{epoch:05d}.npz"
