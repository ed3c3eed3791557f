"""Scores of curves that can be worked out by eye, and every flag."""

import math

import numpy as np
import pandas as pd
import pytest
from report_frames import LOG10

import report
from report.grid.scores import FLAGS, area, tolerance
from report.statistics.intervals import student_t


def only(frame):
    """The scores of the only curve."""
    found = report.scores(frame)
    assert len(found) == 1
    return found.iloc[0]


def test_area_by_hand(make_curve):
    assert only(make_curve([0, 0, 1]))["area"] == pytest.approx(0.25)
    assert only(make_curve([0, 1, 1]))["area"] == pytest.approx(0.75)
    assert only(make_curve([0, 0.5, 1]))["area"] == pytest.approx(0.5)


def test_area_of_uneven_thresholds(make_curve):
    # 0.1 * 1/2 + 0.1 * 1 + 0.8 * 1 and 0.8 * 0 + 0.2 * 1/2
    assert only(make_curve([0, 1, 1, 1], [0, 0.1, 0.2, 1]))["area"] == pytest.approx(0.95)
    assert only(make_curve([0, 0, 1], [0, 0.8, 1]))["area"] == pytest.approx(0.1)


def test_extremes_are_clipped(make_curve):
    assert only(make_curve([0, 5, 1]))["area"] == pytest.approx(0.75)
    assert only(make_curve([0, -1, 1]))["area"] == pytest.approx(0.25)
    assert only(make_curve([0] * 1000 + [1]))["area"] == pytest.approx(0, abs=1e-3)
    assert only(make_curve([0] + [1] * 1000))["area"] == pytest.approx(1, abs=1e-3)


def test_area_does_not_depend_on_how_finely_a_straight_line_is_cut(make_curve):
    for cuts in (3, 21, 1001):
        assert only(make_curve(np.linspace(0, 1, cuts)))["area"] == pytest.approx(0.5)


def test_tolerance_is_the_end_of_the_first_good_stretch(make_curve):
    assert only(make_curve([0, 0.1, 0.05, 0.2, 0, 1]))["tolerance"] == pytest.approx(0.4)
    assert only(make_curve([0, 0.5, 0.05, 0.2, 0, 1]))["tolerance"] == 0
    assert only(make_curve([0, 0, 0, 0, 0, 1]))["tolerance"] == pytest.approx(0.8)


def test_accuracy_scores_by_hand(make_curve):
    rows = make_curve([0, 0, 0, 1, 1]).assign(validation_accuracy=[0.9, 0.89, 0.5, 0.1, 0.1])
    found = only(rows)
    assert found["accuracy_tolerance"] == 0.25
    # lost: 0, 1/80, 1/2, 1, 1
    assert found["accuracy_area"] == pytest.approx((0.0125 + 0.5 + 1 + 0.5) / 4)


def test_regression_has_no_accuracy_scores(make_curve):
    found = only(make_curve([0, 0, 1], chance=0.5).assign(chance_accuracy=np.nan))
    assert found["area"] == 0.25
    assert math.isnan(found["accuracy_area"]) and math.isnan(found["accuracy_tolerance"])


def test_one_row_for_each_curve(make_grid):
    found = report.scores(make_grid({"a": 0.3, "b": 0.6}, seeds=3, epochs=(1, 2), levels=("weight", "unit")))
    assert len(found) == 2 * 3 * 2 * 2
    assert (found["flags"] == "").all()
    assert (found["thresholds"] == 11).all()


def test_shuffled_rows_score_the_same(make_grid):
    frame = make_grid({"a": 0.3, "b": 0.6}, seeds=3)
    pd.testing.assert_frame_equal(report.scores(frame.sample(frac=1, random_state=0)), report.scores(frame))


@pytest.mark.parametrize("loss", [np.nan, np.inf])
def test_losses_that_are_not_finite_count_as_chance(make_curve, loss):
    rows = make_curve([0, 0, 0, 0, 1])
    rows.loc[2, ["validation_loss", "status"]] = loss, f"validation loss is {loss}"
    found = only(rows)
    assert found["area"] == pytest.approx((1 + 0.5) / 4)
    assert found["accuracy_area"] == pytest.approx((1 + 0.5) / 4)
    assert found["tolerance"] == 0.25
    assert found["flags"] == "nan loss"


@pytest.mark.parametrize("reason", ["failed: out of memory", "importances are not finite"])
def test_failed_cell_has_no_score(make_curve, reason):
    rows = make_curve([0, 0, 1]).assign(status=["ok", reason, "ok"])
    rows.loc[1, "validation_loss"] = np.nan
    found = only(rows)
    assert math.isnan(found["area"]) and found["flags"] == "nan loss; failed"


def test_unfinished_curve_has_no_score(make_curve):
    rows = pd.concat([make_curve([0, 0, 1]), make_curve([0, 0, 1], measure="random").head(2)])
    found = report.scores(rows).set_index("measure")
    assert found.loc["magnitude", "flags"] == "" and found.loc["random", "flags"] == "incomplete"
    assert math.isnan(found.loc["random", "area"])


def test_curve_without_a_start_has_no_score(make_curve):
    found = only(make_curve([0.1, 0.5, 1], [0.1, 0.5, 1]))
    assert math.isnan(found["area"]) and found["flags"] == "no threshold 0"


def test_untrained_network_has_no_score(make_curve):
    found = only(make_curve([0, 0.5, 1], start=2.4))
    assert math.isnan(found["area"]) and found["flags"] == "untrained"


def test_ties_and_unequal_fractions_are_flagged(make_curve):
    found = only(make_curve([0, 0, 1]).assign(tie_fraction=[0.2, 0.8, 0.1], replaced_fraction=[0, 0.4, 1]))
    assert found["flags"] == "ties; unequal fractions"
    assert found["tie_fraction"] == 0.8
    assert report.scores(make_curve([0, 0, 1]).assign(tie_fraction=0.3), ties=0.2)["flags"].tolist() == ["ties"]


def test_threshold_one_below_chance_is_flagged(make_curve):
    for fraction in (np.nan, [0, 0.5, 0.9]):
        assert "misses chance" in only(make_curve([0, 0, 0.02]).assign(replaced_fraction=fraction))["flags"]
    assert only(make_curve([0, 0, 0.95]))["flags"] == ""


def test_threshold_one_above_chance_is_flagged_only_if_the_replaced_fraction_is_unknown(make_curve):
    rows = make_curve([0, 1, 2])
    assert only(rows)["flags"] == ""
    assert only(rows.assign(replaced_fraction=np.nan))["flags"] == "misses chance"


def test_where_everything_is_replaced_and_chance_is_not_reached_scores_go_by_the_measured_end(make_curve):
    found = only(make_curve([0, 0.02, 0.04, 0.2, 0.2]))  # halfway to the end at the third threshold: 0.02, 0.04 of 0.2
    assert found["flags"] == "measured end" and found["chance_loss"] == LOG10
    assert found["area"] == pytest.approx((0.1 + 0.2 + 1 + 0.5) / 4) and found["tolerance"] == 0.25
    # of the accuracy, 0.9 - 0.8 lost, likewise: 0.884, 0.868, 0.74, 0.74
    assert found["accuracy_area"] == pytest.approx((0.1 + 0.2 + 1 + 0.5) / 4)
    assert only(make_curve([0, 0.1, 0.2, 0.95, 0.95]))["flags"] == ""


def test_a_rise_too_small_to_order_is_said(make_curve, make_grid):
    rise = 0.01 * math.sqrt(2) / (LOG10 - 0.1)  # the standard error of a difference, as a share of the way
    for share, flags in ((1.01, "measured end"), (0.99, "measured end; small rise"), (-1, "measured end; small rise")):
        found = only(make_curve([0, 0, share * rise]))
        assert found["flags"] == flags and math.isnan(found["area"]) == ("small" in flags)
    frame = make_grid({"a": 0.3, "b": 0.6}, seeds=6, fill="rounded:8")
    frame["validation_loss"] = 0.1 + (frame["validation_loss"] - 0.1) * 1e-3
    said = str(report.order(frame))
    assert "small rise: all measures; replacing everything raises the loss by no more than the standard error" in said


def test_unknown_chance_is_what_most_measures_end_at(make_curve):
    rows = [make_curve([0, 0.5, 1], measure=name) for name in ("a", "b", "c")]
    stuck = make_curve([0, 0, 0.02], measure="sign_stability").assign(replaced_fraction=np.nan)
    found = report.scores(pd.concat([*rows, stuck]).assign(chance_loss=np.nan)).set_index("measure")
    assert found["chance_loss"].tolist() == pytest.approx([math.log(10)] * 4)
    assert found["flags"].to_dict() == {
        "a": "chance estimated",
        "b": "chance estimated",
        "c": "chance estimated",
        "sign_stability": "chance estimated; misses chance",
    }


def test_chance_stays_unknown_where_measures_disagree(make_curve):
    rows = [make_curve([0, 0.5, end], measure=name) for name, end in (("a", 1), ("b", 0.5), ("c", 0.1), ("d", 0.3))]
    found = report.scores(pd.concat(rows).assign(chance_loss=np.nan))
    assert found["area"].isna().all()
    assert (found["flags"] == "chance unknown").all()


def test_a_grid_frame_needs_no_chance_columns(make_curve):
    rows = make_curve([0, 0.5, 1]).drop(columns=["chance_loss", "chance_accuracy", "status"])
    assert only(rows)["flags"] == "chance unknown"


def test_wrong_frames_are_refused(make_curve):
    with pytest.raises(ValueError, match="without measure"):
        report.scores(make_curve([0, 1]).drop(columns="measure"))
    with pytest.raises(ValueError, match="at least one row"):
        report.scores(make_curve([0, 1]).head(0))


def test_every_flag_without_a_score_says_so():
    assert sum("no score" in meaning for meaning in FLAGS.values()) == 6


def test_area_and_tolerance_of_bare_arrays():
    assert math.isnan(area(np.array([0.0]), np.array([0.0])))
    assert tolerance(np.array([0, 0.5, 1]), np.array([True, True, True])) == 1
    assert math.isnan(tolerance(np.array([0, 0.5]), np.array([False, True])))


def test_student_t_by_hand():
    # s = 1, t(2 degrees of freedom, 97.5 %) = 4.302653
    mean, low, high = student_t([1, 2, 3, np.nan])
    assert (mean, low, high) == pytest.approx((2, 2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)))
    assert student_t([5])[0] == 5 and np.isnan(student_t([5])[1:]).all() and np.isnan(student_t([])).all()


def test_table_puts_the_best_first_and_what_misses_chance_last(make_grid, make_curve):
    stuck = [make_curve([0] * 10 + [0.02], measure="stuck", seed=seed, replaced_fraction=np.nan) for seed in range(3)]
    table = report.table(pd.concat([make_grid({"late": 0.6, "early": 0.2}, seeds=3), *stuck]))
    assert table["measure"].tolist() == ["late", "early", "stuck"]
    assert table["networks"].tolist() == [3, 3, 3]
    assert table["flags"].tolist() == ["", "", "misses chance (3 of 3)"]
    assert (table["area_low"] < table["area"])[:2].all() and (table["area"] < table["area_high"])[:2].all()


def test_table_of_one_network_has_no_interval(make_grid):
    table = report.table(make_grid({"a": 0.5}, seeds=1))
    assert table["area"].notna().all() and table[["area_low", "area_high"]].isna().all(axis=None)


def test_table_separates_what_varies(make_grid):
    frame = make_grid({"a": 0.5}, seeds=2)
    assert "reduction" not in report.table(frame).columns
    both = report.table(pd.concat([frame, frame.assign(reduction="maximum")]))
    assert both["reduction"].tolist() == ["maximum", "mean"]


def test_at_reads_curves_at_thresholds(make_grid):
    frame = make_grid({"a": 0.5, "b": 0.2}, seeds=4)
    found = report.at_thresholds(frame, [0.5, 1.0])
    assert found["threshold"].tolist() == [0.5, 0.5, 1, 1]
    expected = frame[(frame["measure"] == "a") & (frame["threshold"] == 0.5)]["validation_accuracy"].mean()
    assert found["validation_accuracy"][0] == pytest.approx(expected)
    with pytest.raises(ValueError, match=r"received 0\.33"):
        report.at_thresholds(frame, 0.33)
