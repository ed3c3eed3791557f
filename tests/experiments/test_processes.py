"""Several processes that share a run."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from grid_runs import ROWS, linear, run, same
from test_locks import ROOT

from experiments import sequential, threshold_grid
from experiments.storage.checkpoints import Checkpoints
from experiments.storage.store import Store
from experiments.workers import processes, start
from experiments.workers.desk import Desk

pytestmark = pytest.mark.xla


def kill_one(folder, killed):
    """Kill the first process that has rows of its own."""
    while not (shards := list(folder.glob("*+*.csv"))):
        time.sleep(0.02)
    (run_of,) = (folder / "checkpoints").glob("*/")
    note = json.loads((run_of / f"{shards[0].stem.partition('+')[2]}.holder").read_text())
    os.kill(note["process"], signal.SIGKILL)
    killed.append(note["process"])


def test_two_processes_do_what_one_does_though_one_of_them_is_killed(tmp_path):
    killed, shown = [], []
    killer = threading.Thread(target=kill_one, args=(tmp_path / "two", killed), daemon=True)
    killer.start()
    two = run(tmp_path / "two", workers=2, watch=shown.append)
    killer.join(1)
    one = run(tmp_path / "one")
    assert killed and len(two) == len(shown[-1]) == ROWS
    same(two, one)
    (path,) = (tmp_path / "two").glob("*.csv")
    lines = path.read_text().splitlines()
    assert len(lines) == len(set(lines)) == 1 + ROWS
    agreement = [sorted(next((tmp_path / n / "agreement").glob("*.csv")).read_text().split()) for n in ("one", "two")]
    assert agreement[0] == agreement[1]
    assert not list((tmp_path / "two" / "checkpoints").rglob("*.holder"))


class Undescribed:
    """A job that no worker can make."""

    def __init__(self, out):
        self.stores = [Store(out, "run", ["run", "trial"], ["trial"])]

    def wanted(self):
        return {("a",)}

    def trials(self):
        return {"a": ["a"]}

    def description(self):
        return {"kind": "nothing"}


def test_workers_that_die_again_and_again_are_told_of(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "RETRIES", 1)
    with pytest.raises(
        RuntimeError, match=r"(?s)work on .*run.csv to end well.*nothing was .*KeyError: 'out'.*run again to go on"
    ):
        start.start(Undescribed(tmp_path), workers=2)


def test_deaths_are_counted_since_something_was_written(tmp_path):
    desk = Desk(Undescribed(tmp_path))
    deaths, kept = processes.Deaths(desk), Checkpoints(desk.folder / "a", keep=2)
    for number in range(5):  # more in all than may be in a row
        assert not any(deaths.too_many() for _ in range(processes.RETRIES - 1))
        if number % 2:
            kept.save(number, [])
        else:
            desk.store.append([{"run": "run", "trial": number}])
        assert not deaths.too_many()
    kept.save(3, [])  # what was there before is no progress
    assert [deaths.too_many() for _ in range(processes.RETRIES)] == [False] * (processes.RETRIES - 1) + [True]
    desk.store.close()


class Dying:
    """A worker that writes a row, or not, and dies; the ninth that is started ends well."""

    started = 0

    def __init__(self, job, workers):
        self._store, self.number = job.stores[0], Dying.started
        Dying.started += 1

    def __enter__(self):
        if self.number % processes.RETRIES == 0:
            self._store.append([{"run": "run", "trial": self.number}])
        return self

    def __exit__(self, *error):
        self._store.close()

    def ended(self):
        return True

    def failed(self):
        return self.number < 8

    def said(self):
        return "killed"


def test_workers_that_die_often_but_write_in_between_are_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "_Worker", Dying)
    monkeypatch.setattr(Dying, "started", 0)
    start.start(Undescribed(tmp_path), workers=2)
    assert Dying.started == 9


def test_a_worker_ends_with_the_process_that_started_it(tmp_path):
    description = threshold_grid.Grid("iris", out=tmp_path, epochs=100_000).description()
    worker = subprocess.Popen([sys.executable, "-m", "experiments.workers.worker"], cwd=ROOT, stdin=subprocess.PIPE)
    worker.stdin.write(json.dumps(description).encode() + b"\n")
    worker.stdin.close()
    assert worker.wait(60) == 1


@pytest.mark.parametrize("workers", [0, -1, True, 2.0, "two", "rays:auto", None])
def test_a_wrong_number_of_workers(tmp_path, workers):
    with pytest.raises(ValueError, match=r"Expected workers to be a number of processes of at least 1, 'join' or 'ray"):
        run(tmp_path, workers=workers)


def test_a_model_of_this_process_cannot_be_built_in_others(tmp_path):
    with pytest.raises(ValueError, match=r"Expected a model that other processes can build too.*received custom-"):
        run(tmp_path, model=linear, workers=2)
    with pytest.raises(ValueError, match=r"Expected a model that other processes can build too.*received custom-"):
        sequential.Sequential("permuted_digits", lambda: digits(), tmp_path).description()


def digits():
    import keras

    return keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])


def test_threads_are_shared_out_and_what_the_user_says_counts(monkeypatch):
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    assert processes.environment(3)["TF_NUM_INTRAOP_THREADS"] == "3"
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "5")
    assert processes.environment(3)["TF_NUM_INTRAOP_THREADS"] == "5"
