"""What tests of the grid share; see `grid_runs`."""

import compiling
import pytest
from grid_runs import ROWS, run

from engine import structure, training


@pytest.fixture
def quick(monkeypatch):
    """Compile without XLA: these tests look at what is done, and compiling is what takes the time."""
    monkeypatch.setattr(structure, "xla", lambda model: False)


@pytest.fixture
def trained(monkeypatch):
    """Record the epochs that are trained: a list of (seed, epoch)."""
    epochs, train = [], training.train

    def recorded(model, x, y, wanted, batch_size, seed, *rest):
        epochs.extend((seed, epoch) for epoch in wanted)
        train(model, x, y, wanted, batch_size, seed, *rest)

    monkeypatch.setattr(training, "train", recorded)
    return epochs


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A run that nothing interrupted: its folder and its rows. Copy the folder before changing it."""
    folder = tmp_path_factory.mktemp("finished")
    with compiling.all_simply():
        frame = run(folder)
    assert len(frame) == ROWS
    return folder, frame
