"""Runs of fine-tuning are made and shown; those that were made are read."""

import math

import pandas as pd
from execution import compute, execute, pictures, printed

import report
from report.fine_tuning.results import COLUMNS, IMPORTANCES, METER

FINE_TUNING = {
    "measures": ["magnitude"],
    "penalties": ["stabilized", "plain:lora=2"],
    "strengths": [1.0, 10.0],
    "seeds": [0, 1],
    "examples": 4,
    "pretraining_steps": 2,
    "steps": 4,
    "every": 2,
    "sequence_length": 8,
    "batch_size": 4,
    "optimizer": "sgd",
    "learning_rate": 0.1,
    "optimizer_options": {"global_clipnorm": 1.0},
    "model_options": {"blocks": 1, "width": 16},
    "lora": [2],
    "replay": [20.0],
}


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
    csv = fine_tuned(tmp_path)
    before = csv.read_bytes()
    files = {"files": [str(csv)], "out": str(tmp_path / "nothing"), "new_perplexity": None}
    notebook = execute("finetuning.ipynb", tmp_path, figures=str(tmp_path / "figures"), **files)
    written = {path.stem for path in (tmp_path / "figures").glob("*.png")}
    assert written == {f"{name}-prose-python" for name in ("frontiers", "steps", "spread", "pull")}
    assert {path.stem for path in (tmp_path / "figures").glob("*.tex")} == {"at-equal-new", "spread"}
    assert pictures(notebook) == 4 and "p_holm" in printed(notebook)
    assert csv.read_bytes() == before and not (tmp_path / "nothing").exists()


def test_fine_tuning_runs_and_shows(tmp_path):
    texts = {"old": "".join(f"{n} and {n + 1}. " for n in range(200)), "new": "".join(f"f({n});\n" for n in range(250))}
    for name, text in texts.items():
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
    out, figures = tmp_path / "data", tmp_path / "figures"
    tiny = {**{name: str(tmp_path / f"{name}.txt") for name in texts}, **FINE_TUNING, "figures": str(figures)}
    tiny |= {"files": [], "new_perplexity": None}
    notebook = compute("finetuning.ipynb", tmp_path, out=str(out), **tiny)
    frame = report.read_fine_tuning(out)
    # Plain fine-tuning, factors alone, replay, and two penalties at two strengths, for two seeds, evaluated before,
    # within and after.
    assert len(frame) == 7 * 2 * 3 and set(frame["status"]) == {"ok"}
    run = frame["run"].iloc[0]
    written = {path.stem for path in figures.glob("*.png")}
    assert written == {f"{name}-{run}" for name in ("frontiers", "steps", "spread", "pull")}
    assert pictures(notebook) == 4 and "p_holm" in printed(notebook)
