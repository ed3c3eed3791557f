"""U(0, 1), drawn anew for every weight: what no knowledge at all achieves."""

from importance import Measure


def score(evidence):
    """Draw each weight's importance from a generator of the measure's own, decided by the seed."""
    rng = evidence.rng
    return [rng.random(w.shape, dtype="float32") for w in evidence.weights]


MEASURE = Measure(score)
