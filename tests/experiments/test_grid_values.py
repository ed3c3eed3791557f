"""What stands in the cells of a grid, held against a plain loop: train, threshold, assign, `model.evaluate`."""

import json
from typing import NamedTuple

import keras
import numpy as np
import pandas as pd
import pytest

import aggregation
import importance
import tasks
import thresholding
from engine import backend, evaluation, structure, training
from experiments import threshold_grid

THRESHOLDS = [0, 0.25, 0.6, 1]
CASES = {
    "batchnorm, noise": {
        "task": "digits", "model": "cnn", "labels": [3, 5, 8], "levels": ["weight", "unit", "conv_filter"],
        "scopes": ["layer", "model"], "reductions": ["mean", "maximum"], "batch_size": 50,
        "measures": ["magnitude", "random", "fisher_empirical"],
    },
    "classes, zero": {
        "task": "iris", "model": "mlp", "fill": "zero", "levels": ["weight", "layer"], "batch_size": 32,
        "measures": ["magnitude", "random", "inverse_magnitude"],
    },
    "regression, initial": {
        "task": "function", "model": "mlp", "options": {"examples": 300}, "fill": "initial", "levels": ["unit"],
        "variables": ["kernel"], "measures": ["magnitude", "random"],
    },
}  # fmt: skip
SEED = 3


class Case(NamedTuple):
    """A finished grid, and the same network trained by a plain loop: what its variables were after each epoch."""

    folder: object
    grid: threshold_grid.Grid
    frame: pd.DataFrame
    task: tasks.LoadedTask
    model: keras.Model
    initial: list
    after: dict

    def at(self, epoch):
        training.assign(training.model_variables(self.model), self.after[epoch])
        return self

    def evaluate(self, weights=None):
        """Return the loss and the accuracy that Keras gives, with other weights if wanted."""
        if weights is not None:
            training.assign(self.model.trainable_variables, weights)
        return self.model.evaluate(self.task.x_validation, self.task.y_validation, batch_size=64, verbose=0)


@pytest.fixture(scope="session", params=CASES)
def case(request, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        if request.param != "classes, zero":  # one case is compiled as a user's run is; without XLA it takes less time
            patch.setattr(structure, "xla", lambda model: False)
        return made(request.param, tmp_path_factory.mktemp("values"))


def made(name, folder):
    grid = threshold_grid.Grid(
        out=folder, thresholds=THRESHOLDS, epochs=2, seeds=[SEED], learning_rate=0.01, **CASES[name]
    )
    frame, s = grid.run(progress=False), grid.settings
    task = tasks.load(s.task, labels=s.labels, seed=SEED, **s.options)
    model = training.initial(lambda: task.build_model(s.model), SEED)
    initial = [backend.copied(v) for v in model.trainable_variables]
    metric = "mean_absolute_error" if task.classes is None else "accuracy"
    training.compile_model(model, keras.optimizers.Adam(0.01), task.loss, [metric])
    after = {}

    def keep(epoch, logs):
        after[epoch] = [backend.copied(v) for v in training.model_variables(model)]

    training.train(model, task.x_train, task.y_train, [1, 2], s.batch_size, SEED, keep)
    return Case(folder, grid, frame, task, model, initial, after)


def test_every_cell_stands_once(case):
    s = case.grid.settings
    expected = pd.MultiIndex.from_product(
        [[SEED], [1, 2], s.measures, s.levels, s.reductions, s.scopes, s.fills, THRESHOLDS], names=threshold_grid.KEY
    )
    found = pd.MultiIndex.from_frame(case.frame[threshold_grid.KEY])
    assert found.is_unique and set(found) == set(expected)
    assert list(case.frame) == threshold_grid.COLUMNS
    assert (case.frame.status == "ok").all() and (case.frame.run == s.name).all()
    assert (case.frame.examples == len(case.task.x_validation)).all()


def test_the_frame_is_the_file(case):
    pd.testing.assert_frame_equal(case.frame, pd.read_csv(case.folder / f"{case.grid.settings.name}.csv"))


@pytest.mark.parametrize("epoch", [1, 2])
def test_at_the_ends_all_measures_are_the_same(case, epoch):
    here = case.at(epoch).frame.query("epoch == @epoch")
    columns = ["replaced_fraction", "validation_loss", "validation_loss_stderr", "validation_accuracy"]
    nothing, everything = (here.query("threshold == @t")[columns].drop_duplicates() for t in (0, 1))
    assert len(nothing) == len(everything) == 1
    assert nothing.replaced_fraction.item() == 0 and everything.replaced_fraction.item() == 1
    loss, accuracy = case.evaluate()
    assert nothing.validation_loss.item() == pytest.approx(loss, rel=1e-5)
    assert nothing.validation_accuracy.item() == pytest.approx(accuracy, rel=1e-5)
    new = thresholding.replacements(case.after[epoch][: len(case.initial)], case.grid.settings.fill, SEED, case.initial)
    trained = case.after[epoch][: len(case.initial)]
    if case.grid.settings.variables != "all":
        new = [n if n.ndim > 1 else w for n, w in zip(new, trained, strict=True)]
    assert everything.validation_loss.item() == pytest.approx(case.evaluate(new)[0], rel=1e-5)
    assert everything.validation_loss.item() != pytest.approx(loss, rel=1e-3)


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_plain_loop_finds_the_same(case, epoch):
    s, case = case.grid.settings, case.at(epoch)
    weights = [backend.copied(v) for v in case.model.trainable_variables]
    here = case.frame.query("epoch == @epoch")
    checked = 0
    for measure, level, scope, reduction in (
        ("magnitude", s.levels[0], s.scopes[0], "mean"),
        (s.measures[-1], s.levels[-1], s.scopes[-1], s.reductions[-1]),
        ("random", s.levels[-1], s.scopes[0], "mean"),
        ("magnitude", s.levels[len(s.levels) // 2], s.scopes[-1], s.reductions[-1]),
    ):
        case.at(epoch)
        scores = importance.load(measure).score(case.model, case.task.x_train, case.task.y_train, seed=SEED)
        groups = aggregation.load(level).groups(case.model)
        ranks = thresholding.rank(scores, groups, reduction, scope, case.model, SEED, s.variables)
        total = sum(np.isfinite(r).sum() for r in ranks)
        for t in THRESHOLDS[1:3]:
            row = here[
                (here.measure == measure) & (here.level == level) & (here.scope == scope)
                & (here.reduction == reduction) & (here.threshold == t)
            ].squeeze()  # fmt: skip
            loss, accuracy = case.evaluate(thresholding.threshold(weights, ranks, t, s.fill, SEED, case.initial))
            assert row.validation_loss == pytest.approx(loss, rel=1e-5, abs=1e-6), (measure, level, scope, t)
            assert row.validation_accuracy == pytest.approx(accuracy, rel=1e-5, abs=1e-6)
            assert row.replaced_fraction == sum((r < np.float32(t)).sum() for r in ranks) / total
            checked += 1
    assert checked == 8


def test_the_standard_error_is_that_of_the_mean_over_examples(case):
    outputs = case.at(2).model.predict(case.task.x_validation, verbose=0)
    outputs, y = outputs.astype("float64"), case.task.y_validation
    if case.task.classes is None:
        losses = ((outputs - y) ** 2).mean(axis=1)
    else:
        shifted = outputs - outputs.max(axis=1, keepdims=True)
        losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(y)), y]
    row = case.frame.query("epoch == 2 and threshold == 0").iloc[0]
    assert row.validation_loss == pytest.approx(losses.mean(), rel=1e-4)
    assert row.validation_loss_stderr == pytest.approx(losses.std(ddof=1) / np.sqrt(len(losses)), rel=1e-4)


def test_the_column_of_accuracy(case):
    outputs = case.at(2).model.predict(case.task.x_validation, verbose=0)
    y = case.task.y_validation
    expected = abs(outputs - y).mean() if case.task.classes is None else (outputs.argmax(axis=1) == y).mean()
    found = case.frame.query("epoch == 2 and threshold == 0").validation_accuracy
    assert found.iloc[0] == pytest.approx(expected, rel=1e-5)


def test_the_two_checkpoints_differ(case):
    first, second = (case.frame.query("epoch == @e and threshold == 0").validation_loss.iloc[0] for e in (1, 2))
    assert second < first


def test_the_settings_file(case):
    s = case.grid.settings
    about = json.loads((case.folder / f"{s.name}.json").read_text())
    assert about["settings"] == {name: value for name, value in s.as_dict().items() if name not in s.VARIED}
    assert about["backend"] == backend.NAME and about["device"] == backend.device()
    assert about["versions"] == backend.versions() and "commit" in about
    assert about["chance_loss"] == pytest.approx(case.task.chance_loss)
    assert about["classes"] == case.task.classes
    assert about["chance_accuracy"] == (None if case.task.classes is None else pytest.approx(1 / 3))


def test_where_all_is_replaced_every_ranking_is_evaluated_alike(tmp_path, monkeypatch):
    """The three units are used up at 0.75; rounding must not tell at which threshold a ranking replaces all."""
    evaluate, asked = evaluation.Evaluator.__call__, []

    def note(self, ranks, replacements, thresholds):
        asked.extend(thresholds[~np.isnan(thresholds)].tolist())
        return evaluate(self, ranks, replacements, thresholds)

    monkeypatch.setattr(evaluation.Evaluator, "__call__", note)
    frame = threshold_grid.run(
        "iris", keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]), out=tmp_path, progress=False,
        measures=["magnitude"], levels=["unit"], thresholds=5, epochs=1,
    )  # fmt: skip
    assert frame["replaced_fraction"].tolist()[-2:] == [1.0, 1.0]
    assert sorted(asked) == [0.0, 0.25, 0.5, 1.0]
