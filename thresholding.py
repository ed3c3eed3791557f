"""From importances to ranks to weights with the least important ones replaced.

A rank is the fraction of the weights in its scope (a layer, or the model) that falls before a weight does. Replacing
where `rank < t` replaces nothing at t = 0, everything at t = 1, and in between the fraction asked for, to within one
group. Equal importances are put in order by a seeded shuffle: position, which knows about the architecture, decides
nothing. (A rule such as `importance < percentile(importances, 100 t)` replaces none of the weights that tie at the
percentile, and so flatters a measure under which most weights tie.)
"""

import math
import re
from typing import NamedTuple

import numpy as np

from engine import checks, draws, structure

REDUCTIONS = {"mean": np.add, "sum": np.add, "minimum": np.minimum, "maximum": np.maximum}
SCOPES = ("layer", "model")
_BELOW_ONE = np.nextafter(np.float32(1), np.float32(0))
_BLOCK = 2**18


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
    """Weights whose ranks are compared, one variable's after another's."""

    members: list  # of (index of a variable, which of its weights take part: None for all, or bool array (weights,))
    ids: np.ndarray | None  # int array (weights,): group of each, from 0; None when every weight stands alone
    sizes: np.ndarray  # int array (groups,); all 1 where every weight stands alone
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
        members = {}
        for index, part in enumerate(parts):
            if takes_part[index]:
                members.setdefault(id(part.layer) if scope == "layer" else None, []).append(index)
        scopes = (_scope(indices, groups) for indices in members.values())
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
        importances = self._checked(importances, reduction)
        ranks, tied, steps = {}, 0, []
        for number, scope in enumerate(self._scopes):  # one at a time: each takes several times its weights' memory
            values = _values(scope, importances, reduction)
            order, ties = _ascending(values, draws.generator(seed, "ties", number))
            sizes = scope.sizes if scope.ids is None else scope.sizes[order]
            fallen = np.cumsum(sizes, dtype=sizes.dtype)
            group_ranks = np.empty(len(order), "float32")
            np.divide(fallen - sizes, fallen[-1], out=group_ranks, dtype="float64", casting="same_kind")
            # In float32 the last of 2**25 ranks and more would round to 1, and its weights would never fall.
            np.minimum(group_ranks, _BELOW_ONE, out=group_ranks)
            by_group = np.empty_like(group_ranks)
            by_group[order] = group_ranks
            ranks |= self._by_variable(scope, by_group)
            tied += int(sizes[ties].sum())
            steps.append((group_ranks, fallen))
        shaped = [
            ranks[index] if index in ranks else np.full(shape, np.inf, "float32")
            for index, shape in enumerate(self._shapes)
        ]
        return Ranking(shaped, tied / self.participating, steps)

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

    def _by_variable(self, scope, by_group):
        """Return {index of a variable: ranks in its shape} from those of a scope's groups."""
        ranks = by_group if scope.ids is None else _taken(by_group, scope.ids)
        found, begin = {}, 0
        for index, there in scope.members:
            count = math.prod(self._shapes[index]) if there is None else int(np.count_nonzero(there))
            own = ranks[begin : begin + count]
            begin += count
            if there is not None:
                own, taking_part = np.full(len(there), np.inf, "float32"), own
                own[there] = taking_part
            found[index] = own.reshape(self._shapes[index])
        return found


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


def _scope(indices, groups):
    members, found = [], []
    for index in indices:
        ids = groups[index].ravel()
        there = None if ids.min(initial=0) >= 0 else ids >= 0
        members.append((index, there))
        found.append(ids if there is None else ids[there])
    ids = np.concatenate(found)
    del found
    if (ids[1:] > ids[:-1]).all():  # each another than the ones before
        return _alone(members, len(ids))
    _, ids, sizes = structure.numbered(ids)
    if len(sizes) == len(ids):
        return _alone(members, len(ids))
    return _Scope(members, ids, sizes, _sorted(ids)[0].copy())


def _alone(members, count):
    return _Scope(members, None, np.broadcast_to(np.array(1, "int32" if count < 2**31 else "int64"), count), None)


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

    The bits of a float >= 0 sort like the float; equal ones stay as they are, which is a random permutation.
    """
    shuffle = np.arange(len(values), dtype="uint32")
    rng.shuffle(shuffle)
    bits = _taken(values, shuffle)
    bits += np.float32(0)  # turns -0 into 0
    places, bits = _sorted(bits.view("uint32"))
    same = bits[1:] == bits[:-1]
    ties = np.zeros(len(values), dtype=bool)
    ties[1:] |= same
    ties[:-1] |= same
    return _taken(shuffle, places), ties


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
