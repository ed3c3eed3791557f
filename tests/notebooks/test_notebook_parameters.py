"""Every notebook finds the project first, and has one cell of parameters, which papermill and a reader find."""

import ast
import os
import subprocess
import sys

import nbformat
import pytest
from execution import HERE, execute
from papermill import PapermillExecutionError
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

EVERY = pytest.mark.parametrize("name", [path.name for path in sorted(HERE.glob("*.ipynb"))])


@EVERY
def test_one_cell_of_plain_parameters(name):
    notebook = nbformat.read(HERE / name, as_version=4)
    tagged = [cell.source for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    for statement in ast.parse(tagged[0]).body:
        ast.literal_eval(statement.value)


NO_SUCH = r"Expected parameters among .* received 'fingers'"


def test_a_parameter_that_there_is_not_stops_papermill(tmp_path):
    with pytest.raises(PapermillExecutionError, match=NO_SUCH):
        execute("analysis.ipynb", tmp_path, fingers=3)


@EVERY
def test_a_parameter_that_there_is_not_stops_it(name, monkeypatch):
    monkeypatch.chdir(HERE)
    monkeypatch.syspath_prepend(HERE)
    given = parameterize_notebook(load_notebook_node(str(HERE / name)), {"fingers": 3})
    names = {"In": [""]}
    with pytest.raises(ValueError, match=NO_SUCH):
        for cell in (cell for cell in given.cells if cell.cell_type == "code"):
            names["In"].append(cell.source)
            exec(cell.source, names)


def finds_the_project(folder, **environment):
    first = {
        next(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
        for path in HERE.glob("*.ipynb")
    }
    assert len(first) == 1
    source = first.pop() + "\nassert importlib.util.find_spec('thresholding')\nprint(os.getcwd())"
    others = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        # Without what is installed, as the project may be.
        [sys.executable, "-S", "-P", "-c", source],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**others, **environment},
    )


def test_the_first_cell_finds_the_project_from_its_folders():
    for folder in (HERE, HERE / "tests" / "notebooks"):
        done = finds_the_project(folder)
        assert (done.stdout.strip(), done.stderr) == (str(HERE), "")


def test_the_first_cell_elsewhere(tmp_path):
    assert finds_the_project(tmp_path, PYTHONPATH=str(HERE)).stdout.strip() == str(tmp_path)
    done = finds_the_project(tmp_path)
    said = f"Expected the project in {tmp_path} or above, or installed: pip install -e"
    assert done.returncode and said in done.stderr.splitlines()[-1]
