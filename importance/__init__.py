"""Measures: how much does each weight matter?

A measure is one file that defines `MEASURE`. A complete one:

```python
# importance/squared.py: the squared weight
import numpy as np
from importance import Measure

def score(evidence, power=2.0):
    return [np.abs(w) ** power for w in evidence.weights]

MEASURE = Measure(score)
```

It is then called by its file's name everywhere: `importance.load("squared")`, in settings, in CSVs and in figures; its
keyword arguments are options, `importance.load("squared", power=4.0)` or `importance.load("squared:power=4.0")`. An
option takes values like its default, or those that its annotation allows: see `engine.checks`.

Every score is a float32 array per variable, in the order and shapes of `model.trainable_variables`, finite, at least 0,
and larger means keep. Scoring reads the model in inference mode and changes nothing in it.
"""

import ast
import contextlib
import inspect
from typing import NamedTuple

import numpy as np

from engine import checks, draws, variants
from importance._measure import NEEDS, Measure

__all__ = ["Evidence", "LoadedMeasure", "Measure", "Tracked", "digests", "general", "load", "names", "score", "table"]


class LoadedMeasure(NamedTuple):
    """A measure with its options.

    Attributes:
        name: str. The file's name, with the options that differ from the defaults: "mas:outputs=logits".
        definition: Measure.
        options: dict.
    """

    name: str
    definition: Measure
    options: dict

    def score(self, model, x=None, y=None, *, seed=0, **kwargs):
        """Score every weight of a model.

        Args:
            model: keras.Model, built. For a measure that needs a trajectory, compiled with a `Tracked` optimizer and
                trained.
            x: float array (examples, ...), for measures that need inputs.
            y: array (examples, ...), labels or targets, for measures that need them.
            seed: int. Every draw of the measure derives from it.
            **kwargs: as for `Evidence`: `loss`, `examples`, `memory`, `optimizer`, `groups`, `fill`,
                `replacements`.

        Returns:
            list of float32 arrays like `model.trainable_variables`, finite unless the model is not, >= 0.

        Raises:
            ValueError: something that the measure needs is missing or does not fit.
        """
        from importance._evidence import Evidence  # which needs Keras; reading a list of names does not

        return self.score_from(Evidence(model, x, y, seed=seed, **kwargs))

    def score_from(self, evidence):
        """Score from evidence that several measures share, so that a pass over the data is made once for all."""
        scores = self.definition.score(evidence.of(self), **self.options)
        scores = [np.asarray(s, dtype="float32") for s in scores]
        expected, received = [part.shape for part in evidence.parts], [s.shape for s in scores]
        negative = sum(int(np.sum(s < 0)) for s in scores)
        if received != expected or negative:
            what = f"{negative} negative values" if received == expected else f"arrays of the shapes {received}"
            raise ValueError(
                f"Expected the measure {self.name!r} to give importances of at least 0 with the shapes of the model's "
                f"trainable variables, {expected}; received {what}. Mend importance/{self.name.partition(':')[0]}.py."
            )
        return scores


def names():
    """List the measures: the files in `importance/`."""
    return variants.names(__name__)


def general():
    """List the measures that a grid of all takes: not those that say that they are for few networks or one question."""
    found = []
    for name in names():
        with contextlib.suppress(Exception):  # a file that is being written is told of when it is used
            if not load(name).definition.general:
                continue
        found.append(name)
    return found


def load(name, **options):
    """Return a measure.

    Args:
        name: str. A file in `importance/`, with options if wanted: "mas" or "mas:outputs=logits,...".
        **options: the measure's keyword arguments.

    Returns:
        LoadedMeasure.

    Raises:
        ValueError: no such measure; it has no such option, or an option has a value that it does not take. The message
            lists those there are.

    Example:
        >>> import importance
        >>> importance.load("magnitude").name
        'magnitude'
    """
    name, _, written = name.partition(":")
    definition = variants.load(__name__, name, "MEASURE")
    if not isinstance(definition, Measure) or definition.needs not in NEEDS:
        raise ValueError(
            f"Expected importance/{name}.py to define MEASURE = Measure(score, needs=...) with needs among "
            f"{', '.join(NEEDS)}; received {definition!r}."
        )
    defaults = {key: p.default for key, p in list(inspect.signature(definition.score).parameters.items())[1:]}
    given = {**_parse(written), **options}
    given = checks.options(f"the measure {name!r}", definition.score, given, leaving=1)
    changed = {key: value for key, value in sorted(given.items()) if value != defaults[key]}
    full = name + (":" + ",".join(f"{key}={value}" for key, value in changed.items()) if changed else "")
    return LoadedMeasure(full, definition, changed)


def score(measures, model, x=None, y=None, *, seed=0, **kwargs):
    """Score a model by several measures at once; those that need the same pass over the data share it.

    Args:
        measures: list of str.
        model, x, y, seed, **kwargs: as for `LoadedMeasure.score`.

    Returns:
        dict from measure name to its list of float32 arrays.
    """
    from importance._evidence import Evidence

    evidence = Evidence(model, x, y, seed=seed, **kwargs)
    return {name: load(name).score_from(evidence) for name in measures}


def digests():
    """Say what each measure's file says, as a digest: {name: str}. Results keep them, so that a change is noticed."""
    return {name: variants.digest(__name__, name) for name in names()}


def table():
    """Describe every measure in a dataframe: what it needs, what it costs, its options and its formula.

    A file that cannot be loaded has the reason for its summary, so that it stands in nobody's way who does not use it.
    """
    import pandas as pd

    return pd.DataFrame([{"measure": name, **_described(name)} for name in names()]).set_index("measure")


def _described(name):
    try:
        definition = load(name).definition
    except Exception as error:  # whatever a file may raise that is being written
        return {"needs": "", "cost": "", "options": "", "summary": f"cannot be loaded: {error!r}"}
    parameters = list(inspect.signature(definition.score).parameters.values())[1:]
    about = inspect.getmodule(definition.score).__doc__ or ""
    return {
        "needs": definition.needs,
        "cost": definition.cost,
        "options": ", ".join(f"{p.name}={p.default!r}" for p in parameters),
        "summary": about.strip().partition("\n")[0],
    }


def draw_seed(seed, name):
    """Return the seed of a measure's own draws: a function of the run's seed and the measure's name alone."""
    return draws.number(seed, f"measure {name}")


def _parse(written):
    options = {}
    for item in filter(None, written.split(",")):
        key, equals, value = item.partition("=")
        if not equals:
            raise ValueError(f"Expected options written as 'name:option=value,option=value', received {item!r}.")
        key, value = key.strip(), value.strip()
        if key in options:
            raise ValueError(f"Expected each option once, received {key} twice in {written!r}.")
        try:
            options[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            options[key] = value  # a bare word is a string
    return options


def __getattr__(name):
    # Reading a list of names needs no Keras; these do.
    if name == "Tracked":
        from importance._tracked import Tracked

        return Tracked
    if name == "Evidence":
        from importance._evidence import Evidence

        return Evidence
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
