"""Labels, validation, options, and what happens when they do not fit."""

import math

import keras
import numpy as np
import pytest

import tasks
from engine import variants


def test_labels_are_renumbered_in_the_order_given():
    whole = tasks.load("digits", validation="test")
    task = tasks.load("digits", labels=[8, 3, 5], validation="test")
    assert task.classes == task.outputs == 3 and task.chance_loss == math.log(3)
    kept = np.isin(whole.y_train, [8, 3, 5])
    assert np.array_equal(task.x_train, whole.x_train[kept])
    assert np.array_equal(np.array([8, 3, 5])[task.y_train], whole.y_train[kept])
    assert np.array_equal(np.array([8, 3, 5])[task.y_test], whole.y_test[np.isin(whole.y_test, [8, 3, 5])])
    assert task.build_model().output_shape == (None, 3)


@pytest.mark.parametrize(
    "name, labels, message",
    [
        ("digits", [], r"two or more different ones, received \[\]"),
        ("digits", [3], r"two or more different ones, received \[3\]"),
        ("digits", 3, r"two or more different ones, received \[3\]"),
        ("digits", [3, 5, 3], r"two or more different ones, received \[3, 5, 3\]"),
        ("iris", [0, 3], r"the task 'iris' has \(\[0, 1, 2\]\), received \[3\] besides"),
        ("digits", ["3", "5"], r"received \['3', '5'\] besides"),
        ("function", [0, 1], r"labels=None for the regression task 'function'"),
    ],
)
def test_labels_that_do_not_fit(name, labels, message):
    with pytest.raises(ValueError, match=message):
        tasks.load(name, labels=labels)


@pytest.mark.parametrize("validation", [0, 1, 1.2, -0.1, float("nan"), "foo", None, True])
def test_validation_that_is_neither_a_fraction_nor_test(validation):
    with pytest.raises(ValueError, match=r"between 0 and 1 \(both excluded\) or 'test', received "):
        tasks.load("iris", validation=validation)


def test_a_validation_set_too_small_for_its_labels():
    with pytest.raises(ValueError, match=r"split 105 training examples .* validation=0.01, seed=0"):
        tasks.load("iris", validation=0.01)


def test_unknown_options():
    with pytest.raises(ValueError, match=r"'function' has \(function, examples, noise\), received nois"):
        tasks.load("function", nois=0.1)
    with pytest.raises(ValueError, match=r"'iris' has \(it has none\), received noise"):
        tasks.load("iris", noise=0.1)


def test_function():
    few = tasks.load("function", function="parabola", examples=100, noise=0.0)
    many = tasks.load("function", function="parabola", examples=200, noise=0.0)
    assert len(few.x_train) + len(few.x_validation) == 100
    np.testing.assert_allclose(few.y_train, (2 * few.x_train - 1) ** 2, atol=1e-6)
    assert np.array_equal(few.x_test, many.x_test)
    noisy = tasks.load("function", examples=5000, noise=0.1)
    assert np.std(noisy.y_train - np.sin(2 * np.pi * noisy.x_train)) == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"function": "sin"}, "one of sine, parabola, absolute, step, received 'sin'"),
        ({"examples": 1}, "received examples=1, noise=0.05"),
        ({"noise": -1.0}, "received examples=2000, noise=-1.0"),
    ],
)
def test_function_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        tasks.load("function", **options)


X, Y = np.zeros((4, 2)), np.array([0, 1, 0, 1])


@pytest.mark.parametrize(
    "x, y, classes, message",
    [
        (X[:3], Y, 2, r"as many inputs as labels, at least one; received shapes \(3, 2\) and \(4,\)"),
        (X[:0], Y[:0], 2, "at least one"),
        (X + 255, Y, 2, r"floats from 0 to 1; received float64 from 255.0 to 255.0"),
        (X * np.nan, Y, 2, "floats from 0 to 1"),
        (X.astype(int), Y, 2, "received int64"),
        (X, Y + 1, 2, r"integer labels from 0 to 1 of shape \(4,\); received int64 from 1 to 2"),
        (X, Y * 1.0, 2, "integer labels .* received float64"),
        (X, np.eye(2)[Y], 2, r"integer labels .* of shape \(4, 2\)"),
        (X, Y * 1.0, None, r"targets of shape \(4, 1\); received shape \(4,\)"),
    ],
)
def test_a_task_that_breaks_the_contract(monkeypatch, x, y, classes, message):
    broken = tasks.Task(read=lambda: (x, y, X, Y), models={}, classes=classes)
    monkeypatch.setattr(variants, "load", lambda *_: broken)
    with pytest.raises(ValueError, match=f"The training data of the task 'broken': .*{message}"):
        tasks.load("broken")


def test_uint8_inputs_are_divided_by_255(fake):
    task = tasks.load("mnist", validation="test")
    with np.load(fake / "mnist.npz") as file:
        np.testing.assert_array_equal(task.x_train[..., 0], (file["x_train"] / 255).astype("float32"))
        np.testing.assert_array_equal(task.y_test, file["y_test"][:, 0])


def model(input_shape, outputs, **options):
    return keras.Sequential(
        [keras.Input(input_shape), keras.layers.Flatten(), keras.layers.Dense(outputs, **options)], name="mine"
    )


def test_models_of_your_own():
    task = tasks.load("digits", labels=[0, 1])
    task.check_model(model((8, 8, 1), 2))
    anything = keras.Input((None, None, 1))
    task.check_model(keras.Model(anything, keras.layers.Dense(2)(keras.layers.GlobalMaxPooling2D()(anything))))


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: model((64,), 2), r"one input of shape \(None, 8, 8, 1\) .* received \(None, 64\)"),
        (lambda: model((8, 8, 1), 10), r"one output of shape \(None, 2\) .* received \(None, 10\)"),
        (
            lambda: model((8, 8, 1), 2, activation="softmax"),
            r"logits, received one that ends in a softmax \(layer 'dense",
        ),
        (lambda: keras.Sequential([model((8, 8, 1), 2), keras.layers.Softmax(name="end")]), "softmax .layer 'end'"),
        (lambda: keras.Sequential([keras.layers.Dense(2)]), r"knows its input shape, .*Input\(shape=\(8, 8, 1\)\)"),
        (lambda: keras.Sequential, "Expected a keras.Model that knows its input shape"),
        (lambda: keras.Model([keras.Input((8, 8, 1)), (x := keras.Input((2,)))], x), r"one input .*, \(None, 2\)"),
    ],
)
def test_models_that_do_not_fit(build, message):
    with pytest.raises(ValueError, match=message):
        tasks.load("digits", labels=[0, 1]).check_model(build())
