"""Second derivatives of the mean objective: the diagonal of its Hessian, and of the inverse of each layer's Fisher."""

import math

import numpy as np
from keras import ops

from engine import backend, chunks, examples, per_example, structure, taps

_AT_ONCE = 10
"""Random vectors that are multiplied together, after one gradient."""

_COLUMNS = 8192
"""Weights that are in double precision at once."""


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


def inverse_fisher_diagonals(model, objective, x, y, damping, memory=chunks.MEMORY):
    """Return the diagonal of (d I + (1/m) sum_k g_k g_k^T)^-1, layer by layer, g_k the gradient of example k.

    By Woodbury's identity it is (1 - g_i^T (m d I + G G^T)^-1 g_i) / d with G the (m, weights) gradients of the layer
    and g_i its column: what the recursion over single gradients gives, of which the sum of squares has all terms at
    once.

    Args:
        model: keras.Model, built. Run in inference mode and left as it was.
        objective: callable `objective(outputs, y) -> (examples,)`; see `engine.per_example.sums`.
        x: array (m, ...), or a dict or list of them.
        y: array (m, ...).
        damping: float. d, above 0.
        memory: int. Bound on the extra memory in bytes, to within one layer's gradients, m times its weights: layers
            whose gradients fit are taken in one pass over the examples.

    Returns:
        list of float64 arrays like `model.trainable_variables`.

    References:
        Singh & Alistarh, "WoodFisher: efficient second-order approximation for neural network compression",
        NeurIPS 2020.
    """
    count, variables = examples.count(x), model.trainable_variables
    found = [np.empty(0)] * len(variables)
    sizes = [math.prod(v.shape) for v in variables]
    for blocks in _fitting([places for _, places in taps.owners(model)], sizes, memory // (4 * count)):
        rows = {place: np.empty((count, sizes[place]), "float32") for places in blocks for place in places}
        for k, gradients in enumerate(per_example.each_gradient(model, objective, x, y)):
            for place, held in rows.items():
                held[k] = backend.to_numpy(gradients[place]).ravel()
        for places in blocks:
            of_layer = _inverse_diagonal([rows.pop(place) for place in places], damping)
            for place, diagonal in zip(places, of_layer, strict=True):
                found[place] = diagonal.reshape(variables[place].shape)
    return found


def _fitting(blocks, sizes, room):
    """Yield lists of blocks, of so many weights together or one block at least."""
    together, taken = [], 0
    for places in blocks:
        size = sum(sizes[place] for place in places)
        if together and taken + size > room:
            yield together
            together, taken = [], 0
        together.append(places)
        taken += size
    yield together


def _inverse_diagonal(rows, damping):
    """Return the diagonal for one layer, an array for each of its variables' gradients (m, weights)."""
    count = len(rows[0])
    moved = [of_variable.any(axis=0) for of_variable in rows]  # without a gradient it is 1 / d
    gram = sum(
        (c @ c.T for each in zip(rows, moved, strict=True) for _, c in _in_double(*each)), np.zeros((count, count))
    )
    values, vectors = np.linalg.eigh(gram)
    root = (vectors / np.sqrt(np.maximum(values, 0) + count * damping)).T
    found = [np.full(len(where), 1 / damping) for where in moved]
    for of_variable, where, diagonal in zip(rows, moved, found, strict=True):
        for places, columns in _in_double(of_variable, where):
            taken = np.square(root @ columns).sum(axis=0)
            # The inverse's diagonal is nowhere less than the diagonal's inverse, to which rounding is held.
            diagonal[places] = np.maximum((1 - taken) / damping, 1 / (damping + np.square(columns).mean(axis=0)))
    return found


def _in_double(rows, where):
    """Yield (places, columns) of an array's wanted columns, some at a time, in double precision."""
    places = np.flatnonzero(where)
    for start in range(0, len(places), _COLUMNS):
        part = places[start : start + _COLUMNS]
        yield part, rows[:, part].astype("float64")
