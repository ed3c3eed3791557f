"""What comes before everything that is tested."""

import pathlib
import sys
import zlib

import psutil
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent / "reference"))

import compiling

import engine  # noqa: F401, before Keras, whose backend it keeps quiet

MUCH = 3e9
"""Bytes."""


def pytest_collection_modifyitems(items):
    """Keep the tests of a file in one process, which share what they make, but for the zoo's: they share nothing.

    Files that share what they make say so themselves, with a group of their own.
    """
    for item in items:
        if "zoo" not in item.path.parts and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(str(item.path)))


def pytest_collection_finish():
    """Search for garbage less often, and make fewer kernels."""
    compiling.seldom_searching_for_garbage()
    if "tensorflow" in sys.modules:
        compiling.with_kept_kernels()


def pytest_sessionfinish():
    """Search for garbage once, where pytest searches five times."""
    compiling.not_searching_what_is_there()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Let every test draw its networks from its own name, so that what fails once fails again."""
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(zlib.crc32(item.nodeid.encode()))


@pytest.fixture(autouse=True, scope="module")
def simply_compiled(request):
    """Compile simply on TensorFlow, unless a file is marked `xla`.

    JAX, which has nothing else, shows what only XLA does. Files that compare with other processes, which compile as a
    user's run is, are marked.
    """
    on_tensorflow = "engine.structure" in sys.modules and sys.modules["engine.backend"].NAME == "tensorflow"
    if not on_tensorflow or request.node.get_closest_marker("xla"):
        yield None
        return
    with pytest.MonkeyPatch.context() as patch:
        compiling.simply(patch.setattr)
        yield patch
    compiling.as_runs_do()


@pytest.fixture(autouse=True)
def with_xla(request, simply_compiled):
    """Compile a test that is marked `xla` as a user's run is."""
    if simply_compiled is None or not request.node.get_closest_marker("xla"):
        yield
        return
    simply_compiled.undo()
    compiling.as_runs_do()
    yield
    compiling.simply(simply_compiled.setattr)


@pytest.fixture(autouse=True, scope="module")
def compilations_freed():
    """Let go of what JAX compiled for the files so far once it takes gigabytes: it is kept on disk."""
    yield
    on_jax = "engine.backend" in sys.modules and sys.modules["engine.backend"].NAME == "jax"
    if on_jax and psutil.Process().memory_info().rss > MUCH:
        sys.modules["jax"].clear_caches()
