"""Rank correlations of the measures' scores, held against SciPy's on the groups' means."""

import itertools
import json
import shutil

import keras
import numpy as np
import pandas as pd
import pytest
from grid_runs import run, same
from keras import layers
from scipy import stats

import aggregation
import importance
import thresholding
from experiments import threshold_grid
from experiments.agreement import KEY, Agreement, correlations
from experiments.threshold_grid import GridSettings

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

TOGETHER = {(level, reduction): set(MEASURES) for level in SETTINGS.levels for reduction in SETTINGS.reductions}


def written(model, folder):
    groups = {level: aggregation.load(level).groups(model) for level in SETTINGS.levels}
    return Agreement(folder, "iris-mlp", SETTINGS, {
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
    agreement.append(0, 2, scores, TOGETHER)
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
    agreement.append(0, 1, {m: scores[m] for m in MEASURES[:2]}, TOGETHER)
    agreement.append(0, 1, {m: scores[m] for m in MEASURES[:2]}, TOGETHER)
    agreement.close()
    again = written(model, tmp_path)
    again.append(0, 1, scores, TOGETHER)
    again.append(0, 2, scores, TOGETHER)
    again.append(1, 1, dict(reversed(scores.items())), TOGETHER)
    again.close()
    frame = read(tmp_path)
    assert not frame.duplicated(KEY).any()
    assert (frame.groupby(["seed", "epoch"]).size() == 3 * 8).all() and len(frame) == 3 * 3 * 8
    assert (frame.measure < frame.other).all()


def test_a_measure_that_gives_all_groups_the_same_agrees_with_none(tmp_path, model, scores):
    scores["random"] = [np.ones_like(s) for s in scores["random"]]
    agreement = written(model, tmp_path)
    agreement.append(0, 1, scores, TOGETHER)
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
    agreement.append(0, 1, scores, TOGETHER)
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


def lines(folder):
    """The rows of the agreement of a run, sorted: seeds may be finished in another order."""
    (path,) = (folder / "agreement").glob("*.csv")
    header, *rows = path.read_text().splitlines()
    return [header, *sorted(rows)]


@pytest.fixture
def damaged(tmp_path, finished):
    """A finished run to damage, and the path of its agreement."""
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    (path,) = (tmp_path / "agreement").glob("*.csv")
    return tmp_path, path


DAMAGE = {
    "deleted": lambda path: path.unlink(),
    "emptied": lambda path: path.write_bytes(b""),
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "without its settings": lambda path: [path.unlink(), path.with_suffix(".json").unlink()],
    "without a row": lambda path: path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1])),
    "deleted, with all beside it": lambda path: shutil.rmtree(path.parent),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_rows_that_were_lost_are_computed_again_from_the_kept_networks(damaged, finished, quick, trained, damage):
    folder, path = damaged
    expected = lines(folder)
    DAMAGE[damage](path)
    with pytest.warns(UserWarning, match=r"Rows of .*agreement.* are lost, at \d checkpoints .* is computed again"):
        same(run(folder), finished[1])
    assert lines(folder) == expected and not trained
    same(run(folder), finished[1])  # without a word


def test_rows_of_workers_that_were_lost_are_computed_again(damaged, quick):
    folder, path = damaged
    expected = lines(folder)
    path.unlink()
    with pytest.warns(UserWarning, match="is computed again"):
        run(folder, workers="join")
    assert lines(folder) == expected and not list(folder.rglob("*+*"))


def test_rows_whose_networks_are_gone_stay_missing_with_a_word(damaged, finished, quick, trained):
    folder, path = damaged
    path.unlink()
    shutil.rmtree(folder / "networks")
    with pytest.warns(UserWarning, match=r"at 6 checkpoints .* stays missing, for these networks are not kept"):
        same(run(folder), finished[1])
    assert not trained and not path.exists()


def test_a_measure_that_scores_no_more_is_told_of_and_tried_once(damaged, finished, quick, monkeypatch):
    folder, path = damaged
    path.unlink()
    scores = threshold_grid.Grid._scores_of

    def fails(*asked):
        found, failed = scores(*asked)
        without = {scoring: of for scoring, of in found.items() if scoring.measure != "random"}
        return without, failed | dict.fromkeys(found.keys() - without.keys(), "cannot")

    monkeypatch.setattr(threshold_grid.Grid, "_scores_of", fails)
    gone = pytest.warns(UserWarning, match="stays missing: a measure that could score a network does so no more")
    with pytest.warns(UserWarning, match="is computed again"), gone:
        same(run(folder, workers="join"), finished[1])
    assert len(read(path.parent)) == 6 * 4


def test_a_measure_that_cannot_score_is_not_missing(tmp_path, quick, monkeypatch):
    scores = threshold_grid.Grid._scores_of

    def fails(*asked):
        found, failed = scores(*asked)
        without = {scoring: of for scoring, of in found.items() if scoring.measure != "random"}
        return without, failed | dict.fromkeys(found.keys() - without.keys(), "cannot")

    monkeypatch.setattr(threshold_grid.Grid, "_scores_of", fails)
    with pytest.warns(UserWarning, match="'random' cannot"):
        frame = run(tmp_path, seeds=[0])
    monkeypatch.undo()
    same(run(tmp_path, seeds=[0]), frame)


def test_rows_of_a_measure_whose_file_has_changed_are_known(damaged, finished, quick, monkeypatch):
    folder, path = damaged
    digests = importance.digests()
    monkeypatch.setattr(importance, "digests", lambda: {**digests, "random": "changed"})
    (grid,) = folder.glob("*.csv")
    text = [line for line in grid.read_text().splitlines(keepends=True) if ",random," not in line]
    grid.write_text("".join(text))  # as the warning advises: so the grid's own rows are of the changed file
    match = r"The rows of random in .*agreement.* were computed before importance/random.py was changed"
    with pytest.warns(UserWarning, match=match):
        run(folder)
    assert json.loads(grid.with_suffix(".json").read_text())["measures_sha256"]["random"] == "changed"
    with pytest.warns(UserWarning, match=match):  # as long as they stand
        run(folder)
    rows = [line for line in path.read_text().splitlines(keepends=True) if ",random," not in line]
    path.write_text("".join(line for line in rows if ",random" not in line))
    with pytest.warns(UserWarning, match="is computed again"):
        run(folder)
    assert json.loads(path.with_suffix(".json").read_text())["measures_sha256"]["random"] == "changed"
    run(folder)
