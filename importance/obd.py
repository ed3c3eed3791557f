"""(1/2) F w^2, F the exact Fisher diagonal: the rise of the loss, to second order, when the weight is set to zero.

The unit is that of the loss (nats). Off-diagonal curvature and the gradient itself are left out: optimal brain damage
assumes a minimum. This is its Fisher form (Theis et al. 2018): the Fisher diagonal stands for that of the Hessian, as
it does where the model fits its own labels; `hessian` takes the curvature itself. For weights that are replaced by
something else than zero see `expected_rise`.

Example:
    >>> import importance, keras, numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2, kernel_initializer="ones")])
    >>> importance.load("obd").score(model, np.array([[2.0]]))[0].round(3).tolist()
    [[0.5, 0.5]]

References:
    LeCun, Denker & Solla, "Optimal brain damage", NeurIPS 1989;
    Theis, Korshunova, Tejani & Huszar, "Faster gaze prediction with dense networks and Fisher pruning", 2018.
"""

import numpy as np

from importance import Measure
from importance._fisher import exact


def score(evidence):
    """Multiply half the exact Fisher with the squared weight."""
    return [np.float32(0.5) * f * w**2 for f, w in zip(exact(evidence), evidence.weights, strict=True)]


MEASURE = Measure(score, needs="inputs", cost="1 backward pass a class, shared with fisher")
