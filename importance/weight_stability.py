"""1 / (1 + sum_t |w_t - w_(t-1)|): weights that hardly moved matter. The reverse of `weight_change`."""

from importance import Measure
from importance._records import observe_path, start_path


def score(evidence):
    """Return the reciprocal of one plus the length of each weight's path."""
    return [1 / (1 + record["path"]) for record in evidence.trajectory(observe_path)]


MEASURE = Measure(score, needs="trajectory", start=start_path, observe=observe_path)
