"""Runs of sequential learning: what is read, the best strengths, comparisons, and figures."""

import itertools
import json
import pathlib

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import report
from report.sequential.results import COLUMNS, METER, final_accuracies

PUBLISHED = "sequence,model,measure,penalty,strength,accuracy,half_width\nstrange,mlp,mas,plain,3,0.84,0.01\n"


def runs(accuracies, seeds=4, tasks=3, run="strange-mlp-1", noise=0.01, **columns):
    """Rows of runs that lose as much of each task with each later one as makes the mean at the end as given.

    `accuracies` maps (measure, penalty, strength) to that mean; each seed shifts all runs alike, and each a little.
    """
    rows = []
    for seed in range(seeds):
        shift = 0.02 * np.sin(seed)
        for number, ((measure, penalty, strength), accuracy) in enumerate(accuracies.items()):
            kept = accuracy + shift + noise * np.sin(10 * seed + number)
            for after in range(tasks if measure == "joint" else 1, tasks + 1):
                for on in range(1, after + 1):
                    known = 1 - (1 - kept) * 2 * (after - on) / (tasks - 1) if measure != "joint" else kept
                    held = {name: after * strength * 0.1 if after > 1 else 0.0 for name in METER}
                    rows.append(
                        {"run": run, "sequence": "strange", "model": "mlp", "tasks": tasks, "measure": measure,
                         "penalty": penalty, "strength": strength, "seed": seed, "after_task": after, "on_task": on,
                         "validation_accuracy": known, "test_accuracy": known - 0.001, "seconds": 1.0, "status": "ok",
                         **held, **columns}
                    )  # fmt: skip
    return pd.DataFrame(rows)


GIVEN = {
    ("fisher", "plain", 1.0): 0.8, ("fisher", "plain", 10.0): 0.9, ("fisher", "plain", 100.0): 0.7,
    ("fisher", "stabilized", 10.0): 0.901, ("mas", "plain", 0.1): 0.75, ("mas", "plain", 3.0): 0.85,
    ("mas", "stabilized", 3.0): 0.852, ("none", "none", 0.0): 0.5, ("joint", "none", 0.0): 0.95,
}  # fmt: skip


@pytest.fixture
def frame():
    return runs(GIVEN)


@pytest.fixture
def published(tmp_path):
    (tmp_path / "published.csv").write_text(PUBLISHED)
    return tmp_path / "published.csv"


def test_reading(tmp_path, frame):
    (tmp_path / "data").mkdir()
    frame[COLUMNS].to_csv(tmp_path / "data" / "strange-mlp-1.csv", index=False)
    (tmp_path / "data" / "strange-mlp-1.json").write_text(json.dumps({"settings": {"protocol": "published"}}))
    (tmp_path / "data" / "grid.csv").write_text("run,seed,epoch\nr,0,1\n")
    with pytest.warns(UserWarning, match="Left out: .*grid.csv"):
        found = report.read_sequential(tmp_path / "data")
    pd.testing.assert_frame_equal(found[COLUMNS], frame[COLUMNS])
    assert set(found["protocol"]) == {"published"}
    with pytest.raises(ValueError, match="without sequence"):
        report.read_sequential(tmp_path / "data" / "grid.csv")
    frame.assign(test_accuracy=0.5)[COLUMNS].to_csv(tmp_path / "data" / "other.csv", index=False)
    with pytest.raises(ValueError, match="contradict"):
        report.read_sequential([tmp_path / "data" / "strange-mlp-1.csv", tmp_path / "data" / "other.csv"])


def test_reading_while_runs_are_made(tmp_path, frame):
    finished = frame["measure"] == "mas"
    parts = {"": frame[finished], "+fisher-all": frame[~finished], "+joint-all": frame[:0]}
    for part, rows in parts.items():
        rows[COLUMNS].to_csv(tmp_path / f"strange-mlp-1{part}.csv", index=False)
    (tmp_path / "strange-mlp-1.json").write_text(json.dumps({"settings": {"protocol": "published"}}))
    found = report.read_sequential(tmp_path)
    assert len(found) == len(frame) and set(found["protocol"]) == {"published"}


def test_replay_is_no_penalty_and_has_its_own_words(frame):
    replayed = runs({**GIVEN, ("replay", "none", 20.0): 0.92, ("replay", "none", 50.0): 0.93})
    best = report.best_strengths(replayed).set_index("measure")
    assert best.loc["replay", "strength"] == 50 and best.loc["replay", "penalty"] == "none"
    with_it, without = report.strength_curves(replayed), report.strength_curves(frame)
    titles = [[axis.get_title() for axis in figure.axes] for figure in (with_it, without)]
    assert titles[0] == titles[1]
    replay = [text.get_text() for text in with_it.findobj(plt.Text) if "replay" in text.get_text()]
    assert replay == ["replay of 50 a class"]  # the largest budget, once in the legend
    traces = [[axis.get_title() for axis in report.stability_trace(f).axes] for f in (replayed, frame)]
    assert traces[0] == traces[1]
    assert with_it.axes[0].get_xlim() == without.axes[0].get_xlim()
    matrices = report.accuracy_matrices(replayed)
    assert any("replay of 50 a class" in text.get_text() for text in matrices.findobj(plt.Text))
    compared = report.compare_best(replayed)
    assert not {"replay"} & set(compared["better"]) and len(compared) == len(report.compare_best(frame))


def test_strengths_of_fishers_in_laplace_units(tmp_path, frame):
    frame[COLUMNS].to_csv(tmp_path / "strange-mlp-1.csv", index=False)
    settings, known = tmp_path / "strange-mlp-1.json", {"settings": {"protocol": "honest"}}
    settings.write_text(json.dumps(known))
    assert "laplace_strength" not in report.best_strengths(report.read_sequential(tmp_path))  # a file of before
    settings.write_text(json.dumps({**known, "examples_per_task": [400, 100, 200]}))
    table = report.best_strengths(report.read_sequential(tmp_path)).set_index(["measure", "penalty"])
    ratio = (400 / 100 + 400 / 200 + 100 / 200) / 3
    found = table["laplace_strength"]
    assert found["fisher", "plain"] == found["fisher", "stabilized"] == pytest.approx(10 / ratio)
    assert found[[key[0] != "fisher" for key in found.index]].isna().all()
    assert list(table.columns).index("laplace_strength") == list(table.columns).index("strength") + 1
    settings.write_text(json.dumps({**known, "examples_per_task": [300] * 3}))
    table = report.best_strengths(report.read_sequential(tmp_path))
    assert (table["laplace_strength"] == table["strength"])[table["measure"] == "fisher"].all()
    averaged = {**known["settings"], "accumulate": "mean"}
    settings.write_text(json.dumps({"settings": averaged, "examples_per_task": [300] * 3}))
    assert "laplace_strength" not in report.best_strengths(report.read_sequential(tmp_path))
    settings.write_text(json.dumps({**known, "examples_per_task": [300] * 3}))
    rows = report.read_sequential(tmp_path)
    table = report.best_strengths(rows.assign(penalty=rows["penalty"].replace("plain", "plain:adaptive")))
    found = table.set_index(["measure", "penalty"])["laplace_strength"]
    assert np.isnan(found["fisher", "plain:adaptive"]) and found["fisher", "stabilized"] == 10


def test_best_strengths_by_hand(frame, published):
    table = report.best_strengths(frame, published).set_index(["measure", "penalty"])
    assert table["strength"].to_dict() == {
        ("joint", "none"): 0, ("fisher", "stabilized"): 10, ("fisher", "plain"): 10, ("mas", "stabilized"): 3,
        ("mas", "plain"): 3, ("none", "none"): 0,
    }  # fmt: skip
    values = np.array([0.9 + 0.02 * np.sin(seed) + 0.01 * np.sin(10 * seed + 1) - 0.001 for seed in range(4)])
    row = table.loc["fisher", "plain"]
    assert row["seeds"] == 4 and row["test_accuracy"] == pytest.approx(values.mean())
    half = 3.182446 * values.std(ddof=1) / 2  # Student's t, three degrees of freedom
    assert row["test_accuracy_high"] - row["test_accuracy"] == pytest.approx(half, rel=1e-5)
    mas = table.loc["mas", "plain"]
    assert mas["difference"] == pytest.approx(mas["test_accuracy"] - 0.84) and np.isnan(row["published_accuracy"])
    assert table.index[0] == ("joint", "none")


def test_a_strength_with_few_seeds_is_not_the_best(frame):
    lucky = runs({("mas", "plain", 5.0): 0.99}, seeds=1)
    table = report.best_strengths(pd.concat([frame, lucky])).set_index(["measure", "penalty"])
    assert table["strength"]["mas", "plain"] == 3


def test_strengths_with_other_seeds_are_compared_on_what_they_share():
    wide = runs({("mas", "plain", 3.0): 0.85}, seeds=10, noise=0)
    easy = runs({("mas", "plain", 5.0): 0.849}, seeds=4, noise=0)  # whose mean is higher: its seeds are easier
    means = [final_accuracies(f)["test_accuracy"].mean() for f in (wide, easy)]
    assert means[1] > means[0]
    assert report.best_strengths(pd.concat([wide, easy]))["strength"].item() == 3
    better = runs({("mas", "plain", 5.0): 0.851}, seeds=3, noise=0)
    assert report.best_strengths(pd.concat([wide, better]))["strength"].item() == 5


def test_unfinished_runs_do_not_count_and_exploded_ones_as_nothing(frame):
    unfinished = (frame["measure"] == "mas") & (frame["seed"] == 3) & (frame["after_task"] == 3)
    exploded = (frame["strength"] == 10) & (frame["penalty"] == "plain") & (frame["seed"] == 0)
    accuracies = frame[["validation_accuracy", "test_accuracy"]].mask(exploded)
    table = report.best_strengths(frame.assign(**accuracies)[~unfinished]).set_index(["measure", "penalty"])
    assert table["seeds"]["mas", "plain"] == 3 and table["seeds"]["fisher", "plain"] == 4
    assert table["strength"]["fisher", "plain"] == 1.0  # 0.9 in three of four, and nothing in one, is less than 0.8


def test_reproduced_at_the_published_strength_alone(frame, published):
    (row,) = report.reproduced(frame, published).to_dict("records")
    assert (row["measure"], row["strength"], row["published_half_width"]) == ("mas", 3, 0.01)
    assert row["difference"] == pytest.approx(row["test_accuracy"] - 0.84) and not row["within"]
    assert report.reproduced(frame, published, margin=0.05)["within"].all()
    assert report.reproduced(frame[frame["strength"] != 3], published).empty
    assert np.isnan(row["carried_accuracy"])
    (carried,) = report.reproduced(frame.assign(protocol="published"), published).to_dict("records")
    later = frame[frame["seed"] > 0]
    assert carried["carried_accuracy"] == report.reproduced(later, published)["test_accuracy"].item()
    assert carried["carried_difference"] == pytest.approx(carried["carried_accuracy"] - 0.84)
    alone = frame[frame["seed"] == 0].assign(protocol="published")
    assert np.isnan(report.reproduced(alone, published)["carried_difference"].item())


def test_a_measure_whose_runs_explode_is_not_the_better_one(frame):
    exploded = (frame["measure"] == "fisher") & (frame["strength"] == 10) & (frame["seed"] < 2)
    explodes = frame[frame["strength"] > 2].assign(test_accuracy=frame["test_accuracy"].mask(exploded))
    explodes = explodes[explodes["strength"] < 100]
    table = report.compare_best(explodes).set_index("family")
    assert (table.loc["plain", "better"], table.loc["plain", "seeds"]) == ("mas", 4)


def test_comparisons_at_the_published_strengths(frame, published):
    published.write_text(PUBLISHED + "strange,mlp,fisher,plain,100,0.7,0.01\n")
    table = report.compare_best(frame, published=published)
    assert (table["better"].item(), table["worse"].item()) == ("mas", "fisher")
    assert table["difference"].item() == pytest.approx(0.15, abs=0.02)
    published.write_text(PUBLISHED.splitlines()[0] + "\n")
    assert report.compare_best(frame, published=published).empty


def test_some_seeds_choose_and_the_others_report(frame):
    lucky = {("fisher", "plain", 1.0): 0.95, ("fisher", "plain", 10.0): 0.7, ("fisher", "plain", 100.0): 0.7}
    frame = frame[(frame["measure"] != "fisher") | (frame["seed"] > 1) | (frame["penalty"] != "plain")]
    frame = pd.concat([frame, runs(lucky, seeds=2)]).assign(protocol="honest")
    table = report.best_strengths(frame, search_seeds=[0, 1]).set_index(["measure", "penalty"])
    assert table["strength"]["fisher", "plain"] == 1.0 and set(table["seeds"]) == {2}
    others = report.best_strengths(frame[frame["seed"] > 1]).set_index(["measure", "penalty"])
    assert others["strength"]["fisher", "plain"] == 10.0  # which seeds 2 and 3 would have chosen
    same = ["none", "joint"]
    pd.testing.assert_frame_equal(table.loc[same], others.loc[same])
    compared = report.compare_best(frame, search_seeds=[0, 1]).set_index(["family", "better", "worse"])
    assert set(compared["seeds"]) == {2} and ("plain", "mas", "fisher") in compared.index
    # The published protocol chooses and reports with the same seeds; so do measures that only others were run with.
    for changed, chosen in ((frame.assign(protocol="published"), [0, 1]), (frame, [7])):
        pd.testing.assert_frame_equal(
            report.best_strengths(changed, search_seeds=chosen), report.best_strengths(changed)
        )
    none_left = report.best_strengths(frame[frame["seed"] < 2], search_seeds=[0, 1])
    assert (none_left["seeds"] == 0).all() and none_left["test_accuracy"].isna().all()


def test_the_published_table_is_whole():
    table = pd.read_csv(pathlib.Path(__file__).parents[2] / "data" / "published" / "ewc.csv")
    assert len(table) == 2 * (3 * 2 + 1) and table["accuracy"].between(0.3, 0.96).all()
    # The plain penalty was written without the 1/2, so here its strengths are twice those.
    plain, others = table[table["penalty"] == "plain"], table[table["penalty"] == "stabilized"]
    assert (plain["strength"] == 2 * plain["strength_there"]).all()
    assert (others["strength"] == others["strength_there"]).all()
    assert not table.duplicated(["sequence", "model", "measure", "penalty"]).any()


def test_comparisons_are_paired(frame):
    table = report.compare_best(frame).set_index(["family", "better", "worse"])
    assert len(table) == 4  # the two measures under each penalty, the two penalties of each measure
    row = table.loc["plain", "fisher", "mas"]
    gain = np.array([0.05 + 0.01 * (np.sin(10 * seed + 1) - np.sin(10 * seed + 5)) for seed in range(4)])
    assert row["difference"] == pytest.approx(gain.mean()) and row["verdict"] == "better"
    t = gain.mean() / (gain.std(ddof=1) / 2)
    assert 0.003 < row["p"] < 0.05 and row["p"] == pytest.approx(2 * stats_t_tail(t, 3), rel=1e-6)
    assert row["p_wilcoxon"] == 0.125  # the least that four seeds allow
    assert table.loc["fisher", "stabilized", "plain"]["verdict"] == "not told apart"
    # A measure with one seed is compared with nothing, and makes no other test harder.
    rare = frame[(frame["measure"] == "mas") & (frame["seed"] == 0)].assign(measure="rare")
    more = report.compare_best(pd.concat([frame, rare])).set_index(["family", "better", "worse"])
    assert more.loc["plain", "fisher", "mas"]["p_holm"] == row["p_holm"] == row["p"]
    alone = more[(more.index.get_level_values(1) == "rare") | (more.index.get_level_values(2) == "rare")]
    assert len(alone) and set(alone["verdict"]) == {"one seed"} and (alone["p_holm"] == 1).all()
    single = report.compare_best(frame[frame["seed"] == 0])
    assert set(single["verdict"]) == {"one seed"} and (single["p"] == 1).all()


def stats_t_tail(t, freedom):
    from scipy import stats

    return stats.t.sf(t, freedom)


@pytest.fixture
def nothing_left_open():
    yield
    assert plt.get_fignums() == []


def apart(figure):
    """Say whether no panel or legend covers another."""
    figure.draw_without_rendering()
    boxes = [axis.get_tightbbox() for axis in figure.axes if axis.get_visible()]
    boxes += [legend.get_window_extent() for legend in figure.legends]
    return not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def test_curves_show_means_and_both_ends(frame, nothing_left_open):
    figure = report.strength_curves(frame)
    assert [axis.get_title() for axis in figure.axes] == ["plain", "stabilized"] and apart(figure)
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    assert list(lines["fisher"].get_xdata()) == [1, 10, 100] and figure.axes[0].get_xscale() == "log"
    expected = report.best_strengths(frame).set_index(["measure", "penalty"])["test_accuracy"]
    assert lines["fisher"].get_ydata()[1] == pytest.approx(expected["fisher", "plain"])
    assert lines["no protection"].get_ydata()[0] == pytest.approx(expected["none", "none"])
    assert lines["all tasks at once"].get_ydata()[0] == pytest.approx(expected["joint", "none"])
    assert lines["fisher"].get_color() == report.style("fisher")["color"]
    assert report.strength_curves(frame, ["mas"], lowest=0.7).axes[0].get_ylim()[0] == 0.7
    means = final_accuracies(frame).groupby(["measure", "penalty", "strength"])["test_accuracy"].mean()
    axis = report.strength_curves(frame, lowest="quartile").axes[0]
    low, high = axis.get_ylim()
    seen = means[(low <= means) & (means <= high)].drop(["none", "joint"], errors="ignore")
    assert len(means) * 3 // 4 <= ((low <= means) & (means <= high)).sum() < len(means)
    strengths = seen.index.get_level_values("strength")
    left, right = axis.get_xlim()
    assert strengths.min() / 2 < left < strengths.min() and strengths.max() < right < strengths.max() * 2
    few = report.strength_curves(frame[frame["seed"].isin([0, 1])]).axes[0].get_ylim()
    assert 0.4 < few[0] < few[1] < 1.05  # Student's t of two values is 12.7 standard errors wide
    with pytest.raises(ValueError, match="received \\['obd'\\]"):
        report.strength_curves(frame, ["obd"])
    with pytest.raises(ValueError, match=r"rows of one run, received 2 \(other, strange-mlp-1\)"):
        report.strength_curves(pd.concat([frame, frame.assign(run="other")]))


def test_penalties_of_all_names_are_shown(frame, nothing_left_open):
    frame = frame.assign(penalty=frame["penalty"].replace("plain", "stabilized:adaptive"))
    chosen = [("fisher", "stabilized:adaptive", 10.0), ("fisher", "stabilized", 10.0)]
    for figure in (report.strength_curves(frame), report.stability_trace(frame, chosen)):
        titles = [axis.get_title().split(":  ")[0] for axis in figure.axes]
        assert any(title.startswith("stabilized:adaptive") for title in titles[1:])
        assert not titles[0].startswith("stabilized:adaptive")


def test_a_line_breaks_where_weights_exploded(frame):
    exploded = (frame["strength"] == 10) & (frame["seed"] == 0)
    figure = report.strength_curves(frame.assign(test_accuracy=frame["test_accuracy"].mask(exploded)))
    (line,) = (line for line in figure.axes[0].get_lines() if line.get_label() == "fisher")
    assert np.isnan(line.get_ydata()).tolist() == [False, True, False]


def test_figures_of_runs_that_all_exploded(frame, nothing_left_open):
    exploded = frame["after_task"] > 1
    gone = frame.assign(**{name: frame[name].mask(exploded) for name in ("validation_accuracy", "test_accuracy")})
    figure = report.accuracy_matrices(gone)
    assert all("weights became infinite" in axis.get_title() for axis in figure.axes if axis.get_visible())
    report.strength_curves(gone), report.strength_curves(gone, lowest="quartile"), report.stability_trace(gone)


def test_matrices_of_means(frame, nothing_left_open):
    figure = report.accuracy_matrices(frame, [("fisher", "plain", 10.0), ("none", "none", 0.0)])
    assert apart(figure)
    cells = frame[(frame["measure"] == "fisher") & (frame["penalty"] == "plain") & (frame["strength"] == 10)]
    known = cells.groupby(["after_task", "on_task"])["test_accuracy"].mean()
    shown = [text.get_text() for text in figure.axes[0].texts]
    assert shown == [f"{known[a, o]:.2f}" if o <= a else "" for a in (1, 2, 3) for o in (1, 2, 3)]
    assert figure.axes[0].get_title().startswith("fisher, plain, λ = 10\n4 seeds, 0.")
    assert len([axis for axis in report.accuracy_matrices(frame).axes if axis.get_visible()]) == 5
    with pytest.raises(ValueError, match=r"none of \[\('fisher', 'plain', 7.0\)\]"):
        report.accuracy_matrices(frame, [("fisher", "plain", 7.0)])


def test_the_trace_of_the_meter(frame, nothing_left_open):
    figure = report.stability_trace(frame, [("fisher", "plain", 10.0), ("fisher", "stabilized", 10.0)])
    assert len(figure.axes) == 6 and apart(figure)
    line = figure.axes[0].get_lines()[0]
    assert list(line.get_xdata()) == [2, 3] and line.get_ydata() == pytest.approx([2.0, 3.0])
    assert all(axis.get_yscale() == "log" for axis in figure.axes)


def test_one_strength_of_each_is_a_row_with_a_point(frame, nothing_left_open):
    single = frame[(frame["strength"] == 10.0) | frame["measure"].isin(["none", "joint"])]
    figure = report.strength_curves(single)
    (axis,) = figure.axes
    finals = final_accuracies(single)
    rows = finals[~finals["measure"].isin(["none", "joint"])].groupby(["measure", "penalty"])["test_accuracy"].mean()
    names = [label.get_text() for label in axis.get_yticklabels()]
    assert len(names) == len(rows) and all("λ = 10" in name for name in names)
    drawn = [line.get_xdata()[0] for line in axis.get_lines() if len(line.get_xdata()) == 1]
    assert all(any(x == pytest.approx(mean) for x in drawn) for mean in rows)
    assert axis.get_xscale() == "linear" and apart(figure)


def test_few_seeds_are_dots_and_many_have_bars(frame, nothing_left_open):
    first = final_accuracies(frame).query("measure != 'none' and measure != 'joint'")
    few = first[first["seed"].isin(sorted(first["seed"].unique())[:2])]
    many = pd.concat([first.assign(seed=seed, test_accuracy=0.9 + seed / 100) for seed in range(6)])
    dots, bars = report.strength_curves(few), report.strength_curves(many)
    assert "small dots: each seed" in dots.get_suptitle() and "intervals" not in dots.get_suptitle()
    assert "bars: 95 % Student's t" in bars.get_suptitle() and "dots" not in bars.get_suptitle()


def test_instability_draws_what_is_finite(nothing_left_open):
    rows = [
        {"clip": clip, "largest": largest, "penalty": penalty, "epoch": epoch, "loss": loss, "distance": loss / 10}
        for clip, largest in ((1.0, 500.0), (np.nan, 2.5))
        for penalty in ("plain", "stabilized")
        for epoch, loss in enumerate((2.0, 1e9 if penalty == "plain" else 1.0, np.inf if penalty == "plain" else 0.5))
    ]
    figure = report.instability(pd.DataFrame(rows))
    above = [axis.get_title().split("\n")[1] for axis in figure.axes[:2]]
    assert above == ["no clipping", "gradients clipped to norm 1"]
    assert apart(figure) and figure.axes[0].get_ylim()[1] < 2e3
    plain, held = figure.axes[0].get_lines()
    assert np.isnan(plain.get_ydata()).tolist() == [False, False, True] and list(held.get_ydata()) == [2.0, 1.0, 0.5]
