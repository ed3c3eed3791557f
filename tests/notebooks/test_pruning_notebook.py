"""Networks are removed from, retrained, shown and cut; what was cut is then a network of one's own."""

import re

import keras
import numpy as np
import pytest
from execution import compute, in_red, pictures, printed

import report
import tasks

TINY = {
    "measures": ["magnitude", "random"], "fractions": [0.25, 0.5], "seeds": [0, 1], "epochs": 4, "budget": 1,
    "learning_rates": [0.001], "batch_size": 200, "protocols": ["repaired"],
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # Keras, when it saves
def test_pruning_of_a_task_and_of_ones_own_network(tmp_path):
    smaller, figures = tmp_path / "smaller.keras", tmp_path / "figures"
    ran = compute(
        "pruning.ipynb", tmp_path, out=str(tmp_path / "runs"), smaller=str(smaller), figures=str(figures), **TINY
    )
    frame = report.retraining.read(tmp_path / "runs")
    # Of two networks: nothing removed, and two measures and fractions; before and after an epoch.
    assert len(frame) == 2 * (1 + 2 * 2) * 2 and set(frame["status"]) == set(frame["cost_status"]) == {"ok"}
    run = frame["run"].iloc[0]
    drawn = {f"{when}-{cost}-{run}" for when in ("removed", "retrained") for cost in ("parameters", "latency_1")}
    assert {path.stem for path in figures.glob("*.png")} == drawn and pictures(ran) == 4 and in_red(ran) == ""
    said = re.findall(r"(whole|smaller): loss [\d.]+, accuracy ([\d.]+), (\d+) parameters", printed(ran))
    task, cut = tasks.load("digits"), keras.models.load_model(smaller)
    accuracy = cut.evaluate(task.x_test, task.y_test, verbose=0)[1]
    assert said[0][::2] == ("whole", str(task.build_model().count_params()))
    assert said[1] == ("smaller", f"{accuracy:.3f}", str(cut.count_params()))
    np.savez(tmp_path / "mine.npz", x=task.x_test, y=task.y_test)
    of_ones_own = {"network": str(smaller), "x": str(tmp_path / "mine.npz"), "out": str(tmp_path / "mine")}
    fewer = TINY | {"measures": ["magnitude"], "fractions": [0.5]}
    ran = compute("pruning.ipynb", tmp_path, smaller=str(tmp_path / "smallest.keras"), **of_ones_own, **fewer)
    assert (
        set(report.read(tmp_path / "mine")["repair"]) == {"none", "least_squares"}
        and pictures(ran) == 1
        and in_red(ran) == ""
    )
    assert keras.models.load_model(tmp_path / "smallest.keras").count_params() < cut.count_params()
