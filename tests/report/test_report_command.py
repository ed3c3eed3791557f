"""Runs at a glance, and the ordering from a shell."""

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


def test_the_summary_leaves_pairs_to_the_table(make_grid):
    ordering = report.order(make_grid({"a": 0.7, "b": 0.5, "c": 0.3}, seeds=8), resamples=99)
    assert ordering.summary.splitlines()[0] == ordering.sentences[0]
    assert len(ordering.summary.splitlines()) == len(ordering.sentences) - 2  # three measures have two neighbours
    assert ordering.drawable
    assert not report.order(make_grid({"a": 0.7, "b": 0.5}, seeds=1), resamples=99).drawable


def test_the_command_orders_files(make_grid, tmp_path, capsys):
    make_grid({"magnitude": 0.6, "random": 0.2}, seeds=8).to_csv(tmp_path / "results.csv", index=False)
    (tmp_path / "results.json").write_text('{"classes": 10}')
    assert main([str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "on mnist/mlp/weight, magnitude > random by area" in printed
    assert "mnist, mlp, epoch 5" in printed


def test_the_command_says_what_is_wrong(tmp_path, capsys):
    assert main([]) == 2
    assert main([str(tmp_path / "none.csv")]) == 1
    assert "none.csv" in capsys.readouterr().out
