"""What the settings of all studies share: checked once, written beside the results, and naming them."""

import dataclasses
import hashlib
import json

import numpy as np

import importance
from engine import checks

_SHARED = {"seeds": checks.several(checks.whole(0))}


class Settings:
    """Settings of a study: checked values, a name, and a form for JSON. Subclasses are frozen dataclasses.

    What a field may be follows from its type (`engine.checks.of_type`), unless `CHECKS` says more. A value that does
    not fit raises a ValueError when the settings are made.

    Attributes:
        CHECKS: dict. From a field to its check, where the type does not say all.
        VARIED: frozenset of str. The fields that are columns of every row, and so no part of the name.
        FIRST_VARIED: frozenset of str or None. What `VARIED` was in the first version, if it was less.
        NAMED_BY: tuple of str. The fields that the name begins with.
        WITH_A_COLUMN: frozenset of str. Fields of `VARIED` whose column is there only if they are given: the name says
            whether they are.
    """

    CHECKS = _SHARED
    VARIED = frozenset({"seeds"})
    FIRST_VARIED = None
    NAMED_BY = ("task", "model")
    WITH_A_COLUMN = frozenset()

    def __post_init__(self):
        for field in dataclasses.fields(self):
            check = self.CHECKS.get(field.name, checks.of_type(field.type))
            object.__setattr__(self, field.name, check(field.name, getattr(self, field.name)))

    @property
    def name(self):
        """The run's name: what it is about and a hash of the settings that differ from the defaults.

        A setting that is added later has a default that changes nothing, so earlier runs keep their names.
        """
        return self.named(self.VARIED)

    @property
    def first_name(self):
        """The name of the same run in the first version, which took all but the seeds of a grid into it."""
        return self.named(self.FIRST_VARIED or self.VARIED)

    def named(self, varied):
        """Return the name that leaves some fields out: str."""
        defaults = _plain(
            {
                field.name: field.default_factory() if field.default is dataclasses.MISSING else field.default
                for field in dataclasses.fields(self)
                if field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
            }
        )
        given = {
            key: key in self.WITH_A_COLUMN or value
            for key, value in self.as_dict().items()
            if (key not in varied or key in self.WITH_A_COLUMN) and value != defaults.get(key)
        }  # fmt: skip
        digest = hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()
        return "-".join([*(getattr(self, field) for field in self.NAMED_BY), digest[:8]])

    def as_dict(self):
        """Return the settings as JSON knows them."""
        return _plain(dataclasses.asdict(self))


def _plain(value):
    """Return a value as JSON knows it: tuples as lists, NumPy's numbers as Python's."""
    return json.loads(json.dumps(value, default=np.generic.item))


def check_names(what, given, known):
    """Raise ValueError unless all names are known."""
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ValueError(
            f"Expected each {what} to be one of {', '.join(known)}; received {', '.join(map(repr, unknown))}."
            f"{checks.nearest(unknown[0], known)}"
        )


def _measure(name, value):
    return importance.load(checks.text(name, value)).name


a_measure = checks.Check("a measure", _measure)
"""The check for a measure with its options, which get one spelling."""
