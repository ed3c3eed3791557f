"""Who works on a run is started here: this process, several on this machine, or those of a cluster."""

from experiments.workers import desk, on_ray, processes


def start(job, workers=1, look=lambda: None, gpus=0.0):
    """Do what is missing of a job.

    Args:
        job: see `experiments.workers.desk`.
        workers: int or str. 1: this process, alone. More: so many processes on this machine. "join": this process,
            beside any others that join; "join:<trial>": for one trial only. "ray" or "ray:<address>": the workers of a
            Ray cluster; see `experiments.workers.on_ray`.
        look: callable. Called now and then while other processes work.
        gpus: float. The share of a GPU that each trial takes under Ray.

    Raises:
        ValueError: workers that are none of these.
        locks.Busy: somebody else is writing the run alone, or, for a process that is to be alone, at all.
        RuntimeError: workers died again and again; says of what.
    """
    kind, _, which = workers.partition(":") if isinstance(workers, str) else ("", "", "")
    if kind == "join":
        desk.join(job, which or None)
    elif kind == "ray":
        on_ray.run(job, which or None, gpus, look)
    elif isinstance(workers, int) and not isinstance(workers, bool) and workers >= 1:
        processes.together(job, workers, look) if workers > 1 else desk.alone(job)
    else:
        raise ValueError(
            f"Expected workers to be a number of processes of at least 1, 'join' or 'ray:<address>', received "
            f"{workers!r}."
        )
