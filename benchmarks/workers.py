"""Time eight trials of a grid in one process and in two, locally and on a Ray cluster of two nodes of one processor.

    python -m benchmarks.workers [--epochs 10] [--trials 8] [--ray]

Every process computes with one thread, and its start (imports, compiling) counts. Rows are compared with those of the
one process.
"""

import argparse
import os
import tempfile

import pandas as pd

from benchmarks import timing
from experiments import threshold_grid
from experiments.workers import processes, start


def grid(out, given):
    """Make the grid that all ways run."""
    return threshold_grid.Grid(
        "mnist", "mlp", out, measures=["magnitude", "fisher", "synaptic_intelligence"], levels=["weight", "unit"],
        epochs=given.epochs, every=given.epochs, seeds=range(given.trials),
    )  # fmt: skip


def with_processes(count, out, given):
    """Return the seconds that so many processes on this machine take."""
    return timing.seconds(processes.together, grid(out, given), count)


def with_ray(out, given):
    """Return the seconds that two nodes with a processor each take, without those that start the cluster."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        return timing.seconds(start.start, grid(out, given), f"ray:{cluster.address}")
    finally:
        cluster.shutdown()


def rows(out):
    """Return the rows that were written, without their seconds, in an order of their own."""
    (path,) = (os.path.join(out, name) for name in os.listdir(out) if name.endswith(".csv"))
    return pd.read_csv(path, dtype=str).drop(columns="seconds").sort_values(threshold_grid.KEY, ignore_index=True)


def main():
    """Print a line for each way, with its seconds as a share of those of the one process."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--epochs", type=int, default=10)
    options.add_argument("--trials", type=int, default=8)
    options.add_argument("--ray", action="store_true", help="also on Ray, which has to be installed")
    given = options.parse_args()
    os.environ["TF_NUM_INTRAOP_THREADS"] = "1"
    print(f"{timing.machine()}\n{given.trials} trials, mnist, 784-300-150-10, {given.epochs} epochs\n", flush=True)
    ways = {
        "1 process": lambda out: with_processes(1, out, given),
        "2 processes": lambda out: with_processes(2, out, given),
    }
    if given.ray:
        ways["Ray, 2 nodes"] = lambda out: with_ray(out, given)
    first = expected = None
    for name, way in ways.items():
        with tempfile.TemporaryDirectory() as out:
            seconds, found = way(out), rows(out)
        first, expected = first or seconds, found if expected is None else expected
        same = "the same rows" if found.equals(expected) else "OTHER ROWS"
        print(f"{name:14} {seconds:7.1f} s   {seconds / first:5.2f}   {len(found)} rows, {same}", flush=True)


if __name__ == "__main__":
    main()
