"""One network that was judged by several splits of the examples: the splits are what is compared."""

import numpy as np
import pandas as pd
import pytest

import report
from report.grid.blocks import groups


def rows(network="wa", folds=8, measures=("good", "fair", "bad"), run="r", seed=0, model="m", examples=50):
    """Rows of one network whose measures differ by more than its folds do."""
    rng, found = np.random.default_rng(seed), []
    for fold in range(folds):
        for place, measure in enumerate(measures):
            for t in np.linspace(0, 1, 5):
                loss = 0.2 + 2.1 * t ** (3 - place + 0.1 * rng.random()) if t else 0.2 + 0.001 * fold
                found.append({
                    "run": run, "task": "examples-1", "model": model, "seed": fold, "epoch": 0, "measure": measure,
                    "level": "weight", "reduction": "mean", "scope": "layer", "fill": "noise", "threshold": t,
                    "replaced_fraction": t, "tie_fraction": 0.0, "examples": examples, "validation_loss": loss,
                    "validation_loss_stderr": 0.01, "validation_accuracy": 1 - 0.9 * t, "seconds": 0.0,
                    "network": network, "weights": network, "fold": f"{fold}/{folds}", "status": "ok",
                    "chance_loss": 2.3, "chance_accuracy": 0.1,
                })  # fmt: skip
    return pd.DataFrame(found)


def test_the_sentence_says_for_what_it_holds():
    found = report.order(rows())
    assert "good > fair > bad" in found.sentences[0]
    summary = " ".join(found.summary.split())
    assert "1 good 2 fair 3 bad" in summary
    assert (
        "8 splits; Friedman test" in summary and "a statement for this network, over splits of the examples" in summary
    )
    assert "networks" not in found.summary.partition("Pairs:")[0]
    assert list(report.table(rows())["splits"]) == [8, 8, 8]
    assert set(report.at_thresholds(rows(), [0.5])["splits"]) == {8}


def test_two_runs_of_the_same_folds_are_one():
    both = pd.concat([rows(), rows(run="another", measures=("good", "worse"), examples=40)])
    (group,) = groups(both, ["task", "model", "level"])
    assert len(group.blocks) == 8 and group.repeated == 8 and group.kind == "splits"


def test_folds_of_two_divisions_overlap_and_one_of_them_counts():
    both = pd.concat([rows(), rows(run="another", folds=4)])
    (group,) = groups(both, ["task", "model", "level"])
    assert len(group.blocks) == 8 and group.divided == 4
    assert "4 splits left out, for they overlap with the others" in report.order(both).summary


def test_of_several_networks_each_is_the_mean_of_its_folds():
    several = pd.concat([rows(f"w{n}", run=f"r{n}", folds=4, seed=n) for n in range(6)])
    (group,) = groups(several, ["task", "model", "level"])
    assert group.kind == "networks" and len(group.blocks) == 6
    one = groups(rows("w3", run="r3", folds=4, seed=3), ["task", "model", "level"])[0].blocks
    assert np.isclose(group.blocks.to_numpy(), one.mean().to_numpy(), rtol=1e-9).all(axis=1).any()


def test_models_are_compared_over_the_means_of_their_folds():
    several = pd.concat([rows(f"w{n}", run=f"r{n}", model=f"m{n}", seed=n) for n in range(4)])
    (group,) = groups(several, ["task", "level"])
    assert group.kind == "models" and len(group.blocks) == 4


def test_chance_is_taken_from_what_the_run_left_in_the_frame():
    frame = rows().drop(columns=["chance_loss", "chance_accuracy"])
    assert report.scores(frame)["flags"].str.contains("chance estimated").all()
    frame.attrs.update(chance_loss=2.3, chance_accuracy=0.1)
    pd.testing.assert_frame_equal(report.scores(frame), report.scores(rows()), check_names=False)


@pytest.mark.parametrize("folds, said", [(8, "8 splits can"), (2, "2 splits cannot")])
def test_power_counts_splits(folds, said):
    assert said in report.power(folds, 3, kind="splits")
