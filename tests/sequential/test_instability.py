"""The instability that the notebook shows: the plain penalty explodes or drowns the task, the other two do neither."""

import numpy as np
import pytest

from experiments import instability


@pytest.fixture(scope="module")
def ends():
    """The last rows of a small run, by the largest rate * strength * Omega and the penalty."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("engine.structure.xla", lambda model: False)
        frame = instability.run(conditions=[(None, 2.5), (1.0, 500.0)], penalties=["plain", "stabilized"], epochs=15)
    assert len(frame) == 2 * 2 * 15 and frame["clip"].isna().sum() == 30
    return frame[frame["epoch"] == 15].set_index(["largest", "penalty"])


def test_above_two_the_plain_penalty_explodes(ends):
    assert not np.isfinite(ends["loss"][2.5, "plain"]) and not np.isfinite(ends["distance"][2.5, "plain"])
    assert ends["distance"][2.5, "stabilized"] < 0.1 and ends["accuracy"][2.5, "stabilized"] > 0.5


def test_clipped_the_plain_penalty_learns_nothing(ends):
    assert ends["accuracy"][500.0, "plain"] < 0.2 and ends["task_left"][500.0, "plain"] < 0.15
    assert ends["accuracy"][500.0, "stabilized"] > 0.3 and ends["task_left"][500.0, "stabilized"] > 0.3
    assert (ends.loc[500.0, "first_accuracy"] > 0.3).all()
