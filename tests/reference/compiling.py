"""How tests have TensorFlow compile small models: what is spared takes longer than to run them."""

import functools
import sys


def simply(put=setattr):
    """Have TensorFlow compile what it is given as it is.

    Without XLA, without its optimisers of graphs, and without noting for its messages which lines made each operation.

    Args:
        put: callable like `setattr`, such as that of a `pytest.MonkeyPatch`.
    """
    put(sys.modules["engine.structure"], "xla", lambda model: False)
    graphs = sys.modules["tensorflow.python.framework.ops"]
    put(graphs, "_create_c_op", functools.partial(graphs._create_c_op, extract_traceback=False))
    _optimise(False)


def as_runs_do():
    """Take back what no `put` takes back."""
    _optimise(True)


def _optimise(graphs):
    sys.modules["tensorflow"].config.optimizer.set_experimental_options({"disable_meta_optimizer": not graphs})
