"""Locks that end with the process that holds them, and notes that say who that is."""

import contextlib
import datetime
import getpass
import json
import os
import pathlib
import socket
import subprocess

import filelock

from experiments.storage import files


class Busy(RuntimeError):
    """Somebody else is writing this run."""


class Lost(RuntimeError):
    """The file of a lock that this process holds is gone, so that others can hold it too."""


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
        self._lock = self._identity = None

    def take(self, wait=0.0, **about):
        """Try to take the lock.

        Args:
            wait: float. Seconds to try for.
            **about: what the note says beside process, host, user and time; nothing: no note is written. `since` may
                be an earlier time, when the work began that this is a part of.

        Returns:
            bool. Whether it was free.
        """
        files.make_folder(self._path.parent)
        lock = filelock.FileLock(self._path)
        try:
            lock.acquire(timeout=wait, poll_interval=0.02)
        except filelock.Timeout:
            return False
        try:
            if about:
                files.write_atomically(self._note, json.dumps({**_me(), **about}).encode())
            else:
                files.remove(self._note)  # it is about somebody who is gone
        except BaseException:
            lock.release()
            raise
        self._lock, self._identity = lock, self._file()
        return True

    def check(self):
        """Check that nobody else can hold the lock: its file is still the one that was locked.

        Raises:
            Lost: it was removed, or another was put in its place.
        """
        if not self._held():
            raise Lost(
                f"Expected {self._path}, by which this process is the only one to write, received "
                f"{'another file in its place' if self._path.exists() else 'no such file'}: it was removed meanwhile, "
                "and another process may have begun to write. What was written before is whole, and nothing was "
                "since. Run again to go on, and leave what is in checkpoints/ alone while somebody works."
            )

    def release(self, reason=None):
        """Let others take the lock.

        Args:
            reason: str or None. Why the work ended before it was done; stays in the note.
        """
        if self._lock is None:
            return
        with contextlib.suppress(OSError):  # the disk may be full, or the folder gone: that was told of already
            if not self._held():
                pass  # the note may be another's by now
            elif reason is None:
                files.remove(self._note)
            else:
                note = {**(self.note() or _me()), "reason": reason}
                files.write_atomically(self._note, json.dumps(note).encode())
        self._lock.release()
        self._lock = self._identity = None

    def remove(self):
        """Remove the lock's file. Only while no other process can be taking it."""
        files.remove(self._path)

    def note(self):
        """Return what the present or last holder noted, or None, also if that cannot be understood: dict."""
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
            datetime.datetime.fromisoformat(note["since"])
            known = type(note["process"]) is int and all(isinstance(note[name], str) for name in ("host", "user"))
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None
        return note if known else None

    def _held(self):
        return self._identity is not None and self._identity == self._file()

    def _file(self):
        """Return what tells the file that is there now from any other, or None."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino


def described(note):
    """Say who a note is about, and since when."""
    if not note:
        return "another process"
    return f"process {note['process']} of {note['user']} on {note['host']}, since {note['since']}"


def alive(note):
    """Say whether the process that a note is about can still be running.

    A process is known by its host, its number and when it started, for numbers are given again. One on another host is
    assumed to be alive; so is one of this number whose start the note or the system does not tell.
    """
    if "reason" in note:
        return False
    if note["host"] != socket.gethostname():
        return True
    try:
        os.kill(note["process"], 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # it is another user's
    return note.get("started") in (None, started(note["process"]) or note.get("started"))


def started(process):
    """Return when a process of this machine started, in whatever words the system has for it, or None: str.

    They are equal for one process and differ for another of the same number, also after the machine was started anew.
    """
    try:
        fields = pathlib.Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {fields.rpartition(')')[2].split()[19]}"  # the name, in brackets, may hold anything
    except (OSError, IndexError):
        pass  # there is no such process by now, or no /proc
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        asking = ["ps", "-o", "lstart=", "-p", str(process)]
        found = subprocess.run(asking, capture_output=True, text=True, timeout=10, env={**os.environ, "LC_ALL": "C"})
        return found.stdout.strip() or None
    return None


def now():
    """Return the time as it stands in a note: UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _me():
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container may run under a number without a name
        user = str(os.getuid())
    me = os.getpid()
    return {"process": me, "started": started(me), "host": socket.gethostname(), "user": user, "since": now()}
