"""mean_n |d ||f(x_n)||^2 / dw|: how much the weight moves the length of the outputs (memory aware synapses).

f is the softmax of a classifier's outputs (the probabilities of both labels where a label is binary), or the outputs
themselves (outputs="logits"), as in the method's paper; for a regression always the outputs themselves. The absolute
value is taken for each example, before the mean.

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

from engine import checks, losses
from importance import Measure


def score(evidence, outputs: checks.choice("softmax", "logits") = "softmax"):
    """Average the absolute gradient of the squared norm of each example's outputs."""
    if outputs == "logits":
        if evidence.end in ("softmax", "sigmoid"):
            raise ValueError(
                "Expected a model that gives logits for outputs='logits', received one of probabilities. Leave the "
                "option out, or take the model's last activation off."
            )
        objective = losses.squared_norm(None)
    else:
        objective = losses.squared_norm(evidence.loss)
    return evidence.mean("absolute", objective, np.zeros(evidence.count, "float32"))


MEASURE = Measure(score, needs="inputs", cost="1 pass")
