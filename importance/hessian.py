"""(1/2) h w^2, h the diagonal of the Hessian of the mean loss, by Hutchinson's probes: the true curvature.

h is the mean of v * (H v) over random vectors v of entries -1 and 1, decided by the seed, and exact only in the mean. H
is that by the outputs of layers (`at="outputs"`), from where it is carried over to the weights; each example then has
vectors of its own, and an entry's error falls with the root of probes times examples. `at="weights"` is AdaHessian's
way: one v for all examples, of the shape of the weights, whose error falls with the root of the number of probes alone
and is several times h itself with ten of them, on a network of 280,000 weights (`python -m benchmarks.curvature`).
Layers of which no rule is known, and weights that are used twice, are probed at the weights in any case.

Where h is negative, by noise or because the point is not a minimum, the score is 0; the share of such weights is logged
(logger `importance.hessian`, level INFO), and `diagonal` returns h itself.

Example:
    >>> import importance, keras, numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")])
    >>> importance.load("hessian").score(model, np.array([[3.0]]), np.array([[0.0]]))[0].tolist()  # of (w x - y)^2
    [[9.0]]

References:
    Hutchinson, "A stochastic estimator of the trace of the influence matrix", Communications in Statistics 1989;
    Yao, Gholami, Shen, Mustafa, Keutzer & Mahoney, "AdaHessian", AAAI 2021;
    LeCun, Denker & Solla, "Optimal brain damage", NeurIPS 1989.
"""

import logging

import numpy as np

from engine import checks
from importance import Measure

_log = logging.getLogger(__name__)


def diagonal(evidence, probes=10, at: checks.choice("outputs", "weights") = "outputs"):
    """Return the estimate of h, negative entries included: list of float32 arrays like the weights."""
    if probes < 1:
        raise ValueError(f"Expected probes to be at least 1, received {probes!r}.")
    return evidence.once(("hessian", probes, at, evidence.name), lambda: evidence.hessian_diagonal(probes, at))


def score(evidence, probes=10, at: checks.choice("outputs", "weights") = "outputs"):
    """Multiply half the curvature, at least 0, with the squared weight."""
    found = diagonal(evidence, probes, at)
    negative = sum(int((h < 0).sum()) for h in found) / sum(h.size for h in found)
    _log.info("%s of the weights have negative curvature and score 0", f"{negative:.1%}")
    return [np.float32(0.5) * np.maximum(h, 0) * w**2 for h, w in zip(found, evidence.weights, strict=True)]


MEASURE = Measure(score, needs="labels", cost="about 3 passes a probe")
