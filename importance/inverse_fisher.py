"""max F - F, F the exact Fisher diagonal: weights without curvature matter. `fisher` in reverse, a negative control.

It tests the claim that importance is not fragility, by which bits that are given out by Fisher's order do worse than by
its inverse: with a fill of few bits, compare the two. The maximum is over the model, so that all differences of F stay
and the smallest value is 0; the unit is that of `fisher`. A grid of all measures leaves it out.

Example:
    >>> import importance, keras, numpy as np
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, kernel_initializer="zeros", use_bias=False)])
    >>> importance.load("inverse_fisher").score(model, np.array([[2.0, 0.0]]))[0].round(3).tolist()
    [[0.0, 0.0], [1.0, 1.0]]
"""

from importance import Measure
from importance._fisher import exact


def score(evidence):
    """Take the exact Fisher off its largest value in the model."""
    found = [f.astype("float64") for f in exact(evidence)]
    largest = max(f.max() for f in found)
    return [largest - f for f in found]


MEASURE = Measure(score, needs="inputs", cost="1 backward pass a class", general=False)
