"""Whoever is imported first, TensorFlow's native libraries write nothing to standard error."""

import os
import pathlib
import subprocess
import sys

import pytest

from engine import quiet

pytestmark = pytest.mark.long  # it is about TensorFlow, which JAX's part of `make test` does not import

ROOT = pathlib.Path(__file__).parents[2]
MODULES = sorted(
    {str(path.relative_to(ROOT).with_suffix("")).replace("/", ".").removesuffix(".__init__")
     for room in ("tasks", "importance", "aggregation", "consolidation", "experiments", "engine")
     for path in (ROOT / room).rglob("*.py") if path.stem != "__main__"} | {"thresholding"}
)  # fmt: skip


def python(source, *arguments, **environment):
    others = {name: value for name, value in os.environ.items() if name != quiet.LEVEL}
    return subprocess.run(
        [sys.executable, "-c", source, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=120,
        env={**others, **environment},
    )  # fmt: skip


def test_computing_writes_nothing():
    done = python("import consolidation, keras; print(float(keras.ops.sum(keras.ops.ones(3))))")
    assert (done.stdout, done.stderr) == ("3.0\n", "")


@pytest.mark.slow
def test_nor_do_several_networks_one_after_another():
    """Each compiles functions of its own, which TensorFlow must not take for one that is traced over and over."""
    source = """
import engine, keras, numpy as np
from engine import elimination
import importance
elimination.WORTH = 0  # a function for each layer
for width in range(3, 9):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(width, "relu"), keras.layers.Dense(3)])
    importance.score(["deletion", "wanda"], model, np.ones((5, 4)), np.zeros(5, int))
"""
    done = python(source)
    assert (done.returncode, done.stdout) == (0, "")
    assert not [line for line in done.stderr.splitlines() if "cuInit" not in line]


@pytest.mark.slow
def test_nor_does_one_network_that_learns_tasks_of_several_sizes():
    source = """
import numpy as np
from engine import training
import keras
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
training.compile_model(model, keras.optimizers.SGD(), keras.losses.MeanSquaredError(), xla=False)
for examples in range(4, 12):
    training.train(model, np.ones((examples, 4), "float32"), np.ones((examples, 3), "float32"), [1], 2, 0)
"""
    done = python(source)
    assert (done.returncode, done.stdout) == (0, "")
    assert not [line for line in done.stderr.splitlines() if "cuInit" not in line]


def test_every_module_has_it_quiet_before_keras_is_imported():
    # Keras is refused, so each of them ends where it imports it first, if it does.
    source = """
import importlib, sys
class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name == "keras":
            raise ImportError("refused")
sys.meta_path.insert(0, Refusing())
for module in sys.argv[1:]:
    try:
        importlib.import_module(module)
    except ImportError as error:
        if str(error) == "refused" and "engine.quiet" not in sys.modules:
            print(module)
    for name in [name for name in sys.modules if name.partition(".")[0] in sys.argv]:
        del sys.modules[name]
"""
    done = python(source, *MODULES)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


WRITES = "import os; from engine import quiet\nwith quiet.native_errors(): os.write(2, b'native'){}"


@pytest.mark.parametrize(
    "level, then, said", [("2", "", ""), ("2", "; 1 / 0", "native"), ("0", "", "native"), ("1", "", "")]
)
def test_what_is_held_back_is_shown_on_failure_or_if_asked_for(level, then, said):
    done = python(WRITES.format(then), **{quiet.LEVEL: level})
    assert done.stderr.startswith(said) and bool(done.stderr) == bool(said)
    assert bool(done.returncode) == bool(then)
