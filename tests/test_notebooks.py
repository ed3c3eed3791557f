"""The notebooks run from top to bottom, as a user runs them, on the backend that is being tested."""

import ast
import math
import os
import pathlib

import nbformat
import pandas as pd
import papermill
import pytest

import report
from report.columns import ROW
from report.fine_tuning import COLUMNS, IMPORTANCES, METER

HERE = pathlib.Path(__file__).parents[1]
TINY = {
    "task": "digits",
    "measures": ["random", "magnitude", "fisher", "deletion", "weight_change"],
    "levels": ["weight", "unit"],
    "thresholds": 5,
    "epochs": 12,
    "every": 6,
    "seeds": [0, 1],
}
SEQUENCE = {
    "sequence": "permuted_digits",
    "measures": ["magnitude"],
    "penalties": ["stabilized"],
    "strengths": [1.0, 10.0],
    "search_seeds": [0, 1],
    "report_seeds": [2],
    "epochs": 2,
    "batch_size": 500,
    "options": {"tasks": 2},
    "files": [],
    "unstable": [],
}
FINE_TUNING = {
    "measures": ["magnitude"],
    "penalties": ["stabilized"],
    "strengths": [1.0, 10.0],
    "seeds": [0, 1],
    "examples": 4,
    "pretraining_steps": 2,
    "steps": 4,
    "every": 2,
    "sequence_length": 8,
    "batch_size": 4,
}


def execute(name, folder, **parameters):
    """Run a notebook in the project's root, and return it with its outputs."""
    path = folder / name
    papermill.execute_notebook(HERE / name, path, parameters, cwd=HERE, progress_bar=False)
    return nbformat.read(path, as_version=4)


def printed(notebook):
    outputs = (output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs)
    return "".join(output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in outputs)


def pictures(notebook):
    outputs = (output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs)
    return sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("notebooks")


@pytest.fixture(scope="module")
def main(folder):
    return execute("main.ipynb", folder, out=str(folder / "data"), **TINY)


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
    assert pictures(main) == 1
    assert str(next((folder / "data").glob("*.csv"))) in printed(main)


def test_main_run_again_computes_nothing(folder, main):
    before = next((folder / "data").glob("*.csv")).read_bytes()
    again = execute("main.ipynb", folder, out=str(folder / "data"), **TINY)
    assert "200 of them done" in printed(again)
    assert next((folder / "data").glob("*.csv")).read_bytes() == before


def test_analysis_orders_and_draws(folder, analysis):
    text = printed(analysis)
    assert "on digits/mlp/weight, " in text
    assert "too few blocks to tell pairs apart" in text
    written = {path.stem for path in (folder / "figures").glob("*.png")}
    assert {"heatmap", "critical-difference", "settings", "truth", "alike"} <= written
    assert {path.stem for path in (folder / "figures").glob("*.pdf")} == written
    tables = {path.stem for path in (folder / "figures").glob("*.tex")}
    assert tables == {"scores", "orderings", "truth", next(name for name in written if name.startswith("pruning-"))}
    assert pictures(analysis) >= len(written)


def test_analysis_of_one_network_says_what_it_cannot_do(folder, main):
    one = folder / "one"
    execute("main.ipynb", folder, out=str(one), **(TINY | {"seeds": [3], "epochs": 6}))
    files = {"files": [str(one)], "agreement": [str(one / "agreement")], "pruning": []}
    assert "no test is possible with 1 network" in printed(execute("analysis.ipynb", folder, **files))


def test_sequential_searches_shows_and_reads_again(folder):
    out, figures = folder / "sequential", folder / "figures of sequences"
    notebook = execute("sequential.ipynb", folder, out=str(out), figures=str(figures), **SEQUENCE)
    # 2 strengths with 2 seeds, 1 report, and 2 ends with its seed.
    assert "honest: 7 runs, 7 of them to do: about" in printed(notebook)
    assert len(report.read_sequential(out)) == (4 + 1 + 1) * 3 + 2
    written = {path.stem.split("-")[0] for path in figures.glob("*.png")}
    assert written == {"strengths", "tasks", "stability"} and pictures(notebook) == 3
    before = next(out.glob("*.csv")).read_bytes()
    only_read = {"files": [str(out)], "out": str(folder / "nothing")}
    again = execute("sequential.ipynb", folder, **(SEQUENCE | only_read))
    assert pictures(again) == 3 and "to do" not in printed(again)
    assert next(out.glob("*.csv")).read_bytes() == before and not (folder / "nothing").exists()


def fine_tuned(folder):
    """Write a run of fine-tuning with two seeds, and its importances, as if it had been computed; return its file."""
    methods = [("none", "none", 0.0), *(("mas", p, s) for p in ("plain", "stabilized") for s in (1.0, 10.0))]
    rows = [
        {"run": "prose-python", "model": "gpt", "old_text": "prose", "new_text": "python", "measure": measure,
         "penalty": penalty, "strength": strength, "seed": seed, "step": step, "seconds": 1.0, "status": "ok",
         "old_loss": 2 + step / (20 + 5 * strength) + 0.01 * seed, "new_loss": 3 - step / (20 + strength)}
        | dict.fromkeys(METER, strength * (1 + step))
        for measure, penalty, strength in methods for seed in (0, 1) for step in (0, 10, 20)
    ]  # fmt: skip
    frame = pd.DataFrame(rows)
    for text in ("old", "new"):
        frame[f"{text}_perplexity"] = frame[f"{text}_loss"].map(math.exp)
    frame[COLUMNS].to_csv(folder / "prose-python.csv", index=False)
    kinds = [("embedding", 90, 1.0, 5.0), ("dense", 10, 2.0, 50.0)]
    importances = [("prose-python", "mas", seed, kind, kind, *values) for seed in (0, 1) for kind, *values in kinds]
    pd.DataFrame(importances, columns=IMPORTANCES).to_csv(folder / "prose-python-importances.csv", index=False)
    return folder / "prose-python.csv"


def test_fine_tuning_shows_what_was_run(tmp_path):
    files = {"files": [str(fine_tuned(tmp_path))], "out": str(tmp_path / "nothing"), "new_perplexity": None}
    notebook = execute("finetuning.ipynb", tmp_path, figures=str(tmp_path / "figures"), **files)
    written = {path.stem for path in (tmp_path / "figures").glob("*.png")}
    assert written == {f"{name}-prose-python" for name in ("frontiers", "steps", "spread", "pull")}
    assert {path.stem for path in (tmp_path / "figures").glob("*.tex")} == {"at-equal-new", "spread"}
    assert pictures(notebook) == 4 and "p_holm" in printed(notebook) and not (tmp_path / "nothing").exists()


@pytest.mark.skipif(os.environ.get("KERAS_BACKEND") == "jax", reason="what it runs is tested on both backends")
def test_fine_tuning_runs_shows_and_reads_again(tmp_path):
    texts = {"old": "".join(f"{n} and {n + 1}. " for n in range(200)), "new": "".join(f"f({n});\n" for n in range(250))}
    for name, text in texts.items():
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
    out, figures = tmp_path / "data", tmp_path / "figures"
    tiny = {**{name: str(tmp_path / f"{name}.txt") for name in texts}, **FINE_TUNING, "figures": str(figures)}
    tiny |= {"files": [], "new_perplexity": None}
    notebook = execute("finetuning.ipynb", tmp_path, out=str(out), **tiny)
    frame = report.read_fine_tuning(out)
    # Plain fine-tuning and one protected run at two strengths, for two seeds, evaluated before, within and after.
    assert len(frame) == 3 * 2 * 3 and set(frame["status"]) == {"ok"}
    run = frame["run"].iloc[0]
    written = {path.stem for path in figures.glob("*.png")}
    assert written == {f"{name}-{run}" for name in ("frontiers", "steps", "spread", "pull")}
    assert pictures(notebook) == 4 and "p_holm" in printed(notebook)
    (csv,) = (path for path in out.glob("*.csv") if not path.stem.endswith("-importances"))
    before = csv.read_bytes()
    only_read = {"files": [str(out)], "out": str(tmp_path / "nothing")}
    again = execute("finetuning.ipynb", tmp_path, **(tiny | only_read))
    assert pictures(again) == 4 and csv.read_bytes() == before and not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("name", [path.name for path in sorted(HERE.glob("*.ipynb"))])
def test_one_cell_of_plain_parameters(name):
    notebook = nbformat.read(HERE / name, as_version=4)
    tagged = [cell.source for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    for statement in ast.parse(tagged[0]).body:
        ast.literal_eval(statement.value)
