"""1 / (1 + sum_t |w_t - w_(t-1)|): weights that hardly moved matter. The reverse of `weight_change`.

Example:
    >>> import importance, keras, numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")])
    >>> model.compile(importance.Tracked(keras.optimizers.SGD(0.25), ["weight_stability"]), "mse")
    >>> _ = model.fit(np.array([[1.0], [1.0]]), np.array([[0.0], [0.0]]), batch_size=1, verbose=0)  # 1, 0.5, 0.25
    >>> importance.load("weight_stability").score(model)[0].astype(float).round(3).tolist()
    [[0.571]]
"""

from importance import Measure
from importance._records import observe_path, start_path


def score(evidence):
    """Return the reciprocal of one plus the length of each weight's path."""
    return [1 / (1 + record["path"]) for record in evidence.trajectory(observe_path, gradients=False)]


MEASURE = Measure(score, needs="trajectory", start=start_path, observe=observe_path)
