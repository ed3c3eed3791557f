"""The main job: replace the least important weights of a network and measure what is lost.

For each network and checkpoint, each measure x level x reduction x scope ranks the weights once; each threshold then
replaces those that rank below it, and one row says what the validation loss became. Networks are trained here, one for
each seed (`experiments.trained_here`), or were trained elsewhere (`experiments.given`).
"""

import copy
import dataclasses
import difflib
import functools
import hashlib
import inspect
import re
import time
import warnings
from typing import NamedTuple

import numpy as np

import aggregation
import importance
import tasks
import thresholding
from engine import (
    checks,
    chunks,
    draws,
    elimination,
    evaluation,
    examples,
    losses,
    repair,
    structure,
    training,
    variants,
)
from experiments import enough, optimizers, oracles, parameters, unfit
from experiments.agreement import Agreement
from experiments.given import Given
from experiments.settings import Settings, a_measure, check_names
from experiments.storage.checkpoints import Checkpoints
from experiments.study import Study, second_time
from experiments.trained_here import TrainedHere, check_recorded, watching
from experiments.until import LIMIT, UNTIL, Until
from experiments.workers.desk import Desk
from importance._evidence import Evidence

KEY = ["seed", "epoch", "measure", "level", "reduction", "scope", "fill", "threshold"]
COLUMNS = [
    "run", "task", "model", "seed", "epoch", "measure", "level", "reduction", "scope", "fill", "threshold",
    "replaced_fraction", "tie_fraction", "examples", "validation_loss", "validation_loss_stderr",
    "validation_accuracy", "seconds", "network", "weights", "status",
]  # fmt: skip
_SECONDS_BETWEEN_FIGURES = 5


class _Curve(NamedTuple):
    """What a ranking is made of, and how it is evaluated; with a network, all rows of one loss-threshold curve."""

    measure: str
    level: str
    reduction: str
    scope: str
    fill: str
    calibration: str | None = None  # one for all, which the settings say
    repair: str | None = None  # none, of a grid that compares no repairs


class _Scoring(NamedTuple):
    """What decides a measure's scores of a network; `fill` is None of a measure that does not look at it."""

    measure: str
    fill: str | None = None
    calibration: str | None = None


_OF_TRAINING = (
    "model", "epochs", "every", "batch_size", "optimizer", "learning_rate", "optimizer_options", "validation", "seeds",
    "records", "until",
)  # fmt: skip
_OF_A_NETWORK = ("task", "model", "network", "loss", "folds")


def _thresholds(name, given):
    if isinstance(given, (int, np.integer)) and not isinstance(given, bool):
        return tuple(np.linspace(0, 1, checks.whole(2, 10**6)(name, given)).round(10).tolist())
    values = tuple(abs(float(value)) for value in _FRACTIONS(name, given))  # of -0.0, 0.0
    if list(values) != sorted(values):
        raise ValueError(f"Expected {name} in ascending order, received {given!r}.")
    return values


_FRACTIONS = checks.several(checks.Check("fractions of the weights, from 0 to 1", checks.number(0, 1).take))


def _fills(name, given):
    found = checks.several(thresholding.A_FILL)(name, [given] if isinstance(given, str) else given)
    return found[0] if len(found) == 1 else found


def _calibration(name, value):
    said = re.fullmatch("([a-z0-9_]+)(?::([0-9]{1,9}))?", value) if isinstance(value, str) else None
    if not said:
        raise checks.Unfit
    check_names(f"set of {name}", [said[1]], ["training", "validation", *tasks.names()])
    return said[1] if said[2] is None else f"{said[1]}:{checks.whole()(f'the examples of {name}', int(said[2]))}"


_A_CALIBRATION = checks.Check(
    "'training', 'validation' or a task, with how many examples if not all, as in 'training:5000'", _calibration
)


def _repair(name, value):
    kind, _, count = value.partition(":") if isinstance(value, str) else ("", "", "")
    if (
        kind not in repair.KINDS
        or (kind == "none" and value != kind)
        or (count and not re.fullmatch("[0-9]{1,9}", count))
    ):
        raise checks.Unfit
    return f"{kind}:{checks.whole()(f'the examples of {name}', int(count))}" if count else kind


_A_REPAIR = checks.Check(
    f"one of {', '.join(map(repr, repair.KINDS))}, with how many of the scoring examples if not all, as in "
    "'least_squares:1000'",
    _repair,
)


@dataclasses.dataclass(frozen=True)
class GridSettings(Settings):
    """What a threshold grid does. The fields in `VARIED` are columns of its rows, or change none of them; all others
    decide the run's name.

    Attributes:
        task: str. A file in `tasks/`; with a network that was trained elsewhere, also the name of the examples.
        model: str. A name among the task's models, or "custom-<hash>" for a model of the user's; or the name of a
            network that was trained elsewhere.
        measures: tuple of str. Files in `importance/`, with options if wanted ("mas:outputs=logits"). None: all that
            are for most networks.
        oracles: tuple of str. Lines that measures are held against, "greedy" and "shapley", which have rows like
            measures; see `experiments.oracles`.
        levels: tuple of str. Files in `aggregation/`.
        reductions: tuple of str. How a group's importance comes from its members'.
        scopes: tuple of str. Within what ranks are compared: "layer", "output", "2:4" (any N:M), "model", "model:lamp",
            "model:owl"; see `thresholding`.
        fill: str, or tuple of several. "noise", "zero", "initial", "mean" or "rounded:<bits>"; see
            `thresholding.replacements`.
        thresholds: tuple of float, ascending, from 0 to 1. A whole number n means n of them, evenly spaced.
        epochs: int. Length of the training.
        every: int. Epochs from one checkpoint to the next; the last epoch is always one.
        batch_size: int. Of the training.
        optimizer: str. A Keras optimizer's name.
        learning_rate: float, or dict: the configuration of a schedule of `keras.optimizers.schedules`, given as such or
            as the schedule itself. Its steps are those of the whole training.
        optimizer_options: dict. Further arguments of the optimizer, such as {"weight_decay": 0.01}.
        labels: tuple of int or None. The subset of labels; None: all.
        validation: float or "test". Fraction of the training data held out, or the published protocol.
        variables: "all" or tuple of str. Roles of the variables that take part: "kernel", "bias", "gamma", "beta".
        examples: int or None. Training examples that measures look at; None: all.
        scored_on: str. "training", or "validation" for the protocol that scores on the examples that are evaluated.
        calibrations: tuple of str or None. From which examples scores come, if several are compared: "training",
            "validation" or another task, whose training examples are taken, each with how many of them if not all:
            "training:5000", "fashion_mnist:500". Rows have the column `calibration` then, and these stand for
            `examples` and `scored_on`. None: all scores come from what these two say, and there is no such column.
        repairs: tuple of str. What is done to the rest of the network after weights were replaced, before it is
            evaluated: "none", "bias", "least_squares", "batch_norm" (see `engine.repair`), from the examples that
            scores come from; with how many of these if not all: "least_squares:1000". Rows have the column `repair`,
            unless ("none",) is all. An oracle's order is found without repair.
        evaluated: int, "auto" or None. Validation examples that losses are measured on, the first ones; None: all.
            "auto": as many as the first network shows to be enough for the ordering, drawn by the seed; see
            `experiments.enough`.
        options: dict. Options of the task.
        seeds: tuple of int. One trial each.
        records: bool. Whether the training is recorded for all measures that watch it, so that any can be asked later;
            without, an epoch takes less time and those measures cannot be had.
        sweep: bool. Whether all thresholds of a ranking are evaluated in one sweep where the network begins with a
            dense layer: less work where thresholds, examples and weights are many, more where not (see
            `engine.evaluation.sweeping_pays`), and rounded otherwise. Thresholds may be added to a run, whose rows
            then are what they would have been at once: so it is not chosen by their number.
        network: str or None. A digest of the network that was trained elsewhere, or of the structure of several; None:
            networks are trained here. With one, what training needs has no meaning, and `fill` is no "initial".
        loss: str or None. The loss of such a network, with its options.
        folds: int or None. Into how many folds the examples are divided, if there is one such network.
        until: str or None. "settled": after the seeds, further ones follow, one after another, until every pair of
            measures is told apart or practically equal at the last checkpoint, at every level; see `experiments.until`.
        limit: int. The most networks that this may take.
    """

    VARIED = frozenset(
        {
            "measures", "levels", "reductions", "scopes", "fill", "thresholds", "epochs", "every", "seeds", "records",
            "until", "limit", "calibrations", "oracles", "repairs",
        }
    )  # fmt: skip
    WITH_A_COLUMN = frozenset({"calibrations", "repairs"})
    FIRST_VARIED = frozenset({"seeds", "until", "limit"})
    CHECKS = Settings.CHECKS | {
        "measures": checks.optional(checks.several(a_measure)),
        "levels": checks.several(checks.text),
        "reductions": checks.several(checks.choice(*thresholding.REDUCTIONS)),
        "scopes": checks.several(checks.Check("a scope", thresholding.check_scope)),
        "fill": _fills,
        "thresholds": _thresholds,
        "learning_rate": optimizers.A_LEARNING_RATE,
        "labels": tasks.LABELS,
        "validation": tasks.VALIDATION,
        "variables": checks.either("all", checks.several(checks.text)),
        "scored_on": checks.choice("training", "validation"),
        "evaluated": checks.either("auto", checks.optional(checks.whole())),
        "oracles": checks.several(oracles.AN_ORACLE, least=0),
        "calibrations": checks.optional(checks.several(_A_CALIBRATION)),
        "repairs": checks.several(_A_REPAIR),
        "folds": checks.optional(checks.whole(2)),
        "until": checks.optional(checks.choice(*UNTIL)),
        "limit": checks.whole(1),
    }

    task: str
    model: str
    measures: tuple | None = None
    levels: tuple = ("weight", "unit")
    reductions: tuple = ("mean",)
    scopes: tuple = ("layer",)
    fill: str | tuple = "noise"
    thresholds: tuple = _thresholds("thresholds", 21)
    epochs: int = 5
    every: int = 1
    batch_size: int = 100
    optimizer: str = "adam"
    learning_rate: float | dict = 1e-3
    labels: tuple | None = None
    validation: float | str = 0.1
    variables: str | tuple = "all"
    examples: int | None = 5000
    scored_on: str = "training"
    evaluated: int | str | None = None
    options: dict = dataclasses.field(default_factory=dict)
    seeds: tuple = (0,)
    optimizer_options: dict = dataclasses.field(default_factory=dict)
    records: bool = True
    sweep: bool = False
    network: str | None = None
    loss: str | None = None
    folds: int | None = None
    until: str | None = None
    limit: int = LIMIT
    calibrations: tuple | None = None
    oracles: tuple = ()
    repairs: tuple = ("none",)

    def __post_init__(self):
        super().__post_init__()
        put = object.__setattr__
        if self.measures is None:
            every = importance.general()
            watch = [] if self.records else watching(every)
            put(self, "measures", tuple(name for name in every if name not in watch))
        put(self, "optimizer_options", optimizers.check(self.optimizer, self.optimizer_options))
        if self.network is None:
            check_names("task", (self.task,), [*tasks.names(), *([self.task] if tasks.is_of_arrays(self.task) else [])])
        check_names("level", self.levels, aggregation.names())
        for scope in self.scopes:
            thresholding.check_thresholds(scope, self.thresholds)
        oracles.check(self.oracles, self.levels, self.scopes)
        check_recorded(self.measures, self.records)
        if self.until and len(self.measures) < 2:
            raise ValueError(
                f'Expected at least two measures to compare with until="{self.until}", received '
                f"{', '.join(self.measures)}. Name more, or leave until out."
            )
        if self.until and self.limit < len(self.seeds):
            raise ValueError(
                f"Expected a limit of at least the {len(self.seeds)} seeds that are asked for, received {self.limit}. "
                "Raise it, or ask for fewer seeds."
            )
        on_those = "validation" in {self.scored_on, *(name.partition(":")[0] for name in self.calibrations or ())}
        if self.evaluated == "auto" and (self.network is not None or on_those):
            there = "a network that was trained elsewhere" if self.network else "scores from validation examples"
            raise ValueError(
                f'Expected a number of examples or None for evaluated with {there}, received "auto", which needs '
                "networks that are trained here and scored on other examples. Give the number."
            )
        if self.evaluated == "auto" and self.compares_repairs:
            raise ValueError(
                'Expected a number of examples or None for evaluated with repairs, received "auto", which looks at '
                "networks without repair. Give the number."
            )
        if self.calibrations and (self.scored_on, self.examples) != (GridSettings.scored_on, GridSettings.examples):
            raise ValueError(
                "Expected the examples that scores come from in calibrations alone, received "
                f"scored_on={self.scored_on!r} and examples={self.examples!r} beside it. Leave these two out."
            )
        others = [name for name in self.calibrations or () if name.partition(":")[0] not in ("training", "validation")]
        if self.network is not None and others:
            raise ValueError(
                f'Expected calibrations on "training" or "validation" examples, received {", ".join(others)}: other '
                "tasks' examples are only for networks that are trained here."
            )
        if self.network is not None and "initial" in self.fills:
            raise ValueError(
                'Expected a fill such as "noise" or "zero", received "initial": of a network that was trained '
                "elsewhere, the weights before training are not known."
            )

    @property
    def fills(self):
        """What replaces a weight: tuple of str, of one or several."""
        return (self.fill,) if isinstance(self.fill, str) else self.fill

    @property
    def compares_repairs(self):
        """Whether rows have the column `repair`: bool."""
        return self.repairs != ("none",)

    @property
    def checkpoints(self):
        """The epochs at which the grid is evaluated: every `every`, and the last; 0 of what is not trained here."""
        return [0] if self.network else sorted({*range(self.every, self.epochs + 1, self.every), self.epochs})

    def as_dict(self):
        """Return the settings as JSON knows them; without those of training, where there is none."""
        found = super().as_dict()
        return {name: v for name, v in found.items() if not (self.network and name in _OF_TRAINING[1:])}


class Estimate(NamedTuple):
    """What a grid will cost; printing it gives a sentence.

    Attributes:
        asked: int. Cells of the grid.
        done: int. Cells that are in the CSV already.
        distinct: int. Evaluations that all cells together need, about: thresholds that replace the same weights are
            evaluated once.
        seconds: float. Time for what is missing, from a short trial on this machine; with `evaluated="auto"`, until it
            is known how many examples are enough, as if all were needed.
    """

    asked: int
    done: int
    distinct: int
    seconds: float

    def __str__(self):
        return (
            f"{self.asked:,} evaluations asked for, {self.done:,} of them done; about {self.distinct:,} are distinct. "
            f"What is missing takes about {self.seconds / 60:.1f} minutes here."
        )


class Grid(Study):
    """A threshold grid: its settings, its files, and the compiled functions that it needs.

    Args:
        task: str, or what `tasks.from_arrays` gave. A file in `tasks/`, or arrays of one's own.
        model: str, keras.Model, or a function without arguments that returns a new keras.Model. A model of one's own
            is cloned for every seed, with new weights, and trained.
        out: str or path. The folder for the CSV, its settings file, `networks/` and `checkpoints/`.
        network, x, y, loss, network_options: a network that was trained elsewhere, and examples for it instead of a
            task; see `experiments.given.Given`. Nothing is trained then; seeds are folds of the examples.
        **settings: see `GridSettings`.

    Attributes:
        settings: GridSettings.
        store: experiments.storage.store.Store. How far the measures' scores themselves agree is in `<out>/agreement/`;
            see `experiments.agreement`.
        chance: dict. The `chance_loss` and the `chance_accuracy` (None for regression) of guessing.
        timings: dict. Seconds of the last `run` spent "training", "scoring", "repairing", "evaluating", and in
            "total".

    Raises:
        ValueError: a setting that cannot be; a model that does not fit the task.
        OSError: a folder that cannot be written.
    """

    SETTINGS, KEY, COLUMNS, FIRST_COLUMNS = GridSettings, KEY, COLUMNS, [*COLUMNS[:-3], COLUMNS[-1]]
    UNIT, PARTS = "cell", ("training", "scoring", "repairing", "evaluating")

    def __init__(
        self, task=None, model=None, out="runs", network=None, x=None, y=None, loss=None, network_options=None,
        **settings,
    ):  # fmt: skip
        out, task = checks.path("out", out), tasks.name_of(task)
        given = {"x": x, "y": y, "loss": loss, "network_options": network_options}
        if network is None:
            _check_left_out({**given, "folds": settings.get("folds")}, "a network that was trained elsewhere: network=")
            first, new_model = self.choose(model, self.load_task, task=task, **settings)
            self._source = TrainedHere(self.settings, self.load_task, new_model, out, first)
        else:
            _check_left_out(
                {name: {"model": model, **settings}.get(name) for name in _OF_TRAINING},
                "networks that are trained here",
            )
            self._source = self._take(network, task, given, settings)
            self.COLUMNS = [*COLUMNS[:-1], "fold", COLUMNS[-1]]
        for column in [
            *(["calibration"] if self.settings.calibrations else []),
            *(["repair"] if self.settings.compares_repairs else []),
        ]:
            self.KEY, place = [*self.KEY[:-1], column, self.KEY[-1]], self.COLUMNS.index("threshold")
            self.COLUMNS = [*self.COLUMNS[:place], column, *self.COLUMNS[place:]]
        self._source.tell = self.begun
        self._model, self._loss, self.chance = self._source.model, self._source.loss, self._source.chance
        if network is not None and settings.get("measures") is None:
            self._leave_out_what_needs_training()
        s = self.settings
        self._evaluator = self._new_evaluator()
        groups = {level: aggregation.load(level).groups(self._model) for level in s.levels}
        self._partitions = {
            (level, scope): thresholding.Partition(groups[level], self._model, scope, s.variables)
            for level in s.levels
            for scope in dict.fromkeys((*thresholding.SCOPES, *s.scopes))
        }
        self._until = Until(self.chance)
        if s.compares_repairs:
            few = examples.standardized(self._source.few[0], self._model)
            for wanted in s.repairs:
                repair.Repair(self._model, few, wanted.partition(":")[0])  # or it says that there is nothing to repair
            self._source.about["unrepaired"] = repair.left_out(self._model, few)
        self.open(out, **self.chance, **self._source.about)
        folder = self.store.folder / "agreement"
        of_scores = {at: made for at, made in self._partitions.items() if at[1] in thresholding.SCOPES}
        self._agreement = Agreement(folder, self.store.name, s, of_scores, self.store.schema)
        self._tried_again, self._said, self._others = set(), set(), {}
        for calibration in s.calibrations or ():
            self._examples(s.seeds[0], calibration)  # or it says what does not fit

    def _new_evaluator(self):
        """Return what evaluates the model; of one that jobs share, that of the earlier ones."""

        def make():
            return evaluation.Evaluator(self._model, self._loss, *self._source.evaluated, sweep=self.settings.sweep)

        if self.settings.network:
            return make()
        evaluator = chunks.kept(self._model, "evaluator", make)
        evaluator.set_examples(*self._source.evaluated)
        return evaluator

    def _take(self, network, task, given, settings):
        """Take a network that was trained elsewhere, and the settings that follow from it."""
        asked = {name: settings[name] for name in ("folds", "labels", "options", "evaluated") if name in settings}
        source = Given(network, task=task, **given, **asked)
        said = {**settings, "folds": source.folds, "seeds": source.seeds, "loss": losses.described(source.loss)}
        self.settings = GridSettings(task=source.examples, model=source.name, network=source.digest, **said)
        return source

    def _leave_out_what_needs_training(self):
        """Ask for all measures but those that need what only training shows, if that was not recorded."""
        every = self.settings.measures
        doubtful = [m for m in every if importance.load(m).definition.needs in ("trajectory", "optimizer")]
        left = self.try_measures(doubtful)
        left = [name for name in doubtful if left[name]]
        if left:
            warnings.warn(
                f"Left out, for they need what only training shows: {', '.join(left)}. Name a measure to hear why.",
                stacklevel=4,
            )
            self.asking(measures=[name for name in every if name not in left])

    def estimate(self):
        """Count the evaluations and time a few of them, before anything long starts.

        Returns:
            Estimate.
        """
        certain = {f"seed-{seed}" for seed in self._seeds()[0]}
        todo = [run for trial, runs in self.trials().items() if trial in certain for run in runs]
        asked = len(self.wanted())
        done = asked - sum(len(cells) for _, cells in todo)
        if not todo:
            return Estimate(asked, done, 0, 0.0)
        distinct = self._distinct(cells for _, cells in todo)
        epochs = {}
        for (of, epoch), _ in todo:
            epochs.setdefault(of, []).append(epoch)
        untrained = self._source.untrained(epochs, self.settings.measures)
        return Estimate(asked, done, distinct, self._time(todo[0][0][0], untrained, len(todo), distinct))

    def run(self, watch=None, progress=True, workers=1, gpus=0.0):
        """Compute the cells that are missing, writing each ranking's rows as soon as they are there.

        Safe to interrupt at any time: called again, in this process or another, it goes on from the last checkpoint.

        Args:
            watch: callable or None. Called as `watch(frame)` with all rows so far, every few seconds and at the end.
            progress: bool. Whether to show how far it is; see `experiments.progress`.
            workers: int or str. 1: this process trains the networks, one after another. More: so many processes on this
                machine. "join": this process, beside any others that join, each doing seeds that nobody else does.
                "ray:auto" or "ray:<address>": a Ray cluster.
            gpus: float. The share of a GPU that each seed takes under Ray.

        Returns:
            pandas.DataFrame. All rows of the run; with several workers the seeds stand in the order in which they were
            finished.

        Raises:
            ValueError, experiments.Busy, OSError: as for `Study.run`.
        """
        self._shown = time.monotonic()
        if self.settings.until:
            self._about["until"] = self.settings.until  # for reports, which are to know that networks were not counted
        if self.settings.evaluated == "auto" and self.missing():
            self._find_enough()
        frame = super().run(watch, progress, workers, gpus)
        self.show(at_once=True)
        # For reports of this frame, which has no settings file.
        frame.attrs.update(self.chance, anytime=bool(self.settings.until or self.store.said.get("until")))
        return frame

    @property
    def blocks(self):
        """What is compared over, as reports call it: "networks", or "splits" of the examples of one."""
        return "splits" if self.settings.folds else "networks"

    @property
    def stores(self):
        """The files that rows go to; see `experiments.workers.desk`."""
        return [self.store, self._agreement.store]

    def cells(self):
        """List what is asked for: a trial is the network of one seed, and a run one of its checkpoints."""
        return self._cells_of(self._seeds()[0])

    def _cells_of(self, seeds):
        for seed in seeds:
            for epoch in self.settings.checkpoints:
                yield f"seed-{seed}", (seed, epoch), list(self._cells(seed, epoch))

    def _seeds(self):
        """Return the seeds that are needed for certain, and those and all that may yet be: two lists."""
        done = self.store.done if self.settings.until else set()

        def complete(seed):
            return all(self.store.key_of(cell) in done for _, _, cells in self._cells_of([seed]) for cell in cells)

        return self._until.seeds(self.settings, complete, lambda seed: self.store.frame(seed=seed))

    def missing(self):
        """Count the cells that are asked for and not there."""
        return len(self.wanted() - self.store.done)

    def trials(self):
        """Return what is missing of each trial; without cells where only the agreement of scores is, which was lost.

        Seeds that may come to be needed come last: they are for workers with nothing else to do, and one who works
        alone asks anew after each.
        """
        seeds, every = self._seeds()
        found, s = self.missing_of(self._cells_of(every)), self.settings
        if not self.store.goes_on:
            return found
        unscored, lost, gone = self._unscored(), [], []
        for seed in seeds:
            runs = found[f"seed-{seed}"]
            for epoch in sorted(set(s.checkpoints) - {epoch for (_, epoch), _ in runs}):
                measures = self._compared(s.measures) - unscored.get((str(seed), str(epoch)), set())
                if self._agreement.complete(seed, epoch, measures) or (seed, epoch) in self._tried_again:
                    continue
                kept = not self._source.untrained({seed: [epoch]}, measures)
                (lost if kept else gone).append((seed, epoch))
                runs += [((seed, epoch), [])] if kept else []
            runs.sort(key=lambda run: run[0])
        self._say(lost, "is computed again")
        self._say(gone, "stays missing, for these networks are not kept; removing their rows has them trained again")
        return found

    def _compared(self, measures):
        """Return the measures whose scores are compared: those that are of the network alone, and one for each."""
        return {m for m in measures if not _looks_at_fill(m)} if not self.settings.calibrations else set()

    def _unscored(self):
        """Return the measures that could not score a network: {(seed, epoch): set}, of str."""
        found = {}
        for row in self.store.rows(replaced_fraction=float("nan")):
            found.setdefault((row["seed"], row["epoch"]), set()).add(row["measure"])
        return found

    def _say(self, checkpoints, what):
        """Warn of the agreement of scores at some checkpoints, once."""
        new = [checkpoint for checkpoint in checkpoints if (checkpoint, what) not in self._said]
        self._said |= {(checkpoint, what) for checkpoint in new}
        if new:
            warnings.warn(
                f"Rows of {self._agreement.store.path} that were there are lost, at {len(new)} checkpoints of finished "
                f"networks, such as seed {new[0][0]}, epoch {new[0][1]}. What was lost {what}.",
                stacklevel=3,
            )

    def show(self, at_once=False):
        """Show all rows so far, unless that was a moment ago."""
        if at_once or time.monotonic() - self._shown > _SECONDS_BETWEEN_FIGURES:
            super().show()
            self._shown = time.monotonic()

    def do(self, missing):
        """Train one network and evaluate what is missing of it."""
        (seed, _), _ = missing[0]
        self._progress.expect(max(self._progress.total, self._progress.done + sum(len(cells) for _, cells in missing)))
        self._trial(seed, {epoch: _by_curve(cells) for (_, epoch), cells in missing})

    def try_measures(self, measures):
        """Score a network by each measure, before any is trained here; return {measure: None, or why that failed}."""
        if not measures:
            return {}
        seed = self.settings.seeds[0]
        self._source.ready()
        fill, (calibration, *_) = self.settings.fills[0], self.settings.calibrations or (None,)
        wanted = {_scoring(_Curve(measure, "", "", "", fill, calibration)) for measure in measures}
        _, failed = self._scores_of(*self._source.few, None, seed, wanted)
        if failed:
            _, failed = self._scores(seed, set(failed))
        return dict.fromkeys(measures) | {scoring.measure: reason for scoring, reason in failed.items()}

    def description(self):
        """Return what another process needs to make the same study: dict, as JSON knows it.

        Raises:
            ValueError: a model, a network or examples of the user's, which other processes do not have.
        """
        found = super().description()
        if self.settings.network is None:
            return found
        if self._source.where is None:
            raise ValueError(
                "Expected a network and examples that other processes can read too, files or the names of a task and "
                'of a preset, received objects of this process. Use workers=1, or workers="join" in each process.'
            )
        kept = {name: v for name, v in found["settings"].items() if name not in _OF_A_NETWORK}
        return {**found, "settings": {**kept, **self._source.where}}

    def _cells(self, seed, epoch):
        s = self.settings
        for scope in s.scopes:
            for level in s.levels:
                for reduction in s.reductions:
                    for measure in (*s.measures, *s.oracles):
                        for fill in s.fills:
                            for calibration in s.calibrations or (None,):
                                for wanted in s.repairs if s.compares_repairs else (None,):
                                    curve = _Curve(
                                        measure, level, reduction, scope, fill, calibration, wanted
                                    )._asdict()
                                    for threshold in s.thresholds:
                                        yield {"seed": seed, "epoch": epoch, **curve, "threshold": threshold}

    def _find_enough(self):
        """Say on how many examples networks are evaluated: as the settings file or rows say, or a first look shows."""
        told = self._enough_as_told()
        self._source.enough = self._about["evaluated_examples"] = told or self._enough_by_a_look()
        if not told:
            with Desk(self):  # for other processes that do a part of it
                self.store.write_settings()

    def _enough_as_told(self):
        told = {self.store.said.get("evaluated_examples"), *(int(row["examples"]) for row in self.store.rows())}
        return min(told - {None}, default=None)

    @np.errstate(over="ignore", invalid="ignore")
    def _enough_by_a_look(self):
        """Compare all measures on a few examples and the first network, which is kept."""
        s, source, seed = self.settings, self._source, self.settings.seeds[0]
        source.begin(seed)
        for epoch in s.checkpoints:
            source.reach(epoch, s.measures)
        self.begun(f"seed {seed}, how many examples are enough")
        evaluator = evaluation.Evaluator(self._model, self._loss, *source.evaluated)
        curves = {}
        for cell in self._cells(seed, s.checkpoints[-1]):
            curve = _Curve(**{name: cell[name] for name in _Curve._fields})
            curves.setdefault(curve._replace(measure=None), {})[curve.measure] = curve
        wanted = {_scoring(curve) for compared in curves.values() for curve in compared.values()} - {None}
        scores, _ = self._scores(seed, wanted)
        found, thresholds = 1, np.union1d(0, s.thresholds)
        for where, compared in curves.items():
            new, moves = evaluator.place(self._replacements(seed, where.fill)), []
            for curve in compared.values():
                importances = scores.get(_scoring(curve))
                if importances is not None and training.finite(importances):
                    ranks = self._partitions[curve.level, curve.scope].rank(importances, curve.reduction, seed).ranks
                    losses_at = evaluator.losses(evaluator.place(ranks), new, thresholds)
                    moves.append(enough.influences(losses_at, thresholds, self.chance["chance_loss"]))
            found = max(found, enough.needed(moves, source.to_evaluate, len(s.seeds)))
        return found

    def _trial(self, seed, by_epoch):
        source = self._source
        source.begin(seed)
        self._evaluator.set_examples(*source.evaluated)
        self.check_rows("network", source.identity, seed=seed)
        for epoch, missing in by_epoch.items():
            together = self._measures_together(seed, epoch)
            wanted = set(filter(None, map(_scoring, missing)))
            wanted |= {_Scoring(measure) for measure in self._agreement.missing(seed, epoch, together)}
            with self.timed("training"):
                weights = source.reach(epoch, {scoring.measure for scoring in wanted})
            self.check_rows("weights", weights, seed=seed, epoch=epoch)
            of = {"network": source.identity, "weights": weights}
            of |= {"fold": source.fold} if "fold" in self.store.columns else {}
            self._evaluate_checkpoint(seed, epoch, missing, wanted, together, of)
            if not missing:  # a measure that scores no more would be asked for again and again
                self._tried_again.add((seed, epoch))
                if self._agreement.missing(seed, epoch, together):
                    self._say([(seed, epoch)], "stays missing: a measure that could score a network does so no more")

    def _measures_together(self, seed, epoch):
        """Return the measures whose scores are compared at a checkpoint, those of its rows among them.

        Returns:
            dict from (level, reduction) to a set of str.
        """
        s = self.settings
        asked = self._compared(s.measures)
        found = {(level, reduction): set(asked) for level in s.levels for reduction in s.reductions}
        rows = self.store.rows(seed=seed, epoch=epoch)
        for measure, *where in {(row["measure"], row["level"], row["reduction"]) for row in rows}:
            if tuple(where) in found and _can_be_asked(measure, s.records) and self._compared([measure]):
                found[tuple(where)].add(measure)
        return found

    @np.errstate(over="ignore", invalid="ignore")  # a network that diverged is told of in the rows' status
    def _evaluate_checkpoint(self, seed, epoch, missing, wanted, together, of):
        s = self.settings
        self.begun(f"seed {seed}, epoch {epoch}, scoring")
        with self.timed("scoring"):
            scores, failed = self._scores(seed, wanted)
            of_measures = {scoring.measure: found for scoring, found in scores.items() if scoring.fill is None}
            self._agreement.append(seed, epoch, of_measures, together)
        unfitting = {(of.measure, failed[of]) for of in set(map(_scoring, missing)) & set(failed)}
        for measure, reason in sorted(unfitting):
            unfit.warn(measure, reason)
        fills = {
            fill: self._evaluator.place(self._replacements(seed, fill)) for fill in {curve.fill for curve in missing}
        }
        seen, orders, repairs = {fill: {} for fill in fills}, {}, {}
        for curve, thresholds in missing.items():
            self.begun(f"seed {seed}, epoch {epoch}, {curve.measure}, {curve.level}")
            cell = {
                "run": self.store.name, "task": s.task, "model": s.model, "seed": seed, "epoch": epoch,
                **curve._asdict(), "examples": self._evaluator.examples, **of,
            }  # fmt: skip
            scoring, new = _scoring(curve), fills[curve.fill]
            made = repairs.get((curve.calibration, curve.repair)) or self._repair(seed, curve)
            repairs[curve.calibration, curve.repair] = made
            if scoring in failed:
                results = [_failed(threshold, failed[scoring]) for threshold in thresholds]
            elif scoring is None:
                curve = curve._replace(reduction="mean")  # all weights of a group have the same
                order = curve._replace(repair=None)
                if order not in orders:
                    orders[order] = self._oracle(seed, epoch, order, of.get("weights"))
                found, kept = orders[order]
                results = self._evaluate_ranking(found, curve, seed, thresholds, new, seen[curve.fill], made)
            else:
                results = self._evaluate_ranking(scores[scoring], curve, seed, thresholds, new, seen[curve.fill], made)
            self.store.append([{**cell, **result} for result in results])
            if scoring is None:
                kept.clear()
            self.finished(len(results))

    def _oracle(self, seed, epoch, curve, weights):
        """Find an oracle's order; return it as importances, and the checkpoints to be cleared once it is evaluated."""
        oracle = oracles.load(curve.measure)
        what = f"seed {seed}, epoch {epoch}, {oracle.name}, {curve.level}"
        with self.timed("scoring"):
            work, ids = self._work(oracle, seed, epoch, curve, weights)
            number = oracle.evaluations(work.scopes)
            self.begun(f"{what}: {number:,} evaluations of {oracle.examples:,} examples at most")
            work = work._replace(tell=lambda done, of: self.begun(f"{what}, {done} of {of}"))
            return oracles.importances(oracle.find(work), ids), work.kept

    def _work(self, oracle, seed, epoch, curve, weights=None):
        x, y, count = self._examples(seed, curve.calibration)
        used = min(oracle.examples, count or oracle.examples)
        evidence = Evidence(self._model, x, y, seed=seed, loss=self._loss, examples=used)
        ids, scopes = self._partitions[curve.level, curve.scope].numbered()
        new = self._replacements(seed, curve.fill)
        made = elimination.Elimination(self._model, evidence.loss, evidence.x, evidence.y, ids, new)
        name = oracles.folder("seed", seed, epoch, *curve)
        of = {"run": self.store.name, "trial": name, "weights": weights, **self.comes_from("")}
        kept = Checkpoints(self.store.folder / "checkpoints" / self.store.name / name, of=of)
        return oracles.Work(made, scopes, seed, self.chance["chance_loss"], kept, lambda done, of: None), ids

    def _repair(self, seed, curve):
        """Return the engine.repair.Repair of a curve, or None."""
        kind, _, most = (curve.repair or "none").partition(":")
        if kind == "none":
            return None
        x, y, count = self._examples(seed, curve.calibration)
        x = Evidence(self._model, x, y, seed=seed, loss=self._loss, examples=count).x
        if most and int(most) < examples.count(x):
            rows = draws.generator(seed, "repair examples").choice(examples.count(x), int(most), replace=False)
            x = examples.take(x, np.sort(rows))
        return repair.Repair(self._model, x, kind)

    def _replacements(self, seed, fill):
        weights = training.values(self._model.trainable_variables)
        return thresholding.replacements(weights, fill, seed, self._source.initial, self._model)

    def _scores(self, seed, wanted):
        """Return {scoring: importances}, and {scoring: reason} of those that cannot score this network."""
        scores, failed = {}, {}
        for calibration in dict.fromkeys(scoring.calibration for scoring in wanted):
            here = {scoring for scoring in wanted if scoring.calibration == calibration}
            for found, these in zip(
                (scores, failed), self._scores_of(*self._examples(seed, calibration), seed, here), strict=True
            ):
                found |= these
        return scores, failed

    def _examples(self, seed, calibration):
        """Return what scores come from: x, y and how many of these examples, None for all."""
        s = self.settings
        name, _, count = (calibration or f"{s.scored_on}:{s.examples or ''}").partition(":")
        if name == "training":
            x, y = self._source.scored
        elif name == "validation":
            x, y = self._source.evaluated
        else:
            x, y = self._of_another_task(name, seed)
        return x, y, int(count) if count else None

    def _of_another_task(self, name, seed):
        if self._others.get(name, (None,))[0] != seed:
            task = tasks.load(name, seed=seed)
            self.store.check_data({name: task.digest})
            self._about["data_sha256"] |= {name: task.digest}
            _check_alike(name, task, self._source)
            self._others[name] = seed, task.x_train, task.y_train
        return self._others[name][1:]

    def _scores_of(self, x, y, examples, seed, wanted):
        scores, failed = {}, {}
        shared = Evidence(
            self._model, x, y, seed=seed, loss=self._loss, examples=examples, optimizer=self._source.optimizer
        )
        for fill in dict.fromkeys(scoring.fill for scoring in wanted):
            evidence = copy.copy(shared)  # with the same passes over the examples
            if fill is not None:
                evidence.replacements = self._replacements(seed, fill)
            for scoring in sorted((of for of in wanted if of.fill == fill), key=lambda of: of.measure):
                measure = importance.load(scoring.measure)
                found, reason = unfit.attempt(lambda m=measure, e=evidence: m.score_from(e), self._model)
                (scores if reason is None else failed)[scoring] = found if reason is None else reason
        return scores, failed

    def _evaluate_ranking(self, scores, curve, seed, thresholds, fill, seen, made=None):
        """Evaluate one ranking at some thresholds; `seen` holds what this fill's evaluations gave already.

        With a `made` engine.repair.Repair, each threshold's network is repaired before.
        """
        if not training.finite(scores):
            warnings.warn("A measure gave importances that are not finite; its cells are recorded so.", stacklevel=2)
            return [_failed(threshold, "importances are not finite") for threshold in thresholds]
        partition = self._partitions[curve.level, curve.scope]
        ranking = partition.rank(scores, curve.reduction, seed)
        replaced = ranking.replaced(thresholds)
        keys = _cell_keys(ranking, replaced, partition.participating)
        if made:  # what is repaired is another network, unless nothing was replaced
            keys = [key if key == ("none",) else (*key, curve.calibration, curve.repair) for key in keys]
        first = {key: index for index, key in reversed(list(enumerate(keys))) if key not in seen}
        started = time.perf_counter()
        if first:
            wanted = np.full(len(self.settings.thresholds), np.nan)
            wanted[: len(thresholds)] = [
                _ENDS.get(k[0], t) if first.get(k) == i else np.nan
                for i, (t, k) in enumerate(zip(thresholds, keys, strict=True))
            ]
            if made:
                found = self._evaluate_repaired(made, ranking.ranks, fill, wanted)
            else:
                with self.timed("evaluating"):
                    found = self._evaluator(self._evaluator.place(ranking.ranks), fill, wanted)
            seen.update((key, tuple(values[index] for values in found)) for key, index in first.items())
        seconds = (time.perf_counter() - started) / max(len(first), 1)
        rows = []
        for index, (threshold, key) in enumerate(zip(thresholds, keys, strict=True)):
            loss, stderr, accuracy, *unsolved = seen[key]
            rows.append(
                {
                    "threshold": threshold,
                    "replaced_fraction": float(replaced[index] / partition.participating),
                    "tie_fraction": ranking.tie_fraction,
                    "validation_loss": loss,
                    "validation_loss_stderr": stderr,
                    "validation_accuracy": accuracy,
                    "seconds": round(seconds, 6) if first.get(key) == index else 0.0,
                    "status": next(filter(None, unsolved), "ok" if np.isfinite(loss) else f"validation loss is {loss}"),
                }
            )
        if not all(row["status"] == "ok" for row in rows):
            warnings.warn("A validation loss is not finite; it is recorded so and the run goes on.", stacklevel=2)
        return rows

    def _evaluate_repaired(self, made, ranks, fill, thresholds):
        """Repair and evaluate the network at each threshold that is not NaN.

        Returns:
            loss, stderr, accuracy, unsolved: arrays or lists (thresholds,); the last has reasons why it cannot be done.
        """
        nan = (np.nan,) * 3
        found, fill = [(*nan, None)] * len(thresholds), [np.asarray(new) for new in fill]
        for place in np.flatnonzero(~np.isnan(thresholds)):
            gone = [of_variable < np.float32(thresholds[place]) for of_variable in ranks]
            try:
                with self.timed("repairing"):
                    repaired = made(gone, fill)
            except repair.Unsolvable as error:
                found[place] = (*nan, f"cannot be repaired: {error}")
                continue
            with self.timed("evaluating"):
                found[place] = (*self._evaluator.of(*repaired, len(thresholds)), None)
        return tuple(zip(*found, strict=True))

    def _distinct(self, checkpoints):
        """Count the different evaluations of cells, listed for each checkpoint, if importances do not tie."""
        scores = [np.random.default_rng(0).random(part.shape) for part in structure.parts(self._model)]
        rankings, total = {}, 0
        for cells in checkpoints:
            keys = set()
            for curve, thresholds in _by_curve(cells).items():
                partition, where = self._partitions[curve.level, curve.scope], curve[1:4]
                if where not in rankings:
                    rankings[where] = partition.rank(scores, curve.reduction)
                ranking = rankings[where]
                found = _cell_keys(ranking, ranking.replaced(thresholds), partition.participating)
                shared = ("none",) if curve.repair else _ENDS
                keys |= {(key, curve.fill) if key[0] in shared else (key, curve[0], *curve[4:]) for key in found}
            total += len(keys)
        return total

    def _time(self, seed, epochs, checkpoints, distinct):
        """Time some steps of training, scoring and one evaluation, after compiling them, and add up what is missing."""
        s = self.settings
        if s.evaluated == "auto":
            self._source.enough = self._enough_as_told()
        training_seconds = epochs and epochs * self._source.seconds_of_an_epoch(seed)
        self._evaluator.set_examples(*self._source.evaluated)
        weights = training.values(self._model.trainable_variables)
        fill = self._evaluator.place(thresholding.replacements(weights, "zero"))
        ranks = self._evaluator.place([np.full(w.shape, np.inf, "float32") for w in weights])
        tried = np.full(len(s.thresholds), np.nan)
        some = 10 if self._evaluator.sweeps(len(tried)) else 1
        tried[:some] = np.linspace(0.5, 0.6, some)
        curves = list(_by_curve(self._cells(seed, 0)))
        wanted = set(filter(None, map(_scoring, curves)))
        score = second_time(lambda: self._scores(seed, wanted))
        for curve in curves:
            if oracles.is_one(curve.measure):
                oracle = oracles.load(curve.measure)
                score += oracles.seconds(oracle, self._work(oracle, seed, 0, curve)[0])
        cell = second_time(lambda: self._evaluator(ranks, fill, tried)) / some
        if s.evaluated == "auto" and self._source.enough is None:  # nobody knows yet that all are not needed
            cell *= self._source.to_evaluate / self._evaluator.examples
        return training_seconds + checkpoints * score + distinct * (cell + self._time_of_repairs(seed))

    def _time_of_repairs(self, seed):
        """Time each repair of a network of which half of the weights are gone, and return the mean."""
        weights = training.values(self._model.trainable_variables)
        gone = [np.random.default_rng(0).random(w.shape) < 0.5 for w in weights]
        s, total = self.settings, 0.0
        for wanted in s.repairs:
            made = self._repair(seed, _Curve("", "", "", "", "", (s.calibrations or (None,))[0], wanted))
            total += second_time(lambda made=made: made(gone, weights)) if made else 0.0
        return total / len(s.repairs)


def _can_be_asked(measure, records):
    try:
        return not watching([measure]) or records
    except variants.Changed:
        raise
    except Exception:  # its file is gone, or may raise anything
        return False


def run(task=None, model=None, out="runs", watch=None, progress=True, workers=1, gpus=0.0, **settings):
    """Run a threshold grid, or what is missing of it; see `Grid` and `Grid.run`.

    Returns:
        pandas.DataFrame. One row a cell; the same rows are in `<out>/<run name>.csv`.

    Example:
        ```python
        frame = threshold_grid.run(task="digits", model="mlp", measures=["magnitude", "random"], levels=["weight"],
                                   thresholds=21, epochs=5, every=1, seeds=[0, 1], out="runs")
        frame = threshold_grid.run(network="my_model.keras", x=x, y=y, measures=["magnitude", "obd", "wanda"])
        ```
    """
    return Grid(task, model, out, **settings).run(watch, progress, workers, gpus)


def estimate(task=None, model=None, out="runs", **settings):
    """Say what a threshold grid will cost; see `Grid.estimate`."""
    return Grid(task, model, out, **settings).estimate()


def _check_left_out(given, only):
    there = [name for name, value in given.items() if value is not None and not (isinstance(value, dict) and not value)]
    if there:
        raise ValueError(f"Expected {', '.join(there)} only with {only}. Leave them out.")


def from_names(names):
    """Make a grid whose settings are variables of a notebook, each called like the argument of `Grid` that it is.

    Args:
        names: dict. What `globals()` gives there; what is called otherwise is passed over.

    Returns:
        Grid. With a `network`, without what training alone needs, and without the task where there are examples `x`.

    Raises:
        ValueError: a variable is called almost like an argument, or papermill has put in a parameter that the notebook
            does not have; others as for `Grid`.
    """
    parameters.check(names)
    fields = [field.name for field in dataclasses.fields(GridSettings)]
    known = {*list(inspect.signature(Grid.__init__).parameters)[1:-1], *fields}
    plain = [
        name for name, value in names.items() if isinstance(value, _PLAIN) and not (name in known or name[0] in "_IO")
    ]
    for name in plain:
        meant = difflib.get_close_matches(name, known, 1, cutoff=0.8)
        if meant:
            raise ValueError(f"Expected the setting {meant[0]!r}, received a variable {name!r}. Rename it.")
    left = set()
    if names.get("network") is not None:
        left = {*_OF_TRAINING, *(("task", "labels", "options") if names.get("x") is not None else ())}
    return Grid(**{name: names[name] for name in known - left if name in names})


_PLAIN = (bool, int, float, str, list, tuple, dict, type(None))
_ENDS = {"none": 0.0, "all": 1.0}
"""Where nothing and where everything is replaced. Rankings of the same weights have these in common, whichever is
evaluated first, and at whichever threshold its groups are used up; a level that leaves weights out has another end."""


def _cell_keys(ranking, replaced, participating):
    """Name each threshold's evaluation: equal names replace the same weights.

    Within a ranking the masks are nested, so the count of replaced weights tells them apart.
    """
    digest, taking_part = (hashlib.blake2b(digest_size=16) for _ in range(2))
    for ranks in ranking.ranks:
        digest.update(ranks)
        taking_part.update(np.packbits(np.isfinite(ranks)))
    digest, every = digest.digest(), ("all", taking_part.digest())
    return [("none",) if c == 0 else every if c == participating else (digest, int(c)) for c in replaced]


def _by_curve(cells):
    """Group cells by the curve that they are of: {_Curve: [threshold, ...]}."""
    found = {}
    for cell in cells:
        found.setdefault(_Curve(*(cell[name] for name in _Curve._fields)), []).append(cell["threshold"])
    return found


def _scoring(curve):
    """Say what decides the scores that a curve is ranked by; None where it is an oracle's."""
    if oracles.is_one(curve.measure):
        return None
    return _Scoring(curve.measure, curve.fill if _looks_at_fill(curve.measure) else None, curve.calibration)


@functools.cache  # a file is read at each load
def _looks_at_fill(measure):
    return importance.load(measure).definition.of_fill


def _check_alike(name, task, source):
    """Raise ValueError unless a task's examples could be those that a network is scored by."""
    (x, y), classes = source.scored, source.about["classes"]
    wrong = task.x_train.shape[1:] != x.shape[1:] or task.y_train.shape[1:] != y.shape[1:]
    if wrong or (task.classes is None) != (classes is None) or (classes and task.classes > classes):
        raise ValueError(
            f"Expected a calibration on inputs of shape {x.shape[1:]} with {classes or 'no'} classes, as the network "
            f"has, received {name!r} with {task.x_train.shape[1:]} and {task.classes or 'no'} classes. Name another."
        )


def _failed(threshold, reason):
    nan = float("nan")
    names = ("replaced_fraction", "tie_fraction", "validation_loss", "validation_loss_stderr", "validation_accuracy")
    return {"threshold": threshold, **dict.fromkeys(names, nan), "seconds": 0.0, "status": reason}


STUDY = Grid
