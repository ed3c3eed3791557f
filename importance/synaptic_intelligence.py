"""max(0, -sum_t g_t d_t) / ((w_T - w_0)^2 + xi): how much a weight's own moves lowered the loss, for the way it went.

g_t is the gradient that the `Tracked` wrapper sees at step t and d_t = w_t - w_(t-1). The method's definition takes the
task's own gradient: `Tracked` outermost. Weights whose moves raised the loss score 0.

Example:
    >>> import importance, keras, numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")])
    >>> model.compile(importance.Tracked(keras.optimizers.SGD(0.25), ["synaptic_intelligence"]), "mse")
    >>> _ = model.fit(np.array([[1.0], [1.0]]), np.array([[0.0], [0.0]]), batch_size=1, verbose=0)  # 1, 0.5, 0.25
    >>> importance.load("synaptic_intelligence").score(model)[0].astype(float).round(3).tolist()
    [[1.887]]

References:
    Zenke, Poole & Ganguli, "Continual learning through synaptic intelligence", ICML 2017.
"""

import numpy as np

from engine import checks
from importance import Measure


def start(weight):
    """Begin the path integral at 0, at this weight."""
    return {"gain": np.zeros_like(weight), "origin": weight}


def observe(record, gradient, before, after):
    """Add the first-order fall of the loss along the step."""
    return {"gain": record["gain"] - gradient * (after - before)}


def score(evidence, xi: checks.number(1e-30) = 0.1):
    """Divide the gain, at least 0, by the squared displacement plus `xi`."""
    records = evidence.trajectory(observe)
    return [
        np.maximum(record["gain"], 0) / ((weight - record["origin"]) ** 2 + np.float32(xi))
        for weight, record in zip(evidence.weights, records, strict=True)
    ]


MEASURE = Measure(score, needs="trajectory", start=start, observe=observe)
