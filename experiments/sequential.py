"""Sequential learning: one task after another, each importance measure protecting what came before.

For each measure x penalty x strength x seed the sequence is trained; after every task, one row for each task seen so
far says how well it is still known. Two ends stand beside them: no protection (measure "none", strength 0), and all
tasks at once (measure "joint"); and where asked for, replay of some earlier examples (measure "replay", whose strength
is how many of each class).
"""

import dataclasses
import time
import warnings

import numpy as np

import importance
from consolidation import ACCUMULATE
from engine import checks, draws, evaluation, structure, training
from experiments import optimizers, replicas, shared, unfit
from experiments.protection import CHECKS, ENDS, METER, Learner, Protection, check_some, hold, meter, protections
from experiments.settings import Settings, check_names
from experiments.study import Study, new_optimizer, second_time
from tasks import sequences

KEY = ["measure", "penalty", "strength", "seed", "after_task", "on_task"]
RUN = KEY[:4]
COLUMNS = [
    "run", "sequence", "model", "tasks", *KEY, "validation_accuracy", "test_accuracy", *METER, "seconds", "status",
]  # fmt: skip


PROTOCOLS = ("honest", "published")
FORGOTTEN = 0.05
"""A mean accuracy on earlier tasks up to which one speaks of everything being forgotten."""
_FORGOTTEN = (
    "All tasks but the last are forgotten ({protection}: mean accuracy on them {mean:.2f}). That is to be expected "
    "here, and no fault of the measure: the tasks have different labels, and nothing says which task an image is from "
    "(class-incremental learning), so at all but extreme strengths training on the new labels alone makes the network "
    'answer with these. Try options={{"scenario": "task"}}, in which the task is told, or "domain"; class-incremental '
    "learning needs earlier examples: replay=[20] keeps so many of each class."
)
_NOT_COMPILED = {"seeds", "measures", "penalties", "strengths", "ends", "replay", "epochs", "replicas"}


@dataclasses.dataclass(frozen=True)
class SequentialSettings(Settings):
    """What a run of sequential learning does. Measures, penalties, strengths and seeds are no part of its name.

    Attributes:
        sequence: str. A file in `tasks/sequences/`.
        model: str. A name among the models of the sequence's first task, or "custom-<hash>" for one of the user's.
        measures: tuple of str. Files in `importance/`, with options if wanted ("mas:outputs=logits").
        penalties: tuple of str. Among "plain", "stabilized", "decoupled" and "clamped", and "plain:adaptive",
            "stabilized:adaptive" and "clamped:adaptive", whose strength follows the gradients.
        strengths: tuple of float, above 0. Of the penalty (strength / 2) * sum Omega (w - w*)^2; of an adaptive one,
            its rho.
        ends: bool. Whether to run the two ends too: strength 0 (measure "none") and all tasks at once ("joint").
        replay: tuple of int, above 0. Budgets: how many examples of each class of each earlier task are kept, drawn
            from its training data, a larger budget with those of a smaller one among them. Each later task is trained
            on its own examples and as many of these, mixed, without a penalty: they are repeated until they are as
            many, and an epoch has twice the steps.
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
        accumulate: str. "sum" or "mean", likewise; a task's weight in the mean is how many labels it has.
        options: dict. Options of the sequence; of one of label subsets also `scenario`, see `tasks.sequences`.
        seeds: tuple of int. One run each; for the published protocol 0, 1, 2, ..., since what a run gives depends on
            those before it.
        replicas: int. How many runs go side by side, on JAX; see `experiments.replicas`. No part of the name: the runs
            are the same.

    References:
        The published protocol: Kutalev and Lapina, https://arxiv.org/abs/2109.10021, 2021. Its strengths for the plain
        penalty, which it writes without the 1/2, are half of those here; those for the stabilised one are the same.
    """

    VARIED = frozenset({"seeds", "measures", "penalties", "strengths", "ends", "replay", "replicas"})
    NAMED_BY = ("sequence", "model")
    CHECKS = Settings.CHECKS | CHECKS | {"protocol": checks.choice(*PROTOCOLS), "decay": checks.number(0, 1)}
    CHECKS |= {"replay": checks.several(checks.whole(), least=0), "accumulate": checks.choice(*ACCUMULATE)}

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
    replay: tuple = ()
    accumulate: str = "sum"

    def __post_init__(self):
        super().__post_init__()
        put = object.__setattr__
        check_names("sequence", (self.sequence,), sequences.names())
        check_some(self, needed=not self.ends and not self.replay)
        hold("sgd", "plain", decay=self.decay, accumulate=self.accumulate)  # which says what does not go together
        if self.replay and self.replicas > 1:
            raise ValueError(
                f"Expected replicas=1 with replay, whose tasks grow by what is kept; received {self.replicas}. Ask for "
                "replay in a call of its own: its rows join the same file."
            )
        put(self, "optimizer_options", optimizers.check(self.optimizer, self.optimizer_options))
        if self.protocol == "published" and list(self.seeds) != list(range(len(self.seeds))):
            raise ValueError(
                "Expected seeds 0, 1, 2, ... for the published protocol, in which the optimizer's state goes on from "
                f"each run to the next; received {list(self.seeds)}. Give a range: the runs that are there are kept."
            )
        if self.protocol == "published" and self.optimizer.lower() == "adam":
            put(self, "optimizer_options", {"epsilon": 1e-8, **self.optimizer_options})


class Sequential(Study):
    """Runs of sequential learning: settings, files, and compiled models.

    Args:
        sequence: str. A file in `tasks/sequences/`.
        model: str, keras.Model, or a function without arguments that returns a new keras.Model.
        out: str or path. The folder for the CSV, its settings file and `checkpoints/`.
        **settings: see `SequentialSettings`.

    Attributes:
        settings: SequentialSettings.
        store: experiments.storage.store.Store.
        timings: dict. Seconds of the last `run` spent reading "data", "training", "scoring", "evaluating", and in
            "total"; with replicas also in "moving" runs into the model and out of it.

    Raises:
        ValueError: a setting that cannot be; a model that does not fit the tasks.
        OSError: a folder that cannot be written.

    With several workers the unit of work is one run; under the published protocol, in which one run goes on from
    another, all seeds of one protection.
    """

    SETTINGS, KEY, COLUMNS = SequentialSettings, KEY, COLUMNS
    PARTS = ("data", "training", "scoring", "evaluating")

    def __init__(self, sequence, model=None, out="runs/sequential", **settings):
        self._loaded = None
        first, self._build = self.choose(
            model, lambda seed: self.sequence_of(seed).first, sequence=sequence, **settings
        )
        loaded, trial = self.sequence_of(self.settings.seeds[0]), self._build()
        self._tasks, self._class_incremental = len(loaded), loaded.apart and loaded.scenario == "class"
        of = "" if loaded.scenario == "class" else f":scenario={loaded.scenario}"
        self._sequence = self.settings.sequence + of
        first.check_model(trial)
        self.open(
            out,
            classes=first.classes,
            xla=structure.xla(trial),
            data_sha256=_digests(loaded),
            examples_per_task=loaded.sizes,
        )
        self._learners, self._placed = {}, {}
        of_learners = {name: v for name, v in self.settings.as_dict().items() if name not in _NOT_COMPILED}
        self._compiled = shared.identity(
            trial, first.loss, new_optimizer(self.settings), settings=of_learners, data=_digests(loaded),
            seed=self.settings.seeds[0], xla=structure.xla(trial),
        )  # fmt: skip
        self._replicas = replicas.Replicas(self)

    def seconds(self):
        """Say about how many seconds one run takes.

        The median of those in the file; if there are none, from training, scoring and testing on the first task once,
        with the first measure.
        """
        rows = self.store.frame()
        rows = rows[(rows["on_task"] == 1) & (rows["status"] == "ok") & (rows["penalty"] != "none")]
        if len(rows):
            return float(rows.groupby(RUN)["seconds"].sum().median())
        s, sequence = self.settings, self.sequence_of(self.settings.seeds[0])
        protection = Protection(s.measures[0], s.penalties[0], 1.0) if s.measures else ENDS[0]
        x, y = sequence.examples(0, "train")
        learner = self.learner(protection, s.seeds[0])
        learner.begin(self.new_weights(s.seeds[0]), protection.strength)
        placed, tasks = self._examples(learner, sequence, 0, "test"), len(sequence)
        steps = [(tasks * s.epochs, lambda: learner.train(x, y, [1], s.seeds[0]))]
        steps += [(tasks * (tasks + 1), lambda: learner.accuracy(placed))]
        if s.measures:
            steps += [(tasks - 1, lambda: self.scores(learner, protection, x, y, s.seeds[0]))]
        return sum(times * second_time(step) for times, step in steps)

    def cells(self):
        """List what is asked for.

        A trial is one run, a (protection, seed); under the published protocol, in which one run goes on from another,
        all seeds of one protection; with replicas, which are trained together, all runs.
        """
        for protection, seed in self._pairs():
            name = f"{protection.file_name}-all" if self.carries else protection.trial(seed)
            trial = "replicas" if self.settings.replicas > 1 else name
            yield trial, (protection, seed), _cells(protection, seed, self._tasks)

    def do(self, missing):
        """Do the runs that are missing of a trial."""
        failed = self.unfit({p.measure for (p, _), _ in missing if p.penalty != "none"})
        runs = []
        for (protection, seed), _ in missing:
            if protection.measure in failed:
                self.give_up(protection, seed, 1, why=failed[protection.measure])
                self.finished()
            else:
                runs.append((protection, seed))
        if self.settings.replicas > 1:
            self._replicas.run(runs, self.finished)
            return
        for protection, seed in runs:
            self.begun(str(protection))
            self._reach(protection, seed)
            self.finished()

    def try_measures(self, measures):
        """Score a new network by each measure, before it is trained; return {measure: None, or why that failed}."""
        found, seed = {}, self.settings.seeds[0]
        for measure in measures:
            protection = Protection(measure, self.settings.penalties[0], 0.0)
            x, y = self.sequence_of(seed).examples(0, "train")
            learner = self.learner(protection, seed)
            learner.begin(self.new_weights(seed), 0.0)
            learner.restart()
            unfit.stand_still(learner.model)
            for part in (slice(unfit.EXAMPLES), slice(None)):
                _, found[measure] = self.scores(learner, protection, x[part], y[part], seed)
                if found[measure] is None:
                    break
        return found

    def _pairs(self):
        """List the (protection, seed) that were asked for, in the order in which they are to be run."""
        s = self.settings
        replays = [Protection("replay", "none", float(budget)) for budget in s.replay]
        asked = [*(ENDS if s.ends else ()), *replays, *protections(s)]
        if self.carries:
            return [(protection, seed) for protection in asked for seed in s.seeds]
        return [(protection, seed) for seed in s.seeds for protection in asked]  # a seed's data are read once

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
            if self.store:
                self.store.check_data(_digests(loaded))
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
        kept = self.checkpoints(protection.file_name, protection.measure)
        first = seeds.index(seed)
        carried = None
        while first > 0 and carried is None:
            if seeds[first - 1] in kept.epochs():
                carried = kept.load(seeds[first - 1])
            first -= carried is None
        return seeds[first : seeds.index(seed) + 1], carried

    def keep(self, protection, seed, state):
        """Keep the optimizer's state at the end of a run, for the next seed."""
        self.checkpoints(protection.file_name, protection.measure).save(seed, state)

    def _run(self, protection, seed, carried):
        """Train the sequence once; return the optimizer's state at its end."""
        with self.timed("data"):
            sequence = self.sequence_of(seed)
        learner = self.learner(protection, seed)
        learner.begin(self.new_weights(seed), protection.strength, carried=carried)
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
            with self.timed("training"):
                learner.train(x, y, [epoch], seed)
        if not learner.finite():
            self.give_up(protection, seed, tasks)
            return
        self._record(learner, sequence, protection, seed, tasks, time.perf_counter() - started)

    def mixed(self, seed, sizes):
        """Yield for every part of every epoch the rows of each task, of which there are as many as `sizes` says."""
        tasks = len(sizes)
        random = draws.generator(seed, "mixture of tasks")
        for _ in range(self.settings.epochs):
            orders = [random.permutation(size) for size in sizes]
            for part in range(tasks):
                yield [order[part::tasks] for order in orders]

    def _train_in_turn(self, learner, sequence, protection, seed):
        s = self.settings
        kept = self.checkpoints(protection.trial(seed), protection.measure)
        reached, arrays = kept.latest(self._written(protection, seed))
        if reached:
            learner.restore(arrays)
        for number in range(reached + 1, len(sequence) + 1):
            started = time.perf_counter()
            with self.timed("data"):
                x, y = self._trained_on(sequence, protection, seed, number)
            epochs = range((number - 1) * s.epochs + 1, number * s.epochs + 1)
            with self.timed("training"):
                learner.train(x, y, epochs, seed)
            if not learner.finite():
                self.give_up(protection, seed, number)
                return
            if number < len(sequence) and protection.penalty != "none":
                with self.timed("scoring"):
                    scores, why = self.scores(learner, protection, x, y, seed)
            self._record(learner, sequence, protection, seed, number, time.perf_counter() - started)
            if number < len(sequence):
                if protection.penalty != "none":
                    if why or not training.finite(scores):
                        self.give_up(protection, seed, number, "importances", why)
                        return
                    learner.protect(scores, len(np.unique(y)))
                kept.save(number, learner.state())
        kept.clear()

    def _trained_on(self, sequence, protection, seed, number):
        """Return the examples that a task is trained on: its own and, with replay, those kept of earlier ones."""
        own = sequence.examples(number - 1, "train")
        if protection.measure != "replay" or number == 1:
            return own
        parts = []
        for earlier in range(number - 1):
            _, y = sequence.examples(earlier, "train")
            random = draws.generator(seed, "replay", earlier)
            of_classes = [random.permutation(np.flatnonzero(y == label)) for label in np.unique(y)]
            chosen = np.concatenate([rows[: int(protection.strength)] for rows in of_classes])
            parts.append(sequence.examples(earlier, "train", chosen))
        kept = tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        order = draws.generator(seed, "order of replay", number).permutation(len(kept[1]))
        rows = np.resize(order, max(len(order), len(own[1])))
        return tuple(np.concatenate([new, old[rows]]) for new, old in zip(own, kept, strict=True))

    def _written(self, protection, seed):
        """Return the last task but the final one up to which all rows of a run are there."""
        cells, done = _cells(protection, seed, self._tasks), self.store.done
        missing = [cell["after_task"] for cell in cells if self.store.key_of(cell) not in done]
        return min([*missing, self._tasks]) - 1

    def scores(self, learner, protection, x, y, seed):
        """Score every weight of a learner's model on the training examples of a task; see `unfit.attempt`."""
        examples = self.settings.examples
        if self.settings.protocol == "published" and examples is not None:
            x, y, examples = x[-examples:], y[-examples:], None

        def score():
            measure, (model, asked, loss) = importance.load(protection.measure), learner.seen(y)
            optimizer = learner.model.optimizer
            return measure.score(model, x, asked, seed=seed, loss=loss, examples=examples, optimizer=optimizer)

        return unfit.attempt(score, learner.model)

    def kind(self, protection):
        """Return the penalty of a run and the measure that watches its training, if it does."""
        watches = protection.penalty != "none" and importance.load(protection.measure).definition.observe is not None
        return protection.penalty, protection.measure if watches else None

    def learner(self, protection, seed):
        """Return the compiled model for a kind of runs; strengths and seeds share it."""
        key = self.kind(protection)
        if key not in self._learners:
            loss, (penalty, watching) = self.sequence_of(seed).first.loss, key
            measure = watching and importance.digests()[watching.partition(":")[0]]
            self._learners[key] = shared.kept(
                (self._compiled, *key, measure), lambda: _Learner(self._build, loss, self.settings, penalty, watching)
            )
        return self._learners[key]

    def new_weights(self, seed):
        """Return the weights that the runs of a seed begin with: list of arrays, as `training.model_variables`."""
        return training.values(training.model_variables(training.initial(self._build, seed)))

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

    def give_up(self, protection, seed, number, what="weights", why=None):
        """Record that a run ended because its weights are no longer finite, with NaN for what is not written yet.

        Weights that are finite but huge may have importances that are not: then it ended for those. Or the measure
        cannot score the network: `why` says that.
        """
        said = f"The measure {why}" if why else f"The {what} are no longer finite after task {number}"
        warnings.warn(f"{said} with {protection!r}, seed {seed}; the run is recorded so.", stacklevel=2)
        why = why or f"{what} are not finite after task {number}"
        nan = float("nan")
        for after in range(number, self._tasks + 1):
            rows = [(on, nan, nan, why) for on in range(1, after + 1)]
            self.write(protection, seed, after, rows, None, nan)

    def write(self, protection, seed, after, found, stability, seconds):
        """Write the rows of one task learnt: found holds (on_task, validation accuracy, test accuracy, status)."""
        s = self.settings
        about = {
            "run": s.name, "sequence": self._sequence, "model": s.model, "tasks": self._tasks,
            **protection._asdict(), "seed": seed, "after_task": after, "seconds": round(seconds, 3),
            **meter(stability),
        }  # fmt: skip
        self._say_if_forgotten(protection, [test for _, _, test, _ in found])
        self.store.complete(
            {**about, "on_task": on, "validation_accuracy": validation, "test_accuracy": test, "status": status}
            for on, validation, test, status in found
        )

    def _say_if_forgotten(self, protection, accuracies):
        """Say once why a whole run that was protected knows nothing but the last task, where that is to be expected."""
        *earlier, last = accuracies
        whole = len(accuracies) == self._tasks > 1 and protection.penalty != "none"
        if self._class_incremental and whole and np.mean(earlier) <= FORGOTTEN < last:
            self._class_incremental = False
            warnings.warn(_FORGOTTEN.format(protection=protection, mean=np.mean(earlier)), stacklevel=2)


class _Learner(Learner):
    """The learner of runs with one penalty, whose measures watch training alike, and what tests it."""

    def __init__(self, build, loss, settings, penalty, measure):
        optimizer = new_optimizer(settings)

        def track(optimizer):
            return importance.Tracked(optimizer, [measure]) if measure else optimizer

        def held(optimizer):
            options = {name: getattr(settings, name) for name in ("decay", "separate", "accumulate")}
            return hold(optimizer, penalty, **options)

        # The published code lets a trajectory measure see the penalised gradient.
        optimizer = held(track(optimizer)) if settings.protocol == "published" else track(held(optimizer))
        super().__init__(build(), optimizer, loss, settings.batch_size)
        self.accuracy = evaluation.Accuracy(self.model, loss=loss)


def run(sequence, model=None, out="runs/sequential", watch=None, progress=True, workers=1, gpus=0.0, **settings):
    """Do runs of sequential learning, or those that are missing; see `Sequential` and `Sequential.run`.

    Returns:
        pandas.DataFrame. One row for each run, task learnt and task tested; the same rows are in
        `<out>/<run name>.csv`.

    Example:
        ```python
        frame = sequential.run("permuted_digits", measures=["fisher_empirical"], penalties=["plain", "stabilized"],
                               strengths=[1.0, 10.0, 100.0], seeds=range(3), out="runs/sequential")
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


def _digests(sequence):
    return {task: base.digest for task, base in sorted(sequence.bases.items())}


def _cells(protection, seed, tasks):
    """List the keys of a run's rows."""
    return [
        {**protection._asdict(), "seed": seed, "after_task": after, "on_task": on}
        for after in range(tasks if protection.measure == "joint" else 1, tasks + 1)
        for on in range(1, after + 1)
    ]


STUDY = Sequential
