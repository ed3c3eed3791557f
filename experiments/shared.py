"""Compiled models, kept for the next job of this process that would make the same ones.

Compiling takes longer than many a job, and of what TensorFlow has compiled some is never freed: a notebook's cell that
is run thirty times would compile the same functions thirty times, and keep them all.
"""

import collections
import json
import warnings

import keras

from engine import backend, structure

MOST = 8
"""How many are kept, those that were used last; each may hold its examples on the device."""
_OF_KERAS = ("__", "__keras_tensor__", "__tensor__", "__numpy__", "__tuple__", "__slice__", "__ellipsis__")
_kept = collections.OrderedDict()


def identity(model, loss, optimizer, **said):
    """Say what a job compiles, so that two that say the same may use one after another's.

    Args:
        model: keras.Model, built.
        loss: keras.losses.Loss.
        optimizer: keras.optimizers.Optimizer.
        **said: all else that decides what is compiled, and what is decided on the first examples; whatever JSON knows.

    Returns:
        str; or None, if there is code of the user's in it: what goes by the same name may do something else by now.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of functions without a name, which are not kept
            parts = [json.loads(structure.described(model))]
            parts += map(keras.saving.serialize_keras_object, (loss, optimizer))
            parts[-1]["config"].pop("name")  # which counts how many there were
    except (NotImplementedError, TypeError, ValueError):
        return None
    if not all(str(module).partition(".")[0] in ("keras", "engine") for module in _modules(parts)):
        return None
    return json.dumps([*parts, said, keras.config.floatx(), backend.scope()], sort_keys=True, default=str)


def _modules(config):
    """Yield the module of each class and function in a configuration; None where there is none."""
    if isinstance(config, dict):
        if config.get("class_name", "__lambda__" if isinstance(config.get("value"), list) else "__") not in _OF_KERAS:
            yield config.get("module")
        config = list(config.values())
    if isinstance(config, list):
        for value in config:
            yield from _modules(value)


def kept(key, make):
    """Return what `make()` gave for this key, now or earlier; whoever gets it has to reset all that a run changes.

    Args:
        key: tuple. Its first item is an `identity`; if that is None, nothing is kept.
        make: callable without arguments.
    """
    if key[0] is None:
        return make()
    if key not in _kept:
        _kept[key] = make()
    _kept.move_to_end(key)
    while len(_kept) > MOST:
        _kept.popitem(last=False)
    return _kept[key]


def clear():
    """Keep nothing of what was compiled so far."""
    _kept.clear()
