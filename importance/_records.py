"""What is recorded at every step of training, for the measures that share it. Each sees one variable at a time."""

import numpy as np
from keras import ops


def start_path(weight):
    """Begin the path length at 0."""
    return {"path": np.zeros_like(weight)}


def observe_path(record, gradient, before, after):
    """Add |d_t|, the length of the step."""
    return {"path": record["path"] + ops.abs(after - before)}


def start_origin(weight):
    """Keep the weight before the first step."""
    return {"origin": weight}


def observe_origin(record, gradient, before, after):
    """Keep the origin; nothing changes at a step."""
    return {}
