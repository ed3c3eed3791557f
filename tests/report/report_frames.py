"""Frames so small that their scores can be worked out by eye."""

import math

import numpy as np
import pandas as pd

LOG10 = math.log(10)


def curve(lost, thresholds=None, start=0.1, chance=LOG10, **columns):
    """One curve: `lost` is the share of the way from `start` to chance at each threshold."""
    lost = np.asarray(lost, float)
    thresholds = np.linspace(0, 1, len(lost)) if thresholds is None else np.asarray(thresholds, float)
    known = {
        "run": "run",
        "task": "mnist",
        "model": "mlp",
        "seed": 0,
        "epoch": 5,
        "measure": "magnitude",
        "level": "weight",
        "reduction": "mean",
        "scope": "layer",
        "fill": "noise",
        "threshold": thresholds,
        "replaced_fraction": thresholds,
        "tie_fraction": 0.0,
        "examples": 100,
        "validation_loss": start + lost * (chance - start),
        "validation_loss_stderr": 0.01,
        "validation_accuracy": 0.9 - lost * 0.8,
        "seconds": 0.5,
        "status": "ok",
        "chance_loss": chance,
        "chance_accuracy": 0.1,
    }
    return pd.DataFrame(known | columns)


def grid(offsets, seeds=10, noise=0.01, epochs=(5,), levels=("weight",), random=None, **columns):
    """Curves that step from nothing lost to all lost, later for a larger offset; every network shifts all of them."""
    random = random or np.random.default_rng(0)
    thresholds = np.linspace(0, 1, 11)
    curves = []
    for seed in range(seeds):
        shift = random.normal(0, 0.02)
        for epoch in epochs:
            for level in levels:
                for measure, offset in offsets.items():
                    middle = offset + shift + random.normal(0, noise)
                    lost = 1 / (1 + np.exp(-(thresholds - middle) / 0.1))
                    lost[0], lost[-1] = 0, 1
                    where = {"seed": seed, "epoch": epoch, "level": level, "measure": measure} | columns
                    curves.append(curve(lost, **where))
    return pd.concat(curves, ignore_index=True)


def legacy(methods, levels=("NO_AGGREGATION",), epochs=(5,)):
    """Rows of an earlier study: `methods` maps their names to validation losses, or (name, level) to them."""
    rows = []
    for epoch in epochs:
        for name, losses in methods.items():
            for level in levels:
                for threshold, loss in zip(np.linspace(0, 1, len(losses)), losses, strict=True):
                    rows.append((epoch, name, level, threshold, loss - 0.01, loss))
    names = ["Epoch", "EWC Method", "Aggregation Level", "Threshold Value", "Loss", "Validation Loss"]
    return pd.DataFrame(rows, columns=names)
