"""s - min s, s = -sum_t g_t d_t: weights whose own moves lowered the loss matter, those whose moves raised it least.

g_t is the gradient that the `Tracked` wrapper sees at step t and d_t = w_t - w_(t-1): s is the fall of the loss along
the weight's path, to first order, in the loss's unit, and may be negative. The smallest s of the model is taken off, so
that the order and all differences of s stay; clipped at 0, about half of the weights would tie. It is the numerator of
`synaptic_intelligence` with its sign, and read from the same record; for that, `Tracked` goes outermost. Movement
pruning trains masks by the same sum, with the learning rate for the step: that of SGD.

Example:
    >>> import importance, keras, numpy as np
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")])
    >>> model.compile(importance.Tracked(keras.optimizers.SGD(0.25), ["movement"]), "mse")
    >>> _ = model.fit(np.array([[1.0, 0.0]]), np.array([[0.0]]), verbose=0)  # w_0 goes from 1 to 0.5, its gradient is 2
    >>> importance.load("movement").score(model)[0].tolist()
    [[1.0], [0.0]]

References:
    Sanh, Wolf & Rush, "Movement pruning: adaptive sparsity by fine-tuning", NeurIPS 2020.
"""

from importance import Measure
from importance.synaptic_intelligence import observe, start


def score(evidence):
    """Shift the fall of the loss along each weight's path so that the smallest in the model is 0."""
    gains = [record["gain"].astype("float64") for record in evidence.trajectory(observe)]
    least = min(gain.min() for gain in gains)
    return [gain - least for gain in gains]


MEASURE = Measure(score, needs="trajectory", start=start, observe=observe)
