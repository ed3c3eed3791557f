"""Locks between real processes."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest

from experiments import locks
from experiments.locks import Lock

ROOT = pathlib.Path(__file__).parents[2]
HOLDER = """
import sys, time
from experiments.locks import Lock
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


def test_a_process_elsewhere_is_believed_to_live():
    note = {"process": 2**22 + 1, "host": "another-machine"}
    assert locks.alive(note) and not locks.alive({**note, "host": socket.gethostname()})
