"""Locks between real processes."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest

from experiments.storage import locks
from experiments.storage.locks import Lock

ROOT = pathlib.Path(__file__).parents[2]
HOLDER = """
import sys, time
from experiments.storage.locks import Lock
lock = Lock(sys.argv[1], "run")
print(lock.take(done=3), flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"True\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_only_one_holds_it_and_the_note_says_who(tmp_path, holder):
    before = time.time()
    lock = Lock(tmp_path, "run")
    assert not lock.take(done=0) and not lock.take(wait=0.1)
    note = lock.note()
    assert note["process"] == holder.pid and note["host"] == socket.gethostname() and note["done"] == 3
    assert locks.alive(note)
    since = time.mktime(time.strptime(note["since"], "%Y-%m-%dT%H:%M:%S+00:00")) - time.timezone
    assert before - 60 < since < before + 5
    assert locks.described(note).startswith(f"process {holder.pid} of ") and note["since"] in locks.described(note)


def test_it_ends_with_a_process_that_is_killed(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    lock = Lock(tmp_path, "run")
    assert lock.note()["process"] == holder.pid and not locks.alive(lock.note())
    assert lock.take(done=5)
    assert lock.note()["process"] == os.getpid() and locks.alive(lock.note())
    lock.release()
    assert lock.note() is None


def test_why_it_ended_stays_in_the_note(tmp_path):
    lock = Lock(tmp_path / "new", "run")
    assert lock.take(done=1)
    lock.release("OSError: the disk is full")
    lock.release()
    assert lock.note()["reason"] == "OSError: the disk is full" and not locks.alive(lock.note())
    assert lock.take(done=2) and "reason" not in lock.note()
    lock.release()


def test_without_a_note(tmp_path):
    lock = Lock(tmp_path, "run")
    assert lock.take() and lock.note() is None
    assert locks.described(None) == "another process"
    lock.release()
    (tmp_path / "run.holder").write_text("{")
    assert lock.note() is None


def test_who_takes_it_without_a_note_removes_that_of_who_died(tmp_path, holder):
    holder.kill()
    holder.wait()
    lock = Lock(tmp_path, "run")
    assert lock.note() and lock.take() and lock.note() is None
    lock.release()


def test_a_process_is_known_by_when_it_started_too(tmp_path, holder, monkeypatch):
    note = Lock(tmp_path, "run").note()
    assert note["started"] == locks.started(holder.pid) != locks.started(os.getpid())
    assert locks.alive(note) and not locks.alive({**note, "started": locks.started(os.getpid())})
    del note["started"]  # as in notes of earlier versions
    assert locks.alive(note)
    read = pathlib.Path.read_text
    monkeypatch.setattr(pathlib.Path, "read_text", lambda path, **how: read(path / "no /proc here", **how))
    asked = locks.started(holder.pid)  # the system is asked by `ps`, if it has one
    assert asked == locks.started(holder.pid) and (asked is None or str(time.localtime().tm_year) in asked)
    monkeypatch.setattr(subprocess, "run", fails)
    assert locks.started(holder.pid) is None and locks.alive({**note, "started": "at some time"})


def fails(*command, **how):
    raise FileNotFoundError("no ps")


def test_there_is_no_start_of_a_process_that_is_none():
    assert locks.started(2**22 + 1) is None


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", "1", "{}", '{"process": 1}', '{"process": "1", "host": "a", "user": "b", "since": "c"}',
             '{"process": 1, "host": 2, "user": "b", "since": "2020-01-01T00:00:00+00:00"}',
             '{"process": 1, "host": "a", "user": "b", "since": "soon"}', "[" * 100_000],
)  # fmt: skip
def test_a_note_that_cannot_be_understood_is_none(tmp_path, text):
    (tmp_path / "run.holder").write_text(text)
    assert Lock(tmp_path, "run").note() is None


def test_a_process_elsewhere_is_believed_to_live():
    note = {"process": 2**22 + 1, "host": "another-machine"}
    assert locks.alive(note) and not locks.alive({**note, "host": socket.gethostname()})


def test_a_lock_whose_file_was_removed_or_replaced_is_lost(tmp_path):
    lock, other = Lock(tmp_path, "run"), Lock(tmp_path, "run")
    with pytest.raises(locks.Lost):
        lock.check()  # it was not taken
    assert lock.take(done=1)
    lock.check()
    (tmp_path / "run.lock").unlink()
    with pytest.raises(locks.Lost, match=r"Expected .*run.lock, by which .*, received no such file: .* Run"):
        lock.check()
    assert other.take(done=2)
    with pytest.raises(locks.Lost, match="received another file in its place"):
        lock.check()
    other.check()
    for reason in (None, "it failed"):
        lock.release(reason)  # and leaves alone what the other noted
        assert other.note()["done"] == 2 and "reason" not in other.note()
    assert not Lock(tmp_path, "run").take()
    other.release()
    assert lock.take()
    lock.check()
    lock.release()
