"""What the loss does when some weights are taken away: measured, not approximated."""

import numpy as np
from keras import ops

from engine import backend, chunks, examples, losses, per_example, structure

GROUPS_AT_ONCE = 64


def loss_changes(model, loss, x, y, groups, wanted, replacements, batch_size=500):
    """Evaluate the model once for each wanted group of weights, with that group replaced and the rest as it is.

    Args:
        model: keras.Model, built. Run in inference mode and left as it was.
        loss: keras.losses.Loss.
        x: array (examples, ...), or a dict or list of them.
        y: array (examples, ...).
        groups: list of int arrays like `model.trainable_variables`: each weight's group.
        wanted: int array (n,). The groups to evaluate.
        replacements: list of float arrays, likewise: what stands in for each weight.
        batch_size: int. Examples evaluated at once.

    Returns:
        change: float32 array (n,). Mean over examples of the loss with the group replaced minus the loss without, in
            the units of the loss.
        stderr: float32 array (n,). Standard error of that mean: the differences of the same example are paired.
    """
    objective = losses.objective(loss)

    def evaluate(trainable, others, replacements, groups, wanted, x, y):
        def of_examples(weights):
            def one_batch(batch):
                return objective(structure.outputs(model, weights, others, batch[0]), batch[1])

            return ops.reshape(ops.map(one_batch, (x, y)), (-1,))[:count]

        before = of_examples(trainable)

        def one_group(group):
            weights = [
                ops.where(ids == group, new, old) for ids, new, old in zip(groups, replacements, trainable, strict=True)
            ]
            difference = of_examples(weights) - before
            return ops.stack([ops.mean(difference), ops.std(difference) / max(count - 1, 1) ** 0.5])

        return ops.map(one_group, wanted)

    checked = ("checked objective", objective, examples.signature(x), y.shape[1:])
    chunks.kept(model, checked, lambda: per_example.check_objective(model, objective, x, y))
    count = examples.count(x)
    batch = min(batch_size, count)
    rows = np.resize(np.arange(count), -(-count // batch) * batch)
    x, y = (examples.on_device(examples.batches(examples.take(a, rows), batch)) for a in (x, y))
    key = ("loss changes", objective, count)
    function = chunks.kept(model, key, lambda: backend.compiled(evaluate, xla=structure.xla(model)))
    placed = [[backend.on_device(a) for a in arrays] for arrays in (replacements, [g.astype("int32") for g in groups])]
    wanted = np.asarray(wanted, "int32")
    found = []
    for start in range(0, len(wanted), GROUPS_AT_ONCE):
        part = wanted[start : start + GROUPS_AT_ONCE]
        padded = backend.on_device(np.resize(part, min(GROUPS_AT_ONCE, len(wanted))))
        result = function(*chunks.values(model), *placed, padded, x, y)
        found.append(backend.to_numpy(result)[: len(part)])
    change, stderr = np.concatenate(found).T
    return change, stderr
