"""Repair: what is done to the rest of a network after some of its weights were replaced, from inputs alone.

Layer by layer, in the order in which the network calls them, with inputs X' as they are after the layers before have
been replaced and repaired; XW are the layer's outputs in the network as it was, before the activation:

- `bias`: b' = b + mean(XW - X'W'), W' with the replaced weights: the mean of what is missing goes into the bias.
- `least_squares`: W' + D with the D that minimises ||XW - X'(W' + D)||^2 + ridge ||D||^2 over the weights that are
  left. A bias is the weight of an input that is 1, without a ridge, so that with D = 0 for the kernel this is `bias`.
  The ridge is `damping`, 0.01, times the mean diagonal of X'^T X' over inputs that are not always 0. The squared error
  is never above that of W'.
- `batch_norm`: each BatchNormalization's moving statistics become the mean and the variance of what it is given.

What was replaced stays so, and a layer stays as it is if nothing in it or before it was. Sums are over examples and
places, in float64. The solution is exact: outputs that miss the same weights (of units, channels) share a solve, and
where each misses others (single weights) each takes one, of the size of what is left of an output or of what is gone,
whichever is smaller. Blocks of columns, as in SparseGPT, approximate this for layers with many thousands of inputs.

References:
    He, Zhang & Sun, "Channel pruning for accelerating very deep neural networks", ICCV 2017;
    Frantar & Alistarh, "SparseGPT: massive language models can be accurately pruned in one-shot", arXiv 2301.00774;
    Nagel, van Baalen, Blankevoort & Welling, "Data-free quantization through weight equalization and bias correction",
    ICCV 2019.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
import threadpoolctl
from keras import layers, ops
from scipy import linalg

from engine import backend, chunks, examples, local_rules, structure, taps

KINDS = ("none", "bias", "least_squares", "batch_norm")
DAMPING = 0.01


class Unsolvable(ValueError):
    """A layer of which least squares have no solution that could be told from rounding."""


class Repair:
    """One kind of repair of a model as it is now, from some inputs. It is made anew for other weights.

    Args:
        model: keras.Model, built. It is left as it is.
        x: float array (examples, ...), or a dict or list of arrays for a model with several inputs.
        kind: str, of `KINDS`.
        damping: float. See the module's docstring.
        memory: int. Bound in bytes on what a pass over the examples holds. Beside it stand the examples and the
            products of the inputs of a layer, 8 (inputs + 1)^2 bytes; and of a layer before which nothing is replaced
            these and their inverse.
        chunk: int or None. Examples taken at once; None: as many as the memory allows.

    Raises:
        ValueError: an unknown kind, or a model with no layer that it could repair.
    """

    def __init__(self, model, x, kind, damping=DAMPING, memory=chunks.MEMORY, chunk=None):
        if kind not in KINDS:
            raise ValueError(f"Expected a repair among {', '.join(KINDS)}, received {kind!r}.")
        self._kind, self._damping, self._plan = kind, damping, _plan(model, x)
        self._steps = self._plan.steps(kind)
        if kind != "none" and not self._steps:
            raise ValueError(
                f"Expected a model with layers that {kind!r} can repair ({_REPAIRABLE[kind]}), received "
                f"{model.name!r}, which has none. Leave this repair out."
            )
        self._was = [
            [backend.copied(v) for v in vs] for vs in (model.trainable_variables, model.non_trainable_variables)
        ]
        self._placed = [list(map(backend.on_device, values)) for values in self._was]
        at_once = chunk or chunks.size(model, x, memory, 3 * self._plan.extra)  # in float64, and once more
        parts = chunks.of(x, np.zeros(examples.count(x), "float32"), at_once)
        self._chunks = [(part, int(np.sum(np.asarray(counts)))) for part, _, counts in parts]
        self._kept: dict[int, list] = {}

    def __call__(self, gone, replacements):
        """Replace some weights, and repair the rest.

        Args:
            gone: list of bool arrays like `model.trainable_variables`: which weights are replaced.
            replacements: list of arrays likewise: by what.

        Returns:
            trainable, others: lists of arrays like `model.trainable_variables` and `model.non_trainable_variables`.
                Without a replaced weight, the model's own to the last bit.

        Raises:
            Unsolvable: names the layer.
        """
        trainable, others = self._was
        replaced = [np.where(g, r, w).astype(w.dtype) for g, r, w in zip(gone, replacements, trainable, strict=True)]
        state = _State(replaced, list(others), [~np.asarray(g) for g in gone])
        touched = [bool(np.any(g)) for g in gone]
        repair = {"bias": self._bias, "least_squares": self._least_squares, "batch_norm": self._batch_norm}
        for step in self._steps:
            moved = any(touched[place] for place in step.before)  # its inputs may be others than they were
            if moved or any(touched[place] for place in step.places):
                repair[self._kind](step, state, moved)
        return state.trainable, state.others

    def _bias(self, step, state, moved):
        total, rows = 0.0, 0
        for _, missing in self._rows(step, state):
            total, rows = total + missing.sum(axis=1, keepdims=True), rows + missing.shape[1]
        self._change(step, state, total / rows, step.variables[-1:])

    def _least_squares(self, step, state, moved):
        if not moved and step.alone:  # what is missing is X (W - W'), and X^T X serves all that is replaced here
            if step.kernel not in self._kept:
                self._kept[step.kernel] = self._systems(step, self._products(step, state)[0])
            systems = self._kept[step.kernel]
            lost = step.matrices(self._was[0]) - step.matrices(state.trainable)
            moments = [system.products @ change for system, change in zip(systems, lost, strict=True)]
        else:
            products, moments = self._products(step, state)
            systems = self._systems(step, products)
        each = zip(systems, moments, step.matrices(state.left, "bool"), strict=True)
        with _one_thread():
            found = np.stack([system.solve(*of_block) for system, *of_block in each])
        self._change(step, state, found, step.variables)

    def _batch_norm(self, step, state, moved):
        axis, total, square, rows = step.layer.axis, 0.0, 0.0, 0
        for (inputs,) in self._watched(step, state):
            channels = np.moveaxis(inputs.astype("float64"), axis, -1).reshape(-1, inputs.shape[axis])
            total, square, rows = total + channels.sum(0), square + (channels**2).sum(0), rows + len(channels)
        mean, places = total / rows, step.statistics
        for place, value in zip(places, (mean, np.maximum(square / rows - mean**2, 0)), strict=True):
            state.others[place] = value.astype(state.others[place].dtype)

    def _change(self, step, state, change, variables):
        """Change variables by matrices, those that are left; where the change is 0, they stay to the last bit."""
        begin = 0
        for place, view in variables:
            part, values = change[:, begin : begin + view.shape[1]], state.trainable[place]
            begin += view.shape[1]
            changed = (values + view.back(part).reshape(values.shape)).astype(values.dtype)
            state.trainable[place] = np.where(state.left[place], changed, values)

    def _systems(self, step, products):
        inputs = step.variables[0][1].shape[1]
        diagonal = np.einsum("bii->bi", products)[:, :inputs]
        ridge = np.zeros(products.shape[1])
        ridge[:inputs] = self._damping * diagonal.sum() / max(np.count_nonzero(diagonal), 1)
        with _one_thread():
            return [_System(block, ridge, step.called) for block in products]

    def _products(self, step, state):
        """Return X'^T X', (blocks, inputs, inputs), and X'^T (XW - X'W'), (blocks, inputs, outputs)."""
        products = moments = np.zeros(())
        for patches, missing in self._rows(step, state):
            if step.has_bias:
                patches = np.concatenate([patches, np.ones((*patches.shape[:2], 1))], axis=2)
            products = products + np.stack([block.T @ block for block in patches])
            moments = moments + np.matmul(np.swapaxes(patches, 1, 2), missing)
        return products, moments

    def _rows(self, step, state):
        """Yield X' (blocks, rows, inputs), and XW - X'W' (blocks, rows, outputs), of some examples at a time."""
        for inputs, missing in self._watched(step, state):
            patches = None
            if self._kind != "bias":  # float32 loses what a solution needs
                patches = local_rules.patches(step.rule, step.layer, inputs, "float64")
            yield patches, step.outputs(missing).astype("float64")

    def _watched(self, step, state):
        """Yield what the step's function gives for the examples, as NumPy arrays (examples, ...)."""
        now = [list(map(backend.on_device, values)) for values in (state.trainable, state.others)]
        function = self._plan.function(step)
        for part, count in self._chunks:
            yield [found[:count] for found in backend.to_numpy(function(*self._placed, *now, part))]


class _State(NamedTuple):
    """A network while it is repaired: its variables, and which of the trainable ones' weights are left (bool)."""

    trainable: list
    others: list
    left: list


class _Step(NamedTuple):
    """A layer that can be repaired.

    Attributes:
        layer: keras.Layer.
        called: str. Its kind, and its place among those that have weights.
        places: tuple of int. Of its weights in `model.trainable_variables`; none of a BatchNormalization, whose
            statistics do not depend on them.
        before: tuple of int. Likewise, of all weights that its inputs may depend on.
        rule, rank: what `engine.local_rules` takes.
        variables: tuple of (int, View). The place and the View of the kernel and, if there is one for each output, of
            the bias, (blocks, 1, outputs).
        alone: bool. Whether these are all that the layer's outputs are made of.
        statistics: tuple of int. The places of a BatchNormalization's mean and variance in
            `model.non_trainable_variables`.
    """

    layer: layers.Layer
    called: str
    places: tuple
    before: tuple
    rule: str = ""
    rank: int = 0
    variables: tuple = ()
    alone: bool = False
    statistics: tuple = ()

    @property
    def kernel(self):
        return self.variables[0][0]

    @property
    def has_bias(self):
        return len(self.variables) > 1

    def matrices(self, arrays, dtype="float64"):
        """Return the arrays for kernel and bias, of a list of all, as one (blocks, inputs, outputs)."""
        return np.concatenate([view.of(arrays[place]) for place, view in self.variables], axis=1).astype(dtype)

    def outputs(self, values):
        """Return values like the layer's outputs as (blocks, rows, outputs), rows in the order of its patches."""
        if self.rule == "linear":
            letters, target = _letters(self.layer, self.rank)
            lengths = dict(zip(target, values.shape, strict=True))
            found = np.einsum(f"{target}->{''.join(letters)}", values)
            return found.reshape([math.prod(lengths[letter] for letter in of_axis) for of_axis in letters])
        blocks, _, outputs = self.variables[0][1].shape
        return np.moveaxis(values.reshape(-1, blocks, outputs), 1, 0)


class _Plan:
    """The layers of a model that can be repaired, in the order of their calls, and what watches them, compiled once."""

    def __init__(self, model, x):
        self._model, self._functions = model, {}
        uses, norms = taps.uses(model, x), _norms(model)
        calls = self._calls([*(use.layer for use in uses), *norms], x)
        # What something else reads too, or what is never called, may be read before all calls.
        first = {p: -1 if use.elsewhere else min(calls[use.layer], default=-1) for use in uses for p in use.indices}

        def before(layer):
            return tuple(place for place, at in first.items() if at < min(calls[layer], default=0))

        self.called, found = [f"{type(use.layer).__name__} {n}" for n, use in enumerate(uses, 1)], []
        for called, use in zip(self.called, uses, strict=True):
            found += [step] if (step := _step(model, use, called, before(use.layer))) else []
        self.extra = max([1, *(_floats(use) for use in uses)])
        others = [id(v) for v in model.non_trainable_variables]
        for norm in (norm for norm in norms if len(calls[norm]) == 1):
            places = tuple(others.index(id(v)) for v in (norm.moving_mean, norm.moving_variance))
            found.append(_Step(norm, norm.name, (), before(norm), statistics=places))
        self._steps = sorted(found, key=lambda step: calls[step.layer])

    def steps(self, kind):
        """List the layers that a kind of repair changes."""
        has = {
            "none": lambda step: False,
            "bias": lambda step: step.has_bias,
            "least_squares": lambda step: bool(step.variables),
            "batch_norm": lambda step: bool(step.statistics),
        }
        return [step for step in self._steps if has[kind](step)]

    def function(self, step):
        """Return the compiled function that watches a layer.

        It takes the variables as they were and as they are, each trainable and others, and examples; it returns the
        layer's inputs as they are, and of a layer with a kernel how far its outputs are from what they were.
        """
        key = (id(step.layer), bool(step.variables))
        if key not in self._functions:
            # A partial, not a closure: of closures TensorFlow says that one function was compiled over and over.
            function = functools.partial(self._inputs_and_missing, step)
            self._functions[key] = backend.compiled(function, xla=structure.xla(self._model))
        return self._functions[key]

    def _inputs_and_missing(self, step, trainable, others, trainable_now, others_now, x):
        ((_, inputs, now),) = self._watch([step.layer], trainable_now, others_now, x)
        if not step.variables:
            return [inputs]
        ((_, _, was),) = self._watch([step.layer], trainable, others, x)
        return [ops.cast(inputs, "float32"), ops.cast(was - now, "float32")]

    def _watch(self, watched, trainable, others, x):
        """List the calls of some layers as they come: (number, inputs, outputs before the activation)."""
        seen = []

        def visit(number, inputs, value):
            seen.append((number, inputs, value))
            return value

        with taps.tapped(watched, visit, before_activation=True):
            structure.outputs(self._model, trainable, others, x)
        return seen

    def _calls(self, watched, x):
        """Return {layer: the places of its calls among all calls of these layers}, of one example."""
        watched = list(dict.fromkeys(watched))
        trainable, others = chunks.values(self._model)
        seen = self._watch(watched, trainable, others, examples.on_device(examples.take(x, slice(1))))
        return {layer: [at for at, call in enumerate(seen) if call[0] == n] for n, layer in enumerate(watched)}


def _plan(model, x):
    return chunks.kept(model, ("repair", examples.signature(x)), lambda: _Plan(model, x))


def left_out(model, x):
    """Say which layers with trainable weights the repairs of such weights leave as they are.

    Args:
        model: keras.Model, built.
        x: inputs, of which one example is used.

    Returns:
        dict from "bias" and "least_squares" to a list of str, such as "Embedding 1": a layer's kind, and its place
        among those that have trainable weights.
    """
    plan, kinds = _plan(model, x), ("bias", "least_squares")
    repaired = {kind: {step.called for step in plan.steps(kind)} for kind in kinds}
    return {kind: [called for called in plan.called if called not in repaired[kind]] for kind in kinds}


_KERNELS = "Dense, EinsumDense, Conv and DepthwiseConv, called once, all of whose weights are trained"
_REPAIRABLE = {
    "bias": f"{_KERNELS}, with a bias for each output",
    "least_squares": _KERNELS,
    "batch_norm": "BatchNormalization, called once",
}


def _floats(use):
    """Count the numbers of one example that a layer's kernel multiplies, over all places."""
    sizes = [math.prod(a.shape[1:]) for a in use.calls if hasattr(a, "shape")]
    return math.prod(getattr(use.layer, "kernel_size", (1,))) * max(sizes, default=1)


def _norms(model):
    """List the BatchNormalization layers that are in no loop."""
    every = structure.flat_layers(model)
    loops = [layer for layer in every if isinstance(layer, (layers.RNN, layers.TimeDistributed))]
    inner = {id(layer) for loop in loops for layer in loop._flatten_layers(include_self=False)}
    return [layer for layer in every if type(layer) is layers.BatchNormalization and id(layer) not in inner]


def _step(model, use, called, before):
    """Return the _Step of a layer, or None if it is not known how its weights meet its inputs."""
    variables, layer = [model.trainable_variables[place] for place in use.indices], use.layer
    plain = len(use.calls) == 1 and use.by_example and not (use.elsewhere or use.looped)
    rule = local_rules.kind(layer, use.calls[0], variables) if plain else None
    if rule not in ("linear", "convolution"):
        return None
    rank = len(use.calls[0].shape)
    views = [local_rules.view(rule, layer, variables[0], rank)]
    if len(variables) > 1 and (of_bias := _view_of_bias(layer, rank, views[0])):
        views.append(of_bias)
    known = tuple(zip(use.indices, views, strict=False))
    return _Step(layer, called, tuple(use.indices), before, rule, rank, known, len(views) == len(variables))


def _letters(layer, rank):
    """Return the letters of a contraction's blocks, rows and outputs, each in the order of its patches; its target."""
    source, kernel, target = local_rules.equation(layer, rank)
    blocks = "".join(letter for letter in kernel if letter in source and letter in target)
    rows = "".join(letter for letter in source if letter in target and letter not in kernel)
    return (blocks, rows, "".join(letter for letter in kernel if letter not in source)), target


def _view_of_bias(layer, rank, view):
    """Return the View (blocks, 1, outputs) of a bias, or None if it is not one for each output."""
    blocks, _, outputs = view.shape
    if not isinstance(layer, layers.EinsumDense):
        return local_rules.View((blocks, outputs), (0, 1), (blocks, 1, outputs))
    (of_blocks, _, of_outputs), target = _letters(layer, rank)
    own = [letter for letter in target if letter in layer.bias_axes]
    if sorted(own) != sorted(of_blocks + of_outputs):
        return None
    lengths = dict(zip(local_rules.equation(layer, rank)[1], layer.kernel.shape, strict=True))
    order = tuple(own.index(letter) for letter in of_blocks + of_outputs)
    return local_rules.View(tuple(lengths[letter] for letter in own), order, (blocks, 1, outputs))


class _System:
    """X^T X of one block with its ridge, factorised; it is solved for any weights that are left.

    Args:
        products: float64 array (inputs, inputs).
        ridge: float64 array (inputs,).
        called: str. The layer.

    Raises:
        Unsolvable: numbers that are not finite, or a matrix that is singular to rounding.
    """

    def __init__(self, products, ridge, called):
        self.products, self._called = products, called
        self._check_finite(products)
        self._live = np.flatnonzero(products.diagonal() > 0)  # an input that is always 0 makes up for nothing
        self._matrix = products[np.ix_(self._live, self._live)]
        self._matrix[np.diag_indices(len(self._live))] += ridge[self._live]
        self._factor = self._factorised(self._matrix)

    def solve(self, moments, free):
        """Return by how much each weight changes: 0 where it is not free, else the exact solution.

        Args:
            moments: float64 array (inputs, outputs). X^T times what is missing.
            free: bool array (inputs, outputs). Which weights may change.
        """
        self._check_finite(moments)
        found = np.zeros(moments.shape)
        moments, free = moments[self._live], free[self._live]
        every = linalg.cho_solve(self._factor, moments, check_finite=False)  # if all were free
        for outputs in _alike(free):
            left, gone = (np.flatnonzero(free[:, outputs[0]] == wanted) for wanted in (True, False))
            if not len(gone):
                change = every[:, outputs]
            elif len(left) <= len(gone):
                change = self._solved(self._matrix[np.ix_(left, left)], moments[np.ix_(left, outputs)])
            else:  # a smaller system says how the others make up for what is not free
                inverse = self._inverse
                of_gone = self._solved(inverse[np.ix_(gone, gone)], every[np.ix_(gone, outputs)])
                change = every[np.ix_(left, outputs)] - inverse[np.ix_(left, gone)] @ of_gone
            found[np.ix_(self._live[left], outputs)] = change
        return found

    @functools.cached_property
    def _inverse(self):
        return linalg.cho_solve(self._factor, np.eye(len(self._matrix)), check_finite=False)

    def _solved(self, matrix, right):
        return linalg.cho_solve(self._factorised(matrix), right, check_finite=False)

    def _factorised(self, matrix):
        if not len(matrix):
            return matrix, True
        try:
            factor = linalg.cho_factor(matrix, lower=True, check_finite=False)
        except linalg.LinAlgError:
            factor = np.zeros_like(matrix), True
        rounding = len(matrix) * np.finfo("float64").eps
        if (factor[0].diagonal() ** 2 <= rounding * matrix.diagonal()).any():
            raise Unsolvable(f"the inputs of {self._called} depend on one another, and the ridge is too small")
        return factor

    def _check_finite(self, numbers):
        if not np.isfinite(numbers).all():
            raise Unsolvable(f"the inputs or outputs of {self._called} are not finite")


def _one_thread():
    """Open a context for many small systems: several threads for each take longer, far longer on a busy processor."""
    return _libraries().limit(limits=1, user_api="blas")


@functools.cache  # to look for them takes longer than to solve a system
def _libraries():
    return threadpoolctl.ThreadpoolController()


def _alike(free):
    """List the outputs that have the same weights free: a list of int arrays, from a bool array (inputs, outputs)."""
    found = {}
    for output, packed in enumerate(np.packbits(free, axis=0).T):
        found.setdefault(packed.tobytes(), []).append(output)
    return [np.array(outputs) for outputs in found.values()]
