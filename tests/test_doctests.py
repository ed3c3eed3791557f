"""Every example in a docstring runs and gives what it says."""

import doctest
import importlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
ROOMS = ["tasks", "importance", "aggregation", "thresholding", "consolidation", "experiments", "engine", "report"]
FILES = [f for room in ROOMS for f in sorted([*ROOT.glob(f"{room}.py"), *(ROOT / room).rglob("*.py")])]
WITH_EXAMPLES = {f for f in FILES if ">>>" in f.read_text("utf-8")}


def module(path):
    """Name the module that a file is."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("name", sorted(map(module, WITH_EXAMPLES)))
def test_examples(name):
    loaded = importlib.import_module(name)
    lines = [line for line in pathlib.Path(loaded.__file__).read_text("utf-8").splitlines() if ">>> " in line]
    skipped = [line for line in lines if "+SKIP" in line]
    assert not skipped or name.startswith("report."), "only what reads or draws a finished run may be left out"
    failed, attempted = doctest.testmod(loaded, verbose=False)
    assert not failed
    assert attempted == len(lines) - len(skipped), "an example stands where nothing runs it"


def test_every_room_is_walked():
    rooms = {module(f).split(".")[0] for f in FILES}
    assert rooms >= set(ROOMS) - {"consolidation"}
    assert {module(f).split(".")[0] for f in WITH_EXAMPLES} >= {"tasks", "importance", "aggregation", "thresholding"}


def test_every_measure_shows_an_example():
    import importance

    assert {f"importance.{name}" for name in importance.names()} <= set(map(module, WITH_EXAMPLES))
