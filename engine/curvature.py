"""Second derivatives of the mean objective: the diagonal of its Hessian, and of the inverse of each layer's Fisher."""

import math

import numpy as np
from keras import ops

from engine import backend, chunks, examples, per_example, structure, taps
from engine.local_rules import Transform

AT_ONCE = 10
"""Probes that are made together, after one gradient."""

_PAIRS = Transform(ops.square, multiplicative=True, paired=True)

_COLUMNS = 8192
"""Weights that are in double precision at once."""


def hessian_diagonal(model, objective, x, y, probes, rng, at="outputs", memory=chunks.MEMORY):
    """Estimate the diagonal of the Hessian of the mean objective by Hutchinson's method.

    For v with independent entries -1 and 1 and H any symmetric matrix, the mean of v * (H v) is the diagonal of H. A
    layer is linear in its weights w: the Hessian by w of one example's objective is J^T H J, with H that by the layer's
    outputs and J their Jacobian by w. So (J^T v) * (J^T H v) has the diagonal for its mean, with v of the shape of the
    outputs; J^T of something is the gradient that `engine.local_rules` makes of a signal. Each example has a v of its
    own, so that errors fall with the number of examples too, and where it uses each weight once its inputs are
    multiplied once for all v. A v of the shape of the weights is one for all examples.

    Each probe draws from a stream of its own, example by example: how many are taken at once changes nothing.

    Args:
        model: keras.Model, built. Run in inference mode and left as it was.
        objective: callable `objective(outputs, y) -> (examples,)`; see `engine.per_example.sums`.
        x: array (examples, ...), or a dict or list of them.
        y: array (examples, ...).
        probes: int. Vectors v; each costs about two passes over the examples, and as many as the memory allows, ten at
            most, share another.
        rng: numpy.random.Generator. Draws the vectors.
        at: "outputs" or "weights". With the former, layers without a local rule are probed at their weights, at the
            same time as the others at their outputs: what two layers have in common is 0 in the mean.
        memory: int. Bound on the extra memory in bytes, to within one example's need.

    Returns:
        list of float32 arrays like `model.trainable_variables`; entries may be negative.

    References:
        Hutchinson, "A stochastic estimator of the trace of the influence matrix", Communications in Statistics 1989;
        Yao et al., "AdaHessian: an adaptive second order optimizer for machine learning", AAAI 2021 (at the weights).
    """
    key = ("hessian", objective, at, examples.signature(x), y.shape[1:])
    probing = chunks.kept(model, key, lambda: _Probing(model, objective, x, y, at))
    streams = rng.spawn(probes)
    vector_and_product = 8 * max(1, sum(map(math.prod, probing.of_weights)))
    together = int(np.clip(memory // vector_and_product, 1, min(AT_ONCE, probes)))
    # Derivatives have derivatives of their own.
    at_once = chunks.size(model, x, memory // 2, probing.floats(together), objectives=together)
    found = [probing(x, y, streams[start : start + together], at_once) for start in range(0, probes, together)]
    return [sum(arrays) / np.float32(probes * examples.count(x)) for arrays in zip(*found, strict=True)]


class _Probing:
    """Hutchinson's probes of one objective, compiled for one model.

    Attributes:
        of_outputs: list of shapes. Of one example's values that are probed, a layer each.
        of_weights: list of shapes. Of the weights that are probed themselves.
    """

    def __init__(self, model, objective, x, y, at):
        per_example.check_objective(model, objective, x, y)
        self._model, self._objective = model, objective
        self._ruled = [p for p in per_example.plans(model, x, _PAIRS) if p.path != "generic"] if at == "outputs" else []
        by_rule = {i for p in self._ruled for i in p.indices}
        self._alone = [i for i in range(len(model.trainable_variables)) if i not in by_rule]
        self.of_outputs = self._output_shapes(examples.on_device(examples.take(x, slice(1))))
        self.of_weights = [tuple(model.trainable_variables[i].shape) for i in self._alone]
        self._one_chunk = backend.compiled(self._sum_chunk, xla=structure.xla(model))

    def floats(self, probes):
        """Return what an example needs for so many probes, beside its activations and their gradients."""
        return max((plan.floats(2 * probes) for plan in self._ruled), default=0)

    def __call__(self, x, y, streams, at_once):
        """Return the sum over all examples and a probe for each stream."""
        values = chunks.values(self._model)
        vectors = [[_signs(rng, shape) for shape in self.of_weights] for rng in streams]
        parts = chunks.of(x, y, at_once)
        return chunks.totals(self._one_chunk(*values, *p, vectors, self._bits(streams, len(p[2]))) for p in parts)

    def _output_shapes(self, x):
        found = {}

        def tap(number, value):
            found[number] = tuple(value.shape)[1:]
            return value

        trainable, others = chunks.values(self._model)
        per_example.run_tapped(self._model, self._ruled, trainable, others, x, tap)
        return [found[number] for number in range(len(self._ruled))]

    def _bits(self, streams, count):
        """Draw 0 or 1 for every output of the next examples: uint8 arrays (streams, examples, ...), a layer each."""
        sizes = [math.prod(shape) for shape in self.of_outputs]
        words = -(-sum(sizes) // 64)  # whole words for each example, which draws the same in every chunk
        drawn = np.stack([rng.integers(0, 2**64, (count, words), "uint64") for rng in streams])
        each = np.unpackbits(drawn.astype("<u8").view("uint8"), axis=-1, bitorder="little")
        ends = np.cumsum(sizes, dtype=int)
        parts = (each[..., end - size : end] for size, end in zip(sizes, ends, strict=True))
        shaped = (part.reshape(*drawn.shape[:2], *s) for part, s in zip(parts, self.of_outputs, strict=True))
        return [backend.on_device(np.ascontiguousarray(part)) for part in shaped]

    def _sum_chunk(self, trainable, others, x, y, counts, vectors, bits):
        alone, start = [trainable[i] for i in self._alone], [ops.zeros(b.shape[1:], "float32") for b in bits]

        def total(arrays):
            moved, weights = arrays[: len(start)], list(trainable)
            for place, array in zip(self._alone, arrays[len(start) :], strict=True):
                weights[place] = array

            def tap(number, value):
                return value + ops.cast(moved[number], value.dtype)

            outputs, inputs = per_example.run_tapped(self._model, self._ruled, weights, others, x, tap)
            return ops.sum(self._objective(outputs, y) * counts), inputs

        probes = [
            [2 * ops.cast(b[k], "float32") - 1 for b in bits]
            + [ops.cast(v, w.dtype) for v, w in zip(vector, alone, strict=True)]
            for k, vector in enumerate(vectors)
        ]
        products, inputs = backend.hessian_vector_products(total, [*start, *alone], probes)
        pairs = list(zip(*probes, *products, strict=True))  # of each array: all v, then all H v
        at_layers, at_weights = pairs[: len(start)], pairs[len(start) :]
        found = per_example.sums_by_rules(self._model, self._ruled, others, inputs, at_layers, _PAIRS)
        found += [sum(_PAIRS.of(ops.cast(a, "float32") for a in pair)) for pair in at_weights]
        order = [i for p in self._ruled for i in p.indices] + self._alone
        return [a for _, a in sorted(zip(order, found, strict=True), key=lambda placed: placed[0])]


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
