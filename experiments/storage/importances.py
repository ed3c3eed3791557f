"""Importances on disk: plain arrays, with what they come from beside them."""

import hashlib
import io
import json
import pathlib
import warnings

import numpy as np

from experiments.storage import files, origin

ABOUT = "about"
_CHECKSUM = "contents_sha256"


def save(path, importances, **about):
    """Write importances to an .npz file.

    Args:
        path: str or path.
        importances: list of arrays like `model.trainable_variables`.
        **about: where they come from: measure, seed, data, versions; whatever JSON knows.
    """
    path, content = pathlib.Path(path), io.BytesIO()
    arrays = {f"{index:05d}": np.asarray(array, "float32") for index, array in enumerate(importances)}
    about = json.loads(json.dumps(about))
    says = {**about, _CHECKSUM: _checksum(arrays, about)}
    np.savez(content, **arrays, **{ABOUT: np.array(json.dumps(says))})
    files.make_folder(path.parent)
    files.write_atomically(path, content.getvalue())


def load(path):
    """Read importances that `save` wrote. Nothing in such a file can be run.

    Args:
        path: str or path.

    Returns:
        importances: list of float32 arrays.
        about: dict.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a damaged file, or one that holds something else.
    """
    content = pathlib.Path(path).read_bytes()
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as found:
            about = json.loads(found[ABOUT].item())
            arrays = {name: found[name] for name in sorted(set(found.files) - {ABOUT})}
            checksum = about.pop(_CHECKSUM, None)  # earlier files have none
            if checksum not in (None, _checksum(arrays, about)):
                raise ValueError("its contents are not those that were written")
            return list(arrays.values()), about
    except MemoryError:
        raise
    except Exception as error:  # what is damaged may raise anything
        raise ValueError(
            f"Expected importances that were written by experiments.storage.importances.save in {path}, received a "
            f"file that is damaged or holds something else: {error}"
        ) from error


def kept(path, of):
    """Return importances that were kept, if they are whole and come from what they have to.

    Args:
        path: str or path.
        of: dict. What `about` has to say, as JSON knows it.

    Returns:
        list of float32 arrays; None if there is no such file, or, with a warning, if it is damaged or of something
        else: they are to be computed anew.
    """
    if not pathlib.Path(path).exists():
        return None
    try:
        found, about = load(path)
        other = origin.difference(about, of)
        why = other and f"Expected {path} to be of {other}"
    except ValueError as error:
        why = str(error)
    if why is None:
        return found
    warnings.warn(f"{why}; the importances are computed anew.", stacklevel=3)
    return None


def _checksum(arrays, about):
    whole = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for array in arrays.values():
        whole.update(f"{array.dtype.str}{array.shape}".encode() + array.tobytes())
    return whole.hexdigest()
