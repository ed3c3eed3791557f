"""Grids of groups that lie across layers, and of scopes within outputs and blocks."""

import keras
import numpy as np
import pytest
from grid_runs import run
from keras import layers

import report
from experiments import threshold_grid

pytestmark = pytest.mark.usefixtures("quick")
QUARTERS = [0, 0.25, 0.5, 0.75, 1]
SCOPES = ["layer", "output", "2:4", "model", "model:lamp", "model:owl"]


def eight():
    return keras.Sequential([keras.Input((4,)), layers.Dense(8, activation="relu"), layers.Dense(3)])


def test_channels_of_a_convolutional_network_fall_whole(tmp_path):
    frame = threshold_grid.run(
        task="digits", model="cnn", measures=["magnitude", "random"], levels=["channel"], fill="zero", thresholds=5,
        epochs=1, examples=100, evaluated=100, out=tmp_path, progress=False,
    )  # fmt: skip
    assert len(frame) == 10 and (frame.status == "ok").all()
    whole = frame[frame.threshold == 1]
    assert whole.replaced_fraction.eq(1).all() and whole.validation_loss.nunique() == 1
    assert (frame.groupby("measure").replaced_fraction.apply(lambda part: part.is_monotonic_increasing)).all()


def test_channels_have_an_oracle_line(tmp_path):
    def normalised():
        parts = [layers.Dense(6, use_bias=False), layers.BatchNormalization(), layers.ReLU(), layers.Dense(3)]
        return keras.Sequential([keras.Input((4,)), *parts])

    frame = run(tmp_path, model=normalised, measures=["random"], levels=["channel"], oracles=["greedy:examples=50"],
                thresholds=7, epochs=2, every=2, seeds=[0], fill="zero", scored_on="validation")  # fmt: skip
    assert (frame.status == "ok").all() and set(frame.measure) == {"random", "greedy:examples=50"}
    by = frame.set_index(["measure", "threshold"]).validation_loss.unstack()
    assert by.loc["greedy:examples=50"].sum() <= by.loc["random"].sum()
    assert by.iloc[:, -1].nunique() == 1  # with all channels gone, whichever went first


def test_every_scope_has_its_rows(tmp_path):
    frame = run(tmp_path, model=eight, measures=["magnitude", "fisher", "random"], levels=["weight"], scopes=SCOPES,
                thresholds=QUARTERS, epochs=1, seeds=[0, 1], fill="zero")  # fmt: skip
    assert (frame.status == "ok").all() and frame.groupby("scope").size().to_dict() == dict.fromkeys(SCOPES, 30)
    asked = frame[frame.scope.isin(["model:lamp", "model:owl", "model"])]
    assert (abs(asked.replaced_fraction - asked.threshold) < 0.03).all()
    blocks = frame[frame.scope == "2:4"]
    assert np.array_equal(blocks.replaced_fraction, blocks.threshold)
    ends = frame[frame.threshold == 1].groupby("scope").validation_loss.nunique()
    assert ends.drop("2:4").eq(1).all()
    agreement = report.read_agreement(tmp_path / "agreement")
    assert set(agreement.scope) == {"layer", "model"}
    tests = report.order(frame, resamples=99).tests
    assert set(tests.scope) == set(SCOPES)
    assert report.curves(frame).axes


def test_a_grid_says_what_a_model_lacks(tmp_path):
    with pytest.raises(ValueError, match=r"level 'attention_head', received .* which has none"):
        run(tmp_path, model=eight, levels=["attention_head"])
    with pytest.raises(ValueError, match=r"inputs that 3 divides for the scope '1:3', received 4"):
        run(tmp_path, model=eight, levels=["weight"], scopes=["1:3"], thresholds=[0, 1 / 3, 2 / 3, 1])
    with pytest.raises(ValueError, match="weights that stand alone for the scope 'output'"):
        run(tmp_path, model=eight, levels=["unit"], scopes=["output"])
