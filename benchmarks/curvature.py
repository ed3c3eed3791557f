"""Hutchinson's probes at the outputs of layers, at the weights, and at the weights one after another, in one run.

    python -m benchmarks.curvature [--examples 5000] [--models mlp,cnn] [--probes 10] [--rounds 5]

The networks and images of `benchmarks.importance --torch`; a convolutional network has a fifth of the images. For each
way: seconds, processor seconds, their ratio to the last way's, and the relative error of the diagonal, which is the
norm of its difference from the mean of `--exact` probes at the outputs, drawn anew, divided by the norm of that mean.
"""

import argparse
import statistics

import numpy as np

from benchmarks import timing
from benchmarks.importance import plain_network
from engine import curvature


def main():
    """Print a line for each network and way."""
    import keras

    import tasks

    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--examples", type=int, default=5000)
    options.add_argument("--models", default="mlp,cnn")
    options.add_argument("--probes", type=int, default=10)
    options.add_argument("--exact", type=int, default=200)
    options.add_argument("--steps", type=int, default=200, help="of training, by which curvature is no longer noise")
    options.add_argument("--rounds", type=int, default=5)
    given = options.parse_args()
    print(f"{timing.machine()}\n{given.probes} probes\n")
    print("model  examples  way                          s   cpu s  ratio  error")
    task = tasks.load("mnist")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")
    for name in given.models.split(","):
        count = given.examples if name == "mlp" else given.examples // 5
        model, x, y = plain_network(name), task.x_train[:count], task.y_train[:count]
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(task.x_train, task.y_train, 50, steps_per_epoch=given.steps, verbose=0)

        def objective(outputs, y):
            return loss(y, outputs)

        def found(at, together, probes=given.probes, seed=0, model=model, x=x, y=y, objective=objective):
            curvature.AT_ONCE = together
            return curvature.hessian_diagonal(model, objective, x, y, probes, np.random.default_rng(seed), at)

        right = np.concatenate([a.ravel() for a in found("outputs", 10, given.exact, seed=1)])
        ways = {"outputs": ("outputs", 10), "weights": ("weights", 10), "weights, one by one": ("weights", 1)}
        error, times = {}, {way: [] for way in ways}
        for way, asked in ways.items():
            difference = np.concatenate([a.ravel() for a in found(*asked)]) - right
            error[way] = np.linalg.norm(difference) / np.linalg.norm(right)
        for _ in range(given.rounds):
            for way, asked in ways.items():
                times[way].append(timing.both(lambda asked=asked: found(*asked)))
        middle = {way: [statistics.median(each) for each in zip(*pairs, strict=True)] for way, pairs in times.items()}
        for way, (clock, processor) in middle.items():
            ratio = processor / middle["weights, one by one"][1]
            print(f"{name:6} {count:8}  {way:20} {clock:9.3f} {processor:7.3f}  {ratio:5.2f}  {error[way]:5.3f}")


if __name__ == "__main__":
    main()
