"""sum_t |w_t - w_(t-1)|: weights that travelled far matter. Each optimizer step counts.

Sampling once an epoch, or subtracting signed steps, gives another quantity: signed steps telescope to the net
displacement (`net_displacement`).
"""

from importance import Measure
from importance._records import observe_path, start_path


def score(evidence):
    """Return the length of each weight's path since tracking began."""
    return [record["path"] for record in evidence.trajectory(observe_path)]


MEASURE = Measure(score, needs="trajectory", start=start_path, observe=observe_path)
