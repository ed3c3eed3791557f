"""mean_n |w dz_y/dw|, z_y the logit of the true label: how much of the label's logit comes by way of the weight.

In a network of rectifiers this is the relevance that layer-wise propagation (its 0 rule) gives the weight: there a
unit's value is its derivative times what it is given. With other activations it is the change of the logit, to first
order, when the weight is set to zero, and no more is claimed. The unit is that of the logit. It is `taylor` without the
factor 1 - p_y and with the absolute value in place of the square, so it does not vanish where the model is sure.

Example:
    >>> import importance, keras, numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2, kernel_initializer="ones")])
    >>> importance.load("lrp").score(model, np.array([[2.0], [4.0]]), np.array([0, 0]))[0].tolist()
    [[3.0, 0.0]]

References:
    Layer-wise relevance for pruning: arXiv 2506.13727 (2025); Bach et al., "On pixel-wise explanations for non-linear
    classifier decisions by layer-wise relevance propagation", PLoS ONE 2015.
"""

import numpy as np

from engine import losses
from importance import Measure


def score(evidence):
    """Multiply the absolute weight with the mean absolute gradient of the true label's logit."""
    objective = losses.true_logit(evidence.loss, evidence.outputs.shape[1:])
    return [np.abs(w) * g for w, g in zip(evidence.weights, evidence.mean("absolute", objective), strict=True)]


MEASURE = Measure(score, needs="labels", cost="1 pass")
