"""Parameters of notebooks: names that a notebook's cell of parameters does not have stop the run.

Papermill writes `name = value` into a notebook, whatever the name is: a misspelt one changes nothing, and one that is
no name at all is code. `python -m experiments.parameters main.ipynb -p out runs -y '{thresholds: 26}'` takes parameters
as papermill does, and refuses those before anything runs; `check(globals())` in a notebook refuses those that came.
"""

import argparse
import ast
import json
import pathlib
import sys

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


def main(arguments):
    """Check parameters that are given as papermill takes them; return the exit status."""
    parser = argparse.ArgumentParser("python -m experiments.parameters", description=__doc__.partition("\n")[0])
    parser.add_argument("notebook")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    parser.add_argument("-y", action="append", default=[], metavar="YAML", help="a mapping from names to values")
    asked = parser.parse_args(arguments)
    try:
        given = [name for name, _ in asked.p] + [name for text in asked.y for name in _read(text)]
        check_names(given, names(asked.notebook))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _read(text):
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"Expected parameters as YAML, such as {{epochs: 5}}; received {text!r}: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"Expected parameters as YAML, such as {{epochs: 5}}; received {text!r}.")
    return found


def _assigned(source):
    """List the names that a cell sets but for its own (_name); one that is no plain Python, with lines for the shell,
    sets none."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return []
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    return [node.id for node in nodes if not node.id.startswith("_")]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
