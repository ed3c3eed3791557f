"""Sequences of label subsets under the three scenarios: what is trained, scored and tested, by a plain loop."""

import warnings

import keras
import numpy as np
import pytest
from keras import ops

import importance
from consolidation import ElasticWeightConsolidation
from engine import training
from experiments import sequential
from tasks import sequences

SMALL = {
    "measures": ["fisher"], "penalties": ["clamped"], "strengths": [30.0], "epochs": 2, "batch_size": 100,
    "learning_rate": 0.01, "examples": None, "progress": False,
}  # fmt: skip
KEY = ["after_task", "on_task"]


def run(out, scenario, labels_per_task=5, **settings):
    options = {"labels_per_task": labels_per_task, "scenario": scenario}
    return sequential.run("split_digits", out=out, options=options, **{**SMALL, **settings})


def of_its_task(z, y):
    """Return the outputs of each example's own task, (examples, 5): nothing is hidden, the others are not there."""
    return ops.take_along_axis(ops.reshape(z, (-1, 2, 5)), ops.reshape(y // 5, (-1, 1, 1)), axis=1)[:, 0]


def told(y, z):
    y = ops.reshape(ops.cast(y, "int32"), (-1,))
    return ops.mean(keras.losses.sparse_categorical_crossentropy(y % 5, of_its_task(z, y), from_logits=True))


def test_under_task_only_the_active_outputs_are_trained_scored_and_tested(tmp_path):
    found = run(tmp_path, "task", ends=False).set_index(KEY)
    assert set(found["sequence"]) == {"split_digits:scenario=task"} and set(found["status"]) == {"ok"}
    sequence = sequences.load("split_digits", labels_per_task=5)  # as it is, with the labels that it has
    model = training.initial(sequence.first.build_model, 0)
    optimizer = ElasticWeightConsolidation(keras.optimizers.Adam(0.01), 30.0, "clamped")
    model.compile(optimizer, told, jit_compile=False)
    for number in (1, 2):
        task = sequence[number - 1]
        for epoch in (2 * number - 1, 2 * number):
            for rows in training.order(len(task.x_train), 100, 0, epoch):
                model.train_on_batch(task.x_train[rows], task.y_train[rows])
        if number == 1:
            first = keras.Model(model.inputs[0], model.outputs[0][:, :5])
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            optimizer.consolidate(importance.load("fisher").score(first, task.x_train, task.y_train, loss=loss))
        for on in range(1, number + 1):
            x, y = sequence.examples(on - 1, "test")
            right = np.argmax(np.asarray(of_its_task(model(x, training=False), y)), axis=1) == y % 5
            # One image more or less: sums are taken in another order.
            assert found.loc[(number, on), "test_accuracy"] == pytest.approx(right.mean(), abs=1.1 / len(y))
    assert found.loc[(2, 2), "test_accuracy"] > 0.4 and found.loc[(2, 1), "ewc_largest"] > 0


def test_a_mean_over_tasks_is_weighted_with_their_labels(tmp_path, monkeypatch):
    seen, consolidate = [], ElasticWeightConsolidation.consolidate

    def watched(optimizer, importances, variables=None, classes=None):
        seen.append((optimizer.accumulate, classes))
        consolidate(optimizer, importances, variables, classes)

    monkeypatch.setattr(ElasticWeightConsolidation, "consolidate", watched)
    settings = {"labels_per_task": 2, "ends": False, "epochs": 1, "measures": ["magnitude"]}
    frames = [run(tmp_path, "class", accumulate=how, **settings) for how in ("mean", "sum")]
    assert seen == [("mean", 2)] * 4 + [("sum", None)] * 4  # the last task is followed by none
    largest = [frame[frame["on_task"] == 1].set_index("after_task")["ewc_largest"] for frame in frames]
    assert largest[0][2] == pytest.approx(largest[1][2]) and largest[0][3] < 0.6 * largest[1][3]
    with pytest.raises(ValueError, match=r'decay=1.0 with accumulate="mean"'):
        run(tmp_path, "class", accumulate="mean", decay=0.5)


def test_what_each_scenario_keeps(tmp_path):
    """Told which task it is, a network that learns without protection keeps much; not told, nothing."""
    settings = {"measures": [], "epochs": 4}
    finals = {}
    for scenario in sequences.SCENARIOS:
        frame = run(tmp_path, scenario, labels_per_task=2, **settings)
        last = frame[frame["after_task"] == 5].groupby(["measure", "on_task"])["test_accuracy"].first()
        finals[scenario] = last["none"].to_numpy(), last["joint"].to_numpy()
    assert finals["class"][0][:-1].mean() < 0.05 < 0.5 < finals["task"][0][:-1].mean()
    assert all(none[-1] > 0.4 for none, _ in finals.values())  # the last task is learnt in each
    assert finals["task"][1].mean() > finals["class"][1].mean() and finals["task"][1].min() > 0.9
    assert finals["domain"][1].mean() > 0.8
    assert len(list(tmp_path.glob("*.csv"))) == 3


@pytest.mark.parametrize("measure", ["synaptic_intelligence", "mas", "signal"])
def test_all_kinds_of_measures_are_scored_under_task(tmp_path, measure):
    frame = run(tmp_path, "task", measures=[measure], strengths=[1.0], ends=False, epochs=1)
    assert set(frame["status"]) == {"ok"}
    assert (frame.loc[frame["after_task"] == 2, "ewc_largest"] > 0).all()


def test_a_run_that_forgets_everything_is_told_why_once(tmp_path):
    settings = {"labels_per_task": 2, "epochs": 4, "strengths": [1e-6, 2e-6]}
    with pytest.warns(UserWarning, match="fisher, clamped, 1e-06: .*class-incremental.*scenario.*task.*replay") as told:
        run(tmp_path / "class", "class", **settings)
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(tmp_path / "task", "task", **settings)
        run(tmp_path / "ends", "class", **{**settings, "measures": []})  # no protection, of which nobody expects it


def test_a_scenario_is_an_option_and_the_default_has_no_other_name(tmp_path):
    def name(**options):
        return sequential.SequentialSettings("split_digits", "mlp", options=options).name

    assert len({name(), name(scenario="task"), name(scenario="domain")}) == 3
    with pytest.raises(ValueError, match="one of 'class', 'domain', 'task', received 'tasks'"):
        run(tmp_path, "tasks")


def test_replay_trains_on_what_is_kept_of_each_class(tmp_path, monkeypatch):
    seen, train = [], sequential.Learner.train

    def watched(learner, x, y, *rest, **options):
        seen.append((x, y))
        return train(learner, x, y, *rest, **options)

    monkeypatch.setattr(sequential.Learner, "train", watched)
    frame = run(tmp_path, "class", measures=[], ends=False, replay=[3, 8], epochs=1)
    assert set(frame["measure"]) == {"replay"} and set(frame["penalty"]) == {"none"}
    assert set(frame["strength"]) == {3, 8} and set(frame["status"]) == {"ok"} and len(frame) == 2 * 3
    tasks = [sequences.load("split_digits", labels_per_task=5)[number] for number in (0, 1)]
    kept = {}
    for budget, (first, second) in zip((3, 8), (seen[:2], seen[2:]), strict=True):
        assert np.array_equal(first[0], tasks[0].x_train) and np.array_equal(first[1], tasks[0].y_train)
        own = len(tasks[1].y_train)
        assert np.array_equal(second[0][:own], tasks[1].x_train) and np.array_equal(second[1][:own], tasks[1].y_train)
        assert len(second[1]) == 2 * own
        assert np.abs(np.bincount(second[1][own:]) - own / 5).max() <= budget  # each is there as often, or once more
        assert np.bincount(second[1][own : own + 5 * budget]).tolist() == [budget] * 5
        kept[budget] = {
            image.tobytes() + bytes([label]) for image, label in zip(*(a[own:] for a in second), strict=True)
        }
        there = {image.tobytes() + bytes([label]) for image, label in zip(*first, strict=True)}
        assert len(kept[budget]) == 5 * budget and kept[budget] <= there
    assert kept[3] < kept[8]


def test_replay_keeps_what_no_protection_forgets_and_joins_the_file(tmp_path):
    settings = {"measures": [], "labels_per_task": 2, "epochs": 12}
    alone = run(tmp_path, "class", **settings)
    frame = run(tmp_path, "class", **settings, replay=[20])
    assert len(list(tmp_path.glob("*.csv"))) == 1 and len(frame) == len(alone) + 15
    finals = sequential.summary(frame).set_index("measure")["test_accuracy"]
    assert finals["none"] + 0.2 < finals["replay"] < finals["joint"] + 0.02


@pytest.mark.parametrize("replay, message", [([0], "at least 1, received 0"), ([5, 5], "each once"), (20, r"\[20\]")])
def test_budgets_that_are_none(tmp_path, replay, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path, "class", replay=replay)
    with pytest.raises(ValueError, match="replicas=1 with replay"):
        run(tmp_path, "class", replay=[5], replicas=4)
