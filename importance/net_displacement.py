"""|w_T - w_0|: weights that ended far from where they began matter.

Example:
    >>> import importance, keras, numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")])
    >>> model.compile(importance.Tracked(keras.optimizers.SGD(0.25), ["net_displacement"]), "mse")
    >>> _ = model.fit(np.array([[1.0], [1.0]]), np.array([[0.0], [0.0]]), batch_size=1, verbose=0)  # 1, 0.5, 0.25
    >>> importance.load("net_displacement").score(model)[0].tolist()
    [[0.75]]

References:
    Zhou, Lan, Liu & Yosinski, "Deconstructing lottery tickets: zeros, signs, and the supermask", NeurIPS 2019.
"""

import numpy as np

from importance import Measure
from importance._records import observe_origin, start_origin


def score(evidence):
    """Return each weight's distance from where tracking began."""
    records = evidence.trajectory(observe_origin, gradients=False)
    return [np.abs(w - record["origin"]) for w, record in zip(evidence.weights, records, strict=True)]


MEASURE = Measure(score, needs="trajectory", start=start_origin, observe=observe_origin)
