"""Runs that are there keep their names and their rows; what an earlier version began is not continued."""

import json
import pathlib
import shutil

import pandas as pd
import pytest
from grid_runs import ROWS, run, same

from experiments import sequential
from experiments.storage import store
from experiments.threshold_grid import Grid

DATA = pathlib.Path(__file__).parents[2] / "data"


def earlier(folder):
    """Make the run in a folder one of the first schema, which files did not state."""
    (path,) = folder.glob("*.json")
    about = json.loads(path.read_text("utf-8"))
    assert about.pop("schema") == store.SCHEMA == 2 and about.pop("checksum")
    path.write_text(json.dumps(about), "utf-8")


@pytest.mark.filterwarnings("ignore:The rows of .* were computed before importance:UserWarning")
def test_a_finished_result_is_found_finished(tmp_path):
    for name in ("digits-mlp-dd7288fe.csv.gz", "digits-mlp-dd7288fe.json"):
        shutil.copy(DATA / name, tmp_path)
    grid = Grid(out=tmp_path, **json.loads((tmp_path / "digits-mlp-dd7288fe.json").read_text("utf-8"))["settings"])
    assert grid.missing() == 0
    rows = grid.run(progress=False)
    pd.testing.assert_frame_equal(rows, pd.read_csv(DATA / "digits-mlp-dd7288fe.csv.gz"))
    assert {path.name for path in tmp_path.glob("*dd7288fe*")} == {
        "digits-mlp-dd7288fe.csv.gz",
        "digits-mlp-dd7288fe.json",
    }


def test_an_unfinished_grid_of_an_earlier_schema_is_not_continued(tmp_path, finished, trained, quick):
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    earlier(tmp_path)
    same(run(tmp_path), finished[1])
    (path,) = tmp_path.glob("*.csv")
    before = path.read_bytes()
    message = (
        r"rows are missing, and by iris-mlp-\w+.json it is of schema 1, .* another `out`; or, .* checkpoints/iris-mlp"
    )
    with pytest.raises(ValueError, match=message):
        run(tmp_path, seeds=[0, 1, 2])
    assert path.read_bytes() == before and not trained
    path.write_bytes(before[: len(before) // 2])
    for workers in (1, "join", 2):
        with pytest.raises(ValueError, match="rows are missing"):
            run(tmp_path, workers=workers)
    # Without a settings file nothing says how the rows were drawn.
    next(tmp_path.glob("*.json")).unlink()
    next(tmp_path.glob("*.sums")).unlink()
    with pytest.raises(ValueError, match="rows are missing"):
        run(tmp_path)
    path.unlink()
    assert len(run(tmp_path)) == ROWS and not trained  # the networks are kept


def test_nor_is_a_sequence(tmp_path, quick):
    settings = {"epochs": 1, "options": {"tasks": 2}, "out": tmp_path, "progress": False}
    rows = sequential.run("permuted_digits", **settings)
    earlier(tmp_path)
    pd.testing.assert_frame_equal(sequential.run("permuted_digits", **settings), rows)
    with pytest.raises(ValueError, match="rows are missing"):
        sequential.run("permuted_digits", seeds=[0, 1], **settings)
