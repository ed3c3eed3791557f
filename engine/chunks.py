"""Passes over many examples in memory that does not grow with their number, compiled once for each model."""

import math

import numpy as np

from engine import backend, structure, taps

MEMORY = 2**30
LARGEST = 500
# Convolutions on a CPU slow down when a chunk outgrows the caches: 2.9 ms an example at 100 and 1.7 at 20 on JAX, 1.6
# at 500 and 1.3 at 100 on TensorFlow (the network of `benchmarks/importance.py`, 2 cores).
LARGEST_ON_CPU = {"tensorflow": 100, "jax": 20}


def size(model, x, memory=MEMORY, extra=0):
    """Choose how many examples to take at once.

    Args:
        model: keras.Model, built.
        x: array (examples, ...). One example is used.
        memory: int. Bound in bytes on what the pass holds, to within one example's need.
        extra: int. Floats that each example needs beside its activations and their gradients.

    Returns:
        int, at least 1.
    """
    # Forward value, gradient, and one intermediate of each.
    values = kept(model, ("activations", x.shape[1:]), lambda: _activations(model, x))
    floats = 3 * values + extra
    largest = LARGEST if structure.xla(model) else LARGEST_ON_CPU[backend.NAME]
    return int(np.clip(memory // (4 * floats), 1, largest))


def of(x, y, size):
    """Yield (x, y, counts) of `size` examples each, as arrays of the device.

    The last is filled up with its last example again; `counts` (examples,) is 1.0 for examples and 0.0 for those that
    fill up. One size means one compilation.
    """
    size = min(size, len(x))
    for start in range(0, len(x), size):
        rows = np.arange(start, start + size)
        counts = (rows < len(x)).astype("float32")
        rows = np.minimum(rows, len(x) - 1)
        yield tuple(backend.on_device(a) for a in (x[rows], y[rows], counts))


def totals(parts):
    """Add up lists of arrays, one list a chunk, to a list of float32 NumPy arrays."""
    total = None
    for part in parts:
        total = part if total is None else [a + b for a, b in zip(total, part, strict=True)]
    return [np.array(a, dtype="float32") for a in total]


def kept(model, key, build):
    """Return what `build()` gave the first time for this key and this model with its present trainable weights.

    It stays with the model and is freed with it.
    """
    found = vars(model).setdefault("_weightwise_kept", {})
    key = (key, tuple(id(v) for v in model.trainable_variables))
    if key not in found:
        found[key] = build()
    return found[key]


def values(model):
    """Return (trainable, non-trainable) values of a model as lists of arrays of the device."""
    return tuple(
        [backend.read(v) for v in variables] for variables in (model.trainable_variables, model.non_trainable_variables)
    )


def outputs(model, x, memory=MEMORY):
    """Return what a model gives for examples in inference mode, as a NumPy array (examples, ...)."""

    def forward(trainable, others, x):
        return model.stateless_call(trainable, others, x, training=False)[0]

    function = kept(model, "outputs", lambda: backend.compiled(forward, xla=structure.xla(model)))
    parts = of(x, np.zeros(len(x)), size(model, x, memory))
    return np.concatenate([backend.to_numpy(function(*values(model), part)) for part, _, _ in parts])[: len(x)]


def _activations(model, x):
    """Count the floats of one example's values in all layers."""
    total = [math.prod(x.shape[1:])]
    leaves = [layer for layer in structure.flat_layers(model) if not list(layer._flatten_layers(include_self=False))]

    def visit(number, inputs, value):
        total.append(math.prod(value.shape[1:]))
        return value

    with taps.tapped(leaves, visit):
        structure.forward(model, x[:1])
    return sum(total)
