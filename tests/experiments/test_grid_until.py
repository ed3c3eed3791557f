"""Seeds follow until every pair is settled: which, when it ends, with kills, and beside others."""

import json
import shutil

import pytest
from grid_runs import linear, run, same

import experiments.__main__
import report
from experiments import threshold_grid, until
from experiments.storage import store

pytestmark = pytest.mark.usefixtures("quick")
# Magnitude and its inverse differ on every network: 7 that agree settle the pair.
CLEAR = {
    "measures": ["magnitude", "inverse_magnitude"], "levels": ["weight"], "epochs": 3, "every": 3,
    "batch_size": 16, "thresholds": 5, "model": linear, "seeds": [0, 1], "until": "settled",
}  # fmt: skip


@pytest.fixture(scope="module")
def settled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("settled")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("engine.structure.xla", lambda model: False)
        return folder, run(folder, **CLEAR)


def about(folder):
    (path,) = folder.glob("*.json")
    return json.loads(path.read_text())


def test_networks_follow_until_all_pairs_are_settled_and_no_more(settled):
    _, frame = settled
    seeds = sorted(frame["seed"].unique())
    assert seeds == list(range(len(seeds))) and 7 <= len(seeds) < 20
    assert report.settled(frame) == (1, 1) and report.settled(frame[frame["seed"] < seeds[-1]]) == (0, 1)


def test_it_is_the_run_that_it_is_without_until(settled):
    folder, frame = settled
    fixed = {**CLEAR, "seeds": range(frame["seed"].nunique()), "until": None}
    again = run(folder, **fixed)
    same(again, frame)
    # Whoever asks for more of it later, it was grown by what was seen in it.
    assert about(folder)["until"] == "settled" and "until" not in about(folder)["settings"]
    assert set(report.read(folder)["anytime"]) == {True} and again.attrs["anytime"]
    assert report.order(report.read(folder), resamples=9).tests["anytime"].tolist() == [True]


def test_who_asks_again_trains_nothing(settled, trained):
    folder, frame = settled
    same(run(folder, **CLEAR), frame)
    grid = threshold_grid.Grid(out=folder, task="iris", learning_rate=0.02, **CLEAR)
    assert grid.estimate()[:3] == (len(frame), len(frame), 0) and grid.missing() == 0 and not trained


def test_the_status_says_how_many_pairs_are_settled(settled, capsys):
    folder, _ = settled
    experiments.__main__.main([str(folder)])
    shown = capsys.readouterr().out
    assert "settled" in shown and "1 of 1" in shown and "finished" in shown
    assert until.told(folder, "nothing") == ""


@pytest.mark.parametrize("workers", [1, "join"])
def test_after_a_kill_in_a_seed_that_was_added_it_goes_on_to_the_same_end(settled, tmp_path, monkeypatch, workers):
    shutil.copytree(settled[0] / "networks", tmp_path / "networks")  # trained already
    append, rows = store.Store.append, []

    def dying(self, new):
        if new and "validation_loss" in new[0]:
            rows.extend(new)
            if new[0]["seed"] == 4:
                raise KeyboardInterrupt
        append(self, new)

    with monkeypatch.context() as patch:
        patch.setattr(store.Store, "append", dying)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, workers=workers, **CLEAR)
    assert max(row["seed"] for row in rows) == 4 and about(tmp_path)["asked"] == 5 * 2 * 5
    assert set(report.read(tmp_path)["anytime"]) == {True}
    same(run(tmp_path, workers=workers, **CLEAR), settled[1])


def test_it_ends_at_the_limit(tmp_path):
    frame = run(tmp_path, **{**CLEAR, "limit": 4, "workers": "join"})
    assert sorted(frame["seed"].unique()) == [0, 1, 2, 3] and report.settled(frame)[0] == 0


class Rows:
    """Stands for the rows of some seeds, in which measures differ by some gains."""

    def __init__(self, make_grid, gains, seeds=()):
        scores = report.scores(make_grid({"a": 0.5, "b": 0.5}, seeds=len(gains)))
        gain = [gains[seed] for seed in scores["seed"]]
        self.frame = scores.assign(area=[0.5 + g * (m == "b") for g, m in zip(gain, scores["measure"], strict=True)])
        self.there = set(seeds)

    def choose(self, settings, chance=None):
        made = until.Until({"chance_loss": 2.3, "chance_accuracy": None})
        made._scored = lambda rows, where: rows
        return made.seeds(settings, self.there.__contains__, lambda seed: self.frame[self.frame["seed"] == seed])


@pytest.fixture
def make_grid():
    import sys
    from importlib import import_module
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).parents[1] / "report"))
    return import_module("report_frames").grid


def settings(**changed):
    given = {"measures": ["magnitude", "random"], "seeds": [0, 1, 2], "until": "settled", "limit": 10, **changed}
    return threshold_grid.GridSettings("iris", "mlp", **given)


def test_which_seeds_are_wanted_and_which_may_be(make_grid):
    clear = [0.1] * 12
    for there, certain, possible in [
        ([], [0, 1, 2], range(10)),
        ([0, 2, 5], [0, 1, 2, 5], range(10)),
        ([0, 1, 2], [0, 1, 2, 3], range(10)),
        ([0, 1, 2, 4], [0, 1, 2, 4, 3], range(10)),
        ([0, 1, 2, 3, 4, 6, 7], [0, 1, 2, 3, 4, 6, 7], [0, 1, 2, 3, 4, 6, 7]),  # seven that agree are enough
    ]:
        wanted, every = Rows(make_grid, clear, there).choose(settings())
        assert (wanted, list(every)) == (certain, list(possible))
    undecided = [0.1, -0.1] * 6
    wanted, every = Rows(make_grid, undecided, range(10)).choose(settings())
    assert wanted == every == list(range(10))  # the limit
    assert Rows(make_grid, undecided, range(3)).choose(settings(until=None)) == ([0, 1, 2], [0, 1, 2])
    assert Rows(make_grid, clear, range(3)).choose(settings(seeds=[0, 7, 2]))[0] == [0, 7, 2]


def test_what_is_the_same_on_disk_is_decided_alike_by_whoever_looks(make_grid):
    rows = Rows(make_grid, [0.1, -0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1], range(10))
    one = rows.choose(settings(limit=12))
    rows.there = set(reversed(range(10)))
    assert rows.choose(settings(limit=12)) == one


def test_where_nothing_can_be_compared_it_gives_up_with_a_warning(make_grid):
    rows = Rows(make_grid, [0.1] * 10, range(6))
    rows.frame["area"] = float("nan")
    assert rows.choose(settings())[0] == list(range(7))
    rows.there.add(6)
    with pytest.warns(UserWarning, match="on 7 networks no two have a score"):
        assert rows.choose(settings())[0] == list(range(7))


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"until": "significant"}, "until to be one of 'settled' or None, received 'significant'"),
        ({"limit": 0}, "limit to be a whole number of at least 1, received 0"),
        ({"limit": 2}, "a limit of at least the 3 seeds that are asked for, received 2"),
        ({"measures": ["random"]}, 'at least two measures to compare with until="settled", received random'),
    ],
)
def test_what_until_cannot_be(changed, message):
    with pytest.raises(ValueError, match=message):
        settings(**changed)


def test_splits_of_one_network_cannot_be_added(tmp_path):
    model = linear()
    model.compile(loss="sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match="Expected until only with networks that are trained here"):
        threshold_grid.run(network=model, task="iris", until="settled", out=tmp_path)
