"""Networks that were trained elsewhere, and the examples that they are judged by: nothing is trained here.

What is compared is paired over blocks. Of one network these are disjoint folds of the examples, each of them half for
scoring and half for evaluating; of several networks of one structure they are the networks, all on the same two halves.
"""

import math
import warnings

import numpy as np

from engine import checks, draws, ends, examples, losses, structure, training
from experiments import brought, networks, unfit
from experiments.study import structure_digest
from importance._evidence import Evidence

FOLDS = 16
LEAST = 20
"""Examples in a fold, half of which are scored on and half evaluated; fewer say too little."""


class Given:
    """Networks that were trained elsewhere; `experiments.trained_here.TrainedHere` has the same attributes.

    Args:
        network: keras.Model; or str: a `.keras` file, a folder of such files of one structure, "applications:<name>"
            for a function of `keras.applications`, "hub:<preset>" for a classifier or language model of KerasHub, by
            name or from a folder.
        x: arrays (examples, ...) as the network takes them, also as dict or list; a `tf.data.Dataset` of batches (x,
            y), which is read once; str: an `.npz` file with x and y (or x_test and y_test; or y and an array for each
            of the network's inputs), or a folder with one folder of images for each class, which are made numbers from
            0 to 1. None: the test set of `task`.
        y: array (examples, ...). None where `x` has them.
        task: str or None. A file in `tasks/`, whose test set is taken if there is no `x`.
        loss: keras.losses.Loss or name. None: what the network was compiled with; of one that was not, what labels and
            outputs call for.
        folds: int or None. Into how many the examples are divided, if there is one network; None: 16, or as many as
            have 20 examples each.
        network_options: dict. Arguments of the function that "applications:..." or "hub:..." calls, such as
            `{"weights": "folder/mobilenet_v2.weights.h5"}`.
        labels, options: of the task.
        evaluated: int or None. Of the examples that are evaluated in a block, how many at most.

    Attributes:
        name: str. What rows call the networks (`model`).
        examples: str. What rows call the examples (`task`).
        digest: str. Of the one network's weights; of several, of their structure.
        folds: int; None of several networks.
        seeds: tuple of int. The numbers of the blocks: of folds from 0; of a network, what follows from its weights.
        where: dict. The arguments by which another process finds the same; None where that is an object of this one.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: something that is no network, or that cannot be read safely; examples or labels that do not fit it;
            too few of them.

    Warns:
        UserWarning: a softmax or sigmoid at the end was taken off; weights are frozen.
    """

    initial = fold = None

    def __init__(
        self, network, x=None, y=None, task=None, loss=None, folds=None, network_options=None, labels=None,
        options=None, evaluated=None,
    ):  # fmt: skip
        self._options = checks.optional(checks.mapping)("network_options", network_options) or {}
        self._loss, self._evaluated = loss, evaluated
        self._found = brought.networks(network, self._options)
        first = self._load(next(iter(self._found.load)))
        self._data = data = _data(x, y, task, first, labels, options or {})
        self._x, self._y = data.x, data.y
        if self._found.preprocess:
            self._x = self._found.preprocess(self._x * 255 if data.pixels else self._x)
        self.name, self.examples = self._found.name, data.name
        self.model, self.loss, end = self._with_logits(first)
        evidence = Evidence(self.model, self._x, self._y, loss=self.loss, examples=None)
        self._x, self._y = evidence.x, evidence.y
        self.optimizer = getattr(first, "optimizer", None)
        self._say(end)
        self._networks = self._by_number() if len(self._found.load) > 1 else None
        if self._networks is None:
            self.digest, self.folds = _digest(self.model), _folds(folds, len(self._y))
            self.seeds = tuple(range(self.folds))
        else:
            _check_no_folds(folds, len(self._networks))
            self.digest, self.folds = structure_digest(self.model), None
            self.seeds = tuple(self._networks)
        self._parts = divided(self._y, 2 * (self.folds or 1))
        self.chance, classes = _chance(
            self.loss, self._y, structure.forward(self.model, examples.take(self._x, slice(1))).shape
        )
        self.about = {
            "networks_from": self._found.where or f"the {type(first).__name__} {first.name}", "classes": classes,
            "data_sha256": {self.examples: data.digest}, "xla": structure.xla(self.model),
        }  # fmt: skip
        self.ready()
        self.few = examples.take(self.scored[0], slice(unfit.EXAMPLES)), self.scored[1][: unfit.EXAMPLES]

    @property
    def where(self):
        """How another process finds the same: dict, or None."""
        if self._found.where is None or self._data.where is None or not isinstance(self._loss, (str, type(None))):
            return None
        options = {"network_options": self._options, "loss": self._loss, "folds": self.folds}
        return {"network": self._found.where, **self._data.where, **{k: v for k, v in options.items() if v}}

    def begin(self, seed):
        """Take the examples of a fold, or make the model the network of this number."""
        if self._networks is None:
            self.fold, self.identity = f"{seed}/{self.folds}", self.digest
        else:
            model, *_ = self._with_logits(self._load(self._networks[seed]))
            if _number(_digest(model)) != seed:
                raise ValueError(
                    f"Expected {self._networks[seed]} to hold the weights that it had when this began; it has changed. "
                    "Begin again."
                )
            training.assign(_weights(self.model), training.values(_weights(model)))
            self.fold, self.identity = None, _digest(self.model)
        self._take(self.seeds.index(seed) if self._networks is None else 0)

    def reach(self, epoch, measures):
        """Return the digest of the weights, which are what they are."""
        return _digest(self.model)

    def ready(self):
        """Take examples of which some measure may say that it cannot score the network by them."""
        self._take(0)

    def untrained(self, epochs, measures):
        """Return 0: nothing is trained."""
        return 0

    def seconds_of_an_epoch(self, seed):
        """Return 0.0, likewise."""
        self.ready()
        return 0.0

    def _load(self, name):
        return self._found.load[name](self._loss is None)

    def _with_logits(self, model):
        structure.forward(model, examples.take(self._x, slice(1)))  # or it says what does not fit
        loss = Evidence(model, self._x, self._y, loss=self._loss, examples=None).loss
        return ends.as_logits(model, loss, self._found.own)

    def _say(self, end):
        if end:
            warnings.warn(
                f"The {end} at the end of {self.name} is taken off: measures and losses are of the logits, by "
                f"{type(self.loss).__name__}(from_logits=True). The network itself is left as it is.",
                stacklevel=4,
            )
        kept = [v for layer in structure.flat_layers(self.model) for v in layer._trainable_variables]
        frozen = sum(math.prod(v.shape) for v in {id(v): v for v in kept}.values() if not v.trainable)
        if frozen:
            part = sum(math.prod(v.shape) for v in self.model.trainable_variables)
            warnings.warn(
                f"Of {self.name}, {frozen:,} weights are frozen and take no part, beside {part:,} that are scored and "
                "replaced. Set trainable = True for them if they are meant too.",
                stacklevel=4,
            )

    def _by_number(self):
        """Give every network a number that follows from its weights: {number: its name}."""
        found, structures = {}, set()
        for name in self._found.load:
            model, *_ = self._with_logits(self._load(name))
            structures.add(structure_digest(model))
            number = _number(_digest(model))
            if len(structures) > 1:
                raise ValueError(
                    f"Expected networks of one structure, received {name}, whose layers differ from those of "
                    f"{next(iter(self._found.load))}. Put each structure into a folder of its own."
                )
            if number in found:
                raise ValueError(f"Expected each network once; {found[number]} and {name} have the same weights.")
            found[number] = name
        return found

    def _take(self, block):
        scored, evaluated = self._parts[2 * block], self._parts[2 * block + 1][: self._evaluated]
        self.scored, self.evaluated = (
            (examples.take(self._x, rows), self._y[rows]) for rows in (scored, evaluated)
        )  # fmt: skip


def divided(y, parts):
    """Divide examples into disjoint parts of the same size with the same fraction of each label, to within one example.

    Args:
        y: array (examples, ...). Where it is not one label an example, the parts are drawn without regard to it.
        parts: int. Up to parts - 1 examples are left out.

    Returns:
        list of int arrays, ascending: the places of their examples.
    """
    order = draws.generator(0, "folds").permutation(len(y))[: len(y) // parts * parts]
    if np.issubdtype(y.dtype, np.integer) and y.size == len(y):
        order = order[np.argsort(y.reshape(-1)[order], kind="stable")]
    return [np.sort(order[part::parts]) for part in range(parts)]


def _data(x, y, task, model, labels, options):
    if (x is None) == (task is None):
        raise ValueError(
            "Expected either examples x (and y), or a task whose test set is taken; received "
            f"{'neither' if task is None else 'both'}."
        )
    if x is None:
        return brought.of_task(task, labels, options)
    if labels is not None or options:
        raise ValueError("Expected labels and options only with a task, received them with x.")
    return brought.read(x, y, model)


def _folds(folds, count):
    if folds is not None:
        checks.whole(2)("folds", folds)
    found = folds or min(FOLDS, count // LEAST)
    if found < 2 or count // found < LEAST:
        raise ValueError(
            f"Expected at least {LEAST} examples in each of {max(found, 2)} folds or more, half of them to score on "
            f"and half to evaluate; received {count} examples. Give more{' or fewer folds' if found > 2 else ''}."
        )
    return found


def _check_no_folds(folds, count):
    if folds is not None:
        raise ValueError(
            f"Expected no folds with several networks, which are the blocks themselves; received folds={folds} and "
            f"{count} networks. Leave folds out, or name one of the networks."
        )


def _chance(loss, y, shape):
    """Return what guessing gives, None where that is not known: dict; and the number of classes, likewise."""
    try:
        kind = losses.believes(loss)
    except ValueError:
        kind = None
    chance, accuracy, classes = None, None, None
    if loss.reduction == "sum" and math.prod(shape[1:-1]) > 1:
        kind = None
    if kind in ("classes", "one-hot classes"):
        classes = shape[-1]
        chance, accuracy = math.log(classes), 1 / classes
    elif kind == "binary":
        chance, accuracy = math.log(2), 0.5
    elif kind == "values" and loss.reduction != "sum":
        chance = float(np.mean((y - y.mean(axis=0)) ** 2))
    return {"chance_loss": chance, "chance_accuracy": accuracy}, classes


def _weights(model):
    return [*model.trainable_variables, *(v for v in model.weights if not v.trainable)]


def _digest(model):
    arrays = training.values(_weights(model))
    return networks.digest({f"model/{number:05d}": array for number, array in enumerate(arrays)})


def _number(digest):
    return int(digest[1:8], 16)
