"""Sequential learning: one task after another, each importance measure protecting what came before.

For each measure x penalty x strength x seed the sequence is trained; after every task, one row for each task seen so
far says how well it is still known. Two ends stand beside them: no protection (measure "none", strength 0), and all
tasks at once (measure "joint").
"""

import re
import time
import warnings
from typing import NamedTuple

import keras
import numpy as np

import importance
from consolidation import ElasticWeightConsolidation, Stability, find
from engine import backend, evaluation, structure, training, wrapper
from experiments import checkpoints, crew, replicas
from experiments.job import Job
from experiments.settings import SequentialSettings
from experiments.store import Store
from experiments.threshold_grid import custom_name, second_time
from tasks import sequences

KEY = ["measure", "penalty", "strength", "seed", "after_task", "on_task"]
RUN = KEY[:4]
METER = [f"ewc_{name}" for name in Stability._fields]
COLUMNS = [
    "run", "sequence", "model", "tasks", *KEY, "validation_accuracy", "test_accuracy", *METER, "seconds", "status",
]  # fmt: skip


class Protection(NamedTuple):
    """What tells one run from another, beside its seed.

    Attributes:
        measure: str. A measure, or "none" or "joint".
        penalty: str. "plain", "stabilized", "decoupled" or "none".
        strength: float.
    """

    measure: str
    penalty: str
    strength: float


ENDS = (Protection("none", "none", 0.0), Protection("joint", "none", 0.0))


class Sequential(Job):
    """Runs of sequential learning: settings, files, and compiled models.

    Args:
        sequence: str. A file in `tasks/sequences/`.
        model: str, keras.Model, or a function without arguments that returns a new keras.Model.
        out: str or path. The folder for the CSV, its settings file and `checkpoints/`.
        **settings: see `experiments.settings.SequentialSettings`.

    Attributes:
        settings: SequentialSettings.
        store: experiments.store.Store.
        timings: dict. Seconds of the last `run` spent reading "data", "training", "scoring", "evaluating", and in
            "total"; with replicas also in "moving" runs into the model and out of it.

    Raises:
        ValueError: a setting that cannot be; a model that does not fit the tasks.
        OSError: a folder that cannot be written.

    With several workers the unit of work is one run; under the published protocol, in which one run goes on from
    another, all seeds of one protection.
    """

    PARTS = ("data", "training", "scoring", "evaluating")

    def __init__(self, sequence, model=None, out="data", **settings):
        settings["sequence"] = sequence
        own = not isinstance(model, (str, type(None)))
        if own:
            self._build = (lambda: keras.models.clone_model(model)) if isinstance(model, keras.Model) else model
        self.settings = SequentialSettings(model=custom_name(self._build()) if own else model or "default", **settings)
        self._loaded = None
        sequence = self.sequence_of(self.settings.seeds[0])
        self._tasks, first = len(sequence), sequence.first
        if model is None:
            self.settings = SequentialSettings(model=first.models[0], **settings)
        if not own:
            self._build = lambda: first.build_model(self.settings.model)
        trial = self._build()
        first.check_model(trial)
        about = self.settings.as_dict()
        about = {key: value for key, value in about.items() if key not in self.settings.VARIED}
        self.store = Store(
            out, self.settings.name, COLUMNS, KEY,
            {
                "settings": about, "classes": first.classes, "xla": structure.xla(trial),
                "data_sha256": {task: base.digest for task, base in sorted(sequence.bases.items())},
                "measures_sha256": importance.digests(),
            },
        )  # fmt: skip
        self._learners, self._placed = {}, {}
        self._replicas = replicas.Replicas(self)
        self.timings = {}

    def seconds(self):
        """Say about how many seconds one run takes.

        The median of those in the file; if there are none, from training, scoring and testing on the first task once,
        with the first measure.
        """
        rows = self.store.frame()
        rows = rows[(rows["on_task"] == 1) & (rows["status"] == "ok") & ~rows["measure"].isin(["none", "joint"])]
        if len(rows):
            return float(rows.groupby(RUN)["seconds"].sum().median())
        s, sequence = self.settings, self.sequence_of(self.settings.seeds[0])
        protection = Protection(s.measures[0], s.penalties[0], 1.0) if s.measures else ENDS[0]
        x, y = sequence.examples(0, "train")
        learner = self.learner(protection, s.seeds[0])
        learner.begin(s.seeds[0], protection.strength, None)
        placed, tasks = self._examples(learner, sequence, 0, "test"), len(sequence)
        steps = [(tasks * s.epochs, lambda: learner.train(x, y, [1], s.seeds[0], self.timed))]
        steps += [(tasks * (tasks + 1), lambda: learner.accuracy(placed))]
        if s.measures:
            steps += [(tasks - 1, lambda: self.scores(learner, protection, x, y, s.seeds[0]))]
        return sum(times * second_time(step) for times, step in steps)

    def wanted(self):
        """Return the keys of all rows that were asked for: set of tuples of str."""
        return {self.store.key_of(cell) for run in self._pairs() for cell in _cells(*run, self._tasks)}

    def trials(self):
        """Return the runs that are missing of each trial: {name: [(protection, seed), ...]}.

        A trial is one run; under the published protocol, in which one run goes on from another, all seeds of one
        protection; with replicas, which are trained together, all runs.
        """
        found, done = {}, self.store.done
        for protection, seed in self._pairs():
            name = f"{file_name(protection)}-all" if self.carries else f"{file_name(protection)}-seed-{seed}"
            runs = found.setdefault("replicas" if self.settings.replicas > 1 else name, [])
            if any(self.store.key_of(cell) not in done for cell in _cells(protection, seed, self._tasks)):
                runs.append((protection, seed))
        return found

    def description(self):
        """Return what another process needs to make the same runs: dict, as JSON knows it.

        Raises:
            ValueError: a model of the user's, which has no name in the sequence.
        """
        if self.settings.model.startswith("custom-"):
            raise ValueError(crew.NEEDS_A_NAME.format(model=self.settings.model))
        return {"kind": "sequential", "out": str(self.store.folder.absolute()), "settings": self.settings.as_dict()}

    def do(self, missing):
        """Do the runs that are missing of a trial; see `trials`."""
        self._done = self.store.done
        if self.settings.replicas > 1:
            self._replicas.run(missing, self.finished)
            return
        for protection, seed in missing:
            self.begun(protection)
            self._reach(protection, seed)
            self.finished()

    def _pairs(self):
        """List the (protection, seed) that were asked for, in the order in which they are to be run."""
        s = self.settings
        protections = [Protection(m, p, v) for m in s.measures for p in s.penalties for v in s.strengths]
        protections = [*(ENDS if s.ends else ()), *protections]
        if self.carries:
            return [(protection, seed) for protection in protections for seed in s.seeds]
        return [(protection, seed) for seed in s.seeds for protection in protections]  # a seed's data are read once

    @property
    def carries(self):
        """Whether the optimizer's state goes on from one seed to the next."""
        return self.settings.protocol == "published"

    @property
    def tested(self):
        """The parts of the data that accuracies are measured on; one if validation is on the test data."""
        return ("test",) if self.settings.protocol == "published" else ("validation", "test")

    def sequence_of(self, seed):
        """Return the tasks of a seed: tasks.sequences.LoadedSequence. The last one is kept."""
        if self._loaded is None or self._loaded[0] != seed:
            validation = "test" if self.settings.protocol == "published" else 0.1
            loaded = sequences.load(self.settings.sequence, validation=validation, seed=seed, **self.settings.options)
            self._loaded, self._placed = (seed, loaded), {}
        return self._loaded[1]

    def _reach(self, protection, seed):
        """Do one run, and before it those whose optimizer state it goes on from, if that was not kept."""
        if not self.carries:
            self._run(protection, seed, None)
            return
        seeds, carried = self.leading_to(protection, seed)
        for each in seeds:
            carried = self._run(protection, each, carried)
            self.keep(protection, each, carried)

    def leading_to(self, protection, seed):
        """Return the seeds to run, up to this one, and the optimizer's state that the first of them goes on from."""
        seeds = self.settings.seeds
        kept = self._checkpoints(file_name(protection))
        first = seeds.index(seed)
        carried = None
        while first > 0 and carried is None:
            if seeds[first - 1] in kept.epochs():
                carried = kept.load(seeds[first - 1])
            first -= carried is None
        return seeds[first : seeds.index(seed) + 1], carried

    def keep(self, protection, seed, state):
        """Keep the optimizer's state at the end of a run, for the next seed."""
        self._checkpoints(file_name(protection)).save(seed, state)

    def _checkpoints(self, name):
        return checkpoints.Checkpoints(self.store.folder / "checkpoints" / self.settings.name / name)

    def _run(self, protection, seed, carried):
        """Train the sequence once; return the optimizer's state at its end."""
        with self.timed("data"):
            sequence = self.sequence_of(seed)
        learner = self.learner(protection, seed)
        learner.begin(seed, protection.strength, carried)
        train = self._train_at_once if protection.measure == "joint" else self._train_in_turn
        train(learner, sequence, protection, seed)
        return learner.optimizer_state()

    def _train_at_once(self, learner, sequence, protection, seed):
        """Train on the examples of all tasks, mixed.

        An epoch is cut into as many parts as there are tasks, each with an equal share of every task's examples, so
        that no more than a task's worth of them is in memory.
        """
        tasks, started = len(sequence), time.perf_counter()
        with self.timed("data"):
            sizes = [len(sequence.examples(k, "train")[1]) for k in range(tasks)]
        for epoch, shares in enumerate(self.mixed(seed, sizes), 1):
            with self.timed("data"):
                shares = [sequence.examples(k, "train", rows) for k, rows in enumerate(shares)]
                x, y = (np.concatenate(arrays) for arrays in zip(*shares, strict=True))
            learner.train(x, y, [epoch], seed, self.timed)
        if not learner.finite():
            self.give_up(protection, seed, tasks)
            return
        self._record(learner, sequence, protection, seed, tasks, time.perf_counter() - started)

    def mixed(self, seed, sizes):
        """Yield for every part of every epoch the rows of each task, of which there are as many as `sizes` says."""
        tasks = len(sizes)
        random = np.random.default_rng([seed, tasks])
        for _ in range(self.settings.epochs):
            orders = [random.permutation(size) for size in sizes]
            for part in range(tasks):
                yield [order[part::tasks] for order in orders]

    def _train_in_turn(self, learner, sequence, protection, seed):
        s = self.settings
        kept = self._checkpoints(f"{file_name(protection)}-seed-{seed}")
        reached, arrays = kept.latest(self._written(protection, seed))
        if reached:
            learner.restore(arrays)
        for number in range(reached + 1, len(sequence) + 1):
            started = time.perf_counter()
            with self.timed("data"):
                x, y = sequence.examples(number - 1, "train")
            epochs = range((number - 1) * s.epochs + 1, number * s.epochs + 1)
            learner.train(x, y, epochs, seed, self.timed)
            if not learner.finite():
                self.give_up(protection, seed, number)
                return
            if number < len(sequence) and protection.measure != "none":
                with self.timed("scoring"):
                    scores = self.scores(learner, protection, x, y, seed)
            self._record(learner, sequence, protection, seed, number, time.perf_counter() - started)
            if number < len(sequence):
                if protection.measure != "none":
                    if not training.finite(scores):
                        self.give_up(protection, seed, number, "importances")
                        return
                    learner.protect(scores)
                kept.save(number, learner.state())
        kept.clear()

    def _written(self, protection, seed):
        """Return the last task but the final one up to which all rows of a run are there."""
        cells = _cells(protection, seed, self._tasks)
        return (
            min(
                cell["after_task"]
                for cell in cells
                if cell["after_task"] == self._tasks or self.store.key_of(cell) not in self._done
            )
            - 1
        )

    def scores(self, learner, protection, x, y, seed):
        """Score every weight of a learner's model on the training examples of a task."""
        examples = self.settings.examples
        if self.settings.protocol == "published" and examples is not None:
            x, y, examples = x[-examples:], y[-examples:], None
        return importance.load(protection.measure).score(
            learner.model, x, y, seed=seed, loss=learner.loss, examples=examples
        )

    def kind(self, protection):
        """Return the penalty of a run and the measure that watches its training, if it does."""
        watches = protection.penalty != "none" and importance.load(protection.measure).definition.observe is not None
        return protection.penalty, protection.measure if watches else None

    def learner(self, protection, seed):
        """Return the compiled model for a kind of runs; strengths and seeds share it."""
        key = self.kind(protection)
        if key not in self._learners:
            first = self.sequence_of(seed).first
            self._learners[key] = _Learner(self._build, first.loss, self.settings, *key)
        return self._learners[key]

    def _record(self, learner, sequence, protection, seed, after, seconds):
        found = []
        with self.timed("evaluating"):
            for on in range(1, after + 1):
                of = {part: learner.accuracy(self._examples(learner, sequence, on - 1, part)) for part in self.tested}
                found.append((on, of.get("validation", of["test"]), of["test"], "ok"))
        self.write(protection, seed, after, found, learner.stability(), seconds)

    def _examples(self, learner, sequence, index, part):
        """Return examples on the device; those of a seed serve all its runs."""
        if (index, part) not in self._placed:
            self._placed[index, part] = learner.accuracy.place(*sequence.examples(index, part))
        return self._placed[index, part]

    def give_up(self, protection, seed, number, what="weights"):
        """Record that a run ended because its weights are no longer finite, with NaN for what is not written yet.

        Weights that are finite but huge may have importances that are not: then it ended for those.
        """
        warnings.warn(
            f"The {what} are no longer finite after task {number} with {protection}, seed {seed}; the run is "
            "recorded so.",
            stacklevel=2,
        )
        nan = float("nan")
        for after in range(number, self._tasks + 1):
            rows = [(on, nan, nan, f"{what} are not finite after task {number}") for on in range(1, after + 1)]
            self.write(protection, seed, after, rows, Stability(*[nan] * len(METER)), nan)

    def write(self, protection, seed, after, found, stability, seconds):
        """Write the rows of one task learnt: found holds (on_task, validation accuracy, test accuracy, status)."""
        s = self.settings
        about = {
            "run": s.name, "sequence": s.sequence, "model": s.model, "tasks": self._tasks,
            **protection._asdict(), "seed": seed, "after_task": after, "seconds": round(seconds, 3),
            **dict(zip(METER, (float(f"{value:.6g}") for value in stability), strict=True)),
        }  # fmt: skip
        rows = [
            {**about, "on_task": on, "validation_accuracy": validation, "test_accuracy": test, "status": status}
            for on, validation, test, status in found
        ]
        missing = [row for row in rows if self.store.key_of(row) not in self._done]
        self.store.append(missing)
        self._done |= {self.store.key_of(row) for row in missing}


class _Learner:
    """One compiled model and optimizer, used for many runs."""

    def __init__(self, build, loss, settings, penalty, measure):
        self._build, self.loss, self._settings = build, loss, settings
        config = {"learning_rate": settings.learning_rate, **settings.optimizer_options}
        optimizer = keras.optimizers.get({"class_name": settings.optimizer, "config": config})

        def track(optimizer):
            return importance.Tracked(optimizer, [measure]) if measure else optimizer

        def hold(optimizer):
            kind = {} if penalty == "plain" else {penalty: True}
            return ElasticWeightConsolidation(
                optimizer, 0.0, decay=settings.decay, separate=settings.separate, **kind
            )  # fmt: skip

        if penalty != "none":
            # The published code lets a trajectory measure see the penalised gradient.
            optimizer = hold(track(optimizer)) if settings.protocol == "published" else track(hold(optimizer))
        self.model, self._optimizer = build(), optimizer
        self._penalty = find(optimizer)
        self._tracked = next((o for o in wrapper.unwrapped(optimizer) if isinstance(o, importance.Tracked)), None)
        training.compile_model(self.model, optimizer, loss)
        self._start = training.values(optimizer.variables)
        self.accuracy = evaluation.Accuracy(self.model)

    def begin(self, seed, strength, carried):
        """Put new weights into the model and the optimizer back to its start, or to the state of an earlier run."""
        keras.utils.set_random_seed(seed)
        fresh = self._build()
        training.assign(training.model_variables(self.model), training.values(training.model_variables(fresh)))
        training.assign(self._optimizer.variables, self._start)
        if carried is not None:
            training.assign(wrapper.unwrapped(self._optimizer)[-1].variables, carried)
        if self._penalty:
            self._penalty.strength = strength

    def optimizer_state(self):
        """Copy the state of the innermost optimizer, without importances, anchors and records.

        It is what the next run goes on from; that of an explosion would be the end of all later ones, so the next
        begins anew.
        """
        state = training.values(wrapper.unwrapped(self._optimizer)[-1].variables)
        return state if training.finite(state) else self._start[-len(state) :]

    def state(self):
        """Copy all that a run has changed so far."""
        return training.state(self.model, self._optimizer)

    def restore(self, arrays):
        """Put back what `state` copied."""
        training.restore(self.model, self._optimizer, arrays)

    def restart(self):
        """Let the measure and the meter begin anew, as a new task does."""
        if self._tracked:
            self._tracked.restart()
        if self._penalty:
            self._penalty.restart_meter()

    def variables(self):
        """List what training changes: weights, the model's other variables, the optimizer's, and its metrics'."""
        model = self.model
        return [
            model.trainable_variables, model.non_trainable_variables, self._optimizer.variables,
            model.metrics_variables,
        ]  # fmt: skip

    def train(self, x, y, epochs, seed, timed):
        self.restart()
        with timed("training"):
            training.train(self.model, x, y, epochs, self._settings.batch_size, seed)
            backend.copied(self._optimizer.iterations)  # wait until it is done

    def protect(self, importances):
        self._penalty.consolidate(importances)

    def finite(self):
        return training.finite(training.values(self.model.trainable_variables))

    def stability(self):
        return self._penalty.stability() if self._penalty else Stability(0.0, 0.0, 0.0, 0.0, 0.0, 1.0)


def run(sequence, model=None, out="data", watch=None, progress=True, workers=1, gpus=0.0, **settings):
    """Do runs of sequential learning, or those that are missing; see `Sequential` and `Sequential.run`.

    Returns:
        pandas.DataFrame. One row for each run, task learnt and task tested; the same rows are in
        `<out>/<run name>.csv`.

    Example:
        ```python
        frame = sequential.run("permuted_digits", measures=["fisher_empirical"], penalties=["plain", "stabilized"],
                               strengths=[1.0, 10.0, 100.0], seeds=range(3), out="data")
        sequential.summary(frame).groupby(["measure", "penalty", "strength"]).test_accuracy.mean()
        ```
    """
    return Sequential(sequence, model, out, **settings).run(watch, progress, workers, gpus)


def summary(frame):
    """Summarise every finished run in one row.

    With a(t, k) the accuracy on task k after task t, and n tasks:

        accuracy           mean over k of a(n, k)
        forgetting         mean over k < n of max over t < n of a(t, k) - a(n, k)
        backward_transfer  mean over k < n of a(n, k) - a(k, k)

    Args:
        frame: pandas.DataFrame. As `run` returns it.

    Returns:
        pandas.DataFrame. One row for each measure, penalty, strength and seed; columns `validation_accuracy`,
        `validation_forgetting`, `validation_backward_transfer`, and the same with `test_`. NaN for runs whose weights
        became infinite; for "joint", which sees all tasks at once, forgetting and backward transfer are NaN.

    References:
        Forgetting: Chaudhry et al., "Riemannian walk for incremental learning", ECCV 2018. Backward transfer: Lopez-Paz
        & Ranzato, "Gradient episodic memory for continual learning", NeurIPS 2017.
    """
    import pandas as pd

    rows = []
    for key, of_run in frame.groupby(RUN, sort=True):
        tasks = int(of_run["tasks"].iloc[0])
        last = of_run[of_run["after_task"] == tasks]
        if len(last) < tasks:
            continue
        row = dict(zip(RUN, key, strict=True))
        for part in ("validation", "test"):
            matrix = of_run.pivot(index="after_task", columns="on_task", values=f"{part}_accuracy").to_numpy()
            row |= {f"{part}_{name}": value for name, value in _transfer(matrix, tasks).items()}
        rows.append(row)
    return pd.DataFrame(rows)


def _transfer(matrix, tasks):
    """Summarise accuracies (after task, on task), NaN above the diagonal."""
    final = matrix[-1]
    found = {"accuracy": final.mean(), "forgetting": np.nan, "backward_transfer": np.nan}
    if len(matrix) == tasks > 1 and np.isfinite(final).all():
        found["forgetting"] = np.mean(np.nanmax(matrix[:-1, :-1], axis=0) - final[:-1])
        found["backward_transfer"] = np.mean(final[:-1] - np.diagonal(matrix)[:-1])
    return found


def _cells(protection, seed, tasks):
    """Yield the keys of a run's rows."""
    for after in range(tasks if protection.measure == "joint" else 1, tasks + 1):
        for on in range(1, after + 1):
            yield {**protection._asdict(), "seed": seed, "after_task": after, "on_task": on}


def file_name(protection):
    """Name the files of a protection; different strengths have different names."""
    strength = f"{protection.strength:g}"
    strength = strength if float(strength) == protection.strength else repr(protection.strength)
    return re.sub(r"[^\w.,=+-]", "-", f"{protection.measure}-{protection.penalty}-{strength}")
