"""Time runs of the published sequence side by side: how many a minute, for more and more of them at once. JAX alone.

    KERAS_BACKEND=jax python -m benchmarks.replicas [--sizes 1 8 64 200] [--tasks 10] [--epochs 6]

Ten permutations of MNIST, protocol "published", Fisher on 5,000 examples, stabilised penalty; the runs of a batch have
different strengths. 1 is one run at a time, as everywhere else. Each size is timed on its second batch, which compiles
nothing; all of it counts: data, training, tests after every task, scoring, and moving runs in and out of the model.
Beside it, the shares of these, and the accuracy of the run with strength 85, which must not depend on the company.
"""

import argparse
import tempfile

import numpy as np

from benchmarks import timing
from experiments import sequential

STRENGTH = 85.0


def main():
    """Print a line for each number of runs at once."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--sizes", type=int, nargs="+", default=[1, 8, 64, 200])
    options.add_argument("--sequence", default="permuted_mnist")
    options.add_argument("--tasks", type=int, default=10)
    options.add_argument("--epochs", type=int, default=6)
    options.add_argument("--measure", default="fisher_empirical")
    given = options.parse_args()
    print(f"{timing.machine()}\n{given.sequence}, {given.tasks} tasks, {given.epochs} epochs each, {given.measure}\n")
    print("at once   seconds   runs/minute   training   scoring   testing   moving   rest   accuracy")
    for size in given.sizes:
        with tempfile.TemporaryDirectory() as out:
            runs = sequential.Sequential(
                given.sequence, measures=[given.measure], penalties=["stabilized"], ends=False, out=out,
                protocol="published", epochs=given.epochs, options={"tasks": given.tasks}, replicas=size,
                strengths=[STRENGTH, *np.geomspace(1, 1000, size - 1)], seeds=[0],
            )  # fmt: skip
            runs.run(progress=False)
            frame = runs.asking(seeds=[0, 1]).run(progress=False)
        t = runs.timings
        shares = [t.get(what, 0.0) / t["total"] for what in ("training", "scoring", "evaluating", "moving")]
        summary = sequential.summary(frame).set_index(["strength", "seed"])
        print(
            f"{size:7} {t['total']:9.1f} {60 * size / t['total']:13.2f} {shares[0]:10.0%} {shares[1]:9.0%} "
            f"{shares[2]:9.0%} {shares[3]:8.0%} {1 - sum(shares):6.0%} {summary['test_accuracy'][STRENGTH, 1]:10.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
