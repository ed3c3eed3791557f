"""Time a pruning curve of 1,001 thresholds against a loop that zeroes weights and calls `predict`.

    python -m benchmarks.pruning [--thresholds 1001] [--images 10000] [--loop 60] [--rounds 3]

The 784-300-150-10 network of the published protocol, magnitude, whole network, MNIST's test images. The loop assigns
the zeroed weights, predicts in batches of 1,000 and compares with the labels; it is timed on `--loop` of the
thresholds and scaled up. Both alternate; medians. Both must find the same accuracies.
"""

import argparse

import numpy as np

import aggregation
import importance
import tasks
import thresholding
from benchmarks import timing
from engine import backend, evaluation


def main():
    """Print the seconds of both ways."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--thresholds", type=int, default=1001)
    options.add_argument("--images", type=int, default=10_000)
    options.add_argument("--loop", type=int, default=60, help="thresholds that the loop is timed on")
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    print(f"{timing.machine()}\n{given.thresholds} thresholds, {given.images} images\n")
    task = tasks.load("mnist", validation="test")
    x, y = task.x_validation[: given.images], task.y_validation[: given.images]
    model = task.build_model("mlp")
    model.compile(loss=task.loss)
    thresholds = np.linspace(0, 1, given.thresholds)
    tried = np.linspace(0, given.thresholds - 1, given.loop).astype(int)
    weights = [backend.copied(v) for v in model.trainable_variables]
    scores = importance.load("magnitude").score(model)
    partition = thresholding.Partition(aggregation.load("weight").groups(model), model, "model")
    evaluator = evaluation.Evaluator(model, task.loss, x, y)
    new = evaluator.place(thresholding.replacements(weights, "zero"))
    start = evaluator.place(weights)
    found = {}

    def ours():
        for variable, value in zip(model.trainable_variables, start, strict=True):
            variable.assign(value)
        ranks = evaluator.place(partition.rank(scores).ranks)
        found["ours"] = evaluator(ranks, new, thresholds).accuracy[tried]

    def loop():
        ranks = partition.rank(scores).ranks
        accuracies = []
        for threshold in thresholds[tried]:
            for variable, weight, rank in zip(model.trainable_variables, weights, ranks, strict=True):
                variable.assign(np.where(rank < np.float32(threshold), np.float32(0), weight))
            accuracies.append(np.mean(model.predict(x, batch_size=1000, verbose=0).argmax(axis=1) == y))
        found["loop"] = accuracies

    seconds = timing.in_turn({"ours": ours, "loop": loop}, given.rounds)
    mine, theirs = seconds["ours"], seconds["loop"] * given.thresholds / given.loop
    difference = np.abs(np.subtract(found["ours"], found["loop"])).max()
    print("ours s   loop s   loop/ours   largest difference of accuracies")
    print(f"{mine:6.1f} {theirs:8.1f} {theirs / mine:11.1f} {difference:34.1e}")


if __name__ == "__main__":
    main()
