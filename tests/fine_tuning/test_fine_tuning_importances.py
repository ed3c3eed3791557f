"""Importances of a language model: right for its layers, an example a sequence or a token, kept, and loaded again."""

import json
import pathlib

import numpy as np
import pytest
import reference_language

import importance
from engine import draws, training
from experiments.storage import importances


@pytest.fixture
def trained_a_little(small):
    """The settings, with weights that are no longer those that a model begins with: its biases are not 0."""
    small.settings["pretraining_steps"] = 4
    return small


def built(job):
    model = job._language.build(job.settings.sequence_length)
    training.assign(training.model_variables(model), job.pretrained(0))
    return model


def kept(job, name):
    (path,) = pathlib.Path(job.store.folder, "pretrained").rglob(f"{name}-seed-0.npz")
    return path


@pytest.mark.long
def test_of_sequences_they_are_those_of_a_slow_loop(trained_a_little):
    job = trained_a_little.job()
    model = built(job)
    x, y = job._old.draw(6, draws.generator(0, "scored sequences"))
    gradients = reference_language.gradients(model, x, y)
    reference_language.assert_close(job.scores("fisher_empirical", 0), reference_language.mean_square(gradients))
    weights = training.values(model.trainable_variables)
    taylor = reference_language.mean_square([[w * g for w, g in zip(weights, gs, strict=True)] for gs in gradients])
    reference_language.assert_close(job.scores("taylor", 0), taylor)
    gradients = reference_language.gradients(model, x, y, reference_language.squares_of_outputs)
    mas = [np.mean(np.abs(arrays), axis=0) for arrays in zip(*gradients, strict=True)]
    reference_language.assert_close(job.scores("mas", 0), mas, rounding=1e-6)  # no squares: rounding is more of it


def test_of_tokens_they_are_those_of_a_slow_loop(trained_a_little):
    job = trained_a_little.job(per_token=True)
    x, y = job._old.draw(6, draws.generator(0, "scored sequences"))
    places = draws.generator(0, "scored tokens").integers(0, 8, 6)
    expected = reference_language.mean_square(reference_language.token_gradients(built(job), x, y, places))
    reference_language.assert_close(job.scores("fisher_empirical", 0), expected)
    of_sequences = trained_a_little.job().scores("fisher_empirical", 0)
    assert not np.allclose(of_sequences[-1], expected[-1], rtol=0.1)
    assert kept(job, "fisher_empirical-tokens-6") != kept(job, "fisher_empirical-sequences-6")


def test_they_are_kept_with_where_they_come_from(small, monkeypatch):
    job = small.job()
    found = job.scores("magnitude", 0)
    loaded, about = importances.load(kept(job, "magnitude-sequences-6"))
    again = small.job()
    with monkeypatch.context() as patch:
        patch.setattr(importance.LoadedMeasure, "score", None)  # computed no more
        for arrays in (loaded, again.scores("magnitude", 0)):
            assert all(np.array_equal(a, b) and a.dtype == np.float32 for a, b in zip(arrays, found, strict=True))
    assert (about["measure"], about["seed"], about["settings"]["examples"]) == ("magnitude", 0, 6)
    assert {"versions", "backend", "device", "commit", "weights_sha256"} <= about.keys()


@pytest.mark.parametrize("name", ["weights_sha256", "measure_sha256", "trial", None])
def test_of_something_else_or_damaged_they_are_computed_anew(small, name):
    found = small.job().scores("magnitude", 0)
    path = kept(small.job(), "magnitude-sequences-6")
    whole, about = importances.load(path)
    importances.save(path, [a + 1 for a in whole], **{**about, **({name: "another"} if name else {})})
    if name is None:
        path.write_bytes(path.read_bytes()[:500])
    with pytest.warns(UserWarning, match=r"received (one that says another|a file that is damaged).* computed anew"):
        again = small.job().scores("magnitude", 0)
    assert all(np.array_equal(a, b) for a, b in zip(again, found, strict=True))
    assert importances.load(path)[1] == about


def test_of_a_measure_whose_file_has_changed_they_are_computed_anew(small, monkeypatch):
    small.job().scores("magnitude", 0)
    job, digests = small.job(), {**importance.digests(), "magnitude": "of another file"}
    monkeypatch.setattr(importance, "digests", lambda: digests)
    ones = [np.full(a.shape, 7, "float32") for a in job.scores("magnitude", 0)]
    monkeypatch.setattr(importance.LoadedMeasure, "score", lambda *a, **k: ones)
    with pytest.warns(UserWarning, match="the measure's file of another file, received one that says .* computed anew"):
        assert small.job().scores("magnitude", 0)[0].max() == 7
    assert small.job().scores("magnitude", 0)[0].max() == 7  # and kept


class Evil:
    """Pickled, it makes a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


def damaged(path):
    """Damage a file everywhere: each time it is told of, or makes no difference."""
    whole, expected = path.read_bytes(), importances.load(path)
    flips = (whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :] for place in range(len(whole)))
    told = 0
    for content in (b"", b"garbage", whole[:-40], *flips):
        path.write_bytes(content)
        try:
            found = importances.load(path)
        except ValueError as error:
            assert "importances that were written by" in str(error) and "received a file that" in str(error)
            told += 1
            continue
        assert found[1] == expected[1]
        assert all(np.array_equal(a, b) for a, b in zip(found[0], expected[0], strict=True))
    assert told > len(whole) / 2


def test_a_file_that_is_damaged_or_something_else_is_told_of(tmp_path):
    path, mark = tmp_path / "kept.npz", tmp_path / "mark"
    importances.save(path, [np.ones(300, "float32"), np.zeros((2, 3))], measure="mas")
    arrays, about = importances.load(path)
    assert [a.shape for a in arrays] == [(300,), (2, 3)] and about == {"measure": "mas"}
    damaged(path)
    evil = np.array([Evil(mark)], dtype=object)
    about = np.array(json.dumps({}))
    for wrong in ({"about": about, "00000": evil}, {"about": evil}, {"00000": np.ones(3)}, {"about": np.ones(())}):
        np.savez(path, **wrong)
        with pytest.raises(ValueError, match="damaged or holds something else"):
            importances.load(path)
    with path.open("wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(ValueError, match="damaged or holds something else"):
        importances.load(path)
    assert not mark.exists()
    with pytest.raises(FileNotFoundError):
        importances.load(tmp_path / "nothing.npz")
