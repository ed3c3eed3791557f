"""Time pruning against what one would write with Keras alone, a curve and retraining, and networks that are cut.

    python -m benchmarks.pruning curve [--thresholds 1001] [--images 10000] [--loop 60] [--rounds 3]
    python -m benchmarks.pruning retraining [--task mnist] [--networks 2] [--epochs 2] [--budget 2]
    python -m benchmarks.pruning cut [--filters 16,32,64 64,128,256]

The curve, of 1,001 thresholds, against a loop that zeroes weights and calls `predict`: the 784-300-150-10 network of
the published protocol, magnitude, whole network, MNIST's test images. The loop assigns the zeroed weights, predicts in
batches of 1,000 and compares with the labels; it is timed on `--loop` of the thresholds and scaled up. Both alternate;
medians. Both must find the same accuracies.

Retraining: networks x magnitude and random x fractions, removed at once and trained on, by the study, and with Keras: a
network at a time, `fit`, removed weights zeroed by a callback after each batch, or by a constraint within the step,
which is faster and which fewer would write. All three train their networks first; the study evaluates after every
epoch on validation and test data, Keras on validation data, and on test data at the end. Seconds are of everything,
compiling included, each once; mean test accuracies stand beside each other, with the standard error of the difference.

Cut: residual networks for 32x32 coloured images as they are drawn, of several widths, without a fraction of their
channels: parameters, multiply-adds, and the milliseconds of a call, compiled by TensorFlow as it does and with XLA.
"""

import argparse
import tempfile
import time

import keras
import numpy as np

import aggregation
import importance
import tasks
import thresholding
from benchmarks import timing
from engine import backend, evaluation
from experiments import retraining
from tasks import _models

FRACTIONS = (0.5, 0.8, 0.9, 0.95)


def main():
    """Print the seconds of all ways."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("what", nargs="?", choices=list(WORK), help="all, if nothing is said")
    options.add_argument("--thresholds", type=int, default=1001)
    options.add_argument("--images", type=int, default=10_000)
    options.add_argument("--loop", type=int, default=60, help="thresholds that the loop is timed on")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--task", default="mnist")
    options.add_argument("--networks", type=int, default=2)
    options.add_argument("--epochs", type=int, default=2, help="of the training")
    options.add_argument("--budget", type=int, default=2, help="epochs of each retraining")
    options.add_argument("--batch-size", type=int, default=100)
    options.add_argument("--filters", nargs="+", default=["16,32,64", "64,128,256"], help="of each stage, of each net")
    given = options.parse_args()
    print(timing.machine())
    for name, work in WORK.items():
        if given.what in (None, name):
            work(given)


def curve(given):
    """Print the seconds of a curve both ways, and how far apart the accuracies are."""
    print(f"\n{given.thresholds} thresholds, {given.images} images")
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


def retrain(given):
    """Print the seconds of retraining all three ways, and the accuracies."""
    asked = f"{given.networks} networks, 2 measures, {len(FRACTIONS)} fractions"
    print(f"\n{given.task}, mlp: {asked}, {given.epochs} epochs and {given.budget} of retraining")
    found, spent = {}, {}
    for name, way in {"study": by_study, "callback": with_keras, "constraint": with_keras}.items():
        start, processor = time.perf_counter(), time.process_time()
        found[name] = way(given, name)
        spent[name] = time.perf_counter() - start, time.process_time() - processor
    for name, (seconds, processor) in spent.items():
        ratios = " and ".join(
            f"{own / ours:.2f}" for own, ours in zip((seconds, processor), spent["study"], strict=True)
        )
        print(f"{name:12}{seconds:8.1f} s, of the processor {processor:8.1f} s: {ratios} of the study's")
    print("measure    fraction   study   " + "   ".join(f"{name}: less the study (s.e.)" for name in list(found)[1:]))
    for cell, of_study in found["study"].items():
        gains = [np.subtract(found[name][cell], of_study) for name in list(found)[1:]]
        errors = [gain.std(ddof=1) / len(gain) ** 0.5 if len(gain) > 1 else np.nan for gain in gains]
        others = "".join(f"{g.mean():12.4f} ({e:.4f})" for g, e in zip(gains, errors, strict=True))
        print(f"{cell[0]:10}{cell[1]:9g}{np.mean(of_study):9.4f}{others}")


def by_study(given, _):
    """Return the test accuracies of networks after retraining: {(measure, fraction): list (networks,)}."""
    with tempfile.TemporaryDirectory() as folder:
        frame = retraining.run(
            given.task, "mlp", folder, progress=False, measures=["magnitude", "random"], fractions=FRACTIONS,
            protocols=["one_shot"], unpruned=False, seeds=range(given.networks), epochs=given.epochs,
            budget=given.budget, batch_size=given.batch_size, records=False,
        )  # fmt: skip
    last = frame[frame["epoch"] == given.budget]
    return {cell: part["test_accuracy"].tolist() for cell, part in last.groupby(["measure", "fraction"])}


class Masked(keras.constraints.Constraint):
    """A constraint that keeps weights at zero where its mask, 1 at first, is 0.

    Args:
        weights: keras.Variable.
    """

    def __init__(self, weights):
        self.mask = keras.Variable(keras.ops.ones_like(weights), trainable=False)

    def __call__(self, weights):
        """Return the weights with zeros where the mask has them."""
        return weights * self.mask


class Zeroed(keras.callbacks.Callback):
    """A callback that puts zeros back after each batch.

    Args:
        masks: list of float arrays like `model.trainable_variables`.
    """

    def __init__(self, masks):
        super().__init__()
        self._masks = [keras.ops.convert_to_tensor(mask) for mask in masks]

    def on_train_batch_end(self, batch, logs=None):
        """Zero what is removed."""
        for variable, mask in zip(self.model.trainable_variables, self._masks, strict=True):
            variable.assign(variable * mask)


def with_keras(given, way):
    """Return what `by_study` does, by Keras alone but for the data and the layers of the network."""
    found = {}
    for seed in range(given.networks):
        task = tasks.load(given.task, seed=seed)
        keras.utils.set_random_seed(seed)
        model = task.build_model("mlp")
        if way == "constraint":
            for variable in model.trainable_variables:
                variable.constraint = Masked(variable)
        fit(model, task, given, given.epochs)
        trained = model.get_weights()
        for measure in ("magnitude", "random"):
            for fraction in FRACTIONS:
                model.set_weights(trained)
                masks = [mask for layer in model.layers for mask in masks_of(layer, measure, fraction)]
                for variable, mask in zip(model.trainable_variables, masks, strict=True):
                    variable.assign(variable * mask)
                    if way == "constraint":
                        variable.constraint.mask.assign(mask)
                fit(model, task, given, given.budget, [Zeroed(masks)] if way == "callback" else [])
                if any(np.any(weight[mask == 0]) for weight, mask in zip(model.get_weights(), masks, strict=True)):
                    raise SystemExit(f"Expected weights that stay removed, received others by {way}.")
                found.setdefault((measure, fraction), []).append(model.evaluate(task.x_test, task.y_test, verbose=0)[1])
    return found


def masks_of(layer, measure, fraction):
    """Return the masks of a layer's weights, 0 for the fraction of them that is least important."""
    weights = layer.get_weights()
    scores = [np.abs(w) if measure == "magnitude" else np.random.random(w.shape) for w in weights]
    border = np.quantile(np.concatenate([score.ravel() for score in scores]), fraction) if scores else 0
    return [np.float32(score >= border) for score in scores]


def fit(model, task, given, epochs, callbacks=()):
    """Train with a new optimizer."""
    model.compile("adam", task.loss, metrics=["accuracy"])
    held_out = task.x_validation, task.y_validation
    model.fit(task.x_train, task.y_train, given.batch_size, epochs, 0, callbacks, validation_data=held_out)


def cut(given):
    """Print the sizes of networks and of what is left of them, and how long a call takes."""
    for filters in given.filters:
        keras.utils.set_random_seed(0)
        model = _models.resnet((32, 32, 3), 10, filters=tuple(map(int, filters.split(","))))
        scores, groups = importance.load("magnitude").score(model), aggregation.load("channel").groups(model)
        ranks = thresholding.rank(scores, groups, scope="layer", model=model)
        print(f"\nresnet, filters {filters}: channels removed; milliseconds of a call, and with XLA")
        print("removed   parameters   multiply-adds   1 image   32 images   1, XLA   32, XLA")
        for fraction in (0, 0.3, 0.5, 0.7):
            left = thresholding.shrink(model, ranks, fraction)
            size = thresholding.sizes(left)
            ms = [1000 * thresholding.latency(left, batch, xla=xla) for xla in (False, True) for batch in (1, 32)]
            print(
                f"{fraction:7g}{size.parameters:13}{size.multiply_adds:16}{ms[0]:10.2f}{ms[1]:12.2f}{ms[2]:9.2f}{ms[3]:10.2f}"
            )


WORK = {"curve": curve, "retraining": retrain, "cut": cut}

if __name__ == "__main__":
    main()
