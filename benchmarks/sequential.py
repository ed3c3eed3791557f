"""Time one run of the published sequence, ten permutations of MNIST, beside a plain loop of the same work.

    python -m benchmarks.sequential [--tasks 10] [--epochs 6] [--measure fisher_empirical] [--plain-steps 30]

ours: `experiments.sequential`, protocol "published", Fisher on 5,000 examples, stabilised penalty; the whole run with
reading data, scoring and the tests after every task, and with compiling, then once more for the next seed without.
plain: forward pass, gradient, penalty and Adam, operation by operation, timed on `--plain-steps` steps and the same
number of one-example backward passes and test batches, each scaled up to the run's number of them.
"""

import argparse
import tempfile

import keras
import numpy as np

from benchmarks import timing
from engine import backend
from experiments import sequential

BATCH, EXAMPLES, STRENGTH = 100, 5000, 85.0


def main():
    """Print what two runs of one sequence take, and the plain loop."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--tasks", type=int, default=10)
    options.add_argument("--epochs", type=int, default=6)
    options.add_argument("--measure", default="fisher_empirical")
    options.add_argument("--plain-steps", type=int, default=30)
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
        plain = plain_run(runs.sequence_of(0), given)
        print(f"\nplain loop {plain:9.1f}   (scaled up; {plain / totals[1]:.1f} times ours)")


def plain_run(sequence, given):
    """Estimate the seconds of a run without compilation."""
    task = sequence.first
    model, optimizer = task.build_model(), keras.optimizers.Adam(1e-3)
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
            coefficient = STRENGTH * omega / (1 + 1e-3 * STRENGTH * omega)
            held.append(g + coefficient * (backend.read(w) - anchor))
        optimizer.apply(held, weights)

    totals = [keras.ops.zeros(w.shape) for w in weights]

    def score():
        n = int(rng.integers(len(x)))
        totals[:] = [t + g * g for t, g in zip(totals, gradient(slice(n, n + 1)), strict=True)]

    def test():
        np.mean(np.argmax(np.asarray(model(task.x_test[:500], training=False)), axis=1) == task.y_test[:500])

    counts = {
        step: given.tasks * given.epochs * (len(x) // BATCH),
        score: (given.tasks - 1) * EXAMPLES,
        test: given.tasks * (given.tasks + 1) // 2 * (len(task.x_test) // 500),
    }
    total = 0.0
    for work, count in counts.items():
        work()
        total += (
            timing.seconds(lambda work=work: [work() for _ in range(given.plain_steps)]) / given.plain_steps * count
        )
    return total


if __name__ == "__main__":
    main()
