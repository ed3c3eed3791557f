"""What a study is: a question put to networks that training has made, answered in rows.

A study is one file in this folder, and its file name is its name: in settings files, for `experiments.status` and for
workers. It defines `STUDY`, a subclass of `Study`; nothing else has to know of it, and no study imports another. A
complete one:

```python
# experiments/losses.py: the validation loss of a network that has not learnt anything
import dataclasses

import tasks
from engine import training
from experiments.settings import Settings
from experiments.study import Study


@dataclasses.dataclass(frozen=True)
class LossSettings(Settings):
    task: str
    model: str
    seeds: tuple = (0,)


class Losses(Study):
    SETTINGS, KEY, COLUMNS = LossSettings, ["seed"], ["run", "task", "model", "seed", "loss"]

    def __init__(self, task, model, out="runs", **settings):
        self.settings = LossSettings(task, model, **settings)
        self.open(out)

    def cells(self):
        for seed in self.settings.seeds:
            yield f"seed-{seed}", seed, [{"seed": seed}]

    def do(self, missing):
        s = self.settings
        for seed, cells in missing:
            task = tasks.load(s.task, seed=seed)
            model = training.initial(lambda task=task: task.build_model(s.model), seed)
            loss = float(task.loss(task.y_validation, model(task.x_validation)))
            row = {"run": s.name, "task": s.task, "model": s.model, "loss": loss}
            self.store.append([{**row, **cell} for cell in cells])
            self.finished()


STUDY = Losses
```
"""

import dataclasses
import hashlib
import pathlib
import time
from contextlib import contextmanager

import keras

import importance
import tasks
from engine import backend, checks, structure
from experiments import unfit
from experiments.progress import Interrupted, Progress
from experiments.storage.checkpoints import Checkpoints
from experiments.storage.store import SCHEMA, Store
from experiments.workers import start

_NEEDS_A_NAME = (
    "Expected a model that other processes can build too, one that the task knows by name, received {model}, which is "
    'an object of this process. Use workers=1, or workers="join" in each process that makes it.'
)
_NEEDS_A_FILE = (
    "Expected a task that other processes can read too, a file in tasks/, received {task}, which is arrays of this "
    'process. Use workers=1, or workers="join" in each process that makes it.'
)


class Study:
    """A study: its settings, some of which are columns of its rows, and its file.

    A subclass is made of keyword arguments, its settings and `out`; it sets `settings`, calls `open`, and has `cells`
    and `do`, which calls `finished` after every run, or whatever is counted. The rest follows from these: what is
    missing, and the workers that do it, since a study is a job of `experiments.workers.desk`.

    Attributes:
        SETTINGS: subclass of experiments.settings.Settings.
        KEY: list of str. The columns that tell one row from another.
        COLUMNS: list of str. All columns; "run" holds the run's name.
        FIRST_COLUMNS: list of str. Those of a file of the first version, if its name took in more of the settings.
        UNIT: str. What is counted.
        PARTS: tuple of str. What `timings` tells apart.
        PREPARED: bool. Whether making the study puts a model on the device, so that to try measures there takes nothing
            from other processes that do the work.
        settings: of type `SETTINGS`.
        store: experiments.storage.store.Store.
        timings: dict. Seconds of the last `run`, of each of `PARTS` and in "total".
    """

    UNIT, PARTS, PREPARED = "run", (), True
    _own_model = store = None

    def cells(self):
        """List what is asked for, in the order in which it is to be done.

        Returns:
            iterable of (trial, run, cells). A trial is what one worker does at a time: its name, a str, is that of its
            checkpoints, and its rows depend on no other trial. A run is a part of it, whatever tells `do` which; cells
            are those of the run's rows, dicts that hold the `KEY`.
        """
        raise NotImplementedError

    def do(self, missing):
        """Do what is missing of a trial. It may die at any instant and be called again.

        Args:
            missing: list of (run, cells). The runs of the trial of which cells are missing, and those cells.
        """
        raise NotImplementedError

    def try_measures(self, measures):
        """Score a network that is not trained yet by each measure, to know beforehand which cannot.

        Args:
            measures: list of str.

        Returns:
            dict. From measure to None, or to why it cannot score the network.
        """
        return dict.fromkeys(measures)

    def choose(self, model, task_of, **settings):
        """Set `settings`, where the model may be one of the user's.

        Args:
            model: str, None for the first that the task has, keras.Model, or a function that returns a new one. A model
                of the user's is cloned for every run, with new weights.
            task_of: callable `task_of(seed)`. The task that has the models: tasks.LoadedTask.
            **settings: the others.

        Returns:
            task: tasks.LoadedTask. That of the first seed.
            build: function that builds the model, with new weights.
        """
        if isinstance(model, (str, type(None))):
            name = "default" if model is None else model
        else:
            if not callable(model):
                raise ValueError(
                    f"Expected model to be a name, a keras.Model or a function that returns one, received {model!r}."
                )
            self._own_model = (lambda: keras.models.clone_model(model)) if isinstance(model, keras.Model) else model
            name = f"custom-{structure_digest(self._own_model())}"
        self.settings = self.SETTINGS(model=name, **settings)
        task = task_of(self.settings.seeds[0])
        if model is None:
            self.settings = dataclasses.replace(self.settings, model=task.models[0])
        return task, self._own_model or (lambda: task.build_model(self.settings.model))

    def open(self, out, **about):
        """Open the file that the rows go to.

        Args:
            out: str or path. Its folder.
            **about: what the settings file says beside the settings and, if rows have a `measure`, digests of those.
        """
        s, out = self.settings, checks.path("out", out)
        settings = {name: value for name, value in s.as_dict().items() if name not in s.VARIED}
        about = {"kind": self.study, "settings": settings, **about}
        if "measure" in self.COLUMNS:
            about["measures_sha256"] = importance.digests()
        name, columns, first = s.name, self.COLUMNS, pathlib.Path(out) / s.first_name
        if s.first_name != name and any(first.with_name(f"{first.name}{end}").exists() for end in (".csv", ".csv.gz")):
            name, columns = s.first_name, self.FIRST_COLUMNS
        self.store, self._about = Store(out, name, columns, self.KEY, about), about
        self.timings, self._progress = dict.fromkeys(self.PARTS, 0.0), Progress(0, self.UNIT, shown=False)

    @property
    def study(self):
        """The study's name, which is that of its file."""
        return type(self).__module__.rpartition(".")[2]

    def asking(self, **varied):
        """Ask for other runs from now on; their rows join the same file, and compiled models serve them too.

        Args:
            **varied: of `measures`, `penalties`, `strengths`, `ends` and `seeds`, those that change.

        Returns:
            This object.

        Raises:
            ValueError: a setting that decides the run's name, or that cannot be.
        """
        others = sorted(set(varied) - self.settings.VARIED)
        if others:
            raise ValueError(
                f"Expected only settings that are columns of the rows ({', '.join(sorted(self.settings.VARIED))}), "
                f"received {', '.join(others)}. Make another {type(self).__name__} for them."
            )
        settings = dataclasses.replace(self.settings, **varied)
        if settings.name != self.settings.name:
            raise ValueError(
                f"Expected settings whose rows join the same file, received {', '.join(varied)}, with which rows have "
                f"other columns. Make another {type(self).__name__} for them."
            )
        self.settings = settings
        return self

    def run(self, watch=None, progress=True, workers=1, gpus=0.0):
        """Do the runs that are missing, writing rows as soon as they are there.

        Safe to interrupt at any time: called again, in this process or another, it goes on after the last rows that
        were written, and does the runs that are missing.

        Args:
            watch: callable or None. Called as `watch(frame)` with all rows so far after every run.
            progress: bool. Whether to show how far it is; see `experiments.progress`.
            workers, gpus: as for `experiments.threshold_grid.Grid.run`.

        Returns:
            pandas.DataFrame. All rows with these settings, also of runs with other measures, penalties, strengths and
            seeds.

        Raises:
            experiments.Interrupted: a KeyboardInterrupt that says how much is kept.
            experiments.Busy: another process is writing this run; says which, and since when.
            ValueError: rows are missing in a file of an earlier schema or of another backend, which is not continued;
                the data have changed since the run began. No measure can score the network; one that cannot beside
                others that can is warned of, and its rows have the reason as their status; like other rows they count
                as done.
            OSError: a full disk or a folder that vanished; what was written before is whole.
            experiments.storage.locks.Lost: the file of a lock was removed; likewise.

        Warns:
            UserWarning: rows are missing, and other versions than now made those that are there.
        """
        gpus, started = checks.number(0)("gpus", gpus), time.perf_counter()
        self.timings = dict.fromkeys(self.PARTS, 0.0)
        self.store.refresh()
        todo, self._there = self.missing(), len(self.wanted() & self.store.done)
        if todo:
            self.store.check_goes_on()
            measures = getattr(self.settings, "measures", ())
            if self.PREPARED or workers == 1:
                unfit.check(self.unfit(measures), measures)
        self._progress = Progress(todo, self.UNIT, shown=bool(progress and todo))
        self._watch = watch
        try:
            start.start(self, workers, self._look, gpus)
            self._count()
        except KeyboardInterrupt:
            self.store.refresh()
            raise Interrupted(len(self.wanted() & self.store.done), self.UNIT) from None
        finally:
            self._progress.close()
            for store in self.stores:
                store.close()
        self.timings["total"] = time.perf_counter() - started
        return self.store.frame()

    def unfit(self, measures):
        """Return {measure: why it cannot score this network} of those that cannot; each is tried once."""
        known = vars(self).setdefault("_tried", {})
        known.update(self.try_measures([measure for measure in measures if measure not in known]))
        return {measure: known[measure] for measure in measures if known[measure]}

    @property
    def stores(self):
        """The files that rows go to; see `experiments.workers.desk`."""
        return [self.store]

    def wanted(self):
        """Return the keys of all rows that are asked for: set of tuples of str."""
        return {self.store.key_of(cell) for _, _, cells in self.cells() for cell in cells}

    def trials(self):
        """Return what is missing of each trial, as `do` takes it: {trial: [(run, cells), ...]}."""
        return self.missing_of(self.cells())

    def missing_of(self, cells_of):
        """Return what is missing of some of `cells`, likewise."""
        found, done = {}, self.store.done
        for trial, run, cells in cells_of:
            of_trial = found.setdefault(trial, [])
            missing = [cell for cell in cells if self.store.key_of(cell) not in done]
            if missing:
                of_trial.append((run, missing))
        return found

    def description(self):
        """Return what another process needs to make the same study: dict, as JSON knows it.

        Raises:
            ValueError: a model of the user's, which has no name, or a task that is arrays of this process.
        """
        if self._own_model:
            raise ValueError(_NEEDS_A_NAME.format(model=self.settings.model))
        if tasks.is_of_arrays(getattr(self.settings, "task", None)):
            raise ValueError(_NEEDS_A_FILE.format(task=self.settings.task))
        return {"kind": self.study, "out": str(self.store.folder.absolute()), "settings": self.settings.as_dict()}

    def checkpoints(self, name, measure=""):
        """Return the checkpoints that are kept under a name, such as a trial's, and say what they come from.

        Args:
            name: str.
            measure: str. The one that protects the weights; no file's name where none does.

        Returns:
            Checkpoints.
        """
        of = {"run": self.store.name, "trial": name, **self.comes_from(measure)}
        return Checkpoints(self.store.folder / "checkpoints" / self.store.name / name, of=of)

    def comes_from(self, measure):
        """Return what results with a measure come from, beside the settings: dict, as JSON knows it."""
        return {
            "schema": SCHEMA, "backend": backend.NAME, "data_sha256": self._about.get("data_sha256"),
            "measure_sha256": self._about.get("measures_sha256", {}).get(measure.partition(":")[0]),
        }  # fmt: skip

    def load_task(self, seed):
        """Load the task that settings name, for one seed, checked against the data that rows are of."""
        s = self.settings
        task = tasks.load(s.task, labels=s.labels, validation=s.validation, seed=seed, **s.options)
        if self.store:
            self.store.check_data({s.task: task.digest})
        return task

    def check_rows(self, column, digest, **where):
        """Raise ValueError if rows are of another network or other weights than those that are here now.

        Args:
            column: str. "network" or "weights"; one that the file does not have is not looked at.
            digest: str. What is here.
            **where: whole values of columns that say which rows.
        """
        if column not in self.store.columns:
            return
        others = {row[column] for row in self.store.rows(**where)} - {digest}
        if others:
            place = " and ".join(f"{name} {value}" for name, value in where.items())
            raise ValueError(
                f"Expected the {column} {others.pop()}, of which rows in {self.store.path} are, for {place}; received "
                f"{digest}: the network is made here anew, and becomes another, as it does on another backend. Use "
                f"what made those rows ({self.store.settings_path.name} says it), put the kept network back, remove "
                "those rows, or choose another `out`."
            )

    def begun(self, what):
        """Show what is being done: str."""
        self._progress.at(what)

    def finished(self, count=1):
        """Show that so many more runs are done."""
        self._progress.to(self._progress.done + count)
        self.show()

    def missing(self):
        """Count what is asked for and not there."""
        return sum(map(len, self.trials().values()))

    def show(self):
        """Show all rows so far to whoever watches."""
        if self._watch:
            self._watch(self.store.frame())

    @contextmanager
    def timed(self, what):
        """Open a context whose seconds are added to `timings`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.timings[what] = self.timings.get(what, 0.0) + time.perf_counter() - start

    def _look(self):
        """Show what other processes have written since."""
        self._count()
        self.show()

    def _count(self):
        self.store.refresh()
        done = len(self.wanted() & self.store.done) - self._there
        self._progress.expect(done + self.missing())
        self._progress.to(done)


def new_optimizer(settings, learning_rate=None):
    """Make the optimizer that settings tell of, with their learning rate or another: keras.optimizers.Optimizer."""
    rate = learning_rate or settings.learning_rate
    rate = keras.optimizers.schedules.deserialize(rate) if isinstance(rate, dict) else rate
    config = {"learning_rate": rate, **settings.optimizer_options}
    return keras.optimizers.get({"class_name": settings.optimizer, "config": config})


def second_time(function):
    """Return the seconds of the second call; the first compiles."""
    function()
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def structure_digest(model):
    """Say what a model is made of, whatever Keras called its layers this time and it was compiled with: str."""
    return hashlib.sha256(structure.described(model).encode()).hexdigest()[:8]
