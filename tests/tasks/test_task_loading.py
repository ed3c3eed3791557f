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
        ("digits", [], r"a list of at least one, each once; received \[\]"),
        ("digits", [3], r"two or more different ones, received \[3\]"),
        ("digits", 3, r"labels to be a list or None, received 3. Write \[3\]"),
        ("digits", [3, 5, 3], r"each once; received \[3, 5, 3\]"),
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
        ({"function": "sin"}, "one of 'sine', 'parabola', 'absolute', 'step', received 'sin'"),
        ({"examples": 1}, "examples .* at least 2, received 1"),
        ({"noise": -1.0}, "noise .* at least 0, received -1.0"),
    ],
)
def test_function_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        tasks.load("function", **options)


X, Y = np.zeros((4, 2)), np.array([0, 1, 0, 1])
WITH_ONE_INFINITY = np.array([[0.0, 0.0], [0.0, 0.0], [0.0, np.inf], [0.0, 0.0]])


@pytest.mark.parametrize(
    "x, y, classes, message",
    [
        (X[:3], Y, 2, r"as many inputs as labels, at least one; received shapes \(3, 2\) and \(4,\)"),
        (X[:0], Y[:0], 2, "at least one"),
        (X + 255, Y, 2, r"floats from 0 to 1; received float64 from 255.0 to 255.0"),
        (
            X * np.nan,
            Y,
            2,
            r"finite inputs; received NaN or infinity at 8 of 8 places, in 4 of 4 examples, .* x\[0, 0\]\. Replace",
        ),
        (WITH_ONE_INFINITY, Y, 2, r"NaN or infinity at 1 of 8 places, in 1 of 4 examples, the first at x\[2, 1\]"),
        (X.astype(int), Y, 2, r"received int64\. Convert them"),
        ({"a": X}, Y, 2, r"as many inputs as labels, .* shapes \(\) and \(4,\)"),
        (
            X,
            Y + 1,
            2,
            r"integer labels from 0 to 1 of shape \(4,\); received int64 of shape \(4,\) from 1 to 2\. Write",
        ),
        (X, Y - 1, 2, r"from -1 to 0\. Write classes='counted'"),
        (X, Y * 1.0, 2, r"integer labels .* received float64 .* write y.astype\(int\)"),
        (X, [0.0, 1.0, np.nan, 1.0], 2, "from nan to nan, 1 of them NaN or infinite. Leave out examples without"),
        (X, Y == 1, 2, r"integer labels .* received bool of shape \(4,\)\. Write classes='counted'"),
        (X, np.array(["a", "b"])[Y], 2, r"integer labels .* received <U1 of shape \(4,\)\. Write classes='counted'"),
        (X, np.eye(2)[Y], 2, r"integer labels .* of shape \(4, 2\) .* one-hot labels take y.argmax\(1\)"),
        (X, Y[:, None], 2, r"integer labels .* of shape \(4, 1\) .* Write y.reshape\(-1\)"),
        (X, Y, 3, "every label from 0 to 2; 2 never occurs. Write the number of labels that occur"),
        (X, Y * 1.0, "counted", r"integers or names; received float64 .* write y.astype\(int\)"),
        (X, np.eye(2)[Y], "counted", r"integers or names; .* one-hot labels take y.argmax\(1\)"),
        (X, np.array(["a", None, "b", "a"]), "counted", "integers or names; received object"),
        (X, Y * 0, "counted", "two or more different labels, received 0 alone"),
        (X, Y * 1.0, None, r"targets of shape \(4, 1\); received float64 of shape \(4,\)"),
        (X, np.array([[0.0], [np.inf], [1.0], [0.0]]), None, "finite targets .* 1 of them NaN or infinite"),
    ],
)
def test_a_task_that_breaks_the_contract(monkeypatch, x, y, classes, message):
    broken = tasks.Task(read=lambda: (x, y, X, Y), models={}, classes=classes)
    monkeypatch.setattr(variants, "load", lambda *_: broken)
    with pytest.raises(ValueError, match=f"The training data of the task 'broken': .*{message}"):
        tasks.load("broken")


def counted(monkeypatch, y_train, y_test):
    """Make a task of twenty examples of each label, its classes counted."""
    parts = [(np.linspace(0, 1, 20 * len(y))[:, None], np.tile(y, 20)) for y in (y_train, y_test)]
    task = tasks.Task(read=lambda: (*parts[0], *parts[1]), models={}, classes="counted")
    monkeypatch.setattr(variants, "load", lambda *_: task)


@pytest.mark.parametrize(
    "labels",
    [[0, 1, 2], [1, 2, 3], [0, 2, 5], [-1, 1], [False, True], ["cat", "dog", "bird"], np.array(["b", "a"], object)],
)
def test_counted_labels_become_0_to_the_count_in_sorted_order(monkeypatch, labels):
    counted(monkeypatch, labels, labels)
    task = tasks.load("mine")
    assert task.labels == tuple(sorted(labels)) and task.classes == len(labels)
    assert task.chance_loss == math.log(len(labels))
    for y in (task.y_train, task.y_validation, task.y_test):
        assert y.dtype == np.int32 and np.bincount(y).tolist() == [len(y) // len(labels)] * len(labels)
    order = [task.labels.index(label) for label in labels]
    assert tasks.load("mine", validation="test").y_test[: len(labels)].tolist() == order
    chosen = [int(label) if isinstance(label, bool) else label for label in (labels[1], labels[0])]
    kept = tasks.load("mine", labels=chosen, validation="test")
    assert kept.labels == (labels[1], labels[0]) and kept.y_test[:2].tolist() == [1, 0]


def test_counted_labels_without_gaps_are_the_same_data_as_they_were(monkeypatch):
    counted(monkeypatch, [0, 1, 2], [0, 1])
    digest = tasks.load("mine").digest
    declared = variants.load()._replace(classes=3)
    monkeypatch.setattr(variants, "load", lambda *_: declared)
    assert tasks.load("mine").digest == digest and tasks.load("mine").labels == (0, 1, 2)


def test_labels_that_training_does_not_have(monkeypatch):
    counted(monkeypatch, ["a", "b"], ["b", "c"])
    with pytest.raises(
        ValueError, match=r"The test data .* labels that the training data have \('a', 'b'\), .* 'c' besi"
    ):
        tasks.load("mine", validation="test")
    with pytest.raises(ValueError, match=r"has \(\['a', 'b'\]\), received \['d'\] besides"):
        counted(monkeypatch, ["a", "b"], ["b"])
        tasks.load("mine", labels=["a", "d"])


def test_labels_of_the_tasks_here():
    assert tasks.load("digits", labels=[8, 3]).labels == (8, 3) and tasks.load("iris").labels == (0, 1, 2)
    assert tasks.load("function").labels is None


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
        *(
            (lambda ends=ends: ends(model((8, 8, 1), 2)), "outputs logits, received one that gives probabilities")
            for ends in (
                lambda m: model((8, 8, 1), 2, activation="softmax"),
                lambda m: keras.Sequential([m, keras.layers.Softmax()]),
                lambda m: keras.Sequential([m, keras.Sequential([keras.layers.Softmax()]), keras.layers.Dropout(0.1)]),
                lambda m: keras.Model(m.inputs[0], keras.ops.softmax(m.layers[-1].output)),
                lambda m: keras.Sequential([m, keras.layers.Lambda(keras.ops.softmax)]),
                lambda m: model((8, 8, 1), 2, activation="sigmoid"),
            )
        ),
        (lambda: keras.Sequential([keras.layers.Dense(2)]), r"knows its input shape, .*Input\(shape=\(8, 8, 1\)\)"),
        (lambda: keras.Sequential, "Expected a keras.Model that knows its input shape"),
        (lambda: keras.Model([keras.Input((8, 8, 1)), (x := keras.Input((2,)))], x), r"one input .*, \(None, 2\)"),
    ],
)
def test_models_that_do_not_fit(build, message):
    with pytest.raises(ValueError, match=message):
        tasks.load("digits", labels=[0, 1]).check_model(build())
