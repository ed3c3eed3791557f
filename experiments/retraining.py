"""What training on gives back: remove the least important weights of a network, and train what is left.

Of each kept network, each measure x level x scope x fraction is removed and the rest trained on for the same number of
epochs, by each protocol and learning rate; after every epoch a row says how good the network is, epoch 0 right after
the removal. Beside them stand the network of which nothing is removed, trained on as long (measure "none"), and random
removal, which is a measure.
"""

import dataclasses
import time
from typing import NamedTuple

import numpy as np

import aggregation
import importance
import tasks
import thresholding
from engine import checks, chunks, draws, evaluation, repair, structure, training
from experiments import costs, optimizers, shared, unfit
from experiments.settings import Settings, a_measure, check_names
from experiments.study import Study, new_optimizer
from experiments.trained_here import TrainedHere, check_recorded, watching
from importance._evidence import Evidence

RUN = ["measure", "level", "scope", "fraction", "protocol", "learning_rate"]
KEY = ["seed", *RUN, "epoch"]
VALUES = ["validation_loss", "validation_accuracy", "test_loss", "test_accuracy"]
COLUMNS = [
    "run", "task", "model", *KEY[:-1], "fill", "epoch", "removed_fraction", *VALUES, "seconds", "network", "weights",
    "status",
]  # fmt: skip
PROTOCOLS = ("one_shot", "iterative", "rewind", "repaired")
_NAN = float("nan")
_FIRST = np.finfo("float32").tiny


class Retraining(NamedTuple):
    """What tells one retraining from another, beside its seed: the columns `RUN`."""

    measure: str
    level: str
    scope: str
    fraction: float
    protocol: str
    learning_rate: float

    def __str__(self):
        return ", ".join(f"{value:g}" if isinstance(value, float) else value for value in self if value != "none")


@dataclasses.dataclass(frozen=True)
class RetrainingSettings(Settings):
    """What a study of retraining does. The fields in `VARIED` are columns of its rows, or change none of them; all
    others decide the run's name.

    Attributes:
        task: str. A file in `tasks/`.
        model: str. A name among the task's models, or "custom-<hash>" for a model of the user's.
        measures: tuple of str. Files in `importance/`, with options if wanted; "random" is the baseline.
        levels: tuple of str. Files in `aggregation/`; a group's importance is its members' mean.
        scopes: tuple of str. Within what ranks are compared; see `thresholding`.
        fractions: tuple of float, above 0, to 1. How much of the weights that take part is removed in the end.
        protocols: tuple of str. "one_shot": all at once. "iterative": in `rounds` rounds, after which round r of n has
            removed fraction * (1 - (1 - r / n)^3), scored anew in each by the same measure, on the network as it is
            then; what is removed stays so. "rewind": all at once, by the scores of the trained network, whose weights
            then go back to those of an earlier epoch. "repaired": all at once, and what is left makes up for it
            (`engine.repair`), so that epoch 0 says what repair alone gives. All begin with a new optimizer, train for
            `budget` epochs, and see the same examples in the same order.
        learning_rates: tuple of float or None. Of the retraining. None: that of the training, if it is a number.
        unpruned: bool. Whether the network of which nothing is removed is trained on, too.
        budget: int. Epochs of retraining.
        rounds: int. Of the iterative protocol, which begin at epochs as evenly spaced as whole numbers are.
        rewind: int. The epoch to whose weights "rewind" goes back, 0 the initial ones.
        repair: str. What "repaired" does: "least_squares", "bias" or "batch_norm".
        repair_examples: int. From how many of the training examples.
        fill: str. What stands in for removed weights; see `thresholding.replacements`.
        costs: tuple of str. "parameters", "multiply_adds", "latency", "latency_xla": what the network that a
            retraining ends with costs, as columns; see `experiments.costs`. Latencies are of this machine, best with
            nothing else on it.
        epochs, batch_size, optimizer, learning_rate, optimizer_options, labels, validation, options, seeds, records,
            examples, variables: as for a threshold grid, `experiments.threshold_grid.GridSettings`, whose networks
            these are: a network that is kept in `out` is not trained again. The first four are those of the retraining
            too, but for its learning rate.

    References:
        The schedule: Zhu and Gupta, To prune, or not to prune, 2017, https://arxiv.org/abs/1710.01878. Rewinding:
        Frankle et al., Linear mode connectivity and the lottery ticket hypothesis, 2020,
        https://arxiv.org/abs/1912.05671; Renda et al., Comparing rewinding and fine-tuning in neural network pruning,
        2020, https://arxiv.org/abs/2003.02389.
    """

    VARIED = frozenset(
        {
            "measures", "levels", "scopes", "fractions", "protocols", "learning_rates", "unpruned", "seeds", "records",
        }
    )  # fmt: skip
    CHECKS = Settings.CHECKS | {
        "measures": checks.several(a_measure, least=0),
        "levels": checks.several(checks.text),
        "scopes": checks.several(checks.Check("a scope", thresholding.check_scope)),
        "fractions": checks.several(checks.number(above=0, most=1)),
        "protocols": checks.several(checks.choice(*PROTOCOLS)),
        "learning_rates": checks.optional(checks.several(checks.number(above=0))),
        "rewind": checks.whole(0),
        "repair": checks.choice(*repair.KINDS[1:]),
        "fill": thresholding.A_FILL,
        "costs": checks.several(checks.choice(*costs.COLUMNS), least=0),
        "learning_rate": optimizers.A_LEARNING_RATE,
        "labels": tasks.LABELS,
        "validation": tasks.VALIDATION,
        "variables": checks.either("all", checks.several(checks.text)),
    }
    evaluated = None  # all examples

    task: str
    model: str
    measures: tuple = ()
    levels: tuple = ("weight",)
    scopes: tuple = ("layer",)
    fractions: tuple = (0.5, 0.8, 0.9, 0.95)
    protocols: tuple = PROTOCOLS[:3]
    learning_rates: tuple | None = None
    unpruned: bool = True
    budget: int = 5
    rounds: int = 3
    rewind: int = 1
    repair: str = "least_squares"
    repair_examples: int = 1000
    fill: str = "zero"
    costs: tuple = ()
    epochs: int = 5
    batch_size: int = 100
    optimizer: str = "adam"
    learning_rate: float | dict = 1e-3
    optimizer_options: dict = dataclasses.field(default_factory=dict)
    labels: tuple | None = None
    validation: float | str = 0.1
    variables: str | tuple = "all"
    examples: int | None = 5000
    options: dict = dataclasses.field(default_factory=dict)
    seeds: tuple = (0,)
    records: bool = True

    def __post_init__(self):
        super().__post_init__()
        put = object.__setattr__
        put(self, "optimizer_options", optimizers.check(self.optimizer, self.optimizer_options))
        if self.learning_rates is None and isinstance(self.learning_rate, dict):
            raise ValueError(
                "Expected learning_rates with networks that were trained by a schedule, which is over when retraining "
                "begins, received none. Name one or several, such as learning_rates=[0.01, 0.001]."
            )
        put(self, "learning_rates", tuple(map(float, self.learning_rates or (self.learning_rate,))))
        put(self, "fractions", tuple(map(float, self.fractions)))
        put(self, "costs", tuple(cost for cost in costs.COLUMNS if cost in self.costs))
        check_names("task", (self.task,), [*tasks.names(), *([self.task] if tasks.is_of_arrays(self.task) else [])])
        check_names("level", self.levels, aggregation.names())
        for scope in self.scopes:
            thresholding.check_thresholds(scope, self.fractions)
        check_recorded(self.measures, self.records)
        if not (self.measures or self.unpruned):
            raise ValueError("Expected measures, or unpruned=True, received neither. Say what is to be retrained.")
        if self.costs and self.fill != "zero":
            raise ValueError(
                "Expected fill='zero' with costs, which are those of a network without what is removed, received "
                f"{self.fill!r}. Leave one of them out."
            )
        if "iterative" in self.protocols and self.rounds > self.budget:
            raise ValueError(
                f"Expected at most as many rounds as epochs of retraining, one each, received rounds={self.rounds} "
                f"with budget={self.budget}. Ask for fewer rounds, or more epochs."
            )
        if "iterative" in self.protocols and watching(self.measures):
            raise ValueError(
                "Expected measures of the network as it is for the iterative protocol, which scores anew in each "
                f"round, received {', '.join(watching(self.measures))}, which need the training's record. Ask for them "
                f"in a call of their own, with protocols={[p for p in PROTOCOLS if p != 'iterative']}: their rows join "
                "the same file."
            )
        if "rewind" in self.protocols and self.rewind >= self.epochs:
            raise ValueError(
                f"Expected an epoch before the last, {self.epochs}, to rewind to, received rewind={self.rewind}. Name "
                "an earlier one, 0 for the initial weights, or leave the protocol out."
            )


class Retrainings(Study):
    """Retrainings of kept networks: settings, files, and compiled models.

    Args:
        task: str, or what `tasks.from_arrays` gave.
        model: str, keras.Model, or a function without arguments that returns a new keras.Model.
        out: str or path. The folder for the CSV, its settings file and `networks/`.
        **settings: see `RetrainingSettings`.

    Attributes:
        settings: RetrainingSettings.
        store: experiments.storage.store.Store.
        timings: dict. Seconds of the last `run` spent "training" (networks that were not kept, and retraining),
            "scoring", "evaluating", and in "total".

    Raises:
        ValueError: a setting that cannot be; a model that does not fit the task.
        OSError: a folder that cannot be written.

    With several workers the unit of work is one network. The rows of a retraining are written when it is done: one
    that was interrupted begins anew, and gives the same.
    """

    SETTINGS, KEY, COLUMNS = RetrainingSettings, KEY, COLUMNS
    UNIT, PARTS = "retraining", ("training", "scoring", "evaluating")

    def __init__(self, task, model=None, out="runs", **settings):
        first, new_model = self.choose(model, self.load_task, task=tasks.name_of(task), **settings)
        s = self.settings
        self._source = TrainedHere(s, self.load_task, new_model, out, first)
        self._source.tell = self.begun
        new, optimizer = new_model(), new_optimizer(s, s.learning_rates[0])
        identity = shared.identity(
            new, first.loss, optimizer, settings=s.batch_size, data=first.digest, xla=structure.xla(new)
        )
        made = shared.kept((identity, "retraining"), lambda: _compiled(new, thresholding.Masked(optimizer), first.loss))
        self._model, self._optimizer, self._start = made
        self._evaluators = [
            chunks.kept(
                self._model, part, lambda of=of: evaluation.Evaluator(self._model, first.loss, *of, sweep=False)
            )
            for part, of in (("validation", self._source.evaluated), ("test", self._source.tested))
        ]
        groups = {level: aggregation.load(level).groups(self._model) for level in s.levels}
        self._partitions = {
            (level, scope): thresholding.Partition(groups[level], self._model, scope, s.variables)
            for level in s.levels
            for scope in dict.fromkeys((*s.scopes, *map(_compares, s.scopes)))
        }
        if "repaired" in s.protocols:
            repair.Repair(self._model, first.x_train[:1], s.repair)  # or it says that there is nothing to repair
        self.COLUMNS = [*COLUMNS[:-1], *costs.columns(s.costs), COLUMNS[-1]]
        self.open(out, **self._source.chance, **self._source.about)

    def cells(self):
        """List what is asked for: a trial is the network of one seed, and a run one retraining of it."""
        s = self.settings
        runs = [Retraining("none", "none", "none", 0.0, "none", rate) for rate in s.learning_rates if s.unpruned]
        runs += [
            Retraining(measure, level, scope, fraction, protocol, rate)
            for measure in s.measures
            for level in s.levels
            for scope in s.scopes
            for fraction in s.fractions
            for protocol in s.protocols
            for rate in s.learning_rates
        ]
        for seed in s.seeds:
            for run in runs:
                cell = {"seed": seed, **run._asdict()}
                yield f"seed-{seed}", (seed, run), [{**cell, "epoch": epoch} for epoch in range(s.budget + 1)]

    def do(self, missing):
        """Do the retrainings of one network that are missing."""
        s, source, runs = self.settings, self._source, [run for (_, run), _ in missing]
        ((seed, _), _), *_ = missing
        with self.timed("training"):
            source.begin(seed)
            self.check_rows("network", source.identity, seed=seed)
            rewound = None
            if any(run.protocol == "rewind" for run in runs):
                source.reach(s.rewind, ())
                rewound = training.values(training.model_variables(source.model))
            weights = source.reach(s.epochs, {run.measure for run in runs} - {"none"})
            self.check_rows("weights", weights, seed=seed)
            trained = training.values(training.model_variables(source.model))
        self._examples = training.placed(*source.scored)
        for evaluator, examples in zip(self._evaluators, (source.evaluated, source.tested), strict=True):
            evaluator.set_examples(*examples)
        self.begun(f"seed {seed}, scoring")
        with self.timed("scoring"):
            asked = sorted({run.measure for run in runs} - {"none"})
            evidence = self._evidence(seed, source.optimizer)
            scores = {measure: self._score(measure, evidence) for measure in asked}
        for measure in asked:
            if scores[measure][1]:
                unfit.warn(measure, scores[measure][1])
        mend = self._mender(seed, trained) if any(run.protocol == "repaired" for run in runs) else None
        about = {"run": s.name, "task": s.task, "model": s.model, "seed": seed, "fill": s.fill}
        about |= {"network": source.identity, "weights": weights}
        for run in runs:
            begin = rewound if run.protocol == "rewind" else trained
            rows = self._retrain(
                seed, run, begin, scores.get(run.measure), mend if run.protocol == "repaired" else None
            )
            self.store.complete([{**about, **run._asdict(), **row} for row in rows])
            self.finished()

    def try_measures(self, measures):
        """Score a network by each measure, before any is trained; return {measure: None, or why that failed}."""
        if not measures:
            return {}
        self._source.ready()
        seed, found = self.settings.seeds[0], {}
        few, every = (self._evidence(seed, self._source.optimizer, of) for of in (self._source.few, None))
        for measure in measures:
            if self._score(measure, few)[1]:
                found[measure] = self._score(measure, every)[1]
        return dict.fromkeys(measures) | found

    def _mender(self, seed, trained):
        """Return the repair of a trained network: engine.repair.Repair."""
        x, most = self._source.scored[0], self.settings.repair_examples
        rows = draws.generator(seed, "repair examples of retraining").choice(len(x), min(len(x), most), replace=False)
        training.assign(training.model_variables(self._model), trained)
        return repair.Repair(self._model, x[np.sort(rows)], self.settings.repair)

    @np.errstate(over="ignore", invalid="ignore")  # what diverged is told of in the rows' status
    def _retrain(self, seed, run, begin, scores, mend):
        """Retrain once.

        Args:
            seed: int.
            run: Retraining.
            begin: list of arrays. What the model's variables begin with.
            scores: tuple or None. What `_score` gave of the trained network.
            mend: engine.repair.Repair or None. What comes after the removal.

        Returns:
            list of dict. What each epoch's row says.
        """
        s, rows, why = self.settings, [], None
        training.assign(training.model_variables(self._model), begin)
        training.assign(self._optimizer.variables, self._start)
        self._optimizer.learning_rate = run.learning_rate
        removals = schedule(run.protocol, run.fraction, s.budget, s.rounds) if run.fraction else {}
        for epoch in range(s.budget + 1):
            self.begun(f"seed {seed}, {run}, epoch {epoch} of {s.budget}")
            started = time.perf_counter()
            if epoch in removals and not why:
                why = self._remove(seed, run, removals[epoch], scores if epoch == 0 else None)
                if mend and not why:
                    why = self._mend(mend)
            if epoch and not why:
                with self.timed("training"):
                    training.train(self._model, *self._examples, [s.epochs + epoch], s.batch_size, seed)
            rows.append(
                {"epoch": epoch, **self._evaluate(run, why), "seconds": round(time.perf_counter() - started, 3)}
            )
        with self.timed("evaluating"):
            cost = costs.of(self._model, self._optimizer.removed(self._model), run.level, s.costs, why)
        return [row | cost for row in rows]

    def _remove(self, seed, run, fraction, scores=None):
        """Remove so much in all, by the scores of the trained network or those of now; return None, or why it fails."""
        if scores is None:
            with self.timed("scoring"):
                of_now = training.values(training.model_variables(self._model))
                training.assign(training.model_variables(self._source.model), of_now)
                scores = self._score(run.measure, self._evidence(seed, self._optimizer))
        importances, why = scores
        if why:
            return why
        ranks = self._partitions[run.level, run.scope].rank(importances, seed=seed).ranks
        removed = self._optimizer.removed(self._model)
        if any(mask.any() for mask in removed):
            # What is removed already comes first, all else in the order of its ranks.
            behind = [
                np.where(mask, 0, np.maximum(np.where(np.isfinite(rank), rank, 0), _FIRST))
                for mask, rank in zip(removed, ranks, strict=True)
            ]
            ranks = self._partitions[run.level, _compares(run.scope)].rank(behind, "minimum", seed).ranks
        weights = training.values(self._model.trainable_variables)
        new = [
            np.where(mask, weight, fill)
            for mask, weight, fill in zip(removed, weights, self._replacements(seed, weights), strict=True)
        ]
        self._optimizer.hold(self._model, ranks, fraction, new)
        return None

    def _mend(self, mend):
        """Repair what is left; return None, or why it fails."""
        model = self._model
        try:
            made = mend(self._optimizer.removed(model), training.values(model.trainable_variables))
        except repair.Unsolvable as error:
            return f"cannot be repaired: {error}"
        for variables, values in zip((model.trainable_variables, model.non_trainable_variables), made, strict=True):
            training.assign(variables, values)
        return None

    def _replacements(self, seed, weights):
        return thresholding.replacements(weights, self.settings.fill, seed, self._source.initial, self._source.model)

    def _evidence(self, seed, optimizer, examples=None):
        """Return what measures look at: the source's model, as it is now."""
        x, y = examples or self._source.scored
        source = self._source
        replacements = self._replacements(seed, training.values(source.model.trainable_variables))
        return Evidence(
            source.model, x, y, seed=seed, loss=source.loss, examples=self.settings.examples, optimizer=optimizer,
            replacements=replacements,
        )  # fmt: skip

    def _score(self, measure, evidence):
        """Return a measure's importances and None; or None and why there are none."""
        scores, why = unfit.attempt(lambda: importance.load(measure).score_from(evidence), evidence.model)
        if not why and not training.finite(scores):
            why = "importances are not finite"
        return scores, why

    def _evaluate(self, run, why=None):
        """Return what a row says of the model as it is; NaN and the reason, if there is one."""
        if why:
            return {"removed_fraction": _NAN, **dict.fromkeys(VALUES, _NAN), "status": why}
        removed = 0.0
        if run.fraction:
            taking_part = self._partitions[run.level, run.scope].participating
            removed = sum(int(mask.sum()) for mask in self._optimizer.removed(self._model)) / taking_part
        with self.timed("evaluating"):
            found = [value for evaluator in self._evaluators for value in _as_it_is(evaluator, self._model)]
        loss = found[0]
        status = "ok" if np.isfinite(loss) else f"validation loss is {loss}"
        return {"removed_fraction": removed, **dict(zip(VALUES, found, strict=True)), "status": status}


def schedule(protocol, fraction, budget, rounds=1):
    """Say when how much is removed.

    Args:
        protocol: str. One of `PROTOCOLS`.
        fraction: float. What is removed in the end.
        budget: int. Epochs of retraining.
        rounds: int. Of the iterative protocol.

    Returns:
        dict from an epoch to the fraction of all that is removed from then on. Epoch 0 is before any training, any
        other removal comes before the training of its epoch.

    Example:
        >>> schedule("iterative", 0.5, budget=4, rounds=2)
        {0: 0.4375, 3: 0.5}
    """
    rounds = rounds if protocol == "iterative" else 1
    epochs = [0, *(number * budget // rounds + 1 for number in range(1, rounds))]
    return {epoch: fraction * (1 - (1 - (number + 1) / rounds) ** 3) for number, epoch in enumerate(epochs)}


def _compares(scope):
    """Return the scope that compares what another does, by the given importances alone."""
    return "model" if scope.startswith("model") else scope


def _compiled(model, optimizer, loss):
    """Compile a model; return it, its optimizer, and what that begins with."""
    training.compile_model(model, optimizer, loss)
    return model, optimizer, training.values(optimizer.variables)


def _as_it_is(evaluator, model):
    """Return the mean loss and the accuracy of a model, of which nothing is replaced."""
    shapes = [v.shape for v in model.trainable_variables]
    never = chunks.kept(model, "never", lambda: evaluator.place([np.full(a, np.inf, "float32") for a in shapes]))
    loss, _, accuracy = evaluator(never, never, [0.0])
    return float(loss[0]), float(accuracy[0])


def run(task, model=None, out="runs", watch=None, progress=True, workers=1, gpus=0.0, **settings):
    """Do retrainings of kept networks, or those that are missing; see `Retrainings` and `Retrainings.run`.

    Returns:
        pandas.DataFrame. One row for each retraining and epoch; the same rows are in `<out>/<run name>.csv`.

    Example:
        ```python
        frame = retraining.run("digits", measures=["magnitude", "random"], fractions=[0.8, 0.9], epochs=20, budget=5,
                               learning_rates=[1e-3, 1e-4], seeds=range(5))
        report.retraining.summary(frame)
        ```
    """
    return Retrainings(task, model, out, **settings).run(watch, progress, workers, gpus)


STUDY = Retrainings
