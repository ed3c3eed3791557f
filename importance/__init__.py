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
keyword arguments are options, `importance.load("squared", power=4.0)` or `importance.load("squared:power=4.0")`.

Every score is a float32 array per variable, in the order and shapes of `model.trainable_variables`, finite, at least 0,
and larger means keep. Scoring reads the model in inference mode and changes nothing in it.
"""

import ast
import inspect
import zlib
from typing import NamedTuple

import numpy as np

from engine import variants
from importance._measure import Measure

__all__ = ["Evidence", "LoadedMeasure", "Measure", "Tracked", "load", "names", "score", "table"]


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
            **kwargs: as for `Evidence`: `loss`, `examples`, `memory`, `optimizer`, `groups`.

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
        return [np.asarray(s, dtype="float32") for s in scores]


def names():
    """List the measures: the files in `importance/`."""
    return variants.names(__name__)


def load(name, **options):
    """Return a measure.

    Args:
        name: str. A file in `importance/`, with options if wanted: "mas" or "mas:outputs=logits,...".
        **options: the measure's keyword arguments.

    Returns:
        LoadedMeasure.

    Raises:
        ValueError: no such measure, or it has no such option; the message lists those there are.

    Example:
        >>> import importance
        >>> importance.load("magnitude").name
        'magnitude'
    """
    name, _, written = name.partition(":")
    definition = variants.load(__name__, name, "MEASURE")
    given = {**_parse(written), **options}
    defaults = {key: p.default for key, p in list(inspect.signature(definition.score).parameters.items())[1:]}
    unknown = sorted(set(given) - set(defaults))
    if unknown:
        raise ValueError(
            f"Expected options of the measure {name!r} to be among {sorted(defaults) or 'none (it has none)'}, "
            f"received {', '.join(unknown)}."
        )
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


def table():
    """Describe every measure in a dataframe: what it needs, what it costs, its options and its formula."""
    import pandas as pd

    rows = []
    for name in names():
        measure = load(name)
        parameters = list(inspect.signature(measure.definition.score).parameters.values())[1:]
        module = inspect.getmodule(measure.definition.score)
        rows.append(
            {
                "measure": name,
                "needs": measure.definition.needs,
                "cost": measure.definition.cost,
                "options": ", ".join(f"{p.name}={p.default!r}" for p in parameters),
                "summary": module.__doc__.splitlines()[0],
            }
        )
    return pd.DataFrame(rows).set_index("measure")


def draw_seed(seed, name):
    """Return the seed of a measure's own draws: a function of the run's seed and the measure's name alone."""
    return [seed, zlib.crc32(name.encode())]


def _parse(written):
    options = {}
    for item in filter(None, written.split(",")):
        key, equals, value = item.partition("=")
        if not equals:
            raise ValueError(f"Expected options written as 'name:option=value,option=value', received {item!r}.")
        try:
            options[key.strip()] = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError):
            options[key.strip()] = value.strip()  # a bare word is a string
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
