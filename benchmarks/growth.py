"""Count what a study computes that is asked for more, one thing after another, and hold it against all at once.

    python -m benchmarks.growth [--seeds 8]

Prints for each step how many rows are new, how many epochs were trained, and whether the earlier rows are the same
bytes; then whether the study equals one that asked for everything at once, and one that was deleted but for its
networks.
"""

import argparse
import pathlib
import shutil
import tempfile

import pandas as pd

from engine import training
from experiments import networks, threshold_grid

FIRST = {
    "task": "digits", "model": "mlp", "measures": ["magnitude", "fisher_empirical", "weight_change"],
    "levels": ["weight"], "thresholds": 21, "epochs": 10, "every": 5, "batch_size": 32,
}  # fmt: skip


def main():
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seeds", type=int, default=8)
    seeds = options.parse_args().seeds
    steps = {
        f"{seeds} networks, 3 measures": {"seeds": list(range(seeds))},
        "one more measure": {"measures": [*FIRST["measures"], "synaptic_intelligence"]},
        "one more level": {"levels": ["weight", "hidden_unit"]},
        "41 thresholds": {"thresholds": 41},
        "two more seeds": {"seeds": list(range(seeds + 2))},
        "ten more epochs": {"epochs": 20},
    }
    trained = counting_epochs()
    with tempfile.TemporaryDirectory() as folder:
        folder, asked, before = pathlib.Path(folder), dict(FIRST), b""
        print(f"{'step':<24}{'new rows':>10}{'epochs trained':>16}   rows of before")
        for step, more in steps.items():
            asked |= more
            grown, after = run(folder / "grown", asked)
            said = "the same bytes" if after.startswith(before) else "CHANGED"
            new = after[len(before) :].count(b"\n") - (not before)
            print(f"{step:<24}{new:>10,}{len(trained):>16}   {said}")
            before = after
            trained.clear()
        once, _ = run(folder / "once", asked)
        print(f"{'all at once':<24}{len(once):>10,}{len(trained):>16}   {equal(grown, once)}")
        trained.clear()
        shutil.copytree(folder / "grown" / networks.FOLDER, folder / "again" / networks.FOLDER)
        again, _ = run(folder / "again", asked)
        print(f"{'from networks alone':<24}{len(again):>10,}{len(trained):>16}   {equal(grown, again)}")


def run(folder, asked):
    """Run a grid; return its rows and the bytes of its file."""
    frame = threshold_grid.run(out=folder, progress=False, **asked)
    (path,) = folder.glob("*.csv")
    return frame, path.read_bytes()


def counting_epochs():
    """Note every epoch that is trained from now on in the list that is returned."""
    trained, train = [], training.train

    def counted(model, x, y, epochs, batch_size, seed, *rest):
        trained.extend(epochs)
        train(model, x, y, epochs, batch_size, seed, *rest)

    training.train = counted
    return trained


def equal(one, other):
    """Say whether two runs hold the same cells; the seconds that each took aside."""
    one, other = (f.drop(columns="seconds").sort_values(threshold_grid.KEY, ignore_index=True) for f in (one, other))
    try:
        pd.testing.assert_frame_equal(one, other, check_exact=True)
    except AssertionError as error:
        return f"DIFFERENT: {error}"
    return "every cell equal"


if __name__ == "__main__":
    main()
