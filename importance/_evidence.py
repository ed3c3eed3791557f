"""What a measure may look at: the weights, the data, the trajectory, and passes over the examples."""

import keras
import numpy as np

import importance
from engine import activations, backend, chunks, curvature, losses, per_example, structure
from importance import _tracked

EXAMPLES = 5000


class Evidence:
    """The model and the data that are scored. Passes over the data are made when first asked for, and kept.

    Args:
        model: keras.Model, built.
        x: float array (examples, ...), or None for measures that need no inputs.
        y: array (examples, ...), labels or targets, or None.
        seed: int. Decides which examples are used and every draw.
        loss: keras.losses.Loss or None. None: the compiled model's; of one that is not compiled, cross-entropy
            from logits for integer labels and squared error for others.
        examples: int or None. How many of the examples to use, drawn without replacement; None: all.
        memory: int. Bound on the extra memory of per-example gradients in bytes.
        chunk: int or None. Examples taken at once, if the memory is not to decide it.
        optimizer: keras.optimizers.Optimizer or None. Where the trajectory is recorded; None: the model's own.
        groups: dict or None. From the names of further levels to their groups (int arrays like `weights`), for
            measures of groups: `{"conv_filter": aggregation.load("conv_filter").groups(model)}`.

    Attributes:
        weights: list of float32 arrays (copies), in the order of `model.trainable_variables`.
    """

    def __init__(
        self, model, x=None, y=None, *, seed=0, loss=None, examples=EXAMPLES, memory=chunks.MEMORY, chunk=None,
        optimizer=None, groups=None,
    ):  # fmt: skip
        self.parts = structure.parts(model)
        self.model, self.seed, self.memory, self.chunk = model, seed, memory, chunk
        self.weights = [backend.copied(v).astype("float32") for v in model.trainable_variables]
        self.optimizer = optimizer if optimizer is not None else getattr(model, "optimizer", None)
        self._x, self._y = _drawn(x, y, seed, examples)
        self._loss = loss
        self.groups = groups or {}
        self.name = "evidence"
        self._kept = {}

    @property
    def loss(self):
        """The loss whose change is meant: keras.losses.Loss."""
        return self._loss or losses.of_model(self.model, self._y)

    def of(self, measure):
        """Return this evidence as one measure sees it: the same passes, that measure's draws and needs."""
        seen = object.__new__(Evidence)
        seen.__dict__.update(self.__dict__)
        seen.name = measure.name
        return seen

    @property
    def rng(self):
        """A NumPy generator that depends on the seed and on the measure's name."""
        return np.random.default_rng(importance.draw_seed(self.seed, self.name))

    @property
    def x(self):
        """The inputs that are used, (examples, ...)."""
        if self._x is None:
            raise ValueError(f"The measure {self.name!r} needs inputs: expected x=(examples, ...), received None.")
        return self._x

    @property
    def y(self):
        """The labels or targets of `x`, (examples, ...)."""
        if self._y is None:
            raise ValueError(f"The measure {self.name!r} needs labels: expected y=(examples, ...), received None.")
        expected = (len(self.x), *self._output_shape)
        if losses.is_classification(self.loss):
            classes = expected[-1]
            integers = np.issubdtype(self._y.dtype, np.integer)
            if not integers or self._y.shape != expected[:-1] or self._y.min() < 0 or self._y.max() >= classes:
                raise ValueError(
                    f"Expected integer labels from 0 to {classes - 1} of shape {expected[:-1]}, received "
                    f"{self._y.dtype} of shape {self._y.shape} from {self._y.min()} to {self._y.max()}."
                )
        elif isinstance(self.loss, keras.losses.MeanSquaredError) and self._y.shape != expected:
            raise ValueError(
                f"Expected targets of the shape of the model's outputs, {expected}, received {self._y.dtype} of shape "
                f"{self._y.shape}. Reshape them; or give integers, if they are labels of classes."
            )
        return self._y

    @property
    def outputs(self):
        """What the model gives for `x`, a NumPy array (examples, ...)."""
        return self.once("outputs", lambda: chunks.outputs(self.model, self.x, self.memory))

    @property
    def _output_shape(self):
        return self.once("output shape", lambda: tuple(structure.forward(self.model, self.x[:1]).shape[1:]))

    def once(self, key, compute):
        """Return what `compute()` gave the first time that any measure asked for this key."""
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]

    def mean(self, transform, objective=None, y=None):
        """Average T(gradient of one example's objective) over the examples; the true labels' loss is kept.

        Args:
            transform: "square" or "absolute"; see `engine.per_example.sums`.
            objective: callable `objective(outputs, y) -> (examples,)`; None: the loss.
            y: array (examples, ...) for the objective; None: the true labels.

        Returns:
            list of float32 arrays like `weights`. Do not write into them.
        """
        if objective is None and y is None:
            y = self.y
            return self.once((transform, "true labels"), lambda: self._mean(transform, self._objective, y))
        return self._mean(transform, objective or self._objective, self.y if y is None else y)

    def _mean(self, transform, objective, y):
        total = per_example.sums(self.model, objective, self.x, y, transform, self.memory, self.chunk)
        return [a / np.float32(len(self.x)) for a in total]

    @property
    def _objective(self):
        return losses.objective(self.loss)

    def mean_gradient(self):
        """Return the gradient of the mean loss: list of float32 arrays like `weights`."""
        y = self.y
        total = self.once(
            "gradient", lambda: per_example.gradient_sums(self.model, self._objective, self.x, y, self.memory)
        )
        return [a / np.float32(len(self.x)) for a in total]

    def batch_means_squared(self, batch_size):
        """Average over batches the square of the batch's mean gradient: list of float32 arrays like `weights`."""
        total = per_example.batch_sums(self.model, self._objective, self.x, self.y, batch_size)
        return [a / np.float32(-(-len(self.x) // batch_size)) for a in total]

    def hessian_diagonal(self, probes):
        """Estimate the diagonal of the Hessian of the mean loss; see `engine.curvature.hessian_diagonal`."""
        return curvature.hessian_diagonal(self.model, self._objective, self.x, self.y, probes, self.rng, self.memory)

    def flows(self):
        """Return what each weight multiplies, summed over the examples; see `engine.activations.flows`."""
        return self.once("flows", lambda: activations.flows(self.model, self.x, self.memory, self.chunk))

    def trajectory(self, observe):
        """Return what was recorded while training: one {name: array} for each weight.

        Args:
            observe: the measure's own `observe` function.

        Raises:
            ValueError: nothing was recorded; the message says how to.
        """
        tracked = None if self.optimizer is None else _tracked.find(self.optimizer)
        record = tracked.record(observe) if tracked is not None and tracked.built else None
        if record is None:
            raise ValueError(
                f"The measure {self.name!r} needs the trajectory of training, and none was recorded for it. "
                f"Compile the model with importance.Tracked(optimizer, measures=[{self.name!r}]) and train it."
            )
        return record


def _drawn(x, y, seed, examples):
    if x is None:
        return None, None
    x, y = _as_array(x), None if y is None else _as_array(y)
    if len(x) == 0 or (y is not None and len(y) != len(x)):
        raise ValueError(
            f"Expected as many labels as inputs, at least one; received {len(x)} and {0 if y is None else len(y)}."
        )
    if examples is not None and examples < 1:
        raise ValueError(f"Expected examples to be at least 1, or None for all, received {examples!r}.")
    if examples is None or examples >= len(x):
        return x, y
    rows = np.random.default_rng([seed, examples]).choice(len(x), examples, replace=False)
    return x[rows], None if y is None else y[rows]


def _as_array(values):
    values = np.asarray(values)
    if np.issubdtype(values.dtype, np.floating):
        return values.astype("float32", copy=False)
    return values.astype("int32") if np.issubdtype(values.dtype, np.integer) else values
