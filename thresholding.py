"""From importances to ranks to weights with the least important ones replaced.

A rank is the fraction of the weights in its scope (a layer, the model, ...) that falls before a weight does. Replacing
where `rank < t` replaces nothing at t = 0, everything at t = 1, and in between the fraction asked for, to within one
group. Equal importances are put in order by a seeded shuffle: position, which knows about the architecture, decides
nothing. (A rule such as `importance < percentile(importances, 100 t)` replaces none of the weights that tie at the
percentile, and so flatters a measure under which most weights tie.)

Scopes, within what ranks are compared:

- `layer`: the weights of a layer. A group that lies across layers is compared in the layer of its first weight.
- `model`: all weights.
- `output`: the weights of one output unit: its part of the kernel, and its bias. Weights of a layer without a kernel,
  such as gamma and beta, and a bias that several units share, are compared within their layer.
- `N:M`, such as `2:4`: the weights from M inputs of an output that lie one after another in the kernel, M - N of which
  the threshold 1 - N/M replaces. Thresholds are multiples of 1/M; what is no kernel takes no part.
- `model:lamp`, `model:owl`: all weights; how much of each layer falls is decided by another rule, of `ALLOCATIONS`.

`output` and `N:M` are for weights that stand alone.

Channels and heads may be cut out of the network instead: `shrink`. `Masked` trains what is left.
"""

import itertools
import math
import re
from typing import NamedTuple

import numpy as np

from engine import checks, draws, structure
from engine.costs import latency as latency
from engine.costs import sizes as sizes
from engine.masking import Masked as Masked
from engine.shrinking import shrink as shrink

REDUCTIONS = {"mean": np.add, "sum": np.add, "minimum": np.minimum, "maximum": np.maximum}
SCOPES = ("layer", "model")
"""The scopes that any level has."""
_BELOW_ONE = np.nextafter(np.float32(1), np.float32(0))
_BLOCK = 2**18


def check_choice(name, value, choices):
    """Raise if a setting is none of its choices.

    Raises:
        ValueError: it is none of them; the message lists them.
    """
    if value not in choices:
        raise ValueError(f"Expected {name} to be one of {', '.join(map(repr, choices))}, received {value!r}.")


def check_scope(name, value):
    """Return a scope.

    Raises:
        ValueError: it is none.
    """
    blocks = re.fullmatch(r"([1-9][0-9]*):([1-9][0-9]*)", value) if isinstance(value, str) else None
    if not ((isinstance(value, str) and value in _FIXED_SCOPES) or (blocks and int(blocks[1]) < int(blocks[2]))):
        raise ValueError(
            f"Expected {name} to be one of {', '.join(map(repr, _FIXED_SCOPES))}, or blocks in which N of M weights "
            f"are kept, such as '2:4' (in YAML in quotes), received {value!r}."
        )
    return value


def check_thresholds(scope, thresholds):
    """Raise if a scope cannot have some thresholds.

    Raises:
        ValueError: blocks of M weights, and thresholds that are not multiples of 1/M or leave out what the scope names.
    """
    length = _block_length(scope)
    if length is None:
        return
    named = (length - int(scope.split(":")[0])) / length
    rounded = [round(t * length) / length for t in thresholds]
    if not np.array_equal(np.float32(rounded), np.float32(thresholds)) or named not in rounded:
        few = ", ".join(f"{place / length:.10g}" for place in range(length + 1))
        raise ValueError(
            f"Expected thresholds that are multiples of 1/{length}, {named:.10g} among them, for the scope {scope!r}, "
            f"which replaces whole numbers of {length} weights; received {list(thresholds)}. Use thresholds=[{few}]."
        )


def _block_length(scope):
    """Return M of a scope N:M, None of any other."""
    return int(scope.split(":")[1]) if scope[0].isdigit() else None


class Ranking(NamedTuple):
    """The order in which weights fall.

    Attributes:
        ranks: list of float32 arrays like the weights, in [0, 1); infinity for weights that take no part.
        tie_fraction: float. Fraction of the participating weights whose (group's) importance equals another group's
            in their scope, so that only the shuffle tells them apart.
        steps: list of (float32 array, int array), one for each scope: the ranks of its groups in ascending order, and
            how many weights have fallen once that group has.
    """

    ranks: list
    tie_fraction: float
    steps: list

    def replaced(self, thresholds):
        """Count the weights that each threshold replaces.

        Args:
            thresholds: float array (thresholds,).

        Returns:
            int array (thresholds,).
        """
        thresholds = np.asarray(thresholds, "float32")
        counts = np.zeros(len(thresholds), dtype="int64")
        for ranks, fallen in self.steps:
            counts += np.concatenate([[0], fallen])[np.searchsorted(ranks, thresholds, side="left")]
        return counts


class _Scope(NamedTuple):
    """Weights whose ranks are compared, one variable's after another's."""

    members: list  # of (index of a variable, which of its weights take part: None for all, or bool array (weights,))
    ids: np.ndarray | None  # int array (weights,): group of each, from 0; None when every weight stands alone
    sizes: np.ndarray  # int array (groups,); all 1 where every weight stands alone
    by_group: np.ndarray | None  # int array (weights,): the scope's weights sorted by group
    blocks: np.ndarray | None = None  # int array (groups,): groups of other blocks are not compared; None: all are
    layers: np.ndarray | None = (
        None  # int array (groups,): the layer of each group, where layers get shares of their own
    )


class Partition:
    """The scopes and groups of a model: what is the same for every measure, prepared once.

    Args:
        groups: list of int arrays like `model.trainable_variables` (`aggregation.load(level).groups(model)`). Weights
            of groups below 0 are never replaced.
        model: keras.Model.
        scope: str. Within what ranks are compared: "layer", "output", "2:4" (or N:M), "model", "model:lamp" or
            "model:owl"; see the module's docstring.
        variables: "all", or the roles that take part, such as ["kernel", "bias"]. The others are never replaced.

    Raises:
        ValueError: an unknown choice; arrays of other shapes; no weights that take part; groups of several weights, or
            a kernel whose inputs M does not divide, in a scope that is not for them.
    """

    def __init__(self, groups, model, scope="layer", variables="all"):
        check_scope("scope", scope)
        parts = structure.parts(model)
        self._shapes = [part.shape for part in parts]
        _check_like("groups", groups, self._shapes)
        takes_part, length = _participation(parts, variables), _block_length(scope)
        outputs = None
        if scope == "output" or length is not None:
            label = structure.output_labels if length is None else structure.column_labels
            outputs = [_outputs(label, part, scope) for part in parts]
        of_layers = {}
        for index, part in enumerate(parts):
            if takes_part[index] and (outputs is None or outputs[index] is not None):
                of_layers.setdefault(id(part.layer), []).append(index)
        members = _at_home(list(of_layers.values()), groups)
        self._allocation = ALLOCATIONS.get(scope.removeprefix("model:"))
        if scope.startswith("model"):
            layers = np.repeat(np.arange(len(members)), [len(m) for m in members])
            members = [[member for of_layer in members for member in of_layer]]
            made = [_scope(members[0], groups, layers if self._allocation else None)]
        else:
            made = [_scope(of_layer, groups) for of_layer in members if of_layer]
        self._scopes = [scope for scope in made if len(scope.sizes)]
        if outputs is not None:
            self._scopes = [_in_blocks(made, outputs, parts, scope, length) for made in self._scopes]
        if not self._scopes:
            raise ValueError(
                "Expected weights that may be replaced, received a level and variables that leave none. Use another "
                "level, such as 'weight'."
            )
        self.participating = sum(int(s.sizes.sum()) for s in self._scopes)

    def rank(self, importances, reduction="mean", seed=0):
        """Rank the weights, least important first; see `rank`.

        Returns:
            Ranking.
        """
        importances = self._checked(importances, reduction)
        ranks, tied, steps = {}, 0, []
        for number, scope in enumerate(self._scopes):  # one at a time: each takes several times its weights' memory
            values = _values(scope, importances, reduction)
            rng, tie = draws.generator(seed, "ties", number), None
            if scope.layers is not None:
                values, tie = _shared_out(values, scope, self._allocation)
            order, ties = _ascending(values, rng)
            if scope.blocks is not None:
                order, ties = _block_by_block(scope.blocks, values, order)
            ties = ties if tie is None else tie[order]
            sizes = scope.sizes if scope.ids is None else scope.sizes[order]
            fallen = np.cumsum(sizes, dtype=sizes.dtype)
            if scope.blocks is None:
                group_ranks = _fractions(fallen - sizes, fallen[-1])
            else:
                group_ranks = _fractions(*_within(scope.blocks[order]))
            by_group = np.empty_like(group_ranks)
            by_group[order] = group_ranks
            self._put(ranks, scope, by_group)
            tied += int(sizes[ties].sum())
            steps.append((group_ranks if scope.blocks is None else np.sort(group_ranks), fallen))
        shaped = [
            ranks[index] if index in ranks else np.full(shape, np.inf, "float32")
            for index, shape in enumerate(self._shapes)
        ]
        return Ranking(shaped, tied / self.participating, steps)

    def numbered(self):
        """Number the groups that take part, from 0, scope after scope.

        Returns:
            ids: list of int arrays like the weights; -1 where a weight takes no part.
            scopes: list of int arrays (groups,): the numbers of each scope's groups.
        """
        found, scopes, count = [np.full(shape, -1) for shape in self._shapes], [], 0
        for scope in self._scopes:
            numbers = count + np.arange(len(scope.sizes))
            of_weights, begin = numbers if scope.ids is None else count + scope.ids, 0
            for index, there in scope.members:
                flat = found[index].reshape(-1)
                end = begin + (flat.size if there is None else int(there.sum()))
                flat[slice(None) if there is None else there] = of_weights[begin:end]
                begin = end
            scopes.append(numbers)
            count += len(numbers)
        return found, scopes

    def values(self, importances, reduction="mean"):
        """Return the importance of each group, as a list of float32 arrays (groups,), one for each scope."""
        importances = self._checked(importances, reduction)
        return [_values(scope, importances, reduction) for scope in self._scopes]

    def _checked(self, importances, reduction):
        check_choice("reduction", reduction, tuple(REDUCTIONS))
        _check_like("importances", importances, self._shapes)
        found = [np.asarray(a, "float32").ravel() for a in importances]
        if not all(a.min(initial=0) >= 0 and np.isfinite(a.max(initial=0)) for a in found):
            nan, infinite, negative = (
                sum(int(np.count_nonzero(is_so(a))) for a in found) for is_so in (np.isnan, np.isinf, lambda a: a < 0)
            )
            raise ValueError(
                f"Expected importances that are finite and at least 0, received {nan} NaN, {infinite} infinite and "
                f"{negative} negative values. Take the absolute value, or look for a loss that diverged."
            )
        return found

    def _put(self, ranks, scope, by_group):
        """Put the ranks of a scope's groups where their weights are: into {index of a variable: ranks in its shape}."""
        of_weights, begin = by_group if scope.ids is None else _taken(by_group, scope.ids), 0
        for index, there in scope.members:
            count = math.prod(self._shapes[index]) if there is None else int(np.count_nonzero(there))
            own = of_weights[begin : begin + count]
            begin += count
            if there is None:
                ranks[index] = own.reshape(self._shapes[index])
            else:
                ranks.setdefault(index, np.full(self._shapes[index], np.inf, "float32")).reshape(-1)[there] = own


def rank(importances, groups, reduction="mean", scope="layer", model=None, seed=0, variables="all"):
    """Give each weight the fraction of the weights in its scope that falls before it.

    Args:
        importances: list of float arrays like `model.trainable_variables`, finite, at least 0, larger = keep.
        groups: list of int arrays, likewise. Members of a group share one importance; below 0 a weight takes no part.
        reduction: "mean", "sum", "minimum" or "maximum". How a group's importance comes from its members'.
        scope: str. "layer", "model" or another; see the module's docstring.
        model: keras.Model. Says which layer owns which weight.
        seed: int. Decides the order of equal importances.
        variables: "all", or the roles that take part, such as ["kernel"].

    Returns:
        list of float32 arrays in [0, 1), infinity where a weight takes no part.

    Raises:
        ValueError: an unknown choice, arrays of other shapes, or importances that are negative or not finite.

    Example:
        >>> import keras, numpy as np, thresholding
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(4, use_bias=False)])
        >>> importances = [np.array([[4.0, 1.0, 3.0, 2.0]])]
        >>> thresholding.rank(importances, [np.arange(4).reshape(1, 4)], model=model)[0].tolist()
        [[0.75, 0.0, 0.5, 0.25]]
    """
    if model is None:
        raise ValueError("Expected model=..., which says what layer each weight belongs to; received None.")
    return Partition(groups, model, scope, variables).rank(importances, reduction, seed).ranks


def threshold(weights, ranks, t, fill="zero", seed=0, initial=None, model=None):
    """Replace the weights whose rank is below t.

    Args:
        weights: list of float arrays.
        ranks: list of float32 arrays of the same shapes.
        t: float in [0, 1]. The fraction to replace.
        fill: "zero", "noise", "initial", "mean" or "rounded:<bits>"; see `replacements`.
        seed: int. Decides the noise.
        initial: list of arrays like `weights`, for "initial".
        model: keras.Model, for "rounded:<bits>".

    Returns:
        list of float32 arrays.
    """
    if not 0 <= t <= 1:
        raise ValueError(f"Expected a threshold from 0 to 1, the fraction of weights to replace, received {t!r}.")
    _check_like("ranks", ranks, [np.shape(w) for w in weights])
    new = replacements(weights, fill, seed, initial, model)
    t = np.float32(t)
    return [np.where(r < t, n, w).astype("float32") for r, n, w in zip(ranks, new, weights, strict=True)]


def replacements(weights, fill="zero", seed=0, initial=None, model=None):
    """Return what stands in for each weight, should it be replaced.

    The draw depends on the seed and the variable's place alone, so every measure that is tried on a network meets the
    same noise: comparisons are paired.

    Args:
        weights: list of float arrays.
        fill: "zero"; "noise": normal with a tenth of the standard deviation of the variable (population formula);
            "initial": the value before training; "mean": the mean of the variable; or "rounded:<bits>": the nearest
            multiple (of two, the even one) of s = max abs(w) / (2^(bits - 1) - 1), the maximum over the weights of one
            unit in the variable, which is what quantisation with one scale an output channel gives; over the variable
            where each unit has a single weight in it, as in biases.
        seed: int.
        initial: list of arrays like `weights`, needed for "initial".
        model: keras.Model whose weights these are, needed for "rounded:<bits>": it says which weights are one unit's.

    Returns:
        list of float32 arrays like `weights`.

    Raises:
        ValueError: an unknown fill, fewer than 2 bits, something that the fill needs is missing, or a layer of which it
            is not known what its units are.

    Example:
        >>> import keras, numpy as np, thresholding
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, use_bias=False)])
        >>> weights = [np.array([[0.1], [0.4], [0.9], [-1.0]])]
        >>> thresholding.replacements(weights, "rounded:2", model=model)[0].ravel().tolist()
        [0.0, 0.0, 1.0, -1.0]
    """
    kind, _, option = A_FILL("fill", fill).partition(":")
    found = FILLS[kind](_Given(weights, seed, initial, model), *([int(option)] if option else []))
    return [np.asarray(new, "float32") for new in found]


class _Given(NamedTuple):
    """What a fill may look at; see `replacements`."""

    weights: list
    seed: int
    initial: list | None
    model: object


def _noise(given):
    return [
        draws.generator(given.seed, "noise", index).standard_normal(np.shape(w), dtype="float32")
        * np.float32(np.std(w) / 10)
        for index, w in enumerate(given.weights)
    ]


def _zero(given):
    return [np.zeros(np.shape(w), "float32") for w in given.weights]


def _initial(given):
    if given.initial is None:
        raise ValueError("Expected initial=..., the weights before training, for fill='initial'; received None.")
    _check_like("initial", given.initial, [np.shape(w) for w in given.weights])
    return given.initial


def _mean(given):
    return [np.full(np.shape(w), np.mean(w, dtype="float64")) for w in given.weights]


def _rounded(given, bits):
    if given.model is None:
        raise ValueError(
            f"Expected model=..., which says which weights share a scale, for fill='rounded:{bits}'; received None."
        )
    parts = structure.parts(given.model)
    _check_like("weights", given.weights, [part.shape for part in parts])
    levels = 2 ** (bits - 1) - 1
    return [_to_levels(np.asarray(w, "float64"), _units(p), levels) for w, p in zip(given.weights, parts, strict=True)]


def _units(part):
    """Number the units of a variable: int array of its shape, all 0 where none has more than one weight in it."""
    try:
        labels = np.asarray(structure.unit_labels(part))
    except ValueError as error:
        raise ValueError(f"{error} Or use another fill: rounding has one scale for each unit.") from None
    _, units = np.unique(labels, return_inverse=True)
    alone = (labels == -1).all() or units.max() + 1 == units.size
    return np.zeros(part.shape, int) if alone else units.reshape(part.shape)


def _to_levels(weights, units, levels):
    largest = np.zeros(units.max() + 1)
    np.maximum.at(largest, units.ravel(), np.abs(weights).ravel())
    scale = np.where(largest > 0, largest / levels, 1)[units]
    return np.rint(weights / scale) * scale


FILLS = {"noise": _noise, "zero": _zero, "initial": _initial, "mean": _mean, "rounded": _rounded}
"""What may stand in for a weight, by name; a function of `_Given`, and of the bits for "rounded"."""

MOST_BITS = 32


def _fill(name, value):
    rounded = re.fullmatch("rounded:([0-9]{1,9})", value) if isinstance(value, str) else None
    if rounded:
        return f"rounded:{checks.whole(2, MOST_BITS)(f'the bits of {name}', int(rounded[1]))}"
    if value == "rounded":
        raise checks.Unfit(" Say how many bits: 'rounded:2'.")
    if not isinstance(value, str) or value not in FILLS:
        raise checks.Unfit
    return value


A_FILL = checks.Check(
    f"one of {', '.join(repr(name if name != 'rounded' else 'rounded:<bits>') for name in FILLS)}", _fill
)
"""The check for a fill, in its one spelling."""


def _check_like(name, arrays, shapes):
    received = [np.shape(a) for a in arrays]
    if received != list(shapes):
        raise ValueError(
            f"Expected {name} with the shapes of the model's trainable variables, {list(shapes)}, received {received}."
        )


def _participation(parts, variables):
    roles = sorted({part.role for part in parts})
    if isinstance(variables, str):
        check_choice("variables", variables, ("all",))
        return [True] * len(parts)
    unknown = [role for role in variables if role not in roles]
    if unknown or not variables:
        raise ValueError(
            f"Expected variables to be 'all' or some of this model's {', '.join(map(repr, roles))}, "
            f"received {list(variables)!r}."
        )
    return [part.role in variables for part in parts]


def _at_home(of_layers, groups):
    """Say which weights are compared in which layer: those of a group that lies across layers in that of its first.

    Args:
        of_layers: list of lists of int: the places of each layer's variables.

    Returns:
        list of lists of (place of a variable, which of its weights: None for all, or bool array (weights,)).
    """
    ends = [_ends([groups[index] for index in indices]) for indices in of_layers]
    ends = sorted(pair for pair in ends if pair is not None)
    if all(one[1] < other[0] for one, other in itertools.pairwise(ends)):  # no group is in two layers
        return [[(index, _in_groups(groups[index])) for index in indices] for indices in of_layers]
    home = np.full(max(high for _, high in ends) + 1, -1)
    for layer, indices in enumerate(of_layers):
        for index in indices:
            ids = structure.once(groups[index])
            ids = ids[ids >= 0]
            home[ids[home[ids] < 0]] = layer
    found = [[] for _ in of_layers]
    for index in itertools.chain(*of_layers):
        ids = groups[index].ravel()
        owners = np.where(ids >= 0, home[ids], -1)
        for layer in np.unique(owners[owners >= 0]):
            found[layer].append((index, None if (owners == layer).all() else owners == layer))
    return found


def _in_groups(ids):
    """Return which weights are in a group: None for all, or bool array (weights,)."""
    return None if structure.once(ids).min(initial=0) >= 0 else ids.ravel() >= 0


def _ends(several):
    """Return the lowest and the highest group of some arrays of ids; None if there is none."""
    found = []
    for ids in map(structure.once, several):
        ids = ids if ids.min(initial=0) >= 0 else ids[ids >= 0]
        found += [int(ids.min()), int(ids.max())] if ids.size else []
    return (min(found), max(found)) if found else None


def _fractions(before, total):
    """Return ranks, float32 (groups,), of what falls before each and of all that falls."""
    found = np.empty(len(before), "float32")
    np.divide(before, total, out=found, dtype="float64", casting="same_kind")
    # In float32 the last of 2**25 ranks and more would round to 1, and its weights would never fall.
    return np.minimum(found, _BELOW_ONE, out=found)


def _scope(members, groups, layers=None):
    """Prepare a scope from its members; `layers` is the layer of each, where the scope's groups have to know it."""
    found = [groups[i].ravel() if there is None else groups[i].ravel()[there] for i, there in members]
    if layers is not None:
        layers = np.repeat(layers, [len(ids) for ids in found])
    ids = np.concatenate(found)
    del found
    if (ids[1:] > ids[:-1]).all():  # each another than the ones before
        return _alone(members, len(ids), layers)
    _, ids, sizes = structure.numbered(ids)
    if len(sizes) == len(ids):
        return _alone(members, len(ids), layers)
    by_group = _sorted(ids)[0].copy()
    firsts = None if layers is None else layers[by_group[np.cumsum(sizes) - sizes]]
    return _Scope(members, ids, sizes, by_group, layers=firsts)


def _alone(members, count, layers=None):
    sizes = np.broadcast_to(np.array(1, "int32" if count < 2**31 else "int64"), count)
    return _Scope(members, None, sizes, None, layers=layers)


# Blocks of weights that are compared with one another alone


def _in_blocks(made, outputs, parts, scope, length):
    """Divide a scope, whose weights stand alone, into those of each output, or into blocks of some inputs of one."""
    if made.ids is not None:
        raise ValueError(
            f"Expected weights that stand alone for the scope {scope!r}, as at the level 'weight', received groups of "
            f"several in {parts[made.members[0][0]].layer.path!r}. Use the scope 'layer' or 'model' for them."
        )
    found, count = [], 0
    for index, there in made.members:
        blocks = outputs[index].ravel()  # those of a layer's variables agree
        if length is not None:
            blocks = _of_inputs(blocks, parts[index].layer, scope, length) + count
            count = blocks.max() + 1
        found.append(blocks if there is None else blocks[there])
    return made._replace(blocks=structure.numbered(np.concatenate(found).astype("int64"))[1])


def _outputs(label, part, scope):
    """Return the labels of a part's outputs, in a scope that has to know them; None of what takes no part."""
    try:
        return label(part)
    except ValueError as error:
        raise ValueError(
            f"Expected layers of Keras for the scope {scope!r}, of which it is known what an output is, received "
            f"{part.role!r} in {part.layer.path!r}, a {type(part.layer).__name__}. Use the scope 'layer' or 'model'."
        ) from error


def _of_inputs(columns, layer, scope, length):
    """Number the blocks of `length` weights that lie one after another in a column: int array (weights,)."""
    inputs = np.unique(columns, return_counts=True)[1]
    if (inputs % length).any():
        raise ValueError(
            f"Expected kernels with a number of inputs that {length} divides for the scope {scope!r}, received "
            f"{inputs.max()} of each output in {layer.path!r}. Use blocks of another length, or the scope 'output'."
        )
    blocks = np.empty(len(columns), "int64")
    blocks[np.argsort(columns, kind="stable")] = np.arange(len(columns)) // length
    return blocks


def _block_by_block(blocks, values, order):
    """Sort by block what is in order already: return the order, and which values tie with another of their block."""
    order = order[_sorted(blocks[order])[0]]
    own, value = blocks[order], values[order]
    return order, _beside((own[1:] == own[:-1]) & (value[1:] == value[:-1]))


def _within(blocks):
    """Return the place of each in its block, and the blocks' lengths; int arrays (groups,), for blocks in order."""
    lengths = np.bincount(blocks)
    return np.arange(len(blocks)) - np.repeat(np.cumsum(lengths) - lengths, lengths), np.repeat(lengths, lengths)


# How much of each layer falls


def _lamp(values, sizes):
    """Score a layer's groups by v^2 over the sum of the squares of all that are not below v; 0 stays 0.

    Lee et al., "Layer-adaptive sparsity for the magnitude-based pruning", 2021: with magnitudes as importances these
    are its scores. They are compared over all layers, so that what is alone at the top of its layer falls last.
    """
    squares = (values / (values.max() or 1)) ** 2
    rest = np.cumsum(squares[::-1])[::-1][np.searchsorted(values, values)]
    return np.divide(squares, rest, out=np.zeros_like(rest), where=squares > 0)


def _rank_within(values, sizes):
    """Return the fraction of a layer that is less important than each group."""
    before = np.cumsum(sizes) - sizes
    return before[np.searchsorted(values, values)] / sizes.sum()


_OUTLYING, _LEEWAY = 5, 0.08


def _outliers(values, sizes):
    """Return the share of a layer's weights whose importance is above five times the layer's mean."""
    mean = (values * sizes).sum() / sizes.sum()
    return sizes[values > _OUTLYING * mean].sum() / sizes.sum()


def _by_lamp(of_layers):
    return [_lamp(*of_layer) for of_layer in of_layers]


def _by_owl(of_layers):
    """Let less fall of layers with more outliers: the fractions that fall of two layers differ by 0.16 at most.

    Yin et al., "Outlier weighed layerwise sparsity", 2024, with its M = 5 and lambda = 0.08. The importances take the
    place of abs(w) times the norm of the input, which is what `wanda` gives.
    """
    share = np.array([_outliers(*of_layer) for of_layer in of_layers])
    spread = np.ptp(share)
    later = 2 * _LEEWAY * (share - share.min()) / spread if spread else np.zeros(len(share))
    return [_rank_within(*of_layer) + late for of_layer, late in zip(of_layers, later, strict=True)]


ALLOCATIONS = {"lamp": _by_lamp, "owl": _by_owl}
"""Rules for how much of each layer falls when ranks are compared over the model.

A rule is given a list of (importances, sizes) of each layer's groups, in ascending order of the importances, and
returns a list of arrays of what is compared instead. Within a layer the order stays, and the threshold is the fraction
of the model that falls."""
_FIXED_SCOPES = ("layer", "output", "model", *(f"model:{name}" for name in ALLOCATIONS))


def _shared_out(values, scope, allocation):
    """Return what orders the groups of all layers, uint32 (groups,), and which tie with another of their layer."""
    order = np.lexsort((values, scope.layers))
    layers, ascending = scope.layers[order], values[order].astype("float64")
    starts = np.flatnonzero(np.diff(layers)) + 1
    of_layers = list(zip(np.split(ascending, starts), np.split(scope.sizes[order], starts), strict=True))
    numbers, ties = np.empty(len(values), "uint32"), np.empty(len(values), bool)
    numbers[order] = np.unique(np.concatenate(allocation(of_layers)), return_inverse=True)[1]
    ties[order] = _beside((np.diff(layers) == 0) & (np.diff(ascending) == 0))
    return numbers, ties


def _values(scope, importances, reduction):
    """Return the importance of each of a scope's groups, float32 (groups,), from those of the weights, flat."""
    values = [importances[i] if there is None else importances[i][there] for i, there in scope.members]
    values = values[0] if len(values) == 1 else np.concatenate(values)
    if scope.ids is None:
        return values
    starts = np.cumsum(scope.sizes) - scope.sizes
    reduced = REDUCTIONS[reduction].reduceat(_taken(values, scope.by_group, "float64"), starts)
    if reduction == "mean":
        reduced = reduced / scope.sizes
    return np.minimum(reduced, np.finfo("float32").max).astype("float32")


def _ascending(values, rng):
    """Sort, equal values shuffled: return the order (groups,) and, in that order, which values tie with another.

    Values are float32 of at least 0, whose bits sort like they do, or uint32. Equal ones stay as they are, which is a
    random permutation.
    """
    shuffle = np.arange(len(values), dtype="uint32")
    rng.shuffle(shuffle)
    bits = _taken(values, shuffle)
    if bits.dtype == "float32":
        bits += np.float32(0)  # turns -0 into 0
    places, bits = _sorted(bits.view("uint32"))
    return _taken(shuffle, places), _beside(bits[1:] == bits[:-1])


def _beside(same):
    """Say of which of some values the one before or behind is the same: bool array (n,), from that of their pairs."""
    ties = np.zeros(len(same) + 1, dtype=bool)
    ties[1:] |= same
    ties[:-1] |= same
    return ties


_KEY = np.dtype([("place", "<u4"), ("number", "<u4")])


def _sorted(numbers):
    """Sort numbers from 0 to 2**32 - 1, equal ones by place: return their places and the numbers in that order.

    One sort of 64-bit keys does it, the number above the place: with the same result on any machine, and faster than a
    stable sort.
    """
    keys = np.empty(len(numbers), _KEY)
    keys["number"], keys["place"] = numbers, np.arange(len(numbers), dtype="uint32")
    keys.view("<u8").sort()
    return keys["place"], keys["number"]


def _taken(array, places, dtype=None):
    """Return array[places], block by block, since NumPy makes 64-bit places of all that it is given."""
    found = np.empty(len(places), dtype or array.dtype)
    for start in range(0, len(places), _BLOCK):
        block = slice(start, start + _BLOCK)
        found[block] = array[places[block]]
    return found
