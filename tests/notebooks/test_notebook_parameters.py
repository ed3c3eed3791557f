"""Every notebook has one cell of parameters, which papermill and a reader find."""

import ast

import nbformat
import pytest
from execution import HERE, execute
from papermill import PapermillExecutionError

EVERY = pytest.mark.parametrize("name", [path.name for path in sorted(HERE.glob("*.ipynb"))])


@EVERY
def test_one_cell_of_plain_parameters(name):
    notebook = nbformat.read(HERE / name, as_version=4)
    tagged = [cell.source for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    for statement in ast.parse(tagged[0]).body:
        ast.literal_eval(statement.value)


@EVERY
def test_a_parameter_that_there_is_not_stops_it(name, tmp_path):
    with pytest.raises(PapermillExecutionError, match=r"Expected parameters among .* received 'fingers'"):
        execute(name, tmp_path, fingers=3)
