"""How probable it is that one is better, that both are practically equal, or that the other is better."""

import numpy as np


def signed_rank_posterior(differences, margin, samples=10000, seed=0):
    """Give the posterior probabilities of the Bayesian signed-rank test with a region of practical equivalence.

    The distribution of a difference is a Dirichlet process, which stands at 0 before anything is seen, with a strength
    of 0.6. Its posterior has weights w ~ Dirichlet(0.6, 1, ..., 1) on z_0 = 0 and the n differences z_1, ..., z_n, so
    that the chances that the mean of two draws is above, within and below the margin are

        above = sum_ij w_i w_j [z_i + z_j > 2 margin],    below likewise,    within = 1 - above - below

    (what is just at the margin counts half). A probability is the share of drawn weights for which that chance is the
    largest of the three.

    Args:
        differences: array (..., blocks). Above 0 where the first is better.
        margin: float, above 0. The largest difference that does not matter.
        samples: int. How many weights are drawn; the standard error of a probability p is sqrt(p (1 - p) / samples).
        seed: int. Of these draws, the same for all differences.

    Returns:
        array (..., 3). The probabilities that the first is better, that both are practically equal, and that the other
        is better.

    Raises:
        ValueError: a margin that is not above 0.

    Example:
        >>> signed_rank_posterior([0.05, 0.04, 0.06, 0.05, 0.03, 0.04, 0.05], 0.01).round(2).tolist()
        [1.0, 0.0, 0.0]

    References:
        Benavoli, Corani, Demsar and Zaffalon, Time for a change: a tutorial for comparing multiple classifiers through
        Bayesian analysis, JMLR 18(77), 2017, https://www.jmlr.org/papers/v18/16-305.html.
    """
    if not margin > 0:
        raise ValueError(f"Expected a margin above 0, within which measures are practically equal, received {margin}.")
    differences = np.asarray(differences, float)
    blocks = differences.shape[-1]
    weights = np.random.default_rng(seed).dirichlet([0.6, *np.ones(blocks)], size=samples)  # (samples, 1 + blocks)
    found = [_of_pair(row, margin, weights) for row in differences.reshape(-1, blocks)]
    return np.reshape(found, (*differences.shape[:-1], 3))


def _of_pair(differences, margin, weights):
    values = np.append(0.0, differences)
    sums = values[:, None] + values
    above, below = (np.heaviside(np.round(sign * sums - 2 * margin, 12), 0.5) for sign in (1, -1))
    chances = [((weights @ side) * weights).sum(-1) for side in (above, below)]
    chances.insert(1, 1 - chances[0] - chances[1])
    return np.bincount(np.argmax(chances, axis=0), minlength=3) / len(weights)
