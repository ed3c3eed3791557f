"""Where the downloaded data sets come from, and what happens when they are missing or damaged."""

import os

import keras
import numpy as np
import pytest

import tasks

ARRAYS = {
    "x_train": np.full((20, 28, 28), 255, "uint8"),
    "y_train": np.arange(20) % 10,
    "x_test": np.zeros((10, 28, 28), "uint8"),
    "y_test": np.arange(10),
}
REAL_FOLDER = os.environ.get("WEIGHTWISE_DATA", "")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("WEIGHTWISE_DATA", str(tmp_path))
    return tmp_path


@pytest.fixture
def offline(monkeypatch):
    def fail():
        raise Exception("URL fetch failure")

    monkeypatch.setattr(keras.datasets.mnist, "load_data", fail)


def test_the_folder_comes_first(folder, offline):
    np.savez(folder / "mnist.npz", **ARRAYS)
    assert tasks.load("mnist", validation="test").x_train.shape == (20, 28, 28, 1)


@pytest.mark.parametrize("value", [None, "", "empty folder"])
def test_the_download_comes_second(tmp_path, monkeypatch, value):
    if value is None:
        monkeypatch.delenv("WEIGHTWISE_DATA", raising=False)
    else:
        monkeypatch.setenv("WEIGHTWISE_DATA", value and str(tmp_path))
    arrays = tuple(ARRAYS.values())
    monkeypatch.setattr(keras.datasets.mnist, "load_data", lambda: (arrays[:2], arrays[2:]))
    assert tasks.load("mnist", validation="test").x_train.shape == (20, 28, 28, 1)


def test_no_file_and_no_download(folder, offline, monkeypatch):
    with pytest.raises(FileNotFoundError) as caught:
        tasks.load("mnist")
    assert f"Put mnist.npz (arrays x_train, y_train, x_test, y_test) into {folder}" in str(caught.value)
    assert "URL fetch failure" in str(caught.value)
    monkeypatch.delenv("WEIGHTWISE_DATA")
    with pytest.raises(FileNotFoundError, match=r"WEIGHTWISE_DATA names \(it is not set\).* into a folder and name"):
        tasks.load("mnist")


def damaged(folder, name="mnist"):
    with pytest.raises(
        ValueError, match=f"{name}.npz to hold the arrays x_train, .* copy or download it again"
    ) as caught:
        tasks.load(name)
    return str(caught.value)


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file(folder, kept):
    path = folder / "mnist.npz"
    np.savez_compressed(path, **ARRAYS)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    assert str(path) in damaged(folder)


def test_a_flipped_byte(folder):
    path = folder / "mnist.npz"
    np.savez(path, **ARRAYS)
    content = bytearray(path.read_bytes())
    content[1000] ^= 255
    path.write_bytes(content)
    assert "BadZipFile" in damaged(folder)


def test_something_else_in_the_file(folder):
    (folder / "mnist.npz").write_text("<html>not found</html>")
    assert "ValueError" in damaged(folder)
    with (folder / "mnist.npz").open("wb") as file:
        np.save(file, ARRAYS["x_train"])
    damaged(folder)


def test_pickled_objects_are_not_opened(folder):
    np.savez(folder / "mnist.npz", **{**ARRAYS, "x_train": np.array([print], dtype=object)})
    assert "allow_pickle=False" in damaged(folder)


def test_missing_arrays(folder):
    np.savez(folder / "mnist.npz", train=ARRAYS["x_train"])
    assert "x_train is not a file" in damaged(folder)


@pytest.mark.parametrize(
    "key, array, message",
    [
        ("x_train", np.zeros((20, 784), "uint8"), "received uint8 (20, 784) and int64 (20,)"),
        ("x_train", np.zeros((20, 28, 28)), "received float64 (20, 28, 28)"),
        ("x_test", np.zeros((9, 28, 28), "uint8"), "received uint8 (9, 28, 28) and int64 (10,)"),
        ("x_test", np.zeros((), "uint8"), "received uint8 ()"),
        ("y_train", np.zeros((20, 10), "int64"), "received uint8 (20, 28, 28) and int64 (20, 10)"),
        ("y_test", np.zeros(10), "float64 (10,)"),
    ],
)
def test_arrays_of_other_shapes_or_types(folder, key, array, message):
    np.savez(folder / "mnist.npz", **{**ARRAYS, key: array})
    found = damaged(folder)
    assert message in found
    assert "expected uint8 images ('examples', 28, 28, 1) or ('examples', 28, 28) and as many integer labels" in found


@pytest.mark.parametrize("key, place", [("x_train", (3, 5, 5)), ("y_train", 0), ("x_test", (0, 0, 0)), ("y_test", 9)])
def test_the_digest_tells_of_one_value_and_not_of_the_packing(folder, key, place):
    np.savez(folder / "mnist.npz", **ARRAYS)
    before = tasks.load("mnist", validation="test").digest
    assert before == tasks.load("mnist", labels=[1, 2], validation="test").digest and len(before) == 64
    with_channels = {k: a[..., np.newaxis] if k[0] == "x" else a.astype("uint8") for k, a in ARRAYS.items()}
    np.savez_compressed(folder / "mnist.npz", **with_channels)
    assert tasks.load("mnist", validation="test").digest == before
    changed = ARRAYS[key].copy()
    changed[place] = 7
    np.savez(folder / "mnist.npz", **{**ARRAYS, key: changed})
    assert tasks.load("mnist", validation="test").digest != before


def test_grey_images_are_no_cifar10(folder):
    np.savez(folder / "cifar10.npz", **ARRAYS)
    assert "('examples', 32, 32, 3) and" in damaged(folder, "cifar10")


@pytest.mark.parametrize(
    "name, examples, size", [("mnist", 60000, 28), ("fashion_mnist", 60000, 28), ("cifar10", 50000, 32)]
)
def test_the_real_data(name, examples, size):
    if not os.path.isfile(os.path.join(REAL_FOLDER, f"{name}.npz")):
        pytest.skip(f"the folder that WEIGHTWISE_DATA names has no {name}.npz")
    task = tasks.load(name)
    assert task.x_train.shape == (0.9 * examples, size, size, 3 if name == "cifar10" else 1)
    assert len(task.x_validation) == 0.1 * examples and len(task.x_test) == 10000
    assert task.x_train.min() == 0 and task.x_train.max() == 1
    counts = np.bincount(task.y_train) / np.bincount(task.y_validation)
    np.testing.assert_allclose(counts, 9, rtol=0.02)
