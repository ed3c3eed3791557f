"""Tasks of arrays: three lines, the same rules as for files, and a name that holds their digest."""

import re

import numpy as np
import pytest

import tasks
from experiments import threshold_grid

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(90, 4)) * 3 - 1  # standardised, or far from 0 to 1
Y = np.tile([0, 1, 2], 30)
NAMES = np.array(["rose", "daisy", "tulip"])[Y]


def test_three_lines_of_standardised_inputs():
    task = tasks.from_arrays(X, NAMES)
    assert task.labels == ("daisy", "rose", "tulip") and task.models == ("mlp",)
    assert [len(part) for part in (task.x_train, task.x_validation, task.x_test)] == [64, 8, 18]
    assert all(np.bincount(y).min() >= 2 for y in (task.y_train, task.y_validation, task.y_test))
    rows = {row.tobytes(): name for row, name in zip(X.astype("float32"), NAMES, strict=True)}
    for x, y in ((task.x_train, task.y_train), (task.x_validation, task.y_validation), (task.x_test, task.y_test)):
        assert [rows.pop(row.tobytes()) for row in x] == [task.labels[label] for label in y]
    assert not rows


def test_the_name_holds_a_digest_of_the_data():
    task = tasks.from_arrays(X, Y, name="mine")
    assert re.fullmatch(r"mine-[0-9a-f]{8}", task.name) and tasks.is_of_arrays(task.name)
    assert tasks.from_arrays(X.tolist(), Y, name="mine").name == task.name
    changed = X.copy()
    changed[5, 2] += 1
    others = [tasks.from_arrays(changed, Y, name="mine"), tasks.from_arrays(X, Y[::-1], name="mine")]
    assert len({task.name, *(other.name for other in others)}) == 3
    assert len({task.digest, *(other.digest for other in others)}) == 3


def test_it_is_loaded_like_any_other():
    task = tasks.from_arrays(X, NAMES)
    again = tasks.load(task, seed=3, labels=["tulip", "rose"], validation=0.2)
    assert again.labels == ("tulip", "rose") and again.digest == task.digest
    assert np.array_equal(tasks.load(task.name, labels=[2, 1], seed=3, validation=0.2).x_train, again.x_train)
    published = tasks.load(task, validation="test")
    assert published.x_validation is published.x_test and len(published.x_train) == 72


def test_parts_that_are_given_stay():
    given = {"x_test": X[:6], "y_test": Y[:6], "x_validation": X[6:21], "y_validation": Y[6:21]}
    task = tasks.from_arrays(X[21:], Y[21:], **given)
    for seed in (0, 1):
        loaded = tasks.load(task, seed=seed, validation=0.5)
        for part, first, last in (("test", 0, 6), ("validation", 6, 21), ("train", 21, 90)):
            assert np.array_equal(getattr(loaded, f"x_{part}"), X[first:last].astype("float32"))
            assert np.array_equal(getattr(loaded, f"y_{part}"), Y[first:last])


def test_regression_and_images():
    task = tasks.from_arrays(X, X.sum(axis=1), regression=True)
    assert task.classes is None and task.y_train.shape == (64, 1) and task.y_train.dtype == "float32"
    pixels = RANDOM.integers(0, 256, size=(90, 8, 8, 3), dtype="uint8")
    images = tasks.from_arrays(pixels, Y, models=None)
    assert images.models == ("cnn", "mlp") and 0 <= images.x_train.min() < images.x_train.max() <= 1
    own = tasks.from_arrays(pixels, Y, models={"mine": lambda shape, outputs: (shape, outputs)})
    assert own.build_model() == ((8, 8, 3), 3)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"x": X[:5]}, r"as many examples in x as in y, received 5 and 90"),
        ({"x": X[:, 0]}, r"Expected x to be numbers of shape \(examples, ...\).* Write x.reshape\(-1, 1\)"),
        ({"x": NAMES.reshape(-1, 1)}, r"Expected x to be numbers .*<U5 of shape \(90, 1\). Make numbers"),
        ({"x": np.where(X > X.max() - 1e-9, np.nan, X)}, r"x to be finite .* NaN or infinity at 1 of 360 places"),
        ({"x": X * 1e40}, r"x to be finite in single precision"),
        ({"y": Y + 0.5}, r"Expected y to be a label .*float64 of shape \(90,\). Write y.astype\(int\), or regression"),
        ({"y": np.eye(3, dtype=int)[Y]}, r"Of one-hot labels take y.argmax\(1\)"),
        ({"y": np.zeros(90, int)}, r"two or more different labels, received 0 alone"),
        ({"y": NAMES, "regression": True}, r"Expected y to be a number for each example, received <U5"),
        ({"x_test": X}, r"Expected x_test and y_test, received x_test alone. Give y_test too"),
        ({"y_validation": Y}, r"received y_validation alone. Give x_validation too"),
        ({"x_test": X[:, :2], "y_test": Y}, r"x_test to have examples of shape \(4,\), as x has; received \(2,\)"),
        ({"x_test": X[:2], "y_test": [0, 7]}, r"test data .* labels that the training data have .* received 7 besides"),
        ({"x_validation": X[:2], "y_validation": [0, 7]}, r"validation data .* received 7 besides"),
        ({"test_fraction": 1.5}, r"test_fraction to be a finite number .* received 1.5"),
        ({"test_fraction": 0.01}, r"test_fraction that splits 90 examples into two parts"),
        ({"name": "a/b"}, r"name to be a name of letters, digits and underscores, received 'a/b'"),
    ],
)
def test_what_cannot_be(change, message):
    with pytest.raises(ValueError, match=message):
        tasks.from_arrays(**{"x": X, "y": Y, **change})


def test_a_grid_takes_it_and_other_processes_do_not(tmp_path):
    task = tasks.from_arrays(X, NAMES)
    settings = {"measures": ["magnitude"], "levels": ["weight"], "thresholds": 3, "epochs": 1, "out": tmp_path}
    frame = threshold_grid.run(task=task, progress=False, **settings)
    assert set(frame["task"]) == {task.name} and set(frame["status"]) == {"ok"}
    assert next(tmp_path.glob("*.csv")).name.startswith(f"{task.name}-mlp-")
    with pytest.raises(ValueError, match="other processes can read too, a file in tasks/, received arrays-"):
        threshold_grid.run(task=task, workers=2, seeds=[1, 2], progress=False, **settings)
    with pytest.raises(ValueError, match=r"Expected each task to be one of .*; received 'arrays-0'"):
        threshold_grid.run(task="arrays-0", **settings)
    with pytest.raises(ValueError, match=r"what tasks.from_arrays gives, received <task iris: .*Write 'iris', with"):
        threshold_grid.run(task=tasks.load("iris"), **settings)


@pytest.mark.slow
def test_its_test_set_serves_a_network_that_is_trained_already(tmp_path):
    task = tasks.from_arrays(X, NAMES, test_fraction=0.5)
    model = task.build_model()
    settings = {"measures": ["magnitude"], "levels": ["weight"], "thresholds": 3, "folds": 2, "loss": task.loss}
    frame = threshold_grid.run(network=model, task=task, out=tmp_path, progress=False, **settings)
    assert set(frame["task"]) == {task.name} and frame["fold"].nunique() == 2
