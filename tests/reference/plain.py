"""Derivatives by the running backend's plain autodiff, one example and one step at a time, without the engine."""

import functools

import keras
import numpy as np
from keras import ops

BACKEND = keras.backend.backend()


def values(variables):
    return [np.array(np.asarray(v.value)) for v in variables]


def compiled(function):
    """Compile a function of arrays, so that one example after another costs little."""
    if BACKEND == "jax":
        import jax

        return jax.jit(function)
    import tensorflow as tf

    return tf.function(function, autograph=False)


def differentiated(function, arrays):
    """Return (function(arrays), its gradient), tensors, of `function(arrays) -> scalar`."""
    if BACKEND == "jax":
        import jax

        return jax.value_and_grad(function)(arrays)
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(arrays)
        value = function(arrays)
    return value, [tf.convert_to_tensor(g) for g in tape.gradient(value, arrays, unconnected_gradients="zero")]


def tensors(arrays):
    return [ops.convert_to_tensor(a) for a in arrays]


def gradient(function, arrays):
    """Gradient of `function(arrays) -> scalar`, a list of NumPy arrays."""
    return [np.asarray(g) for g in differentiated(function, tensors(arrays))[1]]


def gradient_of(function):
    """What `gradient` gives of `function(arrays, *others) -> scalar`, compiled for many calls with other arrays."""
    found = compiled(lambda arrays, *others: differentiated(lambda a: function(a, *others), arrays)[1])
    return lambda arrays, *others: [np.asarray(g) for g in found(tensors(arrays), *others)]


def hessian(function, arrays):
    """Full Hessian of `function(arrays) -> scalar` over all entries laid end to end, float64."""
    shapes, sizes = [a.shape for a in arrays], [a.size for a in arrays]

    def of_flat(flat):
        parts = [flat[sum(sizes[:i]) : sum(sizes[: i + 1])] for i in range(len(sizes))]
        return function([ops.reshape(p, s) for p, s in zip(parts, shapes, strict=True)])

    flat = np.concatenate([a.ravel() for a in arrays])
    if BACKEND == "jax":
        import jax

        return np.asarray(jax.jit(jax.hessian(of_flat))(flat), "float64")
    import tensorflow as tf

    @tf.function(autograph=False)
    def row(flat, direction):  # a row after the other: vectorised, derivatives of grouped convolutions are wrong
        with tf.GradientTape() as outer:
            outer.watch(flat)
            with tf.GradientTape() as inner:
                inner.watch(flat)
                scalar = of_flat(flat)
            along = tf.reduce_sum(inner.gradient(scalar, flat) * direction)
        return outer.gradient(along, flat)

    directions = np.eye(len(flat), dtype=flat.dtype)
    return np.stack([row(tf.convert_to_tensor(flat), tf.convert_to_tensor(d)).numpy() for d in directions]).astype(
        "float64"
    )


def output(model, trainable, others, x, training=False):
    return model.stateless_call(trainable, others, x, training=training)[0]


def jacobian(model, x):
    """d f_k(x_n) / dw by one backward pass for each example and output: [n][k] is a list of float64 arrays."""
    trainable, others = values(model.trainable_variables), values(model.non_trainable_variables)
    of_output = gradient_of(lambda w, x, one_hot: ops.sum(output(model, w, others, x)[0] * one_hot))
    every = np.eye(model.output_shape[-1], dtype="float32")
    return [
        [[g.astype("float64") for g in of_output(trainable, x[n : n + 1], one_hot)] for one_hot in every]
        for n in range(len(x))
    ]


def cross_entropy(logits, label):
    return ops.logsumexp(logits) - logits[label]


@functools.lru_cache(maxsize=1)
def _gradient_of_step(model):
    def mean_loss(weights, others, x, y):
        logits = output(model, weights, others, x, training=True)
        return sum(cross_entropy(logits[n], y[n]) for n in range(x.shape[0])) / x.shape[0]

    return gradient_of(mean_loss)


def step_gradient(model, trainable, others, x, y):
    """Gradient of the mean loss of a batch in training mode, as a training step takes it."""
    return _gradient_of_step(model)(trainable, others, x, y.astype("int32"))


def surgery(model, weights, gradients, damping):
    """w^2 / (2 [F^-1]_ii) with the whole matrix F of each layer, built and inverted; gradients[n] is like weights."""
    owners = {id(v): id(layer) for layer in model._flatten_layers() for v in layer.trainable_variables}
    of_layer = {}
    for index, variable in enumerate(model.trainable_variables):
        of_layer.setdefault(owners[id(variable)], []).append(index)
    scores = [np.zeros(w.shape) for w in weights]
    for indices in of_layer.values():
        rows = np.stack([np.concatenate([g[i].astype("float64").ravel() for i in indices]) for g in gradients])
        fisher = damping * np.eye(rows.shape[1]) + rows.T @ rows / len(rows)
        diagonal, start = np.diag(np.linalg.inv(fisher)), 0
        for i in indices:
            part = diagonal[start : start + weights[i].size].reshape(weights[i].shape)
            scores[i], start = weights[i].astype("float64") ** 2 / (2 * part), start + weights[i].size
    return scores


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)
