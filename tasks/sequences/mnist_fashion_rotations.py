"""MNIST, Fashion-MNIST, MNIST turned by 90 degrees, Fashion-MNIST turned by 90 degrees; the same ten outputs for all.

References:
    Kutalev and Lapina, Stabilizing Elastic Weight Consolidation method in practical ML tasks and using weight
    importances for neural network pruning, https://arxiv.org/abs/2109.10021, 2021.
"""

import numpy as np

from tasks.sequences import Stage


def stages(seed):
    """Turn the images counterclockwise."""
    turned = np.rot90(np.arange(28 * 28).reshape(28, 28)).ravel()
    return [Stage(task, pixels=pixels) for pixels in (None, turned) for task in ("mnist", "fashion_mnist")]


SEQUENCE = stages
