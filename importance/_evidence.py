"""What a measure may look at: the weights, the data, the trajectory, and passes over the examples."""

import numpy as np

import importance
from engine import backend, losses, per_example, structure
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

    Attributes:
        weights: list of float32 arrays (copies), in the order of `model.trainable_variables`.
    """

    def __init__(
        self, model, x=None, y=None, *, seed=0, loss=None, examples=EXAMPLES, memory=per_example.MEMORY, chunk=None,
        optimizer=None,
    ):  # fmt: skip
        self.parts = structure.parts(model)
        self.model, self.seed, self.memory, self.chunk = model, seed, memory, chunk
        self.weights = [backend.copied(v).astype("float32") for v in model.trainable_variables]
        self.optimizer = optimizer if optimizer is not None else getattr(model, "optimizer", None)
        self._x, self._y = _drawn(x, y, seed, examples)
        self.loss = loss or losses.of_model(model, self._y)
        self._kept = {}
        self._measure = None

    def of(self, measure):
        """Return this evidence as one measure sees it: the same passes, that measure's draws and needs."""
        seen = object.__new__(Evidence)
        seen.__dict__.update(self.__dict__)
        seen._measure = measure
        return seen

    @property
    def rng(self):
        """A NumPy generator that depends on the seed and on the measure's name."""
        return np.random.default_rng(importance.draw_seed(self.seed, self._measure.name))

    @property
    def x(self):
        """The inputs that are used, (examples, ...)."""
        if self._x is None:
            raise ValueError(
                f"The measure {self._measure.name!r} needs inputs: expected x=(examples, ...), received None."
            )
        return self._x

    @property
    def y(self):
        """The labels or targets of `x`, (examples, ...)."""
        if self._y is None:
            raise ValueError(
                f"The measure {self._measure.name!r} needs labels: expected y=(examples, ...), received None."
            )
        if losses.is_classification(self.loss):
            classes = self.model.output_shape[-1]
            wrong = not np.issubdtype(self._y.dtype, np.integer) or self._y.min() < 0 or self._y.max() >= classes
            shape = (len(self.x), *self.model.output_shape[1:-1])
            if wrong or self._y.shape != shape:
                raise ValueError(
                    f"Expected integer labels from 0 to {classes - 1} of shape {shape}, received {self._y.dtype} of "
                    f"shape {self._y.shape} from {self._y.min()} to {self._y.max()}."
                )
        return self._y

    def mean(self, transform, objective=None, y=None, key=None):
        """Average T(gradient of one example's objective) over the examples.

        Args:
            transform: "square", "absolute" or "identity"; see `engine.per_example.sums`.
            objective: callable `objective(outputs, y) -> (examples,)`; None: the loss.
            y: array (examples, ...) for the objective; None: the true labels.
            key: hashable. Names `y` where it is not the true labels, so that another measure can share the pass.

        Returns:
            list of float32 arrays like `weights`.
        """
        if y is None:
            y, key = self.y, "true labels"
        objective = objective or losses.objective(self.loss)
        name = (transform, objective, key)
        if key is None or name not in self._kept:
            total = per_example.sums(self.model, objective, self.x, y, transform, self.memory, self.chunk)
            self._kept[name] = [a / len(self.x) for a in total]
        return [a.copy() for a in self._kept[name]]

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
                f"The measure {self._measure.name!r} needs the trajectory of training, and none was recorded for it. "
                f"Compile the model with importance.Tracked(optimizer, measures=[{self._measure.name!r}]) and train it."
            )
        return record


def _drawn(x, y, seed, examples):
    if x is None:
        return None, None
    x = np.asarray(x)
    y = None if y is None else np.asarray(y)
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
