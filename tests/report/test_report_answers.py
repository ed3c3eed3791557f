"""Answers: a sentence a setting that the tables bear out, and the order behind it."""

import pandas as pd
import pytest

import report


@pytest.fixture
def frame(make_grid):
    one = make_grid({"obd": 0.7, "mas": 0.5, "same": 0.5, "random": 0.2}, seeds=12, noise=0.03)
    return pd.concat([make_grid({"obd": 0.3, "mas": 0.6}, seeds=2, task="digits", run="b"), one])


def test_a_sentence_says_what_the_tables_say(frame):
    ordering = report.order(frame, resamples=99)
    answers = report.Answers(ordering)
    assert list(answers.said) == [("mnist", "mlp", "weight"), ("digits", "mlp", "weight")]  # what is tested comes first
    area = ordering.table.set_index(["task", "measure"]).loc[("mnist", "obd")]
    assert answers.said["mnist", "mlp", "weight"] == (
        f"obd comes first of 4 measures (area {area['area']:.3f} [{area['area_low']:.3f}, {area['area_high']:.3f}], "
        "12 networks). It is significantly better than every other. Significantly better than random: 3 measures."
    )
    assert answers.said["digits", "mlp", "weight"].endswith(
        "2 networks). There are too few networks for a test: this is the order of these."
    )
    assert answers.differ and str(answers).startswith("mnist, mlp, weight: obd comes first")


def test_what_is_not_told_apart_from_the_first_is_named(frame):
    answers = report.Answers(report.order(frame[frame["measure"] != "obd"], resamples=99))
    sentence = answers.said["mnist", "mlp", "weight"]
    assert "Not told apart from it: same." in sentence or "Not told apart from it: mas." in sentence
    assert "Significantly better than random: 2 measures." in sentence


def test_the_order_behind_an_answer_is_its_own(frame):
    ordering = report.order(frame, resamples=99)
    answers = report.Answers(ordering)
    lines = [line for values in answers.said for line in answers.lines(values)]
    assert sorted(lines) == sorted(ordering.summary.partition("Pairs:")[0].strip("\n").split("\n"))
    assert all("digits" in line for line in answers.lines(("digits", "mlp", "weight"))[:1])
    assert answers._repr_html_().count("<details>") == 2


def test_one_answer_over_everything(frame):
    answers = report.Answers(report.order(frame[frame["task"] == "mnist"], by=[], resamples=99))
    assert str(answers).startswith("overall: obd comes first of 4") and len(answers.lines(())) > 3


def test_measures_that_score_the_same_and_nothing_to_order(make_grid):
    alike = pd.concat([make_grid({name: 0.5}, noise=0, seeds=3) for name in "ab"])
    answers = report.Answers(report.order(alike, resamples=9))
    assert (
        str(answers) == "mnist, mlp, weight: None: all 2 measures score the same (3 networks)." and not answers.differ
    )
    lost = make_grid({"a": 0.5, "b": 0.4}).assign(chance_loss=float("nan"))
    assert "There is nothing to order" in str(report.Answers(report.order(lost, resamples=9)))
