"""Importances on disk: plain arrays, with what they come from beside them."""

import io
import json
import pathlib
import zipfile

import numpy as np

from experiments.files import write_atomically

ABOUT = "about"


def save(path, importances, **about):
    """Write importances to an .npz file.

    Args:
        path: str or path.
        importances: list of arrays like `model.trainable_variables`.
        **about: where they come from: measure, seed, data, versions; whatever JSON knows.
    """
    path, content = pathlib.Path(path), io.BytesIO()
    arrays = {f"{index:05d}": np.asarray(array, "float32") for index, array in enumerate(importances)}
    np.savez(content, **arrays, **{ABOUT: np.array(json.dumps(about))})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content.getvalue())


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
            return [found[name] for name in sorted(set(found.files) - {ABOUT})], about
    except (ValueError, KeyError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"Expected importances that were written by experiments.importances.save in {path}, received a file that "
            f"is damaged or holds something else: {error}"
        ) from error
