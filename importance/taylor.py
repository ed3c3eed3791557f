"""mean_n (w dl_n/dw)^2: the squared change of each example's loss, to first order, when the weight is set to zero.

The square is taken for each example; the gradient of the *mean* loss is about zero at a minimum and says nothing.

Example:
    >>> import importance, keras, numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2, kernel_initializer="ones")])
    >>> importance.load("taylor").score(model, np.array([[2.0]]), np.array([0]))[0].tolist()
    [[1.0, 1.0]]

References:
    Molchanov, Mallya, Tyree, Frosio & Kautz, "Importance estimation for neural network pruning", CVPR 2019.
"""

from importance import Measure


def score(evidence):
    """Multiply the mean squared gradient with the squared weight."""
    return [w**2 * g for w, g in zip(evidence.weights, evidence.mean("square"), strict=True)]


MEASURE = Measure(score, needs="labels", cost="1 pass, shared with fisher_empirical")
