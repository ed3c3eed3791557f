"""Small handwritten digits as they are, then with their pixels in another random order for each further task."""

from engine import checks
from tasks import sequences


def stages(seed, tasks=5, permutations: checks.optional(checks.whole(0)) = None):
    """Draw `tasks - 1` orders of the 64 pixels: from the run's seed, or the same for all runs from `permutations`."""
    return sequences.permuted("digits", 8 * 8, tasks, seed if permutations is None else permutations)


SEQUENCE = stages
