"""w^2 / (2 [F^-1]_ii), F = d I + (1/m) sum_k g_k g_k^T: the rise of the loss if the rest of the layer makes up for it.

g_k is the gradient of one example's loss with its true label, by the weights of one layer, so that F is that layer's
damped empirical Fisher: optimal brain surgery (WoodFisher, M-FAC), whose inverse comes from m gradients without ever
forming F. With F diagonal it would be (1/2) F w^2. The unit is that of the loss. Weights that no gradient moves have
d w^2 / 2.

Options: `gradients`, m, 200: so many of the examples, drawn by the seed, or all if they are fewer; `damping`, d, 1e-5,
in the unit of F. The damping changes the order: far above F's diagonal it is that of magnitude. The extra memory is m
numbers a weight, layer by layer where that is more than the evidence allows.

Example:
    >>> import importance, keras, numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")])
    >>> model.compile(loss="mse")
    >>> importance.load("obs").score(model, np.array([[1.0]]), np.array([[0.0]]))[0].round(3).tolist()  # (2 w x)^2 / 2
    [[2.0]]

References:
    Singh & Alistarh, "WoodFisher: efficient second-order approximation for neural network compression", NeurIPS 2020;
    Frantar, Kurtic & Alistarh, "M-FAC: efficient matrix-free approximations of second-order information",
    NeurIPS 2021.
"""

from engine import checks
from importance import Measure


def score(evidence, gradients=200, damping: checks.number(above=0) = 1e-5):
    """Divide half the squared weight by the diagonal of the inverse."""
    found = evidence.inverse_fisher_diagonals(gradients, damping)
    return [w.astype("float64") ** 2 / (2 * diagonal) for w, diagonal in zip(evidence.weights, found, strict=True)]


MEASURE = Measure(score, needs="labels", cost="1 backward pass for each of 200 examples")
