"""Parameters that a notebook does not have stop the run, before it begins where make begins it."""

import os
import pathlib
import shutil
import stat
import subprocess
import sys

import pytest

from experiments import parameters, threshold_grid

ROOT = pathlib.Path(__file__).parents[2]
NOTEBOOKS = sorted(path.name for path in ROOT.glob("*.ipynb"))


def test_the_names_are_those_of_the_cell():
    assert {"task", "model", "thresholds", "seeds", "x", "y", "out"} <= set(parameters.names(ROOT / "main.ipynb"))
    assert len(NOTEBOOKS) == 4
    for name in NOTEBOOKS:
        known = parameters.names(ROOT / name)
        assert known and len(set(known)) == len(known) and all(map(str.isidentifier, known))


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["-p", "out", "a folder", "-y", "{task: iris, seeds: [0, 1]}"],
        ["-y", "{}"],
        ["-p", "epochs", "3", "-y", "{thresholds: 3, x: null}", "-y", "fill: zero"],
    ],
)
def test_right_parameters(arguments, capsys):
    assert parameters.main([str(ROOT / "main.ipynb"), *arguments]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["-y", "{tresholds: 3, seed: 4}"], "received 'tresholds', 'seed'. Did you mean 'thresholds'?"),
        (["-p", "epoch", "3"], "received 'epoch'. Did you mean 'epochs'?"),
        (["-y", "{\"__import__('os').system('x')\": 1}"], "received \"__import__('os').system('x')\"."),
        (["-y", "{'x = 1\\nimport os': 1}"], "received 'x = 1\\\\nimport os'"),
        (["-y", "{1: 2, null: 3}"], "received 1, None."),
        (["-y", "{In: 1}"], "received 'In'"),
        (["-y", "[epochs]"], "Expected parameters as YAML, such as {epochs: 5}; received '[epochs]'."),
        (["-y", "epochs"], "Expected parameters as YAML"),
        (["-y", "{epochs: 3"], "Expected parameters as YAML"),
        (["-y", "!!python/object/apply:os.system ['x']"], "Expected parameters as YAML"),
    ],
)
def test_wrong_parameters(arguments, message, capsys):
    assert parameters.main([str(ROOT / "main.ipynb"), *arguments]) == 1
    said = capsys.readouterr().err
    assert said.startswith("Expected parameters") and message in said and "Traceback" not in said


def test_a_notebook_without_parameters(tmp_path, capsys):
    (tmp_path / "a.ipynb").write_text('{"cells": []}')
    assert parameters.main([str(tmp_path / "a.ipynb")]) == 1
    assert "tagged" in capsys.readouterr().err


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


@pytest.fixture
def make(tmp_path):
    """Run make in a folder where papermill is a script that writes down its arguments."""
    if shutil.which("make") is None:
        pytest.skip("There is no make on this machine.")
    folder = tmp_path / "a project"
    room = folder / "env" / "bin"
    room.mkdir(parents=True)
    for name in ("Makefile", "main.ipynb", "requirements.txt"):
        shutil.copy(ROOT / name, folder / name)
    scripts = {
        "python": f'#!/bin/sh\nexec "{sys.executable}" "$@"\n',
        "papermill": '#!/bin/sh\nprintf "%s\\n" "$@" >papermill.txt\necho "$5.csv"\n',
    }
    for name, script in scripts.items():
        (room / name).write_text(script)
        (room / name).chmod(stat.S_IRWXU)
    (folder / "env" / ".ready").touch()

    def make(*arguments):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = ["make", "VENV=env", "grid", *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, timeout=120)
        written = folder / "papermill.txt"
        return done, written.read_text().splitlines() if written.exists() else None

    return make


def test_make_grid_passes_on_what_is_right(make):
    done, passed = make(
        "OUT=my runs", "SEEDS=0,1", "NAME=a name", "MORE={fill: zero, labels: ['0', \"1\"]}", "X=it's.npz"
    )
    assert done.returncode == 0, done.stderr
    assert passed[:2] == ["main.ipynb", "runs/a name.ipynb"]
    assert passed[passed.index("out") + 1] == "my runs" and passed[passed.index("x") + 1] == "it's.npz"
    assert "{task: digits, seeds: [0,1]}" in passed and passed[-1] == "{fill: zero, labels: ['0', \"1\"]}"


@pytest.mark.parametrize(
    "argument, message",
    [
        ("MORE={tresholds: 3, seed: 4}", "Did you mean 'thresholds'?"),
        ("MORE={\"__import__('os').system('touch it')\": 1}", "Expected parameters among"),
        ('SEEDS=0], "print(1)": [1', "received 'print(1)'"),
        ('OUT=$$(touch it)"; touch it; "', None),
    ],
)
def test_make_grid_stops_before_the_notebook(make, argument, message, tmp_path):
    done, passed = make(argument)
    if message:
        assert done.returncode and message in done.stderr and passed is None
    else:
        assert passed[passed.index("out") + 1] == '$(touch it)"; touch it; "'
    assert not list(tmp_path.rglob("it"))
