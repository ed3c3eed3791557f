"""Who does which trial of a run: one process alone, or any number that share it.

The unit of work is a trial, such as one seed of a grid: it has a name, checkpoints of its own, and rows that depend on
no other trial. A job, such as `experiments.study.Study`, has

- `stores`: list of experiments.storage.store.Store. Where its rows go; the first decides what is done.
- `trials()`: dict from name to what is missing of that trial, falsy if nothing is; all that were asked for, in the
  order in which they are to be done.
- `do(missing)`: does what is missing of a trial. It may die at any instant and be called again.
- `wanted()`: set of the keys of all cells that were asked for.
- `description()`: what `experiments.workers.worker` needs to make the same job in another process.

One lock, the gate, belongs to the run, and one to each trial. Who works alone holds the gate throughout. Those that
share hold a trial's lock while they do it and pass the gate between trials: there they move the rows of the last trial
into the CSV and choose the next. So nobody can work alone while a trial is under way, and each trial is done once.
"""

import time

from experiments.storage import files, locks
from experiments.storage.checkpoints import Checkpoints

_PATIENCE = 600.0
"""Seconds to wait at the gate: those who share a run hold it while they read the run and write the rows of a trial."""


def alone(job):
    """Do all trials in this process, and let nobody else write the run meanwhile.

    Raises:
        locks.Busy: somebody else is writing it; says who, and since when.
        locks.Lost: the file of the lock was removed, and somebody else may be writing it.
    """
    desk = Desk(job)
    begun = desk.progress()
    if not desk.gate.take(wait=0.2, alone=True, **begun):
        if desk.missing():
            raise desk.busy(desk.gate)
        return
    reason = None
    try:
        held = desk.tidy()
        if held:
            raise desk.busy(held)
        desk.store.expect(begun["asked"])
        for store in job.stores:
            store.shard(None, desk.gate)
        for missing in desk.in_turn():
            job.do(missing)
        desk.tidy()
    except locks.Busy:
        raise
    except BaseException as error:
        reason = _reason(error)
        raise
    finally:
        for store in job.stores:
            store.shard(None)
        desk.gate.release(reason)


def join(job, only=None):
    """Do trials that nobody else is doing, until there is none left; others may do the same at the same time.

    Args:
        job: see the module.
        only: str or None. One trial, the only one to do; None: all.

    Raises:
        locks.Busy: somebody is writing the run alone.
        locks.Lost: as for `alone`.
    """
    desk, begun, lock = Desk(job), None, None
    try:
        while True:
            with desk:
                if lock is not None:
                    desk.finish(lock)
                    lock = None
                missing = {name: m for name, m in desk.missing().items() if only in (None, name)}
                if missing and begun is None:
                    begun = {**desk.progress(), "since": locks.now()}  # the rate is that since then, over all trials
                    desk.store.expect(begun["asked"])
                    for store in job.stores:
                        store.write_settings()
                if begun:
                    desk.expect()
                lock = next((lock for name in missing if (lock := desk.lock(name)).take(**begun)), None)
                if lock is None:
                    desk.tidy()
                    return
                for store in job.stores:
                    store.shard(lock.name, lock)
            job.do(missing[lock.name])
    except BaseException as error:
        if lock is not None:
            lock.release(_reason(error))
        raise
    finally:
        for store in job.stores:
            store.shard(None)


class Desk:
    """Where a run's trials are given out; entered, the gate is held."""

    def __init__(self, job):
        self.job, self.store = job, job.stores[0]
        self.folder = self.store.folder / "checkpoints" / self.store.name
        self.gate = locks.Lock(self.folder.parent, self.store.name)

    def __enter__(self):
        deadline = time.monotonic() + _PATIENCE
        while not self.gate.take(wait=0.2):
            if (self.gate.note() or {}).get("alone") or time.monotonic() > deadline:
                raise self.busy(self.gate)

    def __exit__(self, *error):
        self.gate.release()

    def progress(self):
        """Say how far the run is, for those who ask meanwhile: cells done, and all that are to be."""
        self.refresh()
        return {"done": len(self.store.done), "asked": len(self.store.done | self.job.wanted())}

    def expect(self):
        """Write down that more is asked for than when the work began: what is may follow from what was found."""
        asked = len(self.store.done | self.job.wanted())
        if asked > self.store.asked:
            self.store.expect(asked)
            self.store.write_settings()

    def in_turn(self):
        """Yield what is missing of one trial after another. Only while nobody else writes the run."""
        self.refresh()
        begun = set()
        while todo := {name: m for name, m in self.job.trials().items() if m and name not in begun}:
            begun.add(next(iter(todo)))
            if self.store.done:
                self.expect()
            yield next(iter(todo.values()))

    def written(self):
        """Return what there is to show for the work so far: the keys of rows and the paths of kept states, a set."""
        self.refresh()
        rows = {(number, key) for number, store in enumerate(self.job.stores) for key in store.done}
        kept = (self.folder, self.store.folder / "networks")
        return rows | {path for folder in kept for path in folder.rglob("*.npz")}

    def missing(self):
        """Return {trial: what is missing} from what is on disk now."""
        self.refresh()
        return {name: missing for name, missing in self.job.trials().items() if missing}

    def lock(self, trial):
        """Return the lock of a trial, not taken yet."""
        return locks.Lock(self.folder, trial)

    def finish(self, lock):
        """Move the rows of a trial whose lock is held into the CSV, and let it go."""
        for held in (lock, self.gate):
            held.check()
        for store in self.job.stores:
            store.shard(None)
            store.fold(lock.name)
        lock.release()
        lock.remove()

    def tidy(self):
        """Finish what others left: shards, checkpoints of trials that are done, a settings file that was lost.

        Returns:
            locks.Lock or None. The lock of a trial that somebody is doing now.
        """
        shards = {trial for store in self.job.stores for trial in store.shared()}
        locked = {path.stem for ending in ("lock", "holder") for path in self.folder.glob(f"*.{ending}")}
        left = {name: self.lock(name) for name in sorted(locked | shards)}
        held = {}
        for name, lock in left.items():
            if lock.take():
                self.finish(lock)
            else:
                held[name] = lock
        for name, missing in self.job.trials().items():
            if not missing and name not in held:
                Checkpoints(self.folder / name).clear()
        for store in self.job.stores:
            store.restore_settings()
        if not held:
            for half_written in self.folder.rglob("*.part"):
                files.remove(half_written)
        return next(iter(held.values()), None)

    def busy(self, lock):
        """Return the error that says who holds a lock."""
        return locks.Busy(
            f"Expected to be the only one to write {self.store.path}, which {locks.described(lock.note())} is writing. "
            'Wait until it is done, stop it, or share the work: workers="join" in all processes.'
        )

    def refresh(self):
        """Read again what is on disk."""
        for store in self.job.stores:
            store.refresh()


def _reason(error):
    return f"{type(error).__name__}: {error}".splitlines()[0][:500]
