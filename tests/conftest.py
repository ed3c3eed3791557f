"""What comes before everything that is tested."""

import sys

import pytest

import engine  # noqa: F401, before Keras, whose backend it keeps quiet


def pytest_collection_modifyitems(items):
    """Keep the tests of a file in one process, which share what they make, but for the zoo's: they share nothing."""
    for item in items:
        if "zoo" not in item.path.parts:
            item.add_marker(pytest.mark.xdist_group(str(item.path)))


@pytest.fixture(autouse=True)
def without_xla(request, monkeypatch):
    """Compile without XLA on TensorFlow, unless a test is marked `xla`: small models take a third of the time then.

    JAX, which has nothing else, shows what only XLA does.
    """
    loaded = "engine.structure" in sys.modules and sys.modules["engine.backend"].NAME == "tensorflow"
    if loaded and "xla" not in request.keywords:
        monkeypatch.setattr(sys.modules["engine.structure"], "xla", lambda model: False)


@pytest.fixture(autouse=True, scope="module")
def compilations_freed():
    """Let go of what JAX compiled for one file before the next file: it adds up to gigabytes, and is kept on disk."""
    yield
    if "engine.backend" in sys.modules and sys.modules["engine.backend"].NAME == "jax":
        sys.modules["jax"].clear_caches()
