"""Notebooks without a browser: what stops them, what they say, and how make begins them."""

import json
import os
import pathlib
import shutil
import stat
import subprocess
import sys

import nbformat
import papermill
import pytest

from experiments import execute, progress

ROOT = pathlib.Path(__file__).parents[2]
MAIN = str(ROOT / "main.ipynb")


@pytest.fixture(autouse=True)
def logs_of_its_own(monkeypatch):
    """Take back what a command tells those that it starts: where its log is."""
    monkeypatch.setenv(progress.LOG, "")
    monkeypatch.delenv(progress.LOG)


@pytest.fixture
def began(monkeypatch):
    """Let no notebook run; return what would have: a list of dicts of parameters."""
    found = []
    monkeypatch.setattr(papermill, "execute_notebook", lambda _, executed, given, **how: found.append(given))
    return found


@pytest.mark.parametrize(
    "arguments, given",
    [
        ([], {}),
        (["-p", "out", "a 1", "-y", "{task: iris, seeds: [0, 1]}"], {"out": "a 1", "task": "iris", "seeds": [0, 1]}),
        (["-p", "model", "3", "-y", "{thresholds: 3, x: null}", "-y", "y: no"],
         {"model": "3", "thresholds": 3, "x": None, "y": False}),
    ],
)  # fmt: skip
def test_right_parameters(arguments, given, began, tmp_path, capsys):
    assert execute.main([MAIN, str(tmp_path / "new" / "main.ipynb"), *arguments]) == 0
    assert capsys.readouterr() == ("", "") and began == [given]


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
        (["-y", "{epochs: 3"], "received '{epochs: 3': expected ',' or '}'"),
        (["-y", "!!python/object/apply:os.system ['x']"], "Expected parameters as YAML"),
    ],
)
def test_wrong_parameters(arguments, message, began, tmp_path, capsys):
    assert execute.main([MAIN, str(tmp_path / "main.ipynb"), *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("Expected parameters") and message in said and said.count("\n") == 1 and not began


def test_notebooks_that_cannot_be(tmp_path, capsys):
    (tmp_path / "a.ipynb").write_text('{"cells": []}')
    for name, message in (("a.ipynb", "tagged"), ("b.ipynb", "b.ipynb")):
        assert execute.main([str(tmp_path / name), str(tmp_path / "out.ipynb")]) == 2
        assert message in capsys.readouterr().err


def test_an_interrupt_is_a_sentence(monkeypatch, tmp_path, capsys):
    def interrupted(*given, **how):
        raise KeyboardInterrupt

    monkeypatch.setattr(papermill, "execute_notebook", interrupted)
    assert execute.main([MAIN, str(tmp_path / "main.ipynb"), "--log", str(tmp_path / "a.log")]) == 130
    sentence = "Interrupted; what was computed is kept. To go on, run the same command again.\n"
    assert capsys.readouterr().err == sentence and (tmp_path / "a.log").read_text() == sentence


SOURCE = """
import sys, warnings
from experiments.progress import Progress
print("it will cost", cost)
warnings.warn("take care")
progress = Progress(1, "cell")
progress.to(1)
progress.close()
if wrong:
    raise {"settings": ValueError, "mistake": TypeError}[wrong]("this cannot be")
"""


@pytest.mark.parametrize("wrong, status", [(None, 0), ("settings", 2), ("mistake", 1)])
def test_a_log_has_what_is_said_and_ends_with_the_error(wrong, status, tmp_path, monkeypatch, capsys, caplog):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("WEIGHTWISE_LOG", raising=False)
    source = 'cost = None  # or a list such as ["a", "b:c=d"]\nwrong = None'
    parameters = nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]})
    notebook = nbformat.v4.new_notebook(cells=[parameters, nbformat.v4.new_code_cell(SOURCE)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, tmp_path / "a.ipynb")
    given = ["-y", json.dumps({"cost": 5, "wrong": wrong}), "--log", str(tmp_path / "a.log")]
    assert execute.main([str(tmp_path / "a.ipynb"), str(tmp_path / "done.ipynb"), *given]) == status
    lines = (tmp_path / "a.log").read_text().splitlines()
    assert lines.count("it will cost 5") == 1 and "1 of 1 cells" in "".join(lines) and "█" not in "".join(lines)
    assert sum("take care" in line and "UserWarning" in line for line in lines) == 1
    assert not [record for record in caplog.records if record.name.startswith("papermill")]
    said = capsys.readouterr()
    assert said.out == f"Running; watch with: tail -f '{tmp_path / 'a.log'}'\n"
    if wrong:
        assert "this cannot be" in lines[-1] and said.err.splitlines()[-1] == lines[-1]
        assert any("Traceback" in line for line in lines) == (wrong == "mistake")
        assert "Traceback" in (tmp_path / "done.ipynb").read_text("utf-8")


@pytest.fixture
def make(tmp_path):
    """Run make in a folder where no notebook is run, and what would have been is written down."""
    if shutil.which("make") is None:
        pytest.skip("There is no make on this machine.")
    folder = tmp_path / "a project"
    room = folder / "env" / "bin"
    room.mkdir(parents=True)
    for name in ("Makefile", "main.ipynb", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "instead.py").write_text(
        "import json, pathlib, sys\n"
        "from experiments import execute\n"
        "def execute_notebook(*given, **how):\n"
        "    pathlib.Path('ran.json').write_text(json.dumps(given))\n"
        "    print('runs/a.csv', file=how['stdout_file'])\n"
        "execute.papermill.execute_notebook = execute_notebook\n"
        "sys.exit(execute.main(sys.argv[3:]))\n"
    )
    (room / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" instead.py "$@"\n')
    (room / "python").chmod(stat.S_IRWXU)
    (folder / "env" / ".ready").touch()

    def make(*arguments):
        others = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
        environment = {**others, "PYTHONPATH": str(ROOT)}  # not as a part of the make that runs the tests
        command = ["make", "VENV=env", *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, timeout=120)
        ran = folder / "ran.json"
        return done, json.loads(ran.read_text()) if ran.exists() else None

    return make


def test_make_grid_passes_on_what_is_right(make):
    done, ran = make(
        "grid", "OUT=my runs", "SEEDS=0,1", "NAME=a name", "MORE={fill: zero, labels: ['0', \"1\"]}", "X=it's.npz"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Running; watch with: tail -f 'runs/a name.log'\nruns/a.csv\n"
    notebook, executed, given = ran
    assert (notebook, executed) == ("main.ipynb", "runs/a name.ipynb")
    more = {"fill": "zero", "labels": ["0", "1"]}
    assert given == {"out": "my runs", "x": "it's.npz", "task": "digits", "seeds": [0, 1], **more}


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
    done, ran = make("grid", argument)
    if message:
        assert done.returncode == 2 and message in done.stderr and ran is None
    else:
        assert ran[2]["out"] == '$(touch it)"; touch it; "'
    assert not list(tmp_path.rglob("it"))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["grid", "SEED=5"], "received SEED. Did you mean SEEDS?"),
        (["grid", "measures=magnitude"], "received measures. Did you mean MEASURES?"),
        (["grid", "FILL=zero"], "received FILL. Other parameters of main.ipynb stand in MORE of make grid."),
        (["run", "SEED=5"], "make run takes PYTHON VENV; received SEED. Did you mean SEEDS of make grid?"),
        (["status", "OTU=runs"], "make status takes PYTHON VENV OUT; received OTU. Did you mean OUT?"),
    ],
)
def test_a_variable_that_there_is_not_stops_make(make, arguments, message):
    done, ran = make(*arguments)
    assert done.returncode == 2 and message in done.stderr and ran is None and done.stdout == ""


def test_make_alone_helps(make):
    done, _ = make()
    targets = [line.split()[1] for line in done.stdout.partition("\n\n")[0].splitlines()]
    phony = next(line for line in (ROOT / "Makefile").read_text("utf-8").splitlines() if line.startswith(".PHONY"))
    assert set(targets) == set(phony.split()[1:]) and done.returncode == 0
