"""Grids that are small enough to run whole, and to be run again."""

import keras
import pandas as pd

from experiments import threshold_grid

# Two seeds of three epochs, and a measure whose record of the training has to survive an interruption: 180 rows.
SETTINGS = {
    "task": "iris", "measures": ["magnitude", "synaptic_intelligence", "random"], "levels": ["weight", "unit"],
    "thresholds": 5, "epochs": 3, "batch_size": 32, "learning_rate": 0.02, "seeds": [0, 1],
}  # fmt: skip
ROWS_OF_A_CHECKPOINT, ROWS = 30, 180


def linear():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])


def run(out, **settings):
    return threshold_grid.run(out=out, progress=False, **{**SETTINGS, **settings})


def values(frame):
    """Return what two runs of the same settings share, in an order of its own."""
    return frame.drop(columns="seconds").sort_values(threshold_grid.KEY, ignore_index=True)


def same(frame, expected):
    pd.testing.assert_frame_equal(values(frame), values(expected), check_exact=True)
