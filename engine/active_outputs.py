"""Labels that stand together: a head of which, for each example, only the outputs of its own task count."""

import keras
import numpy as np
from keras import ops

HIDDEN = -1e9
"""The logit in place of one that does not count: its probability is 0 in any precision, and it gets no gradient."""


@keras.saving.register_keras_serializable(package="weightwise")
class ActiveCrossentropy(keras.losses.SparseCategoricalCrossentropy):
    """Cross-entropy of logits, in nats, among the labels that stand in one group with the true one.

    With A the group of the label y, an example's loss is -z_y + log sum_{k in A} exp z_k. Where each group is a task of
    its own that is task-incremental learning: all tasks share a network, and whatever an image is asked, only the
    outputs of its task are active.

    Args:
        groups: list of lists of int. Labels that stand together, each label in one group, all groups of one size.
        **options: as for `keras.losses.SparseCategoricalCrossentropy`.

    Raises:
        ValueError: groups that overlap or differ in size.

    Example:
        >>> import numpy as np
        >>> loss = ActiveCrossentropy([[0, 1], [2, 3]])
        >>> round(float(loss(np.array([2]), np.array([[9.0, 9.0, 1.0, 1.0]]))), 4)  # ln 2
        0.6931
    """

    def __init__(self, groups, **options):
        super().__init__(**{"from_logits": True, "name": "active_crossentropy", **options})
        self.groups = [[int(label) for label in group] for group in groups]
        labels = [label for group in self.groups for label in group]
        if not labels or len(set(labels)) < len(labels) or len({len(group) for group in self.groups}) > 1:
            raise ValueError(
                "Expected groups of labels of one size, each label in one of them, so that tasks have as many active "
                f"outputs; received {self.groups}."
            )
        of = np.full(max(labels) + 1, -1)
        for number, group in enumerate(self.groups):
            of[group] = number
        self._together = of[:, None] == of[None, :]

    def call(self, y_true, y_pred):
        """Return the loss of each example: array (examples,)."""
        return super().call(y_true, self.active(y_pred, y_true))

    def active(self, outputs, y):
        """Return logits (examples, classes) with `HIDDEN` for labels of other groups than that of y (examples,)."""
        y = ops.maximum(ops.cast(ops.reshape(y, (-1,)), "int32"), 0)  # -1 fills up a batch
        together = ops.take(ops.convert_to_tensor(self._together), y, axis=0)
        return ops.where(together, outputs, ops.cast(HIDDEN, "float32"))

    def group_of(self, y):
        """Return the group that all these labels are of: list of int.

        Raises:
            ValueError: they are of several.
        """
        found = [group for group in self.groups if np.isin(y, group).any()]
        if len(found) != 1 or not np.isin(y, found[0]).all():
            raise ValueError(
                f"Expected labels of one task, since only its outputs are active; received {sorted(set(map(int, y)))} "
                f"where these stand together: {self.groups}."
            )
        return found[0]

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "groups": self.groups}


def active(loss, outputs, y):
    """Return a classifier's outputs, of which only those count that are active under its loss."""
    return loss.active(outputs, y) if isinstance(loss, ActiveCrossentropy) else outputs


class Picked(keras.layers.Layer):
    """Pass on some of the outputs: those whose numbers its weight `labels` (int32) holds."""

    def __init__(self, count, **options):
        super().__init__(trainable=False, **options)
        self._count = count

    def build(self, shape):
        """Create the weight."""
        self.labels = self.add_weight((self._count,), "zeros", "int32", trainable=False, name="labels")

    def call(self, outputs):
        """Return (examples, count)."""
        return ops.take(outputs, self.labels, axis=-1)


class ActiveHead:
    """A model as one of its tasks sees it, without the outputs of the others; it shares the model's weights.

    A measure that asks what the model itself believes, such as the exact Fisher, then asks it about this task's labels
    alone, and its loss is that of `ActiveCrossentropy`.

    Args:
        model: keras.Model, functional or sequential, with one input and outputs (examples, classes).
        loss: ActiveCrossentropy.
    """

    def __init__(self, model, loss):
        self._of, self._layer = loss, Picked(len(loss.groups[0]))
        self._model = keras.Model(model.inputs[0], self._layer(model.outputs[0]))
        self._loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=loss.reduction)
        if [id(v) for v in self._model.trainable_variables] != [id(v) for v in model.trainable_variables]:
            raise ValueError(
                f"Expected a model whose weights stand in the order in which its layers are called, received "
                f"{model.name!r}. Build it with keras.Model(inputs, outputs), or as a keras.Sequential."
            )

    def of(self, y):
        """Return the model of the task that labels are of, the labels as its outputs are numbered, and its loss."""
        labels = self._of.group_of(y)
        self._layer.labels.assign(np.array(labels, "int32"))
        order = np.argsort(labels)
        return self._model, order[np.searchsorted(labels, y, sorter=order)].astype("int32"), self._loss
