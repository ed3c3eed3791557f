"""Every figure draws into axes that are given, and what a notebook holds of it is small."""

import base64
import io
import pathlib

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

import report
from report.drawing.axes import panels
from report.drawing.picture import png

DATA = [pathlib.Path(__file__).parents[2] / "data" / name for name in ("sequential", "finetuning", "agreement")]


def of_one(frame):
    return frame[frame["run"] == frame["run"].max()]


@pytest.fixture(scope="module")
def figures():
    """Figures of the other wings, of results that came with the project: name -> (draw, what it draws)."""
    runs, tuned = report.read_sequential(DATA[0]), report.read_fine_tuning(DATA[1])
    agreement = report.read_agreement(DATA[2])
    importances = report.read_importances(DATA[1])
    return {
        "strength_curves": (report.strength_curves, of_one(runs)),
        "accuracy_matrices": (report.accuracy_matrices, of_one(runs)),
        "stability_trace": (report.stability_trace, of_one(runs)),
        "plot_frontiers": (report.plot_frontiers, of_one(tuned)),
        "perplexity_over_steps": (report.perplexity_over_steps, of_one(tuned)),
        "meter_trace": (report.meter_trace, of_one(tuned)),
        "importance_spread": (report.importance_spread, of_one(importances)),
        "plot_agreement_with": (report.plot_agreement_with, report.agreement_with(agreement)),
        "agreement_matrix": (report.agreement_matrix, agreement),
    }


NAMES = [
    "strength_curves", "accuracy_matrices", "stability_trace", "plot_frontiers", "perplexity_over_steps", "meter_trace",
    "importance_spread", "plot_agreement_with", "agreement_matrix",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_draws_into_axes_that_are_given(figures, name):
    draw, what = figures[name]
    own = draw(what)
    number = len(own.axes)
    figure, axes = plt.subplots(1, number, squeeze=False)
    plt.close(figure)
    assert draw(what, ax=axes) is figure
    assert not figure.get_suptitle() and not figure.legends
    for mine, given in zip(own.axes, axes.flat, strict=True):
        assert len(mine.get_lines()) == len(given.get_lines()) and len(mine.texts) == len(given.texts)
    assert own.get_suptitle() and axes[0, 0].get_title().startswith(own.get_suptitle().split("\n")[0][:20])
    with pytest.raises(ValueError, match=f"one for each of .* panels, received {number + 1}"):
        draw(what, ax=np.array([*axes.flat, axes[0, 0]]))


def test_given_axes_share_what_own_ones_would():
    figure, axes = plt.subplots(1, 2)
    plt.close(figure)
    assert panels(1, 2, (4, 2), axes, sharex=True, sharey=True)[0] is figure
    axes[0].set_xlim(0, 7)
    assert axes[1].get_xlim() == (0, 7)


def test_a_picture_is_small_and_true():
    figure, axes = panels(1, 1, (5, 3))
    for place in range(9):
        axes[0, 0].fill_between([0, 1], place, place + 1, color=f"C{place}")
    whole = io.BytesIO()
    figure.savefig(whole, format="png", dpi=100, bbox_inches="tight")
    small = png(figure, dpi=100)
    assert len(small) < len(whole.getvalue())
    one, other = (np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), int) for data in (whole.getvalue(), small))
    assert one.shape == other.shape and np.abs(one - other).max() <= 24


def test_a_notebook_shows_the_small_picture_with_words(monkeypatch):
    from IPython import display

    shown = []
    monkeypatch.setattr(display, "display", lambda *data, **options: shown.append((data, options)))
    figure, _ = panels(1, 1, (2, 2))
    figure.suptitle("what it\nshows")
    assert isinstance(figure, Figure) and figure._ipython_display_() is None
    ((bundle,), options) = shown[0]
    assert options == {"raw": True} and bundle["text/plain"] == "<figure: what it shows>"
    assert base64.b64decode(bundle["image/png"]) == png(figure)
