"""Find the strength (lambda) of the penalty that serves a measure best, and say how well it is known."""

import time
import warnings
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from engine import checks
from experiments import sequential
from experiments.protection import CHECKS, STRENGTHS

DECADES = tuple(float(10.0**power) for power in range(-2, 6))
"""Where an automatic search starts: for importances between those of Fisher and those of Synaptic Intelligence."""

MOST = 33
"""How many strengths an automatic search tries at most: so many comparisons are allowed for."""

_LIMITS = (1e-9, 1e12)
_PRECISION, _RATIO = checks.number(above=0), checks.number(above=1)
_SEEDS = checks.several(checks.whole(0), least=0)


class Found(NamedTuple):
    """What a search found.

    Attributes:
        strength: float. The one with the highest mean accuracy, lambda*.
        accuracy: float. Its mean accuracy over the seeds. They have chosen it, so this is too high on average, and no
            interval around it holds the truth as often as it says; other seeds give one (`run`).
        half_width: float. Half the width of Student's t interval of that mean: what `precision` is about.
        seeds: int. How many seeds it was run with.
        not_worse: tuple of float, ascending. Strengths run with as many seeds whose paired interval of the difference
            to the best reaches 0; the best is one of them. With a chance of at least `confidence`, the one among those
            tried whose true mean is the highest is one of them too.
        table: pandas.DataFrame. One row for each strength that was tried: `strength`, `seeds`, `accuracy`, `low`,
            `high` (Student's t interval of that strength by itself), `difference`, `difference_low`, `difference_high`
            (paired, to the best, and so wide that all of them at all looks hold together), `not_worse`.
    """

    strength: float
    accuracy: float
    half_width: float
    seeds: int
    not_worse: tuple
    table: pd.DataFrame


def search(evaluate, strengths="auto", seeds=range(5), precision=0.005, ratio=1.5, confidence=0.95):
    """Search the best strength.

    A grid is evaluated as it is, with all seeds. "auto" starts with one strength a decade (`DECADES`) and three seeds.
    It then goes on until nothing is left to do: strengths whose paired interval lies below the leader's are dropped;
    the gaps on both sides of the leader are halved (on a log scale) until they are no wider than `ratio`, and if the
    leader stands at an edge, the grid is extended beyond it, to `MOST` strengths; when the leader is surrounded, those
    that are left get one seed more, until the leader's mean is known to `precision` or the seeds are used up.

    The search looks again with every seed, at differences to whichever strength leads, and the leader is one of many.
    So that all looks together drop the best one with a chance of at most 1 - confidence, that chance is shared out: to
    the j-th number of seeds at which one looks goes the part 1 / (j (j + 1)), and of that to each of k - 1 others an
    equal part, k being `MOST`; a grid of k strengths is looked at once. Intervals are Student's t, which supposes
    differences that are about normal; `benchmarks/statistics.py` says what comes out.

    Args:
        evaluate: callable `evaluate(strengths, seeds) -> dict` from (strength, seed) to accuracy, for all pairs. An
            accuracy that is not finite counts as 0.
        strengths: "auto", or a list of float above 0, each once.
        seeds: list of int. The ones that may be used; runs of one seed are compared as pairs.
        precision: float. Half the width of the interval of the best strength's mean accuracy.
        ratio: float, above 1. How close the best strength's neighbours are, as a factor.
        confidence: float. That the best strength among those tried is in `not_worse`; of the other intervals too.

    Returns:
        Found.

    Raises:
        ValueError: no strengths, or repeated ones; fewer than two seeds; a precision, ratio or confidence out of its
            range.

    Example:
        >>> def evaluate(strengths, seeds):
        ...     return {(s, n): 0.9 - 0.1 * abs(np.log10(s / 30)) + 0.001 * n for s in strengths for n in seeds}
        >>> found = search(evaluate, [1.0, 10.0, 100.0], seeds=[0, 1, 2])
        >>> found.strength, round(found.accuracy, 3), found.not_worse
        (10.0, 0.853, (10.0,))
    """
    precision, ratio = _PRECISION("precision", precision), _RATIO("ratio", ratio)
    confidence = checks.number(above=0, below=1)("confidence", confidence)
    automatic, seeds, known = isinstance(strengths, str), list(_SEEDS("seeds", seeds)), {}
    alive, count = _start(strengths, seeds)
    others, first = (MOST if automatic else max(len(alive), 2)) - 1, count

    def sure(count):
        return _simultaneous(confidence, others, count - first + 1 if automatic else 0)

    while True:
        _extend(known, evaluate, alive, seeds[:count])
        leader = _leader(known, alive, seeds[:count])
        if not automatic:
            break
        alive = {s for s in alive if _difference(known, s, leader, seeds[:count], sure(count))[2] >= 0}
        between = _neighbours(leader, known, ratio) if len(known) <= MOST - 2 else set()
        if between:
            alive |= between
            continue
        _, low, high = _interval(known[leader], seeds[:count], confidence)
        if (high - low) / 2 <= precision or count == len(seeds):
            break
        count += 1
    return _found(known, alive, leader, seeds[:count], confidence, sure)


def _simultaneous(confidence, others, look):
    """Return the confidence of one interval at a look so that those with all others at all looks hold together.

    Args:
        confidence: float. Of all of them.
        others: int. How many each strength may be compared with.
        look: int. The how many-th look, from 1; 0: there is only one.
    """
    return 1 - (1 - confidence) / others / (look * (look + 1) if look else 1)


def _checked(search_seeds, report_seeds, measures, penalties):
    """Return seeds, measures and penalties as lists, checked."""
    given = {"search_seeds": search_seeds, "report_seeds": report_seeds}
    seeds = [list(_SEEDS(name, values)) for name, values in given.items()]
    return *seeds, list(CHECKS["measures"]("measures", measures)), list(CHECKS["penalties"]("penalties", penalties))


def _start(strengths, seeds):
    """Return the strengths that a search begins with (set), and with how many of its seeds."""
    automatic = isinstance(strengths, str)
    if automatic and strengths != "auto":
        raise ValueError(f"Expected strengths to be 'auto' or a list of numbers, received {strengths!r}.")
    if len(seeds) < 2:
        raise ValueError(f"Expected at least two seeds, to compare strengths by; received {list(seeds)}.")
    grid = set(DECADES) if automatic else set(STRENGTHS("strengths", strengths))
    return grid, min(3, len(seeds)) if automatic else len(seeds)


def _extend(known, evaluate, strengths, seeds):
    """Evaluate what is missing: strengths that miss the same seeds in one call."""
    missing = {}
    for strength in sorted(strengths):
        lacking = tuple(seed for seed in seeds if seed not in known.get(strength, {}))
        if lacking:
            missing.setdefault(lacking, []).append(strength)
    for lacking, together in missing.items():
        for (strength, seed), accuracy in evaluate(together, list(lacking)).items():
            known.setdefault(strength, {})[seed] = accuracy if np.isfinite(accuracy) else 0.0


def _leader(known, strengths, seeds):
    return max(sorted(strengths), key=lambda s: np.mean([known[s][seed] for seed in seeds]))


def _neighbours(leader, known, ratio):
    """Return the strengths to try around the leader: midpoints of wide gaps, or a decade beyond the edge."""
    tried, wanted = sorted(known), set()
    place = tried.index(leader)
    for step in (-1, 1):
        if 0 <= place + step < len(tried):
            neighbour = tried[place + step]
            if max(neighbour / leader, leader / neighbour) > ratio:
                wanted.add(float(f"{np.sqrt(leader * neighbour):.4g}"))
        else:
            beyond = float(f"{leader * 10.0**step:.4g}")
            if _LIMITS[0] <= beyond <= _LIMITS[1]:
                wanted.add(beyond)
    return wanted - set(tried)


def _interval(by_seed, seeds, confidence):
    return _of_mean(np.array([by_seed[seed] for seed in seeds]), confidence)


def _difference(known, strength, leader, seeds, confidence):
    """Return the mean difference to the leader and its interval, over the seeds that both were run with."""
    both = [seed for seed in seeds if seed in known[strength] and seed in known[leader]]
    if strength == leader:
        return 0.0, 0.0, 0.0
    return _of_mean(np.array([known[strength][seed] - known[leader][seed] for seed in both]), confidence)


def _of_mean(values, confidence):
    mean = float(values.mean())
    if len(values) < 2:
        return mean, -np.inf, np.inf
    half = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return mean, mean - float(half), mean + float(half)


def _found(known, alive, leader, seeds, confidence, sure):
    rows = []
    for strength in sorted(known):
        by_seed = known[strength]
        accuracy, low, high = _interval(by_seed, list(by_seed), confidence)
        difference, below, above = _difference(known, strength, leader, seeds, sure(len(by_seed)))
        rows.append(
            {
                "strength": strength, "seeds": len(by_seed), "accuracy": accuracy, "low": low, "high": high,
                "difference": difference, "difference_low": below, "difference_high": above,
                "not_worse": strength in alive and above >= 0,
            }
        )  # fmt: skip
    table = pd.DataFrame(rows)
    best = table[table["strength"] == leader].iloc[0]
    return Found(
        strength=leader, accuracy=float(best["accuracy"]), half_width=float(best["high"] - best["low"]) / 2,
        seeds=int(best["seeds"]), not_worse=tuple(table[table["not_worse"]]["strength"]), table=table,
    )  # fmt: skip


class Estimate(NamedTuple):
    """What a search will cost.

    Attributes:
        runs: int. Runs asked for; for an automatic search about as many as it needs.
        missing: int. Those of them that are not in the file yet.
        seconds: float. About, for those that are missing.
    """

    runs: int
    missing: int
    seconds: float

    def __str__(self):
        return f"{self.runs} runs, {self.missing} of them to do: about {self.seconds / 60:.1f} minutes here."


def estimate(
    sequence, measures, model=None, penalties=("plain", "stabilized"), strengths="auto", search_seeds=range(5),
    report_seeds=range(5, 15), out="runs/sequential", precision=0.005, ratio=1.5, progress=True, workers=1, gpus=0.0,
    **settings,
):  # fmt: skip
    """Say what `run` with the same arguments will cost, by the runs in its file or by timing the parts of one.

    The seconds are those of one process, whatever `workers` says.

    Returns:
        Estimate.
    """
    published = settings.get("protocol") == "published"
    search_seeds, report_seeds, measures, penalties = _checked(search_seeds, report_seeds, measures, penalties)
    seeds, report_seeds = set(search_seeds), set() if published else set(report_seeds)
    runs = sequential.Sequential(sequence, model, out, seeds=sorted(seeds), **settings)
    done = sequential.summary(runs.store.frame()).reindex(columns=[*sequential.RUN])
    asked = missing = 0
    pairs = [(measure, penalty) for measure in measures for penalty in penalties]
    for measure, penalty in [*pairs, *((end.measure, end.penalty) for end in sequential.ENDS)]:
        there = done[(done["measure"] == measure) & (done["penalty"] == penalty)]
        own = _own(strengths, measure, penalty) if (measure, penalty) in pairs else []
        if isinstance(own, str):
            # One a decade, three halvings on both sides of the best, and more seeds for the few that are left.
            search = (len(DECADES) + 6) * min(3, len(seeds)) + 4 * max(0, len(seeds) - 3)
            searched = there["seed"].isin(seeds).sum()
        else:
            search = len(own) * len(seeds)
            searched = (there["seed"].isin(seeds) & there["strength"].isin(list(map(float, own)))).sum()
        report = report_seeds if len(own) else report_seeds or seeds
        asked += search + len(report)
        missing += max(0, search - searched) + len(report - set(there["seed"]))
    runs.asking(measures=list(measures), penalties=list(penalties), strengths=[1.0])
    return Estimate(asked, int(missing), missing * runs.seconds() if missing else 0.0)


def run(
    sequence, measures, model=None, penalties=("plain", "stabilized"), strengths="auto", search_seeds=range(5),
    report_seeds=range(5, 15), out="runs/sequential", precision=0.005, ratio=1.5, progress=True, workers=1, gpus=0.0,
    **settings,
):  # fmt: skip
    """Choose the strength of each measure and penalty, and report the accuracy that it reaches.

    Under the honest protocol the strength with the best validation accuracy over `search_seeds` is run with
    `report_seeds`, and its test accuracy reported, with an interval of seeds that did not choose; under the published
    one the test accuracy over `search_seeds` both chooses and reports, and there is no such interval. Every run is a
    row of `<out>/<run name>.csv`, and is not done again.

    Where all searches have the same strengths, what they begin with is done together; then each measure and penalty
    goes on by itself, a few runs at a time. Several workers are started anew for each such step, which takes some 10
    seconds: they pay where a run takes longer.

    Args:
        sequence, model, out, progress, workers, gpus, **settings: as for `experiments.sequential.run`. With
            workers="join" every process makes the same search, and waits for the runs that others are doing.
        measures: list of str.
        penalties: list of str.
        strengths, precision, ratio: as for `search`; a dict from (measure, penalty), or from measure, gives each its
            own strengths, and may in turn hold dicts from penalty.
        search_seeds: list of int.
        report_seeds: list of int. None of them may be among `search_seeds`.

    Returns:
        table: pandas.DataFrame. One row for each measure and penalty, and for the two ends ("none" and "joint"):
            `strength`, `not_worse` (tuple; see `Found`), of the search `search_accuracy` (which is too high, for its
            seeds have chosen) and `search_seeds`, and of the report `validation_accuracy` and `test_accuracy`, each
            with Student's t interval over the seeds that report (`_low`, `_high`; NaN for what the same seeds have
            chosen), `test_forgetting`, `test_backward_transfer`, `seeds`.
        found: dict from (measure, penalty) to Found.

    Warns:
        UserWarning: an automatic search used up its seeds before the best accuracy was known to `precision`.

    Raises:
        ValueError: seeds that serve both for the search and for the report, or none for the report; and as `search`
            and `experiments.sequential.run` raise. All of it before the first run.
    """
    published = settings.get("protocol") == "published"
    search_seeds, report_seeds, measures, penalties = _checked(search_seeds, report_seeds, measures, penalties)
    precision, ratio = _PRECISION("precision", precision), _RATIO("ratio", ratio)
    searched = {(m, p): _own(strengths, m, p) for m in measures for p in penalties}
    begun = [_start(own, search_seeds) for own in searched.values()]
    shared = sorted(set(search_seeds) & set(report_seeds))
    if shared and not published:
        raise ValueError(
            f"Expected report_seeds that the search has not seen, received {shared} in both. A strength that is chosen "
            "and reported with the same seeds looks better than it is."
        )
    report_seeds = search_seeds if published else report_seeds
    if not report_seeds:
        raise ValueError("Expected report_seeds to be a list of at least one, received an empty list.")
    runs = sequential.Sequential(sequence, model, out, seeds=search_seeds, **settings)

    def rows_of(**varied):
        runs.asking(**varied)
        return _together(runs, progress, workers, gpus)

    # Runs that go together keep more workers busy, and read their data once.
    if begun and all(start == begun[0] for start in begun):
        grid, count = begun[0]
        which = {"measures": measures, "penalties": penalties, "strengths": sorted(grid)}
        rows_of(**which, seeds=search_seeds[:count], ends=False)
    about, found = {}, {}
    for (measure, penalty), own in searched.items():
        which = {"measures": [measure], "penalties": [penalty]}

        def evaluate(strengths, seeds, which=which):
            seeds = [s for s in search_seeds if s <= max(seeds)] if published else seeds
            summary = rows_of(**which, strengths=strengths, seeds=seeds, ends=False)
            rows = _of(summary, *which["measures"], *which["penalties"], strengths, seeds)
            return {(r.strength, r.seed): r.validation_accuracy for r in rows.itertuples()}

        best = found[measure, penalty] = search(evaluate, own, search_seeds, precision, ratio)
        if isinstance(own, str) and best.half_width > precision:
            warnings.warn(
                f"The best accuracy of {measure} with {penalty} is known to {best.half_width:.2g}, not to the "
                f"precision of {precision:g} that was asked for: its {best.seeds} seeds are used up. Give more "
                "search_seeds.",
                stacklevel=2,
            )
        rows_of(**which, strengths=[best.strength], seeds=report_seeds, ends=True)
        about[measure, penalty] = {
            "strength": best.strength, "not_worse": best.not_worse, "search_accuracy": best.accuracy,
            "search_seeds": best.seeds,
        }  # fmt: skip
    summary = rows_of(seeds=report_seeds, ends=True)
    about |= {(end.measure, end.penalty): {"strength": 0.0, "not_worse": ()} for end in sequential.ENDS}
    return _reported(summary, about, report_seeds, published), found


def _reported(summary, about, seeds, chose):
    """Put what the search says of each measure and penalty beside what the seeds that report say, if they chose not."""
    rows = []
    for (measure, penalty), row in about.items():
        of_run = _of(summary, measure, penalty, [row["strength"]], seeds)
        chosen, said = chose and "search_seeds" in row, {}
        for name in ("validation", "test"):
            mean, low, high = _of_mean(of_run[f"{name}_accuracy"].to_numpy(), 0.95)
            low, high = (np.nan, np.nan) if chosen else (low, high)
            said |= {f"{name}_accuracy": mean, f"{name}_low": low, f"{name}_high": high}
        also = {name: of_run[name].mean() for name in ("test_forgetting", "test_backward_transfer")}
        rows.append({"measure": measure, "penalty": penalty, **row, **said, **also, "seeds": len(of_run)})
    return pd.DataFrame(rows)


def _together(runs, progress, workers, gpus):
    """Do the runs that were asked for, wait for those that others are doing, and summarise all that are there."""
    while any(runs.trials().values()):
        runs.run(progress=progress, workers=workers, gpus=gpus)
        if any(runs.trials().values()):
            time.sleep(1)
    return sequential.summary(runs.store.frame())


def _own(strengths, measure, penalty):
    """Return the strengths that a measure and penalty are to be tried with."""
    if not isinstance(strengths, dict):
        return strengths
    own = strengths.get((measure, penalty), strengths.get(measure))
    own = own.get(penalty) if isinstance(own, dict) else own
    if own is None:
        raise ValueError(
            f"Expected strengths for each measure and penalty, received none for {measure!r} with {penalty!r}. Add "
            f"them under ({measure!r}, {penalty!r}) or under {measure!r}."
        )
    return own


def _of(summary, measure, penalty, strengths, seeds):
    wanted = (summary["measure"] == measure) & (summary["penalty"] == penalty)
    return summary[wanted & summary["strength"].isin(strengths) & summary["seed"].isin(seeds)]
