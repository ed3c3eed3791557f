"""Who may import whom: the rooms stay apart, and one file knows the libraries below Keras."""

import ast
import json
import pathlib
import re
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
SUBJECTS = {"tasks", "importance", "aggregation", "thresholding", "consolidation"}
ROOMS = SUBJECTS | {"experiments", "engine", "report"}
MAY_IMPORT = {
    **{room: {"engine"} for room in SUBJECTS},
    "experiments": ROOMS - {"report"},
    "engine": set(),
    "report": set(),
    "a notebook": ROOMS - {"engine"},
}
ALSO = {"experiments/until.py": {"report"}}
"""What single files may import besides: whether a grid goes on is said by what its report would say."""
BELOW_KERAS = {"tensorflow", "jax", "jaxlib"}
SEAM = "engine/backend.py"
WINGS, SHARED = {"grid", "sequential", "fine_tuning", "agreement", "retraining"}, {"tables", "statistics", "drawing"}
"""Of report/: one wing a study, and the rooms that they share."""


def imported(source, package=""):
    """List what a source imports, anywhere in it, as dotted names: `from a import b` is a.b."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            inside = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            found += [".".join([*inside, *filter(None, [node.module]), name.name]) for name in node.names]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                found.append(node.args[0].value)
    return found


def violations(room, source, path=""):
    """List the imports that a room's file may not have."""
    package = ".".join(path.removesuffix(".py").split("/")[:-1])
    wrong = []
    for name in imported(source, package):
        top = name.split(".")[0]
        if top in ROOMS - {room} - MAY_IMPORT[room] - ALSO.get(path, set()) or (top in BELOW_KERAS and path != SEAM):
            wrong.append(f"{path or room} imports {name}")
    return wrong


def imports_within(sources):
    """Return which modules of a room import which others of it.

    Args:
        sources: dict from a module's dotted name (a package's is its folder's) to its source.

    Returns:
        dict from name to a set of names.
    """
    found = {}
    for module, source in sources.items():
        names = imported(source, module.rpartition(".")[0])
        tops = {next((n for n in prefixes(name) if n in sources), None) for name in names}
        found[module] = tops - {None, module}
    return found


def prefixes(name):
    """List a dotted name and what it is in, from the inside out: a.b.c, a.b, a."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(len(parts), 0, -1)]


def in_circles(graph):
    """List what is left of a graph when all that needs nothing of what is left has gone, over and over: the circles."""
    left = set(graph)
    while gone := {name for name in left if not graph[name] & left}:
        left -= gone
    return sorted(left)


def sources(room):
    """Return the sources of a room by module."""
    found = {}
    for path in files(room):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path.read_text("utf-8")
    return found


def studies():
    """List the modules of experiments/ that define a study."""
    found = set()
    for name, source in sources("experiments").items():
        targets = [target for node in ast.parse(source).body for target in getattr(node, "targets", [])]
        found |= {name for target in targets if getattr(target, "id", None) == "STUDY"}
    return found


def files(room):
    single = ROOT / f"{room}.py"
    return [single] if single.exists() else sorted((ROOT / room).rglob("*.py"))


def cells(notebook):
    """Return the Python of a notebook's code cells, without lines for the shell."""
    sources = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    lines = "\n".join(sources).splitlines()
    return "\n".join(re.sub(r"^(\s*)[%!].*", r"\1pass", line) for line in lines)


def texts(value):
    """List the strings of a notebook that a reader sees: all but drawn images."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [t for key, inner in value.items() if not key.startswith("image/") for t in texts(inner)]
    return [t for inner in value for t in texts(inner)] if isinstance(value, list) else []


def paths_of_a_machine(notebook):
    return [text for text in texts(notebook) if re.search(r"(?<![\w/.])/(tmp|work|root)\b", text)]


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_rooms_import_only_what_they_may(room):
    found = files(room)
    assert found
    wrong = [line for f in found for line in violations(room, f.read_text("utf-8"), str(f.relative_to(ROOT)))]
    assert not wrong


def test_the_seam_is_where_this_looks_for_it():
    names = {name.split(".")[0] for name in imported((ROOT / SEAM).read_text("utf-8"))}
    assert {"tensorflow", "jax"} <= names


def test_the_rooms_are_what_is_installed():
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    assert {f"{room}*" for room in ROOMS - {"thresholding"}} == set(asked["packages"]["find"]["include"])
    assert asked["py-modules"] == ["thresholding"]
    assert all(
        (ROOT / folder / "__init__.py").exists()
        for room in ROOMS
        for folder in {p.parent for p in files(room)}
        if folder != ROOT
    )


@pytest.mark.parametrize("room, busy", [("experiments", "study"), ("report", "grid.ordering")])
def test_a_room_has_no_circle(room, busy):
    graph = imports_within(sources(room))
    assert graph[f"{room}.{busy}"]
    assert not in_circles(graph)


def test_no_study_imports_another_and_storage_and_workers_know_none():
    assert studies() >= {f"experiments.{name}" for name in ("threshold_grid", "sequential", "fine_tuning")}
    found, may = sources("experiments"), {"storage": ("storage",), "workers": ("storage", "workers")}
    for module, others in imports_within(found).items():
        if module in studies():
            assert not others & studies(), module
        rooms = [(name + ".").split(".")[1] for name in (module, *others)]
        assert set(rooms) <= set(may.get(rooms[0], rooms)), module
    # A study is found by its name, an import that is not seen above: a description says it, and no worker.
    told = [source for module, source in found.items() if module.startswith("experiments.workers")]
    assert not [name for name in studies() for source in told if name.split(".")[1] in source]


def across_wings(graph):
    """List the imports of report/ that a wing or a shared room may not have."""
    wrong = []
    for module, others in graph.items():
        wing, found = (module + "..").split(".")[1], {(other + "..").split(".")[1] for other in others}
        if wing in WINGS | SHARED:
            wrong += [f"{module} imports {name}" for name in sorted(found & WINGS - {wing})]
    return wrong


def test_no_wing_of_reports_imports_another_and_shared_rooms_import_none():
    graph = imports_within(sources("report"))
    assert {module.split(".")[1] for module in graph if "." in module} >= WINGS | SHARED
    assert not across_wings(graph)


@pytest.mark.parametrize(
    "module, other, right",
    [
        ("report.grid.figures", "report.sequential.figures", False),
        ("report.agreement", "report.grid.curves", False),
        ("report.drawing.axes", "report.grid.scores", False),
        ("report.tables.reading", "report.agreement", False),
        ("report.grid.figures", "report.grid.scores", True),
        ("report.sequential.figures", "report.drawing.axes", True),
        ("report", "report.agreement", True),
    ],
)
def test_what_a_wing_may_not_import_is_found(module, other, right):
    graph = imports_within({module: f"import {other}", other: ""})
    assert (not across_wings(graph)) == right


@pytest.mark.parametrize(
    "sources, expected",
    [
        ({"r.a": "from r import b", "r.b": "import r.a"}, ["r.a", "r.b"]),
        ({"r.a": "from r.b import c", "r.b": "def f():\n    from r import a"}, ["r.a", "r.b"]),
        ({"r.a": "from r import b", "r.b": "import r.s.c", "r.s.c": "from .. import a"}, ["r.a", "r.b", "r.s.c"]),
        ({"r.a": "from r import b, c", "r.b": "from r.c import d", "r.c": "import os, x.a"}, []),
        ({"r": "from r.s.b import f", "r.a": "import r", "r.s.b": "from r.s import c", "r.s.c": ""}, []),
    ],
)
def test_circles_are_found(sources, expected):
    assert in_circles(imports_within(sources)) == expected


def test_notebooks_import_rooms_and_name_no_machine():
    for path in sorted(ROOT.glob("*.ipynb")):
        notebook = json.loads(path.read_text("utf-8"))
        assert not violations("a notebook", cells(notebook)), path.name
        assert not paths_of_a_machine(notebook), path.name


def test_notebooks_are_small_enough_to_clone():
    sizes = {path.name: path.stat().st_size for path in ROOT.glob("*.ipynb")}
    assert max(sizes.values()) < 2e6, sizes


@pytest.mark.parametrize(
    "room, source",
    [
        ("tasks", "import importance"),
        ("importance", "from tasks import digits"),
        ("aggregation", "import thresholding as t"),
        ("thresholding", "import aggregation.unit"),
        ("consolidation", "from importance import Tracked"),
        ("importance", "def score(evidence):\n    from experiments import settings"),
        ("experiments", "import report"),
        ("experiments", "import numpy, report.drawing"),
        ("report", "from engine import backend"),
        ("report", "import tasks"),
        ("engine", "from importance._evidence import Evidence"),
        ("engine", "import tensorflow as tf"),
        ("engine", "def f():\n    with g():\n        import jax.numpy as jnp"),
        ("importance", "from jax import numpy"),
        ("tasks", "import importlib\ntf = importlib.import_module('tensorflow')"),
        ("tasks", "jax = __import__('jax')"),
        ("a notebook", "from engine import backend"),
        ("a notebook", "import tensorflow as tf"),
    ],
)
def test_a_wrong_import_is_found(room, source):
    assert violations(room, source)


@pytest.mark.parametrize(
    "room, source, path",
    [
        ("engine", "import tensorflow as tf\nimport jax", SEAM),
        (
            "importance",
            "from engine import per_example\nfrom importance import Measure\nimport keras",
            "importance/a.py",
        ),
        ("importance", "from . import _fisher\nfrom ._records import start_path", "importance/a.py"),
        ("experiments", "import report\nfrom report.statistics import evidence", "experiments/until.py"),
        (
            "experiments",
            "import tasks, importance, aggregation, thresholding, consolidation, engine",
            "experiments/a.py",
        ),
        ("a notebook", "import report\nfrom experiments import threshold_grid", ""),
        ("tasks", '"""import report"""  # import jax', "tasks/a.py"),
    ],
)
def test_a_right_import_is_not(room, source, path):
    assert not violations(room, source, path)


def test_relative_imports_are_followed():
    assert imported("from . import unit\nfrom .unit import LEVEL", "aggregation") == [
        "aggregation.unit", "aggregation.unit.LEVEL",
    ]  # fmt: skip
    assert imported("from .. import shared", "report.parts") == ["report.shared"]


def test_a_notebook_is_read():
    code = {"cell_type": "code", "source": ["%matplotlib inline\n", "if True:\n", "    !ls\n", "import tensorflow"]}
    seen = {"text/plain": ["saved in /", "tmp/x.csv"], "image/png": "abc+/tmp"}
    notebook = {"cells": [code, {"cell_type": "markdown", "source": "import jax: see https://a.org/tmp/x"}]}
    assert violations("a notebook", cells(notebook)) == ["a notebook imports tensorflow"]
    assert not paths_of_a_machine(notebook)
    notebook["cells"].append({"cell_type": "code", "source": "x", "outputs": [{"data": seen}]})
    assert not paths_of_a_machine(notebook)
    seen["text/html"] = "<a href='/root/data'>"
    assert paths_of_a_machine(notebook) == [seen["text/html"]]


def test_the_version_is_said_alike():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert f"version: {version}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
    assert (ROOT / "CHANGELOG.md").read_text("utf-8").split("## ")[1].startswith(version)
