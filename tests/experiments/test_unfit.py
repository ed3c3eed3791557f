"""Measures that cannot score a network: told before anything is trained, recorded, and in no other's way."""

import shutil

import keras
import numpy as np
import pandas as pd
import pytest
from grid_runs import linear, run, values
from keras import layers

import importance
import report
from engine import training, variants
from experiments import threshold_grid, unfit

pytestmark = pytest.mark.usefixtures("quick")
SETTINGS = {"measures": ["magnitude", "signal"], "levels": ["unit"], "epochs": 2, "thresholds": 3, "seeds": [0]}


def recurrent():
    inputs = keras.Input((4,))
    return keras.Model(inputs, layers.Dense(3)(layers.LSTM(2)(layers.Reshape((4, 1))(inputs))))


@pytest.fixture
def fails(monkeypatch):
    """Make a measure raise what `error` gives when it is called with how often it has been."""

    def make(measure, error):
        definition, calls = importance.load(measure).definition, []

        def score(evidence, **options):
            calls.append(len(evidence.x))
            if (found := error(len(calls))) is not None:
                raise found
            return definition.score(evidence, **options)

        load = importance.load

        def loaded(name, **options):
            found = load(name, **options)
            return found._replace(definition=definition._replace(score=score)) if name == measure else found

        monkeypatch.setattr(importance, "load", loaded)
        return calls

    return make


def events(monkeypatch, caught):
    """Record in `caught` the epochs that are trained and the measures that are warned of, as they happen."""
    train = training.train
    monkeypatch.setattr(training, "train", lambda *a: (caught.append("trained"), train(*a))[1])
    monkeypatch.setattr(unfit, "warn", lambda measure, reason: caught.append((measure, reason)))


def test_other_measures_go_on_and_the_reason_stands_in_the_rows(tmp_path, monkeypatch):
    said = []
    events(monkeypatch, said)
    frame = run(tmp_path, model=recurrent, **SETTINGS)
    assert said[0][0] == "signal" and said[1] == "trained"
    assert frame.groupby("measure").status.nunique().tolist() == [1, 1] and len(frame) == 12
    of = dict(list(frame.groupby("measure")))
    assert set(of["magnitude"].status) == {"ok"} and np.isfinite(of["magnitude"].validation_loss).all()
    reason = of["signal"].status.iloc[0]
    assert reason.startswith(
        "cannot score this network: ValueError: Expected layers of which it is known what their weights"
    )
    assert "'lstm/lstm_cell', a LSTMCell" in reason
    assert of["signal"].validation_loss.isna().all() and of["signal"].replaced_fraction.isna().all()
    (path,) = tmp_path.glob("*.csv")
    assert len(report.read(path)) == 12
    alone = run(tmp_path / "alone", model=recurrent, **{**SETTINGS, "measures": ["magnitude"]})
    columns = ["epoch", "threshold", "validation_loss", "validation_accuracy", "replaced_fraction"]
    pd.testing.assert_frame_equal(
        of["magnitude"][columns].reset_index(drop=True), alone[columns], check_exact=True
    )  # fmt: skip


def test_a_run_that_was_stopped_ends_in_the_same_rows(tmp_path, monkeypatch):
    events(monkeypatch, said := [])
    settings = {**SETTINGS, "measures": ["magnitude", "deletion:level=foo"], "model": linear}
    whole = run(tmp_path / "whole", **settings)
    (path,) = (tmp_path / "whole").glob("*.csv")
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "cut").mkdir()
    for side in (".json", ".sums"):
        shutil.copy(path.with_suffix(side), tmp_path / "cut")
    for keep in (2, 5, 8):  # within the rows of each measure
        cut = tmp_path / "cut" / path.name
        cut.write_text("".join(lines[:keep]), encoding="utf-8")
        again = run(tmp_path / "cut", **settings)
        pd.testing.assert_frame_equal(values(again), values(whole), check_exact=True)
    said.clear()
    run(tmp_path / "cut", **settings)
    assert not said, "rows with a reason count as done"


def test_a_grid_whose_every_measure_is_unfit_is_refused_at_once(tmp_path, monkeypatch):
    events(monkeypatch, said := [])
    with pytest.raises(
        ValueError, match=r"can score this network, received none:\nsignal cannot score .*\nwanda cannot"
    ):
        run(tmp_path, model=recurrent, **{**SETTINGS, "measures": ["signal", "wanda"]})
    assert not said and not list(tmp_path.glob("*.csv"))


@pytest.mark.parametrize(
    "measure, model, reason",
    [
        ("deletion:level=foo", None, "Expected level to be one of"),
        (
            "adam_second_moment",
            None,
            "cannot score this network: ValueError: Expected a model trained with an optimizer that",
        ),
    ],
)
def test_options_and_optimizers_that_do_not_fit(tmp_path, monkeypatch, measure, model, reason):
    events(monkeypatch, said := [])
    frame = run(tmp_path, optimizer="sgd", **{**SETTINGS, "measures": [measure, "magnitude"]})
    assert [s[0] if s != "trained" else s for s in said] == [measure, *["trained", measure] * 2]
    assert reason in frame[frame.measure == measure].status.iloc[0]
    assert set(frame[frame.measure == "magnitude"].status) == {"ok"}


def test_labels_that_a_measure_has_no_use_for(tmp_path, monkeypatch):
    events(monkeypatch, said := [])
    frame = run(tmp_path, task="function", **{**SETTINGS, "measures": ["fisher_argmax", "magnitude"]})
    assert said[0][0] == "fisher_argmax" and set(frame[frame.measure == "magnitude"].status) == {"ok"}


def test_a_measure_that_fails_on_a_trained_network_only(tmp_path, monkeypatch, fails):
    """Its first call is the trial, its second that of epoch 1, its third that of epoch 2."""
    events(monkeypatch, said := [])
    calls = fails("taylor", lambda call: ZeroDivisionError("a bug\nin its file") if call == 3 else None)
    frame = run(tmp_path, **{**SETTINGS, "measures": ["taylor", "magnitude"]})
    assert calls[0] == unfit.EXAMPLES < calls[1] == calls[2]
    status = frame[frame.measure == "taylor"].set_index("epoch").status
    assert set(status[1]) == {"ok"} and set(status[2]) == {"cannot score this network: ZeroDivisionError: a bug"}
    assert said == ["trained", "trained", ("taylor", "cannot score this network: ZeroDivisionError: a bug")]


def test_a_measure_that_needs_more_examples_than_the_trial_has(tmp_path, monkeypatch, fails):
    events(monkeypatch, said := [])
    calls = fails("taylor", lambda call: ValueError("too few") if call == 1 else None)
    frame = run(tmp_path, **{**SETTINGS, "measures": ["taylor"]})
    assert set(frame.status) == {"ok"} and said == ["trained", "trained"] and calls[1] > unfit.EXAMPLES


class ResourceExhaustedError(Exception):
    """As TensorFlow's."""


@pytest.mark.parametrize(
    "error",
    [
        OSError("disk"), MemoryError(), RuntimeError("RESOURCE_EXHAUSTED: 8 GiB"), ResourceExhaustedError(),
        variants.Changed("a file"),
    ],
)  # fmt: skip
def test_what_is_the_machines_fault_stops_the_run(tmp_path, fails, error):
    fails("taylor", lambda call: error if call == 2 else None)
    with pytest.raises(type(error)):
        run(tmp_path, **{**SETTINGS, "measures": ["taylor", "magnitude"]})
    assert not list(tmp_path.glob("*.csv")) or len(pd.read_csv(next(iter(tmp_path.glob("*.csv"))))) == 0


def test_names_of_layers_lose_the_numbers_of_this_process():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2, name="dense_17"), layers.Dense(2, name="dense_1")])

    def score():
        raise KeyError("in dense_17/kernel, not dense_171 and not dense_1")

    _, reason = unfit.attempt(score, model)
    assert reason == "cannot score this network: KeyError: 'in dense/kernel, not dense_171 and not dense'"
    assert unfit.attempt(lambda: 3, model) == (3, None)


def test_estimates_of_grids_with_such_measures(tmp_path):
    settings = {**SETTINGS, "measures": ["magnitude", "deletion:level=foo"]}
    assert "12 evaluations" in str(threshold_grid.estimate(task="iris", model=linear, out=tmp_path, **settings))
