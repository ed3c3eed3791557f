"""Levels: which weights share one importance, and stand or fall together.

A level is one file that defines `LEVEL`, a function from a model's parts to group labels. A complete one:

```python
# aggregation/tensor.py: every variable is one group
import numpy as np

def LEVEL(part):
    return np.zeros(part.shape, dtype="int64")
```

The function sees one variable at a time (`engine.structure.Part`: its layer, role and shape) and returns integer labels
of the variable's shape. Equal labels in the same layer are one group, across all the variables of that layer; labels
in different layers never meet. The label -1 means: this weight is a group of its own; `engine.structure.ABSENT`: it
takes no part, and is never replaced.

A level whose groups lie across layers looks at the whole model: its function takes `model` in place of `part`, and
returns a list of such arrays, one for each of `model.trainable_variables`. Equal labels are then one group wherever
they stand. Complete again:

```python
# aggregation/role.py: all kernels are one group, all biases another
import numpy as np

def LEVEL(model):
    roles = sorted({v.name for v in model.trainable_variables})
    return [np.full(v.shape, roles.index(v.name)) for v in model.trainable_variables]
```
"""

import inspect
import itertools
from typing import NamedTuple

import numpy as np

from engine import structure, variants


class Level(NamedTuple):
    """A loaded level.

    Attributes:
        name: str. Its file name.
        label: callable `label(part) -> int array` of the part's shape, or `label(model) -> list` of such arrays; see
            the package's docstring.
    """

    name: str
    label: object

    def groups(self, model):
        """Give every weight of a model the id of its group.

        Args:
            model: keras.Model, built.

        Returns:
            list of int arrays, read-only, in the order and shapes of `model.trainable_variables`. Ids run over the
            whole model from 0; -1 for weights that take no part.

        Raises:
            ValueError: a layer of which the level does not know how it is grouped, such as one of your own at the level
                "unit", or a model without the layers that the level is about; says what to do.

        Example:
            >>> import aggregation, keras
            >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
            >>> [ids.tolist() for ids in aggregation.load("unit").groups(model)]
            [[[0, 1, 2], [0, 1, 2]], [0, 1, 2]]
        """

        across, parts = "model" in inspect.signature(self.label).parameters, structure.parts(model)
        given = self.label(model) if across else map(self.label, parts)
        labels = [np.asarray(of_variable) for of_variable in given]
        for shape, received in itertools.zip_longest([part.shape for part in parts], [a.shape for a in labels]):
            if shape != received:
                raise ValueError(
                    f"Expected aggregation/{self.name}.py to label a variable of shape {shape} with an array of that "
                    f"shape, received {received}."
                )
        following = iter(labels)
        return structure.grouped(parts, lambda _: next(following), across)


def names():
    """List the levels: the files in `aggregation/`."""
    return variants.names(__name__)


def load(name):
    """Return the level of that name.

    Raises:
        ValueError: there is none; the message lists those there are.
    """
    return Level(name, variants.load(__name__, name, "LEVEL"))
