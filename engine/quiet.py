"""A quiet beginning: TensorFlow's native libraries write to standard error when they are loaded, whatever is asked.

Lines such as "oneDNN custom operations are on" come before their own level of logging is in force. `begin`, which
importing any part of `engine` calls, sets that level, and has what is written while TensorFlow is imported held back.
Where the import fails it is shown. With TF_CPP_MIN_LOG_LEVEL=0 in the environment nothing is held back; 1, which
importing JAX sets, is no such wish.
"""

import contextlib
import importlib.abc
import importlib.util
import os
import sys
import tempfile

LEVEL = "TF_CPP_MIN_LOG_LEVEL"


def begin():
    """Have TensorFlow imported quietly, whoever imports it, from now on."""
    os.environ.setdefault(LEVEL, "2")  # errors, and neither warnings nor information
    if "tensorflow" not in sys.modules:
        sys.meta_path.insert(0, _Finder())


@contextlib.contextmanager
def native_errors():
    """Hold back what is written to the file descriptor of standard error; show it if the block raises."""
    if os.environ[LEVEL] == "0":
        yield
        return
    sys.stderr.flush()
    with tempfile.TemporaryFile() as said:
        standard = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            yield
        except BaseException:
            said.seek(0)
            os.write(standard, said.read())
            raise
        finally:
            os.dup2(standard, 2)
            os.close(standard)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds TensorFlow as anybody does, once, and has it loaded quietly."""

    def find_spec(self, name, path=None, target=None):
        if name != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    """Loads a module as another loader does, and leaves it to that one."""

    def __init__(self, loader):
        self._loader = loader

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        module.__spec__.loader = module.__loader__ = self._loader
        with native_errors():
            self._loader.exec_module(module)
