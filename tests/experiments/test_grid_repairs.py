"""What is done to the rest of a network before it is evaluated, as an axis: rows, names, resumption, and reports."""

import json
import shutil

import keras
import numpy as np
import pandas as pd
import pytest
from grid_runs import linear, run

import report
import tasks
import thresholding
from engine import losses, repair, training
from experiments import threshold_grid

pytestmark = pytest.mark.usefixtures("quick")
REPAIRS = ["none", "bias", "least_squares:60"]
SMALL = {"model": linear, "measures": ["magnitude", "fisher"], "levels": ["weight"], "epochs": 1, "seeds": [0, 1]}


def normed():
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(6, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(3),
        ]
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("repairs")


@pytest.fixture(scope="module")
def compared(folder):
    return run(folder, **SMALL, repairs=REPAIRS)


def of(frame, name):
    return frame[frame["repair"] == name].drop(columns=["repair", "seconds", "run"]).reset_index(drop=True)


def test_none_is_what_a_grid_without_repairs_gives(compared, tmp_path):
    alone = run(tmp_path, **SMALL)
    assert "repair" not in alone and alone["run"].iloc[0] != compared["run"].iloc[0]
    pd.testing.assert_frame_equal(of(compared, "none"), alone.drop(columns=["seconds", "run"]), check_exact=True)
    asked = run(tmp_path, **SMALL, repairs=["none"])
    assert asked["run"].iloc[0] == alone["run"].iloc[0] and len(list(tmp_path.glob("*.csv"))) == 1
    assert "unrepaired" not in json.loads(next(tmp_path.glob("*.json")).read_text())


def test_where_nothing_or_everything_is_replaced_all_are_alike(compared):
    columns = ["validation_loss", "validation_accuracy", "replaced_fraction"]
    for threshold in (0, 1):  # of which least squares and the bias have nothing left to change
        ends = compared[compared["threshold"] == threshold]
        assert ends.groupby("seed")[columns].nunique().to_numpy().max() == 1, threshold
    losses_ = compared[compared["threshold"] == 0.5].pivot_table(index="seed", columns="repair", values=columns[0])
    assert losses_.nunique(axis=1).tolist() == [3, 3]


def test_each_row_is_what_the_engine_and_keras_give(tmp_path):
    grid = threshold_grid.Grid(
        "iris", normed, tmp_path, measures=["magnitude"], levels=["hidden_unit"], thresholds=[0.5], epochs=1,
        fill="zero", repairs=["batch_norm", "least_squares"],
    )  # fmt: skip
    frame = grid.run(progress=False)
    task, model = tasks.load("iris"), grid._model
    importances = [np.abs(w) for w in training.values(model.trainable_variables)]
    ranks = grid._partitions["hidden_unit", "layer"].rank(importances).ranks
    new = thresholding.replacements(importances, "zero")
    loss = {}
    for kind in ("batch_norm", "least_squares"):
        made = repair.Repair(model, task.x_train, kind)([r < 0.5 for r in ranks], new)
        was = training.values(training.model_variables(model))
        for variables, values in zip((model.trainable_variables, model.non_trainable_variables), made, strict=True):
            training.assign(variables, values)
        outputs = np.asarray(model(task.x_validation, training=False))
        loss[kind] = np.mean(np.asarray(losses.per_example(task.loss, task.y_validation, outputs)))
        training.assign(training.model_variables(model), was)
    assert frame["repair"].tolist() == list(loss) and loss["batch_norm"] != loss["least_squares"]
    np.testing.assert_allclose(frame["validation_loss"], list(loss.values()), rtol=1e-5)
    assert grid.timings["repairing"] > 0
    said = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert said["unrepaired"] == {name: ["BatchNormalization 2"] for name in ("bias", "least_squares")}


def test_repairs_are_added_to_the_same_file_and_no_network_is_trained_for_one(compared, folder, trained):
    assert compared.columns.tolist().index("repair") == compared.columns.tolist().index("threshold") - 1
    file = next(folder.glob("*.csv"))
    before = file.read_bytes()
    more = run(folder, **SMALL, repairs=["none", "least_squares"])
    assert not trained and file.read_bytes().startswith(before) and list(folder.glob("*.csv")) == [file]
    assert set(more["repair"]) == {*REPAIRS, "least_squares"}
    said = json.loads(file.with_suffix(".json").read_text())
    assert said["key"] == [*threshold_grid.KEY[:-1], "repair", "threshold"] and "repairs" not in said["settings"]
    assert said["unrepaired"] == {"bias": [], "least_squares": []}
    assert set(report.order(report.read(file)).tests["repair"]) == set(more["repair"])
    assert len(report.dependence(report.read(file), "repair").table) == 6


def test_rows_that_were_lost_are_computed_alike(compared, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "runs")
    file = next((tmp_path / "runs").glob("*.csv"))
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*lines[:7], *lines[15:23], *lines[31:]]))
    again = run(tmp_path / "runs", **SMALL, repairs=REPAIRS)
    key = [*threshold_grid.KEY, "repair"]
    frames = [frame.drop(columns="seconds").sort_values(key, ignore_index=True) for frame in (again, compared)]
    frames = [frame[frame["repair"].isin(REPAIRS)].reset_index(drop=True) for frame in frames]
    pd.testing.assert_frame_equal(*frames, check_exact=True)


def test_a_sweep_serves_no_repair(compared, tmp_path):
    swept = run(tmp_path, **SMALL, repairs=REPAIRS, sweep=True)
    for name in REPAIRS[1:]:
        pd.testing.assert_frame_equal(of(swept, name), of(compared, name), check_exact=True)


def test_what_cannot_be_solved_is_a_row_that_says_so(tmp_path, monkeypatch):
    def unsolvable(self, moments, free):
        raise repair.Unsolvable("the inputs of Dense 1 depend on one another")

    monkeypatch.setattr(repair._System, "solve", unsolvable)
    with pytest.warns(UserWarning, match="A validation loss is not finite"):
        frame = run(tmp_path, **SMALL | {"seeds": [0]}, repairs=["bias", "least_squares"])
    solved = frame["repair"] == "bias"
    solved |= frame["threshold"] == 0
    assert (frame["status"] == "ok").tolist() == solved.tolist()
    assert set(frame["status"][~solved]) == {"cannot be repaired: the inputs of Dense 1 depend on one another"}
    assert frame["validation_loss"][~solved].isna().all() and frame["replaced_fraction"].notna().all()


def test_an_oracles_order_is_found_once_and_without_repair(tmp_path, monkeypatch):
    found, oracle = [], threshold_grid.Grid._oracle
    monkeypatch.setattr(threshold_grid.Grid, "_oracle", lambda self, *args: found.append(args) or oracle(self, *args))
    options = {"model": normed, "measures": ["magnitude"], "levels": ["hidden_unit"], "seeds": [0], "epochs": 1}
    frame = run(tmp_path, **options, oracles=["greedy"], repairs=["none", "least_squares"])
    assert len(found) == 1 and set(frame["measure"]) == {"magnitude", "greedy"}
    greedy = frame[(frame["measure"] == "greedy") & (frame["threshold"] == 0.5)]
    assert greedy["validation_loss"].nunique() == 2 and greedy["replaced_fraction"].nunique() == 1


def test_a_repair_that_has_nothing_to_repair_is_refused(tmp_path):
    with pytest.raises(ValueError, match="layers that 'batch_norm' can repair"):
        threshold_grid.Grid("iris", linear, tmp_path, measures=["magnitude"], repairs=["none", "batch_norm"])
    assert not list(tmp_path.glob("*"))


def test_a_network_of_ones_own_is_repaired_by_the_examples_of_the_other_folds(tmp_path):
    keras.utils.set_random_seed(0)
    model, task = linear(), tasks.load("iris")
    options = {"network": model, "x": task.x_train, "y": task.y_train, "loss": task.loss, "folds": 2, "out": tmp_path}
    grid = threshold_grid.Grid(**options, measures=["magnitude"], levels=["weight"], fill="zero", thresholds=[0.5],
                               repairs=["none", "least_squares"])  # fmt: skip
    frame = grid.run(progress=False)
    assert frame.groupby("repair")["fold"].nunique().tolist() == [2, 2] and "repair" in grid.store.columns
    assert frame.pivot(index="seed", columns="repair", values="validation_loss").nunique(axis=1).tolist() == [2, 2]


def test_a_grid_without_the_column_cannot_be_asked_for_repairs(tmp_path):
    grid = threshold_grid.Grid("iris", linear, tmp_path, measures=["magnitude"])
    with pytest.raises(ValueError, match="received repairs, with which rows have other columns"):
        grid.asking(repairs=["none", "bias"])
    assert grid.asking(measures=["random"]).settings.repairs == ("none",)


def test_the_estimate_counts_and_times_repairs(tmp_path):
    plain, repaired = (
        threshold_grid.estimate("iris", normed, tmp_path, measures=["magnitude"], epochs=1, repairs=repairs)
        for repairs in (["none"], ["none", "least_squares"])
    )
    assert repaired.asked == 2 * plain.asked and plain.distinct < repaired.distinct <= 2 * plain.distinct
