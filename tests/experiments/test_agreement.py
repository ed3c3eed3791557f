"""Rank correlations of the measures' scores, held against SciPy's on the groups' means."""

import itertools

import keras
import numpy as np
import pandas as pd
import pytest
from grid_runs import run
from keras import layers
from scipy import stats

import aggregation
import thresholding
from experiments.agreement import KEY, Agreement, correlations
from experiments.settings import GridSettings

MEASURES = ["deletion", "magnitude", "random"]
LAYERS = [[0, 1], [2, 3]]


@pytest.fixture(scope="module")
def model():
    return keras.Sequential([keras.Input((3,)), layers.Dense(7), layers.Dense(5)])


@pytest.fixture
def scores(model):
    """Whole numbers, so that many tie."""
    rng = np.random.default_rng(0)
    return {m: [rng.integers(0, 40, v.shape).astype("float32") for v in model.trainable_variables] for m in MEASURES}


SETTINGS = GridSettings("iris", "mlp", MEASURES, levels=["weight", "unit"], reductions=["mean", "maximum"])


def written(model, folder):
    groups = {level: aggregation.load(level).groups(model) for level in SETTINGS.levels}
    return Agreement(folder, SETTINGS, {
        (level, scope): thresholding.Partition(groups[level], model, scope)
        for level in SETTINGS.levels for scope in thresholding.SCOPES
    })  # fmt: skip


def read(folder):
    (path,) = folder.glob("*.csv")
    return pd.read_csv(path)


def expected(model, scores, a, b, level, reduction, scope):
    groups, found = aggregation.load(level).groups(model), []
    for variables in LAYERS if scope == "layer" else [[0, 1, 2, 3]]:
        ids = np.concatenate([groups[v].ravel() for v in variables])
        of_group = [
            pd.Series(np.concatenate([scores[m][v].ravel() for v in variables])).groupby(ids).agg(
                {"mean": "mean", "maximum": "max"}[reduction]
            )
            for m in (a, b)
        ]  # fmt: skip
        found.append(stats.spearmanr(*of_group).statistic)
    return np.mean(found)


def test_agrees_with_scipy(tmp_path, model, scores):
    agreement = written(model, tmp_path)
    agreement.append(0, 2, scores)
    agreement.close()
    frame = read(tmp_path)
    pairs = list(itertools.combinations(MEASURES, 2))
    assert len(frame) == len(pairs) * 2 * 2 * 2 and not frame.duplicated(KEY).any()
    assert (frame.measure != frame.other).all()
    for row in frame.itertuples():
        assert (row.measure, row.other) in pairs and (row.seed, row.epoch, row.status) == (0, 2, "ok")
        correct = expected(model, scores, row.measure, row.other, row.level, row.reduction, row.scope)
        assert row.spearman == pytest.approx(correct, abs=6e-5)  # written with four decimals
    assert set(frame[frame.level == "unit"].groups) == {12}
    assert set(frame[frame.level == "weight"].groups) == {3 * 7 + 7 + 7 * 5 + 5}


def test_pairs_are_written_once(tmp_path, model, scores):
    agreement = written(model, tmp_path)
    agreement.append(0, 1, {m: scores[m] for m in MEASURES[:2]})
    agreement.append(0, 1, {m: scores[m] for m in MEASURES[:2]})
    agreement.close()
    again = written(model, tmp_path)
    again.append(0, 1, scores)
    again.append(0, 2, scores)
    again.append(1, 1, dict(reversed(scores.items())))
    again.close()
    frame = read(tmp_path)
    assert not frame.duplicated(KEY).any()
    assert (frame.groupby(["seed", "epoch"]).size() == 3 * 8).all() and len(frame) == 3 * 3 * 8
    assert (frame.measure < frame.other).all()


def test_a_measure_that_gives_all_groups_the_same_agrees_with_none(tmp_path, model, scores):
    scores["random"] = [np.ones_like(s) for s in scores["random"]]
    agreement = written(model, tmp_path)
    agreement.append(0, 1, scores)
    agreement.close()
    frame = read(tmp_path)
    constant = (frame.measure == "random") | (frame.other == "random")
    assert frame[constant].spearman.isna().all() and frame[~constant].spearman.notna().all()
    assert constant.sum() == 2 * 8


def test_layers_in_which_a_measure_is_constant_are_left_out_of_the_average():
    rng = np.random.default_rng(1)
    first = {m: rng.random(20) for m in "ab"}
    values = {"a": [first["a"], np.ones(9)], "b": [first["b"], rng.random(9)]}
    found = correlations(values)
    assert found["a", "b"] == found["b", "a"] == pytest.approx(stats.spearmanr(first["a"], first["b"]).statistic)
    assert found["a", "a"] == pytest.approx(1) and found["b", "b"] == pytest.approx(1)
    rising = np.arange(5.0)
    assert correlations({"a": [rising], "b": [np.exp(rising)]})["a", "b"] == pytest.approx(1)
    assert correlations({"a": [rising], "b": [-rising]})["a", "b"] == pytest.approx(-1)


def test_scores_that_are_not_finite_are_left_out(tmp_path, model, scores):
    scores["magnitude"][1][0] = np.inf
    agreement = written(model, tmp_path)
    agreement.append(0, 1, scores)
    agreement.close()
    frame = read(tmp_path)
    assert set(zip(frame.measure, frame.other, strict=True)) == {("deletion", "random")} and len(frame) == 8


def test_a_grid_tells_of_all_pairs_at_every_checkpoint_in_both_scopes(tmp_path, quick):
    frame = run(tmp_path, measures=["random", "magnitude", "deletion"], epochs=2, seeds=[0], scopes=["model"])
    found = read(tmp_path / "agreement")
    cells = found.groupby(["seed", "epoch", "level", "reduction", "scope"]).size()
    assert (cells == 3).all() and len(cells) == 2 * 2 * 2 and not found.duplicated(KEY).any()
    assert set(found.run) == set(frame.run) and (found.measure < found.other).all()
    assert found.spearman.between(-1, 1).all()
