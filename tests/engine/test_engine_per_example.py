"""Per-example sums against one gradient at a time, for every kind of layer."""

import math
import os
import subprocess
import sys

import keras
import numpy as np
import plain
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, ops

from engine import backend, chunks, local_rules, losses, per_example

CROSS_ENTROPY = losses.objective(keras.losses.SparseCategoricalCrossentropy(from_logits=True))
IMAGE, SEQUENCE = (6, 5, 4), (5, 4)


def one_at_a_time(model, objective, x, y, function):
    trainable, others = plain.values(model.trainable_variables), plain.values(model.non_trainable_variables)
    gradient = plain.gradient_of(lambda weights, x, y: objective(plain.output(model, weights, others, x), y)[0])
    found = [gradient(trainable, x[n : n + 1], y[n : n + 1]) for n in range(len(x))]
    return [sum(function(g.astype("float64")) for g in gradients) for gradients in zip(*found, strict=True)]


def check(model, x, transform="square", function=np.square, **kwargs):
    y = np.random.default_rng(0).integers(0, 3, len(x)).astype("int32")
    sums = per_example.sums(model, CROSS_ENTROPY, x, y, transform, **kwargs)
    expected = one_at_a_time(model, CROSS_ENTROPY, x, y, function)
    largest = max(e.max() for e in expected)
    for a, b in zip(sums, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6 * max(b.max(), 1e-3 * largest))


def check_answers(model, x):
    """The sums over all three answers, made after one forward pass, are those of one answer after another."""
    objective = losses.root_of_fisher(keras.losses.SparseCategoricalCrossentropy(from_logits=True), (3,))
    together = per_example.sums(model, objective, x, None, chunk=2, answers=3)
    one = [per_example.sums(model, objective, x, np.full(len(x), answer, "int32"), chunk=2) for answer in range(3)]
    for found, expected in zip(together, map(sum, zip(*one, strict=True)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6 * expected.max())


def inputs(shape, examples=5):
    return np.random.default_rng(1).standard_normal((examples, *shape)).astype("float32")


def network(shape, *stack):
    keras.utils.set_random_seed(0)
    flat = [layers.Flatten()] if len(shape) > 1 else []
    model = keras.Sequential([keras.Input(shape), *stack, *flat, layers.Dense(3)])
    rng = np.random.default_rng(2)
    for v in model.variables:  # statistics and biases that differ from their start
        if v.name != "kernel" and "seed" not in v.name:
            v.assign(np.asarray(v.value) + rng.random(v.shape).astype("float32"))
    return model


@pytest.mark.parametrize(
    "path, shape, build",
    [
        ("outer", (4,), lambda: layers.Dense(3, activation="tanh")),
        ("product", SEQUENCE, lambda: layers.Dense(3, activation="gelu")),
        ("product", IMAGE, lambda: layers.Conv2D(2, 3, strides=2, padding="same", activation="relu")),
        ("product", IMAGE, lambda: layers.Conv2D(4, 2, groups=2)),
        ("product", IMAGE, lambda: layers.DepthwiseConv2D(2, depth_multiplier=2)),
        ("product", IMAGE, lambda: layers.BatchNormalization(axis=3, scale=False)),
        ("product", SEQUENCE, lambda: layers.LayerNormalization()),
        ("product", SEQUENCE, lambda: layers.Conv1D(3, 2, padding="causal", dilation_rate=2)),
        ("product", SEQUENCE, lambda: layers.EinsumDense("abc,cd->abd", (5, 3), bias_axes="d")),
        ("outer", SEQUENCE, lambda: layers.EinsumDense("abc,bcd->abd", (5, 3), bias_axes="bd")),
        ("generic", IMAGE, lambda: layers.Conv2DTranspose(2, 2)),
        ("generic", IMAGE, lambda: layers.GroupNormalization(2)),
        ("generic", SEQUENCE, lambda: layers.GRU(3, return_sequences=True)),
        ("generic", SEQUENCE, lambda: layers.TimeDistributed(layers.Dense(3))),
    ],
    ids=lambda value: type(value()).__name__ if callable(value) else "",
)
def test_every_kind_of_layer(path, shape, build):
    model = network(shape, build())
    found = list(per_example.paths(model, inputs(shape)).values())
    assert found == [path, "outer"]
    check(model, inputs(shape), chunk=2)
    check_answers(model, inputs(shape))


def test_answers_in_parts_that_do_not_divide_them(monkeypatch):
    monkeypatch.setattr(per_example, "_AT_ONCE", 2)  # of three
    for stack in ([layers.Dense(3)], [layers.Reshape((2, 2)), layers.GRU(3)]):
        check_answers(network((4,), *stack), inputs((4,)))


def test_an_embedding_counts_a_token_that_stands_twice_once():
    tokens = np.array([[1, 1, 2], [0, 2, 2], [3, 3, 3]], "int32")
    model = keras.Sequential(
        [keras.Input((3,), dtype="int32"), layers.Embedding(5, 2), layers.Flatten(), layers.Dense(3)]
    )
    assert set(per_example.paths(model, tokens).values()) == {"product", "outer"}
    check(model, tokens)
    check(model, tokens, "absolute", np.abs)
    check_answers(model, tokens)


def test_a_layer_called_twice_is_generic():
    given_ = keras.Input((4,))
    shared = layers.Dense(4, activation="tanh")
    model = keras.Model(given_, layers.Dense(3)(shared(shared(given_))))
    assert per_example.paths(model, inputs((4,)))[shared.path] == "generic"
    check(model, inputs((4,)))


def test_attention_called_twice():
    shared, given_ = layers.MultiHeadAttention(2, 2), keras.Input(SEQUENCE)
    inner = shared(given_, given_)
    model = keras.Model(given_, layers.Dense(3)(layers.Flatten()(shared(inner, inner))))
    check(model, inputs(SEQUENCE, 13))


def test_a_grouped_convolution_called_twice():
    shared, given_ = layers.Conv2D(4, (3, 2), groups=2, padding="same", activation="tanh"), keras.Input((4, 3, 4))
    model = keras.Model(given_, layers.Dense(3)(layers.Flatten()(shared(shared(given_)))))
    check(model, inputs((4, 3, 4)))


@pytest.mark.skipif(backend.NAME != "tensorflow", reason="graphs are TensorFlow's")
@pytest.mark.parametrize(
    "kernel, data_format, grouped",
    [
        (4, "channels_last", False),
        (2, "channels_last", True),
        (4, "channels_first", False),
        (2, "channels_first", True),
    ],
)
def test_tensorflow_does_not_vectorise_grouped_convolutions(kernel, data_format, grouped):
    import tensorflow as tf

    shape = (1, 5, 5, 4) if data_format == "channels_last" else (1, 4, 5, 5)

    def convolved(images):
        return tf.reduce_sum(ops.conv(images, ops.ones((2, 2, kernel, 4)), data_format=data_format))

    graph = tf.function(convolved, autograph=False).get_concrete_function(tf.TensorSpec(shape)).graph
    assert backend._groups_channels(graph) == grouped


@pytest.mark.slow
@pytest.mark.skipif(backend.NAME != "tensorflow", reason="oneDNN is TensorFlow's")
@pytest.mark.parametrize("onednn", ["0", "1"])
def test_with_and_without_onednn_whatever_this_processor_has_by_default(onednn):
    tests = [test_attention_called_twice, test_a_grouped_convolution_called_twice]
    here = [f"{__file__}::{test.__name__}" for test in tests]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *here]
    env = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": onednn}
    found = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)  # memory gone astray may hang
    assert found.returncode == 0, found.stdout + found.stderr


def test_below_a_recurrent_layer():
    shared, given_ = layers.Dense(4), keras.Input(SEQUENCE)
    model = keras.Model(given_, layers.Dense(3)(layers.GRU(3)(shared(shared(given_)))))
    check(model, inputs(SEQUENCE))


def test_a_subclass_is_generic():
    class Doubled(layers.Dense):
        def call(self, inputs):
            return super().call(2 * inputs) + ops.sum(self.kernel)

    model = network((4,), Doubled(3))
    assert next(iter(per_example.paths(model, inputs((4,))).values())) == "generic"
    check(model, inputs((4,)))


def test_a_function_of_ones_own():
    def cube(gradient):
        return ops.abs(gradient) ** 3

    check(network(SEQUENCE, layers.Dense(3)), inputs(SEQUENCE), cube, lambda g: np.abs(g) ** 3)


@settings(max_examples=20, deadline=None)
@given(
    size=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    padding=st.sampled_from(["same", "valid"]),
    groups=st.sampled_from([1, 2]),
    objectives=st.sampled_from([1, 2]),
)
def test_convolutions_of_any_geometry(size, stride, dilation, padding, groups, objectives):
    if stride > 1:
        dilation = 1  # Keras has no layer with both
    layer = layers.Conv2D(4, size, stride, padding, dilation_rate=dilation, groups=groups, use_bias=False)
    x = backend.on_device(inputs((7, 6, 2), 3))
    layer.build(x.shape)
    (kernel,) = layer.trainable_variables
    signals = [backend.on_device(a) for a in inputs(layer.compute_output_shape(x.shape), objectives)]
    identity = per_example.Transform(lambda gradient: gradient, False)
    rule = local_rules.convolution_gradients
    (found,) = rule(layer, [kernel], [], x, signals, identity)
    whole = backend.compiled(
        lambda kernel, x, signals: backend.gradients(
            lambda a: ops.sum(layer.stateless_call(a, [], x)[0] * sum(signals)), [kernel]
        )
    )
    np.testing.assert_allclose(found, whole(kernel.value, x, signals)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.xla
def test_memory_bounds_the_chunk_whatever_the_number_of_examples(classifier):
    model, x, _ = classifier
    few = chunks.size(model, x, memory=10_000)
    assert 1 < few < 500 and chunks.size(model, np.tile(x, (50, 1)), memory=10_000) == few
    assert chunks.size(model, x, memory=20_000) >= 2 * few
    assert chunks.size(model, x, memory=1) == 1
    assert chunks.size(model, x, memory=10_000, extra=10_000) == 1


def test_compiles_once_for_all_examples_and_calls(classifier, monkeypatch):
    model, x, y = classifier
    traced, trace = [], per_example._Pass._sum_chunk

    def counted(self, *arguments):  # once for each compilation; the backends' own caches forget at times of their own
        traced.append(self)
        return trace(self, *arguments)

    monkeypatch.setattr(per_example._Pass, "_sum_chunk", counted)
    per_example.sums(model, CROSS_ENTROPY, x, y, chunk=5)
    per_example.sums(model, CROSS_ENTROPY, x[::-1], y[::-1], chunk=5)
    again = losses.objective(keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert again is CROSS_ENTROPY
    per_example.sums(model, again, x[:11], y[:11], chunk=5)
    assert len(traced) == 1


def test_other_trainable_weights_are_another_pass(classifier):
    model, x, y = classifier
    assert len(per_example.sums(model, CROSS_ENTROPY, x, y)) == 4
    model.layers[0].trainable = False
    assert len(per_example.sums(model, CROSS_ENTROPY, x, y)) == 2


def test_batches_and_sums_of_gradients(classifier):
    model, x, y = classifier
    each = [one_at_a_time(model, CROSS_ENTROPY, x[n : n + 1], y[n : n + 1], np.copy) for n in range(len(x))]
    total = per_example.gradient_sums(model, CROSS_ENTROPY, x, y)
    squared = per_example.batch_sums(model, CROSS_ENTROPY, x, y, batch_size=10)
    for index in range(4):
        gradients = np.stack([e[index] for e in each])
        np.testing.assert_allclose(total[index], gradients.sum(axis=0), rtol=1e-4, atol=1e-5)
        batches = [gradients[:10], gradients[10:20], gradients[20:]]
        expected = sum(batch.mean(axis=0) ** 2 for batch in batches)
        np.testing.assert_allclose(squared[index], expected, rtol=1e-4, atol=1e-7)


# What is refused


class BatchStatistics(layers.Layer):
    """A normalisation that stays in training mode."""

    def call(self, inputs):
        return inputs - ops.mean(inputs, axis=0)


def test_a_layer_that_mixes_examples_is_refused():
    model = network((4,), layers.Dense(3), BatchStatistics())
    y = np.zeros(5, "int32")
    for function in (per_example.sums, per_example.gradient_sums):
        with pytest.raises(ValueError, match="changes with the rest of the batch"):
            function(model, CROSS_ENTROPY, inputs((4,)), y)


class StuckInTraining(layers.BatchNormalization):
    """Batch normalisation with the statistics of the batch, always."""

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=True)


def test_batch_normalisation_in_training_mode_is_refused():
    model = network((4,), StuckInTraining())
    before = [np.asarray(v.value).copy() for v in model.variables]
    with pytest.raises(ValueError, match="per-example gradients do not exist"):
        per_example.sums(model, CROSS_ENTROPY, inputs((4,)), np.zeros(5, "int32"))
    assert all(np.array_equal(b, np.asarray(v.value)) for b, v in zip(before, model.variables, strict=True))


def test_an_objective_of_the_whole_batch_is_refused(classifier):
    model, x, y = classifier
    with pytest.raises(ValueError, match=r"one number an example, shape \(4,\), received \(\)"):
        per_example.sums(model, lambda outputs, y: ops.mean(outputs), x, y)


def test_taps_are_taken_away_after_an_error(classifier):
    from engine import taps

    model, x, _ = classifier
    first = model.layers[0]
    activation = first.activation
    with pytest.raises(ZeroDivisionError), taps.tapped([first], lambda *seen: 1 / 0, before_activation=True):
        model(x)
    assert first.activation is activation and "call" not in vars(first)
    assert math.isfinite(float(ops.sum(model(x))))
