"""Retraining: what is removed, by which protocol, from which weights; and runs that are killed and go on."""

import itertools
import json
import shutil

import keras
import numpy as np
import pandas as pd
import pytest

import aggregation
import importance
import tasks
import thresholding
from engine import repair, training
from experiments import networks, retraining, threshold_grid

pytestmark = pytest.mark.usefixtures("quick")
SMALL = {
    "task": "iris", "measures": ["magnitude", "random"], "fractions": [0.5, 0.8], "epochs": 3, "budget": 2, "rounds": 2,
    "batch_size": 32, "learning_rate": 0.02, "records": False,
}  # fmt: skip
RUNS = 1 + 2 * 2 * 3
"""The retrainings of one network that these are."""


def run(out, **settings):
    return retraining.run(out=out, progress=False, **{**SMALL, **settings})


def values(frame):
    """What two runs of the same settings share, in an order of its own."""
    return frame.drop(columns="seconds").sort_values(retraining.KEY, ignore_index=True)


def same(frame, expected):
    pd.testing.assert_frame_equal(values(frame), values(expected), check_exact=True)


def kept(out, epoch, seed=0):
    """Return what the kept network of a seed is after an epoch, its weights first."""
    (folder,) = (out / "networks").iterdir()
    network = networks.Network(out, folder.name, seed)
    network.begin(network._read(0)[0])
    state = network.load(epoch)
    return [state[name] for name in sorted(state) if name.startswith("model/")]


@pytest.fixture
def looked_at(monkeypatch):
    """Record (run, weights, what is removed) whenever a model is evaluated."""
    seen, evaluate = [], retraining.Retrainings._evaluate

    def recorded(self, of, why=None):
        removed = [np.array(mask) for mask in self._optimizer.removed(self._model)]
        seen.append((of, training.values(self._model.trainable_variables), removed))
        return evaluate(self, of, why)

    monkeypatch.setattr(retraining.Retrainings, "_evaluate", recorded)
    return seen


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing interrupted: its folder and its rows. Copy the folder before changing it."""
    from engine import structure

    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structure, "xla", lambda model: False)
        return folder, run(folder, seeds=[0, 1])


def test_a_row_for_each_epoch_of_each_retraining(whole):
    folder, frame = whole
    assert list(frame.columns) == retraining.COLUMNS and set(frame["status"]) == {"ok"}
    assert len(frame) == 2 * RUNS * 3 and not frame.duplicated(retraining.KEY).any()
    assert set(frame.groupby(["seed", *retraining.RUN]).size()) == {3}  # equal budgets, and the removal itself
    unpruned = frame[frame["measure"] == "none"]
    assert len(unpruned) == 2 * 3 and not unpruned["removed_fraction"].any()
    # Nothing was trained yet, and nothing removed: the network as it was kept.
    first = unpruned[(unpruned["seed"] == 1) & (unpruned["epoch"] == 0)].iloc[0]
    task = tasks.load("iris", seed=1)
    model = task.build_model()
    training.assign(training.model_variables(model), kept(folder, 3, seed=1))
    for part in ("validation", "test"):
        x, y = getattr(task, f"x_{part}"), getattr(task, f"y_{part}")
        logits = np.asarray(model(x, training=False))
        assert first[f"{part}_accuracy"] == pytest.approx(np.mean(logits.argmax(axis=1) == y))
        assert first[f"{part}_loss"] == pytest.approx(float(np.mean(task.loss(y, logits))), rel=1e-5)
    about = json.loads(next(folder.glob("*.json")).read_text())
    assert about["kind"] == "retraining" and about["networks"] == next((folder / "networks").iterdir()).name


def test_one_shot_is_a_plain_loop(tmp_path):
    frame = run(tmp_path, optimizer="sgd", measures=["magnitude"], fractions=[0.5], protocols=["one_shot"])
    found = frame[frame["measure"] == "magnitude"].set_index("epoch")
    task = tasks.load("iris")
    model = task.build_model()
    training.assign(training.model_variables(model), kept(tmp_path, 3))
    scores = importance.load("magnitude").score(model, task.x_train, task.y_train)
    ranks = thresholding.rank(scores, aggregation.load("weight").groups(model), model=model)
    model.compile(keras.optimizers.SGD(0.02), task.loss, jit_compile=False)
    for epoch in range(3):
        for rows in training.order(len(task.x_train), 32, 0, 3 + epoch) if epoch else [None]:
            if rows is not None:
                model.train_on_batch(task.x_train[rows], task.y_train[rows])
            weights = training.values(model.trainable_variables)
            training.assign(model.trainable_variables, thresholding.threshold(weights, ranks, 0.5))
        loss = float(np.mean(task.loss(task.y_test, model(task.x_test, training=False))))
        assert found.loc[epoch, "test_loss"] == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("scope", ["layer", "model", "output", "model:lamp"])
def test_iterative_reaches_the_fraction_and_only_removes(tmp_path, looked_at, scope):
    settings = {"measures": ["fisher_empirical"], "scopes": [scope], "budget": 4, "rounds": 3, "unpruned": False}
    frame = run(tmp_path, protocols=["one_shot", "iterative"], **settings)
    last = frame[frame["epoch"] == 4].groupby("protocol")["removed_fraction"].apply(list)
    assert last["iterative"] == last["one_shot"]
    removed = [masks for of, _, masks in looked_at if (of.protocol, of.fraction) == ("iterative", 0.8)]
    for before, after in itertools.pairwise(removed):
        assert all((mask <= later).all() for mask, later in zip(before, after, strict=True))
    counts = [sum(int(mask.sum()) for mask in masks) for masks in removed]
    assert len(counts) == 5 and len(set(counts)) >= 2
    # Scored anew, on a network that has moved on, another order comes out than that of the beginning.
    at_once = [masks for of, _, masks in looked_at if (of.protocol, of.fraction) == ("one_shot", 0.8)]
    assert any((a != b).any() for a, b in zip(removed[-1], at_once[-1], strict=True))


def test_iterative_with_one_round_is_one_shot(tmp_path):
    frame = run(tmp_path, protocols=["one_shot", "iterative"], rounds=1, unpruned=False)
    one, other = (values(part.drop(columns="protocol").assign(protocol="")) for _, part in frame.groupby("protocol"))
    pd.testing.assert_frame_equal(one, other, check_exact=True)


@pytest.mark.parametrize(
    "budget, rounds, epochs", [(5, 5, [0, 2, 3, 4, 5]), (5, 3, [0, 2, 4]), (4, 1, [0]), (3, 2, [0, 2])]
)
def test_rounds_are_spread_over_the_budget(budget, rounds, epochs):
    found = retraining.schedule("iterative", 0.95, budget, rounds)
    assert list(found) == epochs and list(found.values()) == sorted(found.values())
    assert found[epochs[-1]] == 0.95 and max(epochs) <= budget
    left = [1 - value / 0.95 for value in found.values()]
    np.testing.assert_allclose(left, [(1 - (n + 1) / rounds) ** 3 for n in range(rounds)], atol=1e-12)
    assert retraining.schedule("rewind", 0.95, budget, rounds) == {0: 0.95}


@pytest.mark.parametrize("rewind", [0, 1])
def test_rewind_starts_from_the_kept_weights_to_the_last_bit(tmp_path, looked_at, rewind):
    run(tmp_path, measures=["magnitude"], fractions=[0.5], rewind=rewind, fill="mean")
    first = {}
    for of, weights, removed in looked_at:
        first.setdefault(of.protocol, (weights, removed))
    _, removed = first["one_shot"]
    weights, held = first["rewind"]
    early, trained = kept(tmp_path, rewind), kept(tmp_path, 3)
    assert any(np.any(a != b) for a, b in zip(early, trained, strict=True))
    for weight, mask, other, kept_weight in zip(weights, held, removed, early, strict=True):
        np.testing.assert_array_equal(mask, other)  # by the scores of the trained network
        np.testing.assert_array_equal(
            weight, np.where(mask, np.float32(kept_weight.mean(dtype="float64")), kept_weight)
        )


def test_all_retrainings_see_as_much_and_the_same_in_the_same_order(tmp_path, trained):
    run(tmp_path)
    of_networks, of_retraining = trained[:3], trained[3:]
    assert of_networks == [(0, 1), (0, 2), (0, 3)]
    assert of_retraining == [(0, 4), (0, 5)] * RUNS


def test_removed_weights_stay_removed_and_groups_fall_together(tmp_path, looked_at):
    run(tmp_path, levels=["hidden_unit"], measures=["magnitude"], fractions=[0.5], fill="noise", unpruned=False)
    model = tasks.load("iris").build_model()
    groups = aggregation.load("hidden_unit").groups(model)
    for (_, weights, removed), (_, later, _) in zip(looked_at[0::3], looked_at[2::3], strict=True):
        for weight, after, mask, ids in zip(weights, later, removed, groups, strict=True):
            np.testing.assert_array_equal(weight[mask], after[mask])
            assert not mask[ids < 0].any()
            assert all(len(set(mask[ids == group])) == 1 for group in np.unique(ids[ids >= 0]))
    assert any(mask.any() and not mask.all() for mask in looked_at[0][2])


def test_networks_that_a_grid_has_trained_are_taken(tmp_path, trained):
    shared = {name: SMALL[name] for name in ("task", "epochs", "batch_size", "learning_rate", "records")}
    threshold_grid.run(out=tmp_path, progress=False, measures=["magnitude"], thresholds=2, **shared)
    before = trained.copy()
    run(tmp_path)
    assert len(list((tmp_path / "networks").iterdir())) == 1
    assert before == [(0, 1), (0, 2), (0, 3)] and {epoch for _, epoch in trained[3:]} == {4, 5}


def test_repaired_is_what_the_engine_makes_of_what_is_left(tmp_path, looked_at):
    settings = {"measures": ["magnitude"], "levels": ["hidden_unit"], "fractions": [0.5], "repair": "bias"}
    frame = run(tmp_path, **settings, protocols=["one_shot", "repaired"], unpruned=False, repair_examples=10**6)
    (of, plain, removed), (of_repaired, found, same_removed) = looked_at[0], looked_at[3]
    assert (of.protocol, of_repaired.protocol) == ("one_shot", "repaired")
    task = tasks.load("iris")
    model = task.build_model()
    training.assign(training.model_variables(model), kept(tmp_path, 3))
    expected, _ = repair.Repair(model, task.x_train, "bias")(removed, plain)
    assert any(np.any(a != b) for a, b in zip(expected, plain, strict=True))
    for got, value, mask, other in zip(found, expected, removed, same_removed, strict=True):
        np.testing.assert_allclose(got, value, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(mask, other)
    for _, weights, masks in looked_at[3:]:  # trained on, what is removed stays so
        assert all((weight[mask] == 0).all() for weight, mask in zip(weights, masks, strict=True))
    assert set(frame["status"]) == {"ok"}
    with pytest.raises(ValueError, match="'batch_norm' can repair"):
        run(tmp_path / "other", protocols=["repaired"], repair="batch_norm")


def test_what_cannot_be_repaired_is_said(tmp_path, monkeypatch):
    def fails(self, gone, replacements):
        raise repair.Unsolvable("Expected something else.")

    monkeypatch.setattr(repair.Repair, "__call__", fails)
    frame = run(tmp_path, measures=["magnitude"], fractions=[0.5], protocols=["repaired"], costs=["parameters"])
    failed = frame[frame["protocol"] == "repaired"]
    assert set(failed["status"]) == set(failed["cost_status"]) == {"cannot be repaired: Expected something else."}
    assert failed[["test_loss", "parameters"]].isna().all(axis=None)


def test_costs_are_those_of_the_network_without_what_was_removed(tmp_path):
    asked = ["latency_xla", "latency", "multiply_adds", "parameters"]
    settings = {"measures": ["magnitude"], "levels": ["weight", "hidden_unit", "unit"], "protocols": ["iterative"]}
    frame = run(tmp_path, **settings, fractions=[0.5], costs=asked)
    timed = ["latency_1", "latency_32", "latency_xla_1", "latency_xla_32"]
    columns = ["parameters", "multiply_adds", *timed, "cost_status"]
    assert [name for name in frame.columns if name not in retraining.COLUMNS] == columns
    assert frame.columns[-1] == "status" and set(frame["status"]) == {"ok"}
    assert frame.groupby(retraining.RUN)[columns].nunique().to_numpy().max() == 1  # measured once
    last = frame[frame["epoch"] == 2].set_index("level")
    model = tasks.load("iris").build_model()
    sizes = [4, 16, 16, 3]
    assert [tuple(v.shape) for v in model.trainable_variables[::2]] == list(itertools.pairwise(sizes))

    def products(sizes):
        return sum(n * m for n, m in itertools.pairwise(sizes))

    cost, of = last[["parameters", "multiply_adds"]], last["removed_fraction"]
    assert cost.loc["none"].tolist() == [model.count_params(), products(sizes)]
    assert cost.loc["weight"].tolist() == [round(model.count_params() * (1 - of["weight"])), products(sizes)]
    half = [4, 8, 8, 3]
    assert of["hidden_unit"] == 0.5
    assert cost.loc["hidden_unit"].tolist() == [products(half) + sum(half[1:]), products(half)]
    assert (last.drop("unit")[timed] > 0).all(axis=None)
    assert last.loc["unit", columns[:4]].isna().all() and "Expected ranks" in last.loc["unit", "cost_status"]
    assert set(last.drop("unit")["cost_status"]) == {"ok"}


class Killed(BaseException):
    pass


def test_a_run_that_is_killed_in_each_retraining_ends_in_the_same_rows(tmp_path, whole, monkeypatch):
    train, left, kills = training.train, [0], 0

    def fails(*given):
        if not left[0]:
            raise Killed
        left[0] -= 1
        train(*given)

    monkeypatch.setattr(training, "train", fails)
    while True:
        left[0] = 3  # the two epochs of one retraining, and one of the next
        try:
            frame = run(tmp_path, measures=["magnitude"], fractions=[0.8])
            break
        except Killed:
            kills += 1
    assert kills == 4
    expected = whole[1][(whole[1]["seed"] == 0) & whole[1]["fraction"].isin([0.0, 0.8])]
    same(frame, expected[expected["measure"] != "random"])


def test_rows_that_are_lost_are_done_again(tmp_path, whole, trained):
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    (path,) = tmp_path.glob("*.csv")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-7] + lines[-5:-2]))  # of two retrainings of the last network
    same(run(tmp_path, seeds=[0, 1]), whole[1])
    assert trained == [(1, 4), (1, 5)] * 3


def test_who_joins_does_the_same_and_others_add_to_the_file(tmp_path, whole):
    run(tmp_path, workers="join", seeds=[1], measures=["random"], protocols=["rewind"])
    same(run(tmp_path, workers="join", seeds=[0, 1]), whole[1])
    assert len(list(tmp_path.glob("*.csv"))) == 1


def test_learning_rates_are_an_axis(tmp_path):
    rates = [0.02, 0.2]
    frame = run(tmp_path, measures=["magnitude"], protocols=["one_shot"], fractions=[0.5], learning_rates=rates)
    ends = frame[frame["epoch"] == 2].set_index(["measure", "learning_rate"])["test_loss"]
    begins = frame[frame["epoch"] == 0].set_index(["measure", "learning_rate"])["test_loss"]
    for measure in ("none", "magnitude"):
        assert begins[measure, 0.02] == begins[measure, 0.2] and ends[measure, 0.02] != ends[measure, 0.2]
    alone = run(tmp_path / "alone", measures=["magnitude"], protocols=["one_shot"], fractions=[0.5])
    same(alone, frame[frame["learning_rate"] == 0.02])


def test_what_is_compiled_serves_all(tmp_path):
    one = retraining.Retrainings(out=tmp_path, **SMALL)
    other = retraining.Retrainings(out=tmp_path, **{**SMALL, "fractions": [0.9], "fill": "noise", "seeds": [4]})
    assert one._model is other._model and one._evaluators[0] is other._evaluators[0]


def test_a_measure_that_cannot_score_says_so_and_the_others_go_on(tmp_path, monkeypatch):
    score = importance.LoadedMeasure.score_from

    def fails(self, evidence):
        if self.name == "random":
            raise ValueError("Expected something else.")
        return score(self, evidence)

    monkeypatch.setattr(importance.LoadedMeasure, "score_from", fails)
    with pytest.warns(UserWarning, match="'random' cannot score this network"):
        frame = run(tmp_path)
    failed = frame[frame["measure"] == "random"]
    assert len(failed) == 2 * 3 * 3 and failed[retraining.VALUES].isna().all(axis=None)
    assert set(failed["status"]) == {"cannot score this network: ValueError: Expected something else."}
    assert set(frame[frame["measure"] != "random"]["status"]) == {"ok"}


def test_a_retraining_that_diverges_is_recorded(tmp_path):
    frame = run(tmp_path, optimizer="sgd", learning_rates=[1e30], measures=["fisher_empirical"], fractions=[0.5])
    after = frame[frame["epoch"] > 0]
    assert (frame[frame["epoch"] == 0]["status"] == "ok").all() and after["validation_loss"].isna().all()
    assert (after["status"] != "ok").all()
    (said,) = set(frame[(frame["protocol"] == "iterative") & (frame["epoch"] == 2)]["status"])
    assert "not finite" in said or "cannot score" in said


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"rounds": 3}, "at most as many rounds as epochs of retraining, one each, received rounds=3 with budget=2"),
        ({"rewind": 3}, "an epoch before the last, 3, to rewind to, received rewind=3"),
        ({"measures": [], "unpruned": False}, "Expected measures, or unpruned=True, received neither"),
        ({"measures": ["synaptic_intelligence"], "records": True}, "scores anew in each round, received synaptic_int"),
        ({"measures": ["synaptic_intelligence"]}, "Expected records=True"),
        ({"fractions": [0.0]}, "Expected fractions to be a finite number of at most 1 and above 0, received 0.0"),
        (
            {"protocols": ["lottery"]},
            "Expected protocols to be one of 'one_shot', 'iterative', 'rewind', 'repaired', rec",
        ),
        ({"scopes": ["2:4"]}, "Expected thresholds that are multiples of 1/4"),
        ({"levels": ["weigth"]}, "Did you mean 'weight'"),
        ({"task": "irsi"}, "Did you mean 'iris'"),
        ({"fill": "nothing"}, "Expected fill to be one of"),
        (
            {
                "learning_rate": {
                    "class_name": "ExponentialDecay",
                    "config": {"initial_learning_rate": 0.1, "decay_steps": 9, "decay_rate": 0.5},
                }
            },
            "Expected learning_rates with networks that were trained by a schedule",
        ),
        (
            {"costs": ["memory"]},
            "one of 'parameters', 'multiply_adds', 'latency', 'latency_xla', rec",
        ),
        ({"costs": ["latency"], "fill": "mean"}, "Expected fill='zero' with costs"),
    ],
)
def test_settings_that_cannot_be(tmp_path, changed, message):
    with pytest.raises(ValueError) as caught:
        run(tmp_path, **changed)
    assert message in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_measures_of_the_trajectory_without_rounds(tmp_path, monkeypatch):
    recorded = networks.recorded()["synaptic_intelligence"]  # to record for all takes long to compile
    monkeypatch.setattr(networks, "recorded", lambda: {"synaptic_intelligence": recorded})
    frame = run(tmp_path, measures=["synaptic_intelligence"], protocols=["one_shot", "rewind"], records=True)
    assert set(frame["status"]) == {"ok"} and len(frame) == (1 + 2 * 2) * 3


def test_arrays_of_ones_own(tmp_path):
    iris = tasks.load("iris")
    task = tasks.from_arrays(iris.x_train, iris.y_train, x_test=iris.x_test, y_test=iris.y_test, name="own")
    frame = run(tmp_path, task=task, measures=["magnitude"], protocols=["one_shot"], validation="test")
    assert set(frame["status"]) == {"ok"}
    np.testing.assert_array_equal(frame["validation_loss"], frame["test_loss"])
    with pytest.raises(ValueError, match="Expected a task that other processes can read too"):
        run(tmp_path, task=task, seeds=[1, 2], workers=2)
