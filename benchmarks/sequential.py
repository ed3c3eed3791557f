"""Time one run of the published sequence, ten permutations of MNIST, beside a plain loop of the same work.

    python -m benchmarks.sequential [--tasks 10] [--epochs 6] [--measure fisher_empirical] [--steps 300] [--torch]

ours: `experiments.sequential`, protocol "published", Fisher on 5,000 examples, stabilised penalty; the whole run with
reading data, scoring and the tests after every task, and with compiling, then once more for the next seed without.
plain loop: forward pass, gradient, penalty and Adam, operation by operation. PyTorch: the same, as one would write it
there. Both are timed on `--steps` steps, as many one-example backward passes and one test, each scaled up to the run's
number of them.
"""

import argparse
import json
import subprocess
import sys
import tempfile

import keras
import numpy as np

from benchmarks import timing
from engine import backend
from experiments import sequential

BATCH, EXAMPLES, STRENGTH, RATE = 100, 5000, 85.0, 1e-3


def main():
    """Print what two runs of one sequence take, and the plain loop."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--tasks", type=int, default=10)
    options.add_argument("--epochs", type=int, default=6)
    options.add_argument("--measure", default="fisher_empirical")
    options.add_argument("--steps", type=int, default=300, help="of the loops beside, which are scaled up")
    options.add_argument("--torch", action="store_true", help="also a loop in PyTorch, which has to be installed")
    given = options.parse_args()
    print(f"{timing.machine()}\n{given.tasks} tasks, {given.epochs} epochs each, {given.measure}\n")
    with tempfile.TemporaryDirectory() as out:
        runs = sequential.Sequential(
            "permuted_mnist", measures=[given.measure], penalties=["stabilized"], strengths=[STRENGTH], ends=False,
            protocol="published", epochs=given.epochs, batch_size=BATCH, examples=EXAMPLES, out=out,
            options={"tasks": given.tasks}, seeds=[0, 1],
        )  # fmt: skip
        print("run          total s   training   scoring   evaluating   data   outside training")
        totals = []
        for seed, name in enumerate(("compiling", "compiled")):
            runs.asking(seeds=range(seed + 1)).run(progress=False)
            t = runs.timings
            totals.append(t["total"])
            outside = 1 - t["training"] / t["total"]
            print(
                f"{name:10} {t['total']:9.1f} {t['training']:10.1f} {t['scoring']:9.1f} {t['evaluating']:12.1f} "
                f"{t['data']:6.1f} {outside:18.1%}",
                flush=True,
            )
        accuracy = sequential.summary(runs.store.frame())["test_accuracy"]
        print(f"mean accuracy over all tasks: {', '.join(f'{a:.4f}' for a in accuracy)}")
        loops = {"plain loop": plain_loop} | ({"PyTorch": torch_loop} if given.torch else {})
        for name, loop in loops.items():
            task = runs.sequence_of(0).first
            seconds = scaled_up(loop(task, given.steps), task, given)
            print(f"{name:10} {seconds:9.1f}   (scaled up; {seconds / totals[1]:.1f} times ours)", flush=True)


def scaled_up(parts, task, given):
    """Scale the seconds of a step, of one example's score and of one test up to those of a whole run."""
    counts = (
        given.tasks * given.epochs * (len(task.x_train) // BATCH),
        (given.tasks - 1) * EXAMPLES,
        given.tasks * (given.tasks + 1) // 2,
    )
    return sum(seconds * count for seconds, count in zip(parts, counts, strict=True))


def plain_loop(task, steps):
    """Return the seconds of a step, of one example's score and of one test, operation by operation."""
    model, optimizer = task.build_model(), keras.optimizers.Adam(RATE)
    optimizer.build(model.trainable_variables)
    weights, objective = model.trainable_variables, task.loss
    anchors = [keras.ops.convert_to_tensor(backend.copied(w)) for w in weights]
    importances = [keras.ops.ones(w.shape) for w in weights]
    x, y, rng = task.x_train, task.y_train, np.random.default_rng(0)

    def gradient(rows):
        def loss(values):
            return objective(y[rows], model.stateless_call(values, [], x[rows])[0])

        return backend.gradients(loss, [backend.read(w) for w in weights])

    def step():
        gradients = gradient(rng.choice(len(x), BATCH, replace=False))
        held = []
        for g, w, anchor, omega in zip(gradients, weights, anchors, importances, strict=True):
            coefficient = STRENGTH * omega / (1 + RATE * STRENGTH * omega)
            held.append(g + coefficient * (backend.read(w) - anchor))
        optimizer.apply(held, weights)

    totals = [keras.ops.zeros(w.shape) for w in weights]

    def score():
        n = int(rng.integers(len(x)))
        totals[:] = [t + g * g for t, g in zip(totals, gradient(slice(n, n + 1)), strict=True)]

    def test():
        for n in range(0, len(task.x_test), 500):
            found = np.asarray(model(task.x_test[n : n + 500], training=False))
            np.mean(np.argmax(found, axis=1) == task.y_test[n : n + 500])

    return timing.each(step, steps), timing.each(score, steps), timing.each(test, 1)


def torch_loop(task, steps):
    """Return the same for PyTorch, in a process of its own: its libraries and TensorFlow's do not go together."""
    with tempfile.TemporaryDirectory() as folder:
        np.savez(f"{folder}/task.npz", **{n: getattr(task, n) for n in ("x_train", "y_train", "x_test", "y_test")})
        command = [sys.executable, "-m", "benchmarks.sequential_torch", f"{folder}/task.npz"]
        command += map(str, (BATCH, steps, STRENGTH, RATE))
        return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


if __name__ == "__main__":
    main()
