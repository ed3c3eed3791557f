"""Checks of settings and options: what a value may be, said once, and the sentence that refuses another.

A check is called as `check(name, value)` and returns the value in its one form (NumPy's numbers as Python's, lists as
tuples), or raises a ValueError "Expected <name> to be ..., received <value>." As the annotation of an option, it says
which values the option takes:

```python
def score(evidence, outputs: checks.choice("softmax", "logits") = "softmax", probes=10):
```

An option without such an annotation takes values like its default: see `like`.
"""

import difflib
import inspect
import json
import math
import os
import re
import types
from collections.abc import Mapping, Sequence

import numpy as np

_YAML_FLOAT = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][+-]?[0-9]+")
"""Numbers that YAML 1.1 reads as text, such as 1e-3: it wants 1.0e-3."""


class Unfit(Exception):
    """A value is not what a check expects; the argument, if any, says what to do."""


class Check:
    """What a value may be.

    Args:
        what: str. What is expected, as in "a whole number of at least 1".
        take: function `take(name, value)` that returns the value in its one form, or raises `Unfit`; or a ValueError,
            where more is to be said.
    """

    def __init__(self, what, take):
        self.what, self.take = what, take

    def __call__(self, name, value):
        """Return the value in its one form.

        Raises:
            ValueError: it is not what is expected.
        """
        try:
            return self.take(name, value)
        except Unfit as unfit:
            raise ValueError(f"Expected {name} to be {self.what}, received {value!r}.{unfit}") from None


def whole(least=1, most=None):
    """Return the check for a whole number of at least, and if that is given at most, so much."""

    def take(name, value):
        value = _plain(value)
        _if(isinstance(value, int) and not isinstance(value, bool), value)
        return _if(value >= least and (most is None or value <= most), value)

    return Check(f"a whole number of at least {least}" + (f" and at most {most}" if most else ""), take)


def number(least=None, most=None, above=None, below=None):
    """Return the check for a finite number in a range; `above` and `below` exclude their ends."""
    bounds = {"of at least": least, "of at most": most, "above": above, "below": below}
    if least is not None and most is not None:
        words = f"from {least:g} to {most:g}"
    elif above is not None and below is not None:
        words = f"between {above:g} and {below:g} (both excluded)"
    else:
        words = " and ".join(f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None)

    def take(name, value):
        value = _plain(value)
        if isinstance(value, str) and _YAML_FLOAT.fullmatch(value):
            value = float(value)
        _if(isinstance(value, (int, float)) and not isinstance(value, bool) and _finite(value), value)
        inside = (least is None or value >= least) and (most is None or value <= most)
        return _if(inside and (above is None or value > above) and (below is None or value < below), value)

    return Check(f"a finite number {words}".strip(), take)


def choice(*choices):
    """Return the check for one of some texts."""

    def take(name, value):
        return _if(isinstance(value, str) and value in choices, value)

    return Check(f"one of {', '.join(map(repr, choices))}", take)


def either(word, check):
    """Return the check for one word, or None, or else what another check takes."""

    def take(name, value):
        is_word = value is word or (isinstance(value, str) and value == word)
        return word if is_word else check.take(name, value)

    return Check(f"{check.what} or {word!r}", take)


def optional(check):
    """Return the check for None, or what another check takes."""
    return either(None, check)


def several(each=None, least=1):
    """Return the check for a list of so many at least, each once, which becomes a tuple; `each` checks its values."""
    each = each or scalar

    def take(name, values):
        is_list = isinstance(values, (Sequence, np.ndarray)) and not isinstance(values, (str, bytes, bytearray))
        if not is_list or (isinstance(values, np.ndarray) and values.ndim == 0):
            raise Unfit(f" Write [{values!r}].")
        found = tuple(each(name, value) for value in values)
        if len(found) < least or len(set(found)) < len(found):
            some = "a list of at least one" if least else "a list"
            raise ValueError(f"Expected {name} to be {some}, each once; received {list(values)!r}.")
        return found

    return Check("a list", take)


def options(of, function, given, leaving=0):
    """Check options that are given to a function.

    Args:
        of: str. Whose options they are, as in "the task 'digits'".
        function: callable. Its arguments are the options.
        given: dict.
        leaving: int. How many of its first arguments are none.

    Returns:
        dict. Like `given`, each value in its one form.

    Raises:
        ValueError: an option that there is not, naming the nearest; a value that its annotation, if that is a `Check`,
            or else its default does not allow.
    """
    parameters = dict(list(inspect.signature(function).parameters.items())[leaving:])
    unknown = [name for name in given if name not in parameters]
    if unknown:
        raise ValueError(
            f"Expected only options that {of} has ({', '.join(parameters) or 'it has none'}), "
            f"received {', '.join(unknown)}.{nearest(unknown[0], parameters)}"
        )
    found = {}
    for name, value in given.items():
        annotation, default = parameters[name].annotation, parameters[name].default
        found[name] = (annotation if isinstance(annotation, Check) else like(default))(f"{name} of {of}", value)
    return found


def like(default):
    """Return the check for values like a default.

    True or False for one of these, a whole number of at least 1 for one (of at least 0 for 0), a finite number, a text;
    for any other default: anything.
    """
    if isinstance(default, bool):
        return flag
    if isinstance(default, int):
        return whole(min(1, default))
    if isinstance(default, float):
        return number()
    return text if isinstance(default, str) else anything


def of_type(annotation):
    """Return the check that a field's type calls for.

    Args:
        annotation: str, bool, int (of at least 1), float (above 0), tuple (a list of at least one, each once), dict, or
            one of them with None, as in `int | None`. For any other there is no check: anything.
    """
    if isinstance(annotation, types.UnionType) and annotation.__args__[1:] == (type(None),):
        return optional(of_type(annotation.__args__[0]))
    known = {str: text, bool: flag, int: whole(), float: number(above=0), tuple: several(), dict: mapping}
    return known.get(annotation, anything)


def nearest(name, known):
    """Say which known name is meant, for the end of a message: " Did you mean 'seeds'?", or nothing."""
    found = difflib.get_close_matches(str(name), [name for name in known if isinstance(name, str)], 1)
    return f" Did you mean {found[0]!r}?" if found else ""


def _if(fits, value):
    if not fits:
        raise Unfit
    return value


def _plain(value):
    """Return NumPy's numbers as Python's, and anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def _finite(value):
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _flag(name, value):
    return _if(isinstance(_plain(value), bool), _plain(value))


def _text(name, value):
    return _if(isinstance(value, str) and value.isprintable() and value.strip(), value)


def _path(name, value):
    value = os.fspath(value) if isinstance(value, os.PathLike) else value
    return _if(isinstance(value, str) and value.strip() and "\0" not in value, value)


def _mapping(name, value):
    _if(isinstance(value, Mapping) and all(isinstance(key, str) for key in value), value)
    try:
        json.dumps(dict(value), default=np.generic.item, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise Unfit from None
    return dict(value)


def _label(name, value):
    value = _plain(value)
    return _if(isinstance(value, int) and not isinstance(value, bool), value) if not isinstance(value, str) else value


def _scalar(name, value):
    value = _plain(value)
    return _if(isinstance(value, (str, int)) or (isinstance(value, float) and _finite(value)), value)


flag = Check("True or False", _flag)
text = Check("a text of printable characters", _text)
path = Check("a name or path", _path)
mapping = Check("a dict from names to values that JSON knows", _mapping)
label = Check("whole numbers or texts", _label)
scalar = Check("a text or a finite number", _scalar)
anything = Check("anything", lambda name, value: value)
