"""Measure how the memory of one process grows while the same study is run in it again and again, as a notebook does.

    python -m benchmarks.memory [--calls 8]

Prints for every call of `sequential.run` and of `threshold_grid.run`, each in a process of its own and a new folder,
the seconds and the megabytes in use after it; then by how much they have grown since the second call. Linux only.
"""

import argparse
import gc
import multiprocessing
import pathlib
import tempfile
import time

from benchmarks.timing import machine

SEQUENTIAL = {
    "sequence": "permuted_digits", "measures": ["fisher_empirical"], "penalties": ["stabilized"], "strengths": [3.0],
    "epochs": 2, "options": {"tasks": 3},
}  # fmt: skip
GRID = {
    "task": "digits", "model": "mlp", "measures": ["magnitude", "fisher_empirical", "synaptic_intelligence"],
    "thresholds": 11, "epochs": 2, "batch_size": 64,
}  # fmt: skip


def main():
    """Print both tables."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--calls", type=int, default=8)
    calls = options.parse_args().calls
    print(machine())
    for study, settings in (("sequential", SEQUENTIAL), ("threshold_grid", GRID)):
        process = multiprocessing.get_context("spawn").Process(target=repeat, args=(study, settings, calls))
        process.start()
        process.join()


def repeat(study, settings, calls):
    """Run a study so many times, and print a line for each."""
    import importlib

    run = importlib.import_module(f"experiments.{study}").run
    used = []
    for call in range(1, calls + 1):
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            run(out=folder, progress=False, **settings)
        taken = time.perf_counter() - started
        gc.collect()
        used.append(megabytes())
        print(f"{study:<16}call {call}{taken:>9.1f} s{used[-1]:>9.0f} MB", flush=True)
    print(f"{study:<16}growth after the second call: {used[-1] - used[min(1, calls - 1)]:.0f} MB", flush=True)


def megabytes():
    """Return the memory that this process has in use."""
    status = pathlib.Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


if __name__ == "__main__":
    main()
