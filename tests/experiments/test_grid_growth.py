"""A study grows: what more is asked for joins the same file, only that is computed, and no network is trained twice."""

import shutil

import numpy as np
import pandas as pd
import pytest
from grid_runs import ROWS, linear, run, same

import report
from engine import evaluation, structure
from experiments import networks, threshold_grid
from report.tables.networks import by_network

pytestmark = pytest.mark.usefixtures("quick")
ALL = ["magnitude", "synaptic_intelligence", "random", "weight_change"]
MORE = [
    {"measures": ["weight_change"]},
    {"measures": ALL, "levels": ["weight", "unit", "layer"]},
    {"thresholds": 9},
    {"seeds": [0, 1, 2, 3]},
    {"epochs": 4},
]
PAIR = ["seed", "epoch", "level", "reduction", "scope", "measure", "other"]


def csv(folder):
    (path,) = folder.glob("*.csv")
    return path


def agreement(folder):
    return pd.read_csv(csv(folder / "agreement")).sort_values(PAIR, ignore_index=True)


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """A run, with XLA, that was asked for more, one thing after another, and what each step did; the same at once."""
    with pytest.MonkeyPatch.context() as patch:
        trained, evaluated = [], []
        train, evaluate = threshold_grid.training.train, evaluation.Evaluator.__call__

        def training(model, x, y, epochs, batch_size, seed, *rest):
            trained.extend((seed, epoch) for epoch in epochs)
            train(model, x, y, epochs, batch_size, seed, *rest)

        def evaluating(self, ranks, replacements, thresholds):
            evaluated.append(np.isfinite(thresholds).sum())
            return evaluate(self, ranks, replacements, thresholds)

        patch.setattr(threshold_grid.training, "train", training)
        patch.setattr(evaluation.Evaluator, "__call__", evaluating)
        folder, asked, steps = tmp_path_factory.mktemp("grown"), {}, []
        before = b""
        for more in [{}, *MORE]:
            asked |= more
            frame = run(folder, model=linear, **asked)
            after = csv(folder).read_bytes()
            steps.append((before, after, trained.copy(), sum(evaluated)))
            before = after
            trained.clear(), evaluated.clear()
        once = tmp_path_factory.mktemp("once")
        return folder, steps, frame, once, run(once, model=linear, **asked)


def test_only_what_is_new_is_computed(grown):
    _, steps, *_ = grown
    new = [after[len(before) :].count(b"\n") - (not before) for before, after, *_ in steps]
    assert new == [ROWS, 60, 120, 288, 648, 432]
    assert all(after.startswith(before) for before, after, *_ in steps)
    assert all(evaluations <= cells for (*_, evaluations), cells in zip(steps, new, strict=True))
    first, more = ([(seed, epoch) for seed in seeds for epoch in (1, 2, 3)] for seeds in ((0, 1), (2, 3)))
    assert [trained for *_, trained, _ in steps] == [first, [], [], [], more, [(seed, 4) for seed in range(4)]]


def test_the_result_is_that_of_a_study_that_asked_for_all_at_once(grown):
    folder, _, frame, once, expected = grown
    same(frame, expected)
    pd.testing.assert_frame_equal(agreement(folder), agreement(once), check_exact=True)
    assert frame.groupby("seed").network.nunique().eq(1).all() and frame.network.nunique() == 4
    assert frame.groupby(["seed", "epoch"]).weights.nunique().eq(1).all() and frame.weights.nunique() == 16


@pytest.mark.slow
def test_a_level_that_leaves_weights_out_has_an_end_of_its_own(tmp_path):
    """Beside another level, whose end is that of all weights, as alone."""
    few = {"task": "digits", "model": "mlp", "measures": ["magnitude"], "epochs": 1, "seeds": [0], "thresholds": 3}
    both = run(tmp_path / "both", **few, levels=["weight", "hidden_unit"]).query("level == 'hidden_unit'")
    same(both, run(tmp_path / "alone", **few, levels=["hidden_unit"]))
    assert (
        both["validation_loss"].iloc[-1] != run(tmp_path / "both", **few, levels=["weight"])["validation_loss"].iloc[2]
    )


@pytest.mark.slow
def test_thresholds_that_are_added_to_a_sweep(tmp_path, monkeypatch):
    monkeypatch.setattr(structure, "xla", lambda model: True)
    few = {"measures": ["magnitude"], "levels": ["weight"], "epochs": 1, "seeds": [0], "sweep": True, "model": linear}
    run(tmp_path / "grown", **few)
    same(run(tmp_path / "grown", **few, thresholds=9), run(tmp_path / "once", **few, thresholds=9))


def test_scores_of_a_new_measure_are_compared_with_those_that_were_there(tmp_path, finished):
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    before = csv(tmp_path / "agreement").read_bytes()
    run(tmp_path, measures=["weight_change"], levels=["unit"])
    assert csv(tmp_path / "agreement").read_bytes().startswith(before)
    new = agreement(tmp_path).query("measure == 'weight_change' or other == 'weight_change'")
    assert set(new.level) == {"unit"} and (new.groupby(["seed", "epoch", "scope"]).size() == 3).all()


def test_a_measure_that_was_there_may_be_gone(tmp_path, finished, monkeypatch):
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    for path in (csv(tmp_path), csv(tmp_path / "agreement")):
        path.write_text(path.read_text().replace(",random,", ",gone,").replace(",random,", ",gone,"))
        path.with_suffix(".sums").unlink()
    with pytest.warns(UserWarning, match=r"There is no .*.sums, which holds checksums of rows"):
        run(tmp_path, measures=["obd"], records=False, seeds=[0])  # nor are there records of synaptic_intelligence
    new = agreement(tmp_path).query("measure == 'obd' or other == 'obd'")
    assert {*new.measure, *new.other} == {"obd", "magnitude"}


def test_a_study_is_computed_again_from_its_networks_alone(tmp_path, finished, trained):
    shutil.copytree(finished[0] / networks.FOLDER, tmp_path / networks.FOLDER)
    same(run(tmp_path), finished[1])
    pd.testing.assert_frame_equal(agreement(tmp_path), agreement(finished[0]), check_exact=True)
    assert not trained


def test_another_study_takes_the_same_networks_and_they_are_the_same_blocks(tmp_path, finished, trained):
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    other = run(tmp_path, examples=50, every=2, records=False, measures=["magnitude", "random"])
    assert not trained and len(list(tmp_path.glob("*.csv"))) == 2
    assert set(other.network) == set(finished[1].network)
    blocks = by_network(report.read(tmp_path)).drop_duplicates(["run", "seed"])
    assert blocks.run.nunique() == 1 and set(blocks.seed) == {0, 1}


def test_records_that_were_left_out_are_made_when_they_are_asked_for(tmp_path, finished, trained):
    plain = run(tmp_path, records=False, measures=["magnitude", "random"])
    before, small = csv(tmp_path).read_bytes(), networks.table(tmp_path)
    assert small.of_records.tolist() == [0]
    trained.clear()
    assert len(run(tmp_path, measures=["magnitude"], levels=["layer"])) > len(plain) and not trained
    with pytest.warns(
        UserWarning, match=r"was kept without the record that synaptic_intelligence needs now, and is tr"
    ):
        found = run(tmp_path)
    assert trained == [(seed, epoch) for seed in (0, 1) for epoch in (1, 2, 3)]
    assert csv(tmp_path).read_bytes().startswith(before)
    same(found[found.level != "layer"], finished[1])
    assert networks.table(tmp_path).of_records[0] > 0


@pytest.mark.slow
def test_a_measure_that_records_otherwise_by_now_has_its_networks_trained_again(
    tmp_path, finished, trained, monkeypatch
):
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    now = networks.recorded() | {"rwalk": "changed"}
    monkeypatch.setattr(networks, "recorded", lambda: now)
    run(tmp_path, measures=["synaptic_intelligence"], levels=["layer"])
    assert not trained
    with pytest.warns(UserWarning, match="without the record that rwalk needs now"):
        run(tmp_path, measures=["rwalk"], seeds=[1])
    assert trained == [(1, epoch) for epoch in (1, 2, 3)]
    trained.clear()
    run(tmp_path, measures=["rwalk"], levels=["layer"], seeds=[1])
    assert not trained
