"""Jobs that would compile the same share it: a second one compiles nothing, and none finds what another left."""

import gc
import weakref

import keras
import numpy as np
import pandas as pd
import pytest
from grid_runs import linear
from keras import ops
from power_loss import GRID, SEQUENCE

from engine import backend
from experiments import sequential, shared, threshold_grid

LOSS, ADAM = keras.losses.SparseCategoricalCrossentropy(from_logits=True), keras.optimizers.Adam


@pytest.fixture(autouse=True)
def nothing_kept():
    shared.clear()
    yield
    shared.clear()


@pytest.fixture
def compilations(monkeypatch):
    """Count the functions that TensorFlow makes from now on, one for every trace: a list that grows."""
    if backend.NAME != "tensorflow":
        pytest.skip("counts what TensorFlow compiles")
    from tensorflow.python.eager.polymorphic_function.concrete_function import ConcreteFunction

    found, make = [], ConcreteFunction.__init__

    def counted(self, *arguments, **options):
        found.append(self)
        make(self, *arguments, **options)

    monkeypatch.setattr(ConcreteFunction, "__init__", counted)
    return found


def grid(out, **settings):
    return threshold_grid.run(out=out, progress=False, **{**GRID, **settings})


def sequence(out, **settings):
    return sequential.run(out=out, progress=False, **{**SEQUENCE, **settings})


def same(one, other):
    timeless = [frame.drop(columns="seconds") for frame in (one, other)]
    pd.testing.assert_frame_equal(*timeless, check_exact=True)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("run", [grid, pytest.param(sequence, marks=pytest.mark.slow)])
def test_the_second_job_compiles_nothing_and_ends_in_the_same_rows(tmp_path, compilations, run):
    first = run(tmp_path / "first")
    assert compilations
    compilations.clear()
    same(run(tmp_path / "second"), first)
    assert not compilations
    shared.clear()
    same(run(tmp_path / "alone"), first)
    assert compilations


@pytest.mark.usefixtures("quick")
@pytest.mark.filterwarnings("ignore:The .* are no longer finite")
def test_what_a_run_left_is_gone_when_the_next_begins(tmp_path, compilations):
    first = sequence(tmp_path / "first")
    compilations.clear()
    lost = sequence(tmp_path / "lost", penalties=["plain"], strengths=[1e30], seeds=[0, 1])
    assert compilations  # another penalty
    lost = sequence(tmp_path / "huge", strengths=[1e30], seeds=[0, 1], epochs=2)
    assert set(lost["seed"]) == {0, 1}
    same(sequence(tmp_path / "again"), first)


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_grid_begins_with_its_own_network(tmp_path, compilations):
    first = grid(tmp_path / "first")
    compilations.clear()
    other = grid(tmp_path / "other", seeds=[0, 3], epochs=2, measures=["random"])
    assert not compilations and set(other["epoch"]) == {1, 2}
    same(grid(tmp_path / "again"), first)
    assert not compilations


def identity(model, loss=LOSS, optimizer=None, **said):
    return shared.identity(model, loss, ADAM(1e-3) if optimizer is None else optimizer, **said)


def test_what_is_alike_says_the_same_and_what_differs_another_thing():
    one = identity(linear(), data="a")
    assert one is not None and one == identity(linear(), data="a")
    others = [
        identity(linear(), data="b"), identity(linear(), optimizer=ADAM(2e-3), data="a"),
        identity(linear(), keras.losses.SparseCategoricalCrossentropy(), data="a"),
        identity(keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)]), data="a"),
    ]  # fmt: skip
    assert None not in others and len({one, *others}) == 5


class Layer(keras.layers.Dense):
    pass


class Loss(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return y_pred


def function(x):
    return x


@pytest.mark.parametrize(
    "layer",
    [Layer(3), keras.layers.Dense(3, activation=function), keras.layers.Dense(3, activation=lambda x: np.pi * x)],
)
def test_code_of_the_users_is_compiled_anew(layer):
    assert identity(keras.Sequential([keras.Input((4,)), layer])) is None
    assert identity(linear(), Loss()) is None
    made = [shared.kept((None, 1), object) for _ in range(2)]
    assert made[0] is not made[1]


def test_the_last_ones_used_are_kept():
    made = {n: shared.kept(("", n), object) for n in range(shared.MOST)}
    assert shared.kept(("", 0), object) is made[0]
    shared.kept(("", shared.MOST), object)
    assert shared.kept(("", 0), object) is made[0] and shared.kept(("", 1), object) is not made[1]


def test_what_is_dropped_is_dropped_by_tensorflow_too(tmp_path):
    if backend.NAME != "tensorflow":
        pytest.skip("of TensorFlow's registry of gradients")
    from tensorflow.python.framework.ops import gradient_registry

    before, made = set(gradient_registry.list()), []
    grid(tmp_path, model=lambda: made.append(linear()) or made[-1], measures=["synaptic_intelligence"])
    assert set(gradient_registry.list()) == before  # its entries hold the graph of a training, and all that is in it
    models = [weakref.ref(made.pop()) for _ in list(made)]
    shared.clear()
    gc.collect()
    assert models and not any(model() for model in models)


def test_a_compiled_function_differentiates_by_custom_gradients():
    @ops.custom_gradient
    def thrice(x):
        return x * 1.0, lambda *arguments, upstream=None: 3.0 * (arguments[0] if upstream is None else upstream)

    function = backend.compiled(lambda x: backend.gradients(lambda weights: ops.sum(thrice(weights[0])), [x]))
    for size in (2, 3):  # traced twice
        np.testing.assert_array_equal(function(backend.on_device(np.ones(size, "float32")))[0], 3.0 * np.ones(size))
