"""Run the optimizer tests inside the installed Keras with every optimizer in a wrapper that should change nothing.

    python tests/wrappers/keras_suite.py consolidation [arguments of pytest]
    python tests/wrappers/keras_suite.py tracked [arguments of pytest]
    python tests/wrappers/keras_suite.py masked [arguments of pytest]

Exits with 0 if all tests pass but those that `BY_DESIGN` lists, and all of these fail.
"""

import pathlib
import sys

import keras
import pytest
from keras.src import optimizers as source

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

import importance
import thresholding
from consolidation import ElasticWeightConsolidation

WRAPPERS = {
    "consolidation": lambda optimizer: ElasticWeightConsolidation(optimizer, 0.0),
    "tracked": lambda optimizer: importance.Tracked(optimizer, importance.names()),
    "masked": thresholding.Masked,
}

OWN_VARIABLES = "counts the optimizer's variables, and a wrapper has some of its own"
OWN_NAME = "expects the class's own name or configuration"
BY_DESIGN = {
    "loss_scale_optimizer_test.py::LossScaleOptimizerTest::test_serialization": OWN_NAME,
    "multi_optimizer_test.py::MultiOptimizerTest::test_serialization": OWN_NAME,
    "multi_optimizer_test.py::MultiOptimizerTest::test_tensorboard_logging_with_multi_optimizer": OWN_NAME,
    "multi_optimizer_test.py::MultiOptimizerTest::test_multi_optimizer_blocks_nested_optimizers": (
        "Keras asks for the class of what is in the map"
    ),
    "muon_test.py::MuonTest::test_adamw_weight_decay": "calls a private method that the class overrides",
    "optimizer_test.py::OptimizerTest::test_optimizer_auto_naming": OWN_NAME,
    "optimizer_test.py::OptimizerTest::test_setting_lr_to_callable_untracks_lr_var": OWN_VARIABLES,
    "sgd_test.py::SGDTest::test_single_step": OWN_VARIABLES,
}
"""Why tests cannot pass, by their names."""

BY_DESIGN_OF_KIND = {
    "optimizer_sparse_test.py::OptimizerSparseTest::test_sparse_gradients_": (
        "replaces `assign` of the object that it made, the wrapper, and forbids that of every variable"
    ),
}
"""The same, by how their names begin."""
PASSES = {"optimizer_sparse_test.py::OptimizerSparseTest::test_sparse_gradients_scatter_update"}  # not of Keras's own


def reason(name):
    """Return why a test cannot pass, or None."""
    if name in PASSES:
        return None
    return BY_DESIGN.get(name) or next(
        (why for start, why in BY_DESIGN_OF_KIND.items() if name.startswith(start)), None
    )


def wrapping(kind, wrap):
    """Return a class whose instances are wrapped when they are made."""

    class Wrapping(type(kind)):
        def __call__(cls, *args, **kwargs):
            return wrap(kind(*args, **kwargs))

        def __instancecheck__(cls, instance):
            return isinstance(instance, kind) or isinstance(getattr(instance, "inner", None), kind)

    return Wrapping(kind.__name__, (kind,), {"__module__": kind.__module__})


def substitute(wrap):
    """Put wrapping classes into the packages from which tests take optimizers; return {class: stand-in}."""
    kinds = [k for k in vars(keras.optimizers).values() if isinstance(k, type) and issubclass(k, keras.Optimizer)]
    wrapped = {kind: wrapping(kind, wrap) for kind in set(kinds) - {keras.Optimizer}}
    for kind, stand_in in wrapped.items():
        for module in (keras.optimizers, source):
            setattr(module, kind.__name__, stand_in)
    return wrapped


class Outcomes:
    """A plugin for pytest that puts stand-ins into test modules, and notes what failed and what passed.

    The modules that define optimizers keep their classes, which can so be pickled by their names.
    """

    def __init__(self, wrapped):
        self._wrapped, self.failed, self.passed = wrapped, set(), set()

    def pytest_collection_modifyitems(self, items):
        for module in {item.module for item in items}:
            for name, value in list(vars(module).items()):
                if isinstance(value, type) and value in self._wrapped:
                    setattr(module, name, self._wrapped[value])

    def pytest_runtest_logreport(self, report):
        name = report.nodeid.rpartition("/")[2]
        if report.failed:
            self.failed.add(name)
        elif report.when == "call" and report.passed:
            self.passed.add(name)


def main(kind, *arguments):
    """Run the tests; return what is wrong, a list of sentences."""
    outcomes, folder = Outcomes(substitute(WRAPPERS[kind])), pathlib.Path(source.__file__).parent
    files = sorted(map(str, folder.glob("*_test.py")))
    options = ["-c", "/dev/null", "--rootdir", str(folder), "-p", "no:cacheprovider", "-W", "ignore", "-q"]
    pytest.main([*options, *arguments, *files], plugins=[outcomes])
    wrong = [f"{name} fails" for name in sorted(outcomes.failed) if not reason(name)]
    wrong += [f"{name} passes, though listed as one that cannot" for name in sorted(outcomes.passed) if reason(name)]
    print(f"\n{kind}: {len(outcomes.passed)} pass, {len(outcomes.failed)} fail, {len(wrong)} unexpectedly")
    return wrong


if __name__ == "__main__":
    found = main(*sys.argv[1:])
    print("\n".join(found))
    sys.exit(bool(found))
