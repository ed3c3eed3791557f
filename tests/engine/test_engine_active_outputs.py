"""Outputs that are active: the masked loss by hand, and the head of one task that measures are shown."""

import doctest

import keras
import numpy as np
import pytest

import importance
from engine import active_outputs, evaluation, losses

GROUPS = [[0, 3], [4, 1], [2, 5]]


@pytest.fixture
def network():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(5, activation="tanh"), keras.layers.Dense(6)])


def examples(labels, count=30):
    rng = np.random.default_rng(1)
    return rng.standard_normal((count, 4)).astype("float32"), rng.choice(labels, count).astype("int32")


def by_hand(logits, y):
    """One example at a time, in float64, over the labels of its group alone."""
    found = []
    for z, label in zip(np.asarray(logits, "float64"), y, strict=True):
        group = next(group for group in GROUPS if label in group)
        found.append(np.log(np.exp(z[group]).sum()) - z[label])
    return np.array(found)


def test_the_loss_is_over_the_active_outputs():
    rng = np.random.default_rng(0)
    logits, y = 5 * rng.standard_normal((20, 6)).astype("float32"), rng.integers(0, 6, 20)
    loss = active_outputs.ActiveCrossentropy(GROUPS)
    np.testing.assert_allclose(losses.per_example(loss, y, logits), by_hand(logits, y), rtol=1e-4, atol=1e-6)
    assert float(loss(y, logits)) == pytest.approx(by_hand(logits, y).mean(), rel=1e-5)
    other = logits.copy()
    others = np.array([[k not in next(g for g in GROUPS if label in g) for k in range(6)] for label in y])
    other[others] += 100  # which decide nothing
    np.testing.assert_array_equal(losses.per_example(loss, y, other), losses.per_example(loss, y, logits))


def test_what_is_right_is_so_among_the_active_outputs(network):
    x, y = examples(range(6), 40)
    outputs, loss = np.asarray(network(x)), active_outputs.ActiveCrossentropy(GROUPS)
    groups = [next(group for group in GROUPS if label in group) for label in y]
    right = [group[np.argmax(z[group])] == label for z, group, label in zip(outputs, groups, y, strict=True)]
    np.testing.assert_array_equal(losses.accuracy(loss, y, outputs), right)
    masked, plain = (evaluation.Accuracy(network, 16, loss=given) for given in (loss, None))
    assert masked(masked.place(x, y)) == np.mean(right)
    assert plain(plain.place(x, y)) == np.mean(outputs.argmax(1) == y) < np.mean(right)


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("measure", ["fisher_empirical", "taylor", "snip"])
def test_measures_see_the_same_loss_either_way(network, group, measure):
    """By the whole head with the masked loss, and by the active head with the plain one."""
    (x, y), loss = examples(group), active_outputs.ActiveCrossentropy(GROUPS)
    model, asked, plain = active_outputs.ActiveHead(network, loss).of(y)
    whole = importance.load(measure).score(network, x, y, loss=loss)
    for one, other in zip(whole, importance.load(measure).score(model, x, asked, loss=plain), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-7)
    others = [k for k in range(6) if k not in group]
    assert not whole[-2][:, others].any() and whole[-2][:, group].all()


def test_the_exact_fisher_of_a_task_is_over_its_labels(network):
    """F of a bias of the head is mean p (1 - p), p the probability among the active labels."""
    head = active_outputs.ActiveHead(network, active_outputs.ActiveCrossentropy(GROUPS))
    for group in GROUPS:  # one head serves all tasks
        x, y = examples(group)
        model, asked, loss = head.of(y)
        z = np.asarray(network(x), "float64")[:, group]
        p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        expected = np.zeros(6)
        expected[group] = (p * (1 - p)).mean(0)
        found = importance.load("fisher").score(model, x, asked, loss=loss)[-1]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)


def test_what_the_whole_head_cannot_say(network):
    x, y = examples(GROUPS[0])
    with pytest.raises(ValueError, match=r"groups of labels, .* received ActiveCrossentropy with groups"):
        importance.load("fisher").score(network, x, y, loss=active_outputs.ActiveCrossentropy(GROUPS))
    with pytest.raises(ValueError, match=r"labels of one task, .* received \[0, 1\]"):
        active_outputs.ActiveHead(network, active_outputs.ActiveCrossentropy(GROUPS)).of(np.array([0, 1]))


@pytest.mark.parametrize("groups", [[], [[0, 1], [1, 2]], [[0, 1], [2]]])
def test_groups_that_are_none(groups):
    with pytest.raises(ValueError, match="groups of labels of one size"):
        active_outputs.ActiveCrossentropy(groups)


def test_a_loss_comes_back_from_its_configuration():
    loss = active_outputs.ActiveCrossentropy(GROUPS, reduction="sum")
    copy = keras.losses.deserialize(keras.losses.serialize(loss))
    assert isinstance(copy, active_outputs.ActiveCrossentropy) and copy.get_config() == loss.get_config()


def test_doctests():
    found = doctest.testmod(active_outputs)
    assert found.attempted and not found.failed
