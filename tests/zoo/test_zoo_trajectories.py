"""Measures of the trajectory agree with a replay of the training, step by step, on networks of several makes."""

from types import SimpleNamespace

import keras
import numpy as np
import plain
import plain_zoo
import pytest
import reference_measures
import zoo
import zoo_layers  # noqa: F401
import zoo_models  # noqa: F401

import importance

MEASURES = [name for name in importance.names() if importance.load(name).definition.needs == "trajectory"]
OF_GRADIENTS = {"synaptic_intelligence", "rwalk", "movement"}
EXAMPLES, BATCH, EPOCHS = 4, 2, 6  # 12 steps: a window of rwalk and the beginning of the next

# From the network to the measures that may be refused for it. A wrapper of the optimizer sees the penalty's gradient
# with the task's, and cannot take it out again.
TRAINED = {
    "tied_head": set(),
    "tagging_with_mask": set(),
    "frozen_kernel": set(),
    "dict_of_inputs": set(),
    "regularized": OF_GRADIENTS,
}


def trained(entry):
    """Train a network with everything recorded; return it and what a replay needs: its path and its gradients."""
    model = entry.build()
    x, y = keras.tree.map_structure(lambda a: a[:EXAMPLES], (entry.x, entry.y))
    model.compile(
        importance.Tracked(keras.optimizers.Adam(0.02), MEASURES), entry.loss, jit_compile=plain.BACKEND == "jax"
    )
    path = [plain.values(model.trainable_variables)]

    def note(batch, logs):
        if plain.BACKEND == "jax":
            model.jax_state_sync()  # while it trains, the model's variables are empty
        path.append(plain.values(model.trainable_variables))

    seen = keras.callbacks.LambdaCallback(on_train_batch_end=note)
    model.fit(x, y, BATCH, EPOCHS, shuffle=False, verbose=0, callbacks=[seen])
    gradient = plain.compiled(lambda weights, x, y: batch_gradient(model, entry.loss, weights, x, y))
    batches = [slice(start, start + BATCH) for start in range(0, EXAMPLES, BATCH)] * EPOCHS
    gradients = [
        plain_zoo.numpy64(gradient(weights, keras.tree.map_structure(lambda a: a[rows], x), y[rows]))  # noqa: B023
        for weights, rows in zip(path[:-1], batches, strict=True)
    ]
    return model, SimpleNamespace(path=path, gradients=gradients, weights=path[-1])


def batch_gradient(model, loss, weights, x, y):
    """The gradient of the batch's loss in training mode, without penalties: what belongs to the task."""

    def batch_loss(weights):
        with keras.StatelessScope(list(zip(model.trainable_variables, weights, strict=True))):
            return loss(y, model(x, training=True))

    return plain.differentiated(batch_loss, plain.tensors(weights))[1]


@pytest.mark.parametrize("name", TRAINED)
def test_every_measure_of_the_trajectory_agrees_or_refuses(name):
    model, case = trained(zoo.ENTRIES[name])
    wrong = []
    for measure in MEASURES:
        try:
            score = importance.load(measure).score(model)
        except ValueError as error:
            if measure not in TRAINED[name]:
                wrong.append(f"{measure} was refused: {error}")
            continue
        expected = [np.asarray(e) for e in getattr(reference_measures, measure)(case)]
        found = plain_zoo.disagreement(measure, score, expected, model.trainable_variables)
        wrong += [f"{measure} {found}"] if found else []
    assert not wrong, "\n".join(wrong)
