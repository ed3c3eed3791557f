"""Models of one's own, estimates, and runs that go wrong."""

import os

import keras
import numpy as np
import pytest
from grid_runs import SETTINGS, linear, run, same
from keras import layers

import importance
from engine import evaluation, training
from experiments import threshold_grid

pytestmark = pytest.mark.usefixtures("quick")
SMALL = {"measures": ["magnitude", "random"], "thresholds": 3, "epochs": 1, "seeds": [0], "levels": ["weight"]}


def deep(units=6):
    inputs = keras.Input((4,))
    hidden = layers.Dense(units, activation="relu")(inputs)
    dropped = layers.Dropout(0.1)(hidden)
    return keras.Model(inputs, layers.Dense(3)(dropped))


def test_a_model_of_ones_own_and_a_function_that_builds_it(tmp_path):
    """Both have new weights in every trial, drawn from its seed, so both give the same."""
    of_model = run(tmp_path / "model", model=deep(), **SMALL)
    of_function = run(tmp_path / "function", model=deep, **SMALL)
    assert of_model.model.str.fullmatch(r"custom-[0-9a-f]{8}").all() and (of_model.status == "ok").all()
    same(of_function, of_model)


def test_weights_of_a_model_of_ones_own_are_not_touched(tmp_path):
    model = linear()
    before = training.values(model.variables)
    frame = run(tmp_path, model=model, **SMALL)
    assert len(frame) == 6
    assert all(np.array_equal(a, b) for a, b in zip(before, training.values(model.variables), strict=True))


def name_of(model, folder):
    return threshold_grid.Grid(model=model, out=folder, **{**SETTINGS, **SMALL}).settings.model


def test_the_name_is_that_of_the_architecture(tmp_path):
    first = name_of(deep, tmp_path)
    keras.Sequential([keras.Input((1,)), layers.Dense(1)])  # Keras numbers its layers' names on
    assert name_of(deep, tmp_path) == name_of(deep(), tmp_path) == first
    assert name_of(linear, tmp_path) != first != name_of(lambda: deep(7), tmp_path)


def wrong_output():
    return keras.Sequential([keras.Input((4,)), layers.Dense(10)])


@pytest.mark.parametrize(
    "model, message",
    [
        (wrong_output, r"one output of shape \(None, 3\) for the task 'iris', received \(None, 10\)"),
        (lambda: keras.Sequential([keras.Input((5,)), layers.Dense(3)]), r"one input of shape \(None, 4\)"),
        (
            lambda: keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="softmax")]),
            "Expected a model that outputs logits",
        ),
    ],
)
def test_a_model_that_does_not_fit_the_task(tmp_path, model, message):
    for given in (model, model()):
        with pytest.raises(ValueError, match=message):
            run(tmp_path, model=given, **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_estimate_counts_what_a_run_evaluates(tmp_path, finished):
    grid = threshold_grid.Grid(out=tmp_path, **SETTINGS)
    told = grid.estimate()
    frame = grid.run(progress=False)
    assert told.asked == len(frame) and told.done == 0
    assert told.distinct == (frame.seconds > 0).sum() < len(frame)
    assert told.seconds > 0
    assert f"{told.asked} evaluations asked for, 0 of them done; about {told.distinct} are distinct" in str(told)
    same(frame, finished[1])  # estimating changed nothing

    again = threshold_grid.estimate(out=tmp_path, **SETTINGS)
    assert again == (len(frame), len(frame), 0, 0)
    more = threshold_grid.Grid(out=tmp_path, **{**SETTINGS, "seeds": [0, 1, 2]})
    asked = []
    more._time = lambda *what: asked.append(what) or 9.0
    assert more.estimate() == (len(frame) * 3 // 2, len(frame), told.distinct // 2, 9.0)
    assert asked == [(2, 3, 3, told.distinct // 2)]  # the epochs and checkpoints of the third seed
    later = threshold_grid.Grid(out=tmp_path, **{**SETTINGS, "measures": ["magnitude", "taylor"], "epochs": 4})
    later._time = lambda *what: asked.append(what) or 9.0
    later.estimate()
    assert asked[-1][:3] == (0, 2, 8)  # a fourth epoch of each


def test_cells_that_replace_the_same_weights_are_evaluated_once(tmp_path, monkeypatch):
    asked, call = [], evaluation.Evaluator.__call__

    def counted(self, ranks, replacements, thresholds):
        asked.append(int(np.isfinite(thresholds).sum()))
        return call(self, ranks, replacements, thresholds)

    monkeypatch.setattr(evaluation.Evaluator, "__call__", counted)
    frame = run(tmp_path, model=linear, **{**SMALL, "levels": ["layer"], "thresholds": 5})
    # One layer: nothing falls at 0, everything at the four others, for either measure.
    assert len(frame) == 10 and sum(asked) == 2 and (frame.seconds > 0).sum() == 2
    assert frame.groupby("replaced_fraction").validation_loss.nunique().tolist() == [1, 1]


def test_a_training_that_diverges_is_recorded_so_and_goes_on(tmp_path, trained):
    settings = {**SMALL, "measures": ["magnitude", "fisher_empirical"], "epochs": 3, "seeds": [0, 1]}
    with pytest.warns(UserWarning, match="not finite") as warned:
        frame = run(tmp_path, model=linear, learning_rate=1e38, **settings)
    assert {str(w.message).split(";")[0] for w in warned} <= {
        "A validation loss is not finite", "A measure gave importances that are not finite",
    }  # fmt: skip
    assert len(frame) == 2 * 3 * 2 * 3 and not frame.duplicated(threshold_grid.KEY).any()
    finite = np.isfinite(frame.validation_loss)
    assert (frame.status[finite] == "ok").all() and not finite[frame.epoch == 3].any()
    assert set(frame[~finite].status) <= {
        "validation loss is nan", "validation loss is inf", "importances are not finite",
    }  # fmt: skip
    assert len(trained) == 6
    same(run(tmp_path, model=linear, learning_rate=1e38, **settings), frame)
    assert len(trained) == 6  # what diverged is done, too


def test_a_measure_that_is_not_finite_does_not_stop_the_others(tmp_path, monkeypatch):
    load = importance.load

    def broken(name, **options):
        measure = load(name, **options)
        if name != "random":
            return measure
        return measure._replace(
            definition=measure.definition._replace(score=lambda e: [np.full(w.shape, np.nan) for w in e.weights])
        )

    monkeypatch.setattr(importance, "load", broken)
    with pytest.warns(UserWarning, match="importances that are not finite; its cells are recorded so"):
        frame = run(tmp_path, model=linear, **SMALL)
    of_measure = dict(list(frame.groupby("measure")))
    assert (of_measure["magnitude"].status == "ok").all() and of_measure["magnitude"].validation_loss.notna().all()
    assert (of_measure["random"].status == "importances are not finite").all()
    assert of_measure["random"].validation_loss.isna().all() and len(of_measure["random"]) == 3


def test_results_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"Expected a folder for results at .*file/below.* Choose another `out`"):
        run(tmp_path / "file" / "below", model=linear, **SMALL)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError, match="Expected a folder that can be written"):
        run(tmp_path, model=linear, **SMALL)


def test_another_file_under_the_runs_name(tmp_path):
    grid = threshold_grid.Grid(model=linear, out=tmp_path, **{**SETTINGS, **SMALL})
    grid.store.path.write_text("Epoch,Loss\n1,0.5\n")
    with pytest.raises(ValueError, match="Another file is in the way"):
        run(tmp_path, model=linear, **SMALL)
    assert grid.store.path.read_text() == "Epoch,Loss\n1,0.5\n"


@pytest.mark.parametrize("seconds, calls", [(-1, 3), (1000, 1)])
def test_watching(tmp_path, monkeypatch, seconds, calls):
    """Called now and then, and always at the end with everything."""
    monkeypatch.setattr(threshold_grid, "_SECONDS_BETWEEN_FIGURES", seconds)
    seen = []
    frame = run(tmp_path, model=linear, watch=seen.append, **SMALL)
    assert [len(f) for f in seen] == [3, 6, 6][-calls:]
    assert seen[-1].equals(frame)


def test_the_validation_examples_that_are_evaluated_and_scored_on(tmp_path):
    few = run(tmp_path, model=linear, evaluated=5, **SMALL)
    assert (few.examples == 5).all()
    settings = {**SMALL, "measures": ["fisher_empirical"], "thresholds": 16}
    on_training = run(tmp_path, model=linear, **settings)
    on_validation = run(tmp_path, model=linear, scored_on="validation", **settings)
    ends = on_training.threshold.isin([0, 1])
    assert on_training[ends].validation_loss.equals(on_validation[ends].validation_loss)
    assert not on_training[~ends].validation_loss.equals(on_validation[~ends].validation_loss)


@pytest.mark.slow
def test_a_schedule_of_the_learning_rate_is_followed(tmp_path):
    constant = run(tmp_path, optimizer="sgd", learning_rate=0.1, **SMALL)
    schedules = keras.optimizers.schedules
    same = run(tmp_path, optimizer="sgd", learning_rate=schedules.PiecewiseConstantDecay([10**6], [0.1, 9.0]), **SMALL)
    stays = run(tmp_path, optimizer="sgd", learning_rate=schedules.PiecewiseConstantDecay([0], [0.1, 1e-30]), **SMALL)
    assert same["validation_loss"].tolist() == constant["validation_loss"].tolist()
    assert stays["validation_loss"].tolist() != constant["validation_loss"].tolist()
    assert len(set(map(str, (constant["run"][0], same["run"][0], stays["run"][0])))) == 3


def test_options_reach_the_optimizer(tmp_path):
    options = {"optimizer": "sgd", "optimizer_options": {"momentum": 0.75}}
    made = threshold_grid.Grid(out=tmp_path, **{**SETTINGS, **options})
    assert made._source.optimizer.inner.momentum == 0.75
