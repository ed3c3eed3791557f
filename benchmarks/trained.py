"""Order the measures on a trained MobileNetV2, and time that against as many plain calls of `model.predict`.

    python -m benchmarks.trained [--task cifar10] [--images 1000] [--steps 1500] [--network mobilenet.keras]

A MobileNetV2 for images of 96 x 96 is trained on a task's images for a few minutes, if its file is not there yet. Then
10 measures x 2 levels x 21 thresholds are evaluated on images that it was not trained on, in 16 folds, half of each for
scoring: 420 evaluations a fold, on 420 x `--images` / 2 images in all. Beside it, `model.predict` on all the images, as
often as there are cells in one fold; it is called `--calls` times and scaled up.
"""

import argparse
import pathlib
import tempfile
import time

import keras
import numpy as np

import report
import tasks
from benchmarks import timing
from experiments import threshold_grid

MEASURES = [
    "magnitude", "obd", "wanda", "signal", "fisher_empirical", "fisher_sampled", "mas", "taylor", "snip", "random",
]  # fmt: skip
LEVELS = ["weight", "conv_filter"]
SIZE, THRESHOLDS, MOST = 96, 21, 20_000


def main():
    """Print the ordering and the two times."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--task", default="cifar10")
    options.add_argument("--images", type=int, default=1000)
    options.add_argument("--steps", type=int, default=1500)
    options.add_argument("--network", default="mobilenet.keras")
    options.add_argument("--calls", type=int, default=10)
    given = options.parse_args()
    print(timing.machine())
    task = tasks.load(given.task)
    if not pathlib.Path(given.network).exists():
        train(task, given.steps).save(given.network)
    x, y = enlarged(task.x_test[: given.images]), task.y_test[: given.images]

    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as out:
        grid = threshold_grid.Grid(
            network=given.network, x=x, y=y, measures=MEASURES, levels=LEVELS, thresholds=THRESHOLDS, out=out
        )
        frame = grid.run()
    ours = time.perf_counter() - start
    print(report.order(frame).summary)

    model = keras.saving.load_model(given.network)
    model.predict(x, verbose=0)
    start = time.perf_counter()
    for _ in range(given.calls):
        model.predict(x, verbose=0)
    cells = len(MEASURES) * len(LEVELS) * THRESHOLDS
    plain = (time.perf_counter() - start) / given.calls * cells
    parts = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in grid.timings.items())
    print(f"\n{given.images} images of {given.task}, accuracy {accuracy(model, x, y):.3f}; {len(frame)} cells")
    print(f"ours {ours:.0f} s ({parts}); {cells} calls of predict {plain:.0f} s; ours/predict {ours / plain:.2f}")


def train(task, steps):
    """Return a MobileNetV2 that has made so many steps of 32 images."""
    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV2((SIZE, SIZE, 3), weights=None, classes=task.classes)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9  # 0.999 is for longer trainings: the averages would still be those of the beginning
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    x, y = task.x_train[:MOST], task.y_train[:MOST]
    order = np.random.default_rng(0).integers(0, len(x), (steps, 32))
    start = time.perf_counter()
    for step, rows in enumerate(order):
        logs = model.train_on_batch(enlarged(x[rows]), y[rows], return_dict=True)
        if step % 100 == 99:
            print(f"step {step + 1}, {time.perf_counter() - start:.0f} s, accuracy {logs['accuracy']:.2f}", flush=True)
    return model


def enlarged(x):
    """Return images of 96 x 96 in colour, from -1 to 1, as the network is made for."""
    x = np.repeat(x, 3, axis=-1) if x.shape[-1] == 1 else x
    return np.asarray(keras.ops.image.resize(x, (SIZE, SIZE))) * 2 - 1


def accuracy(model, x, y):
    """Return how often the most likely class is the right one."""
    return float((model.predict(x, verbose=0).argmax(-1) == y).mean())


if __name__ == "__main__":
    main()
