"""One network is one block, wherever it stands; and orderings raise no more false alarms than they state."""

import json
import math

import numpy as np
import pandas as pd
import pytest

import report
from report.grid.blocks import Group
from report.grid.ordering import compare_pairs, order
from report.tables.columns import REQUIRED

FAST = {"resamples": 99}
OFFSETS = {"a": 0.55, "b": 0.5, "c": 0.48}
SETTINGS = {
    "task": "mnist", "model": "mlp", "measures": ["a", "b", "c"], "epochs": 5, "every": 5, "batch_size": 100,
    "optimizer": "adam", "learning_rate": 0.001, "labels": None, "validation": 0.1, "options": {}, "evaluated": None,
}  # fmt: skip


@pytest.fixture
def make(make_grid):
    """A run whose measures are hardly told apart, so that twice the blocks would tell more."""
    return lambda **columns: make_grid(OFFSETS, **{"seeds": 9, "noise": 0.03, "epochs": (5, 10), **columns})


def kept(frame, folder, run, settings=(), **about):
    """Write a run as an experiment does: a CSV, and its settings beside it."""
    folder.mkdir(exist_ok=True)
    columns = [name for name in (*REQUIRED, "status", "network") if name in frame]
    frame.assign(run=run)[columns].to_csv(folder / f"{run}.csv", index=False)
    known = {"schema": 2, "backend": "tensorflow", "chance_loss": math.log(10), "chance_accuracy": 0.1}
    settings = SETTINGS | {"seeds": sorted(set(frame["seed"].tolist()))} | dict(settings)
    (folder / f"{run}.json").write_text(json.dumps(known | about | {"settings": settings}))


def compared(frame, **options):
    found = order(frame, **FAST, **options)
    return found.tests.drop(columns="blocks_are"), found.pairs, found


def alike(frame, expected, **options):
    (tests, pairs, found), (known, others, _) = compared(frame, **options), compared(expected, **options)
    pd.testing.assert_frame_equal(tests, known)
    pd.testing.assert_frame_equal(pairs, others)
    columns = ["measure", "networks", "area", "area_low", "area_high"]
    last = [report.table(f[f["epoch"] == 10])[columns] for f in (frame, expected)]
    pd.testing.assert_frame_equal(*last)
    return found


COPIES = {
    "the same rows": lambda frame: frame,
    "an earlier end": lambda frame: frame[frame["epoch"] == 5],
    "fewer examples": lambda frame: frame.assign(examples=50, validation_loss=frame["validation_loss"] * 1.02),
    "fewer measures": lambda frame: frame[frame["measure"] != "c"].assign(examples=200),
    "fewer networks": lambda frame: frame[frame["seed"] < 4],
    "fewer thresholds": lambda frame: frame[frame["threshold"].isin([0, 0.2, 0.5, 1])],
    "other levels": lambda frame: frame.assign(level="unit"),
}


@pytest.mark.parametrize("copy", COPIES)
def test_networks_that_stand_in_a_second_file_change_nothing(make, tmp_path, copy):
    frame = make()
    kept(frame, tmp_path / "one", "long")
    kept(frame, tmp_path / "both", "long")
    kept(COPIES[copy](frame), tmp_path / "both", "another", {"epochs": 7, "evaluated": 50, "measures": ["a"]})
    by = ["task", "model", "level"]
    one, both = report.read(tmp_path / "one"), report.read(tmp_path / "both")
    if copy == "other levels":
        both = both[both["level"] == "weight"]
    found = alike(both, one, by=by)
    assert found.tests["blocks"].tolist() == [9] and "put together" not in str(found)
    twice = copy not in ("an earlier end", "other levels")
    assert ("networks that several runs hold count once" in found.summary) == twice
    assert order(both, by=[*by, "run"], **FAST).tests["blocks"].tolist().count(9) >= 1
    pictured = [report.at_thresholds(f[f["epoch"] == 10], [0, 0.5, 1]).drop(columns="threshold") for f in (one, both)]
    pd.testing.assert_frame_equal(*pictured)


@pytest.mark.parametrize("copy", list(COPIES)[:5])
def test_nor_do_they_without_settings_files(make, copy):
    frame = make()
    again = COPIES[copy](frame).assign(run="another")
    alike(pd.concat([frame, again], ignore_index=True), frame)


def test_what_made_them_tells_networks_apart(make, tmp_path):
    frame, changed = make(), make(random=np.random.default_rng(1))
    kept(frame, tmp_path, "run")
    for number, (settings, about) in enumerate(
        [
            ({"learning_rate": 0.01}, {}), ({"optimizer_options": {"weight_decay": 0.1}}, {}), ({"batch_size": 7}, {}),
            ({"validation": "test"}, {}), ({}, {"schema": 1}), ({}, {"backend": "jax"}),
        ]
    ):  # fmt: skip
        kept(changed, tmp_path, f"other-{number}", settings, **about)
        found = order(report.read([tmp_path / "run.csv", tmp_path / f"other-{number}.csv"]), **FAST)
        assert found.tests["blocks"].tolist() == [18]
        assert "networks of 2 runs are put together" in str(found)
    # An empty setting is none, and how much is scored, evaluated or replaced makes no other network.
    kept(frame, tmp_path, "same", {"optimizer_options": {}, "examples": 7, "levels": ["unit"], "fill": "zero"})
    assert order(report.read([tmp_path / "run.csv", tmp_path / "same.csv"]), **FAST).tests["blocks"].tolist() == [9]


def test_other_data_make_other_networks_where_files_state_them(make, tmp_path):
    frame = make()
    kept(frame, tmp_path, "unstated")
    kept(frame, tmp_path, "stated", data_sha256={"mnist": "ab"})
    assert order(report.read(tmp_path), **FAST).tests["blocks"].tolist() == [9]
    kept(make(random=np.random.default_rng(1)), tmp_path, "others", data_sha256={"mnist": "cd"})
    assert order(report.read([tmp_path / "stated.csv", tmp_path / "others.csv"]), **FAST).tests["blocks"].tolist() == [
        18
    ]


def test_a_digest_in_the_rows_is_the_identity(make, tmp_path):
    frame = make()
    frame["network"] = "weights-" + frame["seed"].astype(str)
    again = frame.assign(seed=frame["seed"] + 100, examples=50)
    kept(frame, tmp_path, "run")
    kept(again, tmp_path, "other", {"learning_rate": 0.1})
    alike(report.read(tmp_path), report.read(tmp_path / "run.csv"))
    kept(frame.assign(network="other " + frame["network"]), tmp_path, "other")
    assert order(report.read(tmp_path), **FAST).tests["blocks"].tolist() == [18]


def test_a_measure_is_added_from_another_run_only_where_it_was_measured_alike(make, tmp_path):
    frame = make()
    part = frame["measure"] == "c"
    kept(frame[~part], tmp_path, "run")
    kept(frame[part], tmp_path, "other")
    pd.testing.assert_frame_equal(compared(report.read(tmp_path))[1], compared(frame)[1])
    kept(frame[part].assign(examples=50), tmp_path, "other")
    assert set(order(report.read(tmp_path), **FAST).table["measure"]) == {"a", "b"}


def test_networks_that_end_elsewhere_are_left_out_and_said(make, tmp_path):
    kept(make(), tmp_path, "run")
    kept(make(seeds=4, epochs=(5,), random=np.random.default_rng(1)), tmp_path, "short", {"learning_rate": 0.1})
    frame = report.read(tmp_path)
    found = order(frame, **FAST)
    assert found.tests["blocks"].tolist() == [9]
    assert "4 networks left out that are not there at epoch 10, where most are" in found.summary
    assert order(frame, epoch=5, **FAST).tests["blocks"].tolist() == [13]
    # Of networks that one run holds at an early checkpoint and another, some of them, at a later one, all count.
    kept(make(epochs=(5,)), tmp_path / "more", "all")
    kept(make(seeds=3), tmp_path / "more", "some")
    more = order(report.read(tmp_path / "more"), **FAST)
    assert more.tests["blocks"].tolist() == [9] and "left out" not in str(more)
    # A measure that was scored at the earlier checkpoint only is named.
    rows = report.read(tmp_path / "run.csv")
    rows = rows[(rows["measure"] != "c") | (rows["epoch"] == 5)]
    rows = pd.concat([rows[rows["measure"] != "c"], rows[rows["measure"] == "c"].assign(run="early")])
    assert "c is left out of the order: it has scores at other checkpoints only" in str(order(rows, **FAST))


def test_the_shipped_networks_of_digits_are_thirty_whatever_a_shorter_run_adds(tmp_path):
    name = "data/digits-mlp-4a0b30dd"
    frame = report.read(f"{name}.csv.gz")
    frame = frame[(frame["level"] == "weight") & frame["measure"].isin(["obd", "wanda", "random"])]
    short = frame[(frame["epoch"] <= 20) & (frame["seed"] < 15)].assign(run="digits-mlp-short", examples=100)
    found = order(pd.concat([frame, short]), **FAST)
    assert found.tests["blocks"].tolist() == [30]
    pd.testing.assert_frame_equal(found.pairs, order(frame, **FAST).pairs)


@pytest.mark.parametrize("networks", [14, 30])
def test_family_wise_error_of_24_exchangeable_measures(networks):
    """Nothing differs between measures but chance, which has heavy tails: how often is any pair told apart?"""
    random = np.random.default_rng(networks)
    options = {"against": None, "margin": 0.0, "alpha": 0.05, "anytime": False}
    alarms = []
    for _ in range(300):
        areas = 0.5 + 0.05 * random.normal(size=(networks, 1)) + 0.02 * random.standard_t(4, size=(networks, 24))
        blocks = pd.DataFrame(areas, columns=[f"m{number:02d}" for number in range(24)])
        pairs = compare_pairs(Group({}, blocks, "networks", {}, 0, 0, 0, 0, None), "area", options)
        alarms.append(any(pair["verdict"].startswith("better") for pair in pairs))
    assert np.mean(alarms) <= 0.06
