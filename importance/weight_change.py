"""sum_t |w_t - w_(t-1)|: weights that travelled far matter. Each optimizer step counts.

Sampling once an epoch, or subtracting signed steps, gives another quantity: signed steps telescope to the net
displacement (`net_displacement`).

Example:
    >>> import importance, keras, numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")])
    >>> model.compile(importance.Tracked(keras.optimizers.SGD(0.25), ["weight_change"]), "mse")
    >>> _ = model.fit(np.array([[1.0], [1.0]]), np.array([[0.0], [0.0]]), batch_size=1, verbose=0)  # 1, 0.5, 0.25
    >>> importance.load("weight_change").score(model)[0].tolist()
    [[0.75]]
"""

from importance import Measure
from importance._records import observe_path, start_path


def score(evidence):
    """Return the length of each weight's path since tracking began."""
    return [record["path"] for record in evidence.trajectory(observe_path, gradients=False)]


MEASURE = Measure(score, needs="trajectory", start=start_path, observe=observe_path)
