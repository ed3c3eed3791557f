"""What all jobs share: asking for other settings, running, and showing how far it is."""

import dataclasses
import time
from contextlib import contextmanager

from tqdm.auto import tqdm

from experiments import crew


class Job:
    """A job of `experiments.work` with a file, `store`, and settings, some of which are columns of its rows.

    Subclasses set `settings` and `store`, and have `trials`, `wanted`, `description` and `do`; `do` calls `finished`
    after every run, or whatever they count.

    Attributes:
        UNIT: str. What is counted.
        PARTS: tuple of str. What `timings` tells apart.
    """

    UNIT, PARTS = "run", ()

    def asking(self, **varied):
        """Ask for other runs from now on; their rows join the same file, and compiled models serve them too.

        Args:
            **varied: of `measures`, `penalties`, `strengths`, `ends` and `seeds`, those that change.

        Returns:
            This object.

        Raises:
            ValueError: a setting that decides the run's name, or that cannot be.
        """
        others = sorted(set(varied) - self.settings.VARIED)
        if others:
            raise ValueError(
                f"Expected only settings that are columns of the rows ({', '.join(sorted(self.settings.VARIED))}), "
                f"received {', '.join(others)}. Make another {type(self).__name__} for them."
            )
        self.settings = dataclasses.replace(self.settings, **varied)
        return self

    def run(self, watch=None, progress=True, workers=1, gpus=0.0):
        """Do the runs that are missing, writing rows as soon as they are there.

        Safe to interrupt at any time: called again, in this process or another, it goes on after the last rows that
        were written, and does the runs that are missing.

        Args:
            watch: callable or None. Called as `watch(frame)` with all rows so far after every run.
            progress: bool. Whether to show a bar.
            workers, gpus: as for `experiments.threshold_grid.Grid.run`.

        Returns:
            pandas.DataFrame. All rows with these settings, also of runs with other measures, penalties, strengths and
            seeds.

        Raises:
            experiments.locks.Busy: another process is writing this run; says which, and since when.
            OSError: a full disk or a folder that vanished; what was written before is whole.
        """
        start = time.perf_counter()
        self.timings = dict.fromkeys(self.PARTS, 0.0)
        self.store.refresh()
        todo = self.missing()
        self._bar = tqdm(total=todo, desc=f"{self.UNIT}s", unit=self.UNIT, disable=not progress or not todo)
        self._watch = watch
        try:
            crew.start(self, workers, self._look, gpus)
        finally:
            self._bar.close()
            for store in self.stores:
                store.close()
        self.timings["total"] = time.perf_counter() - start
        return self.store.frame()

    @property
    def stores(self):
        """The files that rows go to; see `experiments.work`."""
        return [self.store]

    def begun(self, protection):
        """Show which run is being done."""
        self._bar.set_postfix_str(f"{protection.measure}, {protection.penalty}, {protection.strength:g}")

    def finished(self, count=1):
        """Show that so many more runs are done."""
        self._bar.update(count)
        self.show()

    def missing(self):
        """Count what is asked for and not there."""
        return sum(map(len, self.trials().values()))

    def show(self):
        """Show all rows so far to whoever watches."""
        if self._watch:
            self._watch(self.store.frame())

    @contextmanager
    def timed(self, what):
        """Open a context whose seconds are added to `timings`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.timings[what] = self.timings.get(what, 0.0) + time.perf_counter() - start

    def _look(self):
        """Show what other processes have written since."""
        self.store.refresh()
        self._bar.n = self._bar.total - self.missing()
        self._bar.refresh()
        self.show()
