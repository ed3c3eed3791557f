"""Small handwritten digits as they are, then with their pixels in another random order for each further task."""

from tasks import sequences


def stages(seed, tasks=5):
    """Draw `tasks - 1` orders of the 64 pixels."""
    return sequences.permuted("digits", 8 * 8, tasks, seed)


SEQUENCE = stages
