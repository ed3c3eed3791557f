"""Every way a results file can be wrong, old, double or unfinished."""

import gzip
import json
import math

import numpy as np
import pandas as pd
import pytest

import report
from report.tables import legacy
from report.tables.columns import MISSING, REQUIRED


def test_reads_columns_chance_and_source(make_curve, write):
    path = write(make_curve([0, 0.5, 1]))
    path.with_suffix(".json").write_text(json.dumps({"chance_loss": 2.3, "chance_accuracy": 0.1, "settings": {}}))
    frame = report.read(path)
    assert list(frame.columns) == [*REQUIRED, "chance_loss", "chance_accuracy", *MISSING]
    assert frame["chance_loss"].tolist() == [2.3] * 3
    assert frame["source"].unique().tolist() == [str(path)]
    assert frame["threshold"].tolist() == [0, 0.5, 1]


def test_chance_of_classes_of_regression_and_unknown(make_curve, write):
    path = write(make_curve([0, 1]))
    assert report.read(path)["chance_loss"].isna().all()
    path.with_suffix(".json").write_text(json.dumps({"chance_loss": None, "classes": 4}))
    assert report.read(path)["chance_loss"].tolist() == [math.log(4)] * 2
    path.with_suffix(".json").write_text(json.dumps({"chance_loss": 0.5, "chance_accuracy": None, "classes": None}))
    assert report.read(path)["chance_loss"].tolist() == [0.5] * 2
    assert report.read(path, chance_loss=7, chance_accuracy=0.2)["chance_accuracy"].tolist() == [0.2] * 2


def test_damaged_settings_are_named(make_curve, write):
    path = write(make_curve([0, 1]))
    path.with_suffix(".json").write_text("{")
    with pytest.raises(ValueError, match=r"Expected JSON in .*run\.json"):
        report.read(path)


def test_paths_patterns_folders_and_compressed_files_agree(make_curve, write, tmp_path):
    first = write(make_curve([0, 1], seed=0), "a.csv")
    second = write(make_curve([0, 1], seed=1), "b.csv.gz")
    expected = report.read([first, second])
    assert len(expected) == 4
    for paths in (tmp_path, str(tmp_path), [tmp_path], str(tmp_path / "*.csv*"), [first, str(second), tmp_path]):
        pd.testing.assert_frame_equal(report.read(paths), expected)


def test_status_may_be_missing(make_curve, write):
    assert report.read(write(make_curve([0, 1]), columns=REQUIRED))["status"].tolist() == ["ok", "ok"]


def test_last_line_being_written_is_left_out(make_curve, write):
    path = write(make_curve([0, 0.25, 0.5, 0.75, 1]))
    whole = path.read_text()
    for cut in range(1, len(whole.splitlines()[-1]) + 1):
        path.write_text(whole[: -1 - cut])
        assert report.read(path)["threshold"].tolist() == [0, 0.25, 0.5, 0.75]
    path.write_text(whole[:-1])
    assert len(report.read(path)) == 5


def test_missing_file_names_its_neighbours(make_curve, write, tmp_path):
    write(make_curve([0, 1]))
    with pytest.raises(FileNotFoundError, match=r"received .*other\.csv.*has run\.csv"):
        report.read(tmp_path / "other.csv")
    with pytest.raises(FileNotFoundError, match="no CSV files"):
        report.read(tmp_path / "nowhere" / "*.csv")
    with pytest.raises(FileNotFoundError, match="received none"):
        report.read([])


@pytest.mark.parametrize("text", ["", "\n", " \n\n"])
def test_empty_file(tmp_path, text):
    (tmp_path / "run.csv").write_text(text)
    with pytest.raises(ValueError, match=r"run\.csv, found an empty file"):
        report.read(tmp_path / "run.csv")


def test_header_without_rows(make_curve, write):
    with pytest.raises(ValueError, match="header and no rows"):
        report.read(write(make_curve([0, 1]).head(0)))


def test_missing_columns_are_listed_with_those_found(make_curve, write):
    path = write(make_curve([0, 1]), columns=["run", "seed", "threshold", "validation_loss"])
    with pytest.raises(ValueError, match=r"found run, seed, threshold, validation_loss: without task, model, epoch"):
        report.read(path)


def test_other_results_in_a_folder_are_left_out_with_a_warning(make_curve, write, tmp_path):
    write(make_curve([0, 1]))
    (tmp_path / "sequential.csv").write_text("strength,accuracy\n1,0.9\n")
    with pytest.warns(UserWarning, match=r"sequential\.csv"):
        assert len(report.read(tmp_path)) == 2
    (tmp_path / "run.csv").unlink()
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="found none"):
        report.read(tmp_path)


def test_text_where_a_number_belongs(make_curve, write):
    path = write(make_curve([0, 1]))
    path.write_text(path.read_text() + path.read_text())
    with pytest.raises(ValueError, match=r"numbers in the column seed of .*run\.csv, found 'seed'"):
        report.read(path)


def test_wrong_number_of_fields_and_damaged_compression(make_curve, write, tmp_path):
    path = write(make_curve([0, 1]))
    path.write_text(path.read_text() + "1,2," * 20 + "3\n")
    with pytest.raises(ValueError, match=r"comma-separated values in .*run\.csv"):
        report.read(path)
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"run,task\n" * 1000)[:20])
    with pytest.raises(ValueError, match=r"cut\.csv\.gz"):
        report.read(tmp_path / "cut.csv.gz")


def test_identical_rows_are_one_and_contradictions_an_error(make_curve, write, tmp_path):
    rows = make_curve([0, 0.5, 1])
    again = rows.assign(seconds=9.0)
    assert len(report.read(write(pd.concat([rows, again])))) == 3
    write(rows.assign(validation_loss=[0.1, 0.7, 2.3]), "copy.csv")
    with pytest.raises(ValueError, match=r"contradict each other.*threshold=0\.5.*in .*(copy|run)\.csv"):
        report.read(tmp_path)


def test_losses_that_are_not_numbers_are_kept(make_curve, write):
    rows = make_curve([0, 0.5, 1]).assign(status=["ok", "validation loss is nan", "ok"])
    rows.loc[1, "validation_loss"] = np.nan
    frame = report.read(write(rows))
    assert frame["validation_loss"].isna().tolist() == [False, True, False]
    assert frame["status"][1] == "validation loss is nan"


def test_old_file(make_legacy, tmp_path):
    path = tmp_path / "validation_loss_over_threshold_TRIAL_7.csv"
    make_legacy({"SIGN_FLIPPING": [0.03, 0.04, 0.07], "FISHER_MATRIX": [0.03, 1.0, 2.3]}).to_csv(path)
    frame = report.read(path)
    assert set(frame["measure"]) == {"sign_stability", "fisher_batched"}
    assert frame["seed"].unique().tolist() == [7]
    assert frame["run"].unique().tolist() == ["validation_loss_over_threshold"]
    assert frame["level"].unique().tolist() == ["weight"]
    assert frame["epoch"].unique().tolist() == [5]
    assert frame["validation_loss"].tolist() == [0.03, 0.04, 0.07, 0.03, 1.0, 2.3]
    assert frame["task"].unique().tolist() == ["validation_loss_over_threshold (task unknown)"]
    assert frame["called"].unique().tolist() == ["SIGN_FLIPPING", "FISHER_MATRIX"]
    unknown = ["model", "scope", "fill", "reduction", "replaced_fraction", "tie_fraction", "chance_loss"]
    assert frame[unknown].isna().all(axis=None)


def test_old_file_without_levels_or_trial(make_legacy, tmp_path):
    path = tmp_path / "cifar10_medium.csv"
    make_legacy({"RANDOM": [0.03, 2.3]}).drop(columns="Aggregation Level").to_csv(path)
    frame = report.read(path)
    assert frame[["level", "seed"]].isna().all(axis=None)
    assert frame["run"].unique().tolist() == ["cifar10_medium"]


def test_old_file_without_a_column(make_legacy, tmp_path):
    path = tmp_path / "old_TRIAL_1.csv"
    make_legacy({"RANDOM": [0.03, 2.3]}).drop(columns="Validation Loss").to_csv(path)
    with pytest.raises(ValueError, match="without Validation Loss"):
        report.read(path)


def test_old_thresholds_lose_their_last_bits(make_legacy, tmp_path):
    path = tmp_path / "old_TRIAL_1.csv"
    make_legacy({"RANDOM": [0.0] * 21}).assign(**{"Threshold Value": [i * (1 / 20) for i in range(21)]}).to_csv(path)
    assert report.read(path)["threshold"].tolist() == [round(i / 20, 10) for i in range(21)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Fisher Information Matrix", "fisher_batched"),
        ("FISHER_INFORMATION_MATRIX", "fisher_batched"),
        ("FisherInformationMatrix", "fisher_batched"),
        ("SIGN_FLIPPING", "sign_stability"),
        ("MOMENTUM_BASED", "direction_stability"),
        ("WEIGHT_CHANGE", "weight_stability"),
        ("WEIGHT_MAGNITUDE", "magnitude"),
        ("INVERSE_WEIGHT_MAGNITUDE", "inverse_magnitude"),
        ("RANDOM", "random"),
        ("Something New", "something_new"),
    ],
)
def test_old_names(name, expected):
    snake = legacy.snake_case(name)
    assert legacy.MEASURES.get(snake, snake) == expected


def test_rows_of_workers_are_read_with_those_that_are_in_the_csv(make_curve, write):
    path = write(make_curve([0, 0.5, 1]))
    path.with_suffix(".json").write_text(json.dumps({"chance_loss": 2.3, "schema": 1}))
    other = path.with_name("run+seed-1.csv")
    make_curve([0, 0.5, 1], seed=1).drop(columns=["chance_loss", "chance_accuracy"]).to_csv(other, index=False)
    for where in (path, path.parent, str(path.parent / "*.csv")):
        frame = report.read(where)
        assert sorted(frame["seed"]) == [0, 0, 0, 1, 1, 1] and set(frame["chance_loss"]) == {2.3}
    # A shard may have no rows yet, or its rows may be in the CSV by now.
    other.write_text(other.read_text().splitlines(keepends=True)[0])
    assert report.read(path)["seed"].tolist() == [0, 0, 0]
    other.write_bytes(path.read_bytes())
    assert report.read(path)["seed"].tolist() == [0, 0, 0]
    path.unlink()
    assert report.read(path)["seed"].tolist() == [0, 0, 0]


def test_a_later_version_is_refused(make_curve, write):
    path = write(make_curve([0, 1]))
    path.with_suffix(".json").write_text(json.dumps({"schema": 3}))
    with pytest.raises(ValueError, match="schema 2 or earlier, found 3"):
        report.read(path)


def test_old_files_of_other_names_are_not_one_task(make_legacy, tmp_path):
    rows = {"RANDOM": [0.03, 1.0, 2.3], "Fisher": [0.03, 0.5, 2.3]}
    for name in ("digits_TRIAL_0", "digits_TRIAL_1", "garments_TRIAL_0", "garments_TRIAL_1"):
        make_legacy(rows).to_csv(tmp_path / f"{name}.csv")
    frame = report.read(tmp_path, chance_loss=2.3)
    table = report.table(frame)
    assert sorted(set(table["task"])) == ["digits (task unknown)", "garments (task unknown)"]
    assert set(table["networks"]) == {2}
    titles = [report.curves(rows).get_suptitle() for _, rows in frame.groupby("run")]
    assert titles[0].startswith("digits (task unknown)") and titles[1].startswith("garments (task unknown)")


def test_what_is_called_otherwise_is_said(make_legacy, tmp_path):
    make_legacy({"Fisher": [0.03, 2.3], "random": [0.03, 2.3]}).to_csv(tmp_path / "old_TRIAL_0.csv")
    row = report.runs(report.read(tmp_path)).loc["old"]
    assert (row["task"], row["model"], row["fill"]) == ("old (task unknown)", "unknown", "unknown")
    assert row["note"] == "of an earlier study; renamed: Fisher -> fisher_batched"


def test_means_over_trials_are_called_so_and_are_no_network(make_legacy, tmp_path):
    losses = np.array([[0.02, 1.0, 2.2], [0.04, 1.2, 2.4]])
    for trial, values in enumerate(losses):
        make_legacy({"RANDOM": values}).to_csv(tmp_path / f"old_TRIAL_{trial}.csv")
    make_legacy({"RANDOM": losses.mean(0)}).to_csv(tmp_path / "old.csv")
    frame = report.read(tmp_path, chance_loss=2.3)
    assert sorted(set(frame["run"])) == ["old", "old (mean over 2 trials)"]
    assert report.table(frame[frame["run"] == "old"])["networks"].tolist() == [2]
    assert set(frame.loc[frame["seed"].isna(), "task"]) == {"old (mean over 2 trials)"}
    make_legacy({"RANDOM": losses.mean(0) + 0.5}).to_csv(tmp_path / "old.csv")  # another network: no mean of these
    assert set(report.read(tmp_path, chance_loss=2.3)["run"]) == {"old"}


def test_a_file_without_a_trial_says_what_it_may_be(make_legacy, tmp_path):
    make_legacy({"RANDOM": [0.03, 2.3]}).to_csv(tmp_path / "cifar10_medium.csv")
    assert "one network, or a mean over several" in report.runs(report.read(tmp_path)).loc["cifar10_medium", "note"]


def test_ones_own_results_stay_apart_from_those_that_came(make_grid, tmp_path):
    for folder, offset in (("data", 0.5), ("runs", 0.4)):
        (tmp_path / folder).mkdir()
        rows = make_grid({"a": offset, "b": 0.3}, seeds=3)
        rows.to_csv(tmp_path / folder / "same-name.csv", index=False)
        (tmp_path / folder / "same-name.json").write_text('{"classes": 10}')
    paths = {"shipped": [tmp_path / "data"], "yours": [tmp_path / "data", tmp_path / "runs", tmp_path / "none"]}
    frame = report.read_apart(paths)
    assert dict(frame.groupby("origin")["task"].first()) == {"shipped": "mnist", "yours": "mnist (yours)"}
    assert sorted(set(frame["run"])) == ["run", "run (yours)"]
    table = report.table(frame)
    assert set(table["networks"]) == {3} and len(table) == 4
    assert set(report.read_apart({"shipped": tmp_path / "data", "yours": tmp_path / "none"})["origin"]) == {"shipped"}
    assert set(report.read_apart({"shipped": tmp_path / "none", "yours": tmp_path / "runs"})["task"]) == {"mnist"}
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "night.log").write_text("a run that has no rows yet")
    assert set(report.read_apart({"shipped": tmp_path / "data", "yours": tmp_path / "begun"})["origin"]) == {"shipped"}
    (tmp_path / "begun" / "sequence.csv").write_text("run,penalty\none,plain\n")
    with pytest.warns(UserWarning, match="Left out"):
        frame = report.read_apart({"shipped": tmp_path / "data", "yours": tmp_path / "begun"})
    assert set(frame["origin"]) == {"shipped"}
    with pytest.raises(FileNotFoundError, match="none"):
        report.read_apart({"shipped": [tmp_path / "none"]})


OLD = legacy.REDEFINED["hessian"][1]


@pytest.mark.parametrize(
    "said, as_written",
    [
        ({"schema": 1}, False),
        ({"measures_sha256": {"hessian": OLD}}, False),
        ({"measures_sha256": {"hessian": "another", "obd": OLD}}, True),
        ({"schema": 2, "measures_sha256": {}}, True),  # a settings file that was lost and written anew
        (None, True),  # without one nothing is known
    ],
)
def test_a_measure_that_was_redefined_is_called_what_it_is_now(said, as_written, make_curve, write):
    names = ["obd", "hessian", "hessian:probes=3", "hessian:at=weights,probes=5"]
    path = write(pd.concat([make_curve([0, 1], measure=name) for name in names]))
    if said is not None:
        path.with_suffix(".json").write_text(json.dumps(said))
    frame = report.read(path)
    now = ["obd", "hessian:at=weights", "hessian:at=weights,probes=3", "hessian:at=weights,probes=5"]
    assert frame["measure"].unique().tolist() == (names if as_written else now)
    note = (
        "" if as_written else "renamed: hessian -> hessian:at=weights, hessian:probes=3 -> hessian:at=weights,probes=3"
    )
    assert report.runs(frame)["note"].tolist() == [note]


def test_of_a_run_that_was_continued_only_the_rows_of_before_are_renamed(make_curve, write):
    path = write(pd.concat([make_curve([0, 1], measure="hessian", seed=seed) for seed in range(3)]))
    made = [{"rows": 0}, {"rows": 2, "measures_sha256": {"obd": "another"}}]
    made.append({"rows": 4, "measures_sha256": {"hessian": "another"}})
    path.with_suffix(".json").write_text(json.dumps({"measures_sha256": {"hessian": OLD}, "provenance": made}))
    assert report.read(path)["measure"].tolist() == ["hessian:at=weights"] * 4 + ["hessian"] * 2


def test_old_and_new_rows_of_a_redefined_measure_are_two_measures(make_grid, write):
    for name, digest in (("old.csv", OLD), ("new.csv", "another")):
        path = write(make_grid({"hessian": 0.5, "random": 0.2}, seeds=2, run=name[:3]), name)
        path.with_suffix(".json").write_text(json.dumps({"measures_sha256": {"hessian": digest}}))
    assert set(report.read(path.parent)["measure"]) == {"hessian", "hessian:at=weights", "random"}
