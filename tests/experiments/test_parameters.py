"""Parameters that a notebook does not have stop it, and what is computed goes where git does not look."""

import inspect
import pathlib
import re

import pytest

from experiments import fine_tuning, lambda_search, parameters, sequential, threshold_grid

ROOT = pathlib.Path(__file__).parents[2]
NOTEBOOKS = sorted(path.name for path in ROOT.glob("*.ipynb"))


def test_the_names_are_those_of_the_cell():
    assert {"task", "model", "thresholds", "seeds", "x", "y", "out"} <= set(parameters.names(ROOT / "main.ipynb"))
    assert len(NOTEBOOKS) == 5
    for name in NOTEBOOKS:
        known = parameters.names(ROOT / name)
        assert known and len(set(known)) == len(known) and all(map(str.isidentifier, known))


def test_what_a_user_makes_goes_where_git_does_not_look():
    makers = (threshold_grid.run, threshold_grid.estimate, threshold_grid.Grid, sequential.run, lambda_search.run)
    folders = {inspect.signature(make).parameters["out"].default for make in (*makers, fine_tuning.run)}
    for name in ("main", "sequential", "finetuning"):
        folders |= set(re.findall(r'"out = \\"(.*?)\\"', (ROOT / f"{name}.ipynb").read_text("utf-8")))
    folders |= set(re.findall(r"^OUT \?= (.*)", (ROOT / "Makefile").read_text("utf-8"), flags=re.M))
    assert folders == {"runs", "runs/sequential", "runs/finetuning"}
    assert "runs/" in (ROOT / ".gitignore").read_text("utf-8").splitlines()


def test_what_papermill_has_put_in():
    cells = [
        "",
        "epochs = 5\nseeds = [0]\na, b = 1, 2",
        "# Parameters\nepochs = 3\nb = 4\n",
        "%matplotlib inline",
        "c = 1",
    ]
    parameters.check({"In": cells})
    parameters.check({})
    parameters.check({"In": [*cells[:2], "epoch = 3"]})  # a person's own variable
    for written, nearest in (("seed = 4", "Did you mean 'seeds'"), ("zzz = 1", "received 'zzz'")):
        with pytest.raises(ValueError, match=nearest):
            parameters.check({"In": [*cells[:2], f"# Parameters\nepochs = 3\n{written}\n", *cells[3:]]})


def test_a_grid_from_a_notebook_refuses_them():
    with pytest.raises(ValueError, match="Expected parameters among task; received 'zzz'"):
        threshold_grid.from_names({"task": "iris", "In": ["task = 'iris'", "# Parameters\nzzz = 1\n"]})


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_notebook_asks(name):
    source = (ROOT / name).read_text("utf-8")
    assert "parameters.check(globals())" in source or "threshold_grid.from_names(globals())" in source
