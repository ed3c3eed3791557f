"""The agreement of scores, from frames that can be checked by eye."""

import json

import numpy as np
import pandas as pd
import pytest

import report
from report.agreement import COLUMNS
from report.tables import legacy


def pairs(values, seeds=(0,), **columns):
    """One row for each pair {("a", "b"): correlation} and seed."""
    known = {"run": "r", "epoch": 5, "task": "mnist", "model": "mlp", "level": "unit", "reduction": "mean"}
    known |= {"scope": "layer", "groups": 40} | columns
    rows = [
        known | {"seed": seed, "measure": a, "other": b, "spearman": value + 0.1 * seed}
        for seed in seeds
        for (a, b), value in values.items()
    ]
    return pd.DataFrame(rows)[COLUMNS]


def written(folder, *frames):
    for number, frame in enumerate(frames):
        frame.to_csv(folder / f"{number}.csv", index=False)
    return report.read_agreement(folder)


TRUTH = {("deletion", "fisher"): 0.5, ("deletion", "magnitude"): 0.2, ("fisher", "magnitude"): -0.3}


def test_each_pair_stands_in_both_orders(tmp_path):
    frame = written(tmp_path, pairs(TRUTH))
    assert len(frame) == 6
    found = frame.set_index(["measure", "other"])["spearman"]
    assert found["deletion", "fisher"] == found["fisher", "deletion"] == 0.5


def test_a_measure_that_was_redefined_is_called_what_it_is_now(tmp_path):
    """By the digests beside the rows, or else by those of the grid that they belong to."""
    (folder := tmp_path / "agreement").mkdir()
    old = {"measures_sha256": {"hessian": legacy.REDEFINED["hessian"][1]}}
    rows = pairs({("hessian", "obd"): 0.5, ("obd", "hessian:at=weights,probes=3"): 0.4})
    (tmp_path / "0.json").write_text(json.dumps(old))
    measures = {"obd", "hessian:at=weights", "hessian:at=weights,probes=3"}
    frame = written(folder, rows)
    assert set(frame["measure"]) == set(frame["other"]) == measures
    (folder / "0.json").write_text(json.dumps({"measures_sha256": {"hessian": "another"}}))
    assert set(written(folder, rows)["measure"]) == {"obd", "hessian", "hessian:at=weights,probes=3"}


def test_a_network_that_two_runs_hold_counts_once(tmp_path):
    frame = written(tmp_path, pairs(TRUTH, seeds=(0, 1)), pairs(TRUTH, seeds=(1, 2), run="again"))
    assert set(report.agreement_with(frame)["networks"]) == {3}


def test_against_the_truth_by_hand(tmp_path):
    table = report.agreement_with(written(tmp_path, pairs(TRUTH, seeds=(0, 1, 2))))
    assert list(table["measure"]) == ["fisher", "magnitude"]
    fisher = table.iloc[0]
    assert fisher["networks"] == 3 and fisher["groups"] == 40
    # Mean of 0.5, 0.6 and 0.7; t(2) = 4.3027, s = 0.1.
    assert fisher["spearman"] == pytest.approx(0.6)
    assert fisher["spearman_high"] == pytest.approx(0.6 + 4.3027 * 0.1 / np.sqrt(3), abs=1e-4)


def test_the_last_checkpoint_counts_unless_another_is_named(tmp_path):
    frame = written(tmp_path, pairs(TRUTH), pairs({k: 0.9 for k in TRUTH}, epoch=10))
    assert set(report.agreement_with(frame)["spearman"]) == {0.9}
    assert set(report.agreement_with(frame, epoch=5)["spearman"]) == {0.5, 0.2}
    with pytest.raises(ValueError, match="epoch"):
        report.agreement_with(frame, epoch=7)


def test_a_measure_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="taylor"):
        report.agreement_with(written(tmp_path, pairs(TRUTH)), "taylor")


def test_missing_correlations_come_last_and_count_no_network(tmp_path):
    table = report.agreement_with(written(tmp_path, pairs({("deletion", "a"): np.nan, ("deletion", "b"): -0.5})))
    assert list(table["measure"]) == ["b", "a"]
    assert list(table["networks"]) == [1, 0]


def test_the_same_file_twice_counts_once_and_contradictions_are_refused(tmp_path):
    assert len(written(tmp_path, pairs(TRUTH), pairs(TRUTH))) == 6
    with pytest.raises(ValueError, match="contradict"):
        written(tmp_path, pairs({k: 0.0 for k in TRUTH}))


def test_a_grid_is_not_an_agreement(tmp_path):
    (tmp_path / "grid.csv").write_text("run,seed,epoch\nr,0,1\n")
    with pytest.raises(ValueError, match="spearman"):
        report.read_agreement(tmp_path / "grid.csv")
    with pytest.warns(UserWarning, match="Left out: .*spearman"), pytest.raises(ValueError, match="found none"):
        report.read_agreement(tmp_path)


def test_figures_show_all_measures(tmp_path):
    layer, model = pairs(TRUTH, seeds=(0, 1)), pairs(TRUTH, seeds=(0, 1), scope="model")
    frame = written(tmp_path, pd.concat([layer, model]))
    figure = report.plot_agreement_with(frame)
    figure.canvas.draw()
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["magnitude", "fisher"]
    assert "2 networks, 40 units" in figure.axes[0].get_title()
    assert "40 hidden_units" in report.plot_agreement_with(frame.assign(level="hidden_unit")).axes[0].get_title()
    figure = report.agreement_matrix(frame, level="unit")
    figure.canvas.draw()
    assert {label.get_text() for label in figure.axes[0].get_yticklabels()} == {"deletion", "fisher", "magnitude"}


def test_an_album_keeps_what_is_asked_for(tmp_path):
    frame = written(tmp_path, pairs(TRUTH, seeds=(0, 1)))
    figure, table = report.plot_agreement_with(frame), report.agreement_with(frame)
    assert report.Album(None)("truth", figure) is figure
    keep = report.Album(tmp_path / "figures")
    assert keep("truth", figure) is figure and keep.table("truth", table).table is table
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"truth.png", "truth.pdf", "truth.tex"}
