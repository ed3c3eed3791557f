"""mean_n (d log p(y_n | x_n) / dw)^2 with y_n drawn from the model's own p: `fisher` at the cost of one pass a draw.

Unbiased; the draws are decided by the seed. For a regression with K outputs the label is normal around the output with
variance K/2, the distribution of which mean_k (y_k - f_k)^2 is the negative logarithm.

Example:
    >>> import importance, keras, numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2, kernel_initializer="zeros")])
    >>> importance.load("fisher_sampled", draws=3).score(model, np.array([[2.0]]))[0].tolist()
    [[1.0, 1.0]]

References:
    Martens, "New insights and perspectives on the natural gradient method", JMLR 2020.
"""

import numpy as np

from engine import losses
from importance import Measure


def score(evidence, draws=1):
    """Average the squared gradient over examples and over `draws` sampled labels for each."""
    rng = evidence.rng
    passes = [evidence.mean("square", y=losses.sample(evidence.loss, evidence.outputs, rng)) for _ in range(draws)]
    return [np.mean(terms, axis=0) for terms in zip(*passes, strict=True)]


MEASURE = Measure(score, needs="inputs", cost="1 pass a draw")
