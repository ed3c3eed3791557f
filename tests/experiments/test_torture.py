"""Two of the kills of `make torture`, one inside the write of a row and one inside that of a checkpoint."""

import sys

import pytest
import torture
from grid_runs import SETTINGS

from engine import structure
from experiments import threshold_grid


def attempt(job, out, fuse, started):
    structure.xla = lambda model: False
    if fuse[0] != "time":
        torture.light(*fuse)
    started.set()
    threshold_grid.run(out=out, progress=False, **{**SETTINGS, "seeds": [0]})


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks a file's name up in /proc")
def test_killed_runs_end_in_the_same_files(tmp_path):
    tortured = torture.Torture("grid", tmp_path, attempt=attempt)
    found = tortured.kill(2)
    assert tortured.kills == {"row": 1, "checkpoint": 1, "time": 0}
    assert found["runs"] >= 1 and found["rows"] >= 90
    assert found["lost"] == found["doubled"] == found["different"] == 0
    assert torture.sentence([tortured]) == (
        f"2 kills (2 of a grid; 1 inside the write of a row, 1 inside that of a checkpoint, 0 at any time): "
        f"{found['runs']} runs, {found['rows']:,} rows, 0 lost, 0 doubled, 0 different."
    )
