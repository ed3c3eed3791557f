"""What is promised under chance, in small; `python -m benchmarks.statistics` is the whole."""

import numpy as np
import pandas as pd
import pytest

from benchmarks import statistics

REPEATS = 160


def at_most(level, repeats=REPEATS):
    """The share that a rate of at most this level stays below, but for four standard errors."""
    return level + 4 * np.sqrt(level * (1 - level) / repeats)


def test_intervals_hold_the_truth_as_often_as_they_say():
    table = pd.DataFrame(statistics.coverage(400, seed=1)).set_index("networks scatter")
    symmetric = table.drop(index="skewed (lognormal, sigma 0.5)")
    assert (1 - symmetric <= at_most(0.05, 400)).all(axis=None)
    assert (1 - table <= at_most(0.08, 400)).all(axis=None)  # means of skewed scores, of few networks
    assert (1 - table["median, at all looks to 60"] <= at_most(0.05, 400)).all()


@pytest.fixture(scope="module")
def errors():
    return pd.DataFrame(statistics.errors(REPEATS, 1, measures=(2, 6), looks=range(2, 41)))


def test_e_values_keep_the_level_at_every_look_and_tests_of_a_fixed_size_do_not(errors):
    assert (errors["tests, 30 networks"] <= at_most(0.05)).all()
    assert (errors["e-values, at any look"] <= at_most(0.05)).all()
    assert errors["e-values, at any look, half better"][1] <= at_most(0.05)
    assert (errors["tests, at any look"] > at_most(0.05)).all()


def test_measures_outside_the_margin_are_not_called_equal():
    table = pd.DataFrame(statistics.equalities(60, 1, looks=range(2, 41)))
    assert (table["any wrong, e-values, at any look"] <= at_most(0.05, 60)).all()
    assert (table["a pair wrong, interval, 30 networks"] <= at_most(0.05, 60)).all()
    assert table["equal pairs found, e-values, 30 networks"][0] > 0.9


def test_power_grows_with_networks_and_is_that_of_16_unanimous_ones():
    table = pd.DataFrame(statistics.power(20, 1))
    for way in ("tests", "e-values"):
        assert (table[f"{way}, 10"] == 0).all() and (table[f"{way}, 16"] <= table[f"{way}, 30"]).all()
        assert table[f"{way}, 30"].is_monotonic_increasing and table[f"{way}, 30"].iloc[-1] > 0.98
    assert (table["e-values, 30"] <= table["tests, 30"]).all()


def test_a_search_keeps_the_best_and_other_seeds_hold_its_truth():
    table = pd.DataFrame(statistics.searches(160, 1, seeds=(5, 15)))
    assert (table["best missing"] <= at_most(0.05, 40)).all()
    assert (1 - table["interval of others"] <= at_most(0.05, 40)).all()


def test_the_same_seed_prints_the_same(capsys):
    for _ in range(2):
        statistics.show("Power", statistics.power(3, seed=0))
    one, two = capsys.readouterr().out.split("\nPower\n")[1:]
    assert one.strip() == two.strip() and "| tests, 30 |" in one
