"""Notebooks run from top to bottom, as a user runs them, on the backend that is being tested."""

import os
import pathlib

import nbformat
import papermill
import pytest

HERE = pathlib.Path(__file__).parents[2]
REFERENCE = HERE / "tests" / "reference"
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))  # as if installed
BEFORE = f"""
import sys
sys.path.append({str(REFERENCE)!r})
import compiling
import engine.structure
compiling.simply()
compiling.with_kept_kernels()
compiling.seldom_searching_for_garbage()
"""
"""What a kernel does before the first cell of a notebook that computes."""


def execute(name, folder, **parameters):
    """Run a notebook in a folder outside the project, and return it with its outputs."""
    path = folder / name
    papermill.execute_notebook(HERE / name, path, parameters, cwd=folder, progress_bar=False)
    return nbformat.read(path, as_version=4)


def compute(name, folder, **parameters):
    """The same of a notebook that computes, with networks so small that they are best compiled simply."""
    startup = folder / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True, exist_ok=True)
    (startup / "simply.py").write_text(BEFORE, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        return execute(name, folder, **parameters)


def printed(notebook):
    outputs = (output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs)
    return "".join(output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in outputs)


def pictures(notebook):
    outputs = (output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs)
    return sum("image/png" in output.get("data", {}) for output in outputs)


def shown(notebook):
    """Return the HTML that the cells of an executed notebook show."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "\n".join(output["data"]["text/html"] for output in outputs if "text/html" in output.get("data", {}))


def in_red(notebook):
    """Return what a notebook shows in red boxes."""
    outputs = (output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs)
    return "".join(output["text"] for output in outputs if output.get("name") == "stderr")
