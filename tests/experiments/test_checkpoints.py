"""The state of a training on disk, and what is left when it is damaged."""

import numpy as np
import pytest

from experiments.storage.checkpoints import Checkpoints

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


OF = {"run": "digits", "trial": "a", "backend": "jax", "data_sha256": {"digits": "ab"}, "measure_sha256": None}


def test_they_say_what_they_come_from(tmp_path):
    made = Checkpoints(tmp_path, of=OF)
    made.save(3, ARRAYS, more=1)
    assert made.read(3)[1] == {**OF, "epoch": 3, "more": 1}
    assert Checkpoints(tmp_path).read(3)[1]["run"] == "digits"  # whoever asks for nothing is told all the same


@pytest.mark.parametrize("name", [*OF, "epoch"])
def test_what_comes_from_elsewhere_is_not_gone_on_from(tmp_path, name):
    made = Checkpoints(tmp_path, of=OF)
    made.save(1, ARRAYS)
    Checkpoints(tmp_path).save(2, ARRAYS, **{**OF, "epoch": 2, name: "another"})
    with pytest.warns(UserWarning, match=r"00002.npz to be of the .*, received one that says another; going on from"):
        assert made.latest(5)[0] == 1
    assert made.latest(1)[0] == 1


def test_one_copied_over_another_epoch_and_one_that_says_nothing(tmp_path):
    made = Checkpoints(tmp_path, of=OF)
    made.save(1, ARRAYS)
    made.path(2).write_bytes(made.path(1).read_bytes())
    with pytest.warns(UserWarning, match="to be of the epoch 2, received one that says 1; going on"):
        assert made.latest(2)[0] == 1
    Checkpoints(tmp_path).save(1, ARRAYS)
    with pytest.warns(UserWarning, match="to be of the run digits, received one that says nothing; going on"):
        assert made.latest(1) == (0, None)


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


def test_arrays_that_are_alike_are_written_once_and_come_back_by_their_names(tmp_path):
    made, arrays = Checkpoints(tmp_path), {"a": ARRAYS[0], "b/0": ARRAYS[1], "c": ARRAYS[0].copy(), "d": ARRAYS[0] + 1}
    made.save(1, arrays, of="me")
    found, says = made.read(1)
    assert says == {"of": "me"} and found.keys() == arrays.keys()
    assert all(np.array_equal(found[name], arrays[name]) and found[name].dtype == arrays[name].dtype for name in arrays)
    glanced, sizes = made.glance(1)
    assert glanced == says and set(sizes) == {"a", "b/0", "d", "about"}
    (tmp_path / "00001.npz").write_bytes(b"x" * 500)
    assert made.glance(1) == made.glance(2) == ({}, {})
