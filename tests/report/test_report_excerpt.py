"""Tables as one reads them."""

import re

import numpy as np
import pandas as pd
import pytest

import report
from report.tables.excerpt import OPEN, number


@pytest.fixture
def table(make_grid):
    names = {f"m{number:02d}": 0.9 - number / 25 for number in range(20)} | {"random": 0.05}
    return report.table(make_grid(names, seeds=6, noise=0.001, levels=("weight", "unit")))


def test_the_first_ten_and_the_controls_of_each_level_are_shown(table):
    excerpt = report.Excerpt(table)
    assert excerpt.table is table and excerpt.caption == "mnist, mlp, epoch 5"
    assert [heading for heading, *_ in excerpt.groups] == ["weight, 6 networks", "unit, 6 networks"]
    for level, (_, rows, hidden) in zip(["weight", "unit"], excerpt.groups, strict=True):
        best = list(table.loc[table["level"] == level, "measure"].head(10))
        assert list(rows["measure"]) == [*best, "random"] and hidden == 10
        assert list(rows) == ["measure", "area", "tolerance"]  # nothing is flagged
    assert len(report.Excerpt(table, most=None).groups[0][1]) == 21
    assert "(10 more rows)" in str(excerpt)


def test_an_interval_stands_behind_its_mean(table):
    row = table.iloc[0]
    text = report.Excerpt(table, digits=2).groups[0][1]["area"].iloc[0]
    assert text == f"{row['area']:.2f} [{row['area_low']:.2f}, {row['area_high']:.2f}]"


def test_no_text_is_cut():
    formula = "mean over n of sum over k p(k | x_n) (d log p(k | x_n) / dw)^2, with labels that the model believes " * 2
    excerpt = report.Excerpt(pd.DataFrame({"measure": ["fisher", "mas"], "formula": [formula, "short < long"]}))
    assert formula in str(excerpt) and formula in excerpt.html() and "short &lt; long" in excerpt.html()


def test_many_groups_are_folded_to_a_line_that_names_the_first(table):
    many = pd.concat([table.assign(task=task) for task in "abc"])
    found = report.Excerpt(many).html()
    assert found.count("<details>") == 6 - OPEN and found.count("<table ") == 6
    first = ", ".join(table["measure"].head(3))
    assert f"<summary>b, unit, 6 networks: {first}" in found
    assert "<details>" not in report.Excerpt(many).html(folded=False)
    assert "<details>" not in report.Excerpt(table).html()


def test_a_column_may_be_spread(make_grid):
    frame = make_grid({"a": 0.3, "b": 0.6}, seeds=6)
    chosen = report.at_thresholds(frame, [0.2, 0.5])
    ((_, rows, _),) = report.Excerpt(chosen, across="threshold").groups
    assert list(rows) == ["measure", "0.2", "0.5"] and list(rows["measure"]) == ["b", "a"]
    cell = chosen[(chosen["measure"] == "a") & (chosen["threshold"] == 0.5)].iloc[0]
    assert rows.set_index("measure").loc["a", "0.5"].startswith(f"{cell['validation_accuracy']:.3f} [")


def test_the_best_stands_first_at_thresholds(make_grid):
    frame = make_grid({"a": 0.3, "b": 0.6, "c": 0.45}, seeds=4)
    for metric in ("validation_accuracy", "validation_loss"):
        assert list(report.at_thresholds(frame, [0.5], metric)["measure"]) == ["b", "c", "a"]


def test_rows_that_share_nothing_are_one_table():
    runs = pd.DataFrame({"run": ["one", "two"], "task": ["digits", "iris"], "rows": [100, 200]})
    ((heading, rows, hidden),) = report.Excerpt(runs).groups
    assert (heading, hidden, len(rows)) == ("", 0, 2) and list(rows) == ["run", "task", "rows"]


@pytest.mark.parametrize(
    "value, expected",
    [
        (2.0, "2"), (0.12345, "0.123"), (0.00012, "0.00012"), (np.nan, "--"), (None, "--"), (1234567.0, "1234567"),
        ((0.1, 10.0), "0.100, 10"), ("text", "text"), (True, "True"), (np.int64(7), "7"), (-0.5, "-0.500"),
    ],
)  # fmt: skip
def test_numbers(value, expected):
    assert number(value) == expected


def test_it_is_what_a_notebook_shows(table, tmp_path):
    shown = report.Album(tmp_path).table("scores", table, most=3)
    assert re.search(r"<p>mnist, mlp, epoch 5</p>", shown._repr_html_()) and len(shown.groups[0][1]) == 4
    assert (tmp_path / "scores.tex").read_text().count("\\\\\n") > 20  # the file has all rows
