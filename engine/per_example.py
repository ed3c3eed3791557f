"""Sums over examples of a function of each example's gradient: the numerics behind Fisher, MAS, Taylor and their kin.

For an objective l_n that depends on example n alone, and T such as the square, this computes sum_n T(dl_n / dw) for
every weight w. The mean gradient of a batch is of no use for it: the square of a mean is not the mean of squares.

One batched forward and backward pass gives each layer's inputs a and back-propagated signals d (the gradients at its
outputs before the activation), for all examples at once. What is left is local to the layer (`engine.local_rules`):

* a weight that each example uses once (Dense on vectors): the gradient is the product a_ni d_nk, so for
  T(ab) = T(a)T(b) the sum over examples is one matrix product of T(a) with T(d) ("outer");
* a weight shared over positions (convolutions, sequences): the example's gradient is summed over positions first, one
  matrix product an example, and T is applied to that ("product");
* anything else, layers that are called more than once, and weights that are used outside of their layer's own call, as
  tied embeddings are: the model's gradient by their weights is vectorised over examples ("generic"): always right,
  slower.

The local rules are held against the gradient of the whole model before they are used, on two examples; a layer for
which they do not agree takes the generic way.

Memory does not grow with the number of examples: they are taken in chunks.
"""

import math
from typing import NamedTuple

import numpy as np
from keras import layers, ops

from engine import backend, chunks, examples, local_rules, structure, taps
from engine.local_rules import Transform

TRANSFORMS = {"square": Transform(ops.square, True), "absolute": Transform(ops.abs, True)}


_AT_ONCE = 10
"""Answers whose gradients are taken together, after one forward pass."""


def sums(model, objective, x, y, transform="square", memory=chunks.MEMORY, chunk=None, answers=None):
    """Sum T(gradient of one example's objective) over examples, for every trainable weight.

    The model runs in inference mode (`training=False`) and is left as it was.

    Args:
        model: keras.Model, built.
        objective: callable `objective(outputs, y) -> (examples,)`. One number an example, from that example alone.
            Use a function that lives on, not a new lambda each time: compiled code is kept for it.
        x: array (examples, ...), or a dict or list of them for a model with several inputs.
        y: array (examples, ...): whatever the objective needs beside the outputs; None with `answers`.
        transform: "square", "absolute", or an elementwise function T of `keras.ops` with T(0) = 0.
        memory: int. Bound on the extra memory in bytes, to within one example's need.
        chunk: int or None. Examples taken at once; None: as many as the memory allows, at most 500.
        answers: int or None. The sums are also over y = 0, 1, ... below this number, each for all examples.

    Returns:
        list of float32 arrays like `model.trainable_variables`: sums, not means.

    Raises:
        ValueError: the objective does not give one number an example, or one that depends on the other examples.

    References:
        Goodfellow, "Efficient per-example gradient computations", arXiv 1510.01799 (2015);
        Dangel, Kunstner & Hennig, "BackPACK: packing more into backprop", ICLR 2020.
    """
    transform = TRANSFORMS[transform] if transform in TRANSFORMS else Transform(transform, False)
    if answers is not None:
        y = np.zeros(examples.count(x), "int32")
    key = (objective, transform, examples.signature(x), y.shape[1:])
    one_pass = chunks.kept(model, key, lambda: _Pass(model, objective, transform, x, y))
    together = 1 if answers is None else -(-answers // -(-answers // _AT_ONCE))
    at_once = chunk or chunks.size(model, x, memory, one_pass.floats(together), together)

    def parts():
        for x_, y_, counts in chunks.of(x, y, at_once):
            for begin in range(0, answers or 1, together):
                numbers = np.arange(begin, begin + together)[:, None]
                # One size means one compilation: those that fill up the last block count 0 times.
                asked, counted = ops.expand_dims(y_, 0), ops.expand_dims(counts, 0)
                if answers is not None:
                    asked = asked + np.minimum(numbers, answers - 1).astype("int32")
                    counted = counted * (numbers < answers).astype("float32")
                yield x_, asked, counted

    values = chunks.values(model)
    return chunks.totals(one_pass(values, *part) for part in parts())


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


def each_gradient(model, objective, x, y):
    """Yield, for one example after another, the gradients of its objective by every trainable weight.

    Args:
        model, objective, x, y: as for `sums`.

    Yields:
        list of arrays of the device like `model.trainable_variables`.
    """
    function = _weighted_gradient(model, objective, x, y)
    for part in chunks.of(x, y, 1):
        yield function(*chunks.values(model), *part)


def paths(model, x):
    """Say how each layer's per-example gradients are computed.

    Args:
        model: keras.Model, built.
        x: array (examples, ...), or a dict or list of them. Two examples are used.

    Returns:
        dict from the layer's path to "outer", "product" or "generic".
    """
    return {plan.layer.path: plan.path for plan in plans(model, x, TRANSFORMS["square"])}


class _Pass:
    """One objective and transform, compiled for one model."""

    def __init__(self, model, objective, transform, x, y):
        check_objective(model, objective, x, y)
        self._model, self._objective, self._transform = model, objective, transform
        self._plans = plans(model, x, transform)
        self._exact = [plan for plan in self._plans if plan.path != "generic"]
        self._generic = [i for plan in self._plans if plan.path == "generic" for i in plan.indices]
        self._one_chunk = backend.compiled(self._sum_chunk, xla=structure.xla(model))
        # Vectorising over examples does not convert to XLA everywhere on TensorFlow.
        self._one_generic_chunk = backend.compiled(self._sum_generic_chunk, xla=False)

    def floats(self, objectives):
        """Return the extra floats that so many objectives of one example need."""
        # The local products come one layer after another; the vectorised gradients all at once.
        generic = sum(plan.floats(objectives) for plan in self._plans if plan.path == "generic")
        return max(plan.floats(objectives) for plan in self._plans) + generic

    def __call__(self, weights, x, y, counts):
        """Return the sums over one chunk, in the order of the model's variables.

        Args:
            weights: lists of arrays of the device; see `chunks.values`.
            x: array (examples, ...), or a nest of them.
            y: array (answers, examples, ...).
            counts: float32 array (answers, examples).
        """
        found = {}
        if self._exact:
            order = [i for plan in self._exact for i in plan.indices]
            found |= dict(zip(order, self._one_chunk(*weights, x, y, counts), strict=True))
        if self._generic:
            each = [self._one_generic_chunk(*weights, x, *answer) for answer in zip(y, counts, strict=True)]
            found |= dict(zip(self._generic, map(sum, zip(*each, strict=True)), strict=True))
        return [found[i] for i in range(len(found))]

    def _sum_chunk(self, trainable, others, x, y, counts):
        return _local_sums(
            self._model, self._exact, self._objective, self._transform, (trainable, others, x, y, counts)
        )

    def _sum_generic_chunk(self, trainable, others, x, y, counts):
        wanted = [trainable[i] for i in self._generic]

        def one_example(example):
            x, y, count = example

            def objective(arrays):
                weights = list(trainable)
                for index, array in zip(self._generic, arrays, strict=True):
                    weights[index] = array
                outputs = structure.outputs(self._model, weights, others, examples.take(x, None))
                return self._objective(outputs, y[None])[0] * count

            return backend.gradients(objective, wanted)

        return [ops.sum(self._transform.function(g), axis=0) for g in backend.vectorised(one_example, (x, y, counts))]


def _weighted_gradient(model, objective, x, y):
    """Return the compiled gradient of sum_n weight_n objective_n."""

    def gradient(trainable, others, x, y, weights):
        def total(arrays):
            return ops.sum(objective(structure.outputs(model, arrays, others, x), y) * weights)

        return backend.gradients(total, trainable)

    def build():
        check_objective(model, objective, x, y)
        return backend.compiled(gradient, xla=structure.xla(model))

    return chunks.kept(model, ("weighted gradient", objective), build)


def _local_sums(model, plans, objective, transform, arguments):
    """Sum over examples by the layers' local rules: a list of arrays, in the order of the plans' variables."""
    trainable, others, x, y, counts = arguments  # the last two (answers, examples, ...)

    def run(tap):
        outputs, inputs = run_tapped(model, plans, trainable, others, x, tap)
        return [ops.sum(objective(outputs, y[a]) * counts[a]) for a in range(counts.shape[0])], inputs

    signals, inputs = backend.gradients_at_taps(run)
    return sums_by_rules(model, plans, others, inputs, [signals[number] for number in range(len(plans))], transform)


def run_tapped(model, ruled, trainable, others, x, tap):
    """Run a model that hands over what each of some layers computes, before its activation.

    Args:
        model: keras.Model.
        ruled: list of Ruled or Plan.
        trainable, others: lists of arrays, in the place of the model's variables.
        x: array (examples, ...), or a nest of them.
        tap: callable `tap(number, value) -> value` to go on with, `number` the place in `ruled`.

    Returns:
        outputs: what the model gives.
        inputs: list. What each layer was called with.
    """
    inputs = [None] * len(ruled)

    def visit(number, layer_inputs, value):
        inputs[number] = layer_inputs
        return tap(number, value)

    with taps.tapped([each.layer for each in ruled], visit, before_activation=True):
        return structure.outputs(model, trainable, others, x), inputs


def sums_by_rules(model, ruled, others, inputs, signals, transform):
    """Sum over examples what a transform makes of the gradients that signals stand for, by the layers' local rules.

    Args:
        model, ruled, others: as for `run_tapped`.
        inputs: list, as `run_tapped` returns it.
        signals: list of lists of arrays (examples, ...) like what the layers computed.
        transform: Transform.

    Returns:
        list of arrays, in the order of the layers' variables.
    """
    found = []
    for each, seen, at_layer in zip(ruled, inputs, signals, strict=True):
        variables = [model.trainable_variables[i] for i in each.indices]
        held, of_type = buffers(model, each.layer, others), [ops.cast(s, "float32") for s in at_layer]
        seen = seen if each.rule == "embedding" else ops.cast(seen, "float32")
        found += local_rules.GRADIENTS[each.rule](each.layer, variables, held, seen, of_type, transform)
    return found


class Plan(NamedTuple):
    """How the gradients of a layer that owns weights are computed.

    Attributes:
        layer, indices, calls, rule: as of Ruled.
        path: "outer", "product" or "generic".
        once: int. Extra floats that one example needs, however many its objectives are.
        each: int. Those for each objective.
    """

    layer: layers.Layer
    indices: list
    calls: list
    rule: str | None
    path: str
    once: int
    each: int

    def floats(self, objectives):
        """Return the extra floats that so many objectives of one example need."""
        return self.once + objectives * self.each


def plans(model, x, transform):
    """Choose a way for each layer that owns weights, by running two examples through the model: a list of Plan."""
    found = []
    for use in rules(model, x):
        variables = [model.trainable_variables[i] for i in use.indices]
        found.append(Plan(*use, *_cost(use.layer, use.rule, use.calls, variables, transform)))
    return found


class Ruled(NamedTuple):
    """A layer that owns weights, as a model uses it.

    Attributes:
        layer: keras.Layer.
        indices: list of int. The places of its weights in `model.trainable_variables`.
        calls: list of arrays (1, ...). What it is called with on one example.
        rule: str or None. Its local rule; None where none holds, as of a layer that is called twice.
    """

    layer: layers.Layer
    indices: list
    calls: list
    rule: str | None


def rules(model, x):
    """List the layers of a model that own weights, with their local rules, found once: a list of Ruled."""
    return chunks.kept(model, ("uses", examples.signature(x)), lambda: _trusted(model, x))


def _trusted(model, x):
    """Name the local rule of each layer that owns weights, or None where it is not the gradient of the whole model."""
    ruled = []
    for use in taps.uses(model, x):
        variables = [model.trainable_variables[i] for i in use.indices]
        # A layer that is called twice shares its weights between the calls, and one that is called with places or
        # times on the first axis, or with none of the examples, does so in another way: no local rule covers that.
        alone = len(use.calls) == 1 and use.by_example and not (use.elsewhere or use.looped)
        rule = local_rules.kind(use.layer, use.calls[0], variables) if alone else None
        ruled.append(Ruled(use.layer, use.indices, use.calls, rule))
    wrong = _disagreeing(model, [r for r in ruled if r.rule], x)
    return [r._replace(rule=None) if id(r.layer) in wrong else r for r in ruled]


def _disagreeing(model, ruled, x):
    """Return the ids of the layers whose local sums differ from the gradients of the whole model, on two examples.

    Squares are summed, so that a rule that takes parts of an example for examples, or the other way round, differs too.
    """
    some = examples.on_device(examples.take(x, np.arange(2) % examples.count(x)))
    places = [(r.layer, i) for r in ruled for i in r.indices]
    if not places:
        return set()

    def whole(trainable, others, x, counts):
        def total(arrays):
            return ops.sum(_probe(structure.outputs(model, arrays, others, x), None) * counts)

        found = backend.gradients(total, trainable)
        return [ops.square(ops.cast(found[i], "float32")) for _, i in places]

    def local(trainable, others, x, counts):
        arguments = (trainable, others, x, counts[None], counts[None])
        return _local_sums(model, ruled, _probe, TRANSFORMS["square"], arguments)

    def computed(function, counts):
        counts = backend.on_device(np.array(counts, "float32"))
        return backend.to_numpy(backend.once(function, *chunks.values(model), some, counts))

    alone = [computed(whole, counts) for counts in ([1, 0], [0, 1])]
    found = computed(local, [1, 1]), [a + b for a, b in zip(*alone, strict=True)]
    wrong = set()
    for (layer, _), received, expected in zip(places, *found, strict=True):
        received, expected = np.sqrt(received), np.sqrt(expected)
        near = _TOLERANCE.get(layer.compute_dtype, 1e-3)
        if not np.allclose(received, expected, rtol=near, atol=near * max(np.abs(expected).max(), 1e-30)):
            wrong.add(id(layer))
    return wrong


_TOLERANCE = {"float16": 0.05, "bfloat16": 0.2}
"""How far local sums, which are taken in float32, may be from gradients that are taken in the layer's own type."""


def _probe(outputs, y):
    """An objective with another derivative at each output, whatever the outputs stand for."""
    flat = ops.reshape(ops.cast(outputs, "float32"), (ops.shape(outputs)[0], -1))
    return ops.matmul(flat, np.cos(np.arange(1, flat.shape[1] + 1, dtype="float32"))[:, None])[:, 0]


def _cost(layer, rule, calls, variables, transform):
    """Return (path, extra floats of one example once, and for each objective) for a layer."""
    weights = sum(math.prod(v.shape) for v in variables)
    if rule is None:
        return "generic", 3 * weights, 0  # one objective after another
    seen = math.prod(calls[0].shape[1:])
    if rule == "linear":
        outer = local_rules.used_once(layer, calls[0])
        return ("outer" if outer else "product"), 0, (0 if outer and transform.multiplicative else 2 * weights)
    if rule == "convolution":
        return "product", 2 * seen * math.prod(layer.kernel_size), 2 * weights
    return "product", *((2 * seen**2, 0) if rule == "embedding" else (0, 2 * seen))


def buffers(model, layer, others):
    """Return a layer's non-trainable values out of those of the whole model, `others`."""
    position = {id(v): i for i, v in enumerate(model.non_trainable_variables)}
    return [others[position[id(v)]] for v in layer.non_trainable_variables]


def check_objective(model, objective, x, y):
    """Raise unless the objective gives one number an example that depends on that example alone.

    Raises:
        ValueError: it does not.
    """
    y = y[some_rows(x)]
    of_all, of_each = some_outputs(model, x)
    together = np.asarray(objective(of_all, backend.on_device(y)))
    if together.shape != (len(y),):
        raise ValueError(
            f"Expected the objective to give one number an example, shape ({len(y)},), received {together.shape}. "
            "Sum or average over the other axes, not over the examples."
        )
    for row, output in enumerate(of_each):
        (alone,) = np.asarray(objective(output, backend.on_device(y[row : row + 1])))
        if not np.allclose(alone, together[row], rtol=1e-3, atol=1e-4, equal_nan=True):
            raise ValueError(
                f"Expected an objective of each example alone, received one that changes with the rest of the batch "
                f"({alone} alone, {together[row]} beside other examples). A layer or the objective mixes examples, as "
                "batch statistics in training mode do; per-example gradients do not exist for it."
            )


def some_rows(x):
    """Return the places of up to four examples, from the first to the last, on which things are checked."""
    return np.unique(np.linspace(0, examples.count(x) - 1, 4).astype(int))


def some_outputs(model, x):
    """Return what a model gave for some examples, such as these, when it was first scored.

    Args:
        model: keras.Model.
        x: as for `sums`.

    Returns:
        array (examples, ...) for all of them together, and a list of arrays (1, ...) for each alone; with their masks.
    """
    rows = some_rows(x)

    def compute():
        of_each = [structure.forward(model, examples.take(x, slice(row, row + 1))) for row in rows]
        return structure.forward(model, examples.take(x, rows)), of_each

    return chunks.kept(model, ("some outputs", examples.signature(x), len(rows)), compute)
