"""mean_n (d log p(y_n | x_n) / dw)^2 with y_n = argmax_c p_c(x_n): the label that the model finds most likely.

Near zero wherever the model is confident, which says little about the weight. Only for classifiers: the most likely
target of a regression is its own output, where the gradient is zero.

Example:
    >>> import importance, keras, numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2, kernel_initializer="zeros")])
    >>> importance.load("fisher_argmax").score(model, np.array([[2.0]]))[0].tolist()
    [[1.0, 1.0]]

References:
    van de Ven, "On the computation of the Fisher information in continual learning", arXiv 2502.11756 (2025).
"""

import numpy as np

from engine import losses
from importance import Measure


def score(evidence):
    """Average the squared gradient of the loss with the predicted label."""
    if losses.believes(evidence.loss) != "classes":
        raise ValueError("Expected a classifier for the measure 'fisher_argmax', received a regression; use 'fisher'.")
    return evidence.mean("square", y=np.argmax(evidence.outputs, axis=-1).astype("int32"))


MEASURE = Measure(score, needs="inputs", cost="1 pass")
