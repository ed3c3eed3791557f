"""Tiny stand-ins for the data sets that are downloaded or are the user's own."""

import io
import sys
import types

import numpy as np
import pytest
from PIL import Image

SHAPES = {"mnist": (28, 28), "fashion_mnist": (28, 28), "cifar10": (32, 32, 3)}


class Builder:
    """The part of a TensorFlow Datasets builder that the task "tfds" uses.

    `splits` is a dict from a split's name to its labels; the images are random.
    """

    def __init__(self, channels=3):
        self.data_dir = "tensorflow_datasets/beans"
        self.splits = {"train": np.arange(30) % 3, "validation": np.arange(12) % 3, "test": np.arange(9) % 3}
        image = types.SimpleNamespace(shape=(None, None, channels), np_dtype=np.dtype("uint8"))
        features = {"image": image, "label": types.SimpleNamespace(shape=(), num_classes=3)}
        self.info = types.SimpleNamespace(supervised_keys=("image", "label"), features=features, splits={})

    def download_and_prepare(self, file_format):
        assert file_format == "array_record"
        self.info.splits = dict.fromkeys(self.splits)

    def as_data_source(self, split, decoders):
        assert decoders == {"image": "skip decoding"}
        random = np.random.default_rng(list(split.encode()))
        for label in self.splits[split]:
            yield {"image": encoded(random.integers(0, 256, (6, 10, 3), dtype="uint8")), "label": label}


def encoded(pixels, file_format="png"):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, file_format)
    return file.getvalue()


@pytest.fixture
def builder(monkeypatch):
    """Put a module in the place of TensorFlow Datasets; it knows the set "beans" alone, which this builder holds."""
    builder = Builder()

    def find(name):
        if name != "beans":
            raise ValueError(f"Dataset {name} not found.")
        return builder

    module = types.ModuleType("tensorflow_datasets")
    module.builder = find
    module.decode = types.SimpleNamespace(SkipDecoding=lambda: "skip decoding")
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", module)
    return builder


@pytest.fixture
def image_folder(tmp_path):
    """Write a dozen 12x12 images of each of three classes into a folder."""
    random = np.random.default_rng(0)
    for name in ("sea", "forest", "street"):
        folder = tmp_path / "image_folder" / name
        folder.mkdir(parents=True)
        for number in range(12):
            (folder / f"{number}.png").write_bytes(encoded(random.integers(0, 256, (12, 12, 3), dtype="uint8")))
    return tmp_path / "image_folder"


@pytest.fixture
def fake(tmp_path, monkeypatch, image_folder, builder):
    """Write small random data sets, ten images of each class to train on, into a folder that WEIGHTWISE_DATA names."""
    for name, shape in SHAPES.items():
        random = np.random.default_rng(0)
        np.savez(
            tmp_path / f"{name}.npz",
            x_train=random.integers(0, 256, (100, *shape), dtype="uint8"),
            y_train=np.arange(100, dtype="uint8") % 10,
            x_test=random.integers(0, 256, (30, *shape), dtype="uint8"),
            y_test=np.arange(30, dtype="uint8")[:, np.newaxis] % 10,
        )
    monkeypatch.setenv("WEIGHTWISE_DATA", str(tmp_path))
    return tmp_path
