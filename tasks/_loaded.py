"""A task with its data read: what every other room works with."""

import math
from dataclasses import dataclass

import keras
import numpy as np

from engine import active_outputs, losses, structure


@dataclass(frozen=True, eq=False, repr=False)
class LoadedTask:
    """A task's arrays, loss and networks.

    Attributes:
        name: str. The task's name.
        x_train, x_validation, x_test: float32 arrays `(examples, ...)`, from 0 to 1 unless the task is not bounded;
            images are `(examples, height, width, channels)`.
        y_train, y_validation, y_test: int32 labels `(examples,)` from 0 to classes - 1; for regression, float32
            targets `(examples, 1)`.
        classes: int, how many labels there are; None for regression.
        labels: tuple, the labels as the data have them (integers or names), class 0 first; None for regression.
        builders: dict from a model's name to the function that builds it; see `Task`.
        digest: str. sha256 of all that the task has read, before labels were chosen and examples held out: the same for
            every seed. Data that were exchanged or changed have another.
        groups: tuple of tuple of int, or None. Labels that stand together: of an example's outputs only those of its
            label's group count, in the loss and in what is right. None: all count.
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_validation: np.ndarray
    y_validation: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: int | None
    labels: tuple | None
    builders: dict
    digest: str
    groups: tuple | None = None

    def __repr__(self):
        parts = [f"{len(self.x_train)} training, {len(self.x_validation)} validation, {len(self.x_test)} test examples"]
        parts += [f"inputs {self.input_shape}", "regression" if self.classes is None else f"{self.classes} classes"]
        return f"<task {self.name}: {'; '.join(parts)}; models {', '.join(self.models)}>"

    @property
    def input_shape(self):
        """Shape of one example, without the axis of examples: tuple of int."""
        return self.x_train.shape[1:]

    @property
    def outputs(self):
        """How many numbers a model gives for an example: the classes' logits, or 1 for regression."""
        return self.classes or 1

    @property
    def models(self):
        """Names of the task's models, the default one first: tuple of str."""
        return tuple(self.builders)

    @property
    def loss(self):
        """A new `keras.losses.Loss`, the mean over examples: cross-entropy of logits in nats, or squared error."""
        if self.classes is None:
            return keras.losses.MeanSquaredError()
        if self.groups is not None:
            return active_outputs.ActiveCrossentropy(self.groups)
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @property
    def chance_loss(self):
        """Loss of a model that has learnt nothing: float.

        ln(classes), the cross-entropy of giving every class the same probability; for regression, the mean squared
        error on the validation set of always answering with the mean of the training targets.
        """
        if self.classes is None:
            return float(np.mean((self.y_validation - self.y_train.mean()) ** 2))
        return math.log(self.classes if self.groups is None else len(self.groups[0]))

    def build_model(self, name=None):
        """Build one of the task's models, not compiled, with new weights.

        The weights come from Keras's global random state: `keras.utils.set_random_seed(seed)` before makes them
        reproducible.

        Args:
            name: str. One of `models`. Defaults to the first.

        Returns:
            keras.Model from `(examples, *input_shape)` to logits `(examples, outputs)`.

        Raises:
            ValueError: no such model; the message lists those there are.
        """
        name = self.models[0] if name is None else name
        if name not in self.builders:
            raise ValueError(
                f"Expected a model of the task {self.name!r} ({', '.join(self.models)}), received {name!r}."
            )
        return self.builders[name](self.input_shape, self.outputs)

    def check_model(self, model):
        """Raise if a model of your own does not fit the task's data and loss.

        Args:
            model: keras.Model with one input and one output, such as a functional or a built sequential one.

        Raises:
            ValueError: other input or output shapes than the task's, shapes that are not known, or probabilities, where
                the loss expects logits.
        """
        for what, size in (("input", self.input_shape), ("output", (self.outputs,))):
            tensors = getattr(model, f"{what}s", None)
            if not isinstance(model, keras.Model) or tensors is None:
                raise ValueError(
                    f"Expected a keras.Model that knows its {what} shape, received {model!r}. Build it from "
                    f"keras.Input(shape={self.input_shape}), functional or sequential."
                )
            shapes = [tuple(tensor.shape) for tensor in tensors]
            if len(shapes) != 1 or not _fits(shapes[0], (None, *size)):
                raise ValueError(
                    f"Expected a model with one {what} of shape {(None, *size)} for the task {self.name!r}, received "
                    f"{', '.join(map(str, shapes))}. Change the model's {'first' if what == 'input' else 'last'} layer."
                )
        outputs = np.asarray(structure.forward(model, self.x_train[:4]), "float32")
        if self.classes and (structure.end(model) in ("softmax", "sigmoid") or losses.are_distributions(outputs)):
            raise ValueError(
                "Expected a model that outputs logits, received one that gives probabilities. Remove its last "
                "activation, such as a softmax: the loss contains it."
            )


def _fits(shape, wanted):
    """Tell whether tensors of the wanted shape may have this one, in which None stands for any size."""
    return len(shape) == len(wanted) and all(size in (None, want) for size, want in zip(shape, wanted, strict=True))
