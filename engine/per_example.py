"""Sums over examples of a function of each example's gradient: the numerics behind Fisher, MAS, Taylor and their kin.

For an objective l_n that depends on example n alone, and T such as the square, this computes sum_n T(dl_n / dw) for
every weight w. The mean gradient of a batch is of no use for it: the square of a mean is not the mean of squares.

One batched forward and backward pass gives each layer's inputs a and back-propagated signals d (the gradients at its
outputs before the activation), for all examples at once. What is left is local to the layer (`engine.local_rules`):

* a weight that each example uses once (Dense on vectors): the gradient is the product a_ni d_nk, so for
  T(ab) = T(a)T(b) the sum over examples is one matrix product of T(a) with T(d) ("outer");
* a weight shared over positions (convolutions, sequences): the example's gradient is summed over positions first, one
  matrix product an example, and T is applied to that ("product");
* anything else, and layers that are called more than once: the model's gradient by their weights is vectorised over
  examples ("generic"): always right, slower.

Memory does not grow with the number of examples: they are taken in chunks.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from keras import layers, ops

from engine import backend, chunks, local_rules, structure, taps


class Transform(NamedTuple):
    """What is done to each example's gradient before the sum.

    Attributes:
        function: callable, elementwise, with function(0) = 0.
        multiplicative: bool. function(a b) = function(a) function(b), which saves forming the product.
    """

    function: Callable
    multiplicative: bool


TRANSFORMS = {"square": Transform(ops.square, True), "absolute": Transform(ops.abs, True)}


def sums(model, objective, x, y, transform="square", memory=chunks.MEMORY, chunk=None):
    """Sum T(gradient of one example's objective) over examples, for every trainable weight.

    The model runs in inference mode (`training=False`) and is left as it was.

    Args:
        model: keras.Model, built.
        objective: callable `objective(outputs, y) -> (examples,)`. One number an example, from that example alone.
            Use a function that lives on, not a new lambda each time: compiled code is kept for it.
        x: array (examples, ...).
        y: array (examples, ...): whatever the objective needs beside the outputs.
        transform: "square", "absolute", or an elementwise function T of `keras.ops` with T(0) = 0.
        memory: int. Bound on the extra memory in bytes, to within one example's need.
        chunk: int or None. Examples taken at once; None: as many as the memory allows, at most 500.

    Returns:
        list of float32 arrays like `model.trainable_variables`: sums, not means.

    Raises:
        ValueError: the objective does not give one number an example, or one that depends on the other examples.

    References:
        Goodfellow, "Efficient per-example gradient computations", arXiv 1510.01799 (2015);
        Dangel, Kunstner & Hennig, "BackPACK: packing more into backprop", ICLR 2020.
    """
    transform = TRANSFORMS[transform] if transform in TRANSFORMS else Transform(transform, False)
    key = (objective, transform, x.shape[1:], y.shape[1:])
    one_pass = chunks.kept(model, key, lambda: _Pass(model, objective, transform, x, y))
    at_once = chunk or chunks.size(model, x, memory, one_pass.extra)
    return chunks.totals(one_pass(*part) for part in chunks.of(x, y, at_once))


def batch_sums(model, objective, x, y, batch_size):
    """Sum over batches the square of the batch's *mean* gradient: what per-example sums are often mistaken for.

    Args:
        model, objective, x, y: as for `sums`.
        batch_size: int. The last batch is what is left, and its mean is over that many.

    Returns:
        list of float32 arrays like `model.trainable_variables`.
    """
    function = _weighted_gradient(model, objective, x, y)
    means = (
        function(*chunks.values(model), x, y, counts / ops.sum(counts)) for x, y, counts in chunks.of(x, y, batch_size)
    )
    return chunks.totals([ops.square(g) for g in gradients] for gradients in means)


def gradient_sums(model, objective, x, y, memory=chunks.MEMORY):
    """Sum the gradients of all examples' objectives, for every trainable weight; arguments as for `sums`."""
    function = _weighted_gradient(model, objective, x, y)
    at_once = chunks.size(model, x, memory)
    return chunks.totals(function(*chunks.values(model), *part) for part in chunks.of(x, y, at_once))


def paths(model, x):
    """Say how each layer's per-example gradients are computed.

    Args:
        model: keras.Model, built.
        x: array (examples, ...). One example is used.

    Returns:
        dict from the layer's path to "outer", "product" or "generic".
    """
    return {plan.layer.path: plan.path for plan in _plans(model, x, TRANSFORMS["square"])}


class _Plan(NamedTuple):
    layer: layers.Layer
    indices: list  # of the layer's variables among the model's
    path: str
    rule: str | None
    floats: int  # extra memory of one example


class _Pass:
    """One objective and transform, compiled for one model."""

    def __init__(self, model, objective, transform, x, y):
        check_objective(model, objective, x, y)
        self._model, self._objective, self._transform = model, objective, transform
        plans = _plans(model, x, transform)
        self._exact = [plan for plan in plans if plan.path != "generic"]
        self._generic = [i for plan in plans if plan.path == "generic" for i in plan.indices]
        # The local products come one layer after another; the vectorised gradients all at once.
        self.extra = max(plan.floats for plan in plans) + sum(p.floats for p in plans if p.path == "generic")
        self._one_chunk = backend.compiled(self._sum_chunk, xla=structure.xla(model))
        # Vectorising over examples does not convert to XLA everywhere on TensorFlow.
        self._one_generic_chunk = backend.compiled(self._sum_generic_chunk, xla=False)

    def __call__(self, x, y, counts):
        """Return the sums over one chunk, in the order of the model's variables."""
        arguments = (*chunks.values(self._model), x, y, counts)
        found = {}
        if self._exact:
            order = [i for plan in self._exact for i in plan.indices]
            found |= dict(zip(order, self._one_chunk(*arguments), strict=True))
        if self._generic:
            found |= dict(zip(self._generic, self._one_generic_chunk(*arguments), strict=True))
        return [found[i] for i in range(len(found))]

    def _sum_chunk(self, trainable, others, x, y, counts):
        def run(tap):
            inputs = {}

            def visit(number, layer_inputs, value):
                inputs[number] = layer_inputs
                return tap(number, value)

            with taps.tapped([plan.layer for plan in self._exact], visit, before_activation=True):
                outputs, _ = self._model.stateless_call(trainable, others, x, training=False)
            return ops.sum(self._objective(outputs, y) * counts), inputs

        signals, inputs = backend.gradients_at_taps(run)
        found = []
        for number, plan in enumerate(self._exact):
            seen = inputs[number] if plan.rule == "embedding" else ops.cast(inputs[number], "float32")
            variables = [self._model.trainable_variables[i] for i in plan.indices]
            found += local_rules.GRADIENTS[plan.rule](
                plan.layer,
                variables,
                buffers(self._model, plan.layer, others),
                seen,
                ops.cast(signals[number], "float32"),
                self._transform,
            )
        return found

    def _sum_generic_chunk(self, trainable, others, x, y, counts):
        wanted = [trainable[i] for i in self._generic]

        def one_example(example):
            x, y, count = example

            def objective(arrays):
                weights = list(trainable)
                for index, array in zip(self._generic, arrays, strict=True):
                    weights[index] = array
                outputs, _ = self._model.stateless_call(weights, others, x[None], training=False)
                return self._objective(outputs, y[None])[0] * count

            return backend.gradients(objective, wanted)

        return [ops.sum(self._transform.function(g), axis=0) for g in backend.vectorised(one_example, (x, y, counts))]


def _weighted_gradient(model, objective, x, y):
    """Return the compiled gradient of sum_n weight_n objective_n."""

    def gradient(trainable, others, x, y, weights):
        def total(arrays):
            outputs, _ = model.stateless_call(arrays, others, x, training=False)
            return ops.sum(objective(outputs, y) * weights)

        return backend.gradients(total, trainable)

    def build():
        check_objective(model, objective, x, y)
        return backend.compiled(gradient, xla=structure.xla(model))

    return chunks.kept(model, ("weighted gradient", objective), build)


def _plans(model, x, transform):
    """Choose a way for each layer that owns weights, by running one example through the model."""
    owned = taps.owners(model)
    calls = taps.calls([layer for layer, _ in owned], model, x)
    plans = []
    for (layer, indices), inputs in zip(owned, calls, strict=True):
        variables = [model.trainable_variables[i] for i in indices]
        # A layer that is called twice shares its weights between the calls: no local rule covers that.
        once = len(inputs) == 1 and not taps.in_loop(model, layer)
        rule = local_rules.kind(layer, inputs[0], variables) if once else None
        path, floats = _cost(layer, rule, inputs, variables, transform)
        plans.append(_Plan(layer, indices, path, rule, floats))
    return plans


def _cost(layer, rule, inputs, variables, transform):
    """Return (path, extra floats of one example) for a layer."""
    weights = sum(math.prod(v.shape) for v in variables)
    if rule is None:
        return "generic", 3 * weights
    seen = math.prod(inputs[0].shape[1:])
    if rule == "linear":
        outer = local_rules.used_once(layer, inputs[0])
        return ("outer" if outer else "product"), (0 if outer and transform.multiplicative else 2 * weights)
    if rule == "convolution":
        return "product", 2 * (weights + seen * math.prod(layer.kernel_size))
    return "product", 2 * (seen**2 if rule == "embedding" else seen)


def buffers(model, layer, others):
    """Return a layer's non-trainable values out of those of the whole model, `others`."""
    position = {id(v): i for i, v in enumerate(model.non_trainable_variables)}
    return [others[position[id(v)]] for v in layer.non_trainable_variables]


def check_objective(model, objective, x, y):
    """Raise unless the objective gives one number an example that depends on that example alone.

    Raises:
        ValueError: it does not.
    """
    rows = np.unique(np.linspace(0, len(x) - 1, 4).astype(int))
    x, y = x[rows], y[rows]

    def values(part):
        return np.asarray(objective(structure.forward(model, x[part]), backend.on_device(y[part])))

    together = values(slice(None))
    if together.shape != (len(x),):
        raise ValueError(
            f"Expected the objective to give one number an example, shape ({len(x)},), received {together.shape}. "
            "Sum or average over the other axes, not over the examples."
        )
    for row in range(len(x)):
        (alone,) = values(slice(row, row + 1))
        if not np.allclose(alone, together[row], rtol=1e-3, atol=1e-4, equal_nan=True):
            raise ValueError(
                f"Expected an objective of each example alone, received one that changes with the rest of the batch "
                f"({alone} alone, {together[row]} beside other examples). A layer or the objective mixes examples, as "
                "batch statistics in training mode do; per-example gradients do not exist for it."
            )
