"""What a network costs once the groups that were removed are cut out of it: columns beside its loss."""

import numpy as np

import thresholding

BATCHES = (1, 32)
LATENCIES = {"latency": False, "latency_xla": True}
"""What is timed, and whether XLA compiles it."""
COLUMNS = {"parameters": ["parameters"], "multiply_adds": ["multiply_adds"]} | {
    timed: [f"{timed}_{batch}" for batch in BATCHES] for timed in LATENCIES
}
"""What may be asked for, and the columns that it is."""
STATUS = "cost_status"
"""The column that says why there are no costs."""


def columns(asked):
    """List the columns of the costs that are asked for: list of str."""
    return [column for cost in asked for column in COLUMNS[cost]] + ([STATUS] if asked else [])


def of(model, removed, level, asked, why=None):
    """Say what is left to pay for a model of which weights are removed, with zeros in their place.

    Groups are cut out (`thresholding.shrink`). Of single weights nothing can be: parameters are those that are not
    removed, and all else is that of the whole model.

    Args:
        model: keras.Model, built.
        removed: list of bool arrays like `model.trainable_variables`.
        level: str. That of the groups; "none" of a model of which nothing is removed.
        asked: list of str. Of `COLUMNS`.
        why: str or None. Why there is no such model.

    Returns:
        dict, of `columns(asked)`: `parameters` and `multiply_adds` as `thresholding.sizes` counts them; `latency_1` and
        `latency_32`, milliseconds of a call with so many examples (`thresholding.latency`), and `latency_xla_1` and
        `latency_xla_32`, of one that XLA has compiled. All NaN, and `cost_status` says why, of a model that cannot be
        cut or counted.
    """
    try:
        found = {} if why or not asked else _measured(model, removed, level, asked)
    except ValueError as error:
        found, why = {}, str(error)
    return {name: why or "ok" if name == STATUS else found.get(name, float("nan")) for name in columns(asked)}


def _measured(model, removed, level, asked):
    whole = level in ("none", "weight")
    smaller = model if whole else thresholding.shrink(model, [np.where(gone, 0.0, 1.0) for gone in removed], 0.5)
    found = {"parameters": smaller.count_params() - (sum(int(gone.sum()) for gone in removed) if whole else 0)}
    if "multiply_adds" in asked:
        found["multiply_adds"] = thresholding.sizes(smaller).multiply_adds
    for timed in (cost for cost in asked if cost in LATENCIES):
        found |= {
            f"{timed}_{batch}": 1000 * thresholding.latency(smaller, batch, xla=LATENCIES[timed]) for batch in BATCHES
        }
    return found
