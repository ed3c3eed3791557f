"""The main job: train, and at every checkpoint replace the least important weights and measure what is lost.

For each seed and checkpoint, each measure x level x reduction x scope ranks the weights once; each threshold then
replaces those that rank below it, and one row says what the validation loss became.
"""

import hashlib
import itertools
import time
import warnings
from typing import NamedTuple

import keras
import numpy as np
from tqdm.auto import tqdm

import aggregation
import importance
import tasks
import thresholding
from engine import evaluation, losses, structure, training
from experiments import checkpoints, crew
from experiments.agreement import Agreement
from experiments.job import Job
from experiments.settings import GridSettings
from experiments.store import Store
from importance._evidence import Evidence

KEY = ["seed", "epoch", "measure", "level", "reduction", "scope", "fill", "threshold"]
COLUMNS = [
    "run", "task", "model", "seed", "epoch", "measure", "level", "reduction", "scope", "fill", "threshold",
    "replaced_fraction", "tie_fraction", "examples", "validation_loss", "validation_loss_stderr",
    "validation_accuracy", "seconds", "status",
]  # fmt: skip
_SECONDS_BETWEEN_FIGURES = 5
_TIMED_STEPS = 50  # of training, for an estimate


class Estimate(NamedTuple):
    """What a grid will cost; printing it gives a sentence.

    Attributes:
        asked: int. Cells of the grid.
        done: int. Cells that are in the CSV already.
        distinct: int. Evaluations that all cells together need, about: thresholds that replace the same weights are
            evaluated once.
        seconds: float. Time for what is missing, from a short trial on this machine.
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


class Grid(Job):
    """A threshold grid: its settings, its files, and the compiled functions that it needs.

    Args:
        task: str. A file in `tasks/`.
        model: str, keras.Model, or a function without arguments that returns a new keras.Model. A model of one's own
            is cloned for every seed, with new weights.
        out: str or path. The folder for the CSV, its settings file and `checkpoints/`.
        **settings: see `experiments.settings.GridSettings`.

    Attributes:
        settings: GridSettings.
        store: experiments.store.Store. How far the measures' scores themselves agree is in `<out>/agreement/`; see
            `experiments.agreement`.
        chance: dict. The `chance_loss` and the `chance_accuracy` (None for regression) of guessing.
        timings: dict. Seconds of the last `run` spent "training", "scoring", "evaluating", and in "total".

    Raises:
        ValueError: a setting that cannot be; a model that does not fit the task.
        OSError: a folder that cannot be written.
    """

    UNIT, PARTS = "cell", ("training", "scoring", "evaluating")

    def __init__(self, task, model=None, out="data", **settings):
        settings["task"] = task
        if not isinstance(model, (str, type(None))):
            self._build = (lambda: keras.models.clone_model(model)) if isinstance(model, keras.Model) else model
            self.settings = GridSettings(model=custom_name(self._build()), **settings)
        else:
            self.settings = GridSettings(model=model or "default", **settings)
            self._build = None
        first = self._load_task(self.settings.seeds[0])
        if model is None:
            self.settings = GridSettings(model=first.models[0], **settings)
        self._prepare(first)
        accuracy = None if first.classes is None else 1 / first.classes
        self.chance = {"chance_loss": first.chance_loss, "chance_accuracy": accuracy}
        about = {
            "settings": self.settings.as_dict(),
            **self.chance,
            "classes": first.classes,
            "data_sha256": {self.settings.task: first.digest},
            "measures_sha256": importance.digests(),
            "xla": structure.xla(self._model),
        }
        self.store = Store(out, self.settings.name, COLUMNS, KEY, about)
        self._agreement = Agreement(self.store.folder / "agreement", self.settings, self._partitions)
        self.timings = {}

    def estimate(self):
        """Count the evaluations and time a few of them, before anything long starts.

        Returns:
            Estimate.
        """
        s = self.settings
        cells = len(s.thresholds) * len(s.measures) * len(s.levels) * len(s.reductions) * len(s.scopes)
        asked = cells * len(s.checkpoints) * len(s.seeds)
        done = len(self.store.done & self.wanted())
        missing = asked - done
        if not missing:
            return Estimate(asked, done, 0, 0.0)
        distinct = self._distinct()
        seconds = self._time_one_trial(distinct) * len(s.seeds) * missing / asked
        return Estimate(asked, done, distinct * len(s.checkpoints) * len(s.seeds), seconds)

    def run(self, watch=None, progress=True, workers=1, gpus=0.0):
        """Compute the cells that are missing, writing each ranking's rows as soon as they are there.

        Safe to interrupt at any time: called again, in this process or another, it goes on from the last checkpoint.

        Args:
            watch: callable or None. Called as `watch(frame)` with all rows so far, every few seconds and at the end.
            progress: bool. Whether to show bars.
            workers: int or str. 1: this process trains the networks, one after another. More: so many processes on this
                machine. "join": this process, beside any others that join, each doing seeds that nobody else does.
                "ray:auto" or "ray:<address>": a Ray cluster.
            gpus: float. The share of a GPU that each seed takes under Ray.

        Returns:
            pandas.DataFrame. All rows of the run; with several workers the seeds stand in the order in which they were
            finished.

        Raises:
            experiments.locks.Busy: another process is writing this run; says which, and since when.
            OSError: a full disk or a folder that vanished; what was written before is whole.
        """
        self._shown = time.monotonic()
        frame = super().run(watch, progress, workers, gpus)
        self.show(at_once=True)
        return frame

    @property
    def stores(self):
        """The files that rows go to; see `experiments.work`."""
        return [self.store, self._agreement.store]

    def wanted(self):
        """Return the keys of all cells that were asked for: set of tuples of str."""
        s = self.settings
        return {
            self.store.key_of(cell) for seed in s.seeds for epoch in s.checkpoints for cell in self._cells(seed, epoch)
        }

    def trials(self):
        """Return what is missing of each seed: {"seed-<seed>": (seed, {epoch: missing rankings}) or None}."""
        found, done = {}, self.store.done
        for seed in self.settings.seeds:
            by_epoch = {epoch: self._missing(seed, epoch, done) for epoch in self.settings.checkpoints}
            found[f"seed-{seed}"] = (seed, by_epoch) if any(by_epoch.values()) else None
        return found

    def description(self):
        """Return what another process needs to make the same grid: dict, as JSON knows it.

        Raises:
            ValueError: a model of the user's, which has no name in the task.
        """
        if self._build is not None:
            raise ValueError(crew.NEEDS_A_NAME.format(model=self.settings.model))
        return {"kind": "grid", "out": str(self.store.folder.absolute()), "settings": self.settings.as_dict()}

    def missing(self):
        """Count the cells that are asked for and not there."""
        return len(self.wanted() - self.store.done)

    def show(self, at_once=False):
        """Show all rows so far, unless that was a moment ago."""
        if at_once or time.monotonic() - self._shown > _SECONDS_BETWEEN_FIGURES:
            super().show()
            self._shown = time.monotonic()

    def do(self, missing):
        """Train one network and evaluate what is missing of it; see `trials`."""
        self._trial(*missing)

    def _load_task(self, seed):
        s = self.settings
        return tasks.load(s.task, labels=s.labels, validation=s.validation, seed=seed, **s.options)

    def _prepare(self, task):
        """Build what all seeds share: one model object, its optimizer, its compiled functions, its groups."""
        s = self.settings
        self._new_model = self._build or (lambda: task.build_model(s.model))
        self._loss = task.loss
        self._model = self._new_model()
        task.check_model(self._model)
        config = {"learning_rate": s.learning_rate, **s.optimizer_options}
        inner = keras.optimizers.get({"class_name": s.optimizer, "config": config})
        self._optimizer = importance.Tracked(inner, s.measures)
        metrics = ["accuracy"] if losses.is_classification(self._loss) else ["mean_absolute_error"]
        training.compile_model(self._model, self._optimizer, self._loss, metrics)
        self._optimizer_start = training.values(self._optimizer.variables)
        self._evaluator = evaluation.Evaluator(self._model, self._loss, *self._evaluated(task))
        groups = {level: aggregation.load(level).groups(self._model) for level in s.levels}
        self._partitions = {
            (level, scope): thresholding.Partition(groups[level], self._model, scope, s.variables)
            for level in s.levels
            for scope in thresholding.SCOPES  # the agreement of scores is told for both
        }

    def _evaluated(self, task):
        return task.x_validation[: self.settings.evaluated], task.y_validation[: self.settings.evaluated]

    def _begin(self, seed, task):
        """Put new weights into the model, and the optimizer and the records back to their start."""
        keras.utils.set_random_seed(seed)
        fresh = self._new_model()
        training.assign(training.model_variables(self._model), training.values(training.model_variables(fresh)))
        training.assign(self._optimizer.variables, self._optimizer_start)
        self._optimizer.restart()
        self._initial = training.values(self._model.trainable_variables)
        self._evaluator.set_examples(*self._evaluated(task))

    def _cells(self, seed, epoch):
        s = self.settings
        for scope in s.scopes:
            for level in s.levels:
                for reduction in s.reductions:
                    for measure in s.measures:
                        for threshold in s.thresholds:
                            values = (seed, epoch, measure, level, reduction, scope, s.fill, threshold)
                            yield dict(zip(KEY, values, strict=True))

    def _missing(self, seed, epoch, done):
        """Group the missing cells by ranking: {(scope, level, reduction, measure): [threshold, ...]}."""
        found = {}
        for cell in self._cells(seed, epoch):
            if self.store.key_of(cell) not in done:
                ranking = tuple(cell[c] for c in ("scope", "level", "reduction", "measure"))
                found.setdefault(ranking, []).append(cell["threshold"])
        return found

    def _trial(self, seed, by_epoch):
        task = self._load_task(seed)
        self._begin(seed, task)
        kept = checkpoints.Checkpoints(self.store.folder / "checkpoints" / self.settings.name / f"seed-{seed}")
        reached, arrays = kept.latest(min(epoch for epoch, missing in by_epoch.items() if missing))
        if reached:
            training.restore(self._model, self._optimizer, arrays)
        for epoch, missing in by_epoch.items():
            if not missing:
                continue
            if epoch > reached:
                self._train(task, seed, range(reached + 1, epoch + 1))
                kept.save(epoch, training.state(self._model, self._optimizer))
                reached = epoch
            self._evaluate_checkpoint(task, seed, epoch, missing)
        kept.clear()

    def _train(self, task, seed, epochs):
        bar = tqdm(
            total=len(epochs), desc=f"seed {seed}, training", unit="epoch", leave=False, disable=self._bar.disable
        )

        def show(epoch, logs):
            bar.update()
            bar.set_postfix_str(f"epoch {epoch}, loss {logs['loss']:.4f}")

        with self.timed("training"), bar:
            training.train(self._model, task.x_train, task.y_train, epochs, self.settings.batch_size, seed, show)

    @np.errstate(over="ignore", invalid="ignore")  # a network that diverged is told of in the rows' status
    def _evaluate_checkpoint(self, task, seed, epoch, missing):
        s = self.settings
        with self.timed("scoring"):
            scores = self._scores(task, seed, {measure for _, _, _, measure in missing})
            self._agreement.append(seed, epoch, scores)
        weights = training.values(self._model.trainable_variables)
        fill = self._evaluator.place(thresholding.replacements(weights, s.fill, seed, self._initial))
        seen = {}
        for (scope, level, reduction, measure), thresholds in missing.items():
            cell = {
                "run": s.name, "task": s.task, "model": s.model, "seed": seed, "epoch": epoch, "measure": measure,
                "level": level, "reduction": reduction, "scope": scope, "fill": s.fill,
                "examples": self._evaluator.examples,
            }  # fmt: skip
            results = self._evaluate_ranking(scores[measure], level, reduction, scope, seed, thresholds, fill, seen)
            self.store.append([{**cell, **result} for result in results])
            self.finished(len(results))

    def _scores(self, task, seed, measures):
        x, y = (task.x_train, task.y_train) if self.settings.scored_on == "training" else self._evaluated(task)
        evidence = Evidence(self._model, x, y, seed=seed, loss=self._loss, examples=self.settings.examples)
        return {measure: importance.load(measure).score_from(evidence) for measure in sorted(measures)}

    def _evaluate_ranking(self, scores, level, reduction, scope, seed, thresholds, fill, seen):
        """Evaluate one ranking at some thresholds; `seen` holds what this checkpoint's evaluations gave already."""
        if not training.finite(scores):
            warnings.warn("A measure gave importances that are not finite; its cells are recorded so.", stacklevel=2)
            return [_failed(threshold, "importances are not finite") for threshold in thresholds]
        partition = self._partitions[level, scope]
        ranking = partition.rank(scores, reduction, seed)
        replaced = ranking.replaced(thresholds)
        keys = _cell_keys(ranking, replaced, partition.participating)
        first = {key: index for index, key in reversed(list(enumerate(keys))) if key not in seen}
        started = time.perf_counter()
        if first:
            wanted = np.full(len(self.settings.thresholds), np.nan)
            wanted[: len(thresholds)] = [
                _ENDS.get(k, t) if first.get(k) == i else np.nan
                for i, (t, k) in enumerate(zip(thresholds, keys, strict=True))
            ]
            with self.timed("evaluating"):
                found = self._evaluator(self._evaluator.place(ranking.ranks), fill, wanted)
            seen.update((key, tuple(values[index] for values in found)) for key, index in first.items())
        seconds = (time.perf_counter() - started) / max(len(first), 1)
        rows = []
        for index, (threshold, key) in enumerate(zip(thresholds, keys, strict=True)):
            loss, stderr, accuracy = seen[key]
            rows.append(
                {
                    "threshold": threshold,
                    "replaced_fraction": float(replaced[index] / partition.participating),
                    "tie_fraction": ranking.tie_fraction,
                    "validation_loss": loss,
                    "validation_loss_stderr": stderr,
                    "validation_accuracy": accuracy,
                    "seconds": round(seconds, 6) if first.get(key) == index else 0.0,
                    "status": "ok" if np.isfinite(loss) else f"validation loss is {loss}",
                }
            )
        if not all(row["status"] == "ok" for row in rows):
            warnings.warn("A validation loss is not finite; it is recorded so and the run goes on.", stacklevel=2)
        return rows

    def _distinct(self):
        """Count the different evaluations of one checkpoint, for importances that do not tie."""
        s = self.settings
        scores = [np.random.default_rng(0).random(part.shape) for part in structure.parts(self._model)]
        keys = set()
        for level, scope, reduction in itertools.product(s.levels, s.scopes, s.reductions):
            partition = self._partitions[level, scope]
            ranking = partition.rank(scores, reduction)
            keys |= set(_cell_keys(ranking, ranking.replaced(s.thresholds), partition.participating))
        shared = keys & {"none", "all"}
        return len(shared) + len(keys - shared) * len(s.measures)

    def _time_one_trial(self, distinct):
        """Time some steps of training, scoring and one evaluation, after compiling them."""
        s = self.settings
        seed = s.seeds[0]
        task = self._load_task(seed)
        self._begin(seed, task)
        part = slice(0, s.batch_size * _TIMED_STEPS)
        fraction = len(task.x_train) / len(task.x_train[part])
        fill = self._evaluator.place(thresholding.replacements(self._initial, "zero"))
        ranks = self._evaluator.place([np.full(w.shape, np.inf, "float32") for w in self._initial])
        tried = np.full(len(s.thresholds), np.nan)
        some = 10 if self._evaluator.sweeps(len(tried)) else 1
        tried[:some] = np.linspace(0.5, 0.6, some)

        def train():
            training.train(self._model, task.x_train[part], task.y_train[part], [1], s.batch_size, seed)

        def score():
            self._scores(task, seed, set(s.measures))

        train_seconds, score_seconds, cell_seconds = (
            second_time(function) for function in (train, score, lambda: self._evaluator(ranks, fill, tried))
        )
        cell_seconds /= some
        return s.epochs * train_seconds * fraction + len(s.checkpoints) * (score_seconds + distinct * cell_seconds)


def run(task, model=None, out="data", watch=None, progress=True, workers=1, gpus=0.0, **settings):
    """Run a threshold grid, or what is missing of it; see `Grid` and `Grid.run`.

    Returns:
        pandas.DataFrame. One row a cell; the same rows are in `<out>/<run name>.csv`.

    Example:
        ```python
        frame = threshold_grid.run(task="digits", model="mlp", measures=["magnitude", "random"], levels=["weight"],
                                   thresholds=21, epochs=5, every=1, seeds=[0, 1], out="data")
        ```
    """
    return Grid(task, model, out, **settings).run(watch, progress, workers, gpus)


def estimate(task, model=None, out="data", **settings):
    """Say what a threshold grid will cost; see `Grid.estimate`."""
    return Grid(task, model, out, **settings).estimate()


_ENDS = {"none": 0.0, "all": 1.0}
"""Where nothing and where everything is replaced. Every ranking has these in common, whichever is evaluated first, and
at whichever threshold its groups are used up."""


def _cell_keys(ranking, replaced, participating):
    """Name each threshold's evaluation: equal names replace the same weights.

    Within a ranking the masks are nested, so the count of replaced weights tells them apart.
    """
    digest = hashlib.blake2b(digest_size=16)
    for ranks in ranking.ranks:
        digest.update(ranks)
    digest = digest.digest()
    return ["none" if c == 0 else "all" if c == participating else (digest, int(c)) for c in replaced]


def _failed(threshold, reason):
    nan = float("nan")
    names = ("replaced_fraction", "tie_fraction", "validation_loss", "validation_loss_stderr", "validation_accuracy")
    return {"threshold": threshold, **dict.fromkeys(names, nan), "seconds": 0.0, "status": reason}


def second_time(function):
    """Return the seconds of the second call; the first compiles."""
    function()
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def custom_name(model):
    """Name a model of the user's by what it is made of, whatever Keras called its layers this time."""
    text = model.to_json()
    for number, layer in enumerate(structure.flat_layers(model)):
        text = text.replace(f'"{layer.name}"', f'"{number}"')
    return f"custom-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
