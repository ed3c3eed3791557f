"""Sets of TensorFlow Datasets: their splits and labels, and what cannot be read."""

import sys
import types

import numpy as np
import pytest

import tasks


def counts(task):
    return [np.bincount(labels).tolist() for labels in (task.y_train, task.y_test)]


def load(**options):
    return tasks.load("tfds", validation="test", image_size=4, **options)


@pytest.mark.parametrize(
    "splits, wanted",
    [
        ({"train": 30, "validation": 12, "test": 9}, [[14, 14, 14], [3, 3, 3]]),
        ({"train": 30, "test": 9, "unlabelled": 3}, [[10, 10, 10], [3, 3, 3]]),
        ({"train": 30, "validation": 12}, [[10, 10, 10], [4, 4, 4]]),
        ({"train": 30}, [[8, 8, 8], [2, 2, 2]]),
    ],
)
def test_splits(builder, splits, wanted):
    builder.splits = {name: np.arange(examples) % 3 for name, examples in splits.items()}
    task = load()
    assert task.classes == 3 and task.input_shape == (4, 4, 3)
    assert counts(task) == wanted


def test_the_fraction_held_out(builder):
    builder.splits = {"train": np.arange(30) % 3}
    assert counts(load(test_fraction=0.4)) == [[6, 6, 6], [4, 4, 4]]
    assert np.array_equal(load().x_test, load().x_test)
    with pytest.raises(ValueError, match=r"test_fraction .* number between 0 and 1 .* received 2"):
        load(test_fraction=2)


def test_grey_images_stay_grey(builder):
    builder.info.features["image"].shape = (28, 28, 1)
    assert load().input_shape == (4, 4, 1)


def test_tensorflow_datasets_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match="pip install tensorflow-datasets"):
        load()


def test_no_such_set(builder):
    with pytest.raises(ValueError, match="Dataset beens not found"):
        load(dataset="beens")


def test_no_download(builder, monkeypatch):
    def fail(**_):
        raise OSError("no network")

    monkeypatch.setattr(builder, "download_and_prepare", fail)
    with pytest.raises(FileNotFoundError, match=r"'beans' in tensorflow_datasets/beans .* OSError: no network.*TFDS_"):
        load()


@pytest.mark.parametrize(
    "keys", [None, ("image", "boxes"), ("label", "image"), ("image", "label", "boxes"), ("image", {"boxes": "label"})]
)
def test_no_image_classification(builder, keys):
    builder.info.features["boxes"] = types.SimpleNamespace(shape=(None, 4))
    builder.info.supervised_keys = keys
    with pytest.raises(ValueError, match="8-bit images with one class each, received 'beans'"):
        load()


def test_images_of_more_than_8_bits(builder):
    builder.info.features["image"].np_dtype = np.dtype("uint16")
    with pytest.raises(ValueError, match="8-bit images"):
        load()


def test_no_split_to_train_on(builder):
    del builder.splits["train"]
    with pytest.raises(ValueError, match="a split 'train', received 'beans' with validation, test"):
        load()


def test_a_damaged_image(builder, monkeypatch):
    monkeypatch.setattr(builder, "as_data_source", lambda split, decoders: [{"image": b"text", "label": 0}])
    with pytest.raises(ValueError, match="image 0 of the split 'train' of beans to be an image"):
        load()


def test_a_test_split_without_labels(builder):
    builder.splits["test"] = np.full(9, -1)
    with pytest.raises(
        ValueError, match=r"test data of the task 'tfds': expected labels .* have \(0, 1, 2\), received -1"
    ):
        load()


def test_image_size(builder):
    with pytest.raises(
        ValueError, match="image_size of the task 'tfds' to be a whole number of at least 4, received '64'"
    ):
        tasks.load("tfds", image_size="64")
