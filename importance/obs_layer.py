"""w_ij^2 / [H^-1]_ii, H = X^T X + 0.01 mean(diag) I: the least change of the layer's outputs if the weight is removed.

X are the layer's inputs, a row for each example and place (in a convolution the patches under the kernel), and the
change is the squared difference of the outputs before the activation, summed over examples and places, after the
layer's other weights of the same output have made up for the loss as well as they can: optimal brain surgery, layer by
layer. An input that is always 0 has 1 for its diagonal, so that H can be inverted, and its weights score 0. All is
computed in float64.

A bias multiplies the constant 1, gamma its normalised input, an embedding's row a 1 where its token stands; each stands
alone in its outputs or never meets another, so H has its diagonal only. The mean is over a variable's whole diagonal.
Meant to be compared within an output unit. SparseGPT's own score has the square of its Cholesky factor's diagonal,
which is this one for the weights that are still free.

Options: `damping`, the share of the mean diagonal that is added, 0.01. It changes the order.

Example:
    >>> import importance, keras, numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="ones")])
    >>> importance.load("obs_layer").score(model, np.array([[3.0], [4.0]]))[0].round(3).tolist()  # 25 and a hundredth
    [[25.25]]

References:
    Frantar & Alistarh, "SparseGPT: massive language models can be accurately pruned in one-shot", arXiv 2301.00774;
    Hassibi & Stork, "Second order derivatives for network pruning: optimal brain surgeon", NeurIPS 1992.
"""

import numpy as np

from engine import checks
from importance import Measure


def score(evidence, damping: checks.number(above=0) = 0.01):
    """Divide the squared weight by the diagonal of the damped inverse of its inputs' products."""
    every = zip(evidence.weights, evidence.views(), evidence.flows(), evidence.products(), strict=True)
    return [_saliency(*of_variable, damping) for of_variable in every]


def _saliency(weight, view, flow, product, damping):
    if product is None:  # no two inputs meet
        diagonal = view.of(np.broadcast_to(flow.square, weight.shape).astype("float64"))[:, :, 0]
    else:
        diagonal = np.einsum("bii->bi", product)
    live = diagonal > 0
    filled = np.where(live, diagonal, 1)
    filled = filled + damping * filled.mean()
    if product is None:
        cost = filled
    else:
        damped = product.copy()
        np.einsum("bii->bi", damped)[:] = filled
        cost = 1 / np.einsum("bii->bi", np.linalg.inv(damped))
    return weight.astype("float64") ** 2 * view.back((live * cost)[:, :, None]).reshape(weight.shape)


MEASURE = Measure(score, needs="inputs", cost="2 forward passes and the inverse of (inputs, inputs) for each layer")
