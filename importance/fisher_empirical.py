"""mean_n (dl_n/dw)^2 with the true labels, l_n = -log p(y_n | x_n): the paper's "Fisher".

The mean is over examples, one gradient each, never over batches. It vanishes where the training loss does. For a
regression l_n is the squared error.

Example:
    >>> import importance, keras, numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2, kernel_initializer="zeros")])
    >>> importance.load("fisher_empirical").score(model, np.array([[2.0]]), np.array([0]))[0].tolist()
    [[1.0, 1.0]]

References:
    Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks", PNAS 2017;
    Kunstner, Balles & Hennig, "Limitations of the empirical Fisher approximation", NeurIPS 2019.
"""

from importance import Measure


def score(evidence):
    """Average the squared gradient of each example's own loss."""
    return evidence.mean("square")


MEASURE = Measure(score, needs="labels", cost="1 pass")
