"""|w_T - w_0|: weights that ended far from where they began matter.

References:
    Zhou, Lan, Liu & Yosinski, "Deconstructing lottery tickets: zeros, signs, and the supermask", NeurIPS 2019.
"""

import numpy as np

from importance import Measure
from importance._records import observe_origin, start_origin


def score(evidence):
    """Return each weight's distance from where tracking began."""
    records = evidence.trajectory(observe_origin)
    return [np.abs(w - record["origin"]) for w, record in zip(evidence.weights, records, strict=True)]


MEASURE = Measure(score, needs="trajectory", start=start_origin, observe=observe_origin)
