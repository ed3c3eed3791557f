"""One of several processes that work on a run: `python -m experiments.worker`.

The first line of its input says what to work on (JSON, see `description` of the jobs); it ends when there is nothing
more to do, or when its input does, that is with the process that started it.
"""

import json
import os
import sys
import threading


def job(description):
    """Make the job that a description tells of.

    Args:
        description: dict. `kind` ("grid" or "sequential"), `out`, and `settings` as JSON knows them.
    """
    kind, out, settings = (description[name] for name in ("kind", "out", "settings"))
    from experiments import sequential, threshold_grid  # which takes seconds

    return {"grid": threshold_grid.Grid, "sequential": sequential.Sequential}[kind](out=out, **settings)


def main():
    """Join the work on what the first line of the input says."""
    description = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_input, daemon=True).start()
    job(description).run(workers="join", progress=False)


def _end_with_the_input():
    sys.stdin.read()
    os._exit(1)  # like a kill: what was written is whole


if __name__ == "__main__":
    main()
