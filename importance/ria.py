"""(|w_ij| / sum_i |w_ij| + |w_ij| / sum_j |w_ij|) ||a_i||^(1/2): the weight's share of its output and of its input.

i are inputs and j outputs, in one view of the kernel for both sums: in a convolution an input is a place and channel
of the patch, in groups each has its own sums. ||a_i|| is the L2 norm of what the weight multiplies over examples and
places, as in `wanda`. The score has no unit but that of the norm's root. Meant to be compared within an output unit.

The method is of kernels. Of a bias the input is the constant 1, of which it has all that its output takes, so that it
scores above the kernel's weights, as where biases are not pruned; gamma's input and output are its own.

Options: `exponent`, of the norm, 0.5.

Example:
    >>> import importance, keras, numpy as np
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, kernel_initializer="ones")])
    >>> importance.load("ria").score(model, np.array([[4.0, 9.0]]))[0].tolist()
    [[2.0, 2.0], [3.0, 3.0]]

References:
    Zhang, Bai, Lin, Zhao, Hou & Cannistraci, "Plug-and-play: an efficient post-training pruning method for large
    language models", ICLR 2024.
"""

import numpy as np

from engine import checks
from importance import Measure


def score(evidence, exponent: checks.number(0) = 0.5):
    """Add the weight's shares of the absolute sums of its row and its column; multiply with a power of the norm."""
    return [
        _shares(np.abs(w), view) * np.broadcast_to(flow.square, w.shape) ** np.float32(exponent / 2)
        for w, view, flow in zip(evidence.weights, evidence.views(), evidence.flows(), strict=True)
    ]


def _shares(magnitude, view):
    matrices = view.of(magnitude)
    sums = [matrices.sum(axis=axis, keepdims=True, dtype="float64") for axis in (1, 2)]
    shares = sum(matrices / np.where(total > 0, total, 1) for total in sums)
    return view.back(shares).reshape(magnitude.shape)


MEASURE = Measure(score, needs="inputs", cost="1 forward pass, shared with wanda")
