"""mean_n (d[-log softmax(-z)_y]/dw)^2, z the logits, y the true label: empirical Fisher with the logits negated.

The signal at the logits is 1[j = y] - softmax(-z)_j, which is large where the model is right and sure, just where that
of `fisher_empirical`, softmax(z)_j - 1[j = y], vanishes. The unit is squared nats for each unit of weight; the mean is
over examples, one gradient each. A model of probabilities has their logarithms for logits; of a binary label the two
logits are z and 0.

Published code squares the means of batches in training mode and clamps what is left; that is another quantity. With a
penalty keep the learning rate times its strength times the largest score below 0.1.

Example:
    >>> import importance, keras, numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2, kernel_initializer="zeros")])
    >>> importance.load("fisher_reversed").score(model, np.array([[2.0]]), np.array([0]))[0].tolist()  # (2 / 2)^2
    [[1.0, 1.0]]

References:
    "EWC-DR", arXiv 2603.18596 (2026).
"""

from engine import losses
from importance import Measure


def score(evidence):
    """Average the squared gradient of each example's loss with the logits negated."""
    return evidence.mean("square", losses.reversed_objective(evidence.loss))


MEASURE = Measure(score, needs="labels", cost="1 pass")
