"""Time a cell of the threshold grid against its floor and the naive way, and say where the time of a run goes.

    python -m benchmarks.grid [--models mlp,cnn,vit,mobilenet] [--images 10000] [--rounds 3]

Three ways to the validation loss and accuracy of a network at 21 thresholds: of MNIST's mlp and cnn, of the vision
transformer for CIFAR-10, and of MobileNetV2 for images of 96x96 (these two on a tenth as many random images):

* ours: what the grid does at a checkpoint, here with three measures: for each a ranking and one call of one compiled
  function for all thresholds, the ends, at which all measures agree, evaluated once;
* floor: one compiled forward pass of the network as it is over the same images in the same batches, with their losses:
  less no evaluation of a threshold can do that computes the whole network;
* naive: for each threshold rank, clone the model, set its weights, compile it and call `evaluate`, as is usual.

The naive way is timed on three of the thresholds. All alternate; medians. Ours and the naive way must find the same
losses.
"""

import argparse
import tempfile

import keras
import numpy as np
from keras import ops

import aggregation
import importance
import tasks
import thresholding
from benchmarks import timing
from engine import backend, evaluation, losses, structure
from experiments import threshold_grid
from tasks import _models

THRESHOLDS = np.linspace(0, 1, 21)
INSIDE = np.where((THRESHOLDS > 0) & (THRESHOLDS < 1), THRESHOLDS, np.nan)
TRIED = [5, 10, 15]
MEASURES = ["magnitude", "inverse_magnitude", "random"]


def main():
    """Print a table of cells, a model a line, and the shares of a whole run."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--models", default="mlp,cnn,vit,mobilenet")
    options.add_argument("--images", type=int, default=10_000)
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    print(f"{timing.machine()}\n{given.images} images, {len(THRESHOLDS)} thresholds\n")
    print(
        "model       ours ms/cell   floor ms   ours/floor   naive ms/cell   naive/ours   largest difference of losses"
    )
    for model in given.models.split(","):
        compare(model, given)
    shares()


def network(name, images):
    """Return a model, its loss and examples for it."""
    if name in ("mlp", "cnn"):
        task = tasks.load("mnist", validation="test")
        return task.build_model(name), task.loss, task.x_validation[:images], task.y_validation[:images]
    rng, side = np.random.default_rng(0), 32 if name == "vit" else 96
    x = rng.random((images // 10, side, side, 3), "float32")
    if name == "vit":
        model = _models.vit(x.shape[1:], 10)
    else:
        model = keras.applications.MobileNetV2(x.shape[1:], weights=None, classes=10, classifier_activation=None)
    return model, keras.losses.SparseCategoricalCrossentropy(from_logits=True), x, rng.integers(0, 10, len(x))


def compare(name, given):
    """Time one model in all ways and print its line."""
    model, of_model, x, y = network(name, given.images)
    weights = [backend.copied(v) for v in model.trainable_variables]
    scores = [importance.load(measure).score(model, seed=0) for measure in MEASURES]
    partition = thresholding.Partition(aggregation.load("weight").groups(model), model)
    evaluator = evaluation.Evaluator(model, of_model, x, y)
    new = evaluator.place(thresholding.replacements(weights, "zero"))
    found = {}

    def ours():
        for number, score in enumerate(scores):
            ranks = evaluator.place(partition.rank(score).ranks)
            loss = evaluator(ranks, new, INSIDE if number else THRESHOLDS).loss
            found.setdefault("ours", loss[TRIED])

    def naive():
        of_thresholds = []
        for threshold in THRESHOLDS[TRIED]:
            ranks = partition.rank(scores[0]).ranks
            clone = keras.models.clone_model(model)
            clone.set_weights(model.get_weights())
            for variable, value in zip(
                clone.trainable_variables, thresholding.threshold(weights, ranks, threshold), strict=True
            ):
                variable.assign(value)
            clone.compile(loss=of_model, metrics=["accuracy"])
            of_thresholds.append(clone.evaluate(x, y, verbose=0)[0])
        found["naive"] = of_thresholds

    def forward(trainable, others, x, y):
        def one_batch(batch):
            return losses.per_example(of_model, batch[1], structure.outputs(model, trainable, others, batch[0]))

        return ops.mean(ops.map(one_batch, (x, y)))

    compiled = backend.compiled(forward, xla=structure.xla(model))

    def floor():
        for _ in TRIED:
            values = [
                [backend.read(v) for v in vs] for vs in (model.trainable_variables, model.non_trainable_variables)
            ]
            backend.to_numpy(compiled(*values, evaluator._x, evaluator._y))

    seconds = timing.in_turn({"ours": ours, "floor": floor, "naive": naive}, given.rounds)
    mine = 1000 * seconds["ours"] / (len(THRESHOLDS) + (len(MEASURES) - 1) * (len(THRESHOLDS) - 2))
    least, theirs = (1000 * seconds[way] / len(TRIED) for way in ("floor", "naive"))
    difference = np.abs(np.subtract(found["ours"], found["naive"])).max()
    print(
        f"{name:9} {mine:14.1f} {least:10.1f} {mine / least:12.2f} {theirs:15.1f} {theirs / mine:12.1f} "
        f"{difference:20.1e}",
        flush=True,
    )


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
