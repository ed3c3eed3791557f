"""Second derivatives of the mean objective, by products of the Hessian with random vectors."""

import numpy as np
from keras import ops

from engine import backend, chunks, examples, per_example, structure


def hessian_diagonal(model, objective, x, y, probes, rng, memory=chunks.MEMORY):
    """Estimate the diagonal of the Hessian of the mean objective by Hutchinson's method.

    For v with independent entries -1 and 1, the mean of v * (H v) is the diagonal of H; its variance for a weight is
    the sum of the squares of the other entries in its row, divided by the number of probes.

    Args:
        model: keras.Model, built. Run in inference mode and left as it was.
        objective: callable `objective(outputs, y) -> (examples,)`; see `engine.per_example.sums`.
        x: array (examples, ...), or a dict or list of them.
        y: array (examples, ...).
        probes: int. Vectors v; each costs about two passes over the examples.
        rng: numpy.random.Generator. Draws the vectors.
        memory: int. Bound on the extra memory in bytes.

    Returns:
        list of float32 arrays like `model.trainable_variables`; entries may be negative.

    References:
        Yao et al., "AdaHessian: an adaptive second order optimizer for machine learning", AAAI 2021.
    """

    def product(trainable, others, x, y, counts, vectors):
        def total(arrays):
            return ops.sum(objective(structure.outputs(model, arrays, others, x), y) * counts)

        vectors = [ops.cast(v, w.dtype) for v, w in zip(vectors, trainable, strict=True)]
        return [ops.cast(p, "float32") for p in backend.hessian_vector_product(total, trainable, vectors)]

    def build():
        per_example.check_objective(model, objective, x, y)
        return backend.compiled(product, xla=structure.xla(model))

    function = chunks.kept(model, ("hessian vector product", objective), build)
    at_once = max(1, chunks.size(model, x, memory) // 2)
    diagonal = [np.zeros(v.shape, "float32") for v in model.trainable_variables]
    for _ in range(probes):
        vectors = [rng.integers(0, 2, d.shape).astype("float32") * 2 - 1 for d in diagonal]
        placed = [backend.on_device(v) for v in vectors]
        products = chunks.totals(function(*chunks.values(model), *part, placed) for part in chunks.of(x, y, at_once))
        diagonal = [d + v * p for d, v, p in zip(diagonal, vectors, products, strict=True)]
    return [d / np.float32(probes * examples.count(x)) for d in diagonal]
