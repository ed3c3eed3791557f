"""How far a run is, in terminals, notebooks and logs, and the one sentence of an interrupt."""

import io
import re
import subprocess
import sys

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from experiments import progress, study, threshold_grid
from experiments.progress import Interrupted, Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Let time pass by hand: clock[0] is in seconds."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_log_has_a_line_a_minute(clock, capsys):
    shown = Progress(200, "cell")
    for second in range(1, 151):
        clock[0] = float(second)
        shown.at(f"seed 0, epoch {second}")
        shown.to(second)
    shown.to(200)
    shown.close()
    lines = [re.sub(r"^\d\d \w+ \d\d:\d\d ", "", line) for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        "59 of 200 cells, 59.0 a minute, 3 min left, now at seed 0, epoch 60",
        "119 of 200 cells, 59.5 a minute, 2 min left, now at seed 0, epoch 120",
        "200 of 200 cells, 80.0 a minute",
    ]


def test_long_and_unknown_times(clock, capsys):
    shown = Progress(1000, "run")
    clock[0] = 61.0
    shown.at("epoch 1")
    clock[0] = 600.0
    shown.to(100)
    said = capsys.readouterr().err
    assert "0 of 1,000 runs, 0.0 a minute, time left unknown, now at epoch 1" in said
    assert "100 of 1,000 runs, 10.0 a minute, 1 h 30 min left" in said


def test_a_log_of_its_own(clock, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv(progress.LOG, str(tmp_path / "a.log"))
    shown = Progress(2, "run")
    clock[0] = 30.0
    shown.to(2)
    shown.close()
    assert (tmp_path / "a.log").read_text().count("2 of 2 runs, 4.0 a minute\n") == 1
    assert capsys.readouterr() == ("", "")


def test_a_terminal_has_a_bar_alone(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    shown = Progress(4, "cell")
    shown.at("seed 3")
    shown.to(3)
    shown.to(4)
    shown.close()
    said = sys.stderr.getvalue()
    assert "cells: 100%" in said and "4/4" in said and "a minute" not in said


def test_nothing_is_shown_if_nothing_is_to_be(clock, capsys):
    shown = Progress(4, "cell", shown=False)
    clock[0] = 100.0
    shown.to(4)
    shown.at("seed")
    shown.close()
    assert capsys.readouterr() == ("", "")


@pytest.fixture
def kernel(monkeypatch):
    """Pretend that this is a notebook's kernel, whose cells are counted."""
    shell = type("Shell", (), {"kernel": object(), "execution_count": 1})()
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    monkeypatch.setattr(progress._Display, "_cell", None)
    InteractiveShell.instance()
    yield shell
    InteractiveShell.clear_instance()


def test_a_cell_of_a_notebook_has_one_line_of_text(kernel):
    with capture_output() as shown:
        for _ in range(3):
            bar = Progress(2, "cell")
            bar.to(2)
            bar.close()
        kernel.execution_count = 2
        Progress(5, "run").close()
    new = [output for output in shown.outputs if not output.update]
    assert [set(output.data) for output in new] == [{"text/plain"}] * 2
    assert new[0].data["text/plain"].startswith("cells:   0%|") and new[1].data["text/plain"].startswith("runs:   0%|")
    last = [output.data["text/plain"] for output in shown.outputs if output.transient == new[0].transient][-1]
    assert last.startswith("cells: 100%|██████████| 2/2 [")
    assert (shown.stdout, shown.stderr) == ("", "")


def test_an_interrupt_is_a_sentence_in_a_notebook(kernel):
    error = Interrupted(1101, "cell")
    assert error._render_traceback_() == ["Interrupted; 1,101 cells are kept. To go on, run this cell again."]


INTERRUPTED = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which whoever runs the tests may ignore
from experiments.progress import Interrupted
from experiments.threshold_grid import Grid

class Interrupting(Grid):
    def finished(self, count=1):
        super().finished(count)
        os.kill(os.getpid(), signal.SIGINT)

settings = {"measures": ["magnitude", "random"], "levels": ["weight"], "thresholds": 3, "epochs": 1}
grid = Interrupting("iris", out=sys.argv[1], **settings)
try:
    grid.run(progress=False)
except Interrupted as error:
    print(error)
grid.asking(seeds=[1]).run(progress=False)
print("not reached")
"""


def test_an_interrupted_script_ends_with_a_sentence(tmp_path):
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    sentence = "Interrupted; 3 cells are kept. To go on, run it again.\n"
    assert (done.stdout, done.stderr, done.returncode) == (sentence, sentence, 130)


def test_other_errors_are_shown_as_ever():
    source = "from experiments.progress import Interrupted\nInterrupted(1, 'cell')\n1 / 0"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=120)
    assert done.stderr.startswith("Traceback") and "ZeroDivisionError" in done.stderr and done.returncode == 1


def test_what_other_processes_did_is_counted(tmp_path, monkeypatch, capsys):
    settings = {"measures": ["magnitude"], "levels": ["weight"], "thresholds": 3, "epochs": 1, "out": tmp_path}
    grid, other = (threshold_grid.Grid("iris", **settings) for _ in range(2))
    own = study.start.start
    monkeypatch.setattr(
        study.start, "start", lambda job, *how: own(job, *how) if job is other else other.run(progress=False)
    )
    grid.run()
    assert "3 of 3 cells" in capsys.readouterr().err
