"""The exact Fisher diagonal, shared by the measures that use it."""

import numpy as np

from engine import losses


def exact(evidence):
    """Return the mean over examples of the expected squared gradient: list of float32 arrays like the weights."""
    return evidence.once("exact Fisher", lambda: _exact(evidence))


def _exact(evidence):
    shape = evidence.output_shape
    if losses.believes(evidence.loss) in ("classes", "one-hot classes") and len(shape) > 1:
        raise ValueError(
            f"Expected a classifier that gives (examples, classes), received one that gives {(None, *shape)}: the "
            f"exact Fisher of the measure {evidence.name!r} would cost one pass for each class and position. "
            "Use 'fisher_sampled'."
        )
    return evidence.mean("square", losses.root_of_fisher(evidence.loss, shape), answers=int(np.prod(shape)))
