"""Parameters of notebooks: names that a notebook's cell of parameters does not have stop the run.

Papermill writes `name = value` into a notebook, whatever the name is: a misspelt one changes nothing, and one that is
no name at all is code. `experiments.execute` refuses those before anything runs; `check(globals())` in a notebook
refuses those that came.
"""

import ast
import json
import pathlib

import yaml

from engine import checks


def names(notebook):
    """List the names that a notebook's cell of parameters sets.

    Args:
        notebook: str or path. An `.ipynb` file.

    Raises:
        ValueError: it has no cell that is tagged "parameters".
    """
    cells = json.loads(pathlib.Path(notebook).read_text(encoding="utf-8"))["cells"]
    tagged = ["".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    if not tagged:
        raise ValueError(f'Expected a notebook with a cell that is tagged "parameters", received {notebook}.')
    return [name for source in tagged for name in _assigned(source)]


def check_names(given, known):
    """Raise ValueError, naming the nearest right one, if a parameter is none of the known ones."""
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ValueError(
            f"Expected parameters among {', '.join(known)}; received {', '.join(map(repr, unknown))}."
            f"{checks.nearest(unknown[0], known)}"
        )


def check(variables):
    """Refuse parameters that papermill has put into the notebook that is running, and that it does not have.

    Args:
        variables: dict. What `globals()` gives in the notebook; nothing is looked at if papermill put in nothing.

    Raises:
        ValueError: a parameter that no cell before has set; names the nearest right one.
    """
    known = []
    for source in variables.get("In", ()):
        if source.startswith("# Parameters\n"):
            check_names(_assigned(source), known)
        known += _assigned(source)


def read(text):
    """Read parameters that are given as YAML, such as "{thresholds: 26, fill: zero}".

    Returns:
        dict.

    Raises:
        ValueError: text that is no mapping.
    """
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        problem = f": {getattr(error, 'problem', None) or error}"  # without its lines that point into the text
    else:
        if isinstance(found, dict):
            return found
        problem = ""
    raise ValueError(f"Expected parameters as YAML, such as {{epochs: 5}}; received {text!r}{problem}.")


def _assigned(source):
    """List the names that a cell sets but for its own (_name); one that is no plain Python, with lines for the shell,
    sets none."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return []
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    return [node.id for node in nodes if not node.id.startswith("_")]
