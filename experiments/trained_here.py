"""Networks that a grid trains itself: a task's, one for each seed, each kept on disk; see `experiments.networks`."""

import numpy as np

import importance
from engine import backend, draws, losses, structure, training
from experiments import enough, networks, shared, unfit
from experiments.storage.store import SCHEMA
from experiments.study import new_optimizer, second_time

_TIMED_STEPS = 50
_MAKES_A_NETWORK = (
    "options", "labels", "validation", "optimizer", "optimizer_options", "learning_rate", "batch_size",
)  # fmt: skip


class TrainedHere:
    """One model object that becomes each of the networks in turn. `experiments.given.Given` is its like.

    Args:
        settings: experiments.threshold_grid.GridSettings.
        task_of: callable `task_of(seed) -> tasks.LoadedTask`.
        new_model: callable without arguments. Returns a new keras.Model.
        out: str or path. The folder of the results.
        first: tasks.LoadedTask. That of the first seed.

    Attributes:
        model: keras.Model. What it becomes is said by `begin` and `reach`.
        loss: keras.losses.Loss.
        optimizer: keras.optimizers.Optimizer or None. The one whose state measures may look at.
        chance: dict. The `chance_loss` and the `chance_accuracy` (None where there is none) of guessing.
        about: dict. What the settings file says of the networks and their data.
        few: tuple (x, y). A few examples, on which measures are tried.
        scored, evaluated, tested: tuples (x, y). The examples of the network that began last; those tested are the
            task's test set.
        initial: list of arrays like the weights: what they were before training; None if nobody knows.
        identity: str. The digest by which rows call that network, without its epoch.
        enough: int or None. With `evaluated="auto"`, on how many examples networks that begin from now on are
            evaluated, drawn by their seed; fewer are a part of more. None: on `enough.PILOT`, as that is not known yet.
        tell: callable. Called with what is being done: str.
    """

    fold = enough = None

    def __init__(self, settings, task_of, new_model, out, first):
        self._settings, self._task_of, self._new_model, self._out = settings, task_of, new_model, out
        self.loss, model, self.tell = first.loss, new_model(), lambda what: None
        first.check_model(model)
        self.few = first.x_train[: unfit.EXAMPLES], first.y_train[: unfit.EXAMPLES]
        self._recorded = networks.recorded() if settings.records else {}
        alike = {name: v for name, v in settings.as_dict().items() if name not in settings.VARIED}
        identity = shared.identity(
            model, self.loss, new_optimizer(settings), settings=alike, data=first.digest, seed=settings.seeds[0],
            recorded=self._recorded, xla=structure.xla(model),
        )  # fmt: skip
        self.model, self.optimizer, self._start = shared.kept((identity, "grid"), lambda: self._compiled(model))
        training.assign(training.model_variables(self.model), training.values(training.model_variables(model)))
        self.initial = training.values(self.model.trainable_variables)
        self._take(first, settings.seeds[0])
        accuracy = None if first.classes is None else 1 / first.classes
        self.chance = {"chance_loss": first.chance_loss, "chance_accuracy": accuracy}
        self.about = {
            "networks": self._name, "classes": first.classes, "data_sha256": {settings.task: first.digest},
            "xla": structure.xla(self.model),
        }  # fmt: skip

    def _compiled(self, model):
        """Compile a model; return it, its optimizer, and what that begins with."""
        optimizer = importance.Tracked(new_optimizer(self._settings), sorted(self._recorded))
        metrics = ["accuracy"] if losses.is_classification(self.loss) else ["mean_absolute_error"]
        training.compile_model(model, optimizer, self.loss, metrics)
        return model, optimizer, training.values(optimizer.variables)

    def begin(self, seed):
        """Make the model the network of a seed, as it was before training."""
        self._fresh(seed)
        self._network = networks.Network(self._out, self._name, seed, self._recorded)
        self._restore(self._network.begin(networks.state(self.model, self.optimizer)))
        self.initial = training.values(self.model.trainable_variables)
        self.identity = self._network.identity

    def reach(self, epoch, measures):
        """Make the model that network after an epoch, for these measures; return the digest of its weights."""
        state = self._network.take(epoch, self._needs(measures), self._train)
        self._restore(state)
        return networks.digest(state)

    def ready(self):
        """Make measures able to tell whether they can score the model, of which nothing has been trained yet."""
        training.assign(self.optimizer.variables, self._start)
        self.optimizer.restart()
        unfit.stand_still(self.model)
        self._take(self._task_of(self._settings.seeds[0]), self._settings.seeds[0])

    @property
    def to_evaluate(self):
        """How many examples there are on which the network that began last can be evaluated: int."""
        return len(self._task.y_validation)

    def untrained(self, epochs, measures):
        """Count the epochs of training that are needed before a measure can be asked.

        Args:
            epochs: dict from seed to a list of epochs.
            measures: iterable of str.
        """
        needs = self._needs(measures)
        return sum(networks.Network(self._out, self._name, of).untrained(e, needs) for of, e in epochs.items())

    def seconds_of_an_epoch(self, seed):
        """Time some steps of training; the model is new afterwards, up to those steps."""
        self._fresh(seed)
        x, y = self.scored
        part = slice(0, self._settings.batch_size * _TIMED_STEPS)
        taken = second_time(lambda: training.train(self.model, x[part], y[part], [1], self._settings.batch_size, seed))
        return taken * len(x) / len(x[part])

    def _take(self, task, seed):
        s, self._task = self._settings, task
        self.scored = task.x_train, task.y_train
        self.tested = task.x_test, task.y_test
        rows = slice(s.evaluated)
        if s.evaluated == "auto":
            order = draws.generator(seed, "evaluated examples").permutation(len(task.y_validation))
            rows = np.sort(order[: self.enough or enough.PILOT])
        self.evaluated = task.x_validation[rows], task.y_validation[rows]
        said = {name: s.as_dict()[name] for name in _MAKES_A_NETWORK}
        said |= {"backend": backend.NAME, "xla": backend.NAME == "jax" or structure.xla(self.model)}
        self._name = networks.name_of(s.task, s.model, **said, data=task.digest, schema=SCHEMA)

    def _fresh(self, seed):
        """Put new weights into the model, and the optimizer and the records back to their start."""
        self._take(self._task_of(seed), seed)
        self._seed, fresh = seed, training.initial(self._new_model, seed)
        training.assign(training.model_variables(self.model), training.values(training.model_variables(fresh)))
        training.assign(self.optimizer.variables, self._start)
        self.optimizer.restart()
        self.initial = training.values(self.model.trainable_variables)

    def _restore(self, state):
        networks.restore(self.model, self.optimizer, state)

    def _needs(self, measures):
        """Return the records that some measures need, as `networks.recorded` gives them."""
        needing = {networks.record_of(measure) for measure in watching(measures)}
        return {measure: digest for measure, digest in self._recorded.items() if measure in needing}

    def _train(self, state, epochs):
        self._restore(state)

        def show(epoch, logs):
            self.tell(f"seed {self._seed}, training, epoch {epoch} of {epochs[-1]}, loss {logs['loss']:.4f}")

        training.train(self.model, *self.scored, epochs, self._settings.batch_size, self._seed, show)
        return networks.state(self.model, self.optimizer)


def watching(measures):
    """List those of some measures that watch training."""
    return [name for name in measures if importance.load(name).definition.needs == "trajectory"]


def check_recorded(measures, records):
    """Raise ValueError if measures need the training's record, and there is none."""
    if not records and watching(measures):
        raise ValueError(
            f"Expected records=True, or no measures that need the training's record; received records=False with "
            f"{', '.join(watching(measures))}. Leave them out, or have the training recorded."
        )
