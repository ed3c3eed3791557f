"""Elastic Weight Consolidation as a Keras optimizer around another one."""

import functools
import warnings
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from engine import backend, checks, wrapper

PENALTIES = ("plain", "stabilized", "decoupled", "clamped")
"""The kinds of penalty; `ElasticWeightConsolidation` says what each does."""

ADAPTABLE = ("plain", "stabilized", "clamped")
"""The kinds of penalty whose strength may follow the gradients."""
ACCUMULATE = ("sum", "mean")
"""How importances of several tasks become one; `ElasticWeightConsolidation` says what each does."""

_STRENGTH = checks.number(0)
_BOOLEANS = ("stabilized", "decoupled")
MEMORY = 0.9
"""What an adaptive strength keeps of its two averages from one step to the next."""
METERED = 10
"""So many steps are metered, then one in so many, which stands for that many: the norms of all gradients are a third of
a small step's time."""


class Stability(NamedTuple):
    """What `ElasticWeightConsolidation.stability` reports. The first four are over all weights of the model.

    Attributes:
        largest: float. Of rate * strength * Omega. With plain gradient descent and the plain penalty a weight above 1
            jumps over its anchor at every step, and one above 2 moves away from it.
        percentile: float. The 99.9th percentile of the same.
        above_1, above_2: float. Shares of weights above 1 and above 2.
        penalty_ratio: float. Norm of the penalty's gradient over that of the task's, each summed over the steps;
            of those after the first ten, every tenth stands for ten.
        task_left: float, from 0 to 1. What the wrapped optimizer's `global_clipnorm` leaves of the task's gradient, a
            mean over the same steps; 1.0 without clipping, NaN for a MultiOptimizer, whose parts clip by themselves.
    """

    largest: float
    percentile: float
    above_1: float
    above_2: float
    penalty_ratio: float
    task_left: float


@keras.saving.register_keras_serializable(package="weightwise")
class ElasticWeightConsolidation(wrapper.OptimizerWrapper):
    """An optimizer that holds on to the weights that earlier tasks need.

    With importances Omega, anchors w* and the penalty (strength / 2) * sum Omega (w - w*)^2, every step adds to the
    gradient, before the wrapped optimizer acts,

        plain:       strength Omega (w - w*)
        stabilized:  strength Omega / (1 + rate strength Omega) (w - w*)
        clamped:     min(strength Omega, bound / rate) (w - w*)

    with the learning rate of that very step. With plain gradient descent, a weight whose rate strength Omega is above
    1 jumps over its anchor, one above 2 moves away from it; the stabilised coefficient keeps every such factor below 1,
    the clamped one at no more than `bound`.

    What is clamped is the coefficient of a step, with Omega the sum over all tasks; `consolidate`, `penalty` and
    `stability` keep to Omega itself. Published code often clamps each task's Omega at a constant instead: 1e-4, with
    strength 1e4 and rate 0.1, is a bound of 0.1 where there is one earlier task. Such a clamp is a stabiliser that the
    formula of the penalty does not show.

    `decoupled` leaves the gradient alone and moves the weights after the wrapped optimizer has, by the implicit step

        w <- w - rate strength Omega / (1 + rate strength Omega) (w - w*)

    which pulls towards the anchor, never past it, whatever the wrapped optimizer does with gradients.

    `adaptive` lets the strength follow the gradients. With rho for `strength`, g the task's gradient over all weights
    and averages(t) = 0.9 averages(t - 1) + 0.1 norms(t) that begin at 0 with every task, the strength of step t is

        rho average of |g| / average of |Omega (w - w*)|

    each with step t's own norm. So rho has no scale: importances that are all a thousand times larger give the same
    steps, and with rho = 1 the plain penalty's gradient is about as long as the task's. Where the second average is 0,
    the strength is 0. That is so in the first step of a task, in which every w is at its anchor and nothing is pulled
    whatever the strength, and until the first `consolidate`. A step whose norms are not finite, such as one that a
    scaled loss passes over, leaves the averages as they are.

    Importances, anchors and strength are optimizer variables: saved with the model, restored with it, and read by a
    compiled step at every call. Until the first `consolidate` all importances are 0, and with importances or a strength
    of 0 the weights move as the wrapped optimizer alone moves them.

    A weight without a gradient stays where it is, as with the wrapped optimizer alone: nothing moves it, so nothing has
    to hold it. Importances and anchors belong to their variables, and those of a layer that is frozen are kept.

    Args:
        optimizer: keras.optimizers.Optimizer. May be a `Tracked` one; that then sees the penalised gradient. With the
            `Tracked` outside it sees the task's own.
        strength: float, >= 0. Weight of the penalty (lambda). For penalties written without the 1/2, twice theirs.
        penalty: str. "plain", "stabilized", "decoupled" or "clamped"; the attribute `kind`.
        decay: float in [0, 1]. What earlier importances are multiplied with at each `consolidate`: below 1, online EWC.
        accumulate: str. "sum": importances are those of all tasks added up, so the penalty gets harder with every task.
            "mean": their mean, each task weighted with its number of classes (see `consolidate`); one strength then
            means the same after every task. A weight that a task gives no importance has 0 in it.
        separate: bool. Whether each task keeps the anchor it was consolidated at; else all importances hold to the
            latest one. The sum of one penalty for each task is, up to a constant, one penalty with the summed
            importances and the mean of the anchors weighted with them, so it takes no more memory.
        name: str or None.
        bound: float, above 0. What rate strength Omega is at most in a step of the clamped penalty.
        adaptive: bool. Whether `strength` is rho and the strength follows the gradients, as said above. Not with the
            decoupled penalty: what that is to balance is the step of the wrapped optimizer, not a gradient.
        stabilized, decoupled: bool or None. How `penalty` was given before it was one choice; True still works, with a
            FutureWarning.

    Raises:
        ValueError: an argument out of its range; both `stabilized` and `decoupled`, or either with another `penalty`; a
            constant learning rate of 0 with any penalty but the plain one; with the decoupled one `adaptive`, or a
            wrapped optimizer that accumulates gradients; a `decay` below 1 with the mean.

    Example:
        >>> import keras
        >>> optimizer = ElasticWeightConsolidation(keras.optimizers.SGD(0.1), strength=2.0)
        >>> weight = keras.Variable([1.0])
        >>> optimizer.build([weight])
        >>> optimizer.consolidate([[0.5]])
        >>> _ = weight.assign([3.0])
        >>> float(optimizer.penalty())  # 2 / 2 * 0.5 * (3 - 1)^2
        2.0

    References:
        Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks", PNAS 2017; decay: Schwarz et al.,
        "Progress & Compress", ICML 2018; stabilised: Kutalev & Lapina, "Stabilizing Elastic Weight Consolidation
        method in practical ML tasks and using weight importances for neural network pruning",
        https://arxiv.org/abs/2109.10021, 2021; mean by classes: the EWC of PyCIL, Zhou et al., "PyCIL: a Python toolbox
        for class-incremental learning", Science China Information Sciences 2023; clamped: the code of EWC-DR,
        https://arxiv.org/abs/2603.18596, 2026.
    """

    def __init__(
        self, optimizer, strength, penalty="plain", decay=1.0, separate=False, name=None, bound=0.1,
        stabilized=None, decoupled=None, adaptive=False, accumulate="sum",
    ):  # fmt: skip
        penalty = _penalty(checks.choice(*PENALTIES)("penalty", penalty), stabilized, decoupled)
        bound = checks.number(above=0)("bound", bound)
        decay, separate = checks.number(0, 1)("decay", decay), checks.flag("separate", separate)
        if checks.choice(*ACCUMULATE)("accumulate", accumulate) == "mean" and decay < 1:
            raise ValueError(
                f'Expected decay=1.0 with accumulate="mean", which makes earlier importances less by itself; received '
                f"{decay}. Leave it out."
            )
        strength, adaptive = _STRENGTH("strength", strength), checks.flag("adaptive", adaptive)
        if adaptive and penalty not in ADAPTABLE:
            raise ValueError(
                f"Expected one of the penalties {', '.join(ADAPTABLE)} with adaptive=True, received {penalty!r}, which "
                "moves weights beside the wrapped optimizer: the norm of a gradient does not say how far that moves "
                'them. Use penalty="stabilized".'
            )
        super().__init__(optimizer, name=name)
        self.kind, self.bound, self.decay, self.separate = penalty, bound, decay, separate
        self.adaptive, self.accumulate = adaptive, accumulate
        self._check_wrapped()
        self._strength = self.add_variable((), name="strength")
        self.strength = strength

    def build(self, variables):
        """Create importances and anchors for these weights; once, so that compiling anew forgets no task."""
        if self.built:
            return
        super().build(variables)
        # None for a variable that Keras sets instead of training it.
        self._importances = self.add_optimizer_variables(variables, "importance")
        self._anchors = self.add_optimizer_variables(variables, "anchor")
        self._spread = self.add_variable((), name="spread_of_anchors")
        self._meter = self.add_variable((6,), name="meter")
        if self.adaptive:
            self._averages = self.add_variable((2,), name="averages_of_norms")
        if self.accumulate == "mean":
            self._seen = self.add_variable((), name="classes_seen")
        self._pull_all = backend.fused(self._pulls)
        self._given = []  # which weights came together in a step

    @property
    def strength(self):
        """The penalty's weight, or rho: a scalar keras.Variable. Assign a float to change it between tasks."""
        return self._strength

    @strength.setter
    def strength(self, strength):
        self._strength.assign(_STRENGTH("strength", strength))

    @property
    def present_strength(self):
        """The weight of the penalty in the last step: float. `strength` itself, unless that is adaptive."""
        strength = backend.read(self._strength)
        if self.adaptive:
            self._check_built()
            strength = _adapted(strength, backend.read(self._averages))
        return float(strength)

    def consolidate(self, importances, variables=None, classes=None):
        """Anchor at the present weights, and add importances to those of earlier tasks.

        Args:
            importances: list of arrays like `variables`, finite and >= 0. Weights that are not among them, as those of
                a frozen layer, get none.
            variables: list of keras.Variable, such as `model.trainable_variables`. None: those that the optimizer was
                built for or, if layers were frozen since, those that were trained.
            classes: float above 0, or None. The weight of this task in the mean: how many classes it has, as many as
                it adds where labels are new. None: 1, as many for each task. Not with `accumulate="sum"`.

        Raises:
            ValueError: importances of another number or other shapes, negative or not finite; without `variables`, a
                choice between several sets of weights that they fit; weights that the optimizer does not know, because
                there has been no training or their layers were frozen; a learning rate of 0 with any penalty
                but the plain one; `classes` for a sum.
        """
        self._consolidate(importances, variables, classes)

    def _consolidate(self, importances, variables, classes):
        """Do so; return what earlier importances and the new ones were multiplied with."""
        self._check_built()
        self._check_wrapped()
        for what, given in (("importances", importances), ("variables", [] if variables is None else variables)):
            if not isinstance(given, (list, tuple)):
                raise ValueError(
                    f"Expected {what} as a list, received {type(given).__name__}. Give what a measure returns, and "
                    "model.trainable_variables."
                )
        importances = [np.asarray(a) for a in importances]
        variables = self._meant(importances) if variables is None else list(variables)
        self._check_variables_are_known(variables)
        if len(set(map(self._var_key, variables))) < len(variables):
            raise ValueError(
                "Expected each of the variables once, received some twice. Add up their importances first."
            )
        added = {
            self._get_variable_index(v): a for v, a in zip(variables, checked(importances, variables), strict=True)
        }
        before, now = self._shares(classes)
        spread = before * float(backend.copied(self._spread))
        for place, weight, importance, anchor in self._held():
            latest, kept = backend.copied(weight), before * backend.copied(importance)
            new = now * added.get(place, np.zeros_like(kept))
            total = kept + new
            if self.separate:
                # Omega_1 (w - a)^2 + Omega_2 (w - b)^2 = (Omega_1 + Omega_2) (w - mean)^2 + a constant.
                share = np.divide(new, total, out=np.ones_like(total), where=total > 0)
                moved = latest - backend.copied(anchor)
                spread += float(np.sum(kept * share * moved**2, dtype="float64"))
                latest = latest - (1 - share) * moved
            importance.assign(total)
            anchor.assign(latest)
        self._spread.assign(spread)
        if self.adaptive:
            self._averages.assign(np.zeros(2))
        return before, now

    def _shares(self, classes):
        """Return what earlier importances and those of a task are multiplied with; a mean counts the task's classes."""
        if self.accumulate == "sum":
            if classes is not None:
                raise ValueError(
                    f'Expected no number of classes with accumulate="sum", received {classes!r}. Leave it out, or use '
                    'accumulate="mean", in which it is the weight of a task.'
                )
            return self.decay, 1.0
        classes = checks.number(above=0)("classes", 1 if classes is None else classes)
        earlier = float(backend.copied(self._seen))
        self._seen.assign(earlier + classes)
        return earlier / (earlier + classes), classes / (earlier + classes)

    def penalty(self):
        """Return (strength / 2) * sum Omega (w - w*)^2 at the present weights, over all tasks: float.

        An adaptive strength is that of the last step.
        """
        self._check_built()
        total = float(backend.copied(self._spread))
        for _, weight, importance, anchor in self._held():
            moved = backend.copied(weight) - backend.copied(anchor)
            total += np.sum(backend.copied(importance) * moved**2, dtype="float64")
        return self.present_strength / 2 * total

    def step(self, gradients, weights):
        """Move the weights once, held by the penalty."""
        places = [self._get_variable_index(w) for w in weights]
        if places not in self._given:
            self._given.append(places)
        some = self.trained(gradients, weights)
        if not some:
            super().step(gradients, weights)
            return
        # Read before the wrapped optimizer's step, which moves a schedule on.
        rates = self._rates([weights[n] for n in some])
        of_some = [places[n] for n in some]
        held = [[backend.read(vs[place]) for place in of_some] for vs in (self._importances, self._anchors)]
        task = self.unscaled([gradients[n] for n in some], [weights[n] for n in some])
        strength = backend.read(self._strength)

        def pulled(strength, kind=self.kind):
            values = [backend.read(weights[n]) for n in some]
            return self._pulled(of_some, values, *held, strength, rates, kind)

        if self.adaptive:
            norms = [_norm(task), _norm(pulled(ops.ones(()), "plain"))]
            strength = self._follow(strength, ops.stack(norms))

        if self.kind == "decoupled":
            calls = [backend.read(self.mover(weights[n])._iterations) for n in some]
            super().step(gradients, weights)
            pulls = pulled(strength)
            if wrapper.find(self.inner, keras.optimizers.LossScaleOptimizer):  # passes over calls that overflow
                calls = zip(calls, [self.mover(weights[n])._iterations for n in some], strict=True)
                pulls = [
                    ops.where(ops.not_equal(*c), pull, ops.zeros_like(pull))
                    for c, pull in zip(calls, pulls, strict=True)
                ]
            moved = [
                value - ops.cast(rate, value.dtype) * pull
                for value, rate, pull in zip([backend.read(weights[n]) for n in some], rates, pulls, strict=True)
            ]
            backend.assign([weights[n] for n in some], moved)
        else:
            pulls = pulled(strength)
            self._step_pulled(gradients, weights, dict(zip(some, pulls, strict=True)), held[0], strength)
        backend.assign([self._meter], [self._metered(backend.read(self._meter), task, pulls, rates)])

    def _follow(self, rho, norms):
        """Add a step's norms to the averages, and return the strength of that step."""
        before = backend.read(self._averages)
        norms = ops.cast(norms, before.dtype)
        known = ops.all(ops.isfinite(norms))
        after = ops.where(known, MEMORY * before + (1 - MEMORY) * ops.where(known, norms, 0.0), before)
        backend.assign([self._averages], [after])
        return _adapted(rho, after)

    def _step_pulled(self, gradients, weights, pulls, importances, strength):
        """Pass on the gradients with the penalty's."""
        scale, replicas = self.loss_scale(), backend.replicas()
        total = list(gradients)
        for n, pull in pulls.items():
            pull = pull if scale is None else pull * ops.cast(scale, pull.dtype)
            pull = pull if replicas == 1 else pull / replicas  # which are going to be summed
            gradient = backend.dense(gradients[n])
            total[n] = gradient + ops.cast(pull, gradient.dtype)
        sparse = [omega for n, omega in zip(pulls, importances, strict=True) if backend.is_sparse(gradients[n])]
        if not sparse:
            super().step(total, weights)
            return
        # Keras's optimizers do not treat rows as they treat their sum, so rows go on as rows where nothing is added.
        added = ops.logical_and(strength > 0, ops.any(ops.stack([ops.any(omega > 0) for omega in sparse])))
        self.step_either(added, total, gradients, weights)

    def _rates(self, weights):
        """Return the learning rate of each weight."""
        rates = {}
        for mover in map(self.mover, weights):
            if id(mover) not in rates:
                rates[id(mover)] = ops.cast(mover.learning_rate, self._meter.dtype)
        return [rates[id(self.mover(w))] for w in weights]

    def _pulled(self, places, weights, importances, anchors, strength, rates, kind):
        """Return the gradients of the penalty with respect to the weights at these places."""
        return self._pull_all(weights, importances, anchors, strength, rates, kind)

    def _pulls(self, weights, importances, anchors, strength, rates, kind):
        """Return the gradients of the penalty on each weight by itself."""
        each = zip(weights, importances, anchors, rates, strict=True)
        return [self._pull(weight - anchor, omega, strength, rate, kind) for weight, omega, anchor, rate in each]

    def _pull(self, moved, importance, strength, rate, kind):
        """Return the gradient of the penalty on weights that have moved so far."""
        coefficient = ops.cast(strength, importance.dtype) * importance
        rate = ops.cast(rate, importance.dtype)
        if kind in ("stabilized", "decoupled"):
            coefficient = coefficient / (1 + rate * coefficient)
        elif kind == "clamped":
            coefficient = ops.minimum(coefficient, self.bound / rate)
        # Nothing is added where there is nothing to hold, whatever has become of the weight.
        return ops.where(coefficient > 0, coefficient * moved, ops.zeros_like(moved))

    def _metered(self, meter, gradients, pulls, rates):
        """Add a step to [steps, those metered, norms of the task's gradient, of the penalty's, shares left, rate]."""
        first = ops.less(meter[0], METERED)

        def norms():
            task, pull, left = _norm(gradients), _norm(pulls), ops.ones(())
            clip = wrapper.unwrapped(self)[-1].global_clipnorm
            if clip is not None:
                passed_on = (
                    gradients if self.kind == "decoupled" else [g + p for g, p in zip(gradients, pulls, strict=True)]
                )
                left = ops.minimum(1.0, clip / ops.maximum(_norm(passed_on), 1e-30))
            return ops.stack([ops.ones(()), task, pull, left]) * ops.where(first, 1.0, float(METERED))

        metered = ops.logical_or(first, ops.equal(meter[0] % METERED, 0))
        found = backend.cond(metered, norms, lambda: ops.zeros(4))
        largest = functools.reduce(ops.maximum, {id(rate): rate for rate in rates}.values(), meter[5:])
        return ops.concatenate([meter[:1] + 1, meter[1:5] + found, largest])

    def restart_meter(self):
        """Forget the steps that `stability` speaks of."""
        self._meter.assign(np.zeros(6))

    def stability(self):
        """Say how hard the penalty pulled since the meter was restarted.

        Returns:
            Stability. With a schedule, for the largest learning rate of those steps; before the first of them, for the
            present one. An adaptive strength is that of the last step.
        """
        self._check_built()
        _, steps, task, pull, left, rate = backend.copied(self._meter).astype("float64")
        rate = rate if steps else max(_present(m.learning_rate) for m in wrapper.movers(self))
        importances = np.concatenate([backend.copied(o).ravel() for o in self._of_all()]).astype("float64")
        several = isinstance(wrapper.unwrapped(self)[-1], keras.optimizers.MultiOptimizer)
        factors = rate * self.present_strength * importances
        return Stability(
            largest=float(factors.max()),
            percentile=float(np.quantile(factors, 0.999)),
            above_1=float(np.mean(factors > 1)),
            above_2=float(np.mean(factors > 2)),
            penalty_ratio=float(pull / task) if task else 0.0,
            task_left=np.nan if several else float(left / steps) if steps else 1.0,
        )

    def _held(self):
        """List (place, weight, importance, anchor) of the weights that are trained."""
        every = zip(self._trainable_variables, self._importances, self._anchors, strict=True)
        return [(place, *of_weight) for place, of_weight in enumerate(every) if of_weight[1] is not None]

    def _of_all(self):
        """List the variables that hold importances."""
        return [importance for _, _, importance, _ in self._held()]

    def _meant(self, importances):
        """Return the weights that importances are of, if they fit one set of weights alone."""
        known, received = self._trainable_variables, [a.shape for a in importances]
        every = list(range(len(known)))
        sets = [every, *(places for places in self._given if places != every)]
        fitting = [places for places in sets if [tuple(known[p].shape) for p in places] == received]
        if len(fitting) > 1:
            raise ValueError(
                f"Expected importances of the only weights that are trained, received {len(received)} that fit "
                f"{len(fitting)} sets of weights, which were given to the optimizer in one step each. Say which: "
                "consolidate(importances, model.trainable_variables)."
            )
        return [known[place] for place in (fitting or [every])[0]]

    def _check_built(self):
        if not self.built:
            raise ValueError(
                "Expected a trained model, received an optimizer that has seen no weights yet. Call model.fit first; "
                "for a model that comes trained, optimizer.build(model.trainable_variables)."
            )

    def _check_wrapped(self):
        for mover in wrapper.movers(self):
            if self.kind == "decoupled" and mover.gradient_accumulation_steps:
                raise ValueError(
                    'Expected a wrapped optimizer that moves the weights at every step with penalty="decoupled", '
                    f"received gradient_accumulation_steps={mover.gradient_accumulation_steps}. Use "
                    'penalty="stabilized".'
                )
            if self.kind != "plain" and not _is_scheduled(mover) and _present(mover.learning_rate) == 0:
                raise ValueError(
                    f'Expected a learning rate above 0 with penalty="{self.kind}", whose coefficient contains it; '
                    f"received 0.0 from {mover.name!r}. Set optimizer.learning_rate first."
                )

    def get_config(self):
        """Return the constructor's arguments, with the strength that was assigned last."""
        return {
            **super().get_config(),
            "strength": float(backend.copied(self._strength)),
            "penalty": self.kind,
            **{key: getattr(self, key) for key in ("bound", "decay", "separate", "adaptive", "accumulate")},
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Build it from a configuration; one of before `penalty` was one choice has two booleans."""
        config = dict(config)
        old = [name for name in _BOOLEANS if config.pop(name, False)]
        return super().from_config({**config, **({"penalty": old[0]} if old else {})}, custom_objects)


def find(optimizer):
    """Return the `ElasticWeightConsolidation` among an optimizer and those it wraps, or None."""
    return wrapper.find(optimizer, ElasticWeightConsolidation)


def _penalty(penalty, stabilized, decoupled):
    """Return the kind of penalty, which two booleans may say instead."""
    given = {
        name: checks.flag(name, value)
        for name, value in zip(_BOOLEANS, (stabilized, decoupled), strict=True)
        if value is not None
    }
    said = [name for name, value in given.items() if value]
    if len(said) == 2:
        raise ValueError(
            'Expected at most one of stabilized=True and decoupled=True, received both. Use penalty="decoupled", '
            "which is stable by itself."
        )
    if said and penalty not in ("plain", *said):
        raise ValueError(
            f"Expected one penalty, received penalty={penalty!r} and {said[0]}=True. Leave out the latter."
        )
    penalty = said[0] if said else penalty
    if given:
        warnings.warn(
            f'{" and ".join(given)} became one choice with the other penalties: write penalty="{penalty}" instead.',
            FutureWarning,
            stacklevel=3,
        )
    return penalty


def _is_scheduled(optimizer):
    return isinstance(optimizer._learning_rate, keras.optimizers.schedules.LearningRateSchedule)


def _present(rate):
    """Return a learning rate, which may be a variable, an array or a number, as a float."""
    return float(backend.read(rate) if isinstance(rate, keras.Variable) else ops.convert_to_tensor(rate))


def _adapted(rho, averages):
    """Return rho times the average norm of the task's gradient over that of the penalty's; 0 where the latter is 0."""
    task, pull = averages[0], averages[1]
    return ops.where(pull > 0, ops.cast(rho, averages.dtype) * task / ops.where(pull > 0, pull, 1.0), 0.0)


def _norm(arrays):
    """Return the norm of a list of arrays, by way of the norms of their columns.

    One long sum is a chain of additions that a processor does one by one; sums of columns go side by side.
    """
    columns = [ops.reshape(ops.cast(a, "float32"), (-1, max([1, *a.shape[-1:]]))) for a in arrays]
    return ops.sqrt(sum(ops.sum(ops.square(ops.norm(c, axis=0))) for c in columns))


def checked(importances, weights):
    """Return importances as arrays of the weights' types, or say what is wrong with them."""
    expected, received = [tuple(w.shape) for w in weights], [a.shape for a in importances]
    if expected != received:
        wrong = [
            f"{e} for {w.path}, received {r}" for w, e, r in zip(weights, expected, received, strict=False) if e != r
        ]
        raise ValueError(
            f"Expected {len(expected)} importances with the shapes of model.trainable_variables, received "
            f"{len(received)}{'; ' + '; '.join(wrong[:3]) if wrong else ''}. Score the model that is trained here; if "
            "these are a part of the weights that were trained, give variables=model.trainable_variables too."
        )
    for weight, array in zip(weights, importances, strict=True):
        if not np.isfinite(array).all() or (array < 0).any():
            what = f"{np.sum(~np.isfinite(array))} values that are not finite and {np.sum(array < 0)} negative ones"
            raise ValueError(
                f"Expected finite importances of at least 0, received {what} for {weight.path}. "
                "A penalty cannot push away from its anchor: use a measure whose scores mean 'keep'."
            )
    return [a.astype(w.dtype) for a, w in zip(importances, weights, strict=True)]
