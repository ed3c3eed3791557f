"""Evidence that may be looked at after every network: its formulas, its level, and what an ordering makes of it."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import integrate

import report
from report.statistics.evidence import (
    blocks_to_settle,
    e_holm,
    equality_evidence,
    largest_evidence,
    median_sequence,
    sign_evidence,
)  # fmt: skip
from report.statistics.tests import sign_test
from report.tables.columns import REQUIRED

FAST = {"resamples": 19}
DIFFERENCES = arrays.arrays(float, st.integers(1, 25), elements=st.floats(-1, 1).map(lambda x: round(x, 2)))


def likelihood_ratio(more, less, start=0.0):
    """The mixture by numerical integration: chance = sin^2 of an angle that is uniform, which is Beta(1/2, 1/2)."""
    low = np.arcsin(np.sqrt(start))
    over, _ = integrate.quad(lambda a: np.sin(a) ** (2 * more) * np.cos(a) ** (2 * less), low, np.pi / 2)
    return 2.0 ** (more + less) * over / (np.pi / 2 - low)


def signs(more, less):
    return np.array([0.1] * more + [-0.2] * less)


@pytest.mark.parametrize("more, less", [(0, 0), (7, 0), (0, 7), (5, 2), (20, 10)])
def test_evidence_is_the_mixture_of_likelihood_ratios(more, less):
    assert sign_evidence(signs(more, less)) == pytest.approx(likelihood_ratio(more, less))
    one_sided = likelihood_ratio(more, less, start=0.5), likelihood_ratio(less, more, start=0.5)
    differences = np.where(signs(more, less) > 0, 0.0, -0.2)  # within the margin or below it
    both = min(one_sided[0], likelihood_ratio(more + less, 0, start=0.5))
    assert equality_evidence(differences, 0.1) == pytest.approx(both)


def test_unanimous_networks_that_it_takes():
    assert [blocks_to_settle(pairs) for pairs in (1, 10, 45, 276, 300)] == [7, 11, 13, 16, 16]
    assert largest_evidence(16, 276) >= 20 > largest_evidence(15, 276)
    assert sign_evidence(signs(9, 0)) == largest_evidence(9)


def chance_of_ever(evidence, chance, looks, first=1.0, second=-1.0):
    """Count exactly how probable it is that evidence ever reaches 20, looking after each of so many throws of a coin.

    Args:
        evidence: callable. From an array (counts, throws), whose rows have one head more each, to the evidence of each.
        chance: float. Of the first side, a difference of `first`; the other is one of `second`.
    """
    going, alarm = np.array([1.0]), 0.0
    for throws in range(1, looks + 1):
        going = np.append(going * (1 - chance), 0) + np.append(0, going * chance)
        heads = np.arange(throws) < np.arange(throws + 1)[:, None]
        hit = evidence(np.where(heads, first, second)) >= 20
        alarm += going[hit].sum()
        going[hit] = 0
    return alarm


def test_looking_after_each_of_150_networks_keeps_the_level_exactly():
    assert 0.02 < chance_of_ever(sign_evidence, 0.5, 150) <= 0.05
    assert chance_of_ever(lambda d: 1 / sign_test(d), 0.5, 150) > 0.15  # of a test for a fixed number
    for chance in (0.5, 0.3):  # at most half of them within the margin: the median may be outside
        assert chance_of_ever(lambda d: equality_evidence(d, 0.1), chance, 150, first=0.0, second=9.0) <= 0.05


def test_the_wrong_side_is_called_no_more_often_than_the_level():
    def of_the_first(differences):
        return np.where(differences.sum(-1) > 0, sign_evidence(differences), 0)

    assert all(chance_of_ever(of_the_first, chance, 150) <= 0.05 for chance in (0.5, 0.45, 0.3))


@given(DIFFERENCES)
def test_evidence_does_not_see_ties_sides_or_the_order(differences):
    e = sign_evidence(differences)
    assert sign_evidence(-differences) == pytest.approx(e)
    assert sign_evidence(np.append(differences[::-1], [0.0, 0.0])) == pytest.approx(e)
    assert equality_evidence(-differences, 0.3) == pytest.approx(equality_evidence(differences, 0.3))
    stacked = np.stack([differences, -differences])
    assert sign_evidence(stacked) == pytest.approx([e, e])


@given(arrays.arrays(float, st.integers(1, 40), elements=st.integers(-99, 99).map(float), unique=True))
def test_the_confidence_sequence_holds_what_the_evidence_does_not_exclude(differences):
    low, high = median_sequence(differences)
    ordered = np.sort(differences)
    inside = [c for c in (ordered[1:] + ordered[:-1]) / 2 if sign_evidence(differences - c) < 20]
    if np.isnan(low):
        assert len(differences) < 7
    else:
        assert all(low <= c <= high for c in inside)
        outside = [c for c in (ordered[1:] + ordered[:-1]) / 2 if not low <= c <= high]
        assert all(sign_evidence(differences - c) >= 20 for c in outside)


@given(arrays.arrays(float, st.integers(1, 8), elements=st.floats(0, 1e4)))
def test_e_holm_rejects_what_closed_testing_by_means_of_bonferroni_does(evidence):
    """A hypothesis falls if each set that holds it has a member whose evidence reaches the size of the set / alpha."""
    adjusted, sets = e_holm(evidence), range(len(evidence))
    for one in sets:
        least = min(
            max(evidence[i] for i in chosen) / len(chosen)
            for size in range(1, len(evidence) + 1)
            for chosen in itertools.combinations(sets, size)
            if one in chosen
        )
        assert adjusted[one] == pytest.approx(least)


def test_orderings_of_a_run_that_is_looked_at(make_grid):
    frame = make_grid({"a": 0.7, "b": 0.5, "c": 0.2}, seeds=12)
    found = report.order(frame, anytime=True, **FAST)
    assert found.sentences[0].startswith("on mnist/mlp/weight, a > b > c by area (smaller is better; evidence of any")
    assert "Friedman" not in str(found) and "p =" not in str(found) and "p <" not in str(found)
    assert "Pairs: anytime-valid" in found.sentences[-1] and found.tests["anytime"].tolist() == [True]
    pair = found.pairs.iloc[0]
    assert pair["e"] == pytest.approx(largest_evidence(12)) and pair["e_holm"] == pytest.approx(pair["e"] / 3)
    assert found.tests["e"][0] == pytest.approx(found.pairs["e"].mean())
    assert f"difference {pair['difference']:.3f}, median in [{pair['low']:.3f}, {pair['high']:.3f}], e = 220" in str(
        found
    )
    assert found.settled == report.settled(frame) == (3, 3)
    fixed = report.order(frame, **FAST)
    assert "Friedman" in str(fixed) and "e = " not in str(fixed) and fixed.tests["anytime"].tolist() == [False]
    assert "fixed beforehand, exact Wilcoxon" in fixed.sentences[-1]
    pd.testing.assert_series_equal(found.pairs["difference"], fixed.pairs["difference"])


def test_too_few_to_settle_and_how_many_it_takes(make_grid):
    found = report.order(make_grid({"a": 0.7, "b": 0.5, "c": 0.2}, seeds=8), anytime=True, **FAST)
    assert found.settled == (0, 3)
    assert "too few blocks to settle pairs: with 8 networks and 3 pairs no adjusted e-value can exceed 16.8; 9" in str(
        found
    )
    assert report.power(8, 3, anytime=True) == (
        "Tests: 8 networks cannot tell 3 measures apart, at any look. It takes 9 that agree to settle the first pair, "
        "or 8 if all are compared with one."
    )


def of_gains(make_grid, gains):
    scores = report.scores(make_grid({"a": 0.5, "b": 0.5}, seeds=len(gains)))
    return scores.assign(area=np.where(scores["measure"] == "a", 0.5, 0.5 + np.asarray(gains)[scores["seed"]]))


def test_practically_equal_takes_most_differences_within_the_margin(make_grid):
    around = [0.004, -0.004] * 6
    assert report.order(of_gains(make_grid, around), anytime=True, **FAST).pairs["verdict"].tolist() == [
        "practically equal"
    ]
    assert report.order(of_gains(make_grid, around), anytime=True, margin=0.001, **FAST).settled == (0, 1)
    said = str(report.order(of_gains(make_grid, around), anytime=True, **FAST))
    assert f"e = {equality_evidence(np.array(around), 0.01):.3g}" in said or "e > 1000" in said
    inside = report.order(of_gains(make_grid, [0.004] * 12), anytime=True, **FAST)
    assert inside.pairs["verdict"].tolist() == ["better, within the margin"]
    same = report.order(of_gains(make_grid, [0.0] * 12), anytime=True, margin=0, **FAST)
    assert same.pairs["verdict"].tolist() == ["practically equal"] and same.pairs["e"].tolist() == [1]


def test_signs_and_signed_ranks_that_disagree_tell_nothing_apart(make_grid):
    gains = [0.001 + 1e-5 * n for n in range(24)] + [-0.5 - 0.01 * n for n in range(4)] * 2
    gains = [gain + 1e-6 * n for n, gain in enumerate(gains)][:29]
    # 24 small differences one way, 5 large ones the other: the signs are sure, and so is no one else.
    pair = report.order(of_gains(make_grid, gains), anytime=True, **FAST).pairs.iloc[0]
    assert pair["e_holm"] > 20 and pair["better"] == "a" and pair["verdict"].startswith("better")
    turned = [0.001 + 1e-5 * n for n in range(24)] + [-0.5 - 0.01 * n for n in range(5)]
    heavy = [np.sign(g) * (abs(g) if g > 0 else 9) for g in turned]
    assert report.order(of_gains(make_grid, heavy), anytime=True, **FAST).pairs["better"][0] == "a"
    # Of 41 networks, 28 differ a little one way and 13 much more the other, whose ranks weigh more.
    circle = [0.001 + 1e-5 * n for n in range(28)] + [-0.5 - 0.01 * n for n in range(13)]
    pair = report.order(of_gains(make_grid, circle), anytime=True, margin=0, alpha=0.5, **FAST).pairs.iloc[0]
    assert pair["better"] == "b" and pair["improvement"] < 0.5 and pair["e_holm"] > 2
    assert pair["verdict"] == "not told apart"


def run_file(folder, frame, **about):
    columns = [*REQUIRED, "status"]
    path = folder / "run.csv"
    frame[columns].to_csv(path, index=False)
    path.with_suffix(".json").write_text(json.dumps({"settings": {}, "chance_loss": np.log(10), **about}))
    return path


def test_who_reads_a_growing_run_gets_what_may_be_looked_at(make_grid, tmp_path):
    frame = make_grid({"a": 0.7, "b": 0.2}, seeds=8)
    for about, grows in [
        ({}, False),
        ({"asked": len(frame)}, False),
        ({"asked": len(frame) + 1}, True),
        ({"asked": len(frame), "until": "settled"}, True),
    ]:
        read = report.read(run_file(tmp_path, frame, **about))
        assert set(read["anytime"]) == {grows}
        found = report.order(read, **FAST)
        assert found.tests["anytime"].tolist() == [grows]
        assert report.order(report.scores(read), **FAST).tests["anytime"].tolist() == [grows]
        assert report.order(read, anytime=not grows, **FAST).tests["anytime"].tolist() == [not grows]
    assert "not to be read from a look" in str(report.order(read, anytime=False, **FAST))
    assert "not to be read" not in str(report.order(read, **FAST))
    # A part of the run that a worker still writes is a part of it.
    run_file(tmp_path, frame[frame["seed"] < 5], asked=len(frame))
    columns = [*REQUIRED, "status"]
    frame.loc[frame["seed"] >= 5, columns].to_csv(tmp_path / "run+seed-5.csv", index=False)
    assert set(report.read(tmp_path)["anytime"]) == {False}


def test_means_of_tasks_that_still_change_are_not_looked_at(make_grid):
    frame = pd.concat([make_grid({"a": 0.7, "b": 0.2}, seeds=2, task=task, run=task) for task in "abcdefgh"])
    found = report.order(frame.assign(anytime=True), by=["level"], **FAST)
    assert found.tests["anytime"].tolist() == [False] and "not to be read from a look" in str(found)
    both = report.order(pd.concat([frame.assign(anytime=frame["task"] == "a")]), **FAST)
    assert both.tests["anytime"].tolist() == [True] + [False] * 7
    assert [s.split(":")[0] for s in both.sentences[-2:]] == [
        "Pairs of finished runs",
        "Pairs of runs that are growing",
    ]


def test_a_frame_of_a_grid_says_whether_it_grows_in_its_attributes(make_grid):
    frame = make_grid({"a": 0.7, "b": 0.2}, seeds=8)
    frame.attrs["anytime"] = True
    assert report.order(frame, **FAST).tests["anytime"].tolist() == [True]


def test_what_anytime_can_be(make_grid):
    with pytest.raises(ValueError, match=r"anytime to be True, False or None .*received 'always'"):
        report.order(make_grid({"a": 0.7, "b": 0.2}), anytime="always")


def test_settling_counts_after_each_network(make_grid):
    frame = make_grid({"a": 0.7, "b": 0.5, "c": 0.2}, seeds=12)
    found = report.settling(frame)
    assert found["blocks"].tolist() == [n for n in range(2, 13) for _ in range(2)]
    for row in found[found["anytime"]].itertuples():
        part = report.order(frame[frame["seed"] < row.blocks], anytime=True, **FAST)
        assert (row.settled, row.pairs) == part.settled and row.settled == row.better + row.equal
    last = found.iloc[-1]
    assert not last["anytime"] and last["settled"] == report.order(frame, anytime=False, **FAST).settled[0]
