"""Read the images that do not ship with a package: from a folder of yours, else from a download."""

import hashlib
import os
import zipfile
import zlib
from pathlib import Path

import keras
import numpy as np
from PIL import Image, ImageOps
from sklearn.model_selection import train_test_split

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


def digest(*arrays):
    """Return what tells these arrays from any others: the sha256 of their types, shapes and values, in hexadecimal."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype.str} {array.shape}".encode())
        found.update(np.ascontiguousarray(array))
    return found.hexdigest()


def resized(file, source, size, channels=3):
    """Read an image file and stretch or shrink it to a square.

    It is turned as its EXIF orientation says. What is transparent lies on white, whatever colour a file has beneath.

    Args:
        file: path, or a file open for reading bytes.
        source: what an error calls the file.
        size: int. Height and width.
        channels: int. 1 turns colours into grey, 3 grey into colours. Defaults to 3.

    Returns:
        uint8 array `(size, size, channels)`.

    Raises:
        ValueError: a file that cannot be read as an image with 8 bits a channel; names the source.
    """
    try:
        with Image.open(file) as image:
            if image.mode[0] in "IF":  # Pillow would cut these off at 255.
                raise ValueError(f"its mode is {image.mode}, not 8 bits a channel")
            if image.mode == "RGB" and max(image.info.get("transparency", (0,))) > 255:  # which no pixel would match
                raise ValueError("its transparent colour is one of 16 bits a channel")
            image = ImageOps.exif_transpose(image)
            if image.has_transparency_data:
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
            image = image.convert("L" if channels == 1 else "RGB").resize((size, size), Image.Resampling.BILINEAR)
    except Exception as error:  # Pillow raises many kinds for damaged files.
        raise ValueError(
            f"Expected {source} to be an image with 8 bits a channel; reading it gave {type(error).__name__}: {error}. "
            "Replace or delete it."
        ) from error
    return np.asarray(image).reshape(size, size, channels)


def hold_out_test(x, y, fraction):
    """Hold out the same fraction of each label as test set, the same examples each time.

    Args:
        x: array or list of the inputs.
        y: array `(examples,)` of the labels.
        fraction: float. Between 0 and 1.

    Returns:
        x_train, x_test, y_train, y_test.

    Raises:
        ValueError: no fraction, or one that leaves a part with fewer examples than there are labels.
    """
    try:
        return train_test_split(x, y, test_size=float(fraction), stratify=y, random_state=0)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Expected a test_fraction between 0 and 1 that splits {len(y)} images into two parts with every label in "
            f"both, received {fraction!r}: {error}"
        ) from error


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
