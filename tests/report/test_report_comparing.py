"""What is probable, what a pair says by itself, and how scores are distributed: against other code and by hand."""

import baycomp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import report
from report.statistics.bayes import signed_rank_posterior
from report.statistics.tests import wilcoxon

ERROR = 4 * np.sqrt(0.25 / 10_000 + 0.25 / 4000)
"""Four standard errors of the difference of two shares, of the draws here and of those of the other code."""


@pytest.mark.parametrize("mean", [0.0, 0.006, 0.012, 0.03])
@pytest.mark.parametrize("blocks", [5, 16])
def test_probabilities_are_those_of_baycomp(mean, blocks):
    differences = np.random.default_rng([blocks, int(1000 * mean)]).normal(mean, 0.02, blocks)
    options = {"prior": 0.6, "nsamples": 4000, "random_state": 0}
    expected = baycomp.SignedRankTest.probs(np.zeros(blocks), differences, 0.01, **options)
    found = signed_rank_posterior(differences, 0.01)
    assert found[::-1] == pytest.approx(
        expected, abs=ERROR
    )  # theirs begins with the first, whose differences are below
    assert found.sum() == pytest.approx(1) and signed_rank_posterior(-differences, 0.01) == pytest.approx(found[::-1])


def test_probabilities_of_clear_cases():
    clear = signed_rank_posterior(np.array([[0.1] * 12, [-0.1] * 12, [0.001] * 12]), 0.01)
    assert clear == pytest.approx(np.array([[1, 0, 0], [0, 0, 1], [0, 1, 0]]), abs=0.01)
    assert signed_rank_posterior(np.full(12, 0.01), 0.01).tolist() == [0, 1, 0]  # just at the margin, half of it within
    with pytest.raises(ValueError, match=r"a margin above 0, .* received 0"):
        signed_rank_posterior([0.1], 0)


def test_posteriors_of_a_frame_have_the_pairs_of_its_ordering(make_grid):
    frame = make_grid({"a": 0.7, "b": 0.5, "c": 0.502}, levels=("weight", "unit"))
    found, ordered = report.posterior(frame, samples=500), report.order(frame, resamples=9)
    names = ["level", "better", "worse"]
    pd.testing.assert_frame_equal(found[names], ordered.pairs[names])
    assert found[["p_better", "p_equal", "p_worse"]].sum(axis=1).tolist() == pytest.approx([1] * 6)
    assert (found["p_better"] > 0.9).tolist() == [True, True, False] * 2 and set(found["blocks"]) == {10}


def test_a_cell_of_the_matrix_is_of_its_pair_alone(make_grid):
    frame = make_grid({"a": 0.7, "b": 0.5, "c": 0.2})
    found, few = report.comparisons(frame), report.comparisons(frame[frame["measure"] != "c"])
    assert found["measure"].drop_duplicates().tolist() == ["a", "b", "c"]
    without = found[~found[["measure", "other"]].eq("c").any(axis=1)].reset_index(drop=True)
    pd.testing.assert_frame_equal(without, few)
    areas = report.scores(frame).pivot(index="seed", columns="measure", values="area")
    gain = (areas["b"] - areas["a"]).to_numpy()
    first, back = few.iloc[0], few.iloc[1]
    assert (
        first["mean_difference"] == pytest.approx(gain.mean()) and back["mean_difference"] == -first["mean_difference"]
    )
    assert (first["wins"], first["ties"], first["losses"]) == (10, 0, 0) == tuple(back[["losses", "ties", "wins"]])
    assert first["p"] == back["p"] == wilcoxon(gain)


def test_ties_are_ties_and_larger_tolerances_win(make_grid):
    frame = make_grid({"a": 0.5})
    same = report.comparisons(pd.concat([frame, frame.assign(measure="b")]))
    assert same[["wins", "ties", "losses", "p"]].to_numpy().tolist() == [[0, 10, 0, 1]] * 2
    tolerant = report.comparisons(make_grid({"a": 0.7, "b": 0.2}), score="tolerance")
    assert tolerant["measure"].tolist() == ["a", "b"] and tolerant["mean_difference"][0] > 0


def test_profiles_weigh_tasks_alike_and_count_networks(make_grid):
    frame = pd.concat(
        [make_grid({"a": 0.7, "b": 0.2}, seeds=seeds, task=task, run=task) for task, seeds in (("x", 2), ("y", 6))]
    )
    found = report.profiles(frame, points=21)
    scores = report.scores(frame)
    for row in found.itertuples():
        of = scores[scores["measure"] == row.measure]
        shares = [(part["area"] <= row.score_reached).mean() for _, part in of.groupby("task")]
        assert row.share == pytest.approx(np.mean(shares)) and (row.tasks, row.networks) == (2, 8)
    by = found.pivot(index="score_reached", columns="measure", values="share")
    assert (by.diff().dropna() >= 0).all(axis=None) and (by["a"] >= by["b"]).all()
    assert by.iloc[0].tolist() == [0, 0] and by.iloc[-1].tolist() == [1, 1]
    tolerance = report.profiles(frame, score="tolerance", points=5).pivot(index="score_reached", columns="measure")
    assert tolerance["share"].iloc[0].tolist() == [1, 1]  # every network tolerates nothing


def test_figures_hold_the_numbers_that_they_are_given(make_grid):
    frame = make_grid({"a": 0.7, "b": 0.5, "c": 0.2}, seeds=12, levels=("weight", "unit"))
    cells = report.comparisons(frame)
    figure = report.comparison_matrix(cells[cells["level"] == "weight"])
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert len(texts) == 9 and texts[0] == "–" and "12/0/0" in texts[1] and "0/0/12" in texts[3]
    assert f"{cells['mean_difference'][0]:+.3f}" in texts[1]
    with pytest.raises(ValueError, match="cells of one group"):
        report.comparison_matrix(cells)
    shares = report.profiles(frame)
    axis = report.performance_profiles(shares).axes[0]
    drawn = {line.get_label(): line.get_ydata() for line in axis.get_lines()}
    of_a = shares[(shares["measure"] == "a") & (shares["level"] == "weight")]["share"]
    assert list(drawn["a"]) == list(of_a) and set(drawn) == {"a", "b", "c"}
    counts = report.settling(frame)
    figure = report.settled_pairs(counts)
    fixed = counts[(counts["level"] == "weight") & ~counts["anytime"]]
    assert [a.get_title() for a in figure.axes] == ["mnist, mlp, weight", "mnist, mlp, unit"]
    assert list(figure.axes[0].get_lines()[0].get_ydata()) == list(fixed["settled"])


def test_figures_draw_into_given_axes(make_grid):
    frame = make_grid({"a": 0.7, "b": 0.2}, seeds=8)
    figure, axes = plt.subplots(1, 3)
    drawn = [
        report.comparison_matrix(report.comparisons(frame), ax=axes[0]),
        report.performance_profiles(report.profiles(frame), ax=axes[1]),
        report.settled_pairs(report.settling(frame), ax=axes[2]),
    ]
    assert all(one is figure for one in drawn) and all(axis.has_data() for axis in axes)
    plt.close(figure)
