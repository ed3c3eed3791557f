"""What a measure may look at: the weights, the data, the trajectory, and passes over the examples."""

import numpy as np

import importance
from engine import activations, backend, channels, chunks, curvature, draws, examples, losses, per_example, structure
from importance import _tracked

EXAMPLES = 5000


class Evidence:
    """The model and the data that are scored. Passes over the data are made when first asked for, and kept.

    Args:
        model: keras.Model, built.
        x: array (examples, ...), a dict or list of arrays for a model with several inputs, or None for measures that
            need no inputs.
        y: array (examples, ...), labels or targets, or None.
        seed: int. Decides which examples are used and every draw.
        loss: keras.losses.Loss or None. None: the compiled model's; of one that is not compiled, what labels and
            outputs call for: cross-entropy for integer labels (from logits, unless the model ends with a softmax),
            squared error for others; see `engine.losses.infer`. Penalties on weights are no part of it.
        examples: int or None. How many of the examples to use, drawn without replacement; None: all.
        memory: int. Bound on the extra memory of per-example gradients in bytes.
        chunk: int or None. Examples taken at once, if the memory is not to decide it.
        optimizer: keras.optimizers.Optimizer or None. Where the trajectory is recorded; None: the model's own.
        groups: dict or None. From the names of further levels to their groups (int arrays like `weights`), for
            measures of groups: `{"conv_filter": aggregation.load("conv_filter").groups(model)}`.
        fill: str. What replaces weights, for measures that ask: "zero". Of anything else give the values themselves.
        replacements: list of arrays like `weights`, or None. The values that replace them, such as
            `thresholding.replacements(weights, "noise", seed)`; None: those of `fill`.

    Attributes:
        weights: list of float32 arrays (copies), in the order of `model.trainable_variables`.
        replacements: list of float32 arrays likewise: what stands in for each weight where it is replaced.
    """

    def __init__(
        self, model, x=None, y=None, *, seed=0, loss=None, examples=EXAMPLES, memory=chunks.MEMORY, chunk=None,
        optimizer=None, groups=None, fill="zero", replacements=None,
    ):  # fmt: skip
        self.parts = structure.parts(model)
        self.model, self.seed, self.memory, self.chunk = model, seed, memory, chunk
        self.weights = [backend.copied(v).astype("float32") for v in model.trainable_variables]
        self.optimizer = optimizer if optimizer is not None else getattr(model, "optimizer", None)
        self._x, self._y = _drawn(model, x, y, seed, examples)
        self._given_loss = losses.single(loss)
        self.groups = groups or {}
        self.replacements = _filled(self.weights, fill, replacements)
        self.name = "evidence"
        self._kept = {}

    @property
    def loss(self):
        """The loss whose change is meant: keras.losses.Loss, checked against what the model gives."""
        return self.once("loss", self._checked_loss)

    def _checked_loss(self):
        loss = self._given_loss or losses.of_model(self.model)
        if self._given_loss is None and loss is not None and self._adds_losses():
            raise ValueError(
                f"Expected a model whose loss is that of its outputs, received {self.model.name!r}, which adds losses "
                "of its own (add_loss or an activity regularizer) that cannot be taken one example at a time. Pass "
                "loss=... to score by that loss alone."
            )
        outputs = self._some_outputs
        loss = loss or losses.infer(self._y, outputs, self.end)
        losses.check_end(loss, outputs, self.end)
        return loss

    @property
    def end(self):
        """What the model's outputs went through last: "softmax", "sigmoid" or "linear"; None if it does not say."""
        return structure.end(self.model) or ("softmax" if losses.are_distributions(self._some_outputs) else None)

    @property
    def _some_outputs(self):
        return np.asarray(per_example.some_outputs(self.model, self.x)[0], "float32")

    @property
    def output_shape(self):
        """The shape of one example's output: tuple of int."""
        return self._some_outputs.shape[1:]

    def _adds_losses(self):
        key = ("adds losses", examples.signature(self.x))
        return chunks.kept(self.model, key, lambda: structure.adds_losses(self.model, self.x))

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
        """The inputs that are used: an array (examples, ...), or a dict or list of them."""
        if self._x is None:
            raise ValueError(f"The measure {self.name!r} needs inputs: expected x=(examples, ...), received None.")
        return self._x

    @property
    def count(self):
        """The number of examples that are used: int."""
        return examples.count(self.x)

    @property
    def y(self):
        """The labels or targets of `x`, (examples, ...), checked against the loss and what the model gives."""
        if self._y is None:
            raise ValueError(f"The measure {self.name!r} needs labels: expected y=(examples, ...), received None.")
        return self.once("labels", self._checked_y)

    def _checked_y(self):
        y, loss, output = self._y, self.loss, tuple(per_example.some_outputs(self.model, self.x)[0].shape[1:])
        expected = (self.count, *output)
        shapes = [expected, expected[:-1]] if output[-1:] == (1,) else [expected]
        if losses.is_classification(loss):
            classes, ignored = expected[-1], loss.get_config().get("ignore_class")
            counted = y if ignored is None else y[y != ignored]
            integers = np.issubdtype(y.dtype, np.integer) or y.dtype == bool
            shaped = y.shape in (expected[:-1], (*expected[:-1], 1))
            if not (integers and shaped) or (counted.size and (counted.min() < 0 or counted.max() >= classes)):
                raise ValueError(
                    f"Expected integer labels from 0 to {classes - 1} of shape {expected[:-1]}, received "
                    f"{y.dtype} of shape {y.shape} from {y.min()} to {y.max()}."
                )
        elif losses.takes_targets_like_outputs(loss) and y.shape not in shapes:
            raise ValueError(
                f"Expected targets of the shape of the model's outputs, {expected}, received {y.dtype} of shape "
                f"{y.shape}. Reshape them; or give integers, if they are labels of classes."
            )
        some = y[per_example.some_rows(self.x)]
        key = ("checked loss", losses.objective(loss), some.shape)
        chunks.kept(self.model, key, lambda: losses.check(loss, some, per_example.some_outputs(self.model, self.x)[1]))
        return y

    @property
    def outputs(self):
        """What the model gives for `x`, a NumPy array (examples, ...)."""
        return self.once("outputs", lambda: chunks.outputs(self.model, self.x, self.memory))

    def once(self, key, compute):
        """Return what `compute()` gave the first time that any measure asked for this key."""
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]

    def mean(self, transform, objective=None, y=None, answers=None):
        """Average T(gradient of one example's objective) over the examples; the true labels' loss is kept.

        Args:
            transform: "square" or "absolute"; see `engine.per_example.sums`.
            objective: callable `objective(outputs, y) -> (examples,)`; None: the loss.
            y: array (examples, ...) for the objective; None: the true labels.
            answers: int or None. In place of labels: y = 0, 1, ... below this number, over which it is summed.

        Returns:
            list of float32 arrays like `weights`. Do not write into them.
        """
        if objective is None and y is None:
            y = self.y
            return self.once((transform, "true labels"), lambda: self._mean(transform, self._objective, y))
        if y is None and answers is None:
            y = self.y
        return self._mean(transform, objective or self._objective, y, answers)

    def _mean(self, transform, objective, y, answers=None):
        total = per_example.sums(self.model, objective, self.x, y, transform, self.memory, self.chunk, answers)
        return [a / np.float32(self.count) for a in total]

    @property
    def _objective(self):
        return losses.objective(self.loss)

    def mean_gradient(self):
        """Return the gradient of the mean loss: list of float32 arrays like `weights`."""
        y = self.y
        total = self.once(
            "gradient", lambda: per_example.gradient_sums(self.model, self._objective, self.x, y, self.memory)
        )
        return [a / np.float32(self.count) for a in total]

    def batch_means_squared(self, batch_size):
        """Average over batches the square of the batch's mean gradient: list of float32 arrays like `weights`."""
        total = per_example.batch_sums(self.model, self._objective, self.x, self.y, batch_size)
        return [a / np.float32(-(-self.count // batch_size)) for a in total]

    def hessian_diagonal(self, probes, at):
        """Estimate the diagonal of the Hessian of the mean loss; see `engine.curvature.hessian_diagonal`."""
        given = self.model, self._objective, self.x, self.y
        return curvature.hessian_diagonal(*given, probes, self.rng, at, self.memory)

    def inverse_fisher_diagonals(self, gradients, damping):
        """Return the diagonal of each layer's inverse damped Fisher, from so many of the examples' own gradients.

        Args:
            gradients: int. Examples, drawn by the seed; all of them if they are fewer.
            damping: float. See `engine.curvature.inverse_fisher_diagonals`.
        """
        rows, y = np.arange(self.count), self.y
        if gradients < self.count:
            drawn = draws.generator(self.seed, "gradients of the inverse Fisher").choice(rows, gradients, replace=False)
            rows = np.sort(drawn)
        return curvature.inverse_fisher_diagonals(
            self.model, self._objective, examples.take(self.x, rows), y[rows], damping, self.memory
        )

    def flows(self):
        """Return what each weight multiplies, summed over the examples; see `engine.activations.flows`."""
        return self.once("flows", lambda: activations.flows(self.model, self.x, self.memory, self.chunk))

    def channels(self):
        """Return (made, read) for each variable, the channels that its weights make and read, and how many there are.

        See `engine.channels.follow`. A frozen weight that reads one is refused, for no flow is known of it.
        """
        return self.once("channels", self._channels)

    def _channels(self):
        found = channels.follow(self.model)
        places = {id(v): place for place, v in enumerate(self.model.weights)}
        of_trained = [places[id(v)] for v in self.model.trainable_variables]
        frozen = [
            v.path for n, v in enumerate(self.model.weights) if n not in of_trained and (found.read[n] >= 0).any()
        ]
        if frozen:
            raise ValueError(
                f"The measure {self.name!r} needs all weights that read a channel: expected them to be trainable, "
                f"received {frozen[0]!r}, which is not. Unfreeze its layer, or use the measure 'fisher' or 'taylor'."
            )
        return [(found.made[n], found.read[n]) for n in of_trained], len(found.differs)

    def products(self):
        """Return the sums of products of inputs that meet in one output; see `engine.activations.products`."""
        return self.once("products", lambda: activations.products(self.model, self.x, self.memory, self.chunk))

    def views(self):
        """Return each variable as matrices (inputs, outputs); see `engine.activations.views`."""
        return activations.views(self.model, self.x)

    def trajectory(self, observe, gradients=True):
        """Return what was recorded while training: one {name: array} for each weight.

        Args:
            observe: the measure's own `observe` function.
            gradients: bool. Whether it looks at the gradient.

        Raises:
            ValueError: nothing was recorded, or not for all of the weights; the gradients that were seen are not those
                of the task alone. The message says what to do.
        """
        variables, every = self.model.trainable_variables, _tracked.find(self.optimizer)
        records = next(filter(None, (tracked.record(observe, variables) for tracked in every)), None)
        if records is None:
            raise ValueError(
                f"The measure {self.name!r} needs the trajectory of training, and none was recorded for it. "
                f"Compile the model with importance.Tracked(optimizer, measures=[{self.name!r}]) and train it."
            )
        unknown = [v.path for v, record in zip(variables, records, strict=True) if record is None]
        if unknown:
            raise ValueError(
                f"The measure {self.name!r} needs the trajectory of all weights, and none was recorded for "
                f"{', '.join(unknown[:3])}, which the optimizer was built without. Build it before freezing layers: "
                "optimizer.build(model.trainable_variables)."
            )
        if gradients and self.once("adds losses", lambda: structure.adds_losses(self.model, self._x, training=True)):
            raise ValueError(
                f"The measure {self.name!r} needs the gradients of the task's loss alone, and this model adds to it by "
                "an activity_regularizer or add_loss, which an optimizer cannot tell apart. Train without them, or use "
                "a measure of the steps alone, such as weight_change."
            )
        return records


def _filled(weights, fill, replacements):
    if replacements is None:
        if fill != "zero":
            raise ValueError(
                f"Expected the fill 'zero', received {fill!r}. Of another give the values: "
                "replacements=thresholding.replacements(weights, fill, seed)."
            )
        return [np.zeros_like(w) for w in weights]
    found = [np.asarray(r, "float32") for r in replacements]
    expected, received = [w.shape for w in weights], [r.shape for r in found]
    if received != expected:
        raise ValueError(
            f"Expected replacements with the shapes of the model's trainable variables, {expected}; received "
            f"{received}. Give an array for each variable, like model.trainable_variables."
        )
    return found


def _drawn(model, x, y, seed, wanted):
    if wanted is not None and not (isinstance(wanted, (int, np.integer)) and wanted >= 1):
        raise ValueError(f"Expected examples to be a number of at least 1, or None for all, received {wanted!r}.")
    if x is None:
        return None, None
    x, y = examples.standardized(x, model), None if y is None else _labels(y)
    count = examples.count(x)
    if y is not None and len(y) != count:
        raise ValueError(
            f"Expected as many labels as inputs; received {len(y)} and {count}. Give one array of labels, (examples, "
            "...), for the one output that is scored."
        )
    if wanted is None or wanted >= count:
        return x, y
    rows = draws.generator(seed, "scored examples").choice(count, wanted, replace=False)
    return examples.take(x, rows), None if y is None else y[rows]


def _labels(y):
    if not hasattr(y, "__array__") and not isinstance(y, (list, tuple)):
        raise ValueError(
            f"Expected labels as one array (examples, ...), received {type(y).__name__}. Of a model with several "
            "outputs, score one: keras.Model(model.inputs, model.outputs[0])."
        )
    y = examples.as_array(y, "labels")
    if y.dtype.kind not in "biuf":
        raise ValueError(
            f"Expected labels as numbers, received {y.dtype} such as {y.ravel()[:1].tolist()}. Make them integers: "
            "names, y = np.unique(y, return_inverse=True)."
        )
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise ValueError(f"Expected finite targets, received {np.sum(~np.isfinite(y))} that are NaN or infinite.")
    return y.astype("float32") if y.dtype.kind == "f" else examples.int32(y, "labels")
