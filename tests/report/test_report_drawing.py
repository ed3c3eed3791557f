"""Figures: what they show, that they leave nothing open, and the look of every measure."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import report
from report.drawing.axes import spread_out
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
    assert not figure.legends and [text.get_text() for text in figure.axes[0].texts] == []
    beside = [[text.get_text() for text in axis.texts] for axis in figure.axes[1::2]]
    assert all(sorted(names) == ["chance (2.303)", "magnitude", "random", "something_new"] for names in beside)
    assert figure.get_suptitle() == "mnist, mlp: mean of 3 networks; thin lines: each network"
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


def bands(axis):
    return [band.get_paths()[0].vertices[:, 1] for band in axis.collections if band.get_paths()]


def test_bands_are_of_five_networks_and_fewer_are_drawn(make_grid):
    frame = make_grid({"a": 0.5, "b": 0.4}, seeds=6, noise=0.2)
    enough, few = (report.curves(frame[frame["seed"] < seeds]).axes[0] for seeds in (5, 4))
    assert len(bands(enough)) == 2 and not bands(few)
    networks = [line for line in few.get_lines() if line.get_linewidth() == 0.5]
    assert len(networks) == 2 * 4 and not [line for line in enough.get_lines() if line.get_linewidth() == 0.5]
    one = frame[(frame["measure"] == "a") & (frame["seed"] == 2)].sort_values("threshold")["validation_loss"]
    assert any(np.allclose(line.get_ydata(), one) for line in networks)


def test_bands_end_where_the_metric_does(make_grid):
    frame = make_grid({"a": 0.5}, seeds=5, noise=0.3)
    frame["validation_accuracy"] = np.where(frame["seed"] == 0, 0.2, 1.0)
    axis = report.curves(frame, metric="validation_accuracy").axes[0]
    assert max(values.max() for values in bands(axis)) == 1.0
    frame["validation_loss"] = np.where(frame["seed"] == 0, 9.0, 0.1)
    assert min(values.min() for values in bands(report.curves(frame).axes[0])) > 0


def test_of_many_measures_the_first_ten_and_the_controls_are_told_apart(make_grid):
    names = [f"m{number:02d}" for number in range(14)]
    frame = make_grid({name: 0.9 - place / 20 for place, name in enumerate(names)} | {"random": 0.05}, noise=0.001)
    told = {text.get_text() for text in report.curves(frame).axes[0].texts}
    assert told == {*names[:10], "random", "chance (2.303)"}
    figure = report.curves(frame, highlight=["m12"])
    assert {text.get_text() for text in figure.axes[0].texts} == {"m12", "chance (2.303)"}
    assert figure.get_suptitle().replace("\n", " ").endswith("grey: the other measures")
    with pytest.raises(ValueError, match="received \\['obd'\\]"):
        report.curves(frame, highlight=["obd"])


def test_rows_in_which_all_measures_are_the_same_are_left_out_and_said(make_curve):
    rows = [make_curve([0, 0.2, 1], measure=name, level="layer", seed=seed) for name in "ab" for seed in range(2)]
    rows += [
        make_curve([0, 0.1 + place, 1], measure=name, seed=seed)
        for place, name in ((0, "a"), (0.5, "b"))
        for seed in range(2)
    ]
    figure = report.curves(pd.concat(rows))
    assert [axis.get_title() for axis in figure.axes] == ["weight, epoch 5"]
    assert "not shown: layer, where all measures are the same" in " ".join(figure.get_suptitle().split())
    assert [axis.get_title() for axis in report.curves(pd.concat(rows[:4])).axes] == ["layer, epoch 5"]


def test_names_beside_lines_stand_apart_in_the_order_of_the_lines(make_grid):
    names = [f"m{number:02d}" for number in range(12)]
    figure = report.curves(make_grid({name: 0.5 + place / 1000 for place, name in enumerate(names)}, noise=0.0))
    figure.draw_without_rendering()
    texts = [text for text in figure.axes[0].texts if text.get_text() in names]
    boxes = [text.get_window_extent() for text in texts]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    heights = {text.get_text(): box.y0 for text, box in zip(texts, boxes, strict=True)}
    assert sorted(heights, key=heights.get, reverse=True) == names  # what loses most stands on top


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=12), st.floats(0, 0.5))
def test_places_are_spread_out_by_no_more_than_it_takes(places, apart):
    from scipy.optimize import minimize

    places = sorted(places)
    found = spread_out(places, apart)
    assert (np.diff(found) >= apart - 1e-9).all()
    if len(places) <= 3:
        limits = [{"type": "ineq", "fun": lambda x, i=i: x[i + 1] - x[i] - apart} for i in range(len(places) - 1)]
        slow = minimize(lambda x: np.sum((x - places) ** 2), np.arange(len(places)) * 1.0, constraints=limits)
        np.testing.assert_allclose(found, slow.x, atol=1e-3)


def test_finished_numbers_give_the_same_figure(frame):
    means = report.curve_means(frame)
    for one, other in zip(report.curves(frame).axes, report.curves(means).axes, strict=True):
        assert [line.get_label() for line in one.get_lines()] == [line.get_label() for line in other.get_lines()]
        for line, again in zip(one.get_lines(), other.get_lines(), strict=True):
            np.testing.assert_array_equal(line.get_ydata(), again.get_ydata())


def test_a_figure_of_ones_own_has_room_for_curves(frame):
    figure, axes = plt.subplots(1, 2)
    plt.close(figure)
    assert report.curves(frame, levels=["unit"], ax=axes) is figure
    assert [axis.get_title().split("\n")[-1] for axis in axes] == ["unit, epoch 1", "unit, epoch 5"]
    assert axes[0].get_title().startswith("mnist, mlp: mean of 3 networks")
    assert axes[0].get_ylim() == axes[1].get_ylim() and set(lines(axes[1])) >= {"magnitude", "random"}
    with pytest.raises(ValueError, match=r"one for each of 3 x 2 panels, received 2"):
        report.curves(frame, ax=axes)


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
    boxes = [axis.get_tightbbox() for axis in figure.axes]
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
