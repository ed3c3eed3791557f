"""Small handwritten digits, then the same turned by 90, 180 and 270 degrees; one set of ten outputs for all."""

import numpy as np

from tasks.sequences import Stage


def stages(seed, tasks=4):
    """Turn the images counterclockwise, by a right angle more for each task."""
    if not 1 <= tasks <= 4:
        raise ValueError(f"Expected from 1 to 4 tasks, one for each right angle, received {tasks!r}.")
    pixels = np.arange(8 * 8).reshape(8, 8)
    return [Stage("digits", pixels=np.rot90(pixels, turns).ravel() if turns else None) for turns in range(tasks)]


SEQUENCE = stages
