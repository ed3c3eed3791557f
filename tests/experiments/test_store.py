"""The CSV: what a crash or another hand did to it."""

import gzip
import json
import os
import re

import numpy as np
import pandas as pd
import pytest

from engine import backend
from experiments.storage import store
from experiments.storage.store import Store

COLUMNS, KEY = ["name", "number", "loss"], ["name", "number"]
ROWS = [{"name": "a", "number": n, "loss": n / 3} for n in range(3)]
TEXT = "name,number,loss\na,0,0.0\na,1,0.3333333333333333\na,2,0.6666666666666666\n"


def opened(folder, name="run", **options):
    return Store(folder, name, COLUMNS, KEY, **options)


def write(folder, rows=ROWS):
    made = opened(folder)
    made.append(rows)
    made.close()
    return made.path


def test_rows_come_back_and_numbers_exactly(tmp_path):
    rows = [*ROWS, {"name": "b", "number": 7, "loss": np.float32(0.1)}, {"name": "c", "number": 8, "loss": 1e-300}]
    write(tmp_path, rows)
    again = opened(tmp_path)
    assert again.done == {("a", "0"), ("a", "1"), ("a", "2"), ("b", "7"), ("c", "8")}
    assert all(again.key_of(row) in again.done for row in rows)
    frame = again.frame()
    pd.testing.assert_frame_equal(frame, pd.read_csv(again.path))
    assert frame.loss.tolist()[:3] == [0, 1 / 3, 2 / 3] and frame.loss.iloc[4] == 1e-300
    assert np.float32(frame.loss.iloc[3]) == np.float32(0.1)


def test_nothing_is_written_before_the_first_row(tmp_path):
    made = opened(tmp_path / "new" / "folder", about={"settings": {}})
    made.append([])
    made.close()
    assert list((tmp_path / "new" / "folder").iterdir()) == []
    assert made.done == set() and list(made.frame()) == COLUMNS


def test_each_append_is_on_disk_when_it_returns(tmp_path):
    made = opened(tmp_path)
    for count, row in enumerate(ROWS, 1):
        made.append([row])
        assert made.path.read_text() == "".join(TEXT.splitlines(keepends=True)[: count + 1])
    made.close()


def test_rows_are_added_at_the_end_after_closing_and_in_another_store(tmp_path):
    made = opened(tmp_path)
    made.append(ROWS[:1])
    made.close()
    made.append(ROWS[1:2])
    made.close()
    again = opened(tmp_path)
    again.append(ROWS[2:])
    again.close()
    assert made.path.read_text() == TEXT


@pytest.mark.parametrize("kept", range(len(TEXT) + 1))
def test_a_file_that_was_cut_anywhere_is_repaired(tmp_path, kept):
    path = write(tmp_path)
    path.write_bytes(TEXT.encode()[:kept])
    made = opened(tmp_path)
    missing = [row for row in ROWS if made.key_of(row) not in made.done]
    assert len(missing) == 3 - max(0, TEXT[:kept].count("\n") - 1)
    made.append(missing)
    made.close()
    assert path.read_text() == (TEXT if missing else TEXT[:kept])
    assert opened(tmp_path).done == {("a", "0"), ("a", "1"), ("a", "2")}


def test_a_packed_file_is_read_and_unpacked_when_rows_are_added(tmp_path):
    path = write(tmp_path, ROWS[:2])
    packed = tmp_path / "run.csv.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    made = opened(tmp_path)
    assert len(made.done) == 2 and not path.exists()
    made.append(ROWS[2:])
    made.close()
    assert path.read_text() == TEXT and not packed.exists()


def test_a_crash_while_unpacking_loses_and_doubles_nothing(tmp_path):
    packed = tmp_path / "run.csv.gz"
    packed.write_bytes(gzip.compress(TEXT.encode()))
    (tmp_path / "run.csv").write_bytes(b"")
    made = opened(tmp_path)
    assert len(made.done) == 3
    with pytest.warns(
        UserWarning, match=r"There is no .*run.sums, .* The 3 rows that are there, .* are taken as they are"
    ):
        made.append([{"name": "b", "number": 0, "loss": 1.0}])
    made.close()
    assert (tmp_path / "run.csv").read_text() == TEXT + "b,0,1.0\n"


def test_another_file_in_the_way(tmp_path):
    path = tmp_path / "run.csv"
    path.write_text("Epoch,Loss\n1,0.5\n")
    with pytest.raises(ValueError, match=r"Expected the columns name, number, loss in .*run.csv, received Epoch, Loss"):
        opened(tmp_path)
    assert path.read_text() == "Epoch,Loss\n1,0.5\n"


def test_the_same_columns_in_another_order_are_another_file(tmp_path):
    (tmp_path / "run.csv").write_text("number,name,loss\n1,a,0.5\n")
    with pytest.raises(ValueError, match="received number, name, loss"):
        opened(tmp_path)


@pytest.mark.parametrize("name", ["run.csv", "run+a.csv"])
def test_a_cell_that_stands_twice_with_other_values(tmp_path, name):
    path = tmp_path / name
    path.write_text(TEXT + "a,1,0.4\n")
    message = r", some stand twice: of name=a, number=1, loss is 0.333\d+ and 0.4. Remove the wrong lines, or move the"
    with pytest.raises(ValueError, match=rf"Expected each cell once in .*{re.escape(name)}{message}"):
        opened(tmp_path)
    assert path.read_text() == TEXT + "a,1,0.4\n"


@pytest.mark.parametrize("name", ["run.csv", "run+a.csv", "run.csv.gz"])
def test_rows_that_stand_twice_with_the_same_values_are_dropped_and_said_once(tmp_path, name):
    """As two processes wrote them, which took different times."""

    def made():
        return Store(tmp_path, "run", [*COLUMNS, "seconds"], KEY)

    whole = ["name,number,loss,seconds\n", "a,0,0.0,0.1\n", "a,1,0.5,0.2\n"]
    text = "".join([*whole, "a,1,0.5,0.3\n", "a,0,0.0,0.1\n"]).encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    with pytest.warns(UserWarning, match=r"2 rows of .*run.*csv stand twice, with the same values, and are taken once"):
        store = made()
    assert store.frame()["seconds"].tolist() == [0.1, 0.2]
    if "+" in name:
        with pytest.warns(UserWarning, match="stand twice"):
            store.fold("a")
        store.append([{**ROWS[2], "seconds": 0.4}])
    else:
        store.refresh()
        with pytest.warns(UserWarning, match="which holds checksums of rows"):
            store.append([{**ROWS[2], "seconds": 0.4}])
    store.close()
    assert (tmp_path / "run.csv").read_text() == "".join([*whole, "a,2,0.6666666666666666,0.4\n"])
    assert len(made().done) == 3


@pytest.mark.parametrize("line", ["garbage", "a,1", "a,3,0.1,5", "\x00\x00\x00", "<<<<<<< HEAD"])
def test_a_line_of_garbage(tmp_path, line):
    (tmp_path / "run.csv").write_text(TEXT + line + "\na,5,0.5\n")
    with pytest.raises(ValueError, match=r"Expected 3 values in each line of .*run.csv, lines \[5\] have others"):
        opened(tmp_path)


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "run.csv").write_bytes(TEXT.encode() + b"\xff\xfe\n")
    with pytest.raises(ValueError, match=r"lines \[5\] have others"):
        opened(tmp_path)


@pytest.mark.parametrize("name", ["../run", "a/b", "/run", ".run", "", "a b", "..", "run\n", "a\\b", "-rf"])
def test_a_name_that_is_no_name(tmp_path, name):
    with pytest.raises(ValueError, match="Expected a run's name of letters, digits"):
        opened(tmp_path / "inside", name)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match=rf"Expected a folder for results at {out}, received: .*another `out`"):
            opened(out)


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    with pytest.raises(PermissionError, match=rf"Expected a folder that can be written, received {tmp_path}"):
        opened(tmp_path)


def test_the_settings_file_says_what_a_result_depends_on(tmp_path):
    made = opened(tmp_path, about={"settings": {"epochs": 5}, "classes": 10})
    made.append(ROWS)
    made.close()
    about = json.loads(made.settings_path.read_text())
    assert about["schema"] == store.SCHEMA and about["settings"] == {"epochs": 5} and about["classes"] == 10
    assert {"python", "keras", "numpy", about["backend"]} == set(about["versions"])
    assert about["device"] and "commit" in about


def settings_of(made):
    return json.loads(made.settings_path.read_text())


@pytest.fixture
def made_by(monkeypatch):
    """Say what makes the rows from now on: callable `made_by(version, commit)`."""

    def change(version, commit, device="cpu"):
        found = {"versions": {"keras": version}, "backend": backend.NAME, "device": device, "commit": commit}
        monkeypatch.setattr(store, "provenance", lambda: found)
        return found

    return change


def test_other_versions_are_written_down_for_the_rows_that_they_made_and_said_once(tmp_path, made_by):
    def add(row):
        made = opened(tmp_path, about={"settings": {}})
        made.check_goes_on()
        made.append([row])
        made.close()
        return made

    entries = [{"rows": 0, **made_by("3.1", "aa")}]
    add(ROWS[0])
    made = add(ROWS[1])
    assert [{k: v for k, v in each.items() if k != "since"} for each in settings_of(made)["provenance"]] == entries
    entries.append({"rows": 2, **made_by("3.2", "bb")})
    with pytest.warns(
        UserWarning, match=r"run.csv from here on come from keras 3.2 \(before: 3.1\), commit bb \(b.*aa"
    ):
        add(ROWS[2])
    add({**ROWS[0], "name": "b"})
    entries.append({"rows": 4, **made_by("3.2", "bb-dirty", "another")})  # written down, and nothing to be warned of
    made = add({**ROWS[1], "name": "b"})
    about = settings_of(made)
    assert [{k: v for k, v in each.items() if k != "since"} for each in about["provenance"]] == entries
    assert all(each["since"].startswith("20") for each in about["provenance"])
    assert (about["versions"], about["commit"]) == ({"keras": "3.1"}, "aa")  # as it began


def test_what_an_earlier_settings_file_says_is_what_made_its_rows(tmp_path, made_by):
    before = made_by("3.1", "aa")
    made = opened(tmp_path, about={"settings": {}})
    made.append(ROWS[:1])
    made.close()
    about = settings_of(made)
    del about["provenance"], about["checksum"]
    made.settings_path.write_text(json.dumps(about))
    now = made_by("3.2", "aa")
    again = opened(tmp_path, about={"settings": {}})
    again.append(ROWS[1:])
    again.close()
    first, second = settings_of(again)["provenance"]
    assert first == {"rows": 0, **before} and second.items() >= {"rows": 1, **now}.items()


@pytest.mark.parametrize("rows", [1, 0])
def test_another_backend_is_read_and_not_gone_on_with(tmp_path, monkeypatch, rows):
    made = opened(tmp_path, about={"settings": {}})
    made.append(ROWS[:1])
    made.close()
    if not rows:  # who shares a run may be in its first trial
        made.path.unlink()
    before = made.settings_path.read_bytes()
    other = {"tensorflow": "jax", "jax": "tensorflow"}[backend.NAME]
    with monkeypatch.context() as patch:
        patch.setattr(backend, "NAME", other)
        late = opened(tmp_path, about={"settings": {}})
        assert len(late.frame()) == rows
        for go_on in (late.check_goes_on, lambda: late.append(ROWS[1:])):
            with pytest.raises(
                ValueError, match=f"Expected the backend {backend_of(made)}, on .* received {other}, on"
            ):
                go_on()
    assert made.settings_path.read_bytes() == before
    again = opened(tmp_path, about={"settings": {}})
    again.append(ROWS[1:])
    again.close()


def backend_of(made):
    return settings_of(made)["backend"]


def test_rows_of_other_data_are_refused(tmp_path):
    def with_data(**digests):
        return opened(tmp_path, about={"data_sha256": digests} if digests else {})

    made, late = with_data(mnist="aa", cifar10="bb"), with_data(mnist="cc", cifar10="bb")
    made.append(ROWS[:1])
    made.close()
    message = r"the rows of .*run.csv come from, received others for mnist: .*data_sha256 in run.json.* another `out`"
    with pytest.raises(ValueError, match=message):
        with_data(mnist="cc", cifar10="bb")
    with pytest.raises(ValueError, match=message):
        late.append(ROWS[1:])  # it was opened before the other's first row
    assert made.path.read_text().count("\n") == 2
    again = with_data(cifar10="bb", mnist="aa")
    again.append(ROWS[1:])
    again.close()
    again.check_data({"mnist": "aa", "new": "cc"})
    with pytest.raises(ValueError, match="others for mnist: "):
        again.check_data({"mnist": "cc"})
    # What was written before digests were goes on.
    with_data().write_settings()
    assert with_data(mnist="cc").done == again.done


def test_a_measure_whose_file_has_changed_is_told_of_as_long_as_its_rows_stand(tmp_path):
    columns, key = ["measure", "number"], ["measure", "number"]

    def with_measures(**digests):
        return Store(tmp_path, "run", columns, key, {"measures_sha256": digests})

    made = with_measures(mine="aa", other="bb")
    made.append([{"measure": "mine:power=2", "number": 1}])
    made.close()
    with_measures(mine="aa", other="cc", new="dd")  # there are no rows of what has changed
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"The rows of mine in .*run.csv were computed before importance/mine.py"):
            changed = with_measures(mine="ee", other="cc")
        changed.append([{"measure": "other", "number": len(changed.done)}])
        changed.close()
    about = settings_of(made)
    assert about["measures_sha256"] == {"mine": "aa", "other": "cc"}
    assert [(e["rows"], e.get("measures_sha256")) for e in about["provenance"]] == [(0, None), (1, {"mine": "ee"})]
    lines = made.path.read_text().splitlines(keepends=True)
    made.path.write_text("".join(line for line in lines if not line.startswith("mine")))
    anew = with_measures(mine="ee", other="cc")
    anew.append([{"measure": "mine", "number": 1}])
    anew.close()
    assert json.loads(made.settings_path.read_text())["measures_sha256"] == {"mine": "ee", "other": "cc"}


def test_writing_atomically_leaves_the_old_file_when_it_fails(tmp_path, monkeypatch):
    path = tmp_path / "file"
    store.write_atomically(path, b"old")

    def fails(descriptor):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        with pytest.raises(OSError, match="No space left"):
            store.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    store.write_atomically(path, b"new")
    assert path.read_bytes() == b"new" and [p.name for p in tmp_path.iterdir()] == ["file"]
