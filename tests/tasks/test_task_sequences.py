"""Sequences of tasks: what each file promises, and that all of them keep one contract."""

import doctest
import re
import sys

import numpy as np
import pytest

import tasks
from tasks import sequences

EVERY_SEQUENCE = pytest.mark.parametrize("name", sequences.names())
PARTS = ("train", "validation", "test")


def test_names():
    assert sequences.names() == [
        "mnist_fashion_rotations", "permuted_digits", "permuted_mnist", "rotated_digits", "split_cifar10",
        "split_digits", "split_fashion", "split_mnist",
    ]  # fmt: skip
    assert "sequences" not in tasks.names()
    with pytest.raises(ValueError, match=r"files in tasks/sequences/ \(mnist_fashion_.*received 'permuted'"):
        sequences.load("permuted")


@EVERY_SEQUENCE
def test_every_task_fits_the_one_model(name, fake):
    sequence = sequences.load(name)
    model = sequence.first.build_model("mlp")
    assert len(sequence) >= 2
    for number in range(len(sequence)):
        task = sequence[number]
        assert isinstance(task, tasks.LoadedTask) and task.name == f"{name}[{number}]"
        task.check_model(model)
        for part in PARTS:
            x, y = getattr(task, f"x_{part}"), getattr(task, f"y_{part}")
            assert x.dtype == np.float32 and len(x) == len(y) > 0 and set(y) <= set(range(task.classes))
            few = sequence.examples(number, part, np.array([1, 0]))
            assert np.array_equal(few[0], x[[1, 0]]) and np.array_equal(few[1], y[[1, 0]])


def test_digits_are_turned_by_right_angles():
    sequence, base = sequences.load("rotated_digits", validation="test"), tasks.load("digits", validation="test")
    for turns in range(4):
        assert np.array_equal(sequence[turns].x_test, np.rot90(base.x_test, turns, axes=(1, 2)))
        assert np.array_equal(sequence[turns].y_test, base.y_test)
    with pytest.raises(ValueError, match=r"from 1 to 4 tasks, .*received 5"):
        sequences.load("rotated_digits", tasks=5)


def test_permutations_are_of_pixels_and_follow_the_seed():
    sequence, again, other = (sequences.load("permuted_digits", seed=s, validation="test", tasks=4) for s in (1, 1, 2))
    base = tasks.load("digits", validation="test")
    assert len(sequence) == 4 and np.array_equal(sequence[0].x_train, base.x_train)
    for number in range(1, 4):
        order = sequence.stages[number].pixels
        assert sorted(order) == list(range(64))
        for part in PARTS:  # the same order for every part
            x, y = sequence.examples(number, part)
            original = getattr(base, f"x_{part}").reshape(-1, 64)
            assert np.array_equal(x.reshape(-1, 64), original[:, order])
            assert np.array_equal(y, getattr(base, f"y_{part}"))
        assert np.array_equal(order, again.stages[number].pixels)
        assert not np.array_equal(order, other.stages[number].pixels)
        assert not np.array_equal(order, sequence.stages[number - 1].pixels)
    same = [sequences.load("permuted_digits", seed=s, permutations=2).stages[1].pixels for s in (0, 1)]
    assert all(np.array_equal(pixels, other.stages[1].pixels) for pixels in same)
    longer = sequences.load("permuted_digits", seed=1, tasks=6)
    assert all(np.array_equal(longer.stages[n].pixels, sequence.stages[n].pixels) for n in range(1, 4))


def test_rotations(fake):
    sequence = sequences.load("mnist_fashion_rotations", validation="test")
    mnist, fashion = (tasks.load(name, validation="test") for name in ("mnist", "fashion_mnist"))
    for number, (base, turns) in enumerate(((mnist, 0), (fashion, 0), (mnist, 1), (fashion, 1))):
        assert np.array_equal(sequence[number].x_test, np.rot90(base.x_test, turns, axes=(1, 2)))
        assert np.array_equal(sequence[number].y_test, base.y_test)
    assert sequence.first.models == mnist.models


def test_channels_of_a_pixel_stay_together(fake):
    base = tasks.load("cifar10")
    turned = np.rot90(np.arange(32 * 32).reshape(32, 32)).ravel()
    sequence = sequences.LoadedSequence("turned", [sequences.Stage("cifar10", pixels=turned)], {"cifar10": base})
    assert np.array_equal(sequence[0].x_test, np.rot90(base.x_test, axes=(1, 2)))


@pytest.mark.parametrize("labels_per_task", [1, 2, 5])
def test_split_shares_out_the_labels_and_keeps_their_numbers(labels_per_task):
    sequence = sequences.load("split_digits", labels_per_task=labels_per_task, validation=0.2)
    base = tasks.load("digits", validation=0.2)
    assert len(sequence) == 10 // labels_per_task
    for part in PARTS:
        y = getattr(base, f"y_{part}")
        for number in range(len(sequence)):
            wanted = range(number * labels_per_task, (number + 1) * labels_per_task)
            found = sequence[number]
            assert np.array_equal(getattr(found, f"y_{part}"), y[np.isin(y, wanted)])
            assert np.array_equal(getattr(found, f"x_{part}"), getattr(base, f"x_{part}")[np.isin(y, wanted)])
        assert found.classes == 10


@pytest.mark.parametrize("labels_per_task", [2, 5])
def test_domain_numbers_labels_within_their_task(labels_per_task):
    sequence = sequences.load("split_digits", labels_per_task=labels_per_task, scenario="domain")
    plain = sequences.load("split_digits", labels_per_task=labels_per_task)
    for number in range(len(sequence)):
        found, task = sequence[number], plain[number]
        for part in PARTS:
            assert np.array_equal(getattr(found, f"x_{part}"), getattr(task, f"x_{part}"))
            assert np.array_equal(getattr(found, f"y_{part}"), getattr(task, f"y_{part}") - labels_per_task * number)
        assert found.classes == sequence.first.classes == labels_per_task == len(found.labels)
        found.check_model(sequence.first.build_model())
    assert sequence.first.chance_loss == pytest.approx(np.log(labels_per_task))


def test_domain_goes_by_the_order_in_which_a_task_has_its_labels():
    stages = [sequences.Stage("digits", labels=labels) for labels in ((7, 2), (0, 9))]
    sequence = sequences.LoadedSequence("own", stages, {"digits": tasks.load("digits")}, "domain")
    y = sequence.bases["digits"].y_test
    assert np.array_equal(sequence[0].y_test, (y[np.isin(y, (7, 2))] == 2).astype(int))
    assert np.array_equal(sequence[1].y_test, (y[np.isin(y, (0, 9))] == 9).astype(int))


def test_task_keeps_labels_and_says_which_outputs_are_active():
    sequence, plain = sequences.load("split_digits", scenario="task"), sequences.load("split_digits")
    assert sequence.first.groups == sequence[3].groups == ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9))
    assert sequence[3].classes == 10 and np.array_equal(sequence[3].y_test, plain[3].y_test)
    assert sequence[3].chance_loss == pytest.approx(np.log(2)) and plain[3].groups is None
    logits = np.zeros((1, 10), "float32")
    assert float(sequence[3].loss(np.array([6]), logits)) == pytest.approx(np.log(2), rel=1e-6)


@pytest.mark.parametrize("scenario", ["domain", "task"])
def test_scenarios_of_sequences_that_ask_for_the_same_labels(scenario):
    with pytest.raises(ValueError, match=r"share out the labels of one data set .* received 'permuted_digits'"):
        sequences.load("permuted_digits", scenario=scenario)
    base = {"digits": tasks.load("digits")}
    for labels in (((0, 1), (1, 2)), ((0, 1), (2,))):  # shared, and of two sizes
        with pytest.raises(ValueError, match="in equal numbers"):
            sequences.LoadedSequence("own", [sequences.Stage("digits", labels=of) for of in labels], base, scenario)
    with pytest.raises(ValueError, match="one of 'class', 'domain', 'task', received 'tsak'"):
        sequences.load("split_digits", scenario="tsak")


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("permuted_digits", {"tasks": 0}, "tasks .* to be a whole number of at least 1, received 0"),
        ("permuted_digits", {"tasks": 2.5}, "received 2.5"),
        (
            "permuted_digits",
            {"labels_per_task": 2},
            r"'permuted_digits' has \(tasks, permutations\), received labels_per_task",
        ),
        ("mnist_fashion_rotations", {"tasks": 2}, r"\(it has none\), received tasks"),
        ("split_digits", {"labels_per_task": 3}, "labels_per_task to divide 10, received 3"),
        ("split_digits", {"labels_per_task": -1}, "received -1"),
    ],
)
def test_options_that_do_not_fit(name, options, message):
    with pytest.raises(ValueError, match=message):
        sequences.load(name, **options)


@pytest.mark.parametrize("others", [["iris"], ["function"]])
def test_tasks_that_do_not_fit_one_model(others):
    bases = {name: tasks.load(name) for name in ["digits", *others]}
    stages = [sequences.Stage(name) for name in bases]
    with pytest.raises(ValueError, match="one model learns them all; received digits: "):
        sequences.LoadedSequence("mixed", stages, bases)
    with pytest.raises(ValueError, match="classifications"):
        sequences.LoadedSequence("function", [sequences.Stage("function")], {"function": tasks.load("function")})


def test_a_head_too_small_is_refused():
    model = tasks.load("digits", labels=[0, 1]).build_model()
    with pytest.raises(ValueError, match=r"one output of shape \(None, 10\) for the task 'split_digits\[1\]'"):
        sequences.load("split_digits")[1].check_model(model)


def test_a_new_file_is_a_new_sequence(tmp_path, monkeypatch):
    example = re.search(r"```python\n(.*?)```", sequences.__doc__, re.DOTALL).group(1)
    (tmp_path / "upside_down.py").write_text(example, encoding="utf-8")
    monkeypatch.setattr(sequences, "__path__", [*sequences.__path__, str(tmp_path)])
    try:
        sequence = sequences.load("upside_down", validation="test")
    finally:
        sys.modules.pop("tasks.sequences.upside_down", None)
    assert np.array_equal(sequence[1].x_test, sequence[0].x_test[:, ::-1, ::-1])


def test_sequence_doctests():
    results = doctest.testmod(sequences)
    assert results.attempted and not results.failed
