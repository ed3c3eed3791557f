"""Draws of different names have nothing in common, and nobody draws without one."""

import ast
import itertools
import pathlib

import numpy as np

from engine import draws

ROOT = pathlib.Path(__file__).parents[2]
ROOMS = ("tasks", "importance", "aggregation", "consolidation", "experiments", "engine")


def test_a_draw_is_decided_by_seed_name_and_index():
    places = list(itertools.product((0, 1, 2**40), ("a", "b", "a 1"), ((), (0,), (1,), (0, 0), (1, 0))))
    numbers = [draws.number(seed, name, *index) for seed, name, index in places]
    assert len(set(numbers)) == len(places) and max(numbers) < 2**128
    drawn = {draws.generator(seed, name, *index).random() for seed, name, index in places}
    assert len(drawn) == len(places)
    assert draws.number(np.int64(3), "a", np.int32(1)) == draws.number(3, "a", 1)
    assert 0 <= draws.number(5, "a", bits=32) < 2**32


def test_streams_of_neighbours_are_not_correlated():
    streams = [draws.generator(seed, name, 0).standard_normal(4000) for seed in (0, 1) for name in ("ties", "noise")]
    correlations = np.corrcoef(streams)[np.triu_indices(4, 1)]
    assert np.abs(correlations).max() < 4 / np.sqrt(4000)


def calls(path):
    """Yield (name, arguments) of every call in a file that makes a stream of random numbers."""
    makers = {"default_rng", "SeedSequence", "RandomState", "SeedGenerator", "set_random_seed", "train_test_split"}
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in makers:
                yield name, [ast.unparse(value) for value in [*node.args, *(k.value for k in node.keywords)]]


def test_every_draw_of_a_run_is_named():
    files = [ROOT / "thresholding.py", *(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))]
    found = {(path.relative_to(ROOT).as_posix(), *call) for path in files for call in map(_tupled, calls(path))}
    # What a task always holds is drawn from a constant; the evidence's measures have a name each.
    unnamed = {
        (path, name, arguments)
        for path, name, arguments in found
        if "0" not in arguments and not any("draw" in a or "number(" in a for a in arguments)
    }
    assert not unnamed
    names = [
        ast.unparse(node.args[1])
        for path in files
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and getattr(node.func, "attr", "") in ("generator", "number")
        and getattr(getattr(node.func, "value", None), "id", "") == "draws"
    ]
    assert len(names) >= 12 and "seed" not in names
    # Only what is trained and what it is trained on share theirs: a number here, a stream of sequences there.
    repeated = {name for name in names if names.count(name) > 1}
    assert repeated <= {"'pretraining'"}


def _tupled(call):
    return call[0], tuple(call[1])
