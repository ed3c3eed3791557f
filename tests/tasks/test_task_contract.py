"""Every task, new files included, keeps the contract."""

import doctest
import math
import re
import sys
import textwrap
from collections import Counter

import keras
import numpy as np
import pytest

import tasks
from engine import variants

pytestmark = pytest.mark.usefixtures("fake")
EVERY_TASK = pytest.mark.parametrize("name", tasks.names())


def parts(task):
    return [(getattr(task, f"x_{part}"), getattr(task, f"y_{part}")) for part in ("train", "validation", "test")]


def counted(*arrays):
    return Counter(example.tobytes() for array in arrays for example in array)


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(sum(parts(one), ()), sum(parts(other), ()), strict=True))


def test_names():
    assert {"cifar10", "digits", "fashion_mnist", "function", "iris", "mnist"} <= set(tasks.names())
    with pytest.raises(ValueError, match=r"tasks/ \(cifar10, digits, .*received 'minst'"):
        tasks.load("minst")


@EVERY_TASK
def test_arrays(name):
    task = tasks.load(name)
    for x, y in parts(task):
        assert x.dtype == np.float32 and x.shape == (len(y), *task.input_shape)
        assert 0 <= x.min() < x.max() <= 1
        if task.classes is None:
            assert y.dtype == np.float32 and y.shape == (len(x), 1)
        else:
            assert y.dtype == np.int32 and y.shape == (len(x),)
            assert set(y) <= set(range(task.classes))
    assert len(task.x_validation) == pytest.approx(0.1 * (len(task.x_train) + len(task.x_validation)), abs=1)
    assert name in repr(task) and str(len(task.x_train)) in repr(task)


@EVERY_TASK
def test_training_and_validation_share_the_training_examples(name):
    published = tasks.load(name, validation="test")
    split = tasks.load(name, validation=0.3)
    assert published.x_validation is published.x_test and published.y_validation is published.y_test
    assert counted(split.x_train, split.x_validation) == counted(published.x_train)
    if split.classes:
        for label, count in enumerate(np.bincount(published.y_train)):
            assert np.sum(split.y_validation == label) == pytest.approx(0.3 * count, abs=1)


@EVERY_TASK
def test_seed_draws_the_split_and_nothing_else(name):
    first, again, other = tasks.load(name, seed=1), tasks.load(name, seed=1), tasks.load(name, seed=2)
    assert same(first, again)
    assert not np.array_equal(first.x_train, other.x_train)
    assert counted(first.x_validation) != counted(other.x_validation)
    assert np.array_equal(first.x_test, other.x_test) and np.array_equal(first.y_test, other.y_test)
    assert first.digest == other.digest == tasks.load(name, validation="test").digest


@EVERY_TASK
def test_loss_and_chance_loss(name):
    task = tasks.load(name)
    knows_nothing = np.zeros((len(task.y_validation), task.outputs), "float32")
    if task.classes is None:
        knows_nothing += task.y_train.mean()
    assert isinstance(task.loss, keras.losses.Loss)
    assert float(task.loss(task.y_validation, knows_nothing)) == pytest.approx(task.chance_loss, rel=1e-5)


@pytest.mark.parametrize(
    "name, model", [(name, model) for name in tasks.names() for model in variants.load("tasks", name, "TASK").models]
)
def test_models_fit_and_follow_the_global_seed(name, model):
    task = tasks.load(name)
    networks = []
    for _ in range(2):
        keras.utils.set_random_seed(0)
        networks.append(task.build_model(model))
    task.check_model(networks[0])
    assert not networks[0].compiled
    for one, other in zip(*(network.trainable_variables for network in networks), strict=True):
        assert np.array_equal(one.value, other.value)


def test_the_first_model_is_the_default():
    task = tasks.load("digits")
    assert task.models == ("mlp", "cnn")
    assert task.build_model().name == "mlp" and task.build_model("cnn").name == "cnn"
    with pytest.raises(ValueError, match=r"model of the task 'digits' \(mlp, cnn\), received 'cnm'"):
        task.build_model("cnm")


def test_a_new_file_is_a_new_task(tmp_path, monkeypatch):
    """The example in the contract's docstring works when it is copied into the folder."""
    example = re.search(r"```python\n(.*?)```", tasks.Task.__doc__, re.DOTALL).group(1)
    (tmp_path / "two_moons.py").write_text(textwrap.dedent(example), encoding="utf-8")
    monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(tmp_path)])
    try:
        task = tasks.load("two_moons", noise=0.2)
    finally:
        sys.modules.pop("tasks.two_moons", None)
    assert "two_moons" in tasks.names()
    assert task.input_shape == (2,) and task.outputs == 2 and task.chance_loss == math.log(2)


def test_doctests():
    results = doctest.testmod(tasks)
    assert results.attempted and not results.failed
