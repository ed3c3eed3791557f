"""Who does which trial: alone, or shared, with a job so small that its trials are three rows each."""

import json
import multiprocessing
import os
import signal

import pytest

from experiments.storage import locks, store
from experiments.storage.store import Store
from experiments.workers import desk

COLUMNS, KEY = ["run", "trial", "cell", "value"], ["trial", "cell"]
TRIALS = ("a", "b-0.5", "c")
WHOLE = [f"run,{trial},{cell},{10 * cell}" for trial in TRIALS for cell in range(3)]


class Job:
    """Three trials of three rows; `on_row(trial, cell)` is called before each."""

    def __init__(self, out, on_row=lambda trial, cell: None):
        self.stores = [Store(out, "run", COLUMNS, KEY, {"settings": {}}), Store(out / "more", "run", COLUMNS, KEY)]
        self._on_row = on_row
        self.trained = []

    def wanted(self):
        return {(trial, str(cell)) for trial in TRIALS for cell in range(3)}

    def trials(self):
        done = self.stores[0].done
        return {t: [(t, c) for c in range(3) if (t, str(c)) not in done] for t in TRIALS}

    def do(self, missing):
        self.trained.append(missing[0][0])
        for trial, cell in missing:
            self._on_row(trial, cell)
            row = {"run": "run", "trial": trial, "cell": cell, "value": 10 * cell}
            for rows in reversed(self.stores):
                if rows.key_of(row) not in rows.done:
                    rows.append([row])


def lines(folder):
    return sorted((folder / "run.csv").read_text().splitlines()[1:])


def assert_finished(out):
    for folder in (out, out / "more"):
        assert lines(folder) == WHOLE
        assert [path.name for path in folder.glob("*.csv")] == ["run.csv"]
    assert not list((out / "checkpoints").rglob("*.holder")) and not list((out / "checkpoints" / "run").glob("*"))


def dies(trial, cell):
    if (trial, cell) == ("b-0.5", 1):
        os.kill(os.getpid(), signal.SIGKILL)


def in_another_process(function, *arguments):
    process = multiprocessing.get_context("fork").Process(target=function, args=arguments)
    process.start()
    return process


def joined(out, on_row):
    desk.join(Job(out, on_row))


def alone(out, on_row):
    desk.alone(Job(out, on_row))


class Pause:
    """Stop in the middle of a trial until told to go on."""

    def __init__(self):
        context = multiprocessing.get_context("fork")
        self.reached, self.go = context.Event(), context.Event()

    def __call__(self, trial, cell):
        if (trial, cell) == ("a", 1):
            self.reached.set()
            self.go.wait(20)


pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning", "ignore:.*fork:RuntimeWarning")


@pytest.fixture(autouse=True)
def provenance(monkeypatch):
    """Ask no backend, which would not survive the fork."""
    monkeypatch.setattr(store, "provenance", dict)


@pytest.mark.parametrize("way", [desk.alone, desk.join])
def test_all_trials_are_done_and_nothing_is_left_behind(tmp_path, way):
    job = Job(tmp_path)
    way(job)
    assert job.trained == list(TRIALS)
    assert_finished(tmp_path)
    about = json.loads((tmp_path / "run.json").read_text())
    assert (about["key"], about["asked"]) == (KEY, 9)
    before = (tmp_path / "run.json").stat().st_mtime_ns
    way(job)
    way(Job(tmp_path))
    assert job.trained == list(TRIALS) and (tmp_path / "run.json").stat().st_mtime_ns == before


def test_notes_of_all_trials_tell_since_when_and_with_how_many_rows_the_work_began(tmp_path, monkeypatch):
    times = iter(f"2020-01-01T00:00:{second:02}+00:00" for second in range(60))
    monkeypatch.setattr(locks, "now", lambda: next(times))
    notes = []
    desk.join(Job(tmp_path, lambda trial, cell: notes.append(locks.Lock(tmp_path / "checkpoints/run", trial).note())))
    assert len(notes) == 9 and len({note["since"] for note in notes}) == 1
    assert {(note["done"], note["asked"]) for note in notes} == {(0, 9)}


@pytest.mark.parametrize("first", [alone, joined])
@pytest.mark.parametrize("then", [desk.alone, desk.join])
def test_after_a_kill_it_goes_on(tmp_path, first, then):
    process = in_another_process(first, tmp_path, dies)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert {("b-0.5", "0")} == {key for key in Job(tmp_path).stores[0].done if key[0] == "b-0.5"}
    job = Job(tmp_path)
    then(job)
    assert job.trained == ["b-0.5", "c"]
    assert_finished(tmp_path)


@pytest.mark.parametrize("way", [desk.alone, desk.join])
def test_who_works_alone_is_alone(tmp_path, way):
    pause = Pause()
    process = in_another_process(alone, tmp_path, pause)
    assert pause.reached.wait(20)
    with pytest.raises(locks.Busy, match=rf"run.csv, which process {process.pid} of .* since 20.*workers=\"join\""):
        way(Job(tmp_path))
    pause.go.set()
    process.join()
    way(Job(tmp_path))
    assert_finished(tmp_path)


def test_a_finished_run_can_be_asked_for_while_others_add_to_it(tmp_path):
    desk.alone(Job(tmp_path))
    gate = locks.Lock(tmp_path / "checkpoints", "run")
    assert gate.take(alone=True)
    desk.alone(Job(tmp_path))
    gate.release()


def test_trials_are_shared_and_readers_see_all_rows(tmp_path):
    pause = Pause()
    process = in_another_process(joined, tmp_path, pause)
    assert pause.reached.wait(20)
    with pytest.raises(locks.Busy, match=f"process {process.pid} of"):
        desk.alone(Job(tmp_path))
    job = Job(tmp_path)
    desk.join(job)
    assert job.trained == ["b-0.5", "c"]
    assert len(Job(tmp_path).stores[0].frame()) == 7  # of trial a, there is one row in a shard
    pause.go.set()
    process.join()
    assert process.exitcode == 0
    assert_finished(tmp_path)


def test_a_failure_is_noted_and_the_rows_before_it_stay(tmp_path):
    def fails(trial, cell):
        if (trial, cell) == ("b-0.5", 2):
            raise MemoryError("no more of it")

    for way, name in ((desk.alone, "run"), (desk.join, "run/b-0.5")):
        with pytest.raises(MemoryError):
            way(Job(tmp_path, fails))
        note = locks.Lock(tmp_path / "checkpoints", name).note()
        assert note["reason"] == "MemoryError: no more of it" and note["asked"] == 9
        assert len(Job(tmp_path).stores[0].done) == 5
    desk.join(Job(tmp_path))
    assert_finished(tmp_path)


def test_a_kill_between_the_last_row_and_moving_it_loses_and_doubles_nothing(tmp_path):
    job = Job(tmp_path)
    desk.join(job)
    text = (tmp_path / "run.csv").read_text()
    head, rows = text.split("\n")[0] + "\n", [line + "\n" for line in text.split("\n")[1:-1]]
    (tmp_path / "run+a.csv").write_text(head + "".join(rows[:3]))  # killed before the shard was removed
    (tmp_path / "run.csv").write_text(head + "".join(rows[:5]) + rows[5][:4])  # and while c was moved
    (tmp_path / "run+b-0.5.csv").write_text(head + "".join(rows[3:6]))
    (tmp_path / "run+c.csv").write_text(head + "".join(rows[6:]))
    other = tmp_path / "checkpoints" / "run" / "of no trial"
    other.mkdir(parents=True)
    (other / "00001.npz.part").write_bytes(b"half")
    again = Job(tmp_path)
    assert len(again.stores[0].done) == 9
    desk.alone(again)
    assert not again.trained
    other.rmdir()  # nothing is in it
    assert_finished(tmp_path)


@pytest.mark.parametrize("others", [desk.alone, desk.join])
@pytest.mark.parametrize("way, file", [(alone, "run.lock"), (joined, "run/a.lock")])
def test_whose_lock_was_removed_writes_nothing_more(tmp_path, way, file, others):
    pause = Pause()
    process = in_another_process(way, tmp_path, pause)
    assert pause.reached.wait(20)
    (tmp_path / "checkpoints" / file).unlink()
    job = Job(tmp_path)
    others(job)
    assert job.trained == list(TRIALS)
    pause.go.set()
    process.join()
    assert process.exitcode == 1
    others(Job(tmp_path))
    assert_finished(tmp_path)


@pytest.mark.parametrize("way, file", [(desk.alone, "run.lock"), (desk.join, "run/b-0.5.lock")])
def test_it_says_so_and_goes_on_when_started_again(tmp_path, way, file):
    def removes(trial, cell):
        if (trial, cell) == ("b-0.5", 1):
            (tmp_path / "checkpoints" / file).unlink()

    with pytest.raises(locks.Lost, match=rf"Expected .*{file}, by which .* received no such file: .* Run again"):
        way(Job(tmp_path, removes))
    assert len(Job(tmp_path).stores[0].done) == 4
    job = Job(tmp_path)
    way(job)
    assert job.trained == ["b-0.5", "c"]
    assert_finished(tmp_path)


def test_rows_are_not_moved_when_the_lock_of_the_run_was_removed(tmp_path):
    job = Job(tmp_path)
    moving = desk.Desk(job)
    lock = moving.lock("a")
    assert lock.take()
    job.stores[0].write_settings()
    for rows in job.stores:
        rows.shard("a", lock)
        rows.append([{"run": "run", "trial": "a", "cell": 0, "value": 0}])
    with moving:
        (tmp_path / "checkpoints" / "run.lock").unlink()
        with pytest.raises(locks.Lost, match=r"run.lock, by which"):
            moving.finish(lock)
    lock.release()
    assert not (tmp_path / "run.csv").exists() and (tmp_path / "run+a.csv").exists()
    desk.join(job)
    assert_finished(tmp_path)


class Growing(Job):
    """A job of which more is wanted while its rows say so: trials follow until the values are at least 60 in all."""

    names = ("a", "b-0.5", "c", "d", "e")

    def _wanted(self):
        done = self.stores[0].done
        whole = [name for name in self.names if all((name, str(cell)) in done for cell in range(3))]
        enough = 30 * len(whole) >= 60
        return whole if enough else self.names[: len(whole) + 1], whole if enough else self.names

    def wanted(self):
        return {(trial, str(cell)) for trial in self._wanted()[0] for cell in range(3)}

    def trials(self):
        done = self.stores[0].done
        return {t: [(t, c) for c in range(3) if (t, str(c)) not in done] for t in self._wanted()[1]}


@pytest.mark.parametrize("way", [desk.alone, desk.join])
def test_trials_that_follow_from_what_was_found_are_done_until_it_is_enough(tmp_path, way):
    seen = []
    job = Growing(tmp_path, lambda trial, cell: seen.append(json.loads((tmp_path / "run.json").read_text())["asked"]))
    if way is desk.alone:  # which writes the settings with the first row
        job._on_row = lambda trial, cell: seen.append(trial)
    way(job)
    assert job.trained == ["a", "b-0.5"] and len(lines(tmp_path)) == 6
    assert json.loads((tmp_path / "run.json").read_text())["asked"] == 6
    assert seen == (["a"] * 3 + ["b-0.5"] * 3 if way is desk.alone else [3] * 3 + [6] * 3)


def test_of_several_workers_each_does_a_trial_that_may_be_needed(tmp_path):
    pause = Pause()
    slow = in_another_process(lambda out: desk.join(Growing(out, pause)), tmp_path)
    assert pause.reached.wait(20)
    quick = Growing(tmp_path)
    desk.join(quick)
    assert quick.trained == ["b-0.5", "c"]  # and then it was enough
    pause.go.set()
    slow.join(20)
    assert slow.exitcode == 0 and len(lines(tmp_path)) == 9
