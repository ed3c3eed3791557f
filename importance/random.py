"""U(0, 1), drawn anew for every weight: what no knowledge at all achieves.

Example:
    >>> import importance, keras
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> bool(importance.load("random").score(model, seed=3)[0] < 1)
    True
"""

from importance import Measure


def score(evidence):
    """Draw each weight's importance from a generator of the measure's own, decided by the seed."""
    rng = evidence.rng
    return [rng.random(w.shape, dtype="float32") for w in evidence.weights]


MEASURE = Measure(score)
