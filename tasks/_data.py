"""Read the images that do not ship with a package: from a folder of yours, else from Keras's download."""

import os
import zipfile
import zlib
from pathlib import Path

import keras
import numpy as np

FOLDER_VARIABLE = "WEIGHTWISE_DATA"
KEYS = ("x_train", "y_train", "x_test", "y_test")


def images(name, shape):
    """Read an image data set.

    `<name>.npz` in the folder that the environment variable WEIGHTWISE_DATA names comes first; without that file,
    Keras's own download, which checks what it receives and keeps it.

    Args:
        name: str. A module of `keras.datasets`, such as "mnist".
        shape: tuple of int. Height, width and channels of an image.

    Returns:
        x_train, y_train, x_test, y_test: uint8 images `(examples, height, width, channels)` and integer labels
        `(examples,)`.

    Raises:
        ValueError: a file that is damaged or holds something else.
        FileNotFoundError: no file and no download; says where to put the file.
    """
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder and (path := Path(folder, f"{name}.npz")).is_file():
        return _shaped(_read(path), shape, source=path)
    try:
        (x_train, y_train), (x_test, y_test) = getattr(keras.datasets, name).load_data()
    except Exception as error:  # Keras raises a plain Exception when there is no network.
        where = f"into {Path(folder).absolute()}" if folder else "into a folder and name that folder in it"
        raise FileNotFoundError(
            f"Expected {name}.npz in the folder that the environment variable {FOLDER_VARIABLE} names "
            f"({folder or 'it is not set'}), or a download by keras.datasets.{name}; found no file, and the download "
            f"failed: {error}. Put {name}.npz (arrays {', '.join(KEYS)}) {where}, or connect to the network once."
        ) from error
    return _shaped((x_train, y_train, x_test, y_test), shape, source=f"keras.datasets.{name}")


def _read(path):
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            return tuple(archive[key] for key in KEYS)
    except (ValueError, LookupError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise _damaged(path, f"reading it gave {type(error).__name__}: {error}") from error


def _shaped(arrays, shape, source):
    x_train, y_train, x_test, y_test = arrays
    shapes = (shape, shape[:2]) if shape[2] == 1 else (shape,)  # Files of grey images often have no channel axis.
    for x, y in ((x_train, y_train), (x_test, y_test)):
        fits = x.shape[1:] in shapes and y.size == len(x) > 0 and x.dtype == np.uint8 and y.dtype.kind in "iu"
        if not fits:
            wanted = " or ".join(str(("examples", *sizes)) for sizes in shapes)
            raise _damaged(
                source,
                f"expected uint8 images {wanted} and as many integer labels, "
                f"received {x.dtype} {x.shape} and {y.dtype} {y.shape}",
            )
    # CIFAR-10's labels come as (examples, 1).
    return x_train.reshape(-1, *shape), y_train.reshape(-1), x_test.reshape(-1, *shape), y_test.reshape(-1)


def _damaged(source, reason):
    return ValueError(
        f"Expected {source} to hold the arrays {', '.join(KEYS)} of a data set; it is damaged or holds something else: "
        f"{reason}. Delete it and copy or download it again."
    )
