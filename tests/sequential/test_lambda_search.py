"""The search for the best strength, on made-up accuracies and on real runs."""

import doctest
import re
import types

import numpy as np
import pandas as pd
import pytest

from experiments import lambda_search, sequential
from experiments.workers import desk, start


class Bench:
    """Accuracies that peak at a strength, with noise that seeds share and noise of their own; it counts the runs."""

    def __init__(self, peak, noise=0.002, shared=0.02):
        self.peak, self.noise, self.shared, self.runs = peak, noise, shared, []

    def __call__(self, strengths, seeds):
        found = {}
        for strength in strengths:
            for seed in seeds:
                self.runs.append((strength, seed))
                common = np.random.default_rng(seed).normal()
                own = np.random.default_rng([seed, int(1e6 * np.log10(strength) + 1e7)]).normal()
                height = 0.9 - 0.05 * np.log10(strength / self.peak) ** 2
                found[strength, seed] = height + self.shared * common + self.noise * own
        return found


@pytest.mark.parametrize("peak", [3e-5, 0.7, 41.0, 2e4, 3e8])
def test_auto_finds_the_peak(peak):
    bench = Bench(peak)
    found = lambda_search.search(bench, seeds=range(40), precision=0.01, ratio=1.5)
    assert abs(np.log10(found.strength / peak)) < 0.3
    assert 0 < found.half_width <= 0.01
    assert found.strength in found.not_worse and found.not_worse == tuple(sorted(found.not_worse))
    assert len(set(bench.runs)) == len(bench.runs)  # nothing is run twice
    tried = sorted(found.table["strength"])
    place = tried.index(found.strength)
    assert tried[place + 1] / tried[place] <= 1.5 and tried[place] / tried[place - 1] <= 1.5


def test_auto_spends_seeds_on_what_may_be_best():
    bench = Bench(41.0, noise=0.01, shared=0.0)
    found = lambda_search.search(bench, seeds=range(40), precision=0.005)
    seeds = found.table.set_index("strength")["seeds"]
    assert seeds[0.01] == 3 < seeds[found.strength] < 40
    assert len(bench.runs) < 0.8 * len(found.table) * found.seeds
    dropped = found.table[~found.table["not_worse"]]
    assert (dropped["difference"] < 0).all() and len(dropped) >= 5
    assert found.table.set_index("strength").loc[list(found.not_worse), "seeds"].eq(found.seeds).all()


def test_looks_share_out_the_chance_of_an_error():
    """However many looks and others there are, the chances add up to at most 1 - confidence."""
    for others in (1, 4, lambda_search.MOST - 1):
        chances = [1 - lambda_search._simultaneous(0.95, others, look) for look in range(1, 200)]
        assert 0.045 < others * sum(chances) < 0.05
        assert others * (1 - lambda_search._simultaneous(0.95, others, 0)) == pytest.approx(0.05)


def test_the_best_of_a_grid_is_hardly_ever_called_worse_however_many_strengths_are_equally_good():
    random, missed = np.random.default_rng(0), 0
    for _ in range(150):
        noise = random.normal(0, 0.01, (40, 12))
        noise[0] += 0.0005  # the best, by a little

        def evaluate(strengths, seeds, noise=noise):
            return {(s, n): 0.9 + noise[int(s) - 1, n] for s in strengths for n in seeds}

        found = lambda_search.search(evaluate, range(1, 41), range(12))
        missed += 1.0 not in found.not_worse
    assert missed <= 0.05 * 150


def test_an_automatic_search_tries_no_more_strengths_than_it_allows_for(monkeypatch):
    monkeypatch.setattr(lambda_search, "MOST", 12)
    found = lambda_search.search(Bench(3e8), seeds=range(4), precision=0.1)
    assert len(found.table) == 12


def test_there_is_no_interval_of_what_the_same_seeds_chose():
    made = {"test_forgetting": 0.1, "test_backward_transfer": -0.1, "validation_accuracy": [0.8, 0.9, 0.8, 0.7]}
    made |= {"measure": ["mas", "mas", "none", "none"], "penalty": ["plain", "plain", "none", "none"]}
    made |= {"strength": [3.0, 3.0, 0.0, 0.0], "seed": [0, 1, 0, 1], "test_accuracy": [0.7, 0.9, 0.5, 0.6]}
    about = {("mas", "plain"): {"strength": 3.0, "search_seeds": 2}, ("none", "none"): {"strength": 0.0}}
    honest, published = (lambda_search._reported(pd.DataFrame(made), about, [0, 1], chose) for chose in (False, True))
    assert honest[["test_low", "test_high", "validation_low"]].notna().all(axis=None)
    chosen = published.iloc[0][["test_low", "test_high", "validation_low", "validation_high"]]
    assert chosen.isna().all() and published["test_accuracy"].tolist() == pytest.approx([0.8, 0.55])
    assert published.iloc[1]["test_low"] == honest.iloc[1]["test_low"]  # an end: nothing was chosen


def test_auto_stops_when_the_seeds_are_used_up():
    found = lambda_search.search(Bench(41.0, noise=0.05), seeds=range(4), precision=1e-6)
    assert found.seeds == 4 and found.half_width > 1e-6


def test_a_grid_is_evaluated_as_it_is():
    bench = Bench(41.0, noise=1e-4)
    found = lambda_search.search(bench, [100.0, 1.0, 50.0, 40.0], seeds=[5, 6, 7])
    assert sorted(bench.runs) == sorted((s, n) for s in (1.0, 40.0, 50.0, 100.0) for n in (5, 6, 7))
    assert found.strength == 40.0 and list(found.table["strength"]) == [1.0, 40.0, 50.0, 100.0]
    assert 1.0 not in found.not_worse and 100.0 not in found.not_worse


def test_intervals_by_hand():
    values = {1.0: [0.80, 0.90, 0.85], 2.0: [0.82, 0.91, 0.88]}
    found = lambda_search.search(
        lambda strengths, seeds: {(s, n): values[s][n] for s in strengths for n in seeds}, [1.0, 2.0], seeds=range(3)
    )
    quantile = 4.302652729911275  # Student's t, two degrees of freedom, 97.5 %
    half = quantile * np.std(values[2.0], ddof=1) / np.sqrt(3)
    assert (found.strength, found.accuracy) == (2.0, pytest.approx(0.87))
    assert found.half_width == pytest.approx(half)
    assert found.table[["low", "high"]].iloc[1].tolist() == pytest.approx([0.87 - half, 0.87 + half])
    row = found.table.iloc[0]  # differences -0.02, -0.01, -0.03
    assert row["difference"] == pytest.approx(-0.02)
    assert row["difference_high"] == pytest.approx(-0.02 + quantile * 0.01 / np.sqrt(3))
    assert found.not_worse == (1.0, 2.0)


def test_a_run_that_exploded_counts_as_zero():
    def evaluate(strengths, seeds):
        return {(s, n): np.nan if s > 5 else 0.5 + 0.01 * s + 1e-3 * n for s in strengths for n in seeds}

    found = lambda_search.search(evaluate, [1.0, 4.0, 10.0], seeds=range(3))
    assert found.strength == 4.0 and found.table["accuracy"].iloc[2] == 0


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"strengths": []}, "at least one, each once; received .."),
        ({"strengths": [1.0, 1.0]}, r"each once; received \[1.0, 1.0\]"),
        ({"strengths": [0.0]}, "strengths to be finite numbers above 0"),
        ({"strengths": "automatic"}, "'auto' or a list of numbers, received 'automatic'"),
        ({"seeds": [1]}, "at least two seeds"),
        ({"seeds": [1, 1]}, "list of at least one, each once|a list, each once"),
        ({"precision": 0.0}, "precision to be a finite number above 0, received 0.0"),
        ({"ratio": 1.0}, "ratio to be a finite number above 1"),
        ({"confidence": 1.0}, "confidence to be a finite number between 0 and 1"),
    ],
)
def test_searches_that_cannot_be(changed, message):
    with pytest.raises(ValueError, match=message):
        lambda_search.search(Bench(1.0), **changed)


SMALL = {"epochs": 2, "learning_rate": 0.01, "options": {"tasks": 2}, "progress": False}


def test_chosen_on_validation_and_reported_on_test_with_other_seeds(tmp_path):
    table, found = lambda_search.run(
        "permuted_digits", ["magnitude"], penalties=["stabilized"], strengths=[0.01, 3.0], search_seeds=[0, 1],
        report_seeds=[2, 3], out=tmp_path, **SMALL,
    )  # fmt: skip
    table = table.set_index("measure")
    best = found["magnitude", "stabilized"]
    frame = sequential.Sequential(
        "permuted_digits", out=tmp_path, **{k: v for k, v in SMALL.items() if k != "progress"}
    ).store.frame()  # fmt: skip
    summary = sequential.summary(frame).set_index(["measure", "strength", "seed"])
    for strength in (0.01, 3.0):
        searched = summary.loc[[("magnitude", strength, n) for n in (0, 1)], "validation_accuracy"].mean()
        assert best.table.set_index("strength")["accuracy"][strength] == pytest.approx(searched)
    reported = summary.loc[[("magnitude", best.strength, n) for n in (2, 3)], "test_accuracy"].mean()
    assert table["test_accuracy"]["magnitude"] == pytest.approx(reported)
    of_report = summary.loc[[("magnitude", best.strength, n) for n in (2, 3)], "validation_accuracy"]
    half = 12.706204736432095 * of_report.std() / np.sqrt(2)  # Student's t, one degree of freedom
    bounds = [of_report.mean() - half, of_report.mean(), of_report.mean() + half]
    columns = ["validation_low", "validation_accuracy", "validation_high"]
    assert table.loc["magnitude", columns].tolist() == pytest.approx(bounds)
    assert table["strength"]["magnitude"] == best.strength and table["seeds"].eq(2).all()
    assert table["test_accuracy"]["joint"] > table["test_accuracy"]["none"]
    assert len(summary) == 2 * 2 + 2 + 2 * 2  # the search, the report, two ends


@pytest.mark.slow
def test_workers_find_what_one_process_finds(tmp_path, monkeypatch):
    steps, original = [], start.start

    def recorded(runs, workers, *rest):
        steps.append((workers, sum(map(len, runs.trials().values()))))
        original(runs, workers, *rest)

    monkeypatch.setattr(start, "start", recorded)
    given = {"penalties": ["stabilized"], "strengths": [0.01, 3.0], "search_seeds": [0, 1], "report_seeds": [2]}
    one, _ = lambda_search.run("permuted_digits", ["random", "magnitude"], out=tmp_path, **given, **SMALL)
    # The search of both measures at once; the report of one, with the two ends; nothing left to search; the other's.
    assert steps == [(1, 2 * 2 * 2), (1, 1 + 2), (1, 1)]
    (path,) = tmp_path.glob("*.csv")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not re.search(r"magnitude,.*,[01],\d,\d,", line)))
    steps.clear()
    two, _ = lambda_search.run("permuted_digits", ["magnitude"], out=tmp_path, workers=2, **given, **SMALL)
    assert steps == [(2, 2 * 2)]
    # The workers compile with XLA, and have one thread each: an image more or less.
    pd.testing.assert_frame_equal(two, one[1:].reset_index(drop=True), check_exact=False, rtol=0, atol=0.01)
    assert list(two["strength"]) == list(one["strength"][1:]) and two["seeds"].eq(1).all()


def test_who_joins_a_search_waits_for_the_runs_of_others(tmp_path, monkeypatch):
    given = {"penalties": ["stabilized"], "strengths": [0.01, 3.0], "search_seeds": [0, 1], "report_seeds": [2]}
    runs = sequential.Sequential(
        "permuted_digits", out=tmp_path, **{k: v for k, v in SMALL.items() if k != "progress"}
    )  # fmt: skip
    held = desk.Desk(runs).lock("magnitude-stabilized-3-seed-1")
    assert held.take(done=0)
    monkeypatch.setattr(lambda_search, "time", types.SimpleNamespace(sleep=lambda seconds: held.release()))
    table, found = lambda_search.run("permuted_digits", ["magnitude"], out=tmp_path, workers="join", **given, **SMALL)
    assert found["magnitude", "stabilized"].seeds == 2 and table["seeds"].eq(1).all()


def test_an_estimate_counts_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(sequential.Sequential, "seconds", lambda runs: 30.0)
    given = {"penalties": ["stabilized"], "search_seeds": [0, 1], "report_seeds": [2], "out": tmp_path, **SMALL}
    asked = {"measures": ["magnitude", "random"], "strengths": {"magnitude": [0.01, 3.0], "random": "auto"}}
    found = lambda_search.estimate("permuted_digits", **asked, **given)
    search = 2 * 2 + (len(lambda_search.DECADES) + 6) * 2
    assert found == (search + 2 + 2, search + 4, 30.0 * (search + 4))
    small = {"measures": ["magnitude"], "strengths": [0.01, 3.0]}
    lambda_search.run("permuted_digits", **small, **given)
    again = lambda_search.estimate("permuted_digits", **small, **given)
    assert again == (4 + 1 + 2, 0, 0.0) and str(again) == "7 runs, 0 of them to do: about 0.0 minutes here."
    # The published protocol reports the seeds that it searched with.
    published = lambda_search.estimate("permuted_digits", **small, **given, protocol="published")
    assert published.runs == published.missing == 4 + 2 * 2


def test_seconds_of_a_run_from_timing_or_from_the_file(tmp_path):
    settings = {key: value for key, value in SMALL.items() if key != "progress"}
    runs = sequential.Sequential(
        "permuted_digits", out=tmp_path, measures=["magnitude"], penalties=["plain"], strengths=[1.0], ends=False,
        **settings,
    )  # fmt: skip
    assert 0 < runs.seconds() < 60
    rows = runs.run(progress=False)
    assert runs.seconds() == pytest.approx(rows[rows["on_task"] == 1]["seconds"].sum())


@pytest.mark.parametrize("own", [{("mas", "plain"): [1.0]}, {"mas": [1.0]}, {"mas": {"plain": [1.0]}}, [1.0]])
def test_strengths_of_each_measures_own(own):
    assert lambda_search._own(own, "mas", "plain") == [1.0]
    if isinstance(own, dict):
        with pytest.raises(ValueError, match=r"none for 'fisher' with 'plain'\. Add them under"):
            lambda_search._own(own, "fisher", "plain")


def test_what_cannot_be_is_said_before_the_first_run(tmp_path):
    given = {"measures": ["magnitude", "random"], "search_seeds": [0, 1], "out": tmp_path}
    for changed, message in [
        ({"strengths": {"magnitude": [1.0]}}, "none for 'random' with 'plain'"),
        ({"strengths": {"magnitude": [1.0], "random": []}}, "at least one, each once; received .."),
        ({"report_seeds": []}, "report_seeds to be a list of at least one"),
        ({"search_seeds": [0]}, r"at least two seeds, to compare strengths by; received \[0\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            lambda_search.run("permuted_digits", **{**given, **changed})
    assert not list(tmp_path.glob("*.csv"))


def test_without_measures_there_are_the_two_ends(tmp_path):
    table, found = lambda_search.run("permuted_digits", [], report_seeds=[7], out=tmp_path, **SMALL)
    assert list(table["measure"]) == ["none", "joint"] and table["seeds"].eq(1).all() and not found


def test_an_array_of_strengths_and_a_precision_that_is_not_reached(tmp_path, monkeypatch):
    given = {"penalties": ["stabilized"], "search_seeds": [0, 1], "report_seeds": [2], "out": tmp_path, **SMALL}
    grid = np.array([0.01, 3.0])
    for strengths in (grid, {"magnitude": grid}):
        assert lambda_search.estimate("permuted_digits", ["magnitude"], strengths=strengths, **given).runs == 4 + 1 + 2
    monkeypatch.setattr(lambda_search, "DECADES", (0.1,))
    monkeypatch.setattr(lambda_search, "_neighbours", lambda *rest: set())
    with pytest.warns(UserWarning, match="known to .*, not to the precision of 1e-09 that was asked for: its 2 seeds"):
        table, found = lambda_search.run("permuted_digits", ["magnitude"], precision=1e-9, **given)
    best, row = found["magnitude", "stabilized"], table.set_index("measure").loc["magnitude"]
    assert row["search_accuracy"] == best.accuracy and "search_low" not in table


def test_seeds_for_both_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"received \[1\] in both. A strength that is chosen"):
        lambda_search.run("permuted_digits", ["magnitude"], search_seeds=[0, 1], report_seeds=[1, 2], out=tmp_path)


def test_only_what_is_a_column_can_be_asked_for(tmp_path):
    runs = sequential.Sequential("permuted_digits", out=tmp_path)
    with pytest.raises(ValueError, match=r"received epochs, sequence\. Make another Sequential"):
        runs.asking(epochs=3, sequence="split_digits")


def test_search_doctests():
    results = doctest.testmod(lambda_search)
    assert results.attempted and not results.failed
