"""Trials on the workers of a Ray cluster, whose machines all see the code and the folder of the results."""

import json
import os

from experiments.workers import processes, worker
from experiments.workers.desk import Desk

_PASSED_ON = ("KERAS_BACKEND", "WEIGHTWISE_DATA")


def run(job, address=None, gpus=0.0, look=lambda: None):
    """Do what is missing of a job on a Ray cluster, one task a trial, each with one processor.

    A trial that is lost with its machine is done again on another, from its last checkpoint, unless nothing was written
    between several such losses. This process only waits: when it dies and is started again, what is done is done.

    Args:
        job: see `experiments.workers.desk`.
        address: str or None. Of the cluster, such as "auto" or "10.0.0.1:6379"; None: one on this machine, for now.
        gpus: float. The share of a GPU that each trial takes: 0.25 puts four on one.
        look: callable. Called now and then.

    Raises:
        ImportError: Ray is not installed.
        ConnectionError: there is no cluster at the address.
        locks.Busy: somebody is writing the run alone.
        RuntimeError: a trial failed, or was lost again and again; says of what.
    """
    try:
        import ray
    except ImportError as error:
        raise ImportError(
            "Expected Ray to be installed for workers='ray:...', found no such package. "
            "Do pip install -r requirements-ray.txt, or use workers=2."
        ) from error
    desk, description = Desk(job), json.dumps(job.description())
    with desk:
        desk.tidy()
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    began = not ray.is_initialized()
    if began:
        ray.init(address, log_to_driver=False)
    try:
        settings = {"env_vars": {**processes.environment(threads=1), **passed_on}}
        # Ray's own retries would be counted in all, not since the last progress.
        do = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0, runtime_env=settings)(worker.do)
        waiting = {do.remote(description, name): name for name in desk.missing()}
        deaths, look = processes.Deaths(desk), processes.NowAndThen(look)
        while waiting:
            ready, _ = ray.wait(list(waiting), timeout=0.5)
            for reference in ready:
                name = waiting.pop(reference)
                try:
                    ray.get(reference)
                except ray.exceptions.RayError as error:
                    if not isinstance(error, ray.exceptions.RayTaskError) and not deaths.too_many():
                        waiting[do.remote(description, name)] = name
                        continue
                    raise RuntimeError(
                        f"Expected the trial {name} of {desk.store.path} to end well, received: {error}\nWhat was "
                        "written is whole; run again to go on."
                    ) from error
            look()
    finally:
        if began:
            ray.shutdown()
    desk.refresh()
