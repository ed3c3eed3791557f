"""What the loss does when some weights are taken away: measured, not approximated."""

import numpy as np

from engine import chunks, examples, losses, per_example
from engine.elimination import Elimination


def loss_changes(model, loss, x, y, groups, wanted, replacements):
    """Evaluate the model once for each wanted group of weights, with that group replaced and the rest as it is.

    Of groups that are units of a layer only what comes after them is computed each time; see `Elimination`.

    Args:
        model: keras.Model, built. Run in inference mode and left as it was.
        loss: keras.losses.Loss.
        x: array (examples, ...), or a dict or list of them.
        y: array (examples, ...).
        groups: list of int arrays like `model.trainable_variables`: each weight's group.
        wanted: int array (n,). The groups to evaluate.
        replacements: list of float arrays, likewise: what stands in for each weight.

    Returns:
        change: float32 array (n,). Mean over examples of the loss with the group replaced minus the loss without, in
            the units of the loss.
        stderr: float32 array (n,). Standard error of that mean: the differences of the same example are paired.
    """
    objective = losses.objective(loss)
    key = ("checked objective", objective, examples.signature(x), y.shape[1:])
    chunks.kept(model, key, lambda: per_example.check_objective(model, objective, x, y))
    made = Elimination(model, loss, x, y, groups, replacements)
    asked = np.zeros(made.count, bool)
    asked[wanted] = True
    _, found = made.changes(np.zeros(made.count, bool), asked)
    mean, square = found[wanted].T
    return mean, np.sqrt(np.maximum(square - mean**2, 0) / max(examples.count(x) - 1, 1))
