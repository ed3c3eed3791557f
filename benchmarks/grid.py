"""Time a cell of the threshold grid against the naive way, and say where the time of a whole run goes.

    python -m benchmarks.grid [--models mlp,cnn] [--images 10000] [--rounds 3]

Two ways to the validation loss and accuracy of an MNIST network at 21 thresholds:

* ours: what the grid does at a checkpoint, here with three measures: for each a ranking and one call of one compiled
  function for all thresholds, the ends, at which all measures agree, evaluated once;
* naive: for each threshold rank, clone the model, set its weights, compile it and call `evaluate`, as is usual.

The naive way is timed on three of the thresholds. Both alternate; medians. Both must find the same losses.
"""

import argparse
import tempfile

import keras
import numpy as np

import aggregation
import importance
import tasks
import thresholding
from benchmarks import timing
from engine import backend, evaluation
from experiments import threshold_grid

THRESHOLDS = np.linspace(0, 1, 21)
INSIDE = np.where((THRESHOLDS > 0) & (THRESHOLDS < 1), THRESHOLDS, np.nan)
TRIED = [5, 10, 15]
MEASURES = ["magnitude", "inverse_magnitude", "random"]


def main():
    """Print a table of cells, a model a line, and the shares of a whole run."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--models", default="mlp,cnn")
    options.add_argument("--images", type=int, default=10_000)
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    print(f"{timing.machine()}\n{given.images} images, {len(THRESHOLDS)} thresholds\n")
    print("model   ours ms/cell   naive ms/cell   naive/ours   largest difference of losses")
    for model in given.models.split(","):
        compare(model, given)
    shares()


def compare(name, given):
    """Time one model both ways and print its line."""
    task = tasks.load("mnist", validation="test")
    x, y = task.x_validation[: given.images], task.y_validation[: given.images]
    model = task.build_model(name)
    weights = [backend.copied(v) for v in model.trainable_variables]
    scores = [importance.load(measure).score(model, seed=0) for measure in MEASURES]
    partition = thresholding.Partition(aggregation.load("weight").groups(model), model)
    evaluator = evaluation.Evaluator(model, task.loss, x, y)
    new = evaluator.place(thresholding.replacements(weights, "zero"))
    found = {}

    def ours():
        for number, score in enumerate(scores):
            ranks = evaluator.place(partition.rank(score).ranks)
            loss = evaluator(ranks, new, INSIDE if number else THRESHOLDS).loss
            found.setdefault("ours", loss[TRIED])

    def naive():
        losses = []
        for threshold in THRESHOLDS[TRIED]:
            ranks = partition.rank(scores[0]).ranks
            clone = keras.models.clone_model(model)
            clone.set_weights(model.get_weights())
            for variable, value in zip(
                clone.trainable_variables, thresholding.threshold(weights, ranks, threshold), strict=True
            ):
                variable.assign(value)
            clone.compile(loss=task.loss, metrics=["accuracy"])
            losses.append(clone.evaluate(x, y, verbose=0)[0])
        found["naive"] = losses

    seconds = timing.in_turn({"ours": ours, "naive": naive}, given.rounds)
    mine, theirs = 1000 * seconds["ours"] / len(THRESHOLDS) / len(MEASURES), 1000 * seconds["naive"] / len(TRIED)
    difference = np.abs(np.subtract(found["ours"], found["naive"])).max()
    print(f"{name:5} {mine:14.1f} {theirs:15.1f} {theirs / mine:12.1f} {difference:30.1e}", flush=True)


def shares():
    """Run a small grid, once to compile, and print what its wall time went into."""
    with tempfile.TemporaryDirectory() as folder:
        grid = threshold_grid.Grid(
            "mnist", "mlp", folder, measures=["random", "magnitude", "fisher_empirical"], epochs=2, seeds=[0, 1]
        )
        grid.run(progress=False)
    spent = grid.timings
    other = spent["total"] - spent["training"] - spent["scoring"] - spent["evaluating"]
    parts = ", ".join(f"{name} {spent[name] / spent['total']:.1%}" for name in ("training", "scoring", "evaluating"))
    print(f"\na whole run of {spent['total']:.0f} s on mlp: {parts}, everything else {other / spent['total']:.1%}")


if __name__ == "__main__":
    main()
