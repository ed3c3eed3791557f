"""Figures: what they show, that they leave nothing open, and the look of every measure."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest

import report
from report.drawing.style import INK, STYLES


@pytest.fixture(autouse=True)
def nothing_left_open():
    before = plt.rcParams["font.size"]
    yield
    assert plt.get_fignums() == []
    assert plt.rcParams["font.size"] == before


@pytest.fixture
def frame(make_grid):
    offsets = {"random": 0.2, "magnitude": 0.6, "something_new": 0.4}
    return make_grid(offsets, seeds=3, epochs=(1, 5), levels=("weight", "unit", "layer"))


def lines(axis):
    return {line.get_label(): line for line in axis.get_lines() if not line.get_label().startswith("_")}


def test_panels_are_levels_by_epochs(frame):
    figure = report.curves(frame)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == [f"{level}, epoch {epoch}" for level in ("weight", "unit", "layer") for epoch in (1, 5)]
    assert len(figure.legends) == 1
    assert {axis.get_ylim() for axis in figure.axes} == {figure.axes[0].get_ylim()}
    assert figure.axes[0].get_ylabel() == "validation loss (nats)"
    assert figure.axes[-1].get_xlabel() == "fraction of weights replaced"


def test_line_is_the_mean_and_chance_is_dashed(frame):
    figure = report.curves(frame, levels=["unit"], epochs=[5])
    drawn = lines(figure.axes[0])
    assert list(drawn) == ["magnitude", "random", "something_new", "chance (2.303)"]
    rows = frame[(frame["level"] == "unit") & (frame["epoch"] == 5) & (frame["measure"] == "random")]
    expected = rows.groupby("threshold")["validation_loss"].mean()
    np.testing.assert_allclose(drawn["random"].get_ydata(), expected)
    assert drawn["chance (2.303)"].get_linestyle() == "--"


def test_order_and_choice_are_the_callers(frame):
    figure = report.curves(frame, levels=["unit", "weight"], epochs=[5], measures=["random", "magnitude"])
    assert [axis.get_title() for axis in figure.axes] == ["unit, epoch 5", "weight, epoch 5"]
    assert list(lines(figure.axes[0]))[:2] == ["random", "magnitude"]


def test_log_axis_only_when_the_range_needs_it(frame, make_grid):
    assert report.curves(frame).axes[0].get_yscale() == "log"
    assert report.curves(frame, metric="validation_accuracy").axes[0].get_yscale() == "linear"
    assert report.curves(make_grid({"a": 0.5}, start=1.0)).axes[0].get_yscale() == "linear"


def test_band_needs_two_networks(frame):
    def widths(figure):
        return [np.ptp(band.get_paths()[0].vertices[:, 1]) for band in figure.axes[0].collections if band.get_paths()]

    assert len(widths(report.curves(frame))) == 3
    assert not widths(report.curves(frame[frame["seed"] == 0]))


def test_regression_is_labelled_as_such(frame):
    regression = frame.assign(chance_accuracy=np.nan)
    assert report.curves(regression).axes[0].get_ylabel() == "validation loss"
    assert report.curves(regression, metric="validation_accuracy").axes[0].get_ylabel() == "mean absolute error"


def test_nan_breaks_the_line(frame):
    frame.loc[frame["threshold"] == 0.5, "validation_loss"] = np.nan
    drawn = lines(report.curves(frame).axes[0])["random"]
    assert np.isnan(drawn.get_ydata()).tolist() == [t == 0.5 for t in drawn.get_xdata()]


def test_unknown_choices_are_refused(frame):
    with pytest.raises(ValueError, match=r"levels among layer, unit, weight, received \['filter'\]"):
        report.curves(frame, levels=["filter"])
    with pytest.raises(ValueError, match="received 'loss'"):
        report.curves(frame, metric="loss")
    with pytest.raises(ValueError, match="at least one row"):
        report.curves(frame.head(0))


def test_nothing_overlaps(frame):
    figure = report.curves(frame)
    figure.draw_without_rendering()
    boxes = [axis.get_tightbbox() for axis in figure.axes] + [figure.legends[0].get_window_extent()]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def test_save_writes_each_format(frame, tmp_path):
    files = report.save(report.curves(frame, epochs=[5]), tmp_path / "figures" / "v1.2")
    assert [file.name for file in files] == ["v1.2.png", "v1.2.pdf"]
    assert all(file.stat().st_size > 1000 for file in files)
    with pytest.raises(ValueError, match=r"Write \['png'\]"):
        report.save(report.curves(frame, epochs=[5]), tmp_path / "x", "png")
    with pytest.raises(ValueError, match="received doc"):
        report.save(report.curves(frame, epochs=[5]), tmp_path / "x", ["doc"])


def test_styles_differ_and_depend_on_the_name_alone():
    assert len(set(STYLES.values())) == len(STYLES)
    for one, other in itertools.combinations(STYLES.values(), 2):
        assert one[0] != other[0] or (one[1] != other[1] and one[2] != other[2])
    assert report.style("something_new") == report.style("something_new")
    assert report.style("something_new") != report.style("something_else")


# Machado, Oliveira, Fernandes 2009: full colour-vision deficiency as matrices on linear RGB.
DEFICIENCIES = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_colours_stay_apart_for_colour_blind_readers(deficiency):
    """Measured in CIELAB, where a difference of about 2 is just visible side by side."""

    def lab(colour):
        rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        seen = np.clip(np.array(DEFICIENCIES[deficiency]) @ linear, 0, 1)
        to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
        x, y, z = np.cbrt(to_xyz @ seen / np.array([0.9505, 1, 1.089]))
        return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])

    apart = [np.linalg.norm(lab(one) - lab(other)) for one, other in itertools.combinations(INK.values(), 2)]
    assert min(apart) > 8
