"""Hutchinson's probes at the outputs of layers: what they give in the mean, however many are taken at once."""

import keras
import numpy as np
import plain
import pytest
from keras import layers

from engine import chunks, curvature

EXAMPLES = 3
CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")


def objective(outputs, y):
    return CROSS_ENTROPY(y, outputs)


def convolutional():
    return keras.Sequential(
        [
            keras.Input((4, 3, 2)),
            layers.Conv2D(2, 2, padding="same", activation="tanh"),
            layers.BatchNormalization(),
            layers.DepthwiseConv2D(2),
            layers.Conv2D(2, (2, 1), groups=2, activation="tanh"),
            layers.Flatten(),
            layers.Dense(3, activation="tanh"),
            layers.Dense(3),
        ]
    )


def attention():
    tokens = keras.Input((3,), dtype="int32")
    embedded = layers.Embedding(4, 2)(tokens)
    mixed = layers.MultiHeadAttention(2, 2)(embedded, embedded)
    hidden = layers.EinsumDense("abc,cde->abde", (3, 2, 2), bias_axes="e")(layers.LayerNormalization()(mixed))
    return keras.Model(tokens, layers.Dense(3)(layers.Flatten()(hidden)))


def one_output_for_two_weights():
    """A bias that two outputs of an example share, behind a kernel that each example uses once."""
    return keras.Sequential(
        [
            keras.Input((3,)),
            layers.EinsumDense("ab,bcd->acd", (2, 2), bias_axes="d", activation="tanh"),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )


def shared():
    """A layer that is called twice has no local rule: it is probed at its weights, beside the others."""
    inputs, twice = keras.Input((3,)), layers.Dense(3, activation="tanh")
    hidden = layers.Dense(2, activation="gelu")(twice(twice(inputs)))
    return keras.Model(inputs, layers.Dense(3)(hidden))


def built(build):
    keras.utils.set_random_seed(0)
    model, rng = build(), np.random.default_rng(0)
    for v in model.variables:  # no zeros, no ones
        v.assign(np.asarray(v) + 0.3 * rng.random(v.shape).astype("float32"))
    shape = (EXAMPLES, *model.input_shape[1:])
    x = rng.integers(0, 4, shape) if model.inputs[0].dtype == "int32" else rng.standard_normal(shape)
    return model, x.astype(model.inputs[0].dtype), rng.integers(0, 3, EXAMPLES)


def orthogonal(count):
    """Rows of -1 and 1, a power of two of them, that are orthogonal to one another, as are the columns: 0 for -1."""
    rows = np.ones((1, 1), int)
    while len(rows) < count:
        rows = np.block([[rows, rows], [rows, -rows]])
    return (rows + 1) // 2


@pytest.mark.parametrize("build", [convolutional, attention, one_output_for_two_weights, shared])
def test_probes_that_are_orthogonal_give_the_diagonal_itself(build, monkeypatch):
    """Where sum_k v_k v_k^T = K I the mean of v * (H v) is no estimate. Such signs take the place of drawn ones."""
    model, x, y = built(build)
    probing = curvature._Probing(model, objective, x, y, "outputs")
    weights = sum(np.prod(shape, dtype=int) for shape in probing.of_weights)
    sizes = [int(np.prod(shape)) for shape in probing.of_outputs]
    assert (weights > 0) == (build is shared) and sizes
    bits = orthogonal(sum(sizes) + weights)
    at_outputs, at_weights = iter(bits[:, : sum(sizes)]), iter(bits[:, sum(sizes) : sum(sizes) + weights])

    def of_outputs(self, streams, count):
        rows = np.stack([next(at_outputs) for _ in streams])
        parts = np.split(rows, np.cumsum(sizes)[:-1], axis=1)
        shaped = (p.reshape(len(p), 1, *shape) for p, shape in zip(parts, probing.of_outputs, strict=True))
        return [np.repeat(p, count, axis=1).astype("uint8") for p in shaped]

    left = []

    def of_weights(rng, shape):
        left[:] = left or list(next(at_weights))
        taken = [left.pop(0) for _ in range(np.prod(shape))]
        return keras.ops.convert_to_tensor(np.reshape(taken, shape).astype("float32") * 2 - 1)

    monkeypatch.setattr(curvature._Probing, "_bits", of_outputs)
    monkeypatch.setattr(curvature, "_signs", of_weights)
    monkeypatch.setattr(curvature, "AT_ONCE", 4)
    found = curvature.hessian_diagonal(model, objective, x, y, len(bits), np.random.default_rng(0))

    others = plain.values(model.non_trainable_variables)

    def mean_loss(weights):
        outputs = plain.output(model, weights, others, x)
        return keras.ops.sum(objective(outputs, y)) / EXAMPLES

    exact = np.diag(plain.hessian(mean_loss, plain.values(model.trainable_variables)))
    np.testing.assert_allclose(
        np.concatenate([f.ravel() for f in found]), exact, rtol=1e-3, atol=1e-4 * np.abs(exact).max()
    )


@pytest.mark.parametrize("at", ["outputs", "weights"])
def test_what_is_taken_at_once_changes_nothing(at, monkeypatch):
    model, x, y = built(shared)

    def found(together, size):
        monkeypatch.setattr(curvature, "AT_ONCE", together)
        monkeypatch.setattr(chunks, "size", lambda *args, **kwargs: size)
        return curvature.hessian_diagonal(model, objective, x, y, 3, np.random.default_rng(0), at)

    expected = found(3, EXAMPLES)
    for got in (found(1, EXAMPLES), found(2, 2)):
        for one, right in zip(got, expected, strict=True):
            np.testing.assert_allclose(one, right, rtol=1e-4, atol=1e-6)


def test_probes_at_outputs_are_nearer_where_there_are_many_examples():
    model, _, _ = built(one_output_for_two_weights)
    rng = np.random.default_rng(1)
    x, y = (1 + 0.3 * rng.standard_normal((400, 3))).astype("float32"), rng.integers(0, 3, 400)

    def error(at):
        found = curvature.hessian_diagonal(model, objective, x, y, 4, np.random.default_rng(0), at)
        return np.linalg.norm(np.concatenate([f.ravel() for f in found]) - exact)

    many = curvature.hessian_diagonal(model, objective, x, y, 200, np.random.default_rng(1))
    exact = np.concatenate([f.ravel() for f in many])
    assert error("outputs") < 0.15 * np.linalg.norm(exact) and error("outputs") < error("weights") / 5
