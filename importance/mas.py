"""mean_n |d ||f(x_n)||^2 / dw|: how much the weight moves the length of the outputs (memory aware synapses).

f is the softmax of a classifier's outputs, or the outputs themselves (outputs="logits"), as in the method's paper; for
a regression always the outputs themselves. The absolute value is taken for each example, before the mean.

Example:
    >>> import importance, keras, numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="ones")])
    >>> importance.load("mas", outputs="logits").score(model, np.array([[1.0], [2.0]]))[0].tolist()  # mean of 2 w x^2
    [[5.0]]

References:
    Aljundi, Babiloni, Elhoseiny, Rohrbach & Tuytelaars, "Memory aware synapses: learning what (not) to forget",
    ECCV 2018; with softmax outputs: Kutalev & Lapina, arXiv 2109.10021 (2021).
"""

import numpy as np

from engine import losses
from importance import Measure


def score(evidence, outputs="softmax"):
    """Average the absolute gradient of the squared norm of each example's outputs."""
    if outputs not in ("softmax", "logits"):
        raise ValueError(f"Expected outputs to be 'softmax' or 'logits', received {outputs!r}.")
    from_logits = evidence.loss.get_config().get("from_logits", False)
    if outputs == "logits" and losses.is_classification(evidence.loss) and not from_logits:
        raise ValueError("Expected a model that gives logits for outputs='logits', received one of probabilities.")
    objective = losses.squared_norm(from_logits and outputs == "softmax")
    return evidence.mean("absolute", objective, np.zeros(len(evidence.x), "float32"))


MEASURE = Measure(score, needs="inputs", cost="1 pass")
