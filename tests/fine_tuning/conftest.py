"""Runs of fine-tuning so small that each takes a second: a model of a few thousand weights, four steps.

They begin with new weights; tests of pretraining, and of what only trained weights show, say how much there is of it.
"""

import numpy as np
import pytest

from engine import training
from experiments import fine_tuning, shared

MODEL = {"blocks": 1, "width": 16, "heads": 2}
SMALL = {
    "sequence_length": 8, "batch_size": 4, "pretraining_steps": 0, "steps": 4, "every": 2, "examples": 6,
    "evaluated": 5, "model_options": MODEL,
}  # fmt: skip


@pytest.fixture(autouse=True)
def compiled_once(monkeypatch):
    """Let the tests share what is compiled, which takes ten times as long as to use it.

    Each begins with NaN and -1 in every variable, so that nothing of an earlier one can help it on.
    """
    monkeypatch.setattr(shared, "MOST", 100)
    for made in shared._kept.values():
        model = made[0] if isinstance(made, tuple) else made.model
        optimizer = getattr(model, "optimizer", None)
        for variable in [*training.model_variables(model), *(optimizer.variables if optimizer else ())]:
            nothing = np.nan if "float" in variable.dtype else -1
            variable.assign(np.full(variable.shape, nothing, variable.dtype))


class Small:
    """Two texts of the test's own, and the small setting for them; `settings` may be changed."""

    def __init__(self, folder):
        self.folder, self.old, self.new = folder, folder / "old.txt", folder / "new.txt"
        self.old.write_text("".join(f"{n} and {n + 1} make {2 * n + 1}. " for n in range(120)), encoding="utf-8")
        self.new.write_text("".join(f"f({n}) = {n * n};\n" for n in range(150)), encoding="utf-8")
        self.settings = dict(SMALL)

    def job(self, out="out", **settings):
        return fine_tuning.FineTuning(
            **{"old": self.old, "new": self.new, "out": self.folder / out, **self.settings, **settings}
        )  # fmt: skip

    def run(self, out="out", workers=1, **settings):
        return self.job(out, **settings).run(progress=False, workers=workers)


@pytest.fixture
def small(tmp_path):
    return Small(tmp_path)


class Trained(list):
    """The (step, sequences) of each call of `training.train`; one call may be let die."""

    dies_at = None


@pytest.fixture
def trained(monkeypatch):
    calls, train = Trained(), training.train

    def recorded(model, x, y, epochs, *rest):
        calls.extend((epoch, len(x)) for epoch in epochs)
        if len(calls) == calls.dies_at:
            raise KeyboardInterrupt
        train(model, x, y, epochs, *rest)

    monkeypatch.setattr(training, "train", recorded)
    return calls
