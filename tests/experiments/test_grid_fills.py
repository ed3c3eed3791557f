"""Fills as an axis: each alone gives what it gives among others, and no network is trained for one."""

import numpy as np
import pandas as pd
import pytest
from grid_runs import linear, run, same

import importance
import tasks
import thresholding
from engine import losses
from experiments import threshold_grid

pytestmark = pytest.mark.usefixtures("quick")
FILLS = ["noise", "rounded:2", "mean"]


def test_a_study_grows_by_fills(tmp_path, trained):
    together = run(tmp_path / "together", model=linear, fill=FILLS)
    assert set(together["fill"]) == set(FILLS) and together.groupby("fill").size().nunique() == 1
    alone = run(tmp_path / "alone", model=linear)
    same(alone, together[together["fill"] == "noise"].reset_index(drop=True))
    before = trained.copy()
    for fill in FILLS[1:]:
        grown = run(tmp_path / "alone", model=linear, fill=fill)
    assert trained == before
    same(grown, together)
    one, other = (pd.read_csv(next((tmp_path / name / "agreement").glob("*.csv"))) for name in ("together", "alone"))
    pd.testing.assert_frame_equal(one, other)


def test_where_all_is_replaced_the_network_is_the_rounded_one(tmp_path):
    grid = threshold_grid.Grid(
        out=tmp_path, task="iris", model=linear, measures=["random"], levels=["weight"], thresholds=2, epochs=1,
        fill=["rounded:3", "mean"],
    )  # fmt: skip
    frame = grid.run(progress=False).set_index(["fill", "threshold"])["validation_loss"]
    kernel, bias = (v.numpy().astype("float64") for v in grid._model.trainable_variables)
    scale, of_bias = np.abs(kernel).max(axis=0) / 3, np.abs(bias).max() / 3
    ends = {
        "rounded:3": (np.rint(kernel / scale) * scale, np.rint(bias / of_bias) * of_bias),
        "mean": (np.full_like(kernel, kernel.mean()), np.full_like(bias, bias.mean())),
    }
    task = tasks.load("iris")
    for fill, (w, b) in ends.items():
        outputs = task.x_validation @ w + b
        of_examples = np.asarray(losses.per_example(task.loss, task.y_validation, outputs.astype("float32")))
        assert frame[fill, 1.0] == pytest.approx(of_examples.mean(), rel=1e-5), fill
    assert frame["rounded:3", 0.0] == frame["mean", 0.0] != frame["rounded:3", 1.0]


def test_each_fill_counts_in_the_estimate(tmp_path):
    one, two = (
        threshold_grid.estimate(task="iris", out=tmp_path, measures=["magnitude", "random"], epochs=1, fill=fill)
        for fill in ("zero", ["zero", "rounded:2"])
    )
    assert (two.asked, two.distinct) == (2 * one.asked, 2 * one.distinct)


def test_a_measure_that_looks_at_the_fill_is_scored_once_for_each(tmp_path):
    grid = threshold_grid.Grid(
        out=tmp_path, task="iris", model=linear, measures=["expected_rise", "obd"], levels=["weight"], epochs=1,
        thresholds=13, fill=["zero", "rounded:2"], examples=None,
    )  # fmt: skip
    frame = grid.run(progress=False)
    model, task = grid._model, tasks.load("iris")
    for fill in ("zero", "rounded:2"):
        weights = [v.numpy() for v in model.trainable_variables]
        new = thresholding.replacements(weights, fill, model=model)
        expected = importance.load("expected_rise").score(
            model, task.x_train, task.y_train, loss=task.loss, examples=None, replacements=new
        )
        scoring = threshold_grid._Scoring("expected_rise", fill)
        found = grid._scores(0, {scoring})[0][scoring]
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5)
    losses = {key: part["validation_loss"].tolist() for key, part in frame.groupby(["measure", "fill"])}
    assert losses["expected_rise", "zero"] == losses["obd", "zero"]  # half of F (w - 0)^2 is what obd is
    assert losses["expected_rise", "rounded:2"] != losses["obd", "rounded:2"]
    assert not list((tmp_path / "agreement").glob("*.csv"))
