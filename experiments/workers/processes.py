"""Trials in several processes on this machine, started here and ended with this one."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from experiments.workers.desk import Desk

RETRIES = 3
"""How often workers may die with nothing written in between before the run is given up: one that is killed is replaced,
an error comes again."""


def together(job, workers, look=lambda: None):
    """Do trials in so many processes on this machine, which end when this one does.

    Args:
        job: see `experiments.workers.desk`.
        workers: int.
        look: callable. Called now and then.

    Raises:
        locks.Busy: somebody is writing the run alone.
        RuntimeError: workers died again and again; says of what.
    """
    desk = Desk(job)
    with desk:
        desk.tidy()
    deaths, look = Deaths(desk), NowAndThen(look)
    with contextlib.ExitStack() as stack:
        running = []
        for _ in range(min(workers, len(desk.missing()))):
            running.append(stack.enter_context(_Worker(job, workers)))
        while running:
            time.sleep(0.1)
            look()
            for worker in [worker for worker in running if worker.ended()]:
                running.remove(worker)
                if worker.failed():
                    if deaths.too_many():
                        raise RuntimeError(
                            f"Expected the processes that work on {desk.store.path} to end well; one after another "
                            f"died and nothing was written in between, the last with:\n{worker.said()}\nWhat they "
                            "wrote is whole; run again to go on."
                        )
                    running.append(stack.enter_context(_Worker(job, workers)))
    desk.refresh()


class Deaths:
    """Count the deaths of workers since any of them wrote something that had not been there before.

    Args:
        desk: experiments.workers.desk.Desk.
    """

    def __init__(self, desk):
        self._desk, self._seen, self._count = desk, desk.written(), 0

    def too_many(self):
        """Count one more; say whether that makes more than `RETRIES` without progress."""
        written = self._desk.written()
        self._count = 1 if written - self._seen else self._count + 1
        self._seen |= written
        return self._count > RETRIES


class NowAndThen:
    """Call a function every few seconds when called, and less often if it takes long itself."""

    def __init__(self, function, seconds=2.0):
        self._function, self._seconds = function, seconds
        self._next = time.monotonic() + seconds

    def __call__(self):
        """Call the function, if it is time."""
        started = time.monotonic()
        if started >= self._next:
            self._function()
            now = time.monotonic()
            self._next = now + max(self._seconds, 10 * (now - started))


class _Worker:
    """A process that joins the work on a job; it ends when it finds nothing more to do, or with this process."""

    def __init__(self, job, workers):
        self._description, self._threads = job.description(), max(1, _processors() // workers)

    def __enter__(self):
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "experiments.workers.worker"],
            env={**os.environ, **environment(self._threads)}, stdin=subprocess.PIPE, stdout=self._log, stderr=self._log,
        )  # fmt: skip
        self._process.stdin.write(json.dumps(self._description).encode() + b"\n")
        self._process.stdin.flush()  # and stays open: when it closes, the worker ends
        return self

    def __exit__(self, *error):
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def ended(self):
        return self._process.poll() is not None

    def failed(self):
        return self._process.returncode != 0

    def said(self):
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").splitlines()
        return "\n".join(lines[-8:]) or f"exit status {self._process.returncode}"


def environment(threads):
    """Return what a process is told that shares its machine with others: a dict of environment variables.

    What the user set already stays.
    """
    root = str(pathlib.Path(__file__).parents[2])
    wanted = {
        **dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads)),
        # Each takes as much of a GPU's memory as it needs, so that several fit on one.
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }
    found = {name: os.environ.get(name, value) for name, value in wanted.items()}
    return {**found, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}


def _processors():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
