"""Go on until every pair of measures is settled: which seeds a grid is to have, by the rows that are there.

A pair is settled when its measures are told apart or are practically equal, by evidence that holds at every look
(`report.order` with `anytime`), so that going on until then raises no error. This is the only file of this folder that
reads reports. What it says is a function of the rows on disk: every process that works on a run comes to the same.
"""

import pathlib
import warnings

import pandas as pd

import report
from report.statistics.evidence import blocks_to_settle

UNTIL = ("settled",)
LIMIT = 64
"""The most networks, unless another number is asked for."""


def settled(frame):
    """Count the pairs of measures that are settled: (settled, pairs), at the last checkpoint of each run.

    Args:
        frame: DataFrame of rows of grids, or of `report.scores` of such.
    """
    return report.settled(frame)


def told(folder, run):
    """Say how many pairs of a grid's run are settled, as in "224 of 276"; "" where none can be compared.

    Args:
        folder: str or path.
        run: str. The run's name.
    """
    path = pathlib.Path(folder) / f"{run}.csv.gz"
    path = path if path.exists() else path.with_suffix("")
    try:
        with warnings.catch_warnings(action="ignore"):  # of what is wrong with the file, the status tells
            count, pairs = settled(report.last_checkpoint(report.read(path)))
    except (OSError, ValueError):
        return ""
    return f"{count} of {pairs}" if pairs else ""


class Until:
    """Which seeds are wanted.

    Args:
        chance: dict. The `chance_loss` and the `chance_accuracy` (None where there is none) of guessing.
    """

    def __init__(self, chance):
        self._chance = {name: float("nan") if value is None else value for name, value in chance.items()}
        self._scores, self._enough, self._warned = {}, {}, False

    def seeds(self, settings, complete, rows):
        """Choose seeds: those asked for and, until every pair is settled, the numbers that follow the largest of them.

        Args:
            settings: experiments.threshold_grid.GridSettings.
            complete: callable `complete(seed)`. Whether all rows of a seed are there.
            rows: callable `rows(seed)`. Returns them: DataFrame.

        Returns:
            wanted: list of int. The seeds that are needed for certain: those that are there and, unless that is
                enough, those asked for or else one more.
            next: list of int. Those that are there and all that may come to be needed, for workers with nothing else
                to do.
        """
        asked = list(settings.seeds)
        most = max(settings.limit, len(asked))
        more = range(max(asked) + 1, max(asked) + 1 + most - len(asked))
        every = [*asked, *more] if settings.until else asked
        if not settings.until:
            return every, every
        there = [seed for seed in every if complete(seed)]
        if not set(asked) <= set(there):
            return [*asked, *(seed for seed in there if seed not in asked)], every
        if len(there) == len(every) or self._are_enough(settings, there, rows):
            return there, there
        return [*there, next(seed for seed in every if seed not in there)], every

    def _are_enough(self, settings, seeds, rows):
        where = {
            "measure": settings.measures, "level": settings.levels, "reduction": settings.reductions,
            "scope": settings.scopes, "fill": settings.fills, "threshold": settings.thresholds,
            "epoch": settings.checkpoints[-1:],
        } | ({"calibration": settings.calibrations} if settings.calibrations else {})  # fmt: skip
        where |= {"repair": settings.repairs} if settings.compares_repairs else {}
        of = str(where)
        for seed in seeds:
            if (of, seed) not in self._scores:
                self._scores[of, seed] = self._scored(rows(seed), where)
        if (of, tuple(seeds)) not in self._enough:
            count, pairs = settled(pd.concat([self._scores[of, seed] for seed in seeds], ignore_index=True))
            self._enough[of, tuple(seeds)] = count == pairs and (pairs > 0 or self._gives_up(len(seeds)))
        return self._enough[of, tuple(seeds)]

    def _scored(self, rows, where):
        for name, values in where.items():
            rows = rows[rows[name].isin(list(values))]
        return report.scores(rows.assign(**self._chance))

    def _gives_up(self, networks):
        """Say whether nothing will ever be settled: on so many networks, no two measures have a score."""
        if networks < blocks_to_settle(1):
            return False
        if not self._warned:
            warnings.warn(
                f"Expected measures that can be compared, to go on until they are settled; on {networks} networks no "
                "two have a score. No more networks are trained; report.scores says why (flags).",
                stacklevel=6,
            )
            self._warned = True
        return True
