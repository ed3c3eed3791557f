"""Simulate what the statistics of the reports promise, and print it as the tables of docs/statistics.md.

    python -m benchmarks.statistics [--repeats 2000] [--seed 0] [--digits]

Seeded: the same command prints the same numbers. `--digits` trains instead: runs on digits that go on until every pair
is settled, or there are 30 networks, beside runs of 30 (some minutes). Each function gives rows, one dict each, so that
a test can ask for fewer repeats; shares of repeats have a standard error of sqrt(p (1 - p) / repeats).
"""

import argparse
import tempfile

import numpy as np
import pandas as pd

import report
from experiments import lambda_search
from report.statistics.evidence import e_holm, equality_evidence, median_sequence, sign_evidence
from report.statistics.intervals import student_t
from report.statistics.tests import direction, hodges_lehmann, holm, rank_stability, wilcoxon

ALPHA, MARGIN = 0.05, 0.01
LOOKS = range(2, 61)
SHAPES = {
    "normal": (lambda r, size: r.normal(0, 1, size), 0.0, 0.0),
    "heavy tails (t, 3 degrees)": (lambda r, size: r.standard_t(3, size), 0.0, 0.0),
    "skewed (lognormal, sigma 0.5)": (lambda r, size: np.exp(0.5 * r.normal(0, 1, size)), np.exp(0.125), 1.0),
}
"""How networks scatter: a draw, its mean and its median."""
_PSEUDOMEDIAN_SKEWED = 1.0593
"""Median of the mean of two independent draws of exp(z / 2): what the Hodges-Lehmann estimate estimates."""


def coverage(repeats, seed, networks=(5, 10, 30)):
    """Count how often 95 % intervals hold the truth: those of means, of differences, and of the median at all looks."""
    random, rows = np.random.default_rng([seed, 1]), []
    for shape, (draw, mean, median) in SHAPES.items():
        centre = _PSEUDOMEDIAN_SKEWED if median else 0.0
        row = {"networks scatter": shape}
        for count in networks:
            values = draw(random, (repeats, count))
            held = [low <= mean <= high for _, low, high in map(student_t, values)]
            row[f"mean, {count}"] = np.mean(held)
            if count > 5:  # fewer have no interval at all
                _, low, high = hodges_lehmann(values)
                row[f"difference, {count}"] = np.mean((low <= centre) & (centre <= high))
        row["median, at all looks to 60"] = np.mean(_held_throughout(draw(random, (repeats, max(LOOKS))), median))
        rows.append(row)
    return rows


def _held_throughout(values, median):
    held = np.ones(len(values), bool)
    for count in LOOKS:
        low, high = median_sequence(values[:, :count])
        held &= np.isnan(low) | ((low <= median) & (median <= high))
    return held


def ranks(repeats, seed):
    """Count how often the 95 % of ranks (`rank_low` to `rank_high`) hold the rank of the true mean."""
    random, rows = np.random.default_rng([seed, 2]), []
    for spacing in (0.0, 0.2, 1.0):
        row = {"true means apart by, in standard deviations": spacing}
        for count in (10, 30):
            held = []
            for _ in range(repeats):
                scores = random.normal(spacing * np.arange(6), 1, (count, 6))
                _, low, high = rank_stability(scores, resamples=199)
                true = np.arange(1, 7) if spacing else np.full(6, 3.5)
                held.append(np.mean((low <= true) & (true <= high)))
            row[f"{count} networks"] = np.mean(held)
        rows.append(row)
    return rows


def _pairs(scores):
    """Return the differences of every two measures: array (pairs, networks) of scores (networks, measures)."""
    one, other = np.triu_indices(scores.shape[1], 1)
    return (scores[:, other] - scores[:, one]).T


def errors(repeats, seed, measures=(2, 10, 24), looks=LOOKS):
    """Count the repeats in which any pair is wrongly told apart, of measures that are equally good.

    Columns: the tests at 30 networks, chosen beforehand; the same tests, looking after each network, at any look; the
    e-values at any look; and these where half of the measures are better, by one standard deviation, than the others.
    With 24 measures there are a quarter of the repeats.
    """
    rows, asked = [], repeats
    for count in measures:
        repeats = asked if count < 24 else max(1, asked // 4)
        random = np.random.default_rng([seed, 3, count])
        found = {"tests, 30 networks": [], "tests, at any look": [], "e-values, at any look": []}
        mixed = []
        for _ in range(repeats):
            shared = random.normal(0, 1, (max(looks), 1))
            scores = shared + random.normal(0, 1, (max(looks), count))
            differences = _pairs(scores)
            p = {n: _fixed_alarm(differences[:, :n]) for n in {*range(6, max(looks) + 1, 3), 30}}
            found["tests, 30 networks"].append(p[30])
            found["tests, at any look"].append(any(p.values()))
            found["e-values, at any look"].append(any(_alarm(differences[:, :n]) for n in looks))
            better = np.arange(count) < count // 2
            alike = (better[:, None] == better)[np.triu_indices(count, 1)]
            shifted = _pairs(scores - 1.0 * better)
            mixed.append(alike.any() and any(_alarm(shifted[:, :n], alike) for n in looks))
        row = {"measures": count, "pairs": count * (count - 1) // 2, "repeats": repeats}
        row |= {name: np.mean(alarms) for name, alarms in found.items()}
        rows.append(row | {"e-values, at any look, half better": np.mean(mixed) if count > 2 else np.nan})
    return rows


def _fixed_alarm(differences):
    return bool((holm(wilcoxon(differences)) <= ALPHA).any())


def _alarm(differences, where=slice(None)):
    """Say whether e-values tell any pair (among some) apart now, as `report.order` does."""
    towards = direction(differences)
    signs = np.sign(differences).sum(-1)
    return bool(((e_holm(sign_evidence(differences)) >= 1 / ALPHA) & (signs * towards > 0))[where].any())


def equalities(repeats, seed, looks=LOOKS):
    """Count the repeats in which measures just outside the margin are called practically equal.

    One measure is apart from four others by 1.001 margins; these are alike. Scatter in margins.
    """
    rows = []
    for scatter in (0.2, 0.5, 2.0):
        random, wrong, fixed, right = np.random.default_rng([seed, 4, int(10 * scatter)]), [], [], []
        for _ in range(repeats):
            scores = random.normal(0, scatter * MARGIN / np.sqrt(2), (max(looks), 5))
            scores[:, 0] -= 1.001 * MARGIN
            differences = _pairs(scores)
            outside = np.arange(10) < 4
            said = np.array([e_holm(equality_evidence(differences[:, :n], MARGIN)) >= 1 / ALPHA for n in looks])
            wrong.append(said[:, outside].any())
            right.append(said[30 - looks[0], ~outside].mean())
            _, low, high = hodges_lehmann(differences[:, :30])
            fixed.append(((low >= -MARGIN) & (high <= MARGIN))[outside].mean())
        rows.append(
            {
                "scatter of differences, in margins": scatter,
                "any wrong, e-values, at any look": np.mean(wrong),
                "a pair wrong, interval, 30 networks": np.mean(fixed),
                "equal pairs found, e-values, 30 networks": np.mean(right),
            }
        )
    return rows


def power(repeats, seed, networks=(10, 16, 30)):
    """Count the share of the pairs of ten measures that are told apart, whose means are equally far apart."""
    rows = []
    for apart in (0.25, 0.5, 1.0, 2.0):
        random = np.random.default_rng([seed, 5, int(100 * apart)])
        row = {"neighbours apart by, in standard deviations of their difference": apart}
        told = {name: [] for n in networks for name in (f"tests, {n}", f"e-values, {n}")}
        for _ in range(repeats):
            scores = random.normal(0, 1 / np.sqrt(2), (max(networks), 10)) + apart * np.arange(10)
            differences = _pairs(scores)
            for n in networks:
                told[f"tests, {n}"].append(np.mean(holm(wilcoxon(differences[:, :n])) <= ALPHA))
                told[f"e-values, {n}"].append(np.mean(e_holm(sign_evidence(differences[:, :n])) >= 1 / ALPHA))
        rows.append(row | {name: np.mean(shares) for name, shares in told.items()})
    return rows


def searches(repeats, seed, seeds=(5, 15, 40)):
    """Search for the best strength in simulated accuracies, and compare with the truth.

    An accuracy is 0.9 - height log10(strength / peak)^2, with noise of 0.01 of its own and as much that strengths share
    on a seed. Columns: how often the truly best strength among those that were tried is missing in `not_worse`; how
    often 95 % intervals hold the true accuracy of the chosen strength, of the seeds that chose it and of ten that did
    not; and the runs of a search. A quarter of the repeats.
    """
    rows, repeats = [], max(1, repeats // 4)
    for height in (0.002, 0.05):
        for count in seeds:
            random = np.random.default_rng([seed, 6, int(1000 * height), count])
            found = [_searched(random, height, count) for _ in range(repeats)]
            missed, chose, others, runs = np.mean(found, axis=0)
            rows.append(
                {
                    "height": height, "search seeds": count, "repeats": repeats, "best missing": missed,
                    "interval of those that chose": chose, "interval of others": others, "runs": runs,
                }
            )  # fmt: skip
    return rows


def _searched(random, height, seeds):
    peak, shared, own, runs = 10 ** random.uniform(-1, 3), random.normal(0, 0.01, seeds + 10), {}, []

    def truth(strength):
        return 0.9 - height * np.log10(strength / peak) ** 2

    def evaluate(strengths, seeds):
        runs.extend((s, n) for s in strengths for n in seeds)
        for key in runs[len(own) :]:
            own[key] = truth(key[0]) + shared[key[1]] + random.normal(0, 0.01)
        return {(s, n): own[s, n] for s in strengths for n in seeds}

    found = lambda_search.search(evaluate, seeds=range(seeds), precision=0.005)
    best, true = max(found.table["strength"], key=truth), truth(found.strength)
    others = evaluate([found.strength], range(seeds, seeds + 10)).values()
    _, low, high = student_t(np.array(list(others)))
    chose = abs(found.accuracy - true) <= found.half_width
    return best not in found.not_worse, chose, low <= true <= high, len(runs) - 10


def on_digits(out):
    """Train on digits until every pair is settled, and 30 networks, and compare what is concluded."""
    from experiments import threshold_grid

    asked = {"task": "digits", "levels": ["weight"], "epochs": 10, "every": 10, "batch_size": 32, "progress": False}
    rows = []
    for measures in (["magnitude", "fisher", "random"], ["magnitude", "obd", "fisher", "random"]):
        folder = f"{out}/{len(measures)}"
        grown = threshold_grid.run(**asked, measures=measures, out=folder, seeds=range(7), until="settled", limit=30)
        fixed = threshold_grid.run(**asked, measures=measures, out=folder, seeds=range(30))
        for frame, anytime, way in ((grown, True, "until settled"), (fixed, False, "fixed beforehand")):
            found = report.order(frame, anytime=anytime, resamples=99)
            order = found.sentences[0].partition(", ")[2].partition(" by area")[0]
            about = {"run": way, "networks": frame["seed"].nunique(), "order": order}
            rows.append(about | {"settled": "{} of {}".format(*found.settled)})
    return rows


PARTS = {
    "Intervals: how often they hold the truth (0.95 is promised)": coverage,
    "Ranks: how often their 95 % hold the true one": ranks,
    "False alarms: repeats in which any pair is wrongly told apart (at most 0.05 is promised)": errors,
    "Practically equal: just outside the margin": equalities,
    "Power: the share of 45 pairs that are told apart": power,
    "Searches for a strength": searches,
}


def main():
    """Print all tables."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--repeats", type=int, default=2000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--digits", action="store_true", help="train instead: runs until settled")
    given = options.parse_args()
    if given.digits:
        with tempfile.TemporaryDirectory() as out:
            return show("Until settled on digits", on_digits(out))
    for title, part in PARTS.items():
        show(f"{title}; {given.repeats} repeats", part(given.repeats, given.seed))


def show(title, rows):
    """Print rows as a table of Markdown."""
    table = pd.DataFrame(rows).map(lambda v: ("" if np.isnan(v) else f"{v:.3g}") if isinstance(v, float) else v)
    print(f"\n{title}\n\n| {' | '.join(table.columns)} |\n|{'---|' * table.shape[1]}")
    for row in table.itertuples(index=False):
        print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
