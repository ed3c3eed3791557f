"""evaluated="auto": as many examples as tell the areas of measures apart, decided once and the same for all."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import report
from experiments import enough, threshold_grid

CHANCE = 2.3
SMALL = {
    "task": "digits", "model": "mlp", "measures": ["magnitude", "inverse_magnitude", "random"], "levels": ["weight"],
    "thresholds": 5, "epochs": 4, "every": 4, "examples": 100,
}  # fmt: skip


def curves(seed, thresholds=6, examples=400):
    """Losses that rise from near 0 to chance and beyond, each example's in its own way."""
    rng = np.random.default_rng(seed)
    rise = np.sort(rng.random((thresholds, 1)), axis=0) * 1.2 * CHANCE
    rise[0] = 0.1
    return rise * rng.gamma(2, 0.5, (1, examples)) + rng.normal(0, 0.2, (thresholds, examples)), np.sort(
        [0, 1, *rng.random(thresholds - 2)]
    )


def area_by_report(losses, thresholds, weights=None):
    rows = {
        "run": "a", "task": "t", "model": "m", "seed": 0, "epoch": 1, "measure": "x", "level": "weight",
        "reduction": "mean", "scope": "layer", "fill": "noise", "threshold": thresholds,
        "replaced_fraction": thresholds, "tie_fraction": 0.0, "examples": losses.shape[1],
        "validation_loss": np.average(losses, axis=1, weights=weights), "validation_accuracy": 0.5,
        "chance_loss": CHANCE, "chance_accuracy": 0.1, "status": "ok",
    }  # fmt: skip
    return report.scores(pd.DataFrame(rows))["area"].item()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_the_area_is_that_of_reports_and_an_example_moves_it_as_its_weight_does(seed):
    losses, thresholds = curves(seed)
    area, moves = enough.influences(losses, thresholds, CHANCE)
    assert area == pytest.approx(area_by_report(losses, thresholds), abs=1e-9)
    assert moves.mean() == pytest.approx(0, abs=1e-9)
    count = losses.shape[1]
    for example in (0, count // 2):
        more, less = (np.ones(count) + change * (np.arange(count) == example) for change in (1e-5, -1e-5))
        slope = (area_by_report(losses, thresholds, more) - area_by_report(losses, thresholds, less)) / 2e-5
        assert slope * count == pytest.approx(moves[example], rel=1e-3, abs=1e-5)


def test_the_standard_error_is_what_drawing_again_gives():
    losses, thresholds = curves(0)
    other, _ = curves(1)
    difference = enough.influences(losses, thresholds, CHANCE)[1] - enough.influences(other, thresholds, CHANCE)[1]
    rng, drawn = np.random.default_rng(0), []
    for _ in range(400):
        rows = rng.choice(losses.shape[1], 100, replace=False)
        drawn.append(np.subtract(*(enough.influences(a[:, rows], thresholds, CHANCE)[0] for a in (losses, other))))
    said = difference.std() * np.sqrt(1 / 100 - 1 / losses.shape[1])
    assert np.std(drawn) == pytest.approx(said, rel=0.15)


def test_more_networks_and_larger_differences_need_fewer_examples():
    rng = np.random.default_rng(0)
    moves = rng.normal(0, 0.1, (3, 500))
    near = [(0.30, moves[0]), (0.301, moves[1])]
    by_hand = 1 / (4 * 0.001**2 / np.var(moves[0] - moves[1]) + 1 / 5000)
    assert enough.needed(near, 5000, 4) == np.ceil(by_hand)
    assert enough.needed(near, 5000, 16) < enough.needed(near, 5000, 4) < 5000
    assert enough.needed([near[0], (0.7, moves[1])], 5000, 4) < enough.needed(near, 5000, 4)
    assert enough.needed([*near, (0.305, moves[2])], 5000, 4) >= enough.needed(near, 5000, 4)
    assert enough.needed([(0.3, 100 * moves[0]), near[1]], 300, 1) == 300  # all, where few are there
    assert enough.needed(near[:1], 5000, 4) == enough.needed([near[0], near[0]], 5000, 4) == 1


def test_a_network_that_has_not_learnt_moves_nothing():
    area, moves = enough.influences(np.full((2, 10), CHANCE + 1), [0, 1], CHANCE)
    assert np.isnan(area) and np.isnan(moves).all()
    assert enough.needed([(area, moves), (0.5, np.arange(10.0))], 10, 1) == 1


def test_a_grid_decides_once_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(enough, "PILOT", 60)
    monkeypatch.setattr(enough, "MARGIN", 0.4)
    frame = threshold_grid.run(**SMALL, seeds=[0, 1], evaluated="auto", out=tmp_path, progress=False)
    (number,) = frame["examples"].unique()
    assert 1 < number < 161  # of the 161 examples that are held out
    (path,) = tmp_path.glob("*.json")
    assert report.read(tmp_path)["examples"].unique() == [number]
    assert f'"evaluated_examples": {number}' in path.read_text()

    monkeypatch.setattr(threshold_grid.Grid, "_enough_by_a_look", None)  # nobody looks again
    more = threshold_grid.Grid(**SMALL | {"measures": ["snip"]}, seeds=[0, 2], evaluated="auto", out=tmp_path)
    assert more.estimate().seconds > 0
    assert more.run(progress=False)["examples"].unique() == [number]
    earlier = report.read(tmp_path).query("measure != 'snip'")["validation_loss"]
    np.testing.assert_array_equal(earlier, frame["validation_loss"])
    path.unlink()  # then the rows say it
    with pytest.warns(UserWarning, match="missing or damaged"):
        last = threshold_grid.run(**SMALL, seeds=[3], evaluated="auto", out=tmp_path, progress=False)
    assert last["examples"].unique() == [number]


def test_each_network_is_evaluated_on_examples_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(threshold_grid.Grid, "_enough_by_a_look", lambda self: 40)
    grid = threshold_grid.Grid(**SMALL, seeds=[0], evaluated="auto", out=tmp_path)
    frame, source = grid.run(progress=False), grid._source
    assert frame["examples"].unique() == [40]
    held_out, rows = source._task.x_validation, []
    for number in (40, 80):
        source.enough = number
        source._take(source._task, 0)
        rows.append({int(np.flatnonzero((held_out == x).all(axis=(1, 2, 3)))[0]) for x in source.evaluated[0]})
    assert rows[0] < rows[1]
    source._take(source._task, 1)
    assert {int(np.flatnonzero((held_out == x).all(axis=(1, 2, 3)))[0]) for x in source.evaluated[0]} != rows[1]


@pytest.mark.parametrize("value", ["some", 0, 2.5])
def test_what_is_no_number_of_examples_is_refused(tmp_path, value):
    with pytest.raises(ValueError, match=r"Expected evaluated to be a whole number of at least 1 or None or 'auto'"):
        threshold_grid.Grid(**SMALL, evaluated=value, out=tmp_path)


def test_scoring_on_what_is_evaluated_does_not_go_with_it(tmp_path):
    with pytest.raises(
        ValueError, match=r'Expected a number of examples .* scores from validation examples, received "auto"'
    ):
        threshold_grid.Grid(**SMALL, evaluated="auto", scored_on="validation", out=tmp_path)
