"""How far measures agree on which groups of weights matter: rank correlations of their scores.

With `deletion` among the measures, this says which measure measures what it claims: the true rise of the loss.
"""

import numpy as np
from scipy import stats

from engine import training
from experiments.store import Store

KEY = ["seed", "epoch", "level", "reduction", "scope", "measure", "other"]
COLUMNS = ["run", "task", "model", *KEY, "groups", "spearman", "status"]


class Agreement:
    """The CSV `<folder>/<run name>.csv`: a row for each pair of measures, once, at each checkpoint of a grid.

    `spearman` is the rank correlation of the groups' importances; in scope "layer" that within each layer, averaged
    over layers (those in which both measures tell groups apart). It is NaN where a measure gives all groups the same,
    and rounded to four decimals.

    Args:
        folder: str or path.
        settings: experiments.settings.GridSettings.
        partitions: dict from (level, scope) to thresholding.Partition.

    Attributes:
        store: experiments.store.Store.
    """

    def __init__(self, folder, settings, partitions):
        self._settings, self._partitions = settings, partitions
        self.store = Store(folder, settings.name, COLUMNS, KEY)

    def append(self, seed, epoch, scores):
        """Write the pairs that are missing.

        Args:
            seed, epoch: int.
            scores: dict from measure name to its list of arrays like the weights.
        """
        finite = {m: s for m, s in scores.items() if training.finite(s)}
        s, done, rows = self._settings, self.store.done, []
        for (level, scope), partition in self._partitions.items():
            for reduction in s.reductions:
                about = {"run": s.name, "task": s.task, "model": s.model, "seed": seed, "epoch": epoch, "level": level,
                         "reduction": reduction, "scope": scope, "status": "ok"}  # fmt: skip
                pairs = [{**about, "measure": a, "other": b} for a in finite for b in finite if a < b]
                missing = [pair for pair in pairs if self.store.key_of(pair) not in done]
                if missing:
                    values = {m: partition.values(finite[m], reduction) for m in finite}
                    found = correlations(values)
                    groups = sum(map(len, next(iter(values.values()))))
                    rows += [
                        {**pair, "groups": groups, "spearman": round(found[pair["measure"], pair["other"]], 4)}
                        for pair in missing
                    ]
        self.store.append(rows)

    def close(self):
        """Close the file."""
        self.store.close()


def correlations(values):
    """Correlate by rank.

    Args:
        values: dict from measure to a list of arrays (groups,), one for each scope.

    Returns:
        dict from (measure, other) to float: Spearman's coefficient (equal values share their mean rank), averaged over
        the scopes where both vary; NaN if there are none.
    """
    measures, matrices = list(values), []
    for scope in zip(*values.values(), strict=True):
        ranks = np.stack([stats.rankdata(v) for v in scope])
        ranks -= ranks.mean(axis=1, keepdims=True)
        length = np.sqrt((ranks**2).sum(axis=1))
        with np.errstate(invalid="ignore"):  # 0 / 0 where a measure tells no groups apart
            matrices.append(ranks @ ranks.T / np.outer(length, length))
    known = np.isfinite(matrices)
    count = known.sum(axis=0)
    mean = np.where(count, np.where(known, matrices, 0).sum(axis=0) / np.maximum(count, 1), np.nan)
    return {(a, b): float(mean[i, j]) for i, a in enumerate(measures) for j, b in enumerate(measures)}
