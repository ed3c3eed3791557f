"""Checkpoints of a sequence that come from something else: the run begins anew, and says so."""

import shutil

import numpy as np
import pandas as pd
import pytest
from test_sequential_run import Killed, cells, killed_after, run

from engine import structure, variants
from experiments import sequential
from experiments.storage.checkpoints import Checkpoints

SETTINGS = {"ends": False, "epochs": 1, "seeds": [2], "options": {"tasks": 3}}
ELSEWHERE = "; going on from the one before it, or from the start"


def stop(*args):
    raise Killed


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The rows of a whole run, and the folder of one that was stopped with two of three tasks learnt."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structure, "xla", lambda model: False)
        whole = run(folder / "whole", **SETTINGS)
        killed_after(patch, 2)
        with pytest.raises(Killed):
            run(folder / "parts", **SETTINGS)
    return cells(whole), folder / "parts"


@pytest.fixture
def stopped(made, tmp_path):
    """A copy of the run that was stopped; the rows that it is to end in; the files of its checkpoints."""
    shutil.copytree(made[1], tmp_path, dirs_exist_ok=True)
    files = sorted(tmp_path.rglob("*.npz"))
    assert [file.stem for file in files] == ["00001", "00002"]
    return tmp_path, made[0], files


def test_of_data_that_have_changed(stopped, tmp_path, monkeypatch):
    """Where no rows and no settings are left that would say so, and the new run was stopped before its checkpoint."""
    out, whole, _ = stopped
    for path in [*out.glob("*.csv"), *out.glob("*.json")]:
        path.unlink()
    task = variants.load("tasks", "digits", "TASK")

    def changed():
        x_train, *others = task.read()
        return np.flip(x_train, axis=1), *others

    monkeypatch.setattr("tasks.digits.TASK", task._replace(read=changed))
    fresh = cells(run(tmp_path / "fresh", **SETTINGS))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(sequential._Learner, "protect", stop)
        run(out, **SETTINGS)
    with pytest.warns(UserWarning, match=f"to be of the data .*{ELSEWHERE}"):
        again = cells(run(out, **SETTINGS))
    pd.testing.assert_frame_equal(again, fresh, check_exact=True)
    assert not again.equals(whole)


def test_of_another_task(stopped):
    out, whole, (first, second) = stopped
    second.write_bytes(first.read_bytes())
    with pytest.warns(UserWarning, match=f"of the epoch 2, received one that says 1{ELSEWHERE}"):
        pd.testing.assert_frame_equal(cells(run(out, **SETTINGS)), whole, check_exact=True)


def test_of_another_trial_and_of_an_earlier_version(stopped):
    out, whole, files = stopped
    kept = Checkpoints(files[0].parent)
    for epoch, change in ((1, lambda says: {}), (2, lambda says: {**says, "trial": "another"})):
        arrays, says = kept.read(epoch)
        kept.save(epoch, {name: array * 2 for name, array in arrays.items()}, **change(says))
    with pytest.warns(UserWarning) as warned:
        pd.testing.assert_frame_equal(cells(run(out, **SETTINGS)), whole, check_exact=True)
    assert [str(each.message).partition("received ")[2] for each in warned] == [
        f"one that says {what}{ELSEWHERE}." for what in ("another", "nothing")
    ]


def test_of_an_optimizer_that_the_next_seed_would_go_on_from(tmp_path):
    settings = {**SETTINGS, "protocol": "published", "options": {"tasks": 2}}
    whole = run(tmp_path / "whole", **{**settings, "seeds": [0, 1]})
    run(tmp_path / "parts", **{**settings, "seeds": [0]})
    (file,) = (tmp_path / "parts").rglob("00000.npz")
    kept = Checkpoints(file.parent)
    arrays, says = kept.read(0)
    kept.save(0, {name: array * 2 for name, array in arrays.items()}, **{**says, "run": "another"})
    with pytest.warns(UserWarning, match="received one that says another"):
        again = run(tmp_path / "parts", **{**settings, "seeds": [0, 1]})
    pd.testing.assert_frame_equal(cells(again), cells(whole), check_exact=True)


def test_data_that_change_while_a_run_is_going_on_are_noticed_at_the_next_seed(tmp_path, monkeypatch):
    settings = {**SETTINGS, "seeds": [0, 1], "options": {"tasks": 2}}
    task = variants.load("tasks", "digits", "TASK")
    with monkeypatch.context() as patch:
        other = task._replace(read=lambda: tuple(array[::-1] for array in task.read()))
        with pytest.raises(ValueError, match=r"received others for digits: .* Put the earlier data back"):
            run(tmp_path, watch=lambda frame: patch.setattr("tasks.digits.TASK", other), **settings)
    assert set(pd.read_csv(next(tmp_path.glob("*.csv"))).seed) == {0}
    assert set(run(tmp_path, **settings).seed) == {0, 1}
