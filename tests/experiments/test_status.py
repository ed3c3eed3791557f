"""How far runs are, told from files."""

import json
import subprocess
import sys

import pytest
from test_locks import HOLDER, ROOT

import experiments
from experiments.__main__ import main as command
from experiments.storage.locks import Lock

SETTINGS = {
    "task": "iris", "model": "mlp", "measures": ["a", "b"], "levels": ["weight"], "reductions": ["mean"],
    "scopes": ["layer"], "thresholds": [0.0, 0.5, 1.0], "epochs": 5, "every": 2, "seeds": [0, 1],
}  # fmt: skip
HEADER = "run,seed,epoch,measure,level,reduction,scope,fill,threshold,validation_loss,status\n"


def rows(seed, epochs=(2, 4, 5), status="ok"):
    return "".join(
        f"run,{seed},{epoch},{measure},weight,mean,layer,zero,{threshold},0.1,{status}\n"
        for epoch in epochs for measure in "ab" for threshold in (0.0, 0.5, 1.0)
    )  # fmt: skip


@pytest.fixture
def half(tmp_path):
    """A grid of two seeds of 18 cells each, of which one is done."""
    (tmp_path / "run.json").write_text(json.dumps({"schema": 1, "settings": SETTINGS}))
    (tmp_path / "run.csv").write_text(HEADER + rows(0))
    return tmp_path


def only(folder):
    (row,) = experiments.status(folder).to_dict("records")
    return row


def test_cells_are_counted(half):
    row = only(half)
    assert (row["run"], row["kind"], row["state"]) == ("run", "threshold_grid", "unfinished")
    assert (row["done"], row["missing"], row["failed"], row["reason"]) == (18, 18, 0, "")
    (half / "run+seed-1.csv").write_text(HEADER + rows(1, (2,), "validation loss is nan") + "run,1,4,a,wei")
    row = only(half)
    assert (row["done"], row["missing"], row["failed"], row["reason"]) == (24, 12, 6, "validation loss is nan")
    (half / "run.csv").write_text(HEADER + rows(0) + rows(1))
    (half / "run+seed-1.csv").unlink()
    row = only(half)
    assert (row["missing"], row["state"]) == (0, "finished") and row["minutes_left"] != row["minutes_left"]


def test_a_settings_file_says_which_study_it_is_of_and_what_was_asked_for(tmp_path):
    about = {"kind": "anything", "key": ["city", "year"], "asked": 5, "settings": {}}
    (tmp_path / "run.json").write_text(json.dumps(about))
    (tmp_path / "run.csv").write_text("city,year,status\nRome,1,ok\nRome,2,no water\n")
    row = only(tmp_path)
    assert (row["kind"], row["done"], row["missing"], row["failed"]) == ("anything", 2, 3, 1)
    assert (row["reason"], row["state"]) == ("no water", "unfinished")


def test_a_seed_that_was_begun_counts_though_others_were_asked_for_since(half):
    (half / "run.csv").write_text(HEADER + rows(7, (2,)))
    assert only(half)["missing"] == 2 * 18 + 12


def test_who_works_on_it_how_fast_and_how_it_ended(half):
    folder = half / "checkpoints"
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"True\n"
    note = json.loads((folder / "run.holder").read_text())
    (folder / "run.holder").write_text(json.dumps({**note, "since": "2020-01-01T00:00:00+00:00", "done": 6}))
    row = only(half)
    assert row["state"].startswith(f"process {process.pid} of ") and 0 < row["per_minute"] < 1e-3
    assert row["minutes_left"] == pytest.approx(18 / row["per_minute"]) and row["reason"] == ""
    process.kill()
    process.communicate()
    row = only(half)
    assert row["state"] == "stopped" and row["per_minute"] != row["per_minute"]
    assert row["reason"].startswith(f"process {process.pid} of ") and row["reason"].endswith("ended before it was done")
    trial = Lock(folder / "run", "seed-1")
    assert trial.take(done=18)
    assert str(note["host"]) in only(half)["state"]
    trial.release("OSError: No space left on device")
    (folder / "run.holder").unlink()
    assert (only(half)["state"], only(half)["reason"]) == ("stopped", "OSError: No space left on device")


def test_sequential_runs_that_were_begun_are_counted(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"settings": {"sequence": "split_mnist"}}))
    keys = ["joint,none,0.0,0,2,1", "joint,none,0.0,0,2,2", "none,none,0.0,0,1,1"]
    text = "measure,penalty,strength,seed,after_task,on_task,status\n" + "".join(f"{key},ok\n" for key in keys)
    (tmp_path / "run.csv").write_text(text)
    row = only(tmp_path)
    assert (row["kind"], row["done"], row["missing"]) == ("sequential", 3, 2)


def test_runs_of_fine_tuning_that_were_begun_are_counted(tmp_path):
    settings = {"old": "prose", "new": "python", "steps": 10, "every": 4}
    (tmp_path / "run.json").write_text(json.dumps({"settings": settings}))
    keys = ["none,none,0.0,0,0", "none,none,0.0,0,4", "mas,plain,1.0,0,0"]
    text = "measure,penalty,strength,seed,step,status\n" + "".join(f"{key},ok\n" for key in keys)
    (tmp_path / "run.csv").write_text(text)
    (tmp_path / "run-importances.csv").write_text("measure,seed,variable\nmas,0,dense/kernel\n")
    row = only(tmp_path)
    # Two runs, each evaluated at 0, 4, 8 and 10.
    assert (row["kind"], row["done"], row["missing"], row["state"]) == ("fine_tuning", 3, 5, "unfinished")


def test_the_shell_prints_it_without_a_backend(half):
    (half / "other.json").write_text("{}")
    code = "import sys, experiments.__main__ as m; m.main(sys.argv[1:]); assert 'keras' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code, str(half)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "unfinished" in done.stdout and len(done.stdout.splitlines()) == 2
    with pytest.raises(FileNotFoundError, match="Expected a folder with results"):
        experiments.status(half / "nothing")


def test_what_is_written_here_again_to_load_no_framework_is_what_the_runs_write():
    from experiments import fine_tuning, sequential, threshold_grid
    from experiments.storage import first_version, store
    from report.tables import reading

    studies = {made.__name__.rpartition(".")[2]: made.KEY for made in (threshold_grid, sequential, fine_tuning)}
    assert first_version.KEYS == studies
    assert reading.SCHEMA == store.SCHEMA


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command([]) == 1 and "received 'runs'" in capsys.readouterr().err
    (tmp_path / "runs").mkdir()
    (tmp_path / "others").mkdir()
    assert command(["runs", "others"]) == 0 and capsys.readouterr().out == "No runs yet.\n" * 2
    assert command(["networks"]) == 0 and capsys.readouterr().out == "No networks yet.\n"
    for arguments in (["--help"], ["networks", "-h"]):
        with pytest.raises(SystemExit) as end:
            command(arguments)
        assert end.value.code == 0 and "python -m experiments networks runs" in capsys.readouterr().out
