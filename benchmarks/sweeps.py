"""Time the two ways to evaluate many thresholds, and fit what `engine.evaluation` chooses between them by.

    python -m benchmarks.sweeps [--rounds 5] [--figure docs/figures/sweeps.png]

Where a network begins with a dense layer, that layer is computed anew at each threshold, or its outputs are changed
weight by weight, in one sweep. With weights = inputs x units, a threshold costs weights x examples multiply-adds; a
sweep costs so much to begin with, and for each weight so much, and so much an example, once. So both cost the same at

    per sweep / (weights x examples) + per weight / examples + per change

thresholds, the units being multiply-adds. Each size is timed both ways at two numbers of
thresholds, in turn, in processor time, of which the fewest seconds count. From the four times follows
at how many thresholds both cost the same, and from all sizes, by least squares relative to what was measured, the three
numbers. The figure has what an evaluation takes both ways and as chosen, with the numbers that the engine has.
"""

import argparse

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers
from scipy import optimize

from benchmarks import timing
from engine import evaluation

SIZES = [(64, 32, 180), (64, 32, 1000), (784, 300, 180), (784, 300, 1000), (784, 300, 4000)]
"""Inputs, units, examples: those of the digits and of MNIST."""
THRESHOLDS = (11, 101)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def main():
    """Print what was measured and what is fitted, and draw it if asked to."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--figure", help="a file to draw to")
    given = options.parse_args()
    print(f"{timing.machine()}\n\ninputs units examples   anew ms/threshold   a sweep ms   equal at thresholds")
    lines = {}
    for size in SIZES:
        lines[size] = anew, swept = [costs(*size, sweep, given.rounds) for sweep in (False, True)]
        at = equal(anew, swept)
        print(f"{size[0]:6} {size[1]:5} {size[2]:8} {anew[1]:19.3f} {swept[0]:12.2f} {at:21.1f}", flush=True)
    weights, examples = np.array(SIZES)[:, :2].prod(axis=1), np.array(SIZES)[:, 2]
    terms = np.stack([1 / weights / examples, 1 / examples, np.ones(len(SIZES))], axis=1)
    found = np.array([equal(*pair) for pair in lines.values()])
    fitted, _ = optimize.nnls(terms / found[:, None], np.ones(len(SIZES)))
    print(f"\nequal by what is fitted: {', '.join(f'{number:.0f}' for number in terms @ fitted)}")
    in_use = evaluation._PER_SWEEP, evaluation._PER_WEIGHT, evaluation._PER_CHANGE
    for said, numbers in (("fitted", fitted), ("in use", in_use)):
        print(
            f"{said}: {numbers[0]:.2g} a sweep, {numbers[1]:.0f} a weight, {numbers[2]:.0f} a change, in multiply-adds"
        )
    if given.figure:
        draw(lines, given.figure)


def costs(inputs, units, examples, sweep, rounds):
    """Return (milliseconds of no threshold, milliseconds of one more) for one way of evaluating."""
    rng = np.random.default_rng(0)
    model = keras.Sequential([keras.Input((inputs,)), layers.Dense(units, "relu"), layers.Dense(10)])
    x, y = rng.random((examples, inputs), "float32"), rng.integers(0, 10, examples)
    evaluator = evaluation.Evaluator(model, LOSS, x, y, sweep=sweep)
    ranks = evaluator.place([rng.random(v.shape, "float32") for v in model.trainable_variables])
    new = evaluator.place([np.zeros(v.shape, "float32") for v in model.trainable_variables])
    ways = {n: lambda n=n: evaluator(ranks, new, np.linspace(0, 1, n)) for n in THRESHOLDS}
    few, many = (1000 * seconds for seconds in timing.processor_seconds(ways, rounds).values())
    slope = (many - few) / (THRESHOLDS[1] - THRESHOLDS[0])
    return few - slope * THRESHOLDS[0], slope


def equal(anew, swept):
    """Return at how many thresholds two lines (cost of none, cost of one more) meet."""
    return (swept[0] - anew[0]) / (anew[1] - swept[1])


def draw(lines, file):
    """Draw milliseconds against thresholds: both ways, and what is chosen."""
    figure, axes = plt.subplots(1, len(lines), figsize=(3 * len(lines), 3), layout="constrained")
    thresholds = np.arange(2, 200)
    for axis, ((inputs, units, examples), (anew, swept)) in zip(axes, lines.items(), strict=True):
        ways = [none + more * thresholds for none, more in (anew, swept)]
        sweeps = thresholds >= evaluation.sweeping_pays(inputs * units, examples)
        axis.plot(thresholds, ways[0], "--", label="computed anew")
        axis.plot(thresholds, ways[1], ":", label="in one sweep")
        axis.plot(thresholds, np.where(sweeps, ways[1], ways[0]), alpha=0.5, linewidth=3, label="chosen")
        axis.set(title=f"{inputs} x {units}, {examples:,} examples", xlabel="thresholds", ylim=(0, None))
    axes[0].set_ylabel("ms an evaluation")
    axes[0].legend()
    figure.savefig(file, dpi=100)


if __name__ == "__main__":
    main()
