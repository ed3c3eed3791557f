"""Runs side by side are the runs that they are one at a time."""

import keras
import numpy as np
import pandas as pd
import pytest

from engine import structure
from experiments import sequential
from experiments.storage.store import Store

ON_JAX = pytest.mark.skipif(keras.backend.backend() != "jax", reason="runs go side by side on JAX alone")
SMALL = {
    "measures": ["fisher_empirical"], "penalties": ["stabilized"], "strengths": [1.0, 30.0], "epochs": 3,
    "batch_size": 500, "learning_rate": 0.01, "options": {"tasks": 2}, "seeds": [0, 1],
}  # fmt: skip
KEY = sequential.KEY
ACCURACIES = ["validation_accuracy", "test_accuracy"]


def run(out, sequence="permuted_digits", **settings):
    return sequential.run(sequence, out=out, progress=False, **{**SMALL, **settings})


def assert_same(one, other):
    """Sums are taken in another order: accuracies agree to an image, the meter's numbers to 0.1 %."""
    one, other = (frame.sort_values(KEY, ignore_index=True) for frame in (one, other))
    pd.testing.assert_frame_equal(one[[*KEY, "run", "status"]], other[[*KEY, "run", "status"]])
    np.testing.assert_allclose(one[ACCURACIES], other[ACCURACIES], atol=1.1 / 143)
    np.testing.assert_allclose(one[sequential.METER], other[sequential.METER], rtol=1e-3, atol=1e-5)


@ON_JAX
def test_side_by_side_as_one_at_a_time(tmp_path, monkeypatch):
    """Seeds, strengths, both ends, in batches that do not come out even; all steps in one call."""
    alone = run(tmp_path / "alone")
    monkeypatch.setattr(structure, "xla", lambda model: True)
    together = run(tmp_path / "together", replicas=3)
    assert len(alone) == 2 * (2 * 3 + 3 + 2)
    assert_same(together, alone)


@ON_JAX
def test_measures_that_watch_training_and_tasks_with_labels_of_their_own(tmp_path):
    """One kind of runs records its trajectory; tasks of different sizes, without permutations; step by step."""
    settings = {
        "measures": ["synaptic_intelligence", "magnitude"], "penalties": ["plain"], "strengths": [1.0, 3.0],
        "ends": False, "options": {"labels_per_task": 5}, "epochs": 1, "seeds": [0], "sequence": "split_digits",
    }  # fmt: skip
    assert_same(run(tmp_path / "together", replicas=64, **settings), run(tmp_path / "alone", **settings))


@ON_JAX
def test_published_goes_on_from_seed_to_seed(tmp_path, monkeypatch):
    settings = {"protocol": "published", "ends": False, "seeds": [0, 1, 2], "examples": 200}
    alone = run(tmp_path / "alone", **settings)
    append, left = Store.append, [3]

    def dies(store, rows):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        append(store, rows)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "append", dies)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "together", replicas=8, **settings)
    assert_same(run(tmp_path / "together", replicas=8, **settings), alone)


@ON_JAX
def test_one_of_them_explodes(tmp_path):
    settings = {"penalties": ["plain"], "strengths": [1e-3, 1e7], "optimizer": "sgd", "ends": False, "seeds": [0]}
    with pytest.warns(UserWarning, match="no longer finite after task 2"):
        frame = run(tmp_path, replicas=2, epochs=4, learning_rate=0.1, **{**settings, "batch_size": 250})
    failed = frame[frame["status"] != "ok"]
    assert set(failed["strength"]) == {1e7} and set(failed["after_task"]) == {2}
    assert len(frame) == 6 and frame[frame["strength"] == 1e-3]["test_accuracy"].notna().all()


@ON_JAX
def test_a_second_batch_compiles_nothing(tmp_path):
    runs = sequential.Sequential("permuted_digits", out=tmp_path, replicas=2, **{**SMALL, "ends": False})
    traced = []
    original = type(runs._build()).train_step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.Model, "train_step", lambda *a, **k: traced.append(1) or original(*a, **k))
        runs.asking(seeds=[0]).run(progress=False)
        before = len(traced)
        runs.asking(seeds=[5]).run(progress=False)
    assert before > 0 and len(traced) == before


def test_what_cannot_be(tmp_path):
    with pytest.raises(ValueError, match="replicas to be a whole number of at least 1, received 0"):
        run(tmp_path, replicas=0)
    if keras.backend.backend() != "jax":
        with pytest.raises(ValueError, match=r"one at a time; received 8\. Set KERAS_BACKEND=jax before Python starts"):
            run(tmp_path, replicas=8)
        assert not list(tmp_path.glob("*.csv"))


@ON_JAX
@pytest.mark.parametrize("scenario", ["task", pytest.param("domain", marks=pytest.mark.slow)])
def test_scenarios_side_by_side(tmp_path, scenario):
    settings = {
        "measures": ["fisher"], "penalties": ["clamped", "plain:adaptive"], "accumulate": "mean",
        "options": {"labels_per_task": 5, "scenario": scenario},
        "epochs": 1, "seeds": [0], "sequence": "split_digits", "batch_size": 200,
    }  # fmt: skip
    assert_same(run(tmp_path / "together", replicas=64, **settings), run(tmp_path / "alone", **settings))
