"""Find the variants of a family: one file in a package is one variant, and its file name is its name.

A family is a package such as `importance`; a variant is a module in it that defines the family's attribute, such as
`MEASURE`. Modules whose names begin with an underscore are shared parts, not variants, and a folder in a package is
another family.
"""

import ast
import contextlib
import functools
import hashlib
import importlib.util
import pathlib
import pkgutil

_loaded = {}
"""Digests of the variants' files as this process loaded them."""


class Changed(RuntimeError):
    """A variant's file is not the one that this process loaded."""


def names(package):
    """List the variants of a family, sorted.

    Args:
        package: str. The package's name, such as "importance".

    Returns:
        list of str.
    """
    path = importlib.import_module(package).__path__
    return sorted(
        module.name for module in pkgutil.iter_modules(path) if not module.name.startswith("_") and not module.ispkg
    )


def load(package, name, attribute):
    """Return what a variant's file defines.

    Args:
        package: str. The package's name, such as "importance".
        name: str. The variant's file name without `.py`.
        attribute: str. The name that every variant of the family defines, such as "MEASURE".

    Raises:
        ValueError: no such variant; the message lists those there are.
        Changed: the file has changed since this process loaded it, which goes on with what it said then.
    """
    known, folder = names(package), package.replace(".", "/")
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"Expected one of the files in {folder}/ ({', '.join(known)}), received {name!r}.")
    said = digest(package, name)
    module = importlib.import_module(f"{package}.{name}")
    if _loaded.setdefault(module.__name__, said) != said:
        raise Changed(
            f"Expected {folder}/{name}.py as this process loaded it, found it changed since. Start the process anew, "
            "in a notebook the kernel, so that results come from what the file says."
        )
    if not hasattr(module, attribute):
        raise ValueError(f"Expected {folder}/{name}.py to define {attribute}, found no such name in it.")
    return getattr(module, attribute)


def digest(package, name):
    """Return a digest of what a variant's file says; comments and layout do not count.

    Args:
        package: str.
        name: str. One of `names(package)`.
    """
    files = (pathlib.Path(folder, f"{name}.py") for folder in importlib.import_module(package).__path__)
    return _digest(next(file for file in files if file.exists()).read_text(encoding="utf-8"))


@functools.cache
def _digest(source):
    with contextlib.suppress(SyntaxError):  # said when it is loaded, if it is
        source = ast.unparse(ast.parse(source))
    return hashlib.sha256(source.encode()).hexdigest()[:16]
