"""From importances to ranks to weights with the least important ones replaced.

A rank is the fraction of the weights in its scope (a layer, or the model) that falls before a weight does. Replacing
where `rank < t` replaces nothing at t = 0, everything at t = 1, and in between the fraction asked for, to within one
group. Equal importances are put in order by a seeded shuffle: position, which knows about the architecture, decides
nothing. (A rule such as `importance < percentile(importances, 100 t)` replaces none of the weights that tie at the
percentile, and so flatters a measure under which most weights tie.)
"""

import re
from typing import NamedTuple

import numpy as np

from engine import checks, draws, structure

REDUCTIONS = {"mean": np.add, "sum": np.add, "minimum": np.minimum, "maximum": np.maximum}
SCOPES = ("layer", "model")
_BELOW_ONE = np.nextafter(np.float32(1), np.float32(0))


def check_choice(name, value, choices):
    """Raise if a setting is none of its choices.

    Raises:
        ValueError: it is none of them; the message lists them.
    """
    if value not in choices:
        raise ValueError(f"Expected {name} to be one of {', '.join(map(repr, choices))}, received {value!r}.")


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
    """Weights whose ranks are compared. Flat positions are those in all variables laid end to end."""

    positions: object  # slice, or int array (weights,): where the scope's weights are
    ids: np.ndarray | None  # int array (weights,): group of each, from 0; None when every weight stands alone
    sizes: np.ndarray  # int array (groups,)
    by_group: np.ndarray | None  # int array (weights,): the scope's weights sorted by group


class Partition:
    """The scopes and groups of a model: what is the same for every measure, prepared once.

    Args:
        groups: list of int arrays like `model.trainable_variables` (`aggregation.load(level).groups(model)`). Weights
            of groups below 0 are never replaced.
        model: keras.Model.
        scope: "layer" or "model". Within what ranks are compared.
        variables: "all", or the roles that take part, such as ["kernel", "bias"]. The others are never replaced.
    """

    def __init__(self, groups, model, scope="layer", variables="all"):
        check_choice("scope", scope, SCOPES)
        parts = structure.parts(model)
        self._shapes = [part.shape for part in parts]
        _check_like("groups", groups, self._shapes)
        takes_part = _participation(parts, variables)
        ends = np.cumsum([0, *(int(np.prod(shape)) for shape in self._shapes)])
        members = {}
        for index, part in enumerate(parts):
            if takes_part[index]:
                members.setdefault(id(part.layer) if scope == "layer" else None, []).append(index)
        self._size = int(ends[-1])
        scopes = (_scope(indices, groups, ends) for indices in members.values())
        self._scopes = [scope for scope in scopes if len(scope.sizes)]
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
        ranks = np.full(self._size, np.inf, dtype="float32")
        tied, steps = 0, []
        for number, (scope, values) in enumerate(zip(self._scopes, self.values(importances, reduction), strict=True)):
            order, ties = _ascending(values, draws.generator(seed, "ties", number))
            sizes = scope.sizes[order]
            fallen = np.cumsum(sizes)
            # In float32 the last of 2**25 ranks and more would round to 1, and its weights would never fall.
            group_ranks = np.minimum(((fallen - sizes) / fallen[-1]).astype("float32"), _BELOW_ONE)
            by_group = np.empty(len(order), dtype="float32")
            by_group[order] = group_ranks
            ranks[scope.positions] = by_group if scope.ids is None else by_group[scope.ids]
            tied += int(sizes[ties].sum())
            steps.append((group_ranks, fallen))
        split = np.split(ranks, np.cumsum([int(np.prod(shape)) for shape in self._shapes])[:-1])
        shaped = [part.reshape(shape) for part, shape in zip(split, self._shapes, strict=True)]
        return Ranking(shaped, tied / self.participating, steps)

    def numbered(self):
        """Number the groups that take part, from 0, scope after scope.

        Returns:
            ids: list of int arrays like the weights; -1 where a weight takes no part.
            scopes: list of int arrays (groups,): the numbers of each scope's groups.
        """
        ids, scopes, count = np.full(self._size, -1), [], 0
        for scope in self._scopes:
            own = np.arange(len(scope.sizes))
            ids[scope.positions] = count + (own if scope.ids is None else scope.ids)
            scopes.append(count + own)
            count += len(own)
        split = np.split(ids, np.cumsum([int(np.prod(shape)) for shape in self._shapes])[:-1])
        return [part.reshape(shape) for part, shape in zip(split, self._shapes, strict=True)], scopes

    def values(self, importances, reduction="mean"):
        """Return the importance of each group, as a list of float32 arrays (groups,), one for each scope."""
        check_choice("reduction", reduction, tuple(REDUCTIONS))
        _check_like("importances", importances, self._shapes)
        flat = np.concatenate([np.asarray(a, "float32").ravel() for a in importances])
        if not (np.isfinite(flat).all() and (flat >= 0).all()):
            raise ValueError(
                f"Expected importances that are finite and at least 0, received {np.isnan(flat).sum()} NaN, "
                f"{np.isinf(flat).sum()} infinite and {(flat < 0).sum()} negative values. Take the absolute value, or "
                "look for a loss that diverged."
            )
        return [_reduce(flat[scope.positions], scope, reduction) for scope in self._scopes]


def rank(importances, groups, reduction="mean", scope="layer", model=None, seed=0, variables="all"):
    """Give each weight the fraction of the weights in its scope that falls before it.

    Args:
        importances: list of float arrays like `model.trainable_variables`, finite, at least 0, larger = keep.
        groups: list of int arrays, likewise. Members of a group share one importance; below 0 a weight takes no part.
        reduction: "mean", "sum", "minimum" or "maximum". How a group's importance comes from its members'.
        scope: "layer" or "model".
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
        >>> weights = [np.array([[0.1], [-0.4], [0.9], [-1.0]])]
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


def _scope(indices, groups, ends):
    positions = np.concatenate([np.arange(ends[i], ends[i + 1]) for i in indices])
    ids = np.concatenate([groups[i].ravel() for i in indices])
    positions, ids = positions[ids >= 0], ids[ids >= 0]
    contiguous = len(positions) and positions[-1] - positions[0] == len(positions) - 1
    where = slice(positions[0], positions[0] + len(positions)) if contiguous else positions
    _, ids, sizes = np.unique(ids, return_inverse=True, return_counts=True)
    if len(sizes) == len(ids):
        return _Scope(where, None, sizes, None)
    return _Scope(where, ids, sizes, np.argsort(ids, kind="stable"))


def _reduce(values, scope, reduction):
    """Return the importance of each group, float32 (groups,)."""
    if scope.ids is None:
        return values
    starts = np.cumsum(scope.sizes) - scope.sizes
    reduced = REDUCTIONS[reduction].reduceat(values[scope.by_group].astype("float64"), starts)
    if reduction == "mean":
        reduced = reduced / scope.sizes
    return np.minimum(reduced, np.finfo("float32").max).astype("float32")


def _ascending(values, rng):
    """Sort, equal values shuffled: return the order (groups,) and, in that order, which values tie with another.

    One sort of 64-bit keys does it, on any machine with the same result: the bits of a float >= 0 sort like the
    float, and below them stands a place in a random permutation, which makes every key unique.
    """
    shuffle = rng.permutation(len(values)).astype("uint32")
    bits = (values[shuffle] + np.float32(0)).view("uint32")  # adding 0 turns -0 into 0
    keys = np.sort((bits.astype("uint64") << np.uint64(32)) | np.arange(len(values), dtype="uint64"))
    order = shuffle[(keys & np.uint64(0xFFFFFFFF)).astype("int64")]
    sorted_bits = (keys >> np.uint64(32)).astype("uint32")
    same = sorted_bits[1:] == sorted_bits[:-1]
    ties = np.zeros(len(values), dtype=bool)
    ties[1:] |= same
    ties[:-1] |= same
    return order, ties
