"""One of several processes that work on a run: `python -m experiments.workers.worker`.

The first line of its input says what to work on (JSON, see `description` of the jobs); it ends when there is nothing
more to do, or when its input does, that is with the process that started it.
"""

import functools
import json
import os
import sys
import threading
import time

from engine import variants

_SECONDS = 60


def job(description):
    """Make the job that a description tells of.

    Args:
        description: dict. `kind`, the name of a file in experiments/, `out`, and `settings` as JSON knows them.
    """
    kind, out, settings = (description[name] for name in ("kind", "out", "settings"))
    return variants.load("experiments", kind, "STUDY")(out=out, **settings)


def do(text, trial):
    """Do one trial of the job that a description tells of; wait for a while if it is being done.

    A process keeps the job, and with it what it compiled, for the next trial.

    Args:
        text: str. The description as JSON.
        trial: str.
    """
    made = _made(text)
    for _ in range(_SECONDS):
        made.run(workers=f"join:{trial}", progress=False)
        if not made.trials().get(trial):
            return
        time.sleep(1)  # whoever had it on a machine that was lost may not have ended yet


@functools.lru_cache(maxsize=1)
def _made(text):
    return job(json.loads(text))


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
