"""Show that evaluated="auto" orders measures as the evaluation of all examples does, and what it saves.

    python -m benchmarks.enough [--task cifar10 --model resnet --networks 12 --epochs 12 --more '{"batch_size": 64}' \\
        --out runs]

`--more` are further settings of the grid, in place of the training with momentum, 128 images a batch and a cosine
schedule that begins with an epoch of warming up; with `--more '{}'` that of a grid's defaults. The same networks
(trained first, or taken from `--out`) are put through the same grid twice, evaluated on all held-out examples and on as
many as are enough (`experiments.enough`). Printed are the examples, the seconds of evaluation, the largest difference
of the measures' mean areas, and the pairs of measures whose verdict differs.
"""

import argparse
import json
import tempfile

import report
from benchmarks import timing
from experiments import threshold_grid

MEASURES = ["random", "magnitude", "fisher_empirical", "taylor", "obd", "snip", "wanda", "synaptic_intelligence"]


def main():
    """Run both and print a line each."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--task", default="cifar10")
    options.add_argument("--model", default="resnet")
    options.add_argument("--networks", type=int, default=12)
    options.add_argument("--epochs", type=int, default=12)
    options.add_argument("--more", type=json.loads, default=None)
    options.add_argument("--examples", type=int, default=1000)
    options.add_argument("--levels", default="weight")
    options.add_argument("--measures", default=",".join(MEASURES))
    options.add_argument("--thresholds", type=int, default=11)
    options.add_argument("--out", default=None)
    given = options.parse_args()
    print(f"{timing.machine()}\n{given.networks} networks, measures {given.measures}, levels {given.levels}\n")
    asked = {
        "task": given.task, "model": given.model, "measures": given.measures.split(","),
        "levels": given.levels.split(","), "thresholds": given.thresholds, "epochs": given.epochs,
        "every": given.epochs, "examples": given.examples, "seeds": range(given.networks),
        **(training(given.epochs) if given.more is None else given.more),
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        found = {said: evaluated(given.out or folder, said, asked) for said in (None, "auto")}
    (all_areas, all_verdicts, seconds), (areas, verdicts, less) = found.values()
    print(f"\nseconds of evaluation: {less / seconds:.2f} of those for all examples")
    print(f"largest difference of mean areas: {(areas - all_areas).abs().max():.5f}")
    other = [pair for pair in all_verdicts if verdicts[pair] != all_verdicts[pair]]
    print(f"pairs with another verdict: {len(other)} of {len(all_verdicts)}")
    for pair in other:
        print(f"  {', '.join(pair)}: {all_verdicts[pair]} by all examples, {verdicts[pair]} by enough of them")


def training(epochs, steps=352):
    """Return the settings of a training with a cosine schedule, whose first epoch of so many steps warms up."""
    cosine = {
        "initial_learning_rate": 0.02, "decay_steps": steps * (epochs - 1), "alpha": 0.0, "name": "CosineDecay",
        "warmup_target": 0.1, "warmup_steps": steps,
    }  # fmt: skip
    return {
        "batch_size": 128, "optimizer": "sgd", "optimizer_options": {"momentum": 0.9, "nesterov": True},
        "learning_rate": {"class_name": "CosineDecay", "config": cosine},
    }  # fmt: skip


def evaluated(out, said, asked):
    """Run a grid; return the mean areas, the verdicts {(level, measure, measure): str}, and seconds of evaluation."""
    grid = threshold_grid.Grid(out=out, evaluated=said, **asked)
    if not grid.missing():
        raise SystemExit(f"Expected cells to time, found all of them done in {grid.store.path}. Remove it.")
    frame, spent = grid.run(), grid.timings
    scores = report.scores(frame)
    verdicts = {}
    for pair in report.order(frame).pairs.itertuples():
        who = f"{pair.better} is " if "better" in pair.verdict else ""
        verdicts[pair.level, *sorted([pair.better, pair.worse])] = who + pair.verdict
    print(
        f"evaluated={said!r}: {int(frame['examples'].iloc[0])} examples; {spent['evaluating']:.1f} s evaluating, "
        f"{spent['scoring']:.1f} s scoring, {spent['total']:.1f} s in all, training included",
        flush=True,
    )
    return scores.groupby(["level", "measure"])["area"].mean(), verdicts, spent["evaluating"]


if __name__ == "__main__":
    main()
