"""Images of your own: a folder with one folder of image files for each class, such as the Intel natural scenes.

What a folder holds decides how many classes there are; their labels are the folders' names, in alphabetical order.
"""

import os
from pathlib import Path

import numpy as np

from engine import checks
from tasks import Task, _data, _models

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def read(
    folder: checks.optional(checks.path) = None,
    test_folder: checks.optional(checks.path) = None,
    test_fraction: checks.number(above=0, below=1) = 0.2,
    image_size: checks.whole(4) = 64,
):
    """Read the images as uint8 `(examples, image_size, image_size, 3)`, in an order that mixes the classes.

    Files that are no png, jpg, webp or bmp, and names that begin with a dot, are passed over. Images are turned as
    their EXIF orientation says, and what is transparent lies on white. The name of a threshold grid's run depends on
    `folder` and `test_folder` as they are written: write them in the same way, relative to the same place, and a run
    goes on where it stopped.

    Args:
        folder: str. The folder with the classes' folders. Defaults to None: `image_folder` in the folder that the
            environment variable WEIGHTWISE_DATA names.
        test_folder: str. Another such folder, with the same classes: the test set. Defaults to None: a part of
            `folder` is held out.
        test_fraction: float. Without a `test_folder`, the fraction of the images of each class, between 0 and 1, that
            is the test set; the same ones each time. Defaults to 0.2.
        image_size: int. Height and width, at least 4, that every image is stretched or shrunk to. Defaults to 64.

    Returns:
        x_train, y_train, x_test, y_test.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: a folder without two classes' folders, a class without images, a file that cannot be read or is grey
            with more than 8 bits, other classes in `test_folder`, or a size or fraction that does not fit.

    Example:
        ```python
        task = tasks.load("image_folder", folder="intel/seg_train", test_folder="intel/seg_test", image_size=64)
        ```
    """
    folder = _default_folder() if folder is None else Path(folder).expanduser()
    classes = _classes("folder", folder)
    files, labels = _files(folder, classes)
    if test_folder is None:
        files, test_files, y_train, y_test = _data.hold_out_test(files, labels, test_fraction)
    else:
        test_folder = Path(test_folder).expanduser()
        others = _classes("test_folder", test_folder)
        if others != classes:
            raise ValueError(
                f"Expected test_folder to have the classes of folder ({', '.join(classes)}), "
                f"received {test_folder} with {', '.join(others)}."
            )
        y_train = labels
        test_files, y_test = _files(test_folder, classes)
    x_train, x_test = (
        np.stack([_data.resized(path, path, image_size) for path in part]) for part in (files, test_files)
    )
    return x_train, y_train, x_test, y_test


def _default_folder():
    parent = os.environ.get(_data.FOLDER_VARIABLE)
    if not parent:
        raise FileNotFoundError(
            "Expected the option folder, or image_folder in the folder that the environment variable "
            f"{_data.FOLDER_VARIABLE} names; received neither. Write folder='path/to/images'."
        )
    return Path(parent, "image_folder")


def _classes(option, folder):
    """Return the sorted names of the classes' folders in a folder."""
    wanted = f"Expected {option} to be a folder with one folder of images for each class"
    if not folder.exists():
        raise FileNotFoundError(f"{wanted}, found nothing at {folder.absolute()}.")
    if not folder.is_dir():
        raise ValueError(f"{wanted}, received the file {folder.absolute()}.")
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(classes) < 2:
        found = f"only {classes[0]}" if classes else "none"
        raise ValueError(f"{wanted}, two classes or more; found {found} in {folder.absolute()}.")
    return classes


def _files(folder, classes):
    """Return the images' paths and their labels, in an order that is drawn once and for all."""
    files, labels = [], []
    for name in classes:
        names = (path.name for path in (folder / name).iterdir())
        found = sorted(name for name in names if name.lower().endswith(SUFFIXES) and not name.startswith("."))
        if not found:
            raise ValueError(
                f"Expected images ({', '.join(SUFFIXES)}) of each class, found none in {(folder / name).absolute()}. "
                "Add some, or delete the folder."
            )
        files += [folder / name / file for file in found]
        labels += [name] * len(found)
    order = np.random.default_rng(0).permutation(len(files))
    return [files[index] for index in order], np.array(labels)[order]


TASK = Task(read=read, models=_models.ANY_SIZE_MODELS, classes="counted")
