"""Orderings of frames whose answer is known, and everything an ordering refuses to say."""

import itertools

import numpy as np
import pandas as pd
import pytest
import scipy.stats

import report
from report.grid.blocks import groups
from report.grid.ordering import order

FAST = {"resamples": 199}


def test_order_of_a_clear_case(make_grid):
    table, sentences = order(make_grid({"random": 0.2, "magnitude": 0.7, "fisher": 0.5}), **FAST)
    assert table["measure"].tolist() == ["magnitude", "fisher", "random"]
    assert table["rank"].tolist() == table["mean_rank"].tolist() == [1, 2, 3]
    assert table["p_best"].tolist() == [1, 0, 0]
    assert table["blocks"].tolist() == [10, 10, 10]
    assert sentences[0].startswith("on mnist/mlp/weight, magnitude > fisher > random by area (smaller is better; ")
    assert "10 networks; a statement about this task and architecture" in sentences[0]


def test_sentence_can_be_pasted(make_grid):
    frame = make_grid({"a": 0.7, "b": 0.2})
    found = order(frame, **FAST)
    pair = found.pairs.iloc[0]
    areas = report.scores(frame).pivot(index="seed", columns="measure", values="area")
    gain = (areas["b"] - areas["a"]).to_numpy()
    assert pair["median_difference"] == pytest.approx(np.median(gain))
    assert pair["mean_difference"] == pytest.approx(gain.mean())
    assert pair["difference"] == pytest.approx(np.median([(a + b) / 2 for i, a in enumerate(gain) for b in gain[i:]]))
    assert pair["p_holm"] == pytest.approx(2 / 2**10)
    assert pair["improvement"] == 1
    numbers = "{:.3f} [{:.3f}, {:.3f}]".format(*pair[["difference", "low", "high"]])
    expected = f"on mnist/mlp/weight, a > b (difference {numbers}, p = 0.002, 10 networks)"
    assert found.sentences[1] == expected
    assert str(found).splitlines() == found.sentences


def test_numbers_of_the_table_are_those_of_the_scores(make_grid):
    frame = make_grid({"a": 0.7, "b": 0.2})
    expected = report.table(frame).set_index("measure")
    found = order(frame, **FAST).table.set_index("measure")
    for name in ("area", "area_low", "area_high"):
        assert found[name].to_dict() == pytest.approx(expected[name].to_dict())


def test_larger_tolerance_is_better(make_grid):
    found = order(make_grid({"a": 0.7, "b": 0.2}), score="tolerance", **FAST)
    assert found.table["measure"].tolist() == ["a", "b"]
    assert found.pairs["better"].tolist() == ["a"] and found.pairs["difference"][0] > 0
    assert "larger is better" in found.sentences[0]


def test_practically_equal(make_grid):
    frame = make_grid({"a": 0.5, "b": 0.502}, noise=0.001)
    found = order(frame, margin=0.01, **FAST)
    assert found.pairs["verdict"].tolist() == ["better, within the margin"]
    assert "a = b" in found.sentences[0] or "b = a" in found.sentences[0]
    assert order(frame, margin=0, **FAST).pairs["verdict"].tolist() == ["better"]
    same = make_grid({"a": 0.5, "b": 0.5}, noise=0.002, random=np.random.default_rng(1))
    assert order(same, margin=0.05, **FAST).pairs["verdict"].tolist() == ["practically equal"]
    assert order(same, margin=0, **FAST).pairs["verdict"].tolist() == ["not told apart"]


def test_identical_measures_are_equal(make_grid):
    frame = make_grid({"a": 0.5})
    found = order(pd.concat([frame, frame.assign(measure="b")]), **FAST)
    assert found.table["rank"].tolist() == [1.5, 1.5]
    assert found.table["p_best"].tolist() == [0.5, 0.5]
    assert found.tests["p"][0] == 1 and found.pairs["p"][0] == 1
    assert found.pairs["verdict"][0] == "practically equal"


def skewed(make_grid, gains):
    """Scores in which b lies above a by other gains on every network."""
    scores = report.scores(make_grid({"a": 0.5, "b": 0.5}, seeds=len(gains)))
    return scores.assign(area=np.where(scores["measure"] == "a", 0.5, 0.5 + np.asarray(gains)[scores["seed"]]))


def test_order_pairs_and_test_have_one_direction_and_the_mean_is_told_where_it_has_another(make_grid):
    # By the mean a is better, by 0.012; by the signed ranks b, on nine networks of twelve.
    gains = [-0.01, -0.02, -0.03, -0.04, -0.05, -0.06, -0.07, -0.08, -0.09, 0.001, 0.002, 0.6]
    found = order(skewed(make_grid, gains), **FAST)
    assert np.mean(gains) > 0
    assert found.table["measure"].tolist() == ["b", "a"] and found.table["rank"].tolist() == [1, 2]
    pair = found.pairs.iloc[0]
    assert (pair["better"], pair["worse"]) == ("b", "a")
    assert pair["difference"] > 0 > pair["mean_difference"] == pytest.approx(-np.mean(gains))
    assert found.sentences[0].startswith("on mnist/mlp/weight, b ~ a by area")
    assert f"mean {pair['mean_difference']:.3f} the other way" in found.sentences[1]
    assert f"by the mean it is the other way round for b and a ({pair['mean_difference']:.2g})" in found.summary
    same = order(skewed(make_grid, [-0.01 * n for n in range(1, 13)]), **FAST)
    assert "other way" not in str(same)


def test_what_the_signed_ranks_test_is_said_and_the_sign_test_stands_beside(make_grid):
    """Lognormal differences about a median of 0: the signed-rank test rejects, the sign test does not."""
    quantiles = (np.arange(60) + 0.5) / 60
    gains = np.exp(2 * scipy.stats.norm.ppf(quantiles)) - 1
    found = order(skewed(make_grid, gains), **FAST)
    pair = found.pairs.iloc[0]
    assert pair["better"] == "a" and pair["p"] < 0.05 < pair["p_sign"] == pair["p_sign_holm"] == 1
    assert "tests of whether paired differences are symmetric about 0" in found.sentences[-1]


def test_signs_that_run_in_a_circle_are_said(make_grid):
    """Each of three measures is better than the next in two thirds of the networks, by signed ranks."""
    scores = report.scores(make_grid({"a": 0.5, "b": 0.5, "c": 0.5}, seeds=60))
    places = np.array([[0, 1, 2], [1, 2, 0], [2, 0, 1]])[scores["seed"] % 3, scores["measure"].map("abc".index)]
    found = order(scores.assign(area=0.3 + 0.1 * places + 1e-4 * scores["seed"] * places), margin=0, **FAST)
    names = found.table["measure"].tolist()
    better = set(found.pairs[["better", "worse"]].itertuples(index=False, name=None))
    assert all((one, other) in better for one, other in itertools.pairwise(names))
    assert not {(names[0], names[2])} & better
    told = found.pairs[found.pairs["better"] == names[2]].iloc[0]
    circle = f"pairs run in a circle: the order is against {names[2]} > {names[0]}"
    assert (circle in str(found)) == (told["verdict"] == "better")


def test_one_network_is_not_tested(make_grid):
    found = order(make_grid({"a": 0.7, "b": 0.2}, seeds=1), **FAST)
    assert found.table["measure"].tolist() == ["a", "b"]
    assert found.table["area_low"].isna().all()
    assert found.pairs.empty
    assert "no test is possible with 1 network" in found.sentences[0]


def test_too_few_networks_to_tell_pairs_apart(make_grid):
    found = order(make_grid({"a": 0.7, "b": 0.5, "c": 0.2}, seeds=4), **FAST)
    assert (found.pairs["verdict"] == "not told apart").all()
    assert found.pairs[["low", "high"]].isna().all(axis=None)
    doubt = next(sentence for sentence in found.sentences if "too few" in sentence)
    assert "with 4 networks and 3 pairs no adjusted p-value can fall below 0.375; 7 are needed" in doubt


def test_against_one_measure_needs_fewer_networks(make_grid):
    frame = make_grid({"a": 0.8, "b": 0.6, "c": 0.4, "random": 0.2}, seeds=7)
    assert (order(frame, **FAST).pairs["verdict"] == "not told apart").all()
    found = order(frame, against="random", **FAST)
    assert found.pairs["worse"].tolist() == ["random"] * 3
    assert found.pairs["p_holm"].tolist() == [3 / 64] * 3
    assert "a, b, c > random" in found.sentences[0]
    with pytest.raises(ValueError, match="a, b, c, random in against, received 'd'"):
        order(frame, against="d")


def test_one_measure_only(make_grid):
    found = order(make_grid({"a": 0.5}), **FAST)
    assert found.table["area"].notna().all()
    assert "nothing to order: 1 measure to compare" in found.sentences[0]


def test_misses_chance_is_left_out_instead_of_first(make_legacy, tmp_path):
    """An earlier study's artefact: many weights tie, none of them is replaced, and the loss hardly rises."""
    random = np.random.default_rng(0)
    for trial in range(6):
        steps = {
            name: 0.03 + 2.2726 / (1 + np.exp(-(np.linspace(0, 1, 21) - middle - random.normal(0, 0.02)) / 0.05))
            for name, middle in (("FISHER_MATRIX", 0.4), ("RANDOM", 0.15), ("MOMENTUM_BASED", 0.1))
        }
        methods = {name: [*losses[:-1], 2.3026] for name, losses in steps.items()}
        stuck = {"SIGN_FLIPPING": np.linspace(0.03, random.uniform(0.1, 0.3), 21)}
        whole = make_legacy(methods | stuck)
        unit = make_legacy(methods | {"SIGN_FLIPPING": methods["FISHER_MATRIX"]}, levels=["UNIT"])
        over = make_legacy(methods | {"SIGN_FLIPPING": [*methods["RANDOM"][:-1], 5.06]}, levels=["CONV_FILTER"])
        old = pd.concat([whole, unit, over], ignore_index=True)
        old.to_csv(tmp_path / f"validation_loss_over_threshold_TRIAL_{trial}.csv")
    found = order(report.read(tmp_path), **FAST)
    for level in ("weight", "conv_filter"):
        last = found.table[found.table["level"] == level].iloc[-1]
        assert last["measure"] == "sign_stability" and np.isnan(last["rank"]) and np.isnan(last["area"])
        assert "misses chance (6 of 6)" in last["flags"]
        first = found.table[found.table["level"] == level].iloc[0]
        assert first["measure"] == "fisher_batched" and first["rank"] == 1
    assert found.table[found.table["level"] == "unit"]["rank"].notna().all()
    assert "sign_stability" not in set(found.pairs[found.pairs["level"] == "weight"][["better", "worse"]].stack())
    text = str(found)
    assert (
        "on validation_loss_over_threshold (task unknown)/unknown model/weight, sign_stability is left out of the order"
        in text
    )
    assert "where chance is 2.303" in text and "most likely because of equal importances" in text
    missing = found.flagged[found.flagged["flags"].str.contains("misses chance")]
    assert len(missing) == 12 and not missing["counted"].any()


def test_networks_without_a_score_for_all_are_left_out(make_grid):
    frame = make_grid({"a": 0.7, "b": 0.2}, seeds=8)
    cut = frame[~((frame["measure"] == "b") & frame["seed"].isin([2, 5]))]
    found = order(cut, **FAST)
    assert found.table["blocks"].tolist() == [6, 6]
    assert "2 networks left out where a measure has no score" in str(found)
    kept = frame[~frame["seed"].isin([2, 5])]
    pd.testing.assert_frame_equal(found.table, order(kept, **FAST).table)


def test_a_measure_on_few_networks_is_set_aside_not_compared_on_other_seeds(make_grid):
    frame = make_grid({"a": 0.7, "b": 0.2, "deletion": 0.9}, seeds=8)
    cut = frame[(frame["measure"] != "deletion") | (frame["seed"] < 2)]
    found = order(cut, **FAST)
    assert found.table["measure"].tolist() == ["a", "b", "deletion"]
    assert found.table["blocks"].tolist() == [8, 8, 0]
    assert "deletion is left out of the order: it has a score on only 2 of 8 networks" in str(found)


def test_networks_that_diverged_are_left_out(make_grid):
    frame = make_grid({"a": 0.7, "b": 0.2}, seeds=8)
    frame.loc[frame["seed"] == 3, "validation_loss"] = np.nan
    found = order(frame, **FAST)
    assert found.table["blocks"].tolist() == [7, 7]
    assert not found.flagged["counted"].any() and set(found.flagged["seed"]) == {3}


def test_ties_nan_and_unequal_fractions_are_listed_and_counted(make_grid):
    frame = make_grid({"a": 0.7, "b": 0.2})
    tied = frame["measure"] == "a"
    frame.loc[tied, "tie_fraction"] = 0.8
    frame.loc[tied & (frame["threshold"] == 0.5), "replaced_fraction"] = 0.3
    frame.loc[(frame["seed"] == 0) & ~tied & (frame["threshold"] == 0.9), "validation_loss"] = np.nan
    found = order(frame, **FAST)
    assert found.table["blocks"].tolist() == [10, 10]
    assert found.table.set_index("measure")["flags"].to_dict() == {
        "a": "ties (10 of 10); unequal fractions (10 of 10)",
        "b": "nan loss (1 of 10)",
    }
    assert len(found.flagged) == 11 and found.flagged["counted"].all()
    text = str(found)
    assert (
        "ties: a (10 of 10)" in text and "unequal fractions: a (10 of 10)" in text and "nan loss: b (1 of 10)" in text
    )


def test_nothing_comparable_at_all(make_grid):
    frame = make_grid({"a": 0.7, "b": 0.2}).assign(chance_loss=np.nan)
    found = order(frame, **FAST)
    assert found.table["measure"].tolist() == ["a", "b"] and found.table["blocks"].tolist() == [0, 0]
    assert "nothing to order: 0 measures to compare" in str(found)
    assert "a is left out of the order: it has a score on only 0 of 10 networks (chance unknown" in str(found)


def test_only_the_last_checkpoint_counts_unless_asked(make_grid):
    frame = pd.concat([make_grid({"a": 0.2, "b": 0.7}, epochs=(1,)), make_grid({"a": 0.7, "b": 0.2}, epochs=(5,))])
    assert order(frame, **FAST).table["measure"].tolist() == ["a", "b"]
    assert order(frame, epoch=1, **FAST).table["measure"].tolist() == ["b", "a"]
    both = order(frame, by=["task", "epoch"], **FAST)
    assert both.table[["epoch", "measure"]].to_numpy().tolist() == [[1, "b"], [1, "a"], [5, "a"], [5, "b"]]
    assert both.sentences[0].startswith("on mnist/epoch 1, b > a")
    with pytest.raises(ValueError, match="epoch among 1, 5, received 3"):
        order(frame, epoch=3)


def test_levels_are_ordered_apart_or_averaged_within_networks(make_grid):
    frame = make_grid({"a": 0.7, "b": 0.2}, levels=("layer", "weight", "unit"))
    apart = order(frame, **FAST)
    assert apart.tests["level"].tolist() == ["weight", "unit", "layer"]
    mixed = order(frame, by=["task", "model"], **FAST)
    assert mixed.tests["blocks"].tolist() == [10]
    expected = report.scores(frame).groupby("measure")["area"].mean()
    assert mixed.table.set_index("measure")["area"].to_dict() == pytest.approx(expected.to_dict())


def test_reductions_scopes_and_fills_are_never_averaged(make_grid):
    frame = make_grid({"a": 0.7, "b": 0.2})
    both = pd.concat([frame, frame.assign(scope="model")])
    assert order(both, **FAST).tests["scope"].tolist() == ["layer", "model"]
    assert "scope" not in order(frame, **FAST).tests


def several_tasks(make_grid, tasks, **columns):
    random = np.random.default_rng(2)
    options = {"seeds": 3, "random": random, **columns}
    return pd.concat([make_grid({"a": 0.7, "b": 0.2}, task=task, run=task, **options) for task in tasks])


def test_tasks_are_the_blocks_of_a_statement_over_tasks(make_grid):
    frame = several_tasks(make_grid, ["digits", "iris", "mnist", "cifar10", "function", "fashion"])
    found = order(frame, by=["level"], **FAST)
    assert found.tests[["blocks", "blocks_are"]].to_numpy().tolist() == [[6, "tasks"]]
    assert found.pairs["p"][0] == pytest.approx(2 / 2**6)
    assert "6 tasks; a statement over tasks, each the mean of its seeds" in found.sentences[0]
    blocks = groups(report.scores(frame), ["level"])[0].blocks
    expected = report.scores(frame).groupby(["task", "measure"])["area"].mean().unstack()
    pd.testing.assert_frame_equal(blocks, expected, check_names=False)


def test_a_task_weighs_its_architectures_equally(make_grid):
    many = several_tasks(make_grid, ["digits", "mnist"])
    few = several_tasks(make_grid, ["mnist"], seeds=2, model="cnn")
    scores = report.scores(pd.concat([many, few]))
    blocks = groups(scores, [])[0].blocks
    means = scores[scores["task"] == "mnist"].groupby(["model", "measure"])["area"].mean()
    assert blocks.loc["mnist"].to_dict() == pytest.approx(means.groupby("measure").mean().to_dict())


def test_architectures_of_one_task_are_blocks(make_grid):
    frame = pd.concat([several_tasks(make_grid, ["mnist"], model=model) for model in ("mlp", "cnn")])
    found = order(frame, by=["task"], **FAST)
    assert found.tests["blocks_are"].tolist() == ["models"]
    assert "2 models; a statement over architectures" in found.sentences[0]


def test_mixed_runs_are_said(make_grid):
    frame = make_grid({"a": 0.7, "b": 0.2}, seeds=4)
    others = frame.assign(run="other", validation_loss=frame["validation_loss"] + 0.001)
    found = order(pd.concat([frame, others]), **FAST)
    assert found.tests["blocks"].tolist() == [8]
    assert "networks of 2 runs are put together" in str(found)


def test_a_network_that_two_runs_hold_is_one_block(make_grid):
    frame = make_grid({"a": 0.7, "b": 0.2, "c": 0.4}, seeds=4)
    again = frame[frame["measure"] != "c"].assign(run="another")
    once, twice = (order(f, **FAST) for f in (frame, pd.concat([frame, again])))
    assert twice.tests["blocks"].tolist() == [4]
    pd.testing.assert_frame_equal(twice.pairs, once.pairs)
    assert "put together" not in str(twice)
    pd.testing.assert_frame_equal(report.table(pd.concat([frame, again])), report.table(frame))
    # Measures of one run and of another are compared on the networks that both hold.
    parts = [frame[frame["measure"] == "c"].assign(run="other"), frame[frame["measure"] != "c"]]
    pd.testing.assert_frame_equal(order(pd.concat(parts), **FAST).pairs, once.pairs)
    assert order(pd.concat([frame, again]), by=["run"], **FAST).tests["blocks"].tolist() == [4, 4]


def test_measures_of_different_runs_are_not_compared(make_grid):
    others = make_grid({"c": 0.4, "d": 0.2}, seeds=4, run="other")
    others["validation_loss"] += 0.001
    frame = pd.concat([make_grid({"a": 0.7, "b": 0.6}, seeds=4), others])
    found = order(frame, **FAST)
    assert found.pairs.empty and found.table["measure"].tolist() == ["a", "b", "c", "d"]
    assert "no network has all of a, b, c, d: averages over different sets are not compared" in str(found)


def test_old_files_without_levels_or_trials(make_legacy, tmp_path):
    steps = {
        name: [0.03, *[value] * 9, 2.3026] for name, value in (("RANDOM", 2), ("FISHER_MATRIX", 1), ("OTHER", 1.5))
    }
    make_legacy(steps).drop(columns="Aggregation Level").to_csv(tmp_path / "small.csv")
    found = order(report.read(tmp_path / "small.csv"), **FAST)
    assert found.table["measure"].tolist() == ["fisher_batched", "other", "random"]
    assert "on small (task unknown)/unknown model/unknown level, no test is possible with 1 network" in str(found)


@pytest.mark.parametrize(("by", "message"), [(["measure"], r"received \['measure'\]"), ("task", "received 'task'")])
def test_wrong_columns_to_split_by(make_grid, by, message):
    with pytest.raises(ValueError, match=message):
        order(make_grid({"a": 0.5}), by=by)


def test_unknown_score(make_grid):
    with pytest.raises(ValueError, match="received 'loss'"):
        order(make_grid({"a": 0.5}), score="loss")


def test_the_bootstrap_is_seeded(make_grid):
    frame = make_grid({"a": 0.5, "b": 0.49}, noise=0.05)
    one, again, other = (order(frame, resamples=99, seed=seed).table for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(one, again)
    assert not one.equals(other)


def test_null_frames_raise_no_alarm_more_often_than_stated(make_grid):
    """Labels shuffled within every network: whole orderings, end to end."""
    random = np.random.default_rng(5)
    scores = report.scores(make_grid({"a": 0.5, "b": 0.5, "c": 0.5}, seeds=10, noise=0.05))
    alarms = []
    for _ in range(60):
        shuffled = scores.assign(area=scores.groupby("seed")["area"].transform(random.permutation))
        alarms.append((order(shuffled, resamples=9).pairs["p_holm"] <= 0.05).any())
    assert np.mean(alarms) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / len(alarms))


def test_power_agrees_with_the_tests(make_grid):
    assert report.power(3, 4).startswith(
        "Tests: 3 networks cannot tell 4 measures apart, whatever comes out. 8 can, or 7"
    )
    assert "adjusted p-values reach down to 0.047" in report.power(8, 4) and "cannot" in report.power(7, 4)
    assert report.power(6, 2).endswith("0.031.") and "6 can." in report.power(5, 2)
    assert "nothing to order, with 1 measure" in report.power(9, 1) and "1 network cannot" in report.power(1, 2)
    clear = {"a": 0.8, "b": 0.6, "c": 0.4, "d": 0.2}
    least = [order(make_grid(clear, seeds=seeds), **FAST).pairs["p_holm"].min() for seeds in (7, 8)]
    assert least[0] > 0.05 >= least[1] == pytest.approx(0.046875)
