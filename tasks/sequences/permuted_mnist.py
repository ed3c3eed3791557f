"""MNIST as it is, then with its pixels in another random order for each further task; the paper's has ten.

References:
    Goodfellow et al., An Empirical Investigation of Catastrophic Forgetting in Gradient-Based Neural Networks,
    https://arxiv.org/abs/1312.6211, 2013.
"""

from engine import checks
from tasks import sequences


def stages(seed, tasks=10, permutations: checks.optional(checks.whole(0)) = None):
    """Draw `tasks - 1` orders of the 784 pixels: from the run's seed, or the same for all runs from `permutations`."""
    return sequences.permuted("mnist", 28 * 28, tasks, seed if permutations is None else permutations)


SEQUENCE = stages
