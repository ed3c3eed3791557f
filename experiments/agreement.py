"""How far measures agree on which groups of weights matter: rank correlations of their scores.

With `deletion` among the measures, this says which measure measures what it claims: the true rise of the loss.
"""

import itertools

import numpy as np
from scipy import stats

import importance
from engine import training
from experiments.storage.store import SCHEMA, Store

KEY = ["seed", "epoch", "level", "reduction", "scope", "measure", "other"]
COLUMNS = ["run", "task", "model", *KEY, "groups", "spearman", "status"]


class Agreement:
    """The CSV `<folder>/<run name>.csv`: a row for each pair of measures, once, at each checkpoint of a grid.

    The settings file beside it says by which files of measures the rows were computed, which is not always what that of
    the grid says: rows of either may have been removed to have them computed anew.

    `spearman` is the rank correlation of the groups' importances; in scope "layer" that within each layer, averaged
    over layers (those in which both measures tell groups apart). It is NaN where a measure gives all groups the same,
    and rounded to four decimals.

    Args:
        folder: str or path.
        name: str. The run's name.
        settings: experiments.threshold_grid.GridSettings.
        partitions: dict from (level, scope) to thresholding.Partition.
        schema: int. That of the grid's rows, which rows are of that were written before there was a settings file here.

    Attributes:
        store: experiments.storage.store.Store.
    """

    def __init__(self, folder, name, settings, partitions, schema=SCHEMA):
        self._settings, self._partitions = settings, partitions
        about = {"kind": "agreement", "measures_sha256": importance.digests()}
        self.store = Store(folder, name, COLUMNS, KEY, about, unstated=schema)

    def complete(self, seed, epoch, measures):
        """Say whether all pairs of some measures are there at a checkpoint.

        Args:
            seed, epoch: int.
            measures: iterable of str.

        Returns:
            bool.
        """
        pairs = list(itertools.combinations(sorted(measures), 2))
        where = (str(seed), str(epoch))
        return all(
            (*where, level, reduction, scope, *pair) in self.store
            for level, scope in self._partitions for reduction in self._settings.reductions for pair in pairs
        )  # fmt: skip

    def missing(self, seed, epoch, together):
        """Say which measures' scores are needed for the pairs that are missing at a checkpoint.

        Args:
            seed, epoch: int.
            together: dict from (level, reduction) to the set of measures that are to be compared there.

        Returns:
            set of str.
        """
        return {
            measure for pair in self._missing(seed, epoch, together) for measure in (pair["measure"], pair["other"])
        }

    def _missing(self, seed, epoch, together):
        s, done = self._settings, self.store.done
        about = {"run": self.store.name, "task": s.task, "model": s.model, "seed": seed, "epoch": epoch, "status": "ok"}
        for level, scope in self._partitions:
            for reduction in s.reductions:
                for a, b in itertools.combinations(sorted(together[level, reduction]), 2):
                    pair = {**about, "level": level, "reduction": reduction, "scope": scope, "measure": a, "other": b}
                    if self.store.key_of(pair) not in done:
                        yield pair

    def append(self, seed, epoch, scores, together):
        """Write the pairs that are missing.

        Args:
            seed, epoch, together: as for `missing`.
            scores: dict from measure name to its list of arrays like the weights.
        """
        finite, rows = {m: s for m, s in scores.items() if training.finite(s)}, []
        pairs = self._missing(seed, epoch, {where: measures & set(finite) for where, measures in together.items()})
        for (level, scope, reduction), of_part in itertools.groupby(
            pairs, lambda pair: (pair["level"], pair["scope"], pair["reduction"])
        ):
            values = {m: self._partitions[level, scope].values(finite[m], reduction) for m in finite}
            found = correlations(values)
            groups = sum(map(len, next(iter(values.values()))))
            rows += [
                {**pair, "groups": groups, "spearman": round(found[pair["measure"], pair["other"]], 4)}
                for pair in of_part
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
