"""How tests have TensorFlow compile small models: what is spared takes longer than to run them."""

import contextlib
import functools
import gc
import sys

import pytest


def simply(put=setattr):
    """Have TensorFlow compile what it is given as it is.

    Without XLA, without its optimisers of graphs, and without noting for its messages which lines made each operation.

    Args:
        put: callable like `setattr`, such as that of a `pytest.MonkeyPatch`.
    """
    put(sys.modules["engine.structure"], "xla", lambda model: False)
    as_graph = functools.partial(sys.modules["tensorflow"].function, autograph=False)
    put(sys.modules["engine.backend"], "fused", as_graph)
    graphs = sys.modules["tensorflow.python.framework.ops"]
    put(graphs, "_create_c_op", functools.partial(graphs._create_c_op, extract_traceback=False))
    _optimise(False)


def with_kept_kernels():
    """Have TensorFlow make no kernel again: neither for the name of a variable nor after `set_random_seed`.

    The name stands in its messages alone. What it forgets with a seed is for random operations with a state, which
    Keras does not use.
    """
    operations = sys.modules["tensorflow.python.ops.gen_resource_variable_ops"]
    make = operations.var_handle_op
    operations.var_handle_op = lambda **options: make(**options | {"debug_name": ""})
    sys.modules["tensorflow.python.eager.context"].pywrap_tfe.TFE_ContextClearCaches = lambda context: None


def seldom_searching_for_garbage():
    """Have Python look for garbage less often, and not among what was imported: tracing a network makes a lot."""
    not_searching_what_is_there()
    gc.set_threshold(50_000, 20, 100)


def not_searching_what_is_there():
    """Search for garbage, and never again among what is left."""
    gc.collect()
    gc.freeze()


def as_runs_do():
    """Take back what no `put` takes back."""
    _optimise(True)


@contextlib.contextmanager
def all_simply():
    """Compile simply within, and as before after it: what all files share must not depend on which of them is first."""
    if sys.modules["engine.backend"].NAME != "tensorflow":
        yield
        return
    options = sys.modules["tensorflow"].config.optimizer.get_experimental_options()
    with pytest.MonkeyPatch.context() as patch:
        simply(patch.setattr)
        yield
    _optimise(not options.get("disable_meta_optimizer", False))


def _optimise(graphs):
    sys.modules["tensorflow"].config.optimizer.set_experimental_options({"disable_meta_optimizer": not graphs})
