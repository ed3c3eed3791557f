"""Runs of fine-tuning: what they record, and that they go on after a kill."""

import json

import numpy as np
import pandas as pd
import pytest

import importance
from engine import training
from experiments import fine_tuning, status
from report.fine_tuning import results as reading

HELD = {"measures": ["magnitude"], "penalties": ["stabilized"], "strengths": [3.0]}
EXPLODING = {"measures": ["uniform"], "penalties": ["plain"], "optimizer": "sgd", "learning_rate": 0.1, "steps": 6}


def cells(frame):
    """What does not depend on when it was computed, in one order."""
    return frame.drop(columns="seconds").sort_values(fine_tuning.KEY, ignore_index=True)


def same(frame, other):
    pd.testing.assert_frame_equal(cells(frame), cells(other), check_exact=True)


def losses(frame, **of):
    """The losses (evaluations, texts) of one run, in the order of its steps."""
    for column, value in of.items():
        frame = frame[frame[column] == value]
    return frame.sort_values("step")[["old_loss", "new_loss"]].to_numpy()


def test_every_run_has_a_row_for_each_evaluation(small):
    frame = small.run(**HELD, seeds=[3, 4], steps=3)
    assert list(frame.columns) == fine_tuning.COLUMNS == reading.COLUMNS and set(frame["status"]) == {"ok"}
    assert set(frame["old_text"]) == {"old"} and set(frame["new_text"]) == {"new"} and set(frame["model"]) == {"gpt"}
    for _, of_run in frame.groupby(["measure", "penalty", "strength", "seed"]):
        assert of_run["step"].tolist() == [0, 2, 3]
    assert len(frame) == 2 * 2 * 3
    for text in ("old", "new"):
        np.testing.assert_allclose(frame[f"{text}_perplexity"], np.exp(frame[f"{text}_loss"]), rtol=1e-12)
    for seed in (3, 4):  # before the first step all are the same model
        assert np.ptp(losses(frame, step=0, seed=seed), axis=0).tolist() == [0, 0]
    assert (losses(frame, step=0, seed=3) != losses(frame, step=0, seed=4)).all()
    held = frame[(frame["measure"] == "magnitude") & (frame["step"] > 0)]
    assert (held["ewc_largest"] > 0).all()
    assert (held["ewc_penalty_ratio"] > 0).all()
    # Other protections and seeds of the same settings join the same file; what is there is not done again.
    more = small.run(**{**HELD, "strengths": [3.0, 30.0]}, seeds=[3], steps=3)
    assert len(more) == len(frame) + 3
    pd.testing.assert_frame_equal(more[: len(frame)], frame)
    read = reading.read_fine_tuning(small.folder / "out")
    assert len(read) == len(more) and not len(reading.not_finite(read))


def test_beside_them_is_where_the_importance_is(small):
    job = small.job(**HELD, seeds=[0, 1])
    job.run(progress=False)
    found = reading.read_importances(small.folder / "out")
    scores = job.scores("magnitude", 1)
    of_seed = found[found["seed"] == 1]
    assert of_seed["size"].tolist() == [s.size for s in scores]
    np.testing.assert_allclose(of_seed["mean"], [s.mean() for s in scores], rtol=1e-6)
    np.testing.assert_allclose(of_seed["largest"], [s.max() for s in scores], rtol=1e-6)
    kinds = dict(zip(of_seed["variable"], of_seed["kind"], strict=True))
    assert set(kinds.values()) == set(reading.KINDS)
    for start, kind in {
        "attention_1/": "attention",
        "attention_norm": "normalisation",
        "position_": "embedding",
    }.items():
        assert {k for v, k in kinds.items() if v.startswith(start)} == {kind}
    assert kinds["output/kernel"] == kinds["dense_in_1/bias"] == "dense"


def test_a_model_is_pretrained_once(small, trained):
    small.settings["pretraining_steps"] = 4
    small.run()
    assert trained == [(4, 4 * 4), (2, 2 * 4), (4, 2 * 4)]
    del trained[:]
    small.run(**HELD)
    assert trained == [(2, 2 * 4), (4, 2 * 4)]
    small.run(**HELD)
    small.run("out", **HELD, steps=2)  # another run of the same pretrained model
    assert trained[2:] == [(2, 2 * 4)] * 2
    del trained[:]
    small.run(seeds=[1])
    small.run(pretraining_rate=1e-3)
    assert [call for call in trained if call[1] == 16] == [(4, 16)] * 2


def test_seeds_may_share_what_is_pretrained(small, trained):
    settings = {**HELD, "pretraining_steps": 4}
    frame = small.run(**settings, seeds=[0, 1, 2, 3], pretrainings=2)
    assert trained.count((4, 16)) == 2
    begun = frame[frame["step"] == 0].groupby("seed")["old_loss"].first()
    assert begun[0] == begun[2] != begun[1] == begun[3]
    ends = frame[(frame["step"] == 4) & (frame["penalty"] == "none")].set_index("seed")["old_loss"]
    assert ends.nunique() == 4
    assert set(small.job(**settings, pretrainings=2).spread.frame()["seed"]) == {0, 1}
    assert small.job(**settings).settings.name != small.job(**settings, pretrainings=2).settings.name
    own = small.run("own", **settings, seeds=[0, 1])
    same(own.drop(columns="run"), frame[frame["seed"] < 2].drop(columns="run").reset_index(drop=True))


def test_pretraining_goes_on_where_it_was_left(small, trained, monkeypatch):
    monkeypatch.setattr(fine_tuning, "_AT_ONCE", 2)
    settings = {"pretraining_steps": 6, "seeds": [1]}
    whole = small.job("whole", **settings).pretrained(1)
    assert trained == [(2, 8), (4, 8), (6, 8)]
    trained.dies_at = 6
    with pytest.raises(KeyboardInterrupt):
        small.job("parts", **settings).pretrained(1)
    del trained[:]
    for _ in range(2):
        again = small.job("parts", **settings).pretrained(1)
        assert trained == [(6, 8)]
        for a, b in zip(again, whole, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("at", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_an_interrupted_run_ends_in_the_same_file(small, trained, at):
    settings = {"measures": ["magnitude"], "penalties": ["plain"], "strengths": [1.0]}
    whole = small.run("whole", **settings)
    trained.dies_at = len(trained) + at
    with pytest.raises(KeyboardInterrupt):
        small.run("parts", **settings)
    written = len(pd.read_csv(small.job("parts", **settings).store.path))
    assert written == {2: 2, 4: 5}[at]
    del trained[:]
    same(small.run("parts", **settings), whole)
    assert len(trained) == 4 - (at - 1) and not list((small.folder / "parts" / "checkpoints").rglob("*.npz"))


def test_a_last_row_without_its_checkpoint_is_not_written_again(small, monkeypatch):
    whole = small.run("whole")
    save = fine_tuning.Checkpoints.save

    def dies(kept, step, arrays):
        if "checkpoints" in kept.folder.parts:
            raise KeyboardInterrupt
        save(kept, step, arrays)

    with monkeypatch.context() as patch:
        patch.setattr(fine_tuning.Checkpoints, "save", dies)
        with pytest.raises(KeyboardInterrupt):
            small.run("parts")
    assert len(pd.read_csv(small.job("parts").store.path)) == 2
    same(small.run("parts"), whole)


@pytest.mark.slow
def test_checkpoints_of_something_else_are_not_gone_on_from(small, trained):
    """Another step's file under a step's name; another seed's pretrained weights."""
    small.settings["pretraining_steps"] = 4
    settings = {"measures": ["magnitude"], "penalties": ["plain"], "strengths": [1.0], "steps": 6}
    whole = small.run("whole", **settings)
    small.job("parts", **settings).pretrained(1)
    trained.dies_at = len(trained) + 7
    with pytest.raises(KeyboardInterrupt):
        small.run("parts", **settings)
    first, second = sorted((small.folder / "parts" / "checkpoints").rglob("*.npz"))
    second.write_bytes(first.read_bytes())
    (own,) = (small.folder / "parts").rglob("seed-0/00004.npz")
    (other,) = (small.folder / "parts").rglob("seed-1/00004.npz")
    own.write_bytes(other.read_bytes())
    trained.dies_at = None
    with pytest.warns(UserWarning) as warned:
        same(small.run("parts", **settings), whole)
    said = [str(each.message) for each in warned]
    assert len(said) == 2 and "the trial seed-0, received one that says seed-1" in said[0]
    assert "of the epoch 4, received one that says 2; going on from the one before it" in said[1]


def test_who_joins_does_the_same_and_nothing_twice(small):
    settings = {**HELD, "seeds": [0, 1]}
    alone, joined = small.run("alone", **settings), small.run("joined", workers="join", **settings)
    same(joined, alone)
    again = small.run("joined", workers="join", **settings)
    pd.testing.assert_frame_equal(again, joined)
    spread = [small.job(out, **settings).spread.frame() for out in ("alone", "joined")]
    assert not spread[1].duplicated(fine_tuning.SPREAD_KEY).any()
    order = [frame.sort_values(fine_tuning.SPREAD_KEY, ignore_index=True) for frame in spread]
    pd.testing.assert_frame_equal(*order, check_exact=True)
    assert not list((small.folder / "joined").glob("*+*.csv"))


@pytest.mark.slow
def test_runs_of_factors_go_on_join_and_do_not_touch_the_others(small, trained):
    settings = {**HELD, "penalties": ["stabilized:lora=2"], "lora": [2, 3]}
    alone = small.run("parts", **HELD)
    whole = small.run("whole", **settings)
    trained.dies_at = len(trained) + 2 * 3  # in the second step of factors that are held
    with pytest.raises(KeyboardInterrupt):
        small.run("parts", **settings)
    trained.dies_at = None
    frame = small.run("parts", **settings)
    pd.testing.assert_frame_equal(frame[: len(alone)], alone)
    same(frame[(frame["penalty"] != "stabilized")], whole)
    named = frame[frame["step"] == 4].set_index(["measure", "penalty", "strength"]).index.tolist()
    assert set(named) == {
        ("none", "none", 0.0), ("magnitude", "stabilized", 3.0), ("lora", "none", 2.0), ("lora", "none", 3.0),
        ("magnitude", "stabilized:lora=2", 3.0),
    }  # fmt: skip
    assert len({tuple(of) for of in losses(frame, step=4)}) == 5


def test_how_far_it_is_can_be_asked(small, trained):
    trained.dies_at = 4
    with pytest.raises(KeyboardInterrupt):
        small.run(**HELD)
    (row,) = status(small.folder / "out").to_dict("records")
    # It died before the first evaluation after the start of the second run.
    assert (row["kind"], row["done"], row["missing"], row["state"]) == ("fine_tuning", 5, 1, "stopped")
    trained.dies_at = None
    small.run(**HELD)
    (row,) = status(small.folder / "out").to_dict("records")
    assert (row["done"], row["missing"], row["failed"], row["state"]) == (6, 0, 0, "finished")


def test_a_run_whose_weights_explode_is_recorded(small):
    with pytest.warns(UserWarning, match="seed 0, weights are not finite at step 3; the run is recorded so"):
        frame = small.run(**EXPLODING, strengths=[1e38], every=3)
    left = frame[frame["measure"] == "uniform"]
    assert left["step"].tolist() == [0, 3, 6]
    assert left["status"].tolist() == ["ok", *["weights are not finite at step 3"] * 2]
    for column in ("old_loss", "new_loss", "old_perplexity", "new_perplexity", *fine_tuning.METER):
        assert left[column].isna().tolist() == [False, True, True]
    assert (frame[frame["measure"] == "none"]["status"] == "ok").all()
    again = small.run(**EXPLODING, strengths=[1e38], every=3)  # it is not tried again
    pd.testing.assert_frame_equal(again, frame)
    assert reading.not_finite(reading.read_fine_tuning(small.folder / "out"))["step"].tolist() == [3]


def test_a_loss_that_is_no_number_is_said_to_be_none(small):
    with pytest.warns(UserWarning, match="not finite at step 4"):
        frame = small.run(**EXPLODING, strengths=[1e30])
    left = frame[frame["measure"] == "uniform"].set_index("step")["status"]
    assert left[2] == "losses are not finite" and left[4] == left[6] == "weights are not finite at step 4"


def test_a_perplexity_too_large_for_a_number_is_infinite():
    assert fine_tuning._exp(1e4) == float("inf") and fine_tuning._exp(0.0) == 1.0


def test_a_text_that_was_changed_is_refused(small):
    frame = small.run()
    about = json.loads(small.job().store.settings_path.read_text())
    assert set(about["data_sha256"]) == {"old", "new"} and about["settings"]["old"] == str(small.old)
    text = small.new.read_text()
    small.new.write_text(text.replace("f(7)", "g(7)"))
    with pytest.raises(ValueError, match=r"received others for new: .* Put the earlier data back"):
        small.run()
    small.new.write_text(text)
    pd.testing.assert_frame_equal(small.run(), frame)


def test_a_text_that_changes_while_a_run_is_going_on_is_not_read_again(small):
    whole = small.run("whole", **HELD)
    watched = small.job(**HELD).run(progress=False, watch=lambda frame: small.old.write_text("others" * 500))
    same(watched, whole)


def test_importances_without_a_scale(small, monkeypatch):
    monkeypatch.setattr(importance.LoadedMeasure, "score", lambda measure, model, *a, **k: [
        np.zeros(v.shape, "float32") for v in model.trainable_variables
    ])  # fmt: skip
    with pytest.warns(UserWarning, match=r"finite mean above 0 .* received 0.0 from 'magnitude'. Use scaled=False"):
        frame = small.run(**HELD)
    assert (frame[frame["measure"] == "none"]["status"] == "ok").all()
    failed = frame[frame["measure"] == "magnitude"]
    assert failed["step"].tolist() == [0, 2, 4] and failed["old_loss"].isna().all()
    assert (
        failed["status"]
        .str.startswith("cannot score this network: ValueError: Expected importances with a finite mean")
        .all()
    )
    assert set(small.run(**HELD, scaled=False)["status"]) == {"ok"}


def unfit(monkeypatch, name):
    """Let a measure of that name raise, whenever it is called."""
    original = importance.LoadedMeasure.score

    def score(measure, *args, **kwargs):
        if measure.name == name:
            raise TypeError("not for this one")
        return original(measure, *args, **kwargs)

    monkeypatch.setattr(importance.LoadedMeasure, "score", score)


def test_a_measure_that_does_not_fit(small, trained, monkeypatch):
    unfit(monkeypatch, "uniform")
    settings = {"measures": ["uniform", "magnitude"], "penalties": ["plain"], "strengths": [1.0]}
    with pytest.warns(UserWarning, match="cannot score this network: TypeError: not for this one") as warned:
        frame = small.run(**settings)
    assert "The measure 'uniform' cannot" in str(warned[0].message)
    by_measure = frame.groupby("measure")["status"].unique()
    assert by_measure["uniform"].tolist() == ["cannot score this network: TypeError: not for this one"]
    assert by_measure["magnitude"].tolist() == by_measure["none"].tolist() == ["ok"]
    assert len(frame) == 9 and frame[frame["measure"] == "uniform"]["new_loss"].isna().all()
    trained.clear()
    pd.testing.assert_frame_equal(small.run(**settings), frame)
    assert not trained, "rows with a reason count as done"
    with pytest.raises(ValueError, match=r"can score this network, received none:\nuniform cannot score this network"):
        small.run("other", **{**settings, "measures": ["uniform"]})
    assert not trained


def test_a_second_study_of_the_same_structure_compiles_nothing(small, monkeypatch):
    small.settings["pretraining_steps"] = 2
    frame = small.run(**HELD)

    def compiled(*arguments, **options):
        raise AssertionError("compiled once more")

    monkeypatch.setattr(training, "compile_model", compiled)
    same(frame, small.run("again", **HELD))
    with pytest.raises(AssertionError, match="compiled once more"):
        small.run("other", **HELD, batch_size=3)
