"""Time a training epoch with every trajectory measure tracked against one without.

    python -m benchmarks.tracking [--models mlp] [--examples 54000] [--rounds 5]

The same `engine.training.train` on MNIST, batch 100, Adam. Two models alternate; medians.
"""

import argparse

import keras

import importance
import tasks
from benchmarks import timing
from engine import training

BATCH = 100


def main():
    """Print a line for each model."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--models", default="mlp")
    options.add_argument("--examples", type=int, default=54_000)
    options.add_argument("--rounds", type=int, default=5)
    given = options.parse_args()
    table = importance.table()
    tracked = list(table.index[table["needs"] == "trajectory"])
    print(f"{timing.machine()}\ntracked: {', '.join(tracked)}\n")
    print("model   plain s/epoch   tracked s/epoch   tracked/plain")
    for name in given.models.split(","):
        task = tasks.load("mnist")
        x, y = task.x_train[: given.examples], task.y_train[: given.examples]
        ways = {"plain": epoch_of(task, name, x, y, []), "tracked": epoch_of(task, name, x, y, tracked)}
        seconds = timing.in_turn(ways, given.rounds)
        ratio = seconds["tracked"] / seconds["plain"]
        print(f"{name:5} {seconds['plain']:15.2f} {seconds['tracked']:17.2f} {ratio:15.2f}", flush=True)


def epoch_of(task, name, x, y, measures):
    """Return a function that trains a new model for one epoch."""
    model = task.build_model(name)
    optimizer = keras.optimizers.Adam(1e-3)
    if measures:
        optimizer = importance.Tracked(optimizer, measures)
    training.compile_model(model, optimizer, task.loss, ["accuracy"])
    return lambda: training.train(model, x, y, [1], BATCH, seed=0)


if __name__ == "__main__":
    main()
