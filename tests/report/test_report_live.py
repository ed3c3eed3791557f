"""The refreshing figure: one output, not too often, silent outside a notebook."""

import matplotlib.pyplot as plt
import pytest

import report
from report.grid import live as live_module


class Screen:
    """Stands for the notebook: remembers what was displayed."""

    def __init__(self):
        self.outputs = []
        self.updates = 0

    def display(self, image, display_id):
        self.outputs.append(image)
        return self

    def update(self, image):
        self.outputs[-1] = image
        self.updates += 1


@pytest.fixture
def screen(monkeypatch):
    made = Screen()
    monkeypatch.setattr(live_module, "in_notebook", lambda: True)
    monkeypatch.setattr("IPython.display.display", made.display)
    return made


@pytest.fixture
def frame(make_grid):
    return make_grid({"a": 0.3, "b": 0.6}, seeds=2)


def test_leaves_one_output_with_the_last_rows(screen, frame):
    with report.Live(seconds=0) as live:
        live(frame.head(0))
        live(frame.head(30))
        live(frame)
    assert len(screen.outputs) == 1
    assert screen.outputs[0].data.startswith(b"\x89PNG")
    assert plt.get_fignums() == []


def test_draws_at_most_every_few_seconds(screen, frame):
    live = report.Live(seconds=60)
    for rows in range(20, 44):
        live(frame.head(rows))
    assert screen.updates == 0
    live.close()
    assert screen.updates == 1


def test_is_silent_outside_a_notebook(frame, capsys):
    with report.Live(levels=["weight"]) as live:
        live(frame)
    figure = live.close()
    assert capsys.readouterr().out == ""
    assert figure.axes[0].get_title() == "weight, epoch 5"


def test_chance_can_be_given(frame):
    live = report.Live(chance_loss=2.0, chance_accuracy=0.1)
    live(frame.drop(columns=["chance_loss", "chance_accuracy"]))
    axis = live.close().axes[0]
    assert "chance (2)" in axis.get_legend_handles_labels()[1]
    assert axis.get_ylabel() == "validation loss (nats)"


def test_no_rows_no_figure():
    assert report.Live().close() is None
