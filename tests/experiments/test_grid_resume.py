"""A run that is stopped, by whatever, and called again ends in the rows it would have had."""

import gzip
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from grid_runs import ROWS, ROWS_OF_A_CHECKPOINT, SETTINGS, run, same, values

import report
from engine import structure, training
from experiments import threshold_grid
from experiments.storage import locks

pytestmark = pytest.mark.usefixtures("quick")
ROOT = pathlib.Path(__file__).parents[2]
ALL_EPOCHS = [(seed, epoch) for seed in (0, 1) for epoch in (1, 2, 3)]

SLOW_RUN = """
import sys, time
sys.path.append("tests/reference")
import compiling
from experiments import threshold_grid

def slowly(frame):
    time.sleep(0.2)

compiling.simply()
threshold_grid._SECONDS_BETWEEN_FIGURES = -1
threshold_grid.run(out=sys.argv[1], progress=False, watch=slowly, **eval(sys.argv[2]))
"""


def csv(folder):
    (path,) = folder.glob("*.csv")
    return path


def kept(folder):
    return sorted(f"{path.parent.name}/{path.name}" for path in folder.glob("networks/*/*/*.npz"))


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A run that was interrupted in its third epoch."""
    folder = tmp_path_factory.mktemp("interrupted")

    def watch(frame):
        if len(frame) > 2 * ROWS_OF_A_CHECKPOINT:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(structure, "xla", lambda model: False)
        patch.setattr(threshold_grid, "_SECONDS_BETWEEN_FIGURES", -1)
        run(folder, watch=watch)
    return folder


@pytest.fixture
def stopped(interrupted, tmp_path):
    """A copy of the interrupted run."""
    shutil.copytree(interrupted, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the finished run that may be damaged."""
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_killed_in_the_middle(tmp_path, finished, trained):
    wanted = 2 * ROWS_OF_A_CHECKPOINT + 10  # the third epoch has begun
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_RUN, str(tmp_path), repr(SETTINGS)],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        while process.poll() is None and sum(p.read_bytes().count(b"\n") for p in tmp_path.glob("*.csv")) <= wanted:
            time.sleep(0.02)
        assert process.poll() is None, process.stderr.read().decode()
        os.kill(process.pid, signal.SIGSTOP)  # on a busy machine it would go far while the others look
        with pytest.raises(locks.Busy, match=f"which process {process.pid} of .* since 20"):
            run(tmp_path)
        assert len(report.read(tmp_path)) >= wanted - 1  # whoever only reads is not refused
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    written = pd.read_csv(csv(tmp_path))
    assert wanted <= len(written) < 3 * ROWS_OF_A_CHECKPOINT
    assert kept(tmp_path) == [f"seed-0/0000{epoch}.npz" for epoch in range(4)]

    frame = run(tmp_path)
    same(frame, finished[1])
    pd.testing.assert_frame_equal(frame[: len(written)], written)
    assert trained == ALL_EPOCHS[3:]
    agreement = [pd.read_csv(csv(folder / "agreement")) for folder in (tmp_path, finished[0])]
    pd.testing.assert_frame_equal(*agreement)
    assert not agreement[0].duplicated(["seed", "epoch", "level", "reduction", "scope", "measure", "other"]).any()


def test_interrupted(stopped, finished, trained):
    written = pd.read_csv(csv(stopped))
    assert 2 * ROWS_OF_A_CHECKPOINT < len(written) < 3 * ROWS_OF_A_CHECKPOINT
    same(written, finished[1][: len(written)])
    shown = []
    same(run(stopped, watch=shown.append), finished[1])
    assert trained == ALL_EPOCHS[3:] and len(shown[-1]) == ROWS


def test_the_same_settings_give_the_same_values(tmp_path, finished):
    """Whatever other seeds are run; and a seed that is added later only adds its rows."""
    alone = run(tmp_path, seeds=[1])
    same(alone, finished[1][finished[1].seed == 1])
    before = csv(tmp_path).read_bytes()
    both = run(tmp_path, seeds=[0, 1])
    assert csv(tmp_path).read_bytes().startswith(before)
    assert set(both[ROWS // 2 :].seed) == {0}
    same(both, finished[1])


def test_a_finished_run_is_not_run_again(copy, finished, trained):
    before = csv(copy).read_bytes()
    same(run(copy), finished[1])
    same(run(copy, seeds=[1]), finished[1])
    assert not trained and csv(copy).read_bytes() == before


def test_a_line_that_was_cut_off_is_run_again(copy, finished, trained):
    content = csv(copy).read_bytes()
    cut = content[: content.rfind(b",1,3,random,unit,") + 30]  # in the last ranking of the last checkpoint
    csv(copy).write_bytes(cut)
    same(run(copy), finished[1])
    assert not trained


def test_rows_that_were_deleted_are_run_again(copy, finished, trained):
    lines = csv(copy).read_text().splitlines(keepends=True)
    del lines[40:53]
    csv(copy).write_text("".join(lines))
    frame = run(copy)
    same(frame, finished[1])
    assert len(frame) == ROWS and not trained


@pytest.mark.parametrize("way", ["flipped", "truncated", "empty", "both empty"])
def test_a_damaged_checkpoint_and_the_one_before_it(stopped, finished, trained, way):
    paths = sorted(stopped.glob("networks/*/seed-0/*.npz"))[-2:]
    assert [path.stem for path in paths] == ["00002", "00003"]
    for path in paths if way == "both empty" else paths[1:]:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 4
        path.write_bytes({"flipped": content, "truncated": content[:-7]}.get(way, b""))
    with pytest.warns(UserWarning, match=r"000\d\d.npz is damaged; going on from the one before it") as warned:
        frame = run(stopped)
    assert len(warned) == (2 if way == "both empty" else 1)
    same(frame, finished[1])
    assert trained == (ALL_EPOCHS[1:] if way == "both empty" else ALL_EPOCHS[2:])


def test_a_packed_file_is_as_good(copy, finished, trained):
    path = csv(copy)
    packed = path.with_suffix(".csv.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    same(run(copy), finished[1])
    assert not trained and not path.exists() and packed.exists()


def test_a_crash_in_training_leaves_what_was_done(tmp_path, monkeypatch):
    train = training.train

    def fails(model, x, y, epochs, *rest):
        if 2 in epochs:
            raise MemoryError("out of memory")
        train(model, x, y, epochs, *rest)

    monkeypatch.setattr(training, "train", fails)
    with pytest.raises(MemoryError):
        run(tmp_path, seeds=[0])
    assert len(pd.read_csv(csv(tmp_path))) == ROWS_OF_A_CHECKPOINT
    assert kept(tmp_path) == ["seed-0/00000.npz", "seed-0/00001.npz"]


def test_what_two_runs_share_leaves_out_only_the_seconds(finished):
    assert list(values(finished[1])) == [c for c in threshold_grid.COLUMNS if c != "seconds"]
