"""Var_n(a_u) ||w_u||^2, a_u a unit's value and w_u the weights that read it: what is lost if its mean stands in for it.

All weights that make a channel share its score: a unit's or filter's kernel and bias, its gamma and beta, and what a
residual addition ties to it; single weights tie. a_u is what its readers are given, behind normalisation, activation
and pooling; where they are several, or read several places, the sum over them is taken, with the variance over examples
and, in a convolution or a sequence, places. The unit is that of the readers' squared outputs. It goes with the fill
"mean", or with a bias that takes the mean over.

Weights that make no channel that could go, as those of the outputs and those inside of attention heads, share the
largest score. Needs a functional model and layers of which it is known what their weights multiply.

Example:
    >>> import importance, keras, numpy as np
    >>> one = [keras.layers.Dense(1, kernel_initializer="ones") for _ in range(2)]
    >>> model = keras.Sequential([keras.Input((1,)), *one])
    >>> importance.load("variance").score(model, np.array([[1.0], [5.0]]))[0].tolist()  # of 1 and 5
    [[4.0]]

References:
    arXiv 2507.12988 (2025); An, Zhao, Yu, Tang & Wang, "Fluctuation-based adaptive structured pruning for large
    language models", AAAI 2024.
"""

import numpy as np

from importance import Measure


def score(evidence):
    """Add up, for each channel, the variance of what its readers are given times their squared weights."""
    variables, count = evidence.channels()
    if not count:
        raise ValueError(
            f"Expected a network with units that something reads, received {evidence.model.name!r}, whose weights all "
            "make its outputs, or what is tied to these or to frozen weights. Use the measure 'wanda'."
        )
    of_channel = np.zeros(count)
    for w, flow, (_, read) in zip(evidence.weights, evidence.flows(), variables, strict=True):
        lost = np.broadcast_to(_variance(flow), w.shape) * np.square(w, dtype="float64")
        of_channel += np.bincount(read[read >= 0], lost[read >= 0], minlength=count)
    with_largest = np.append(of_channel, of_channel.max())  # at the last place, for what makes no channel
    return [with_largest[np.where(made >= 0, made, count)] for made, _ in variables]


def _variance(flow):
    square, mean = (np.asarray(a, "float64") / flow.uses for a in (flow.square, flow.signed))
    return np.maximum(square - mean**2, 0)


MEASURE = Measure(score, needs="inputs", cost="1 forward pass, shared with wanda")
