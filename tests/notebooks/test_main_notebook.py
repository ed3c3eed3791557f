"""A grid is run, shown, run again, and ordered and drawn by the other notebook."""

import ast
import json
import shutil

import pandas as pd
import pytest
from execution import HERE, compute, execute, in_red, pictures, printed, shown

import report
import tasks
from report.tables.columns import ROW

TINY = {
    "task": "digits",
    "measures": ["random", "magnitude", "fisher", "deletion", "weight_change"],
    "levels": ["weight", "hidden_unit"],
    "thresholds": 5,
    "epochs": 12,
    "every": 6,
    "seeds": [0, 1],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("notebooks")


@pytest.fixture(scope="module")
def main(folder):
    return compute("main.ipynb", folder, out=str(folder / "data"), **TINY)


@pytest.fixture(scope="module")
def analysis(folder, main):
    data = str(folder / "data")
    files = {"files": [data], "agreement": [f"{data}/agreement"], "pruning": [data], "fractions": [0.5, 0.75]}
    return execute("analysis.ipynb", folder, figures=str(folder / "figures"), **files)


def test_main_leaves_each_cell_once(folder, main):
    frame = report.read(folder / "data")
    assert len(frame) == 2 * 2 * 5 * 2 * 5
    assert not frame.duplicated(ROW).any()
    assert (frame["status"] == "ok").all()


def test_main_says_what_it_costs_shows_a_figure_and_names_the_file(folder, main):
    assert "200 evaluations asked for, 0 of them done" in printed(main)
    assert pictures(main) == 1 and in_red(main) == ""
    assert str(next((folder / "data").glob("*.csv"))) in printed(main)


@pytest.mark.slow
def test_main_run_again_computes_nothing(folder, main):
    before = next((folder / "data").glob("*.csv")).read_bytes()
    again = compute("main.ipynb", folder, out=str(folder / "data"), **TINY)
    assert "200 of them done" in printed(again)
    assert next((folder / "data").glob("*.csv")).read_bytes() == before


def test_analysis_orders_and_draws(folder, analysis):
    text = printed(analysis) + shown(analysis)
    assert "<b>digits, mlp, weight</b>: " in text and "on digits/mlp/weight, by area" in text
    assert "too few blocks to tell pairs apart" in text
    written = {path.stem for path in (folder / "figures").glob("*.png")}
    assert {"heatmap", "placings", "settings", "truth", "alike"} <= written
    assert {path.stem for path in (folder / "figures").glob("*.pdf")} == written
    tables = {path.stem for path in (folder / "figures").glob("*.tex")}
    assert tables == {"scores", "orderings", "truth", next(name for name in written if name.startswith("pruning-"))}
    assert pictures(analysis) >= len(written)


def test_analysis_of_one_network_says_what_it_cannot_do(folder, main):
    shutil.copytree(folder / "data", folder / "one", ignore=shutil.ignore_patterns("checkpoints"))
    for path in (folder / "one").rglob("*.csv"):
        rows = pd.read_csv(path)
        rows[rows["seed"] == 0].to_csv(path, index=False)
    files = {"files": [str(folder / "one")], "agreement": [str(folder / "one" / "agreement")], "pruning": []}
    assert "no test is possible with 1 network" in shown(execute("analysis.ipynb", folder, **files))


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # Keras, when it saves
def test_a_network_that_is_trained_already(folder):
    task = tasks.load("digits")
    model = task.build_model("mlp")
    model.compile("adam", task.loss)
    model.fit(task.x_train, task.y_train, epochs=3, verbose=0)
    model.save(folder / "mine.keras")
    given = {"network": str(folder / "mine.keras"), "measures": ["magnitude", "random"], "levels": ["hidden_unit"]}
    said = printed(compute("main.ipynb", folder, out=str(folder / "mine"), thresholds=3, folds=8, **given))
    assert "48 evaluations asked for" in said and "Tests: 8 splits can tell 2 measures apart" in said
    frame = report.read(folder / "mine")
    assert set(frame["model"]) == {"mine"} and frame["fold"].nunique() == 8


def test_each_setting_is_written_once():
    notebook = json.loads((HERE / "main.ipynb").read_text("utf-8"))
    sources = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    (parameters,) = [tree for tree in map(ast.parse, sources) if "task" in stored(tree)]
    names = [node.id for tree in map(ast.parse, sources) for node in ast.walk(tree) if isinstance(node, ast.Name)]
    twice = [name for name in stored(parameters) if names.count(name) > 1 and name not in ("workers", "gpus")]
    assert not twice and {"measures", "levels", "seeds", "network", "x", "y", "out"} <= stored(parameters)


def stored(tree):
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
