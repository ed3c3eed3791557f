"""Reports of retraining: rates chosen on validation data, pairs by network, tests adjusted, and a figure."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import report
from report.statistics.tests import holm

NETWORKS = range(6)
GOOD = {"none": 0.98, "magnitude": 0.95, "obd": 0.96, "random": 0.9}


@pytest.fixture
def frame():
    """Two epochs, two rates of which 0.1 is better on validation data and worse on the test set; noise by network."""
    rng, rows = np.random.default_rng(0), []
    easy = rng.normal(0, 0.01, len(NETWORKS))
    for measure, level in GOOD.items():
        removals = [("weight", "layer", p, f) for p in ("one_shot", "rewind") for f in (0.5, 0.9)]
        for where in removals if measure != "none" else [("none", "none", "none", 0.0)]:
            for rate in (0.1, 0.01):
                for seed in NETWORKS:
                    for epoch in (0, 1):
                        test = level - 0.1 * (1 - epoch) - 0.02 * (where[3] > 0.5) + easy[seed] + rng.normal(0, 0.003)
                        test -= 0.05 * (rate == 0.1)
                        rows.append([seed, measure, *where, rate, epoch, test, test + 0.1 * (rate == 0.1)])
    names = ["seed", "measure", "level", "scope", "protocol", "fraction", "learning_rate", "epoch"]
    made = pd.DataFrame(rows, columns=[*names, "test_accuracy", "validation_accuracy"])
    made = made.assign(run="run", task="iris", model="mlp", fill="zero", removed_fraction=made["fraction"])
    made = made.assign(seconds=1.0, status="ok")
    return made.assign(test_loss=1 - made["test_accuracy"], validation_loss=1 - made["validation_accuracy"])


def finals(frame, measure, fraction=0.5, protocol="one_shot", rate=0.1):
    where = {"measure": measure, "epoch": 1, "learning_rate": rate, "fraction": fraction, "protocol": protocol}
    if measure == "none":
        where |= {"fraction": 0.0, "protocol": "none"}
    return frame[np.logical_and.reduce([frame[k] == v for k, v in where.items()])].set_index("seed")["test_accuracy"]


def test_by_hand(frame):
    table = report.retraining.summary(frame.sample(frac=1, random_state=0))
    assert len(table) == 1 + 2 * 2 * 3 and set(table["learning_rate"]) == {0.1} and not table["failed"].any()
    assert table["measure"].tolist() == ["obd", "magnitude", "random"] * 4 + ["none"]
    of = table[(table["protocol"] == "rewind") & (table["fraction"] == 0.9)].set_index("measure")
    gains = {m: finals(frame, m, 0.9, "rewind") - finals(frame, "random", 0.9, "rewind") for m in ("magnitude", "obd")}
    p = [stats.ttest_1samp(gain, 0).pvalue for gain in gains.values()]
    for (measure, gain), single, adjusted in zip(gains.items(), p, holm(p), strict=True):
        row = of.loc[measure]
        assert row["random_difference"] == pytest.approx(gain.mean())
        interval = stats.t.interval(0.95, len(gain) - 1, gain.mean(), stats.sem(gain))
        assert (row["random_difference_low"], row["random_difference_high"]) == pytest.approx(interval)
        assert (row["random_p"], row["random_p_holm"]) == pytest.approx((single, adjusted))
        assert row["random_p_wilcoxon"] == pytest.approx(stats.wilcoxon(gain).pvalue)
    assert of.loc["random"].filter(like="random_").isna().all()
    unpruned = finals(frame, "random", 0.9, "rewind") - finals(frame, "none")
    assert of.loc["random", "unpruned_difference"] == pytest.approx(unpruned.mean())
    values = finals(frame, "obd", 0.9, "rewind")
    interval = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    assert of.loc["obd", "test_accuracy"] == pytest.approx(values.mean())
    assert tuple(of.loc["obd", ["test_accuracy_low", "test_accuracy_high"]]) == pytest.approx(interval)


def test_of_the_loss_less_is_better(frame):
    by_loss = report.retraining.summary(frame, "loss")
    assert by_loss["measure"].tolist() == report.retraining.summary(frame)["measure"].tolist()
    best = by_loss.set_index(["protocol", "fraction", "measure"]).loc["one_shot", 0.5, "obd"]
    assert best["learning_rate"] == 0.1 and best["random_difference"] > 0 > best["unpruned_difference"]
    with pytest.raises(ValueError, match="Expected metric to be one of accuracy, loss, received 'f1'"):
        report.retraining.summary(frame, "f1")


def test_rates_are_compared_on_the_same_networks_and_failures_are_the_worst(frame):
    last = frame["epoch"] == 1
    few = frame[~((frame["learning_rate"] == 0.1) & (frame["seed"] > 1))]  # the better rate, on two networks alone
    assert set(report.retraining.best_rates(few)["learning_rate"]) == {0.1}
    failed = frame.copy()
    values = ["test_accuracy", "validation_accuracy", "test_loss", "validation_loss"]
    of_one = (frame["measure"] == "obd") & (frame["seed"] == 2) & last
    failed.loc[of_one & (frame["learning_rate"] == 0.1), values] = np.nan
    for metric in ("accuracy", "loss"):
        chosen = report.retraining.best_rates(failed, metric)
        assert set(chosen[chosen["measure"] == "obd"]["learning_rate"]) == {0.01}
        assert set(chosen[chosen["measure"] != "obd"]["learning_rate"]) == {0.1}
    failed.loc[of_one, values] = np.nan
    table = report.retraining.summary(failed)
    obd = table[table["measure"] == "obd"]
    assert (obd["failed"] == 1).all() and obd["test_accuracy"].isna().all() and obd["random_p"].notna().all()
    assert table["measure"].tolist() == ["magnitude", "random", "obd"] * 4 + ["none"]  # what failed comes last


def test_without_baselines_and_with_one_network(frame):
    alone = report.retraining.summary(frame[frame["measure"] == "obd"])
    assert len(alone) == 4 and alone.filter(regex="random_|unpruned_").isna().all(axis=None)
    one = report.retraining.summary(frame[frame["seed"] == 0])
    assert one["test_accuracy"].notna().all() and one.filter(regex="_low|_p|_difference").isna().all(axis=None)


@pytest.mark.parametrize("by, panels", [("measure", 2), ("protocol", 3)])
@pytest.mark.parametrize("networks", [6, 3])
def test_the_figure_has_the_means(frame, by, panels, networks):
    figure = report.retraining.plot(frame[frame["seed"] < networks], by)
    assert len(figure.axes) == panels
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    measure, protocol = ("obd", "one_shot") if by == "measure" else ("magnitude", "rewind")
    line = lines[measure if by == "measure" else protocol]
    assert line.get_xdata().tolist() == [0.5, 0.9]
    means = [finals(frame, measure, f, protocol)[:networks].mean() for f in (0.5, 0.9)]
    np.testing.assert_allclose(line.get_ydata(), means)
    across = finals(frame, "none")[:networks].mean()
    np.testing.assert_allclose(lines["nothing removed"].get_ydata(), [across] * 2)
    title = figure.get_suptitle()
    assert (
        f"{networks} networks" in title
        and ("bars" in title) == (networks == 6)
        and ("dots" in title) != ("bars" in title)
    )


@pytest.fixture
def costly(frame):
    """The same with costs: parameters that differ by network, and one removal that could not be cut in one network."""
    left = 1000 * (1 - frame["fraction"]) + frame["seed"]
    costs = frame.assign(parameters=left, multiply_adds=2 * left, latency_1=left / 500, latency_32=left / 50)
    uncut = (costs["measure"] == "obd") & (costs["fraction"] == 0.9) & (costs["seed"] == 2)
    costs.loc[uncut, report.retraining.results.COSTS] = np.nan
    return costs.assign(cost_status=np.where(uncut, "Expected something else.", "ok"))


@pytest.mark.parametrize("networks", [6, 2])
def test_against_costs_a_point_is_the_mean_of_both(costly, networks):
    figure = report.retraining.plot(costly[costly["seed"] < networks], against="latency_1")
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    own = np.arange(networks).mean()
    np.testing.assert_allclose(lines["magnitude"].get_xdata(), [(500 + own) / 500, (100 + own) / 500])
    means = [finals(costly, "magnitude", f)[:networks].mean() for f in (0.5, 0.9)]
    np.testing.assert_allclose(lines["magnitude"].get_ydata(), means)
    whole = networks == 2  # without the network that could not be cut
    assert len(lines["obd"].get_xdata()) == (2 if whole else 1)
    title = " ".join(figure.get_suptitle().split())
    assert ("2 removals that cannot be cut" in title) != whole  # of both protocols
    assert figure.axes[0].get_xlabel() == "ms of a call with 1 example" and figure.axes[0].get_xscale() == "log"
    (whole_network,) = (line for line in figure.axes[0].get_lines() if line.get_xdata()[0] == (1000 + own) / 500)
    assert whole_network.get_ydata()[0] == pytest.approx(finals(costly, "none")[:networks].mean())


def test_right_after_the_removal(costly):
    first = costly[costly["epoch"] == 0]
    title = report.retraining.plot(first, against="parameters").get_suptitle()
    assert "right after the removal" in title
    assert "after retraining" in report.retraining.plot(costly).get_suptitle()


def test_costs_stand_beside_accuracies(costly, frame):
    table = report.retraining.summary(costly).set_index(["protocol", "fraction", "measure"])
    assert table.loc[("rewind", 0.9, "random"), "parameters"] == pytest.approx(100 + 2.5)
    assert np.isnan(table.loc[("rewind", 0.9, "obd"), "parameters"])
    assert table.loc[("none", 0.0, "none"), "latency_32"] == pytest.approx(1002.5 / 50)
    assert "parameters" not in report.retraining.summary(frame)
    with pytest.raises(ValueError, match=r"Expected rows with 'parameters' .* costs="):
        report.retraining.plot(frame, against="parameters")
    with pytest.raises(ValueError, match=r"Expected against to be one of fraction, .* received 'size'"):
        report.retraining.plot(frame, against="size")


def test_figures_of_given_axes_and_of_what_there_is_not(frame):
    axes = report.retraining.plot(frame).axes
    assert report.retraining.plot(frame, ax=axes) is axes[0].get_figure()
    with pytest.raises(ValueError, match="Expected by to be 'measure' or 'protocol', received 'level'"):
        report.retraining.plot(frame, by="level")
    with pytest.raises(ValueError, match="Expected at least one row to draw"):
        report.retraining.plot(frame[frame["measure"] == "none"])
    with pytest.raises(ValueError, match="Expected rows of one run, received 2"):
        report.retraining.plot(pd.concat([frame, frame.assign(run="other")]))


def test_what_was_written_is_read(frame, write, tmp_path):
    path = write(frame, columns=report.retraining.results.COLUMNS)
    pd.testing.assert_frame_equal(
        report.retraining.read(path), frame[report.retraining.results.COLUMNS], check_exact=False, rtol=1e-12
    )
    with_costs = write(frame.assign(parameters=7.0), "costs.csv", [*report.retraining.results.COLUMNS, "parameters"])
    assert set(report.retraining.read(with_costs)["parameters"]) == {7.0}
    with_costs.unlink()
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.warns(UserWarning, match="Left out"):
        assert len(report.retraining.read(tmp_path)) == len(frame)
    write(frame.assign(test_loss=0.0), "twice.csv", report.retraining.results.COLUMNS)
    with pytest.raises(ValueError, match="contradict"):
        report.retraining.read([path, tmp_path / "twice.csv"])
