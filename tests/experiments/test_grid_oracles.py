"""Oracle lines in a grid: rows like those of measures, the same however often they were interrupted."""

import numpy as np
import pytest
from grid_runs import run, same

import importance
import report
import tasks
import thresholding
from engine import elimination, losses, training
from experiments import oracles, threshold_grid

UNITS = 16 + 16 + 3
pytestmark = pytest.mark.usefixtures("quick")
SMALL = {
    "measures": ["random", "inverse_magnitude"], "levels": ["unit"], "thresholds": 6, "epochs": 4, "every": 4,
    "seeds": [0], "batch_size": 8, "learning_rate": 0.02,
    "oracles": ["greedy", "shapley:examples=40,permutations=3"],
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("oracles")


def grid(folder, **changed):
    return threshold_grid.Grid(out=folder, task="iris", **{**SMALL, **changed})


@pytest.mark.parametrize("scope", ["layer", "model"])
def test_the_rows_are_those_of_the_order_that_a_plain_search_finds(tmp_path, scope):
    made = grid(tmp_path, oracles=["greedy"], scopes=[scope], scored_on="validation", examples=None, fill="zero")
    frame = made.run(progress=False)
    partition, model, task = made._partitions["unit", scope], made._model, tasks.load("iris")
    ids, scopes = partition.numbered()
    assert [len(groups) for groups in scopes] == ([16, 16, 3] if scope == "layer" else [UNITS])
    weights = training.values(model.trainable_variables)
    new = thresholding.replacements(weights, "zero")
    x, y = task.x_validation, task.y_validation
    order = elimination.greedy(elimination.Elimination(model, task.loss, x, y, ids, new), scopes)
    place = np.argsort(order)
    rows = frame[frame["measure"] == "greedy"].set_index("threshold")["validation_loss"]
    for t in made.settings.thresholds:
        gone = np.zeros(len(order), bool)
        for groups in scopes:  # of each scope the groups that go first, as many as the threshold says
            first = groups[np.argsort(place[groups])]
            sizes = np.cumsum([sum((own == group).sum() for own in ids) for group in first])
            gone[first[np.append(0, sizes[:-1]) / sizes[-1] < np.float32(t)]] = True
        replaced = [np.where(gone[own], 0, w) for own, w in zip(ids, weights, strict=True)]
        training.assign(model.trainable_variables, replaced)
        found = np.asarray(losses.per_example(task.loss, y, model(x))).mean()
        assert rows[t] == pytest.approx(found, rel=1e-5), t
        training.assign(model.trainable_variables, weights)
    scored = report.scores(frame.assign(chance_loss=np.log(3))).set_index("measure")["area"]
    assert scored["greedy"] < scored.drop("greedy").min()


def test_reports_hold_measures_against_them_and_order_without(folder):
    frame = run(folder, **SMALL)
    lines = {"greedy", "shapley:examples=40,permutations=3"}
    assert set(frame["measure"]) == lines | {"random", "inverse_magnitude"} and (frame["status"] == "ok").all()
    frame = report.read(folder)
    assert not set(report.order(frame).table["measure"]) & lines
    table = report.regret(frame).table
    assert set(table["measure"]) == set(frame["measure"]) - {"greedy"} and (table["to"] == "greedy").all()


def test_they_are_added_to_a_study_and_go_on_where_they_were_stopped(folder, tmp_path, monkeypatch):
    expected, steps, saved = run(folder, **SMALL), [], []
    before = run(tmp_path, **SMALL | {"oracles": []})
    losses_of, save = elimination.Elimination.losses, oracles.elimination.greedy

    def counting(self, gone, wanted):
        steps.append(int(gone.sum()))
        if len(steps) == 12 and not saved:
            saved.append(True)
            raise KeyboardInterrupt
        return losses_of(self, gone, wanted)

    monkeypatch.setattr(elimination.Elimination, "losses", counting)
    monkeypatch.setattr(oracles, "EVERY", 5)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, **SMALL)
    frame = run(tmp_path, **SMALL)
    assert steps == [*range(12), *range(10, UNITS)]
    same(frame, expected)
    assert frame.head(len(before)).equals(before)
    assert not list((tmp_path / "checkpoints").rglob("*.npz")) and save is oracles.elimination.greedy


def test_shapley_is_the_mean_rise_over_orders_until_chance(folder):
    made = grid(folder)
    made._source.begin(0)
    made._source.reach(4, [])
    oracle = oracles.load("shapley:permutations=4")
    curve = threshold_grid._Curve(oracle.name, "unit", "mean", "model", "noise")
    work, _ = made._work(oracle, 0, 4, curve)
    expected, chance, cut = np.zeros(UNITS), np.log(3), 0
    for number in range(4):
        order = oracles.draws.generator(0, "orders of shapley", number).permutation(UNITS)
        gone, last = np.zeros(UNITS, bool), work.elimination.path(order)[0]
        for group in order:
            if last >= chance:
                cut += 1
                break
            now = work.elimination.losses(gone, np.arange(UNITS) == group)[group]
            gone[group] = True
            expected[group] += now - last
            last = now
    assert cut
    found = oracle.find(work)
    (total,) = work.kept.load(4)
    np.testing.assert_allclose(total, expected, atol=1e-5)
    np.testing.assert_array_equal(found, oracles.stats.rankdata(total))
    work.kept.clear()


def test_the_cost_is_said_beforehand(folder, tmp_path, monkeypatch):
    assert oracles.load("greedy").evaluations([np.arange(460)]) == 460 * 461 // 2
    assert oracles.load("shapley:permutations=7").evaluations([np.arange(4), np.arange(4, 10)]) == 70
    assert grid(tmp_path, oracles=["greedy"]).estimate().seconds > 0
    monkeypatch.setattr(oracles, "seconds", lambda oracle, work: 1e6)
    without, with_them = (grid(tmp_path, oracles=names).estimate() for names in ([], ["greedy"]))
    assert with_them.asked == without.asked * 3 // 2 and with_them.seconds >= 1e6 > without.seconds


def test_groups_over_scopes_are_numbered_as_they_are_ranked(folder):
    made = grid(folder)
    for scope in ("layer", "model"):
        partition = made._partitions["unit", scope]
        ids, scopes = partition.numbered()
        values = np.arange(1, UNITS + 1, dtype="float32")
        found = np.concatenate(partition.values(oracles.importances(values, ids)))
        np.testing.assert_allclose(found, values / UNITS)
        assert np.array_equal(np.concatenate(scopes), np.arange(UNITS))
    assert importance.names() and not set(oracles.ORACLES) & set(importance.names())
