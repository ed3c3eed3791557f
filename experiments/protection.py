"""What protects a network while it learns: a measure, a penalty and a strength, and the compiled learner that has them.

Sequences of tasks, fine-tuning and the instability share one learner.
"""

import math
import re
from typing import NamedTuple

import importance
from consolidation import ADAPTABLE, PENALTIES, ElasticWeightConsolidation, LowRankConsolidation, Stability, find
from engine import active_outputs, backend, checks, training, wrapper
from experiments.settings import a_measure

ADAPTIVE, LOW_RANK = "adaptive", "lora="
"""What may follow a penalty's name: "plain:adaptive", whose `strength` is rho; "plain:lora=8", on factors of rank 8."""
METER = [f"ewc_{name}" for name in Stability._fields]


class Protection(NamedTuple):
    """What tells one run from another, beside its seed.

    Attributes:
        measure: str. A measure, or "none", "joint", "replay" or "lora", which have no penalty.
        penalty: str. "plain", "stabilized", "decoupled" or "clamped"; the same but "decoupled" with ":adaptive", and in
            fine-tuning with ":lora=<rank>" or ":adaptive,lora=<rank>"; or "none".
        strength: float. For an adaptive penalty, rho. For replay, how many examples of each class are kept, or how
            many per cent of the old text; for lora, the rank.
    """

    measure: str
    penalty: str
    strength: float

    @property
    def file_name(self):
        """What its files are called; different strengths have different names."""
        strength = f"{self.strength:g}"
        strength = strength if float(strength) == self.strength else repr(self.strength)
        return re.sub(r"[^\w.,=+-]", "-", f"{self.measure}-{self.penalty}-{strength}")

    @property
    def rank(self):
        """The rank of the factors that are tuned: int; or None, if the weights themselves are."""
        return int(self.strength) if self.measure == "lora" else _parsed(self.penalty)[2]

    def trial(self, seed):
        """Name the trial that is one run with this protection."""
        return f"{self.file_name}-seed-{seed}"

    def __str__(self):
        return f"{self.measure}, {self.penalty}, {self.strength:g}"


ENDS = (Protection("none", "none", 0.0), Protection("joint", "none", 0.0))


def protections(settings):
    """List every measure x penalty x strength that was asked for."""
    s = settings
    return [Protection(m, p, v) for m in s.measures for p in s.penalties for v in s.strengths]


def _parsed(penalty):
    """Return the kind of a penalty, whether it is adaptive, and its rank or None."""
    kind, _, said = penalty.partition(":")
    ranks = [int(word.removeprefix(LOW_RANK)) for word in said.split(",") if word.startswith(LOW_RANK)]
    return kind, ADAPTIVE in said.split(","), ranks[0] if ranks else None


_strength = checks.Check(
    "finite numbers above 0, since 0, no protection, is a run of its own",
    lambda name, value: float(checks.number(above=0).take(name, value)),
)
_penalty = checks.choice(*PENALTIES, *(f"{kind}:{ADAPTIVE}" for kind in ADAPTABLE))
_OF_FACTORS = re.compile(rf"({'|'.join(ADAPTABLE)}):({ADAPTIVE},)?{LOW_RANK}[1-9][0-9]*")


def _of_factors(name, value):
    return value if isinstance(value, str) and _OF_FACTORS.fullmatch(value) else _penalty.take(name, value)


a_penalty_of_factors = checks.Check(
    f"{_penalty.what}, or of factors as in 'plain:{LOW_RANK}8' and 'plain:{ADAPTIVE},{LOW_RANK}8'", _of_factors
)
"""The check for a penalty where low-rank factors may be tuned in place of weights."""
STRENGTHS = checks.several(_strength)
CHECKS = {
    "measures": checks.several(a_measure, least=0),
    "penalties": checks.several(_penalty, least=0),
    "strengths": checks.several(_strength, least=0),
}
"""What settings with protections may say of them. Strength 0 is no protection, but a run of its own."""


def check_some(settings, needed=False):
    """Raise ValueError unless there are penalties and strengths for the measures.

    Without measures there are only runs without a penalty, unless some are needed.
    """
    for name in ("measures", "penalties", "strengths") if settings.measures or needed else ():
        checks.several()(name, getattr(settings, name))


def meter(stability):
    """Return what a row says of a stability, or of none (NaN): {column of `METER`: float}, six digits of each."""
    return dict(zip(METER, (float(f"{value:.6g}") for value in stability or [math.nan] * len(METER)), strict=True))


def hold(optimizer, penalty, factors=None, **options):
    """Let a penalty hold the weights that an optimizer moves; a run gives it its strength.

    Args:
        optimizer: keras.optimizers.Optimizer.
        penalty: str. As a `Protection` has it; "none": the optimizer as it is.
        factors: list of consolidation.Factors or None. Of a model that is tuned by them.
        **options: see `consolidation.ElasticWeightConsolidation`.
    """
    if penalty == "none":
        return optimizer
    kind, adaptive, _ = _parsed(penalty)
    if factors:
        return LowRankConsolidation(optimizer, 0.0, kind, adaptive=adaptive, factors=factors, **options)
    return ElasticWeightConsolidation(optimizer, 0.0, kind, adaptive=adaptive, **options)


class Learner:
    """One compiled model and optimizer, used for many runs.

    Args:
        model: keras.Model.
        optimizer: keras.optimizers.Optimizer. It may be held by a penalty, and tracked for a measure.
        loss: keras.losses.Loss.
        batch_size: int.
        xla: bool or None. As for `engine.training.compile_model`.
    """

    def __init__(self, model, optimizer, loss, batch_size, xla=None):
        self.model, self.loss, self._optimizer, self._batch_size = model, loss, optimizer, batch_size
        self._penalty = find(optimizer)
        self._tracked = next((o for o in wrapper.unwrapped(optimizer) if isinstance(o, importance.Tracked)), None)
        training.compile_model(model, optimizer, loss, xla=xla)
        self._start, self._head = training.values(optimizer.variables), None

    def begin(self, weights, strength, importances=None, carried=None):
        """Begin a run: put weights into the model, and the optimizer back to its start.

        Args:
            weights: list of arrays, as `training.model_variables`.
            strength: float. Of the penalty, if there is one.
            importances: list of arrays or None. What the penalty holds from the start.
            carried: list of arrays or None. The `optimizer_state` of an earlier run, to go on from.
        """
        training.assign(training.model_variables(self.model), weights)
        training.assign(self._optimizer.variables, self._start)
        if carried is not None:
            training.assign(wrapper.unwrapped(self._optimizer)[-1].variables, carried)
        if self._penalty:
            self._penalty.strength = strength
        if importances is not None:
            self.protect(importances)

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

    def train(self, x, y, epochs, seed, on_epoch=None):
        """Train some epochs, the measure and the meter begun anew; see `engine.training.train`."""
        self.restart()
        training.train(self.model, x, y, epochs, self._batch_size, seed, on_epoch)
        backend.copied(self._optimizer.iterations)  # wait until it is done

    def protect(self, importances, classes=None):
        """Hold the weights where they are, each as much as its importance says.

        Args:
            importances: list of arrays.
            classes: int or None. Of the task that was learnt: its weight where the penalty takes a mean over tasks.
        """
        mean = self._penalty.accumulate == "mean"
        self._penalty.consolidate(importances, classes=classes if mean else None)

    def seen(self, y):
        """Return what a measure looks at for examples with these labels: the model, the labels and the loss.

        Where a task is told, these are its own: the model without the outputs of the others.
        """
        if not isinstance(self.loss, active_outputs.ActiveCrossentropy):
            return self.model, y, self.loss
        self._head = self._head or active_outputs.ActiveHead(self.model, self.loss)
        return self._head.of(y)

    def finite(self):
        """Say whether no weight is infinite or NaN."""
        return training.finite(training.values(self.model.trainable_variables))

    def stability(self):
        """Return what the meter of the penalty has shown: consolidation.Stability."""
        return self._penalty.stability() if self._penalty else Stability(0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
