"""A disk that fails at any call, a power loss at any instant: the run is started again and ends in the same files."""

import os
import pathlib
import random
import re
from unittest import mock

import pytest
from power_loss import FAULTS, JOBS, Disk, Outage, PowerLoss, after_loss

from experiments.storage import files

ROOT = pathlib.Path(__file__).parents[2]
WRITING = (
    r"os\.(open|write|replace|rename|unlink|remove|fsync|f?truncate|mkdir|makedirs|rmdir|link)\(|[^e]\.open\(\"|"
    r"\.(unlink|mkdir|rmdir|touch|rename|truncate|write_text|write_bytes)\(|^import shutil"
)
CHAINS = ["chain", "shared chain"]


def test_all_that_is_written_goes_through_one_file():
    found = {
        path.relative_to(ROOT).as_posix(): re.findall(WRITING, path.read_text("utf-8"), re.MULTILINE)
        for path in (ROOT / "experiments").rglob("*.py")
    }
    assert len(found.pop("experiments/storage/files.py")) > 5 and found.pop("experiments/execute.py")  # no results
    assert not {path: lines for path, lines in found.items() if lines}


@pytest.mark.parametrize("job", [CHAINS[0], pytest.param(CHAINS[1], marks=pytest.mark.slow)])
def test_after_a_fault_at_any_call_the_run_goes_on(tmp_path, job):
    outage = Outage(JOBS[job], tmp_path)
    for offset, kind in enumerate(FAULTS):
        outage.faults(at=range(offset, outage.calls, 11), kinds=[kind])
    assert outage.found["faults"] > 45 and outage.found["rows"] > 10_000


@pytest.mark.parametrize("job", CHAINS)
def test_after_a_power_loss_the_run_goes_on(tmp_path, job):
    found = Outage(JOBS[job], tmp_path).losses(40)
    assert found["losses"] == 40 and found["lost"] == found["doubled"] == found["different"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("job", ["grid", "sequence"])
def test_a_real_study_goes_on_too(tmp_path, job):
    outage = Outage(JOBS[job], tmp_path)
    outage.faults(at=range(0, outage.calls, outage.calls // 2), kinds=["no space"])
    outage.faults(at=range(1, outage.calls, outage.calls // 2), kinds=["power lost"])
    assert outage.losses(4)["losses"] == 4 and outage.found["faults"] >= 4


@pytest.mark.parametrize("left_out", ["of a file", "of a folder"])
@pytest.mark.parametrize("job", CHAINS)
def test_a_sync_that_is_left_out_is_noticed(tmp_path, monkeypatch, left_out, job):
    fsync = Disk._fsync

    def forgetful(disk, descriptor):
        if os.path.isdir(disk._paths[descriptor]) != (left_out == "of a folder"):
            fsync(disk, descriptor)

    monkeypatch.setattr(Disk, "_fsync", forgetful)
    with pytest.raises(
        (AssertionError, ValueError, UserWarning),
        match=r"after power loss|Expected|is damaged|is written anew|which holds checksums",
    ):
        Outage(JOBS[job], tmp_path).losses(60)


def test_a_power_loss_leaves_out_the_end_of_what_was_appended(tmp_path):
    text, chance = b"".join(b"%d,%d\n" % (n, n * n) for n in range(2000)), random.Random(0)
    (tmp_path / "on").mkdir()
    disk = Disk(tmp_path / "on")
    with mock.patch.object(files, "os", disk):
        files.write_atomically(tmp_path / "on" / "rows", text[:100])
        with files.opened(tmp_path / "on" / "rows", "ab") as file:
            for start, end in ((100, 5000), (5000, 5001), (5001, len(text))):
                files.append_durably(file.fileno(), text[start:end])
    assert (tmp_path / "on" / "rows").read_bytes() == text
    begun = next(number for number, call in enumerate(disk.calls) if call[0] == "replace") + 2
    lengths = set()
    for number in range(200):
        after_loss(disk.before, disk.calls[: chance.randrange(begun, len(disk.calls))], chance, tmp_path / str(number))
        left = (tmp_path / str(number) / "rows").read_bytes().rstrip(b"\0")
        assert len(left) >= 100 and text.startswith(left)
        lengths.add(len(left))
    assert len(lengths) > 20


def test_nothing_reaches_a_disk_whose_power_is_lost(tmp_path):
    with mock.patch.object(files, "os", Disk(tmp_path, fails_at=1)):
        with pytest.raises(PowerLoss):
            files.write_atomically(tmp_path / "file", b"new")
        with pytest.raises(PowerLoss):
            files.remove(tmp_path / "file.part")
    assert (tmp_path / "file.part").read_bytes() == b"" and len(list(tmp_path.iterdir())) == 1


def test_a_renaming_is_undone_whole_and_a_folder_takes_what_is_in_it_along(tmp_path):
    folder, part, whole = (pathlib.Path(name) for name in ("a", "a/x.part", "a/x"))
    calls = [("mkdir", folder), ("create", part), ("write", part, 0, b"1"), ("fsync", part), ("replace", part, whole)]
    found = set()
    for number in range(100):
        after_loss({}, calls, random.Random(number), tmp_path / str(number))
        left = sorted(path for path in (tmp_path / str(number)).rglob("*"))
        assert all(path.read_bytes() == b"1" for path in left if path.is_file())
        found.add(tuple(path.relative_to(tmp_path / str(number)).as_posix() for path in left))
    assert found == {(), ("a",), ("a", "a/x"), ("a", "a/x.part")}
