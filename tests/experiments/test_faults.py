"""Full disks, folders that vanish, files that were damaged: a clear error or a good end, and never a wrong row."""

import ast
import errno
import json
import os
import pathlib
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from grid_runs import ROWS_OF_A_CHECKPOINT, run, same

from engine import backend, variants
from experiments import threshold_grid
from experiments.storage import store
from experiments.storage.checkpoints import Checkpoints
from experiments.storage.store import Store

pytestmark = pytest.mark.usefixtures("quick")
COLUMNS, KEY = ["run", "number", "loss"], ["number"]
ROWS = [{"run": "run", "number": n, "loss": n / 3} for n in range(100, 140)]


def opened(folder):
    return Store(folder, "run", COLUMNS, KEY, {"settings": {}})


class Disk:
    """Let writing fail as on a disk with so many bytes left: what fits is written."""

    def __init__(self, monkeypatch, left, number=errno.ENOSPC):
        self.left, self._number, self._write = left, number, os.write
        monkeypatch.setattr(os, "write", self.write)

    def write(self, descriptor, content):
        fits = bytes(content[: self.left])
        self.left -= len(fits)
        if not fits:
            raise OSError(self._number, os.strerror(self._number))
        return self._write(descriptor, fits)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mounting, capture_output=True).returncode:
        pytest.skip("a file system can be mounted by the administrator only")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("number, word", [(errno.ENOSPC, "No space left"), (errno.EROFS, "Read-only file system")])
@pytest.mark.parametrize("left", [0, 3, 17, 30, 200, 300])
def test_a_disk_that_fills_up_leaves_whole_rows_and_the_store_goes_on(tmp_path, monkeypatch, left, number, word):
    monkeypatch.setattr(store, "provenance", dict)
    made = opened(tmp_path)
    with monkeypatch.context() as patch:
        Disk(patch, left, number)
        with pytest.raises(
            OSError, match=rf"Expected to write .*run\.(csv|json|sums), received: {word}.*run again"
        ) as e:
            for row in ROWS:
                made.append([row])
    assert e.value.errno == number
    assert not list(tmp_path.glob("*.part"))
    on_disk = made.path.read_bytes() if made.path.exists() else b""
    assert not on_disk or on_disk.endswith(b"\n")
    assert opened(tmp_path).done == made.done
    made.append([row for row in ROWS if made.key_of(row) not in made.done])
    made.close()
    whole = tmp_path / "whole"
    other = opened(whole)
    other.append(ROWS)
    other.close()
    assert made.path.read_bytes() == (whole / "run.csv").read_bytes()


def test_a_small_file_system_that_fills_up(small_disk, monkeypatch):
    monkeypatch.setattr(store, "provenance", dict)
    made = opened(small_disk)
    (small_disk / "ballast").write_bytes(b"x" * 49152)
    rows = [{**row, "number": n} for n, row in enumerate(ROWS * 100)]
    with pytest.raises(OSError, match=r"run.(csv|sums), received: No space left on device"):
        for n in range(0, len(rows), 10):
            made.append(rows[n : n + 10])
    with pytest.raises(OSError, match=r"00002.npz, received: No space left on device"):
        Checkpoints(small_disk / "checkpoints").save(2, [store.pd.Series(range(10000)).to_numpy()])
    assert Checkpoints(small_disk / "checkpoints").epochs() == []
    again = opened(small_disk)
    assert 100 < len(again.done) < 4000 and again.done == made.done
    (small_disk / "ballast").unlink()
    again.append([row for row in rows[:1500] if again.key_of(row) not in again.done])
    again.close()
    assert [line.split(",")[1] for line in again.path.read_text().split()[1:]] == [str(n) for n in range(1500)]


def test_a_grid_on_a_full_disk_stops_and_completes_when_there_is_room(tmp_path, monkeypatch, finished):
    with monkeypatch.context() as patch:
        Disk(patch, 25_000)
        with pytest.raises(OSError, match=r"Expected to write .*, received: No space left.* make room"):
            run(tmp_path)
    assert not list(tmp_path.rglob("*.part"))
    same(run(tmp_path), finished[1])


def test_a_folder_that_vanishes_stops_the_run(tmp_path, monkeypatch, finished):
    monkeypatch.setattr(threshold_grid, "_SECONDS_BETWEEN_FIGURES", -1)
    out = tmp_path / "out"

    def watch(frame):
        if len(frame) == ROWS_OF_A_CHECKPOINT and out.exists():
            shutil.rmtree(out)

    with pytest.raises(OSError, match=r"Expected to write .*\.csv, received: .*restore the folder, and run again"):
        run(out, watch=watch, seeds=[0])
    same(run(out, seeds=[0]), finished[1][finished[1].seed == 0])


@pytest.mark.parametrize(
    "line, message",
    [
        (b"\x00\x00\x00\x00", r"lines \[42\] have others"),
        (b"gar,bage", r"lines \[42\] have others"),
        (b"other,7,0.5", r"Expected only rows of the run run in .*run.csv, received rows of \['other'\]"),
        (b"run,100,0.5", r"rows of .*run.csv as they were written, received others in 1 of 41 lines, \[42\]"),
    ],
)
def test_garbage_in_a_csv_is_told_of(tmp_path, line, message):
    made = opened(tmp_path)
    made.append(ROWS)
    made.close()
    with made.path.open("ab") as file:
        file.write(line + b"\n")
    before = made.path.read_bytes()
    with pytest.raises(ValueError, match=message):
        opened(tmp_path)
    assert made.path.read_bytes() == before


def test_a_run_on_data_that_were_changed_is_not_gone_on_with(tmp_path, monkeypatch, finished):
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    (path,) = tmp_path.glob("*.csv")
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-20]))
    before, read = path.read_bytes(), variants.load("tasks", "iris", "TASK").read

    def changed():
        x_train, *others = read()
        return np.where(np.arange(len(x_train))[:, None] == 3, 0.5, x_train), *others

    with monkeypatch.context() as patch:
        patch.setattr("tasks.iris.TASK", variants.load("tasks", "iris", "TASK")._replace(read=changed))
        with pytest.raises(ValueError, match=r"received others for iris: .* Put the earlier data back"):
            run(tmp_path)
    assert path.read_bytes() == before
    same(run(tmp_path), finished[1])


def test_data_that_change_while_a_run_is_going_on_are_noticed_at_the_next_trial(tmp_path, monkeypatch, finished):
    task = variants.load("tasks", "iris", "TASK")
    monkeypatch.setattr(threshold_grid, "_SECONDS_BETWEEN_FIGURES", -1)

    def changed():
        x_train, *others = task.read()
        return x_train[:, ::-1], *others

    with monkeypatch.context() as patch:
        with pytest.raises(ValueError, match=r"received others for iris: .* Put the earlier data back"):
            run(tmp_path, watch=lambda frame: patch.setattr("tasks.iris.TASK", task._replace(read=changed)))
    (path,) = tmp_path.glob("*.csv")
    same(pd.read_csv(path), finished[1][finished[1].seed == 0])
    assert len(list(tmp_path.glob("networks/*"))) == 1
    same(run(tmp_path), finished[1])


def test_a_run_of_another_backend_is_read_and_not_gone_on_with(tmp_path, finished):
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    (settings,), (path,) = tmp_path.glob("*.json"), tmp_path.glob("*.csv")
    text = re.sub(r',\s*"checksum": "[0-9a-f]+"', "", settings.read_text())
    settings.write_text(text.replace(f'"backend": "{backend.NAME}"', '"backend": "another"'))
    same(run(tmp_path), finished[1])
    before = b"".join(path.read_bytes().splitlines(keepends=True)[:-20])
    path.write_bytes(before)
    for workers in (1, "join"):
        with pytest.raises(ValueError, match=r"Expected the backend another, on which .* this run began, received"):
            run(tmp_path, workers=workers)
    assert path.read_bytes() == before


def test_windows_line_ends_are_read_and_become_ours(tmp_path, finished):
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    (path,) = tmp_path.glob("*.csv")
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\r\n".join(lines[:-20]) + b"\r\n" + lines[-20][:30])
    same(run(tmp_path), finished[1])
    assert b"\r" not in path.read_bytes() and len(path.read_bytes().splitlines()) == len(lines)


def test_files_of_a_later_version_are_refused_and_earlier_ones_read(tmp_path):
    made = opened(tmp_path)
    made.append(ROWS[:1])
    made.close()
    about = json.loads(made.settings_path.read_text())
    assert about.pop("schema") == store.SCHEMA and about.pop("checksum")
    made.settings_path.write_text(json.dumps(about))
    assert len(opened(tmp_path).done) == 1
    made.settings_path.write_text(json.dumps({**about, "schema": store.SCHEMA + 1}))
    with pytest.raises(ValueError, match=f"received {store.SCHEMA + 1}: it was written by a later version"):
        opened(tmp_path)
    made.settings_path.write_text("{")
    assert len(opened(tmp_path).done) == 1


def test_settings_cannot_lead_out_of_the_folder(tmp_path):
    out = tmp_path / "out"
    for wrong in ({"task": "../iris"}, {"model": "../../mlp"}, {"measures": ["../magnitude"]}, {"levels": ["/unit"]}):
        with pytest.raises(ValueError, match="Expected"):
            run(out, **wrong)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_no_result_is_ever_unpickled():
    root = pathlib.Path(__file__).parents[2]
    paths = [path for path in root.glob("[a-z]*/**/*.py") if path.relative_to(root).parts[0] != "tests"]
    sources = {path: path.read_text("utf-8") for path in paths}
    assert len(sources) > 50
    loads = [line for text in sources.values() for line in text.splitlines() if "np.load(" in line]
    assert loads and all("allow_pickle=False" in line for line in loads)
    for path, text in sources.items():
        for word in ("pickle.load", "import pickle", "read_pickle", "joblib", "yaml.load("):
            assert word not in text, (path, word)
        unsafe = [
            node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.keyword) and node.arg == "safe_mode"
        ]
        assert all(ast.literal_eval(node.value) is True for node in unsafe), path
