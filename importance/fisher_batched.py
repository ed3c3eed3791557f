"""mean over batches b of (mean_(n in b) dl_n/dw)^2: what several libraries call Fisher. A negative control.

The square of a mean gradient is not the mean of squared gradients: where gradients of different examples cancel this
is smaller, by up to the batch size, so its scale depends on the batch size and no regularisation strength carries over.

Example:
    >>> import importance, keras, numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2, kernel_initializer="zeros")])
    >>> importance.load("fisher_batched").score(model, np.array([[2.0], [2.0]]), np.array([0, 1]))[0].tolist()
    [[0.0, 0.0]]

References:
    van de Ven, "On the computation of the Fisher information in continual learning", arXiv 2502.11756 (2025).
"""

from importance import Measure


def score(evidence, batch_size=32):
    """Average over batches the squared gradient of the batch's mean loss; the last batch is what is left."""
    return evidence.batch_means_squared(batch_size)


MEASURE = Measure(score, needs="labels", cost="1 pass")
