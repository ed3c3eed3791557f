"""What comes before everything that is tested."""

import sys
import zlib

import pytest

import engine  # noqa: F401, before Keras, whose backend it keeps quiet


def pytest_collection_modifyitems(items):
    """Keep the tests of a file in one process, which share what they make, but for the zoo's: they share nothing."""
    for item in items:
        if "zoo" not in item.path.parts:
            item.add_marker(pytest.mark.xdist_group(str(item.path)))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Let every test draw its networks from its own name, so that what fails once fails again."""
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(zlib.crc32(item.nodeid.encode()))


@pytest.fixture(autouse=True, scope="module")
def without_xla(request):
    """Compile without XLA on TensorFlow, unless a test or its file is marked `xla`: small models take a third of it.

    JAX, which has nothing else, shows what only XLA does. Files that compare with other processes, which compile as a
    user's run is, are marked.
    """
    with pytest.MonkeyPatch.context() as patch:
        structure = sys.modules.get("engine.structure")
        on_tensorflow = structure and sys.modules["engine.backend"].NAME == "tensorflow"
        if on_tensorflow and not request.node.get_closest_marker("xla"):
            of_runs = structure.xla
            patch.setattr(structure, "xla", lambda model: False)
            yield of_runs
        else:
            yield None


@pytest.fixture(autouse=True)
def with_xla(request, without_xla, monkeypatch):
    """Compile a test that is marked `xla` as a user's run is."""
    if without_xla and request.node.get_closest_marker("xla"):
        monkeypatch.setattr(sys.modules["engine.structure"], "xla", without_xla)


@pytest.fixture(autouse=True, scope="module")
def compilations_freed():
    """Let go of what JAX compiled for one file before the next file: it adds up to gigabytes, and is kept on disk."""
    yield
    if "engine.backend" in sys.modules and sys.modules["engine.backend"].NAME == "jax":
        sys.modules["jax"].clear_caches()
