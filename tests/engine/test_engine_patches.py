"""A kernel seen as matrices, times what it multiplies at every place, is what its layer gives."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from engine import local_rules

RNG = np.random.default_rng(0)


def agrees(layer, shape, rule):
    x = RNG.standard_normal((3, *shape)).astype("float32")
    expected = np.asarray(layer(x)).astype("float64")
    kernel = layer.kernel if rule != "embedding" else layer.embeddings
    view = local_rules.view(rule, layer, kernel, x.ndim)
    patches = local_rules.patches(rule, layer, x).astype("float64")  # (blocks, rows, inputs)
    weights = view.of(np.asarray(kernel))  # (blocks, inputs, outputs)
    assert np.array_equal(view.back(weights).reshape(kernel.shape), np.asarray(kernel))
    found = np.einsum("bri,bio->rbo", patches, weights)
    np.testing.assert_allclose(np.sort(found.ravel()), np.sort(expected.ravel()), rtol=1e-4, atol=1e-5)
    if not isinstance(layer, layers.EinsumDense):  # whose outputs may lie in another order
        np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-4, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from(["plain", "groups", "depthwise"]),
    st.integers(1, 3),
    st.integers(1, 2),
    st.sampled_from(["valid", "same"]),
    st.booleans(),
)
def test_convolutions(kind, size, stride, padding, dilated):
    settings = {"strides": stride, "padding": padding, "use_bias": False}
    if dilated and stride == 1:
        settings["dilation_rate"] = 2
    if kind == "depthwise":
        layer = layers.DepthwiseConv2D(size, depth_multiplier=2, **settings)
    else:
        layer = layers.Conv2D(4, (size, 2), groups=2 if kind == "groups" else 1, **settings)
    agrees(layer, (6, 7, 2), "convolution")


@pytest.mark.parametrize("equation, output, shape", [
    ("abc,cde->abde", (None, 2, 3), (4, 5)),  # into heads
    ("abde,dec->abc", (None, 5), (4, 2, 3)),  # out of them
    ("abc,bcd->abd", (4, 3), (4, 5)),  # a kernel of its own for each place
    ("abc,cd->adb", (3, 4), (4, 5)),  # another order of the outputs
])  # fmt: skip
def test_contractions(equation, output, shape):
    agrees(layers.EinsumDense(equation, output), shape, "linear")


def test_dense_and_one_dimension():
    agrees(layers.Dense(4, use_bias=False), (5,), "linear")
    agrees(layers.Dense(4, use_bias=False), (3, 5), "linear")
    agrees(layers.Conv1D(4, 3, padding="causal", use_bias=False), (6, 2), "convolution")


def test_what_is_added_has_one_input_and_gamma_one_of_its_own():
    norm, dense = layers.BatchNormalization(), layers.Dense(4)
    norm(np.zeros((2, 3))), dense(np.zeros((2, 3)))
    assert local_rules.view("normalisation", norm, norm.gamma, 2).shape == (3, 1, 1)
    assert local_rules.view("normalisation", norm, norm.beta, 2).shape == (1, 1, 3)
    assert local_rules.view("linear", dense, dense.bias, 2).shape == (1, 1, 4)
    tokens = layers.Embedding(7, 2)
    tokens(np.zeros((2, 3), "int32"))
    assert local_rules.view("embedding", tokens, tokens.embeddings, 2).shape == (1, 7, 2)


def test_memory_bounds_how_many_layers_are_inverted_together(monkeypatch):
    """Layers share passes over the examples as far as their gradients fit, and the result is the same."""
    from engine import curvature, per_example

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((5,)), layers.Dense(4), layers.Dense(3), layers.Dense(2)])
    x, y, passes = RNG.standard_normal((6, 5)).astype("float32"), np.zeros(6, "int32"), []
    each = per_example.each_gradient
    monkeypatch.setattr(per_example, "each_gradient", lambda *args: passes.append(1) or each(*args))

    def found(memory):
        passes.clear()
        diagonals = curvature.inverse_fisher_diagonals(model, squared_norm, x, y, 1e-3, memory)
        return np.concatenate([d.ravel() for d in diagonals]), len(passes)

    (whole, at_once), (parts, several) = found(2**30), found(4 * 6 * 40)  # bytes of 6 gradients of 40 weights
    assert (at_once, several) == (1, 2)
    np.testing.assert_allclose(parts, whole, rtol=1e-6)


def squared_norm(outputs, y):
    return keras.ops.sum(keras.ops.square(outputs), axis=-1)
