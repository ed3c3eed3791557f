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
"""

from typing import NamedTuple

import numpy as np

from engine import structure, variants


class Level(NamedTuple):
    """A loaded level.

    Attributes:
        name: str. Its file name.
        label: callable `label(part) -> int array` of the part's shape; see the package's docstring.
    """

    name: str
    label: object

    def groups(self, model):
        """Give every weight of a model the id of its group.

        Args:
            model: keras.Model, built.

        Returns:
            list of int arrays, read-only, in the order and shapes of `model.trainable_variables`. Ids run over the
            whole model from 0 and never join weights of different layers; -1 for weights that take no part.

        Raises:
            ValueError: a layer of which the level does not know how it is grouped, such as one of your own at the level
                "unit"; says what to do.

        Example:
            >>> import aggregation, keras
            >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
            >>> [ids.tolist() for ids in aggregation.load("unit").groups(model)]
            [[[0, 1, 2], [0, 1, 2]], [0, 1, 2]]
        """

        def label(part):
            labels = np.asarray(self.label(part))
            if labels.shape != part.shape:
                raise ValueError(
                    f"Expected aggregation/{self.name}.py to label a variable of shape {part.shape} with an array of "
                    f"that shape, received {labels.shape}."
                )
            return labels

        return structure.grouped(structure.parts(model), label)


def names():
    """List the levels: the files in `aggregation/`."""
    return variants.names(__name__)


def load(name):
    """Return the level of that name.

    Raises:
        ValueError: there is none; the message lists those there are.
    """
    return Level(name, variants.load(__name__, name, "LEVEL"))
