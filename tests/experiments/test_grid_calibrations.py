"""From which examples scores come, as an axis: each calibration gives what a run that scores on it alone gives."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from grid_runs import linear, run, values

import importance
import report
import tasks
from experiments import threshold_grid

pytestmark = pytest.mark.usefixtures("quick")
SMALL = {"model": linear, "measures": ["fisher", "magnitude"], "levels": ["weight"], "epochs": 1, "thresholds": 13}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("calibrations")


@pytest.fixture
def compared(folder):
    return run(folder, **SMALL, calibrations=["training:3", "validation"])


def of(frame, calibration):
    return frame[frame["calibration"] == calibration].drop(columns="calibration").reset_index(drop=True)


@pytest.mark.parametrize(
    "calibration, alone",
    [("training:3", {"examples": 3}), ("validation", {"scored_on": "validation", "examples": None})],
)
def test_each_is_what_it_is_alone(compared, tmp_path, calibration, alone):
    expected = run(tmp_path, **SMALL, **alone)
    here = of(compared, calibration).assign(run=expected["run"].iloc[0])
    pd.testing.assert_frame_equal(values(here), values(expected), check_exact=True)


def test_calibrations_are_added_to_the_same_file_and_no_network_is_trained_for_one(compared, folder, trained):
    assert compared.columns.tolist().index("calibration") == compared.columns.tolist().index("threshold") - 1
    file = next(folder.glob("*.csv"))
    before = file.read_bytes()
    more = run(folder, **SMALL, calibrations=["training:3", "training"])
    assert not trained and file.read_bytes().startswith(before) and list(folder.glob("*.csv")) == [file]
    assert set(more["calibration"]) == {"training:3", "validation", "training"}
    assert not (folder / "agreement").exists() or not list((folder / "agreement").glob("*.csv"))
    said = json.loads(file.with_suffix(".json").read_text())
    assert said["key"] == [*threshold_grid.KEY[:-1], "calibration", "threshold"]
    assert said["settings"]["examples"] == 5000 and "calibrations" not in said["settings"]
    read = report.read(file)
    assert set(report.order(read).tests["calibration"]) == {"training:3", "validation", "training"}
    assert len(report.dependence(read).table) == 3


def test_what_needs_no_data_is_the_same_under_all(compared):
    magnitude = compared[compared["measure"] == "magnitude"]
    one, other = (of(magnitude, name).drop(columns="seconds") for name in ("training:3", "validation"))
    pd.testing.assert_frame_equal(one, other)
    fisher = compared[compared["measure"] == "fisher"]
    assert not np.array_equal(*(of(fisher, name)["validation_loss"] for name in ("training:3", "validation")))


def test_another_tasks_examples(tmp_path, monkeypatch):
    mirrored = tasks.load("iris").x_train[:, ::-1]
    load, asked = tasks.load, []

    def loaded(name, **options):
        task = load("iris" if name == "function" else name, **options)
        asked.append(name)
        return dataclasses.replace(task, x_train=mirrored, digest="of another") if name == "function" else task

    monkeypatch.setattr(tasks, "load", loaded)
    grid = threshold_grid.Grid(
        "iris", linear, tmp_path, measures=["fisher"], levels=["weight"], epochs=1, thresholds=5,
        calibrations=["training:50", "function:50"],
    )  # fmt: skip
    frame = grid.run(progress=False)
    assert asked.count("function") == 1
    expected = importance.load("fisher").score(grid._model, mirrored, loss=grid._loss, examples=50)
    scoring = threshold_grid._Scoring("fisher", calibration="function:50")
    found = grid._scores(0, {scoring})[0][scoring]
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    assert set(frame["calibration"]) == {"training:50", "function:50"}
    apart = [
        frame[frame["calibration"] == name]["validation_loss"].to_numpy() for name in ("training:50", "function:50")
    ]
    assert apart[0][0] == apart[1][0] and not np.array_equal(*apart)
    said = json.loads(next(tmp_path.glob("*.json")).read_text())["data_sha256"]
    assert set(said) == {"iris", "function"} and said["function"] == "of another"


def test_examples_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"inputs of shape \(4,\) with 3 classes.*received 'digits' with \(8, 8, 1\)"):
        threshold_grid.Grid("iris", linear, tmp_path, measures=["fisher"], calibrations=["digits"])
