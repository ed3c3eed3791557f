"""A disk that can fail at every call, and the folders that it could hold after a power loss.

`Disk` stands in for `os` in `experiments/storage/files.py`. It does what is asked of it in a real folder, but for
`fsync`, which takes long and shows nothing while the power is on, and notes each call. From the notes `after_loss`
makes a folder as the power may leave it:

- every page of a file, and its length, is as it was at its last `fsync` or at any moment since, also in the middle of a
  write, each page for itself;
- every entry of a folder that was made, renamed or removed since the folder's last `fsync` counts or does not, each for
  itself, a renaming whole. A folder whose own entry is lost is lost with all that is in it.
"""

import errno
import gc
import itertools
import json
import os
import pathlib
import random
import shutil
from unittest import mock

from chain import Chain

from engine import structure
from experiments import retraining, sequential, threshold_grid
from experiments.storage import files, store

PAGE = 4096
FAULTS = {"no space": errno.ENOSPC, "input/output error": errno.EIO, "power lost": None}
CALLS = ("open", "write", "fsync", "ftruncate", "replace", "unlink", "mkdir", "rmdir")


class PowerLoss(BaseException):
    """The end of the process, which nothing may catch; whatever it still does, the disk is gone."""


class Disk:
    """What `files` knows as `os`: real, noted, and out of order at one call.

    Args:
        root: pathlib.Path. What is in it is on disk at the beginning; everything happens in it.
        fails_at: int or None. The call, from 0, that fails before it does anything.
        number: int or None. The `errno` that it fails with; None: the power is lost there.

    Attributes:
        before: dict. What was in the folder: from path to bytes, or to None for a folder.
        calls: list of tuple. What was done since: (call, path, ...).
        count: int. All calls, also that which failed.
    """

    def __init__(self, root, fails_at=None, number=None):
        self._root, self._fails_at, self._number = root, fails_at, number
        self.before, self.calls, self.count, self._paths, self._gone = contents(root), [], 0, {}, False

    def __getattr__(self, name):
        if name not in CALLS:
            return getattr(os, name)

        def call(*arguments):
            self._fail()
            return getattr(self, f"_{name}")(*arguments)

        return call

    def _fail(self):
        failing = self.count == self._fails_at
        self.count += 1
        self._gone |= failing and self._number is None
        if self._gone:
            raise PowerLoss
        if failing:
            raise OSError(self._number, os.strerror(self._number))

    def _note(self, call, path, *more):
        self.calls.append((call, pathlib.Path(path).relative_to(self._root), *more))

    def _open(self, path, flags, mode=0o777):
        new = not os.path.exists(path)
        descriptor = os.open(path, flags, mode)
        self._paths[descriptor] = path
        if new:
            self._note("create", path)
        elif flags & os.O_TRUNC:
            self._note("ftruncate", path, 0)
        return descriptor

    def _write(self, descriptor, content):
        # A system may write less than it was given, and is given the rest at the next call.
        content = bytes(content[: -(-len(content) // 2)] if self.count % 5 == 0 else content)
        at = os.fstat(descriptor).st_size
        assert os.write(descriptor, content) == len(content)
        self._note("write", self._paths[descriptor], at, content)
        return len(content)

    def _fsync(self, descriptor):
        self._note("fsync", self._paths[descriptor])

    def _ftruncate(self, descriptor, size):
        os.ftruncate(descriptor, size)
        self._note("ftruncate", self._paths[descriptor], size)

    def _replace(self, source, target):
        os.replace(source, target)
        self._note("replace", source, pathlib.Path(target).relative_to(self._root))

    def _unlink(self, path):
        os.unlink(path)
        self._note("unlink", path)

    def _mkdir(self, path):
        os.mkdir(path)
        self._note("mkdir", path)

    def _rmdir(self, path):
        os.rmdir(path)
        self._note("unlink", path)


def contents(root):
    """Return all that is in a folder: from relative path to bytes, or to None for a folder. Locks hold nothing."""
    paths = [path for path in sorted(root.rglob("*")) if path.suffix != ".lock"]
    return {path.relative_to(root): None if path.is_dir() else path.read_bytes() for path in paths}


def _alike(path, whole, received):
    """Say whether a file says the same: beside when what was written, and checksums of rows that a crash kept out."""
    if path.suffix == ".sums":
        return len(set(received.split())) >= len(set(whole.split()))  # of rows that took other seconds; reading checks
    if path.suffix == ".json":
        said = [json.loads(content) for content in (whole, received)]
        one, other = ({k: v for k, v in each.items() if k not in ("provenance", "checksum")} for each in said)
        return one == other
    return whole == received


def after_loss(before, calls, random, root):
    """Make the folder that a power loss may leave after some calls.

    Args:
        before: dict, as `contents` gives it.
        calls: list, as `Disk` notes them.
        random: random.Random. Decides what of all that was not on disk yet is there nevertheless.
        root: pathlib.Path. The folder; made.
    """
    whole = _Folder()
    for path, content in before.items():
        whole.at(path.parent).kept[path.name] = _Folder() if content is None else _File(content)
    for call, path, *more in calls:
        folder = whole.at(path.parent)
        if call == "fsync":
            whole.at(path).sync()
        elif call in ("write", "ftruncate"):
            whole.at(path).later.append((call, *more))
        elif call == "replace":
            assert more[0].parent == path.parent  # one that leads elsewhere needs two folders to be synced
            folder.later.append({path.name: None, more[0].name: whole.at(path)})
        else:
            folder.later.append({path.name: {"create": _File, "mkdir": _Folder}.get(call, lambda: None)()})
    whole.leave(root, random, share=random.choice((0.0, 0.5, 0.5, 1.0)))


class _Folder:
    def __init__(self):
        self.kept, self.later = {}, []

    def at(self, path):
        """Return what is at a path, with the power on."""
        found = self
        for name in path.parts:
            found = found.entries(lambda: True)[name]
        return found

    def entries(self, counts):
        found = dict(self.kept)
        for change in self.later:
            found.update(change if counts() else {})
        return {name: entry for name, entry in found.items() if entry is not None}

    def sync(self):
        self.kept, self.later = self.entries(lambda: True), []

    def leave(self, path, random, share):
        path.mkdir()
        for name, entry in self.entries(lambda: random.random() < share).items():
            entry.leave(path / name, random, share)


class _File:
    def __init__(self, content=b""):
        self.kept, self.later = content, []

    def sync(self):
        self.kept, self.later = self._states()[-1], []

    def _states(self, cut=lambda content: len(content)):
        """Return what the file held at its last sync, in the middle of every call since, and after it."""
        found = [self.kept]
        for call, number, *content in self.later:
            now = found[-1]
            if call == "ftruncate":
                found.append(now[:number])
            else:
                for part in (content[0][: cut(content[0])], content[0]):
                    found.append(now[:number].ljust(number, b"\0") + part + now[number + len(part) :])
        return found

    def leave(self, path, random, share):
        states = self._states(cut=lambda content: random.randrange(len(content) + 1))

        def one():
            return random.choice(states) if 0 < share < 1 else states[-1 if share else 0]

        size = len(one())
        pages = [one()[start : start + PAGE].ljust(PAGE, b"\0") for start in range(0, size, PAGE)]
        path.write_bytes(b"".join(pages)[:size])


GRID = {
    "task": "iris", "model": "mlp", "measures": ["synaptic_intelligence", "random"], "levels": ["weight"],
    "thresholds": 3, "epochs": 1, "batch_size": 32, "seeds": [0],
}  # fmt: skip
SEQUENCE = {
    "sequence": "permuted_digits", "measures": ["fisher_empirical"], "penalties": ["stabilized"], "strengths": [3.0],
    "ends": False, "epochs": 1, "options": {"tasks": 3}, "seeds": [0], "examples": 100,
}  # fmt: skip
RETRAINING = {
    "task": "iris", "model": "mlp", "measures": ["magnitude"], "fractions": [0.8], "protocols": ["iterative", "rewind"],
    "epochs": 2, "budget": 1, "rounds": 1, "batch_size": 32, "records": False,
}  # fmt: skip
JOBS = {
    "chain": lambda out: Chain(out).run(progress=False),
    "shared chain": lambda out: Chain(out).run(progress=False, workers="join"),
    "grid": lambda out: threshold_grid.run(out=out, progress=False, **GRID),
    "sequence": lambda out: sequential.run(out=out, progress=False, **SEQUENCE),
    "retraining": lambda out: retraining.run(out=out, progress=False, **RETRAINING),
}
"""Small jobs by name. Those who share a run write shards, which move into the CSV."""


class Outage:
    """Let the disk fail, or the power, under one job, start it again, and compare the end with a run without either.

    Args:
        job: callable `job(out)`. Does all that is missing in a folder, such as one of `JOBS`.
        folder: pathlib.Path. Where all of it happens.

    Attributes:
        calls: int. How many there are in a run that nothing disturbs.
        found: dict. What came of it, in numbers.
    """

    def __init__(self, job, folder):
        self._job, self._folder = job, folder
        self.found = dict.fromkeys(("faults", "losses", "rows", "lost", "doubled", "different"), 0)
        root = folder / "whole"
        root.mkdir()
        disk = self._run(root)
        self.calls, self._first = disk.count, disk
        self._whole = contents(root)

    def faults(self, at=None, kinds=FAULTS):
        """Let each call in turn fail in each way, or some of them; return what was found."""
        gc.collect()
        gc.freeze()  # what is there already needs not be looked through after every power loss
        try:
            for number, kind in itertools.product(range(self.calls) if at is None else at, kinds):
                root = self._folder / "faulty"
                root.mkdir()
                self._fails(root, number, kind)
                self._run(root)
                self._compare(root, f"{kind} at call {number}")
                self.found["faults"] += 1
        finally:
            gc.unfreeze()
        return self.found

    def losses(self, times, seed=0):
        """Start so often from what a power loss has left, also of a run that began so itself; return what was found."""
        chance = random.Random(seed)
        latest = self._first
        for number in range(times):
            disk = chance.choice((self._first, latest))
            root = self._folder / "lost"
            cut = chance.randrange(len(disk.calls) + 1)
            after_loss(disk.before, disk.calls[:cut], chance, root)
            latest = self._run(root)
            self._compare(root, f"power loss {number}, after call {cut} of {len(disk.calls)}")
            self.found["losses"] += 1
        return self.found

    def _fails(self, root, number, kind):
        try:
            self._run(root, number, FAULTS[kind])
        except PowerLoss:
            assert kind == "power lost"
        except OSError as error:
            assert kind != "power lost" and os.strerror(FAULTS[kind]) in str(error), error
        gc.collect()  # a lock ends with its process, here with what holds it

    def _run(self, root, *fault):
        disk = Disk(root, *fault)
        with (
            mock.patch.object(files, "os", disk),
            mock.patch.object(store, "provenance", dict),  # Git takes longer than a chain
            mock.patch.object(structure, "xla", lambda model: False),
        ):
            self._job(root / "out")
        return disk

    def _compare(self, root, after):
        from torture import table

        received = contents(root)
        left = {path for path in received if path not in self._whole}
        assert not left, f"left behind after {after}: {sorted(map(str, left))}"
        for path, content in self._whole.items():
            if path.suffix == ".csv":
                (self._folder / "expected.csv").write_bytes(content)
                rows, others = table(self._folder / "expected.csv"), table(root / path) if path in received else {}
                self.found["rows"] += len(rows)
                self.found["lost"] += len(set(rows) ^ set(others))
                self.found["doubled"] += sum(len(each) - 1 for each in others.values())
                self.found["different"] += sum(each != others.get(key, each) for key, each in rows.items())
            else:
                self.found["lost"] += path not in received
                alike = _alike(path, content, received.get(path, content))
                assert alike, f"{path} is different after {after}; see {root}"
        wrong = {name: self.found[name] for name in ("lost", "doubled", "different") if self.found[name]}
        assert not wrong, f"{wrong} after {after}; see {root}"
        shutil.rmtree(root)
