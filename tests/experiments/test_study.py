"""A new study is one file: the one that the contract shows is run, resumed, told of, and done by a worker."""

import importlib
import json
import sys

import numpy as np
import pytest
from grid_runs import linear

import experiments
import tasks
from experiments import study, threshold_grid
from experiments.workers import worker


@pytest.fixture
def losses(tmp_path, monkeypatch):
    """The study of `experiments/study.py`'s docstring, in a file of its own."""
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "losses.py").write_text(study.__doc__.split("```python\n")[1].split("```")[0], encoding="utf-8")
    monkeypatch.setattr(experiments, "__path__", [*experiments.__path__, str(folder)])
    yield importlib.import_module("experiments.losses")
    del sys.modules["experiments.losses"], experiments.losses


def test_the_study_that_is_shown_needs_no_other_file(losses, tmp_path):
    made = losses.Losses("iris", "mlp", tmp_path, seeds=[0, 1])
    frame = made.run(progress=False)
    assert frame["seed"].tolist() == [0, 1] and frame["loss"].nunique() == 2
    assert np.isclose(frame["loss"], tasks.load("iris").chance_loss, atol=1).all()
    assert made.missing() == 0 and not any(made.trials().values())
    about = json.loads(made.store.settings_path.read_text())
    assert about["kind"] == made.study == "losses" and about["settings"] == {"task": "iris", "model": "mlp"}

    made.asking(seeds=[0, 1, 2])
    assert made.trials() == {"seed-0": [], "seed-1": [], "seed-2": [(2, [{"seed": 2}])]}
    description = json.dumps(made.description())
    worker.do(description, "seed-2")
    worker._made.cache_clear()
    again = losses.Losses("iris", "mlp", tmp_path, seeds=[0, 1, 2])
    assert again.missing() == 0 and again.store.frame()[:2].equals(frame)
    (row,) = experiments.status(tmp_path).to_dict("records")
    assert (row["kind"], row["done"], row["missing"], row["state"]) == ("losses", 3, 0, "finished")


def test_a_model_of_the_users_is_made_anew_for_every_network(tmp_path):
    grids = [threshold_grid.Grid("iris", model, tmp_path, measures=["magnitude"]) for model in (linear, linear())]
    assert grids[0].settings.model == grids[1].settings.model and grids[0].store.path == grids[1].store.path
    first, second = (grids[1]._source._new_model().trainable_variables[0].numpy() for _ in range(2))
    assert first.shape == second.shape and not np.array_equal(first, second)


def test_what_is_no_study_is_told_of():
    with pytest.raises(ValueError, match=r"Expected one of the files in experiments/ .*received 'losses'"):
        worker.job({"kind": "losses", "out": "data", "settings": {}})
    with pytest.raises(ValueError, match=r"Expected experiments/agreement\.py to define STUDY"):
        worker.job({"kind": "agreement", "out": "data", "settings": {}})
