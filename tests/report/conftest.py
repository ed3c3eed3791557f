"""What tests of reports share; see `report_frames`."""

import pytest
from report_frames import curve, grid, legacy

from report.tables.columns import REQUIRED


@pytest.fixture
def make_curve():
    return curve


@pytest.fixture
def make_grid():
    return grid


@pytest.fixture
def make_legacy():
    return legacy


@pytest.fixture
def write(tmp_path):
    """Write a frame as a run writes it, with the columns of a file and no others; return its path."""

    def to_file(frame, name="run.csv", columns=(*REQUIRED, "status")):
        frame[[name for name in columns if name in frame]].to_csv(tmp_path / name, index=False)
        return tmp_path / name

    return to_file
