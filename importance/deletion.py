"""max(0, L(w with the weight's group replaced) - L(w)): the true rise of the loss, which others approximate.

L is the mean loss over the examples; the unit is that of the loss (nats). Every member of a group has the group's rise.
A fall counts as 0 in the score; `rises` returns the changes themselves and their standard errors.

Options: `level` is "unit", "layer", "weight", or a name among the evidence's `groups`. `fill` is "zero" or "noise"
(normal with a tenth of the variable's standard deviation, decided by the seed). `sample` evaluates only that many
groups, drawn by the seed, equally many from each variable as far as it has them (a group belongs to the variable of its
first weight); a group that was not drawn has the mean change of those that were from its variable.

Example:
    >>> import importance, keras, numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="ones")])
    >>> importance.load("deletion").score(model, np.array([[2.0]]), np.array([[2.0]]))[0].tolist()
    [[4.0]]

References:
    LeCun, Denker & Solla, "Optimal brain damage", NeurIPS 1989.
"""

from typing import NamedTuple

import numpy as np

from engine import checks, draws, removal, structure
from importance import Measure


class Rises(NamedTuple):
    """How the loss changes when a group of weights is replaced.

    Attributes:
        groups: list of int arrays like the weights: each weight's group.
        evaluated: int array (n,). The groups that were evaluated, ascending.
        change: float32 array (n,). Mean change of the loss over the examples; below 0 where the loss fell.
        stderr: float32 array (n,). Standard error of that mean; the examples are paired.
    """

    groups: list
    evaluated: np.ndarray
    change: np.ndarray
    stderr: np.ndarray


def rises(evidence, level="unit", fill="zero", sample=None):
    """Measure the change of the loss for each group, or for a sample of them.

    Args:
        evidence: importance.Evidence.
        level, fill, sample: see the module.

    Returns:
        Rises.

    Example:
        ```python
        evidence = importance.Evidence(model, x, y, seed=0)
        found = deletion.rises(evidence, level="weight", sample=200)  # found.change, found.stderr
        ```
    """
    groups = _groups(evidence, level)
    if sample is not None and sample < 1:
        raise ValueError(f"Expected sample to be at least 1, or None for all groups, received {sample!r}.")
    wanted = _drawn(_strata(groups), sample, draws.generator(evidence.seed, "sample of deletion"))
    found = removal.loss_changes(
        evidence.model, evidence.loss, evidence.x, evidence.y, groups, wanted, _replacements(evidence, fill)
    )
    return Rises(groups, wanted, *found)


def score(
    evidence,
    level="unit",
    fill: checks.choice("zero", "noise") = "zero",
    sample: checks.optional(checks.whole()) = None,
):
    """Give each weight the rise of the loss, at least 0, when its group is replaced."""
    found = rises(evidence, level, fill, sample)
    strata = _strata(found.groups)
    of_group = np.zeros(len(strata), "float32")
    for stratum in np.unique(strata):
        drawn = found.change[strata[found.evaluated] == stratum]
        of_group[strata == stratum] = drawn.mean() if len(drawn) else 0
    of_group[found.evaluated] = found.change
    return [np.maximum(of_group[ids], 0) for ids in found.groups]


def _groups(evidence, level):
    own = {"unit": structure.unit_labels, "layer": structure.layer_labels, "weight": structure.weight_labels}
    if level in evidence.groups:
        return evidence.groups[level]
    if level not in own:
        raise ValueError(
            f"Expected level to be one of {', '.join([*own, *evidence.groups])}, received {level!r}. Pass another "
            f"one's groups: groups={{{level!r}: aggregation.load({level!r}).groups(model)}}."
        )
    return structure.grouped(evidence.parts, own[level])


def _strata(groups):
    """Return, for each group, the variable of its first weight: int array (groups,)."""
    flat = np.concatenate([ids.ravel() for ids in groups])
    ends = np.cumsum([ids.size for ids in groups])
    _, first = np.unique(flat, return_index=True)
    return np.searchsorted(ends, first, side="right")


def _drawn(strata, sample, rng):
    """Draw groups, equally many from each stratum as far as it has them; return them in ascending order."""
    if sample is None or sample >= len(strata):
        return np.arange(len(strata))
    members = sorted((np.flatnonzero(strata == s) for s in np.unique(strata)), key=len)
    drawn = []
    for number, groups in enumerate(members):  # small strata first: what they cannot use goes to the others
        share = (sample - sum(map(len, drawn))) // (len(members) - number)
        drawn.append(rng.choice(groups, min(share, len(groups)), replace=False))
    return np.sort(np.concatenate(drawn))


def _replacements(evidence, fill):
    if fill == "zero":
        return [np.zeros_like(w) for w in evidence.weights]
    if fill == "noise":
        return [
            draws.generator(evidence.seed, "noise of deletion", index).standard_normal(w.shape, dtype="float32")
            * np.float32(np.std(w) / 10)
            for index, w in enumerate(evidence.weights)
        ]
    raise ValueError(f"Expected fill to be 'zero' or 'noise', received {fill!r}.")


MEASURE = Measure(score, needs="labels", cost="1 evaluation a group")
