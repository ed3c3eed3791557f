"""mean_n |w_ij a_j(x_n)|; of a bias mean_n |output of its unit|: how much absolute signal flows through the weight.

a_j is what the weight multiplies. In a convolution or a sequence, where it multiplies several values an example, the
mean is over the places too, zeros of the padding included: |w| times the mean absolute input of its patch position. An
embedding's row multiplies a 1 where its token stands and a 0 elsewhere; gamma multiplies the normalised input; beta
counts as a bias. The output of a unit is taken after its activation, at the end of the network as the model gives it
(the paper's code puts a softmax there).

Example:
    >>> import importance, keras, numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="ones")])
    >>> [s.tolist() for s in importance.load("signal").score(model, np.array([[1.0], [-3.0]]))]
    [[[2.0]], [2.0]]

References:
    Kutalev, "Natural way to overcome the catastrophic forgetting in neural networks", arXiv 2005.07107 (2020).
"""

import numpy as np

from importance import Measure


def score(evidence):
    """Average the absolute signal through each weight."""
    return [_signal(np.abs(w), flow) for w, flow in zip(evidence.weights, evidence.flows(), strict=True)]


def _signal(magnitude, flow):
    return flow.output / flow.uses if flow.added else magnitude * flow.absolute / flow.uses


MEASURE = Measure(score, needs="inputs", cost="1 forward pass")
