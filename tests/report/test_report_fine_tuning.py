"""Fine-tuning without forgetting: what is read, frontiers, comparisons where equally much is learnt, and figures."""

import itertools
import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import reference_frontier
from hypothesis import given, settings
from hypothesis import strategies as st

import report
from report.fine_tuning.figures import METERS
from report.fine_tuning.results import COLUMNS, IMPORTANCES, METER, balanced

RUN = "prose-python-gpt-1"


def points(losses, measure="none", penalty="none", strength=0.0, seed=0, run=RUN, **columns):
    """Rows of one run: (old loss, new loss) at each step 0, 10, 20, ...; None is where the weights are not finite."""
    rows = []
    for number, pair in enumerate(losses):
        old, new = pair or (math.nan, math.nan)
        held = {name: 0.1 * number * (strength or 1) for name in METER}
        rows.append(
            {"run": run, "model": "gpt", "old_text": "prose", "new_text": "python", "measure": measure,
             "penalty": penalty, "strength": strength, "seed": seed, "step": 10 * number, "old_loss": old,
             "new_loss": new, "old_perplexity": math.exp(old), "new_perplexity": math.exp(new), **held, "seconds": 1.0,
             "status": "ok" if pair else "weights not finite", **columns}
        )  # fmt: skip
    return pd.DataFrame(rows)[COLUMNS]


def runs(seeds=3):
    """Plain fine-tuning, which forgets, and penalties that forget less; each seed shifts the old losses alike."""
    frames = []
    for seed in range(seeds):
        start = (1 + 0.1 * seed, 3.0)
        ends = {("none", "none", 0.0): (2.0, 2.0), ("fisher", "plain", 1.0): (1.5, 2.0),
                ("fisher", "plain", 10.0): (1.2, 2.5), ("fisher", "stabilized", 1.0): (1.6, 2.0),
                ("fisher", "stabilized", 10.0): (1.2, 2.5), ("uniform", "stabilized", 1.0): (1.9, 2.0),
                ("uniform", "stabilized", 10.0): (1.8, 2.4)}  # fmt: skip
        for number, (name, (old, new)) in enumerate(ends.items()):
            end = (old + 0.1 * seed + 0.01 * math.sin(7 * seed + number), new)
            middle = tuple((a + b) / 2 for a, b in zip(start, end, strict=True))
            frames.append(points([start, middle, end], *name, seed=seed))
    return pd.concat(frames, ignore_index=True)


def variables(seeds=2):
    """Importances of a model with four weights in an embedding and two in a dense layer."""
    rows = [
        (RUN, measure, seed, variable, kind, size, mean * (1 + seed), largest * (1 + seed))
        for measure, scale in (("fisher", 1.0), ("uniform", 0.0))
        for seed in range(seeds)
        for variable, kind, size, mean, largest in (
            ("embedding", "embedding", 4, 1 + scale, 1 + 9 * scale),
            ("dense/kernel", "dense", 1, 1 + 3 * scale, 1 + 3 * scale),
            ("dense/bias", "dense", 1, 1 - scale, 1 - scale),
        )
    ]
    return pd.DataFrame(rows, columns=IMPORTANCES)


@pytest.fixture
def frame():
    return runs()


@pytest.fixture
def nothing_left_open():
    yield
    assert plt.get_fignums() == []


def test_reading(tmp_path, frame):
    frame.to_csv(tmp_path / f"{RUN}.csv.gz", index=False)
    variables().to_csv(tmp_path / f"{RUN}-importances.csv", index=False)
    pd.testing.assert_frame_equal(report.read_fine_tuning(tmp_path), frame)
    for paths in (tmp_path, tmp_path / f"{RUN}.csv.gz", [tmp_path / f"{RUN}-importances.csv"]):
        pd.testing.assert_frame_equal(report.read_importances(paths), variables())
    pd.testing.assert_frame_equal(report.read_fine_tuning(str(tmp_path / "*.csv*")), frame)
    (tmp_path / "grid.csv").write_text("run,seed,epoch\nr,0,1\n")
    with pytest.warns(UserWarning, match="Left out: .*grid.csv"):
        report.read_fine_tuning(tmp_path)
    with pytest.raises(ValueError, match="without model"):
        report.read_fine_tuning(tmp_path / "grid.csv")
    with pytest.raises(ValueError, match=r"Expected runs of fine-tuning in .*importances.csv, found none"):
        report.read_fine_tuning(tmp_path / f"{RUN}-importances.csv")
    with pytest.raises(FileNotFoundError, match=r"<run>-importances.csv, found none"):
        report.read_importances(tmp_path / "grid.csv")
    (tmp_path / "grid-importances.csv").write_text("run,seed\nr,0\n")
    with pytest.raises(ValueError, match="without measure"):
        report.read_importances(tmp_path / "grid.csv")


def test_contradictions_are_refused(tmp_path, frame):
    frame.to_csv(tmp_path / "one.csv", index=False)
    frame.to_csv(tmp_path / "same.csv", index=False)
    assert len(report.read_fine_tuning(tmp_path)) == len(frame)
    frame.assign(old_loss=1.0).to_csv(tmp_path / "other.csv", index=False)
    with pytest.raises(ValueError, match="contradict"):
        report.read_fine_tuning(tmp_path)


def test_a_frontier_of_five_points_by_hand():
    # Two strengths, (old, new): the start is on it once, (2.0, 2.2) is worse than (1.8, 2.2) and (1.9, 2.5) than both.
    weak = points([(1.0, 3.0), (2.0, 2.2), (2.5, 1.0), (2.6, 1.0)], "fisher", "plain", 1.0)
    strong = points([(1.0, 3.0), (1.1, 2.8), (1.9, 2.5), (1.8, 2.2), None], "fisher", "plain", 10.0)
    strong.loc[5] = points([(2.2, 1.5)] * 6, "fisher", "plain", 10.0).iloc[5]
    table = report.frontier(pd.concat([strong, weak], ignore_index=True))
    assert table["new_loss"].tolist() == [1.0, 1.5, 2.2, 2.8, 3.0]
    assert table["old_loss"].tolist() == [2.5, 2.2, 1.8, 1.1, 1.0]
    assert table["strength"].tolist() == [1, 10, 10, 10, 1] and table["step"].tolist() == [20, 50, 30, 10, 0]
    assert table["old_perplexity"].to_numpy() == pytest.approx(np.exp(table["old_loss"]))
    assert set(table["measure"]) == {"fisher"} and set(table["seed"]) == {0}


def test_frontiers_are_apart(frame):
    table = report.frontier(frame)
    keys = ["measure", "penalty", "seed"]
    alone = [report.frontier(part) for _, part in frame.groupby(keys)]
    pd.testing.assert_frame_equal(table, pd.concat(alone, ignore_index=True))
    assert report.frontier(points([None, None])).empty


losses = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=25)


@settings(deadline=None, max_examples=60)
@given(losses=losses)
def test_frontiers_agree_with_comparing_all_pairs(losses):
    table = report.frontier(points([(old / 4, new / 4) for old, new in losses]))
    expected = reference_frontier.frontier([(new / 4, old / 4) for old, new in losses])
    assert list(table[["new_loss", "old_loss"]].itertuples(index=False, name=None)) == expected


def test_reading_off_a_frontier_by_hand():
    weak, strong = points([(1.0, 3.0), (2.0, 2.0)], strength=1.0), points([(1.0, 3.0), (1.4, 2.6)], strength=4.0)
    frame = pd.concat([weak, strong], ignore_index=True).assign(measure="fisher", penalty="plain")
    # Between (1.4, 2.6) and (2.0, 2.0) a new loss of 2.5 is one sixth of the way.
    (row,) = report.at_equal_new(frame, math.exp(2.5)).to_dict("records")
    assert row["old_perplexity"] == pytest.approx(math.exp(1.5)) and row["new_perplexity"] == pytest.approx(
        math.exp(2.5)
    )
    assert row["strengths"] == (1, 4) and row["steps"] == (10,) and row["seeds"] == 1
    (row,) = report.at_equal_new(frame, math.exp(2.6)).to_dict("records")
    assert row["old_perplexity"] == pytest.approx(math.exp(1.4)) and row["strengths"] == (4,)
    # What has learnt the new text less well than the pretrained model does not exist.
    (row,) = report.at_equal_new(frame, math.exp(3.5)).to_dict("records")
    assert row["old_perplexity"] == pytest.approx(math.exp(1.0)) and row["steps"] == (0,)
    (row,) = report.at_equal_new(frame).to_dict("records")
    assert row["new_perplexity"] == pytest.approx(math.exp(2.0)) and row["old_perplexity"] == pytest.approx(math.exp(2))
    assert np.isnan(row["old_perplexity_low"]) and np.isnan(row["ratio"]) and np.isnan(row["p"]) and row["note"] == ""
    (row,) = report.at_equal_new(frame, math.exp(1.5)).to_dict("records")
    assert np.isnan(row["old_perplexity"]) and row["strengths"] == ()
    assert row["note"] == f"reached in 0 of 1 seeds (all reach {math.exp(2.0):.4g})"


def test_ratios_are_paired_and_corrected(frame):
    table = report.at_equal_new(frame)
    assert table["measure"].tolist() == ["fisher", "fisher", "uniform", "none"]  # 1.5, 1.6, 1.9, and 2.0 at 2.0
    assert table["penalty"].tolist() == ["plain", "stabilized", "stabilized", "none"]
    assert table["new_perplexity"].to_numpy() == pytest.approx(np.exp([2.0] * 4))
    first = table.iloc[0]
    ours = np.array([1.5 + 0.1 * seed + 0.01 * math.sin(7 * seed + 1) for seed in range(3)])
    gain = ours - np.array([2.0 + 0.1 * seed + 0.01 * math.sin(7 * seed) for seed in range(3)])
    assert first["old_perplexity"] == pytest.approx(math.exp(ours.mean())) and first["seeds"] == 3
    half = 4.302653 * gain.std(ddof=1) / math.sqrt(3)  # Student's t, two degrees of freedom
    assert first["ratio"] == pytest.approx(math.exp(gain.mean()))
    assert first["ratio_low"] == pytest.approx(math.exp(gain.mean() - half), rel=1e-6)
    assert first["ratio_high"] == pytest.approx(math.exp(gain.mean() + half), rel=1e-6)
    p = table["p"].iloc[:3].to_numpy()
    assert p[0] == min(p) < 0.001 and first["p_holm"] == pytest.approx(3 * p[0])
    assert sorted(table["p_holm"].iloc[:3]) == pytest.approx(np.maximum.accumulate(np.sort(p) * [3, 2, 1]))
    assert table.loc[3, ["ratio", "p", "p_holm"]].isna().all()
    wide, narrow = (report.at_equal_new(frame, level=level).iloc[0] for level in (0.99, 0.8))
    assert wide["ratio_low"] < first["ratio_low"] < narrow["ratio_low"] < first["ratio"]
    assert wide["old_perplexity_high"] > narrow["old_perplexity_high"]


def test_one_common_seed_is_no_test(frame):
    kept = (frame["seed"] == 1) | ((frame["measure"] != "none") & (frame["penalty"] != "plain"))
    table = report.at_equal_new(frame[kept]).set_index(["measure", "penalty"])
    stabilized, plain = table.loc["fisher", "stabilized"], table.loc["fisher", "plain"]
    assert stabilized["seeds"] == 3 and plain["seeds"] == 1 and table["ratio"].notna().sum() == 3
    assert table[["ratio_low", "ratio_high", "p", "p_holm"]].isna().all(axis=None)
    assert not np.isnan(stabilized["old_perplexity_low"]) and np.isnan(plain["old_perplexity_low"])


def test_the_common_perplexity_is_one_that_all_with_every_seed_reach(frame):
    weak = points([(1.0, 3.0), (1.1, 2.9)], "mas", "plain", 1.0, seed=1)  # one seed alone: it does not count
    table = report.at_equal_new(pd.concat([frame, weak], ignore_index=True))
    assert table["new_perplexity"].iloc[0] == pytest.approx(math.exp(2.0)) and table["measure"].iloc[-1] == "mas"
    assert table["note"].iloc[-1] == f"reached in 0 of 1 seeds (all reach {math.exp(2.9):.4g})"
    strong = [points([(1.0, 3.0), (1.1, 2.9)], "mas", "plain", 1.0, seed=seed) for seed in range(3)]
    table = report.at_equal_new(pd.concat([frame, *strong], ignore_index=True))
    assert table["new_perplexity"].iloc[0] == pytest.approx(math.exp(2.9)) and table["old_perplexity"].notna().all()
    with pytest.raises(ValueError, match="a method with all 2 seeds of the run"):
        report.at_equal_new(frame[(frame["measure"] == "none") == (frame["seed"] == 0)].query("seed < 2"))


def test_lucky_seeds_do_not_speak_for_a_method(frame):
    lost = (frame["measure"] == "uniform") & (frame["seed"] == 2) & (frame["step"] > 0)
    table = report.at_equal_new(frame[~lost], math.exp(2.0)).set_index(["measure", "penalty"])
    row = table.loc["uniform", "stabilized"]
    assert np.isnan(row["old_perplexity"]) and np.isnan(row["ratio"]) and table.index[-1] == ("uniform", "stabilized")
    assert row["note"] == f"reached in 2 of 3 seeds (all reach {math.exp(3.0):.4g})"
    assert table["p_holm"].notna().sum() == 2


def broken(frame):
    """Let the weights of two seeds become infinite at the last step with Fisher, plain, 10."""
    lost = (frame["measure"] == "fisher") & (frame["penalty"] == "plain") & (frame["strength"] == 10)
    lost &= (frame["seed"] > 0) & (frame["step"] == 20)
    names = ["old_loss", "new_loss", "old_perplexity", "new_perplexity"]
    return frame.assign(status=frame["status"].mask(lost, "weights not finite"), **frame[names].mask(lost))


def test_what_is_not_finite_is_named(frame):
    assert report.not_finite(frame).empty and not report.at_equal_new(frame)["note"].any()
    exploded = broken(frame)
    table = report.not_finite(exploded)
    assert table["seed"].tolist() == [1, 2] and set(table["step"]) == {20} and set(table["strength"]) == {10}
    assert set(table["status"]) == {"weights not finite"}
    row = report.at_equal_new(exploded).set_index(["measure", "penalty"]).loc["fisher", "plain"]
    assert row["note"] == "not finite at strength 10 in 2 seeds" and not np.isnan(row["old_perplexity"])
    nothing = pd.concat([frame, *(points([None, None], "mas", "plain", 1.0, seed=seed) for seed in range(3))])
    row = report.at_equal_new(nothing.reset_index(drop=True)).iloc[-1]
    assert row["measure"] == "mas" and np.isnan(row["old_perplexity"])
    assert row["note"] == (
        "reached in 0 of 3 seeds (a seed has no finite weights); not finite at strength 1 in 3 seeds"
    )


def test_runs_are_compared_apart(frame):
    both = pd.concat([frame, frame.assign(run="other", old_loss=frame["old_loss"] + 1)], ignore_index=True)
    table = report.at_equal_new(both)
    assert table["run"].tolist() == ["other"] * 4 + [RUN] * 4
    assert table["ratio"].iloc[:3].to_numpy() == pytest.approx(table["ratio"].iloc[4:7].to_numpy())


def test_wrong_numbers_are_refused(frame):
    with pytest.raises(ValueError, match=r"new_perplexity of at least 1, received 0.5"):
        report.at_equal_new(frame, 0.5)
    with pytest.raises(ValueError, match="level between 0 and 1, received 95"):
        report.at_equal_new(frame, level=95)


def test_spread_by_hand():
    table = report.importance_by_layer_kind(variables()).set_index(["measure", "kind"])
    # Fisher: (4 * 2 + 1 * 4 + 1 * 0) / 6 = 2 is the mean, so 2 / 2 and 10 / 2; of the dense ones 2 / 2 and 4 / 2.
    assert table["weights"].tolist() == [4, 2, 4, 2] and set(table["seeds"]) == {2}
    assert table["mean_ratio"].to_numpy() == pytest.approx([1, 1, 1, 1])
    assert table["largest_ratio"].to_numpy() == pytest.approx([5, 2, 1, 1])
    assert table.index.tolist() == [(m, k) for m in ("fisher", "uniform") for k in ("embedding", "dense")]
    assert report.importance_by_layer_kind(variables().assign(mean=0.0))["mean_ratio"].isna().all()


def test_balanced_strengths(frame):
    chosen = balanced(frame)
    # Sums of both losses: 3.5 and 3.7 for Fisher with the plain penalty, 3.9 and 4.2 for uniform.
    assert chosen == [
        ("fisher", "plain", 1),
        ("fisher", "stabilized", 1),
        ("none", "none", 0),
        ("uniform", "stabilized", 1),
    ]
    lost = (frame["measure"] == "uniform") & (frame["strength"] == 1) & (frame["step"] == 20)
    assert ("uniform", "stabilized", 10) in balanced(frame.assign(status=frame["status"].mask(lost, "exploded")))


def apart(figure):
    """Say whether no panel or legend covers another."""
    figure.draw_without_rendering()
    boxes = [axis.get_tightbbox() for axis in figure.axes if axis.get_visible()]
    boxes += [legend.get_window_extent() for legend in figure.legends]
    return not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def labelled(axis):
    return {line.get_label(): line for line in axis.get_lines() if not line.get_label().startswith("_")}


def test_frontiers_are_drawn(frame, nothing_left_open):
    figure = report.plot_frontiers(frame)
    assert [axis.get_title() for axis in figure.axes] == ["plain", "stabilized"] and apart(figure)
    assert figure.axes[0].get_xlabel() == "perplexity of the new text (python)"
    assert figure.axes[0].get_ylabel() == "perplexity of the old text (prose)"
    lines = labelled(figure.axes[1])
    assert set(lines) == {"fisher", "uniform", "plain fine-tuning, by step", "pretrained"}
    mean = frame[frame["measure"] == "uniform"].query("step == 20 and strength == 10")["old_loss"].mean()
    assert lines["uniform"].get_ydata()[1] == pytest.approx(math.exp(mean))
    assert lines["uniform"].get_xdata() == pytest.approx(np.exp([2.0, 2.4]))
    assert len(lines["plain fine-tuning, by step"].get_xdata()) == 3
    assert lines["pretrained"].get_xdata() == pytest.approx([math.exp(3)])
    assert "λ = 10" in {text.get_text() for text in figure.axes[1].texts}
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()][-1] == "pretrained"
    assert report.plot_frontiers(frame, ["fisher"], highest=9).axes[0].get_ylim()[1] == 9
    with pytest.raises(ValueError, match="received \\['obd'\\]"):
        report.plot_frontiers(frame, ["obd"])
    with pytest.raises(ValueError, match="rows of one run, received 2"):
        report.plot_frontiers(pd.concat([frame, frame.assign(run="other")]))


def test_a_frontier_breaks_where_weights_exploded_and_says_so(frame):
    figure = report.plot_frontiers(broken(frame))
    assert " ".join(figure.axes[0].get_title().split()) == "plain not finite: fisher at λ = 10 (2 seeds)"
    assert np.isnan(labelled(figure.axes[0])["fisher"].get_ydata()).tolist() == [False, True]
    stopped = broken(frame)
    assert report.plot_frontiers(stopped[stopped["status"] == "ok"]).axes[0].get_title() == "plain"


def test_perplexities_over_steps_are_drawn(frame, nothing_left_open):
    figure = report.perplexity_over_steps(broken(frame), [("fisher", "plain", 10.0), ["uniform", "stabilized", 1.0]])
    assert apart(figure) and len(figure.axes) == 4
    assert figure.axes[0].get_title() == "plain: the old text (prose)" and figure.axes[0].get_ylabel() == "perplexity"
    assert figure.axes[3].get_xlabel() == "step of fine-tuning"
    (line, plain) = labelled(figure.axes[0]).values()
    assert line.get_label() == "fisher, λ = 10\n(not finite in 2 seeds)"
    assert np.isnan(line.get_ydata()).tolist() == [False, False, True]
    assert plain.get_ydata()[0] == pytest.approx(math.exp(1.1)) and plain.get_label() == "plain fine-tuning"
    shown = labelled(report.perplexity_over_steps(frame).axes[2])
    assert set(shown) == {"fisher, λ = 1", "uniform, λ = 1", "plain fine-tuning"}
    with pytest.raises(ValueError, match=r"none of \[\('fisher', 'plain', 7.0\)\]"):
        report.perplexity_over_steps(frame, [("fisher", "plain", 7.0)])


def test_low_rank_factors_and_replay_are_methods_more(frame, nothing_left_open):
    path = [(1.0, 3.0), (1.1, 2.6), (1.2, 2.2)]
    alone = [points(path, "lora", "none", 4.0, seed) for seed in (0, 1, 2)]
    alone += [points(path, "replay", "none", 1.0, seed) for seed in (0, 1, 2)]
    both = [points(path, "fisher", "plain:lora=4", strength, seed) for seed in (0, 1, 2) for strength in (1.0, 10.0)]
    frame = pd.concat([frame, *alone, *both], ignore_index=True)
    table = report.at_equal_new(frame, math.exp(2.4)).set_index(["measure", "penalty"])
    assert table.loc[("lora", "none"), "ratio"] < 1 and table.loc[("lora", "none"), "strengths"] == (4.0,)
    assert table.loc[("fisher", "plain:lora=4"), "old_perplexity"] == table.loc[("lora", "none"), "old_perplexity"]
    figure = report.plot_frontiers(frame)
    assert [axis.get_title() for axis in figure.axes] == ["plain", "plain:lora=4", "stabilized"] and apart(figure)
    for axis in figure.axes:
        line = labelled(axis)["factors of rank 4, by step"]
        assert line.get_xdata() == pytest.approx(np.exp([3.0, 2.6, 2.2]))
        assert "replay of 1 % of the old text, by step" in labelled(axis)
    steps = report.perplexity_over_steps(frame)
    assert "factors of rank 4" in labelled(steps.axes[0]) and len(steps.axes) == 6
    assert {line for line in labelled(report.meter_trace(frame).axes[0])} == {"fisher"} | {
        line for line in labelled(report.meter_trace(frame).axes[0]) if line[0] in "12"
    }


def test_the_trace_of_the_meter(frame, nothing_left_open):
    figure = report.meter_trace(frame)
    assert apart(figure) and len(figure.axes) == 2 * len(METERS)
    assert [axis.get_title() for axis in figure.axes[:2]] == [f"plain: {what}" for what in list(METERS.values())[:2]]
    line = labelled(figure.axes[0])["fisher"]
    assert list(line.get_xdata()) == [10, 20] and line.get_ydata() == pytest.approx([1, 2])
    assert "λ = 10: median of 3 seeds" in figure.get_suptitle()
    assert {line.get_ydata()[0] for line in figure.axes[0].get_lines()[1:]} == {1, 2}
    only = report.meter_trace(frame, strength=1.0, measures=["uniform"], penalties=["stabilized"])
    assert len(only.axes) == len(METERS) and {name for name in labelled(only.axes[0]) if name[0] not in "12"} == {
        "uniform"
    }
    with pytest.raises(ValueError, match=r"strengths among 1.0, 10.0, received"):
        report.meter_trace(frame, strength=3.0)
    with pytest.raises(ValueError, match="penalties among"):
        report.meter_trace(frame, penalties=["decoupled"])
    decoupled = frame.assign(penalty=frame["penalty"].replace({"plain": "none", "stabilized": "decoupled"}))
    assert len(report.meter_trace(decoupled[decoupled["penalty"] == "decoupled"]).axes) == len(METERS)
    apart_from = frame[(frame["penalty"] != "plain") | (frame["strength"] == 1)]
    apart_from = apart_from[(apart_from["penalty"] == "plain") | (apart_from["strength"] == 10)]
    with pytest.raises(ValueError, match="a strength with which all penalties were run"):
        report.meter_trace(apart_from)


def test_the_spread_of_importances_is_drawn(nothing_left_open):
    figure = report.importance_spread(variables())
    assert apart(figure) and [axis.get_title() for axis in figure.axes] == ["embedding", "dense"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["uniform", "fisher"]
    assert figure.axes[0].get_xscale() == "log" and figure.axes[1].get_xlabel() == "importance / model's mean"
    drawn = {(round(float(x), 6), float(y)) for line in figure.axes[1].get_lines()[:-1]
             for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)}  # fmt: skip
    assert {(2, 1), (1, 1), (1, 0)} <= drawn  # the bias without importance has no place
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "mean of a variable", "largest weight of a variable",
    ]  # fmt: skip
    assert len(report.importance_spread(variables(), ["uniform"]).axes[0].get_yticks()) == 1
    with pytest.raises(ValueError, match="received \\['obd'\\]"):
        report.importance_spread(variables(), ["obd"])
