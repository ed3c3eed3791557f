"""Where the plain penalty explodes, or drowns the task in a clipped gradient, and what the others do there."""

import keras
import numpy as np
import pandas as pd

import importance
from engine import backend, evaluation, training
from experiments.protection import Learner, hold
from tasks import sequences

CONDITIONS = ((None, 1.5), (None, 2.5), (1.0, 500.0))
TESTS = ("first_accuracy", "accuracy")


def run(
    sequence="permuted_digits", measure="fisher_empirical", conditions=CONDITIONS,
    penalties=("plain", "stabilized", "decoupled"), rate=0.2,
    epochs=20, batch_size=200, seed=0,
):  # fmt: skip
    """Learn a second task by gradient descent, the most important weight held with a given rate * strength * Omega.

    The first task is learnt, without clipping, and scored once; all go on from there.

    Args:
        sequence: str. A file in `tasks/sequences/`; its first two tasks are learnt, by its default model.
        measure: str. A file in `importance/` that needs no trajectory.
        conditions: list of (float or None, float). The global norm that gradients are clipped to, None for no clipping,
            and the largest rate * strength * Omega, which decides the strength.
        penalties: list of str. Among "plain", "stabilized", "decoupled" and "clamped".
        rate: float. The learning rate.
        epochs: int. For each task.
        batch_size: int.
        seed: int.

    Returns:
        pandas.DataFrame. One row for each condition, penalty and epoch of the second task: `clip` (NaN for none),
        `largest`, `penalty`, `epoch`, the training `loss` (nats; not finite where the weights are not), `accuracy`
        on the second task and `first_accuracy` on the first (test data), `distance`, the root of the mean squared
        distance from the anchors, weighted with the importances, and `task_left`, the mean fraction of the task's
        gradient that the clipping has left since the second task began.
    """
    loaded = sequences.load(sequence, seed=seed)
    first, second = loaded[0], loaded[1]
    model = training.initial(first.build_model, seed)

    def learner(optimizer):
        # XLA takes longer to compile than these few steps take. On JAX there is nothing else.
        return Learner(model, optimizer, first.loss, batch_size, xla=backend.NAME == "jax")

    learner(keras.optimizers.SGD(rate)).train(first.x_train, first.y_train, range(1, epochs + 1), seed)
    scores = importance.load(measure).score(model, first.x_train, first.y_train, seed=seed)
    learnt = training.values(training.model_variables(model))
    accuracy = evaluation.Accuracy(model)
    tests = {name: accuracy.place(task.x_test, task.y_test) for name, task in zip(TESTS, loaded, strict=False)}
    rows = []
    for clip, largest in conditions:
        for penalty in penalties:
            held = learner(hold(keras.optimizers.SGD(rate, global_clipnorm=clip), penalty))
            held.begin(learnt, largest / rate / max(float(s.max()) for s in scores), scores)
            about = {"clip": np.nan if clip is None else clip, "largest": largest, "penalty": penalty}

            def note(epoch, logs, about=about, held=held):
                rows.append(
                    {
                        **about, "epoch": epoch - epochs, "loss": logs["loss"],
                        **{name: accuracy(test) for name, test in tests.items()},
                        "distance": _distance(training.values(model.trainable_variables), learnt, scores),
                        "task_left": held.stability().task_left,
                    }
                )  # fmt: skip

            again = range(epochs + 1, 2 * epochs + 1)
            held.train(second.x_train, second.y_train, again, seed, note)
    return pd.DataFrame(rows)


def _distance(weights, anchors, scores):
    """Return the root of the weighted mean square of the distances; infinite ones may be among them."""
    with np.errstate(over="ignore", invalid="ignore"):
        squares = [np.sum(o * (w - a) ** 2.0) for w, a, o in zip(weights, anchors, scores, strict=False)]
        return float(np.sqrt(sum(squares) / sum(map(np.sum, scores))))
