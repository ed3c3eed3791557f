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

from engine import losses
from importance import Measure


def score(evidence):
    """Average the squared gradient of the loss with the predicted label."""
    return evidence.mean("square", y=losses.most_likely(evidence.loss, evidence.outputs))


MEASURE = Measure(score, needs="inputs", cost="1 pass")
