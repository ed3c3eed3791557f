"""Lines that measures are held against: orders of groups that are found by removing them and looking at the loss.

`greedy`, backward elimination: the next group to go is the one whose removal costs least, given those that are gone. In
scope "layer" the layers fall side by side, as at a threshold. `shapley`: a group's mean rise of the loss over random
orders of all groups, each cut off where the loss has reached chance (Ghorbani & Zou, Neuron Shapley, 2020,
arXiv 2002.09815); the order is that of these values.

Both are found on examples that measures score on, `examples` of them, and are evaluated like any ranking: they are
lines for what is attainable, not bounds. What takes long is kept on disk while it is being found.

Options: `greedy:examples=2000`, `shapley:examples=500,permutations=50`.
"""

import inspect
import re
from typing import NamedTuple

import numpy as np
from scipy import stats

from engine import checks, draws, elimination
from experiments.study import second_time

_LARGEST = float(np.finfo("float32").max)
EVERY = 20
"""Groups after which a greedy order is kept on disk."""


class Work(NamedTuple):
    """What an oracle works on.

    Attributes:
        elimination: engine.elimination.Elimination.
        scopes: list of int arrays. The groups of each scope.
        seed: int.
        chance: float or None. The loss of guessing.
        kept: experiments.storage.checkpoints.Checkpoints.
        tell: callable `tell(done, of)`. Called with how many groups or orders are done.
    """

    elimination: elimination.Elimination
    scopes: list
    seed: int
    chance: float | None
    kept: object
    tell: object


def _greedy(work, examples=1000):
    _, begun = work.kept.latest(work.elimination.count)

    def keep(order):
        work.kept.save(len(order), [np.array(order)])
        work.tell(len(order), work.elimination.count)

    order = elimination.greedy(work.elimination, work.scopes, () if begun is None else begun[0], keep, EVERY)
    places = np.empty(len(order))
    places[order] = np.arange(1, len(order) + 1)
    return places


def _shapley(work, permutations=30, examples=1000):
    done, begun = work.kept.latest(permutations)
    total = np.zeros(work.elimination.count) if begun is None else begun[0]
    for number in range(done, permutations):
        order = draws.generator(work.seed, "orders of shapley", number).permutation(len(total))
        losses = work.elimination.path(order, np.inf if work.chance is None else work.chance)
        total[order] += np.diff(np.nan_to_num(losses.astype("float64"), nan=_LARGEST, posinf=_LARGEST))
        work.kept.save(number + 1, [total])
        work.tell(number + 1, permutations)
    return stats.rankdata(total)


ORACLES = {"greedy": _greedy, "shapley": _shapley}


class Oracle(NamedTuple):
    """An oracle with its options.

    Attributes:
        name: str. With the options that differ from the defaults.
        find: callable of a `Work`. Returns a float array (groups,): larger for groups that go later.
        examples: int. How many it looks at.
        stepwise: bool. Whether each step tries all that are left, or one order is gone through after another.
        evaluations: callable `evaluations(scopes)`. How often it runs the network, at most: int.
    """

    name: str
    find: object
    examples: int
    stepwise: bool
    evaluations: object


def load(name):
    """Return an oracle by its name, with options if wanted: "shapley:permutations=50".

    Raises:
        ValueError: there is none of that name, or it has no such option.
    """
    kind, _, written = name.partition(":")
    checks.choice(*ORACLES)("each oracle", kind)
    function = ORACLES[kind]
    pairs = [item.partition("=")[::2] for item in written.split(",") if item]
    given = {key: int(value) if value.isdecimal() else value for key, value in pairs}
    given = checks.options(f"the oracle {kind!r}", function, given, leaving=1)
    defaults = {name: p.default for name, p in list(inspect.signature(function).parameters.items())[1:]}
    changed = {key: value for key, value in sorted(given.items()) if value != defaults[key]}
    full = kind + (":" + ",".join(f"{key}={value}" for key, value in changed.items()) if changed else "")
    options = defaults | given

    def evaluations(scopes):
        if kind == "greedy":
            return elimination.evaluations(scopes)
        return options["permutations"] * sum(map(len, scopes))

    return Oracle(full, lambda work: function(work, **options), options["examples"], kind == "greedy", evaluations)


def is_one(name):
    """Say whether a name is an oracle's and no measure's: bool."""
    return name.partition(":")[0] in ORACLES


def _named(name, value):
    return load(checks.text(name, value)).name


AN_ORACLE = checks.Check("an oracle", _named)
"""The check for an oracle with its options, which get one spelling."""


def check(oracles, levels, scopes):
    """Raise ValueError where an oracle would have to remove single weights, or has no order for a scope."""
    if oracles and "weight" in levels:
        raise ValueError(
            f"Expected levels whose groups are units or larger with the oracle {oracles[0]!r}, as in levels=['unit'], "
            "received 'weight': removing each weight after each other weight takes too long. Leave one of them out."
        )
    others = [scope for scope in scopes if scope not in ("layer", "model")]
    if oracles and others:
        raise ValueError(
            f"Expected the scopes 'layer' and 'model' alone with the oracle {oracles[0]!r}, received {others[0]!r}, "
            "which shares out importances, and an oracle gives places in an order. Leave one of them out."
        )


def importances(values, ids):
    """Turn what an oracle finds into importances: list of float32 arrays like the weights, 0 where no group is."""
    score = (np.append(values, 0) / len(values)).astype("float32")
    return [score[np.where(own < 0, len(values), own)] for own in ids]


def folder(*where):
    """Name the folder in which what an oracle has found so far is kept."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(str(part) for part in where if part is not None))


def seconds(oracle, work):
    """Estimate from a short trial how long an oracle takes: float."""
    everything = np.ones(work.elimination.count, bool)
    if oracle.stepwise:
        trial = second_time(lambda: work.elimination.losses(~everything, everything))
    else:
        trial = second_time(lambda: work.elimination.path(np.arange(work.elimination.count)))
    return trial / work.elimination.count * oracle.evaluations(work.scopes)
