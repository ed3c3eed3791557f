"""Second derivatives of the mean objective, by products of the Hessian with random vectors."""

import math

import numpy as np
from keras import ops

from engine import backend, chunks, examples, per_example, structure

_AT_ONCE = 10
"""Random vectors that are multiplied together, after one gradient."""


def hessian_diagonal(model, objective, x, y, probes, rng, memory=chunks.MEMORY):
    """Estimate the diagonal of the Hessian of the mean objective by Hutchinson's method.

    For v with independent entries -1 and 1, the mean of v * (H v) is the diagonal of H; its variance for a weight is
    the sum of the squares of the other entries in its row, divided by the number of probes.

    Args:
        model: keras.Model, built. Run in inference mode and left as it was.
        objective: callable `objective(outputs, y) -> (examples,)`; see `engine.per_example.sums`.
        x: array (examples, ...), or a dict or list of them.
        y: array (examples, ...).
        probes: int. Vectors v; each costs about two passes over the examples, and as many as the memory allows, ten at
            most, share another.
        rng: numpy.random.Generator. Draws the vectors.
        memory: int. Bound on the extra memory in bytes.

    Returns:
        list of float32 arrays like `model.trainable_variables`; entries may be negative.

    References:
        Yao et al., "AdaHessian: an adaptive second order optimizer for machine learning", AAAI 2021.
    """

    def products(trainable, others, x, y, counts, vectors):
        def total(arrays):
            return ops.sum(objective(structure.outputs(model, arrays, others, x), y) * counts)

        of_type = [[ops.cast(v, w.dtype) for v, w in zip(vector, trainable, strict=True)] for vector in vectors]
        found = backend.hessian_vector_products(total, trainable, of_type)
        each = [
            [v * ops.cast(p, "float32") for v, p in zip(*pair, strict=True)]
            for pair in zip(vectors, found, strict=True)
        ]
        return [sum(terms) for terms in zip(*each, strict=True)]

    def build():
        per_example.check_objective(model, objective, x, y)
        return backend.compiled(products, xla=structure.xla(model))

    function = chunks.kept(model, ("hessian vector products", objective), build)
    shapes = [tuple(v.shape) for v in model.trainable_variables]
    room = int(np.clip(memory // (8 * sum(map(math.prod, shapes))), 1, _AT_ONCE))  # a vector and its product
    total = [np.zeros(shape, "float32") for shape in shapes]
    for start in range(0, probes, room):
        together = min(room, probes - start)
        vectors = [[_signs(rng, shape) for shape in shapes] for _ in range(together)]
        at_once = chunks.size(model, x, memory // 2, objectives=together)  # derivatives have derivatives of their own
        parts = chunks.of(x, y, at_once)
        found = chunks.totals(function(*chunks.values(model), *part, vectors) for part in parts)
        total = [a + b for a, b in zip(total, found, strict=True)]
    return [a / np.float32(probes * examples.count(x)) for a in total]


def _signs(rng, shape):
    return backend.on_device(rng.integers(0, 2, shape).astype("float32") * 2 - 1)
