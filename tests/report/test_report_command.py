"""Runs at a glance, and the ordering from a shell."""

import re

import pytest

import report
from report.__main__ import main


def test_runs_are_described(make_grid):
    frame = make_grid({"magnitude": 0.6, "random": 0.2}, seeds=3, epochs=(5, 10), levels=("weight", "unit"))
    row = report.runs(frame).loc["run"]
    assert (row["seeds"], row["measures"], row["thresholds"], row["epochs"]) == (3, 2, 11, "5, 10")
    assert row["rows"] == len(frame) == 3 * 2 * 2 * 2 * 11
    assert row["failed"] == 0 and row["level"] == "weight, unit"


def test_last_and_among(make_grid):
    frame = make_grid({"magnitude": 0.6, "random": 0.2}, seeds=2, epochs=(5, 10))
    assert set(report.last_checkpoint(frame)["epoch"]) == {10}
    assert report.measures_in(["random", "fisher"], frame) == ["random"]
    assert report.measures_in(["fisher"], frame) == ["magnitude", "random"]


def test_the_summary_has_equals_on_a_line_and_leaves_pairs_to_the_table(make_grid):
    offsets = {"a": 0.7, "b": 0.5, "c": 0.5, "d": 0.1}
    ordering = report.order(make_grid(offsets, seeds=12, noise=0.03), resamples=99)
    heading, *rest = ordering.summary.splitlines()
    assert heading.startswith("on mnist/mlp/weight, by area (smaller is better), 12 networks; Friedman test: F(3, 33)")
    orders = [line.split(maxsplit=1) for line in rest if line.startswith("   ") and line.split()[0].isdigit()]
    assert [place for place, _ in orders] == ["1", "2", "4"] and [orders[0][1], orders[2][1]] == ["a", "d"]
    assert re.fullmatch("[bc] [~=] [bc]", orders[1][1])
    assert "difference" not in ordering.summary.partition("Pairs:")[0]
    assert ordering.drawable
    assert not report.order(make_grid({"a": 0.7, "b": 0.5}, seeds=1), resamples=99).drawable


def test_lines_of_the_summary_fit_a_screen(make_grid):
    names = {f"a_measure_with_a_long_name_{number:02d}": 0.5 for number in range(20)}
    ordering = report.order(make_grid(names, seeds=3), resamples=9)
    lines = ordering.summary.splitlines()
    assert max(map(len, lines)) <= 120 and len(lines) > 8
    assert all(sum(name in line for line in lines) for name in names)


def test_the_command_orders_files(make_grid, tmp_path, capsys):
    make_grid({"magnitude": 0.6, "random": 0.2}, seeds=8).to_csv(tmp_path / "results.csv", index=False)
    (tmp_path / "results.json").write_text('{"classes": 10}')
    assert main([str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "on mnist/mlp/weight, by area (smaller is better), 8 networks" in printed
    assert "   1  magnitude\n   2  random\n" in printed
    assert "mnist, mlp, weight, epoch 5\n8 networks" in printed


def test_the_command_says_what_is_wrong(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "paths" in capsys.readouterr().err
    assert main([str(tmp_path / "none.csv")]) == 1
    assert "none.csv" in capsys.readouterr().out
