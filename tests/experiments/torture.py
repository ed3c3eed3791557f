"""Kill runs at random instants, also in the middle of a write, start them again, and compare the end: `make torture`.

Every attempt is a process of its own, which SIGKILL ends after a random time, or inside the write of a row, of a
checkpoint, or of the renaming that makes a checkpoint count. When a run is complete, its CSVs are compared with those
of a run that nothing interrupted, as text and cell by cell, without the column of seconds; then the next run begins.
The last but one line says what came of it all.

SIGKILL leaves what the system has not written to the disk yet, so it cannot show a missing `fsync`. Therefore small
jobs are also run on a disk that fails at each call in turn, and started again from what a power loss may leave; see
`power_loss.py`. The last line says what came of that.
"""

import argparse
import collections
import csv
import multiprocessing
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import threading
import time

import keras
import power_loss
from tqdm.auto import tqdm

from experiments import fine_tuning, retraining, sequential, threshold_grid

# As little as has all there is to lose: a random stream (dropout), records of the training, many thresholds at once.
GRID = {
    "task": "digits", "measures": ["magnitude", "synaptic_intelligence", "fisher_sampled", "random"], "thresholds": 51,
    "levels": ["weight", "unit"], "epochs": 4, "every": 1, "batch_size": 64, "seeds": [0, 1], "sweep": True,
}  # fmt: skip
SEQUENTIAL = {
    "sequence": "permuted_digits", "measures": ["synaptic_intelligence"], "penalties": ["stabilized"],
    "strengths": [3.0], "epochs": 2, "options": {"tasks": 3}, "seeds": [0, 1],
}  # fmt: skip
FINE_TUNING = {
    "measures": ["fisher_empirical"], "penalties": ["stabilized"], "strengths": [0.1], "pretraining_steps": 4,
    "steps": 6, "every": 2, "sequence_length": 8, "batch_size": 4, "examples": 4, "evaluated": 4,
    "model_options": {"blocks": 1, "width": 8, "heads": 2},
}  # fmt: skip
RETRAINING = {
    "task": "digits", "measures": ["fisher_sampled"], "fractions": [0.8], "epochs": 2, "budget": 2, "rounds": 2,
    "batch_size": 64, "seeds": [0, 1], "records": False,
}  # fmt: skip
JOBS = {
    "grid": "a grid", "honest": "a sequence", "published": "a sequence as published", "fine_tuning": "a fine-tuning",
    "retraining": "a retraining",
}  # fmt: skip
KINDS = ("row", "checkpoint", "time", "time", "time")


def network():
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(24, "relu"), layers.Dropout(0.2), layers.Dense(10)]
    )


def run(job, out):
    """Do one job to its end."""
    if job == "grid":
        threshold_grid.run(model=network, out=out, progress=False, **GRID)
    elif job == "fine_tuning":
        fine_tuning.run(out=out, progress=False, **FINE_TUNING)
    elif job == "retraining":
        retraining.run(model=network, out=out, progress=False, **RETRAINING)
    else:
        sequential.run(model=network, out=out, progress=False, protocol=job, **SEQUENTIAL)


def attempt(job, out, fuse, started):
    tqdm.set_lock(threading.RLock())  # its own outlives a kill, and Python warns of it after the last line
    if fuse[0] != "time":
        light(*fuse)
    started.set()
    run(job, out)


def light(kind, number, share):
    """Let this process be killed inside its so manieth write of a row or a checkpoint."""
    ending = {"row": ".csv", "checkpoint": ".npz.part"}[kind]
    write, replace, left = os.write, os.replace, [number]

    def burns(path):
        left[0] -= str(path).endswith(ending)
        return left[0] == 0 and str(path).endswith(ending)

    def burning_write(descriptor, content):
        if burns(os.readlink(f"/proc/self/fd/{descriptor}")):
            write(descriptor, bytes(content[: int(share * len(content))]))
            os.kill(os.getpid(), signal.SIGKILL)
        return write(descriptor, content)

    def burning_replace(source, target):
        if burns(source):
            if share > 0.5:
                replace(source, target)
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    os.write, os.replace = burning_write, burning_replace


class Torture:
    """Kill one job over and over.

    Args:
        job: str. One of `JOBS`.
        folder: pathlib.Path.
        seed: int. Of the instants.
        attempt: callable `attempt(job, out, fuse, started)`. What a process does.
    """

    def __init__(self, job, folder, seed=0, attempt=attempt):
        self.job, self.folder, self._attempt = job, folder, attempt
        self._random = random.Random(f"{job} {seed}")
        self._context = multiprocessing.get_context("forkserver")
        # Importing takes longer than what is to be killed.
        self._context.set_forkserver_preload(["experiments.threshold_grid", "experiments.fine_tuning"])
        self.kills = dict.fromkeys(KINDS, 0)
        self.found = {"runs": 0, "rows": 0, "lost": 0, "doubled": 0, "different": 0}
        self._whole = folder / f"{job}-whole"
        started = time.monotonic()
        assert self._once(self._whole, ("time", 1e6, 0)) == 0
        self._seconds = time.monotonic() - started

    def kill(self, times, told=None):
        """Kill the job so many times, telling of each, and let it end; return what was found."""
        out = self.folder / f"{self.job}-killed"
        while sum(self.kills.values()) < times:
            kind = KINDS[sum(self.kills.values()) % len(KINDS)]
            number = self._random.uniform(0, self._seconds) if kind == "time" else self._random.randint(1, 6)
            code = self._once(out, (kind, number, self._random.random()))
            if code == 0:
                self._compare(out)
            else:
                assert code == -signal.SIGKILL, f"the job ended with {code}"
                self.kills[kind] += 1
            if told:
                told(f"{self.job}: killed {sum(self.kills.values())} times, {self.found}")
        assert self._once(out, ("time", 1e6, 0)) == 0
        self._compare(out)
        return self.found

    def _once(self, out, fuse):
        started = self._context.Event()
        process = self._context.Process(target=self._attempt, args=(self.job, out, fuse, started))
        process.start()
        while not started.wait(0.1) and process.exitcode is None:
            pass
        process.join(fuse[1] if fuse[0] == "time" else None)
        if process.exitcode is None:
            process.kill()
            process.join()
        return process.exitcode

    def _compare(self, out):
        for whole in sorted(self._whole.rglob("*.csv")):
            expected, received = (table(path) for path in (whole, out / whole.relative_to(self._whole)))
            self.found["doubled"] += sum(len(rows) - 1 for rows in received.values())
            self.found["lost"] += len(set(expected) ^ set(received))
            different = [
                (rows[0], received[k][0]) for k, rows in expected.items() if rows[0] != received.get(k, rows)[0]
            ]
            self.found["different"] += len(different)
            for pair in different[:3]:
                print("different: ", *pair, sep="\n    ", file=sys.stderr)
            self.found["rows"] += len(expected)
        left = [path for path in out.rglob("*") if path.suffix in (".part", ".holder") or "+" in path.name]
        if self.job == "honest":  # the others keep networks, the optimizer's state, or what was pretrained
            left += out.rglob("*.npz")
        assert not left, f"left behind: {left}"
        self.found["runs"] += 1
        shutil.rmtree(out)


def table(path):
    """Return {key: its rows} of a CSV, as text."""
    keys = {*threshold_grid.KEY, *sequential.KEY, *fine_tuning.KEY, *fine_tuning.SPREAD_KEY, *retraining.KEY, "other"}
    found = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            row.pop("seconds", None)
            found.setdefault(tuple(v for c, v in row.items() if c in keys), []).append(row)
    return found


def sentence(done):
    """Say in one sentence what came of it: how often which jobs were killed, where, and what was found at their ends.

    Args:
        done: list of Torture.
    """
    jobs = ", ".join(f"{sum(each.kills.values())} of {JOBS[each.job]}" for each in done)
    kills = sum((collections.Counter(each.kills) for each in done), collections.Counter())
    found = sum((collections.Counter(each.found) for each in done), collections.Counter())
    return (
        f"{kills.total()} kills ({jobs}; {kills['row']} inside the write of a row, {kills['checkpoint']} inside that "
        f"of a checkpoint, {kills['time']} at any time): {found['runs']} runs, {found['rows']:,} rows, "
        f"{found['lost']} lost, {found['doubled']} doubled, {found['different']} different."
    )


def outages(folder, jobs, every, losses, seed, told):
    """Let the disk fail at every so manieth call of small jobs, and the power so many times; return a sentence."""
    found, calls = collections.Counter(), {}
    for name in jobs:
        (folder / name).mkdir()
        outage = power_loss.Outage(power_loss.JOBS[name], folder / name)
        calls[name] = outage.calls
        if every:
            told(f"{name}: {outage.faults(range(0, outage.calls, every))}")
        share = 5 if "chain" in name else 1  # it costs next to nothing
        told(f"{name}: {outage.losses(losses * share // 12, seed)}")
        found.update(outage.found)
    jobs = ", ".join(f"{count} of a {name}" for name, count in calls.items())
    return (
        f"{found['faults']:,} faults of a disk ({len(power_loss.FAULTS)} kinds; calls: {jobs}) and {found['losses']:,} "
        f"power losses: {found['rows']:,} rows, {found['lost']} lost, {found['doubled']} doubled, "
        f"{found['different']} different."
    )


def tell(text):
    print(text, file=sys.stderr, flush=True)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--grid", type=int, default=50, help="times to kill a grid")
    parser.add_argument("--sequential", type=int, default=20, help="times to kill sequential runs")
    parser.add_argument("--fine-tuning", type=int, default=10, help="times to kill a fine-tuning")
    parser.add_argument("--retraining", type=int, default=10, help="times to kill retrainings")
    parser.add_argument("--outages", nargs="*", default=list(power_loss.JOBS), help="jobs under which the disk fails")
    parser.add_argument("--faults", type=int, default=1, help="let the disk fail at every so manieth call; 0: never")
    parser.add_argument(
        "--losses", type=int, default=1008, help="power losses, twelfths of them of grids and sequences"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the instants and the losses")
    asked = parser.parse_args(arguments)
    done = []
    half = asked.sequential // 2
    with tempfile.TemporaryDirectory() as folder:
        asked_times = (asked.grid, asked.sequential - half, half, asked.fine_tuning, asked.retraining)
        for job, times in zip(JOBS, asked_times, strict=True):
            if not times:
                continue
            done.append(Torture(job, pathlib.Path(folder), asked.seed))
            done[-1].kill(times, told=tell)
        if asked.outages:
            said = outages(pathlib.Path(folder), asked.outages, asked.faults, asked.losses, asked.seed, tell)
    if done:
        print(sentence(done), flush=True)
    if asked.outages:
        print(said, flush=True)
    return int(any(each.found[what] for each in done for what in ("lost", "doubled", "different")))


if __name__ == "__main__":
    sys.exit(main())
