"""Whether orders depend on a choice, how far measures are from a line, and that lines take no part in orders."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import report
from report.statistics.tests import holm, wilcoxon
from report.tables.columns import REQUIRED

BY = ["task", "model", "level"]


def area(frame, **where):
    """Areas by network and measure, (networks, measures)."""
    scored = report.scores(frame)
    for name, value in where.items():
        scored = scored[scored[name] == value]
    return scored.pivot(index="seed", columns="measure", values="area")


@pytest.fixture
def two(make_grid):
    """Two calibrations: of the second a and b change places, and c is better by about 0.1."""
    few = make_grid({"a": 0.6, "b": 0.3, "c": 0.45}, seeds=12, calibration="training:100")
    many = make_grid({"a": 0.3, "b": 0.6, "c": 0.55}, seeds=12, calibration="training:1000")
    return pd.concat([few, many], ignore_index=True)


def test_dependence_by_hand(two):
    found = report.dependence(two)
    one, other = (area(two, calibration=f"training:{n}") for n in (100, 1000))
    (row,) = found.table.to_dict("records")
    assert (row["one"], row["other"], row["blocks"], row["measures"]) == ("training:100", "training:1000", 12, 3)
    assert row["tau"] == pytest.approx(stats.kendalltau(one.mean(), other.mean()).statistic)
    taus = [stats.kendalltau(one.loc[seed], other.loc[seed]).statistic for seed in one.index]
    assert row["tau_mean"] == pytest.approx(np.mean(taus))
    mean = (one - other).mean(axis=1)
    assert row["difference"] == pytest.approx(mean.mean())
    low, high = stats.t.interval(0.95, 11, mean.mean(), stats.sem(mean))
    assert (row["difference_low"], row["difference_high"]) == pytest.approx((low, high))
    assert (row["pairs"], row["told_apart"], row["opposite"]) == (3, 3, 3)
    differences = found.measures.set_index("measure")["difference"]
    np.testing.assert_allclose(differences, (one - other).mean(), rtol=1e-12)
    (said,) = found.sentences
    assert "with calibration training:100 and with calibration training:1000: Kendall's tau -1.00" in said
    assert "3 of 3 pairs told apart under both are the other way round" in said and "12 networks" in said


def test_orders_that_agree(make_grid):
    frame = pd.concat([make_grid({"a": 0.6, "b": 0.3}, seeds=10, fill=fill) for fill in ("noise", "zero")])
    found = report.dependence(frame, "fill")
    assert "Kendall's tau 1.00" in str(found) and "none of 1 pair told apart under both" in str(found)
    with pytest.raises(ValueError, match="Expected two values of scope or more"):
        report.dependence(frame, "scope")
    with pytest.raises(ValueError, match=r"Expected an axis among level, .*received 'seed'"):
        report.dependence(frame, "seed")


def test_choices_are_those_of_one_network(two, make_grid):
    assert report.choices(two) == ["calibration"]
    frame = pd.concat([make_grid({"a": 0.6}, scope=scope, fill=fill) for scope in "xy" for fill in "zx"])
    assert report.choices(frame) == ["scope", "fill"]
    elsewhere = make_grid({"a": 0.6}, task="digits", scope="y")
    assert report.choices(pd.concat([make_grid({"a": 0.6}, scope="x"), elsewhere])) == []


def test_oracles_that_are_there(make_grid):
    frame = make_grid({"shapley:permutations=3": 0.5, "greedy": 0.8, "obd": 0.6})
    assert report.oracles_in(frame) == ["greedy", "shapley:permutations=3"]
    assert report.oracles_in(frame[frame["measure"] == "obd"]) == []


def test_calibrations_are_never_averaged(two):
    tests = report.order(two).tests
    assert tests["calibration"].tolist() == ["training:100", "training:1000"] and tests["blocks"].tolist() == [12, 12]


def test_repairs_are_never_averaged_and_a_file_that_compares_none_has_none(make_grid, write):
    as_it_is = make_grid({"a": 0.6, "b": 0.3, "c": 0.45}, seeds=12)
    repaired = make_grid({"a": 0.8, "b": 0.9, "c": 0.7}, seeds=12, repair="least_squares")
    plain = report.read(write(as_it_is, "plain.csv"))
    assert set(plain["repair"]) == {"none"} and "repair" not in report.order(plain).tests
    both = pd.concat([as_it_is.assign(repair="none"), repaired], ignore_index=True).assign(run="both")
    file = write(both, "both.csv", (*REQUIRED, "repair", "status"))
    ordering = report.order(report.read(file))
    assert ordering.tests["repair"].tolist() == ["least_squares", "none"]
    assert ordering.tests["blocks"].tolist() == [12, 12]
    assert "repair least_squares" in str(ordering.summary)
    # Read with the other file, whose networks these are, each counts once.
    tests = report.order(report.read(file.parent)).tests
    assert dict(zip(tests["repair"], tests["blocks"], strict=True)) == {"least_squares": 12, "none": 12}
    (row,) = report.dependence(report.read(file), "repair").table.to_dict("records")
    assert (row["one"], row["other"], row["blocks"]) == ("least_squares", "none", 12)


def test_a_file_without_calibrations_is_of_what_its_settings_say(two, tmp_path):
    plain = two[two["calibration"] == "training:100"].drop(columns=["chance_loss", "chance_accuracy", "calibration"])
    new = two[two["calibration"] == "training:1000"].drop(columns=["chance_loss", "chance_accuracy"])
    for name, frame, settings in (
        ("old", plain, {"scored_on": "training", "examples": 100}),
        ("all", plain.assign(run="all"), {"scored_on": "validation", "examples": None}),
        ("new", new.assign(run="new"), {}),
    ):
        frame.drop(columns="status").assign(status="ok").to_csv(tmp_path / f"{name}.csv", index=False)
        (tmp_path / f"{name}.json").write_text(json.dumps({"settings": settings, "classes": 10}))
    assert report.read(tmp_path / "old.csv")["calibration"].isna().all()
    together = report.read(tmp_path).groupby("run")["calibration"].unique()
    assert {run: list(found) for run, found in together.items()} == {
        "run": ["training:100"], "all": ["validation"], "new": ["training:1000"],
    }  # fmt: skip


@pytest.fixture
def with_line(make_grid):
    return make_grid({"near": 0.6, "far": 0.4, "random": 0.3, "greedy": 0.65, "shapley": 0.62}, seeds=10)


def test_regret_by_hand(with_line):
    found = report.regret(with_line)
    areas = area(with_line)
    regrets = areas.drop(columns="greedy").sub(areas["greedy"], axis=0)
    rows = found.table.set_index("measure")
    assert list(rows.index) == list(regrets.mean().sort_values().index)
    np.testing.assert_allclose(rows["regret"], regrets.mean()[rows.index], rtol=1e-12)
    low, high = stats.t.interval(0.95, 9, regrets["far"].mean(), stats.sem(regrets["far"]))
    assert (rows.loc["far", "regret_low"], rows.loc["far", "regret_high"]) == pytest.approx((low, high))
    measures = regrets[["near", "far", "random"]]
    adjusted = pd.Series(holm(wilcoxon(measures.to_numpy().T)), measures.columns)
    np.testing.assert_allclose(rows.loc[measures.columns, "p_holm"], adjusted)
    assert np.isnan(rows.loc["shapley", "p_holm"])
    means = areas.mean()
    attained = (means["random"] - means["near"]) / (means["random"] - means["greedy"])
    assert rows.loc["near", "attained"] == pytest.approx(attained) and rows.loc["random", "attained"] == 0
    (said,) = found.sentences
    assert "of 3 measures near is closest to greedy: its area is worse by" in said and "10 networks" in said
    assert f"that is {attained:.0%} of the way from random to greedy" in said


def test_of_a_score_where_larger_is_better_regret_is_above_zero_too(with_line):
    found = report.regret(with_line, score="tolerance").table.set_index("measure")
    assert found.loc["far", "regret"] > 0.1


def test_lines_take_no_part_in_orders(with_line):
    ordering = report.order(with_line)
    assert set(ordering.table["measure"]) == {"near", "far", "random"} and len(ordering.pairs) == 3
    with pytest.raises(ValueError, match=r"Expected the line 'greedy'.*oracles=\['greedy'\]"):
        report.regret(with_line[with_line["measure"] != "greedy"])


def test_the_figure_shows_every_regret(with_line, make_grid):
    figure = report.plot_regret(report.regret(with_line))
    (axis,) = figure.get_axes()
    shown = [label.get_text() for label in axis.get_yticklabels()][::-1]
    assert shown == report.regret(with_line).table["measure"].tolist()
    assert axis.get_xlabel() == "regret to greedy" and "10 networks" in axis.get_title()
    several = pd.concat([with_line, with_line.assign(level="unit")])
    assert len(report.plot_regret(report.regret(several), most=1).get_axes()) == 2
