"""(1/2) F (w - r)^2, F the exact Fisher diagonal: the rise of the loss, to second order, when r replaces the weight.

r is what the evidence's fill puts in the place of the weight (`replacements`; zero if nothing is said), so the order of
the weights depends on the fill, and on the draw where that is noise. With r = 0 it is `obd`, the Fisher form of optimal
brain damage (Theis et al. 2018). The unit is that of the loss (nats); off-diagonal curvature is left out.

Options: `gradient=True` adds the first order, max(0, mean_n dl_n/dw (r - w) + (1/2) F (w - r)^2), which needs labels.

Example:
    >>> import importance, keras, numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2, kernel_initializer="ones")])
    >>> r = [np.array([[0.0, 3.0]]), np.zeros(2)]
    >>> importance.load("expected_rise").score(model, np.array([[2.0]]), replacements=r)[0].round(3).tolist()
    [[0.5, 2.0]]

References:
    Theis, Korshunova, Tejani & Huszar, "Faster gaze prediction with dense networks and Fisher pruning", 2018;
    LeCun, Denker & Solla, "Optimal brain damage", NeurIPS 1989.
"""

import numpy as np

from importance import Measure
from importance._fisher import exact


def score(evidence, gradient=False):
    """Multiply half the exact Fisher with the squared change of the weight; add the first order if asked to."""
    changes = [r - w for r, w in zip(evidence.replacements, evidence.weights, strict=True)]
    rises = [np.float32(0.5) * f * change**2 for f, change in zip(exact(evidence), changes, strict=True)]
    if not gradient:
        return rises
    return [
        np.maximum(g * change + rise, 0)
        for g, change, rise in zip(evidence.mean_gradient(), changes, rises, strict=True)
    ]


MEASURE = Measure(score, needs="inputs", cost="1 backward pass a class, shared with fisher", of_fill=True)
