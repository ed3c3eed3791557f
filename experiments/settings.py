"""Settings of runs: checked once, written beside the results, and naming them."""

import dataclasses
import hashlib
import json
import pathlib
import re
from collections.abc import Sequence

import numpy as np

import aggregation
import importance
import tasks
import thresholding
from tasks import sequences


class Settings:
    """What the settings of all jobs share: a name, and a form for JSON. Subclasses are frozen dataclasses.

    Attributes:
        VARIED: frozenset of str. The fields that are columns of every row, and so no part of the name.
        NAMED_BY: tuple of str. The fields that the name begins with.
    """

    VARIED = frozenset({"seeds"})
    NAMED_BY = ("task", "model")

    @property
    def name(self):
        """The run's name: what it is about and a hash of the settings that differ from the defaults.

        A setting that is added later has a default that changes nothing, so earlier runs keep their names.
        """
        defaults = _plain(
            {
                field.name: field.default_factory() if field.default is dataclasses.MISSING else field.default
                for field in dataclasses.fields(self)
                if field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
            }
        )
        if "thresholds" in defaults:
            defaults["thresholds"] = list(_thresholds(defaults["thresholds"]))
        given = {
            key: value
            for key, value in self.as_dict().items()
            if key not in self.VARIED and value != defaults.get(key)
        }  # fmt: skip
        digest = hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()
        return "-".join([*(getattr(self, field) for field in self.NAMED_BY), digest[:8]])

    def as_dict(self):
        """Return the settings as JSON knows them."""
        return _plain(dataclasses.asdict(self))


@dataclasses.dataclass(frozen=True)
class GridSettings(Settings):
    """What a threshold grid does. Every field but `seeds` decides the run's name.

    Attributes:
        task: str. A file in `tasks/`.
        model: str. A name among the task's models, or "custom-<hash>" for a model of the user's.
        measures: tuple of str. Files in `importance/`, with options if wanted ("mas:outputs=logits"). None: all.
        levels: tuple of str. Files in `aggregation/`.
        reductions: tuple of str. How a group's importance comes from its members'.
        scopes: tuple of str. "layer" and/or "model".
        fill: str. "noise", "zero" or "initial".
        thresholds: tuple of float, ascending, from 0 to 1. A whole number n means n of them, evenly spaced.
        epochs: int. Length of the training.
        every: int. Epochs from one checkpoint to the next; the last epoch is always one.
        batch_size: int. Of the training.
        optimizer: str. A Keras optimizer's name.
        learning_rate: float.
        optimizer_options: dict. Further arguments of the optimizer, such as {"weight_decay": 0.01}.
        labels: tuple of int or None. The subset of labels; None: all.
        validation: float or "test". Fraction of the training data held out, or the published protocol.
        variables: "all" or tuple of str. Roles of the variables that take part: "kernel", "bias", "gamma", "beta".
        examples: int or None. Training examples that measures look at; None: all.
        scored_on: str. "training", or "validation" for the protocol that scores on the examples that are evaluated.
        evaluated: int or None. Validation examples that losses are measured on, the first ones; None: all.
        options: dict. Options of the task.
        seeds: tuple of int. One trial each.
    """

    task: str
    model: str
    measures: tuple | None = None
    levels: tuple = ("weight", "unit")
    reductions: tuple = ("mean",)
    scopes: tuple = ("layer",)
    fill: str = "noise"
    thresholds: tuple = 21
    epochs: int = 5
    every: int = 1
    batch_size: int = 100
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    labels: tuple | None = None
    validation: float | str = 0.1
    variables: str | tuple = "all"
    examples: int | None = 5000
    scored_on: str = "training"
    evaluated: int | None = None
    options: dict = dataclasses.field(default_factory=dict)
    seeds: tuple = (0,)
    optimizer_options: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        put = object.__setattr__
        put(self, "thresholds", _thresholds(self.thresholds))
        if self.measures is None:
            put(self, "measures", importance.names())
        for name in ("measures", "levels", "reductions", "scopes", "seeds"):
            put(self, name, _several(name, getattr(self, name)))
        for name, whole in (("labels", None), ("variables", "all")):
            value = getattr(self, name)
            if value is not whole and not (isinstance(value, str) and value == whole):
                put(self, name, _several(name, value))
        _check_names("task", (self.task,), tasks.names())
        _check_names("level", self.levels, aggregation.names())
        put(self, "measures", tuple(importance.load(measure).name for measure in self.measures))
        for name, choices in (("reductions", thresholding.REDUCTIONS), ("scopes", thresholding.SCOPES)):
            for value in getattr(self, name):
                thresholding.check_choice(name, value, tuple(choices))
        thresholding.check_choice("fill", self.fill, thresholding.FILLS)
        thresholding.check_choice("scored_on", self.scored_on, ("training", "validation"))
        for name in ("epochs", "every", "batch_size", "examples", "evaluated"):
            _check_count(name, getattr(self, name), optional=name in ("examples", "evaluated"))
        for seed in self.seeds:
            _check_count("seeds", seed, least=0)
        if not self.learning_rate > 0:
            raise ValueError(f"Expected a learning_rate above 0, received {self.learning_rate!r}.")

    @property
    def checkpoints(self):
        """The epochs at which the grid is evaluated: every `every`, and the last."""
        return sorted({*range(self.every, self.epochs + 1, self.every), self.epochs})


PENALTIES = ("plain", "stabilized", "decoupled")
PROTOCOLS = ("honest", "published")


@dataclasses.dataclass(frozen=True)
class SequentialSettings(Settings):
    """What a run of sequential learning does. Measures, penalties, strengths and seeds are no part of its name.

    Attributes:
        sequence: str. A file in `tasks/sequences/`.
        model: str. A name among the models of the sequence's first task, or "custom-<hash>" for one of the user's.
        measures: tuple of str. Files in `importance/`, with options if wanted ("mas:outputs=logits").
        penalties: tuple of str. Among "plain", "stabilized" and "decoupled".
        strengths: tuple of float, above 0. Of the penalty (strength / 2) * sum Omega (w - w*)^2.
        ends: bool. Whether to run the two ends too: strength 0 (measure "none") and all tasks at once ("joint").
        epochs: int. For each task.
        batch_size: int.
        optimizer: str. A Keras optimizer's name.
        learning_rate: float.
        optimizer_options: dict. Further arguments of the optimizer.
        protocol: str. "honest": a tenth of the training data is held out, so that strengths are chosen on it and
            reported on the test data; every run starts with a new optimizer; a trajectory measure sees the task's own
            gradient; `examples` are drawn from the training data. "published": all training data are trained on and
            validation is on the test data; the optimizer's state goes on from the run of one seed to that of the next;
            a trajectory measure sees the penalised gradient; `examples` are the last ones of the training data; Adam's
            epsilon is 1e-8 if `optimizer_options` does not say otherwise. One thing is not as published: Synaptic
            Intelligence is at least 0, as in its own paper, where theirs lets a negative one push a weight away.
        examples: int or None. Training examples that measures look at; None: all.
        decay: float. See `consolidation.ElasticWeightConsolidation`.
        separate: bool. Likewise.
        options: dict. Options of the sequence.
        seeds: tuple of int. One run each; for the published protocol 0, 1, 2, ..., since what a run gives depends on
            those before it.
        replicas: int. How many runs go side by side, on JAX; see `experiments.replicas`. No part of the name: the runs
            are the same.

    References:
        The published protocol: Kutalev and Lapina, https://arxiv.org/abs/2109.10021, 2021. Its strengths for the plain
        penalty, which it writes without the 1/2, are half of those here; those for the stabilised one are the same.
    """

    VARIED = frozenset({"seeds", "measures", "penalties", "strengths", "ends", "replicas"})
    NAMED_BY = ("sequence", "model")

    sequence: str
    model: str
    measures: tuple = ()
    penalties: tuple = ("plain", "stabilized")
    strengths: tuple = ()
    ends: bool = True
    epochs: int = 6
    batch_size: int = 100
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    optimizer_options: dict = dataclasses.field(default_factory=dict)
    protocol: str = "honest"
    examples: int | None = 5000
    decay: float = 1.0
    separate: bool = False
    options: dict = dataclasses.field(default_factory=dict)
    seeds: tuple = (0,)
    replicas: int = 1

    def __post_init__(self):
        put = object.__setattr__
        _check_names("sequence", (self.sequence,), sequences.names())
        thresholding.check_choice("protocol", self.protocol, PROTOCOLS)
        _check_protections(self, needed=not self.ends)
        for name in ("epochs", "batch_size", "examples", "replicas"):
            _check_count(name, getattr(self, name), optional=name == "examples")
        if self.protocol == "published" and list(self.seeds) != list(range(len(self.seeds))):
            raise ValueError(
                "Expected seeds 0, 1, 2, ... for the published protocol, in which the optimizer's state goes on from "
                f"each run to the next; received {list(self.seeds)}. Give a range: the runs that are there are kept."
            )
        if not self.learning_rate > 0:
            raise ValueError(f"Expected a learning_rate above 0, received {self.learning_rate!r}.")
        if not 0 <= self.decay <= 1:
            raise ValueError(f"Expected decay from 0 to 1, received {self.decay!r}.")
        if self.protocol == "published" and self.optimizer.lower() == "adam":
            put(self, "optimizer_options", {"epsilon": 1e-8, **self.optimizer_options})


@dataclasses.dataclass(frozen=True)
class FineTuningSettings(Settings):
    """What a run of fine-tuning does. Measures, penalties, strengths and seeds are no part of its name.

    Attributes:
        old: str. The text that the model knows: a file in `tasks/texts/`, or the path of a text file.
        new: str. The text that it is fine-tuned on, likewise.
        model: str. "gpt", or a GPT-2 preset of KerasHub, by name or folder.
        measures: tuple of str. Files in `importance/`, with options if wanted; none that watches training.
        penalties: tuple of str. Among "plain", "stabilized" and "decoupled".
        strengths: tuple of float, above 0. Of the penalty (strength / 2) * sum Omega (w - w*)^2.
        scaled: bool. Whether importances are divided by their mean over all weights, so that one grid of strengths
            serves all measures.
        sequence_length: int. Tokens.
        batch_size: int. Sequences.
        pretraining_steps: int or None. On the old text; None: 1500, or 0 for a preset.
        pretraining_rate: float. Learning rate (Adam).
        steps: int. Of fine-tuning.
        every: int. Steps from one evaluation to the next; the last step is always one.
        optimizer: str. A Keras optimizer's name, for fine-tuning.
        learning_rate: float. Of it.
        optimizer_options: dict. Further arguments of it.
        examples: int. Sequences of the old text that measures look at.
        per_token: bool. Whether an example is one token of a sequence; else the whole sequence, with the mean of its
            tokens' losses.
        evaluated: int. Sequences of each text's held-out part that losses are measured on.
        model_options: dict. Of "gpt"; see `tasks.texts.language`.
        seeds: tuple of int. Each with its own pretraining.
    """

    VARIED = frozenset({"seeds", "measures", "penalties", "strengths"})
    NAMED_BY = ("about",)

    old: str = "prose"
    new: str = "python"
    model: str = "gpt"
    measures: tuple = ()
    penalties: tuple = PENALTIES
    strengths: tuple = ()
    scaled: bool = True
    sequence_length: int = 64
    batch_size: int = 32
    pretraining_steps: int | None = None
    pretraining_rate: float = 2e-3
    steps: int = 150
    every: int = 15
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    optimizer_options: dict = dataclasses.field(default_factory=dict)
    examples: int = 512
    per_token: bool = False
    evaluated: int = 256
    model_options: dict = dataclasses.field(default_factory=dict)
    seeds: tuple = (0,)

    def __post_init__(self):
        put = object.__setattr__
        for name in ("old", "new", "model"):
            put(self, name, str(getattr(self, name)))
        _check_protections(self)
        for name in ("sequence_length", "batch_size", "steps", "every", "examples", "evaluated"):
            _check_count(name, getattr(self, name))
        _check_count("pretraining_steps", self.pretraining_steps, least=0, optional=True)
        for name in ("pretraining_rate", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"Expected a {name} above 0, received {getattr(self, name)!r}.")
        watching = [m for m in self.measures if importance.load(m).definition.observe is not None]
        if watching:
            raise ValueError(
                f"Expected measures that need no record of the training, since the pretrained model is kept without "
                f"one; received {', '.join(watching)}."
            )

    @property
    def about(self):
        """What the name begins with: the model, and what becomes of it."""
        stems = [re.sub(r"[^A-Za-z0-9.]", "_", pathlib.Path(name).stem) for name in (self.model, self.old, self.new)]
        return "{}-{}-to-{}".format(*stems)

    @property
    def checkpoints(self):
        """The steps after which both texts are evaluated: every `every`, and the last."""
        return sorted({*range(self.every, self.steps + 1, self.every), self.steps})


def check_strengths(strengths):
    """Return strengths as a tuple of floats.

    Raises:
        ValueError: one of them is not above 0, or stands twice.
    """
    values = tuple(float(strength) for strength in strengths)
    if not all(0 < value < np.inf for value in values) or len(set(values)) < len(values):
        raise ValueError(
            f"Expected strengths above 0, each once, received {list(strengths)}. Strength 0 is run with ends=True."
        )
    return values


def _check_protections(settings, needed=False):
    """Check measures, penalties, strengths and seeds, and put them into the form that rows have."""

    def put(name, values):
        object.__setattr__(settings, name, values)

    # Without measures there are only runs without a penalty, and no penalty or strength is looked at.
    for name in ("measures", "penalties", "strengths") if len(settings.measures) or needed else ():
        put(name, _several(name, getattr(settings, name)))
    put("measures", tuple(importance.load(measure).name for measure in settings.measures))
    for penalty in settings.penalties:
        thresholding.check_choice("penalties", penalty, PENALTIES)
    put("strengths", check_strengths(settings.strengths))
    put("seeds", _several("seeds", settings.seeds))
    for seed in settings.seeds:
        _check_count("seeds", seed, least=0)


def _plain(value):
    """Return a value as JSON knows it: tuples as lists, NumPy's numbers as Python's."""
    return json.loads(json.dumps(value, default=np.generic.item))


def _thresholds(given):
    if isinstance(given, (int, np.integer)) and not isinstance(given, bool):
        _check_count("thresholds", given, least=2)
        return tuple(np.linspace(0, 1, int(given)).round(10).tolist())
    values = np.asarray(given, dtype=float)
    if values.ndim != 1 or not len(values) or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"Expected thresholds from 0 to 1 (fractions of weights replaced), received {given!r}.")
    if (np.diff(values) <= 0).any():
        raise ValueError(f"Expected thresholds in ascending order, each once, received {given!r}.")
    return tuple(values.tolist())


def _several(name, values):
    if isinstance(values, str) or not isinstance(values, (Sequence, range, np.ndarray)):
        raise ValueError(f"Expected {name} to be a list, received {values!r}. Write [{values!r}].")
    values = tuple(v.item() if isinstance(v, np.generic) else v for v in values)
    if not values or len(set(values)) < len(values):
        raise ValueError(f"Expected {name} to be a list of at least one, each once; received {list(values)!r}.")
    return values


def _check_names(what, given, known):
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ValueError(
            f"Expected each {what} to be one of {', '.join(known)}; received {', '.join(map(repr, unknown))}."
        )


def _check_count(name, value, least=1, optional=False):
    if optional and value is None:
        return
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
        raise ValueError(f"Expected {name} to be a whole number of at least {least}, received {value!r}.")
