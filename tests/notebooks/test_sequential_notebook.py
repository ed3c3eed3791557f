"""Strengths are searched, shown, and read again."""

from execution import HERE, compute, execute, pictures, printed

import report

SEQUENCE = {
    "sequence": "permuted_digits",
    "measures": ["magnitude"],
    "penalties": ["stabilized"],
    "strengths": [1.0, 10.0],
    "search_seeds": [0, 1],
    "report_seeds": [2],
    "replay": [1],
    "epochs": 2,
    "batch_size": 500,
    "options": {"tasks": 2},
    "files": [],
    "unstable": [],
    "published": str(HERE / "data" / "published" / "ewc.csv"),
}


def test_sequential_searches_shows_and_reads_again(tmp_path):
    out, figures = tmp_path / "sequential", tmp_path / "figures of sequences"
    notebook = compute("sequential.ipynb", tmp_path, out=str(out), figures=str(figures), **SEQUENCE)
    # 2 strengths with 2 seeds, 1 report, and 2 ends with its seed.
    assert "honest: 7 runs, 7 of them to do: about" in printed(notebook)
    rows = report.read_sequential(out)
    assert len(rows) == (4 + 1 + 1 + 1) * 3 + 2 and rows[rows["measure"] == "replay"]["seed"].unique().tolist() == [2]
    written = {path.stem.split("-permuted")[0] for path in figures.glob("*.png")}
    assert written == {"strengths", "closer", "tasks", "stability"} and pictures(notebook) == 4
    before = next(out.glob("*.csv")).read_bytes()
    only_read = {"files": [str(out)], "out": str(tmp_path / "nothing")}
    again = execute("sequential.ipynb", tmp_path, **(SEQUENCE | only_read))
    assert pictures(again) == 4 and "to do" not in printed(again)
    assert next(out.glob("*.csv")).read_bytes() == before and not (tmp_path / "nothing").exists()
