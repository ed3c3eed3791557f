"""What comes before everything that is tested."""

import functools
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


def compile_simply(patch):
    """Have TensorFlow compile what it is given as it is: of small models, what is spared takes longer than to run them.

    Without XLA, without its optimisers of graphs, and without noting for its messages which lines made each operation.
    """
    patch.setattr(sys.modules["engine.structure"], "xla", lambda model: False)
    graphs = sys.modules["tensorflow.python.framework.ops"]
    patch.setattr(graphs, "_create_c_op", functools.partial(graphs._create_c_op, extract_traceback=False))
    sys.modules["tensorflow"].config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


def compile_as_runs_do(patch):
    sys.modules["tensorflow"].config.optimizer.set_experimental_options({"disable_meta_optimizer": False})
    patch.undo()


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
    patch = pytest.MonkeyPatch()
    compile_simply(patch)
    yield patch
    compile_as_runs_do(patch)


@pytest.fixture(autouse=True)
def with_xla(request, simply_compiled):
    """Compile a test that is marked `xla` as a user's run is."""
    if simply_compiled is None or not request.node.get_closest_marker("xla"):
        yield
        return
    compile_as_runs_do(simply_compiled)
    yield
    compile_simply(simply_compiled)


@pytest.fixture(autouse=True, scope="module")
def compilations_freed():
    """Let go of what JAX compiled for one file before the next file: it adds up to gigabytes, and is kept on disk."""
    yield
    if "engine.backend" in sys.modules and sys.modules["engine.backend"].NAME == "jax":
        sys.modules["jax"].clear_caches()
