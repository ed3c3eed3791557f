"""Passes over many examples in memory that does not grow with their number, compiled once for each model."""

import functools
import math

import numpy as np

from engine import backend, examples, structure, taps

MEMORY = 2**30
LARGEST = 500
# Convolutions on a CPU slow down when a chunk outgrows the caches: 2.9 ms an example at 100 and 1.7 at 20 on JAX, 1.6
# at 500 and 1.3 at 100 on TensorFlow (the network of `benchmarks/importance.py`, 2 cores).
LARGEST_ON_CPU = {"tensorflow": 100, "jax": 20}


def size(model, x, memory=MEMORY, extra=0, objectives=1):
    """Choose how many examples to take at once.

    Args:
        model: keras.Model, built.
        x: array (examples, ...), or a dict or list of them. One example is used.
        memory: int. Bound in bytes on what the pass holds, to within one example's need.
        extra: int. Floats that each example needs beside its activations and their gradients.
        objectives: int. How many are differentiated at once.

    Returns:
        int, at least 1.
    """
    # Forward value, gradient, and one intermediate of each.
    values = kept(model, ("activations", examples.signature(x)), lambda: _activations(model, x))
    floats = (1 + 2 * objectives) * values + extra
    largest = LARGEST if structure.xla(model) else LARGEST_ON_CPU[backend.NAME]
    return int(np.clip(memory // (4 * floats), 1, largest))


def of(x, y, size):
    """Yield (x, y, counts) of `size` examples each, as arrays of the device.

    The last is filled up with its last example again; `counts` (examples,) is 1.0 for examples and 0.0 for those that
    fill up. One size means one compilation.
    """
    number = examples.count(x)
    size = min(size, number)
    for start in range(0, number, size):
        rows = np.arange(start, start + size)
        counts = (rows < number).astype("float32")
        rows = np.minimum(rows, number - 1)
        yield tuple(examples.on_device(a) for a in (examples.take(x, rows), y[rows], counts))


def totals(parts):
    """Add up lists of arrays, one list a chunk, to a list of float32 NumPy arrays."""
    total = functools.reduce(lambda total, part: [a + b for a, b in zip(total, part, strict=True)], parts)
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
        return structure.outputs(model, trainable, others, x)

    function = kept(model, "outputs", lambda: backend.compiled(forward, xla=structure.xla(model)))
    number = examples.count(x)
    parts = of(x, np.zeros(number), size(model, x, memory))
    return np.concatenate([backend.to_numpy(function(*values(model), part)) for part, _, _ in parts])[:number]


def _activations(model, x):
    """Count the floats of one example's values in all layers."""
    total = [examples.floats(x)]
    leaves = [layer for layer in structure.flat_layers(model) if not list(layer._flatten_layers(include_self=False))]

    def visit(number, inputs, value):
        total.append(math.prod(value.shape[1:]))
        return value

    with taps.tapped(leaves, visit):
        structure.forward(model, examples.take(x, slice(1)))
    return sum(total)
