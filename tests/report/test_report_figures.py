"""Figures of scores, and tables as LaTeX."""

import io
import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import report
from report.grid.figures import rank_correlation, setting_means


@pytest.fixture(autouse=True)
def nothing_left_open():
    yield
    assert plt.get_fignums() == []


@pytest.fixture(scope="module")
def scores():
    from report_frames import curve, grid

    offsets = {"random": 0.2, "magnitude": 0.6, "fisher": 0.4}
    first = grid(offsets, seeds=6, epochs=(1, 5), levels=("weight", "unit"))
    second = grid({"random": 0.2, "magnitude": 0.3, "fisher": 0.5}, seeds=6, epochs=(1, 5), task="digits", run="b")
    stuck = [curve([0] * 10 + [0.02], measure="stuck", seed=seed, replaced_fraction=np.nan) for seed in range(6)]
    return report.scores(pd.concat([first, second, *stuck]))


def test_heatmap_shows_means_best_on_top(scores):
    figure = report.heatmap(scores)
    axis = figure.axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["magnitude", "fisher", "random", "stuck"]
    assert [label.get_text() for label in axis.get_xticklabels()] == [
        f"{name}\n6 networks" for name in ("digits\nweight", "mnist\nweight", "mnist\nunit")
    ]
    means = setting_means(scores)
    assert [text.get_text() for text in axis.texts][:3] == [f"{mean:.2f}" for mean in means.loc["magnitude"]]
    assert [text.get_text() for text in axis.texts][-3:] == ["–", "–", "–"]
    bold = [text.get_fontweight() == "bold" for text in axis.texts]
    assert bold == [False, True, True, True, False, False] + [False] * 6


def test_over_epochs_has_a_panel_for_each_setting(scores):
    figure = report.over_epochs(scores)
    panels = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title() for axis in panels] == [
        f"{name}, 6 networks" for name in ("weight, digits", "weight, mnist", "unit, mnist")
    ]
    lines = {line.get_label(): line for line in panels[1].get_lines() if not line.get_label().startswith("_")}
    assert list(lines) == ["fisher", "magnitude", "random"]
    assert sorted(text.get_text() for text in panels[1].texts) == ["fisher", "magnitude", "random"]
    expected = scores.query("task == 'mnist' and level == 'weight' and measure == 'fisher'").groupby("epoch")["area"]
    np.testing.assert_allclose(lines["fisher"].get_ydata(), expected.mean())


def test_nothing_to_draw_is_said(make_grid):
    lost = make_grid({"a": 0.5, "b": 0.4}).assign(chance_loss=np.nan)
    with pytest.raises(ValueError, match="at least one complete network"):
        report.over_epochs(lost)
    assert not report.moves(lost)


def test_rank_correlation_between_settings_by_hand(scores):
    found = rank_correlation(scores, "settings")
    # digits: fisher, magnitude, random; mnist: magnitude, fisher, random. One exchange of neighbours of three is 1/2.
    assert found.loc["digits\nweight", "mnist\nweight"] == pytest.approx(0.5)
    assert found.loc["mnist\nunit", "mnist\nweight"] == pytest.approx(1)


def test_rank_correlation_between_measures(make_grid):
    frame = make_grid({"a": 0.5, "b": 0.3}, seeds=8, noise=0.05)
    areas = report.scores(frame).pivot(index="seed", columns="measure", values="area")
    expected = areas.rank().corr().loc["a", "b"]
    assert rank_correlation(frame).loc["a", "b"] == pytest.approx(expected)
    with pytest.raises(ValueError, match="received 'tasks'"):
        rank_correlation(frame, "tasks")


def test_agreement_draws_both(scores):
    for between in ("measures", "settings"):
        assert between in report.rank_agreement(scores, between).get_suptitle()


def test_critical_difference_bars_join_what_is_not_told_apart(make_grid):
    frame = make_grid({"best": 0.8, "good": 0.41, "same": 0.4, "worst": 0.1}, seeds=12, noise=0.02)
    ordering = report.order(frame, resamples=99)
    axis = report.critical_difference(ordering).axes[0]
    bars = [line for line in axis.get_lines() if line.get_linewidth() == 2 and len(set(line.get_ydata())) == 1]
    assert len(bars) == 1
    ranks = ordering.table.set_index("measure")["mean_rank"]
    assert sorted(bars[0].get_xdata()) == sorted(ranks[["good", "same"]])
    assert axis.get_title() == "mnist, mlp, weight: mean rank over 12 networks"
    colours = {text.get_text().split(" (")[0]: text.get_color() for text in axis.texts}
    assert colours["best"] == report.style("best")["color"]


def test_every_name_and_bar_of_the_diagram_has_a_line_of_its_own(make_grid):
    many = make_grid({f"m{number:02}": 0.2 + 0.008 * number for number in range(34)}, seeds=16, noise=0.02)
    few = make_grid({f"m{number:02}": 0.2 + 0.05 * number for number in range(4)}, seeds=16, noise=0.02)
    figure = report.critical_difference(report.order(pd.concat([many, few.assign(level="unit")]), resamples=9))
    figure.savefig(io.BytesIO())
    lines = [axis.get_window_extent().height / abs(np.diff(axis.get_ylim())[0]) for axis in figure.axes]
    height = max(text.get_fontsize() for text in figure.axes[0].texts) / 72 * figure.dpi
    assert len(lines) == 2 and all(height < line < 5 * height for line in lines)


def test_critical_difference_refuses_what_it_cannot_draw(make_grid):
    frame = make_grid({"a": 0.8, "b": 0.5, "c": 0.2}, seeds=8)
    with pytest.raises(ValueError, match="against one measure"):
        report.critical_difference(report.order(frame, against="a", resamples=9))
    with pytest.raises(ValueError, match="enough networks to tell them apart"):
        report.critical_difference(report.order(frame[frame["seed"] < 4], resamples=9))


def test_bars_of_the_diagram_are_the_cliques_of_the_tests(make_grid):
    """Every set of measures of which no two are told apart, and no other, has a bar, whose dots are its members."""
    offsets = {name: 0.3 + 0.012 * place for place, name in enumerate("abcdefg")}
    ordering = report.order(make_grid(offsets, seeds=12, noise=0.02, random=np.random.default_rng(1)), resamples=9)
    axis = report.critical_difference(ordering, {"level": "weight"}).axes[0]
    bars = [line for line in axis.get_lines() if line.get_marker() == "o" and len(set(line.get_ydata())) == 1]
    ranks = ordering.table.set_index("measure")["mean_rank"]
    near = {frozenset(pair) for pair in ordering.pairs.query("p_holm > 0.05")[["better", "worse"]].to_numpy()}
    sets = [
        frozenset(names) for size in range(2, 8) for names in itertools.combinations(offsets, size)
        if all(frozenset(pair) in near for pair in itertools.combinations(names, 2))
    ]  # fmt: skip
    cliques = {names for names in sets if not any(names < other for other in sets)}
    assert 1 < len(cliques) and sorted(sorted(bar.get_xdata()) for bar in bars) == sorted(
        sorted(ranks[list(names)]) for names in cliques
    )


def test_settings_where_all_score_the_same_are_left_out_and_said(make_grid):
    alike = pd.concat([make_grid({name: 0.5}, noise=0, level="layer") for name in "abc"])
    frame = pd.concat([make_grid({"a": 0.3, "b": 0.5, "c": 0.4}), alike])
    figure = report.heatmap(frame)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["weight\n10 networks"]
    assert figure.get_suptitle().replace("\n", " ").endswith("not shown: layer, where all measures score the same")
    assert len(report.heatmap(alike).axes[0].get_xticklabels()) == 1  # if that is all there is, it is shown
    assert list(rank_correlation(frame, "settings")) == ["weight"]


def test_placings_are_the_ranks_and_say_where_no_test_can_help(make_grid):
    enough = make_grid({"a": 0.3, "b": 0.6, "c": 0.45}, seeds=9)
    few = make_grid({"a": 0.6, "b": 0.3, "c": 0.45}, seeds=3, task="digits", run="b")
    ordering = report.order(pd.concat([enough, few]), resamples=9)
    axis = report.placings(ordering).axes[0]
    headings = [label.get_text() for label in axis.get_xticklabels()]
    assert headings == ["digits\nmlp\nweight\n3 networks*", "mnist\nmlp\nweight\n9 networks"]
    rows = [label.get_text() for label in axis.get_yticklabels()]
    places = np.reshape([int(text.get_text()) for text in axis.texts], (3, 2))
    for column, task in enumerate(["digits", "mnist"]):
        known = ordering.table[ordering.table["task"] == task].set_index("measure")["rank"]
        assert dict(zip(rows, places[:, column], strict=True)) == dict(known.astype(int))


FIGURES = {
    "heatmap": (report.heatmap, report.setting_means),
    "epochs": (report.over_epochs, report.epoch_means),
    "agreement": (report.rank_agreement, report.rank_correlation),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_take_finished_numbers_and_axes(make_grid, name):
    draw, compute = FIGURES[name]
    frame = make_grid({"a": 0.8, "b": 0.5, "c": 0.2}, seeds=6, epochs=(1, 2))
    figure, axis = plt.subplots()
    plt.close(figure)
    assert draw(compute(frame), ax=axis) is figure
    own = draw(frame).axes[0]
    assert [text.get_text() for text in axis.texts] == [text.get_text() for text in own.texts]
    assert not figure.legends and not figure.get_suptitle() and axis.get_title()


def test_figures_of_an_ordering_take_axes(make_grid):
    ordering = report.order(make_grid({"a": 0.8, "b": 0.5, "c": 0.2}, seeds=8), resamples=9)
    for draw in (report.critical_difference, report.placings):
        figure, axis = plt.subplots()
        plt.close(figure)
        assert draw(ordering, ax=axis) is figure and axis.texts


def test_one_checkpoint_makes_no_line(make_grid):
    with pytest.raises(ValueError, match="several epochs"):
        report.over_epochs(make_grid({"a": 0.8, "b": 0.5}, seeds=3))
    assert not report.moves(make_grid({"a": 0.8, "b": 0.5}, seeds=3))
    several = make_grid({"a": 0.8, "b": 0.5}, seeds=3, epochs=(1, 2))
    assert report.moves(several) and report.moves(report.scores(several))


@pytest.mark.parametrize("draw", [report.heatmap, report.over_epochs, report.rank_agreement])
def test_rows_and_scores_give_the_same_figure(make_grid, draw):
    frame = make_grid({"a": 0.8, "b": 0.5, "c": 0.2}, seeds=3, epochs=(1, 2))

    def texts(figure):
        return [text.get_text() for axis in figure.axes for text in (*axis.texts, axis.title)]

    assert texts(draw(frame)) == texts(draw(report.scores(frame)))


def test_nothing_overlaps(scores):
    figure = report.over_epochs(scores)
    figure.draw_without_rendering()
    boxes = [axis.get_tightbbox() for axis in figure.axes if axis.get_visible()]
    boxes += [text.get_window_extent() for axis in figure.axes[:1] for text in axis.texts]
    boxes = boxes[1:]  # the first panel's holds its names
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def test_latex_merges_intervals_and_protects_names():
    frame = pd.DataFrame(
        {"measure": ["weight_change", "50%"], "area": [0.25, np.nan], "area_low": [0.2, np.nan], "area_high": [0.3, 1]}
    )
    lines = report.latex(frame.assign(networks=[10, 5]), digits=2).splitlines()
    assert lines[0] == r"\begin{tabular}{lrr}"
    assert lines[2] == r"measure & area & networks \\"
    assert lines[4] == r"weight\_change & 0.25 [0.20, 0.30] & 10 \\"
    assert lines[5] == r"50\% & -- & 5 \\"


def test_latex_with_a_caption_is_a_float(make_grid):
    text = report.latex(report.table(make_grid({"a": 0.5}, seeds=2)), caption="All measures", label="all")
    assert text.startswith("\\begin{table}\n\\centering\n\\caption{All measures}\n\\label{all}\n\\begin{tabular}")
    assert text.endswith("\\end{tabular}\n\\end{table}\n")
