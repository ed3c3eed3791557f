"""Locks that end with the process that holds them, and notes that say who that is."""

import contextlib
import datetime
import getpass
import json
import os
import pathlib
import socket

import filelock

from experiments import files


class Busy(RuntimeError):
    """Somebody else is writing this run."""


class Lock:
    """A lock that one process at a time can hold, with a note beside it.

    The lock is the operating system's: when its holder dies, however that happens, it is free. The note
    (`<name>.holder`, JSON) tells others who holds it, since when, and what is to be known of the work; if its holder
    died or failed it stays and tells of that.

    Args:
        folder: str or path. Made when the lock is taken.
        name: str.
    """

    def __init__(self, folder, name):
        self.name = name
        self._path = pathlib.Path(folder) / f"{name}.lock"
        self._note = pathlib.Path(folder) / f"{name}.holder"
        self._lock = None

    def take(self, wait=0.0, **about):
        """Try to take the lock.

        Args:
            wait: float. Seconds to try for.
            **about: what the note says beside process, host, user and time; nothing: no note is written. `since` may
                be an earlier time, when the work began that this is a part of.

        Returns:
            bool. Whether it was free.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self._path)
        try:
            lock.acquire(timeout=wait, poll_interval=0.02)
        except filelock.Timeout:
            return False
        try:
            if about:
                files.write_atomically(self._note, json.dumps({**_me(), **about}).encode())
            else:
                self._note.unlink(missing_ok=True)  # it is about somebody who is gone
        except BaseException:
            lock.release()
            raise
        self._lock = lock
        return True

    def release(self, reason=None):
        """Let others take the lock.

        Args:
            reason: str or None. Why the work ended before it was done; stays in the note.
        """
        if self._lock is None:
            return
        with contextlib.suppress(OSError):  # the disk may be full, or the folder gone: that was told of already
            if reason is None:
                self._note.unlink(missing_ok=True)
            else:
                note = {**(self.note() or _me()), "reason": reason}
                files.write_atomically(self._note, json.dumps(note).encode())
        self._lock.release()
        self._lock = None

    def remove(self):
        """Remove the lock's file. Only while no other process can be taking it."""
        self._path.unlink(missing_ok=True)

    def note(self):
        """Return what the present or last holder noted, or None: dict."""
        try:
            return json.loads(self._note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None


def described(note):
    """Say who a note is about, and since when."""
    if not note:
        return "another process"
    return f"process {note['process']} of {note['user']} on {note['host']}, since {note['since']}"


def alive(note):
    """Say whether the process that a note is about can still be running; of one on another machine, it is believed."""
    if "reason" in note:
        return False
    if note["host"] != socket.gethostname():
        return True
    try:
        os.kill(note["process"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is another user's
    return True


def now():
    """Return the time as it stands in a note: UTC, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def _me():
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container may run under a number without a name
        user = str(os.getuid())
    return {"process": os.getpid(), "host": socket.gethostname(), "user": user, "since": now()}
