"""Elastic Weight Consolidation as a Keras optimizer around another one."""

from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from engine import backend, wrapper

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
            mean over the same steps; 1.0 without clipping.
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

    with the learning rate of that very step. With plain gradient descent, a weight whose rate strength Omega is above
    1 jumps over its anchor, one above 2 moves away from it; the stabilised coefficient keeps every such factor below 1.
    `decoupled` leaves the gradient alone and moves the weights after the wrapped optimizer has, by the implicit step

        w <- w - rate strength Omega / (1 + rate strength Omega) (w - w*)

    which pulls towards the anchor, never past it, whatever the wrapped optimizer does with gradients.

    Importances, anchors and strength are optimizer variables: saved with the model, restored with it, and read by a
    compiled step at every call. Until the first `consolidate` all importances are 0.

    Args:
        optimizer: keras.optimizers.Optimizer. May be a `Tracked` one; that then sees the penalised gradient. With the
            `Tracked` outside it sees the task's own.
        strength: float, >= 0. Weight of the penalty (lambda). For penalties written without the 1/2, twice theirs.
        stabilized: bool.
        decoupled: bool.
        decay: float in [0, 1]. What earlier importances are multiplied with at each `consolidate`: below 1, online EWC.
        separate: bool. Whether each task keeps the anchor it was consolidated at; else all importances hold to the
            latest one. The sum of one penalty for each task is, up to a constant, one penalty with the summed
            importances and the mean of the anchors weighted with them, so it takes no more memory.
        name: str or None.

    Raises:
        ValueError: an argument out of its range; both `stabilized` and `decoupled`; a constant learning rate of 0 with
            either; a wrapped optimizer that rescales the loss, or with `decoupled` one that accumulates gradients.

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
        https://arxiv.org/abs/2109.10021, 2021.
    """

    def __init__(
        self, optimizer, strength, stabilized=False, decoupled=False, decay=1.0, separate=False, name=None
    ):  # fmt: skip
        super().__init__(optimizer, name=name)
        if stabilized and decoupled:
            raise ValueError(
                "Expected at most one of stabilized=True and decoupled=True, received both. The decoupled step is "
                "stable by itself: leave stabilized=False."
            )
        if not 0 <= decay <= 1:
            raise ValueError(f"Expected decay from 0 to 1, received {decay!r}. 1.0 keeps earlier importances whole.")
        self.stabilized, self.decoupled, self.decay, self.separate = stabilized, decoupled, decay, separate
        self._check_wrapped()
        self._strength = self.add_variable((), name="strength")
        self.strength = strength

    def build(self, variables):
        """Create importances and anchors for these weights; once, so that compiling anew forgets no task."""
        if self.built:
            return
        super().build(variables)
        self._importances = self.add_optimizer_variables(variables, "importance")
        self._anchors = self.add_optimizer_variables(variables, "anchor")
        self._spread = self.add_variable((), name="spread_of_anchors")
        self._meter = self.add_variable((6,), name="meter")
        self._pull_all = backend.fused(self._pulls)

    @property
    def strength(self):
        """The penalty's weight: a scalar keras.Variable. Assign a float to change it between tasks."""
        return self._strength

    @strength.setter
    def strength(self, strength):
        if not 0 <= strength < np.inf:
            raise ValueError(f"Expected a strength of at least 0, received {strength!r}. 0 is training unprotected.")
        self._strength.assign(strength)

    def consolidate(self, importances):
        """Anchor at the present weights, and add importances to those of earlier tasks.

        Args:
            importances: list of arrays like `model.trainable_variables`, finite and >= 0.

        Raises:
            ValueError: importances of another number or other shapes, negative or not finite; weights that the
                optimizer does not know yet, because there has been no training; a learning rate of 0 with `stabilized`
                or `decoupled`.
        """
        if not self.built:
            raise ValueError(
                "Expected a trained model, received an optimizer that has seen no weights yet. Call model.fit first; "
                "for a model that comes trained, optimizer.build(model.trainable_variables)."
            )
        self._check_wrapped()
        added = _checked(importances, self._trainable_variables)
        spread = self.decay * float(backend.copied(self._spread))
        for weight, importance, anchor, new in zip(
            self._trainable_variables, self._importances, self._anchors, added, strict=True
        ):
            latest, kept = backend.copied(weight), self.decay * backend.copied(importance)
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

    def penalty(self):
        """Return (strength / 2) * sum Omega (w - w*)^2 at the present weights, over all tasks: float."""
        total = float(backend.copied(self._spread))
        for weight, importance, anchor in zip(self._trainable_variables, self._importances, self._anchors, strict=True):
            moved = backend.copied(weight) - backend.copied(anchor)
            total += np.sum(backend.copied(importance) * moved**2, dtype="float64")
        return float(backend.copied(self._strength)) / 2 * total

    def step(self, gradients, weights):
        """Move the weights once, held by the penalty."""
        # Read before the wrapped optimizer's step, which moves a schedule on.
        rate = ops.cast(self.learning_rate, self._meter.dtype)
        held = [[backend.read(v) for v in vs] for vs in (self._importances, self._anchors)]
        strength = backend.read(self._strength)
        if self.decoupled:
            super().step(gradients, weights)
            moved = [backend.read(w) for w in weights]
            pulls = self._pull_all(moved, *held, strength, rate)
            for weight, value, pull in zip(weights, moved, pulls, strict=True):
                weight.assign(value - ops.cast(rate, value.dtype) * pull)
        else:
            pulls = self._pull_all([backend.read(w) for w in weights], *held, strength, rate)
            super().step([g + p for g, p in zip(gradients, pulls, strict=True)], weights)
        self._meter.assign(self._metered(backend.read(self._meter), gradients, pulls, rate))

    def _pulls(self, weights, importances, anchors, strength, rate):
        """Return the gradients of the penalty."""
        pulls = []
        for weight, importance, anchor in zip(weights, importances, anchors, strict=True):
            coefficient = ops.cast(strength, importance.dtype) * importance
            if self.stabilized or self.decoupled:
                coefficient = coefficient / (1 + ops.cast(rate, importance.dtype) * coefficient)
            pulls.append(coefficient * (weight - anchor))
        return pulls

    def _metered(self, meter, gradients, pulls, rate):
        """Add a step to [steps, those metered, norms of the task's gradient, of the penalty's, shares left, rate]."""
        first = ops.less(meter[0], METERED)

        def norms():
            task, pull, left = _norm(gradients), _norm(pulls), ops.ones(())
            clip = wrapper.unwrapped(self)[-1].global_clipnorm
            if clip is not None:
                passed_on = gradients if self.decoupled else [g + p for g, p in zip(gradients, pulls, strict=True)]
                left = ops.minimum(1.0, clip / ops.maximum(_norm(passed_on), 1e-30))
            return ops.stack([ops.ones(()), task, pull, left]) * ops.where(first, 1.0, float(METERED))

        metered = ops.logical_or(first, ops.equal(meter[0] % METERED, 0))
        found = ops.cond(metered, norms, lambda: ops.zeros(4))
        return ops.concatenate([meter[:1] + 1, meter[1:5] + found, ops.maximum(meter[5:], rate)])

    def restart_meter(self):
        """Forget the steps that `stability` speaks of."""
        self._meter.assign(np.zeros(6))

    def stability(self):
        """Say how hard the penalty pulled since the meter was restarted.

        Returns:
            Stability. With a schedule, for the largest learning rate of those steps; before the first of them, for the
            present one.
        """
        _, steps, task, pull, left, rate = backend.copied(self._meter).astype("float64")
        rate = rate if steps else _present(self.learning_rate)
        importances = np.concatenate([backend.copied(v).ravel() for v in self._importances]).astype("float64")
        factors = rate * float(backend.copied(self._strength)) * importances
        return Stability(
            largest=float(factors.max()),
            percentile=float(np.quantile(factors, 0.999)),
            above_1=float(np.mean(factors > 1)),
            above_2=float(np.mean(factors > 2)),
            penalty_ratio=float(pull / task) if task else 0.0,
            task_left=float(left / steps) if steps else 1.0,
        )

    def _check_wrapped(self):
        innermost = wrapper.unwrapped(self)[-1]
        if isinstance(innermost, keras.optimizers.LossScaleOptimizer) or innermost.loss_scale_factor:
            raise ValueError(
                "Expected a wrapped optimizer that gets unscaled gradients, received one that rescales the loss. Wrap "
                "the other way: LossScaleOptimizer(ElasticWeightConsolidation(optimizer, ...))."
            )
        if self.decoupled and innermost.gradient_accumulation_steps:
            raise ValueError(
                "Expected a wrapped optimizer that moves the weights at every step with decoupled=True, received "
                f"gradient_accumulation_steps={innermost.gradient_accumulation_steps}. Use stabilized=True."
            )
        schedule = isinstance(innermost._learning_rate, keras.optimizers.schedules.LearningRateSchedule)
        rate = None if schedule else _present(innermost.learning_rate)
        if (self.stabilized or self.decoupled) and rate == 0:
            raise ValueError(
                f"Expected a learning rate above 0 with stabilized or decoupled, whose coefficient contains it; "
                f"received {rate!r} from {innermost.name!r}. Set optimizer.learning_rate first."
            )

    def get_config(self):
        """Return the constructor's arguments, with the present strength."""
        return {
            **super().get_config(),
            "strength": float(backend.copied(self._strength)),
            **{key: getattr(self, key) for key in ("stabilized", "decoupled", "decay", "separate")},
        }


def find(optimizer):
    """Return the `ElasticWeightConsolidation` among an optimizer and those it wraps, or None."""
    return next((o for o in wrapper.unwrapped(optimizer) if isinstance(o, ElasticWeightConsolidation)), None)


def _present(rate):
    """Return a learning rate, which may be a variable, an array or a number, as a float."""
    return float(ops.convert_to_tensor(rate))


def _norm(arrays):
    """Return the norm of a list of arrays, by way of the norms of their columns.

    One long sum is a chain of additions that a processor does one by one; sums of columns go side by side.
    """
    columns = [ops.reshape(ops.cast(a, "float32"), (-1, max([1, *a.shape[-1:]]))) for a in arrays]
    return ops.sqrt(sum(ops.sum(ops.square(ops.norm(c, axis=0))) for c in columns))


def _checked(importances, weights):
    """Return importances as arrays of the weights' types, or say what is wrong with them."""
    arrays = [np.asarray(a) for a in importances]
    expected, received = [tuple(w.shape) for w in weights], [a.shape for a in arrays]
    if expected != received:
        wrong = [
            f"{e} for {w.path}, received {r}" for w, e, r in zip(weights, expected, received, strict=False) if e != r
        ]
        raise ValueError(
            f"Expected {len(expected)} importances with the shapes of model.trainable_variables, received "
            f"{len(received)}{'; ' + '; '.join(wrong[:3]) if wrong else ''}. Score the model that is trained here."
        )
    for weight, array in zip(weights, arrays, strict=True):
        if not np.isfinite(array).all() or (array < 0).any():
            what = f"{np.sum(~np.isfinite(array))} values that are not finite and {np.sum(array < 0)} negative ones"
            raise ValueError(
                f"Expected finite importances of at least 0, received {what} for {weight.path}. "
                "A penalty cannot push away from its anchor: use a measure whose scores mean 'keep'."
            )
    return [a.astype(w.dtype) for a, w in zip(arrays, weights, strict=True)]
