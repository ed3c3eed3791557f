"""MNIST as it is, then with its pixels in another random order for each further task; the paper's has ten.

References:
    Goodfellow et al., An Empirical Investigation of Catastrophic Forgetting in Gradient-Based Neural Networks,
    https://arxiv.org/abs/1312.6211, 2013.
"""

from tasks import sequences


def stages(seed, tasks=10):
    """Draw `tasks - 1` orders of the 784 pixels."""
    return sequences.permuted("mnist", 28 * 28, tasks, seed)


SEQUENCE = stages
