"""The state of a training on disk, and what is left when it is damaged."""

import numpy as np
import pytest

from experiments.checkpoints import Checkpoints

ARRAYS = [np.arange(6, dtype="float32").reshape(2, 3), np.array(7), np.array([True]), np.array([2**40])]


def kept(folder, *epochs):
    made = Checkpoints(folder / "run" / "seed-0")
    for epoch in epochs:
        made.save(epoch, [*ARRAYS, np.array(epoch)])
    return made


def test_arrays_come_back(tmp_path):
    found = kept(tmp_path, 3).load(3)
    for a, b in zip(found, [*ARRAYS, np.array(3)], strict=True):
        assert np.array_equal(a, b) and a.dtype == b.dtype and a.shape == b.shape


def test_more_than_ten_arrays_keep_their_order(tmp_path):
    made = Checkpoints(tmp_path)
    made.save(1, [np.array(n) for n in range(120)])
    assert [int(a) for a in made.load(1)] == list(range(120))


def test_the_last_two_are_kept(tmp_path):
    made = kept(tmp_path, 1, 5, 9, 10)
    assert made.epochs() == [9, 10]
    assert int(made.load(9)[-1]) == 9
    assert Checkpoints(made.folder).epochs() == [9, 10]


def test_none_yet(tmp_path):
    made = Checkpoints(tmp_path / "run" / "seed-0")
    assert made.epochs() == []
    made.clear()
    assert made.epochs() == [] and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("change", ["flip", "cut", "empty", "short", "replaced"])
def test_damage_is_noticed(tmp_path, change):
    made = kept(tmp_path, 1, 2)
    path = made.folder / "00002.npz"
    content = bytearray(path.read_bytes())
    if change == "flip":
        content[200] ^= 1
    path.write_bytes(
        {"cut": content[:-1], "empty": b"", "short": content[:20], "replaced": b"x" * 500}.get(change, content)
    )
    with pytest.warns(UserWarning, match=r"00002.npz is damaged; going on from the one before it"):
        assert made.load(2) is None
    assert int(made.load(1)[-1]) == 1


def test_what_a_crash_left_half_written_is_no_checkpoint(tmp_path):
    made = kept(tmp_path, 1)
    (made.folder / "00002.npz.part").write_bytes(b"half")
    assert made.epochs() == [1]
    made.clear()
    assert list(tmp_path.iterdir()) == []


def test_clearing_leaves_other_files_and_other_seeds(tmp_path):
    made, other = kept(tmp_path, 1), Checkpoints(tmp_path / "run" / "seed-1")
    other.save(1, ARRAYS)
    (made.folder / "notes.txt").write_text("mine")
    made.clear()
    assert [p.name for p in made.folder.iterdir()] == ["notes.txt"] and other.epochs() == [1]
