"""A study that costs nothing and keeps all that a study can: rows, checkpoints, networks and importances.

Each step's numbers follow from those of the step before, so whoever goes on from another state gets other rows.
"""

import dataclasses
import hashlib

import numpy as np

from experiments import networks
from experiments.settings import Settings
from experiments.storage import importances
from experiments.study import Study

KEY = ["seed", "other", "on_task"]
COLUMNS = ["run", *KEY, "network", "weights", "importance", "value"]


@dataclasses.dataclass(frozen=True)
class ChainSettings(Settings):
    task: str = "chain"
    model: str = "links"
    seeds: tuple = (0, 1)
    steps: int = 3
    parts: int = 40


class Chain(Study):
    SETTINGS, KEY, COLUMNS = ChainSettings, KEY, COLUMNS

    def __init__(self, out, **settings):
        self.settings = ChainSettings(**settings)
        self.open(out)

    def cells(self):
        s = self.settings
        for seed in s.seeds:
            for step in range(1, s.steps + 1):
                yield (
                    f"seed-{seed}",
                    (seed, step),
                    [{"seed": seed, "other": step, "on_task": n} for n in range(s.parts)],
                )

    def do(self, missing):
        (seed, first), _ = missing[0]
        s, kept = self.settings, self.checkpoints(f"seed-{seed}")
        network = networks.Network(self.store.folder, "chain", seed)
        state = network.begin({"model/00000": link("start", seed)})
        reached, arrays = kept.latest(first - 1)
        value = arrays[0] if reached else state["model/00000"]
        for step in range(reached + 1, s.steps + 1):
            weights = network.take(step, {}, trained)
            held = self._importances(seed)
            value = link(value, weights["model/00000"], held)
            about = {"run": s.name, "network": network.identity, "weights": networks.digest(weights)}
            about |= {"seed": seed, "other": step, "importance": held[0]}
            self.store.complete({**about, "on_task": n, "value": float(link(value, n)[0])} for n in range(s.parts))
            if step < s.steps:
                kept.save(step, [value])
            self.finished()
        kept.clear()

    def _importances(self, seed):
        """Return importances that are kept for all steps."""
        path = self.store.folder / "pretrained" / f"seed-{seed}.npz"
        if not path.exists():
            importances.save(path, [link("importance", seed)], seed=seed)
        return importances.load(path)[0][0]


def trained(state, epochs):
    for epoch in epochs:
        state = {name: link(array, epoch) for name, array in state.items()}
    return state


def link(*given):
    """Return eight numbers that follow from what is given: float32 array."""
    content = b"".join(a.tobytes() if isinstance(a, np.ndarray) else str(a).encode() for a in given)
    return np.frombuffer(hashlib.sha256(content).digest(), "uint32").astype("float32")
