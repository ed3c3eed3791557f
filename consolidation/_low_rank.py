"""Elastic Weight Consolidation of a model whose layers are tuned by low-rank factors (LoRA)."""

from typing import NamedTuple

import keras
import numpy as np
from keras import layers, ops

from consolidation._elastic import ADAPTABLE, ElasticWeightConsolidation, checked
from engine import backend, checks, draws

_NAMES = (("_kernel", "lora_kernel_a", "lora_kernel_b"), ("_embeddings", "lora_embeddings_a", "lora_embeddings_b"))
"""Where layers of Keras have what is frozen, and its two factors."""
_RANK, _ALPHA = checks.whole(), checks.optional(checks.number(above=0))


class Factors(NamedTuple):
    """What a layer adds to its frozen kernel W: scale A B.

    Attributes:
        kernel, a, b: str. The paths of the variables: of W (..., inputs, outputs), A (..., inputs, rank) and
            B (rank, outputs).
        scale: float. `lora_alpha` / rank of the layer.
    """

    kernel: str
    a: str
    b: str
    scale: float


def enable_lora(model, rank, alpha=None, seed=None):
    """Tune a model by low-rank factors: all its Dense and EinsumDense layers get them, and all else is frozen.

    Of these layers the biases are trained too, as Keras has it. A model in which some layers are to have factors, such
    as a backbone of KerasHub after its own `enable_lora`, is taken by everything else here as it is.

    Args:
        model: keras.Model, built.
        rank: int.
        alpha: float or None. A layer adds alpha / rank times the product. None: the rank, so just the product.
        seed: int or None. Decides the first A; B begins at 0, so the model is the same as before.

    Returns:
        list of keras.Variable. The trainable variables of before, which importances of that model belong to.

    Raises:
        ValueError: a rank or alpha that cannot be; a model that has no such layers, or some with factors already.

    References:
        Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022.
    """
    rank, alpha = _RANK("rank", rank), _ALPHA("alpha", alpha)
    targets = [layer for layer in _layers(model) if isinstance(layer, (layers.Dense, layers.EinsumDense))]
    if not targets or any(layer.lora_enabled for layer in targets):
        found = "some that have them" if targets else "none"
        raise ValueError(
            f"Expected a built model with Dense or EinsumDense layers, none with factors yet; received {model.name!r} "
            f"with {found}. Merge a model that has factors by merge_lora(model), which begins them anew."
        )
    before = list(model.trainable_variables)
    for layer in _layers(model):
        if layer is not model:
            layer.trainable = False
    for layer in targets:
        layer.trainable = True
        layer.enable_lora(rank, lora_alpha=alpha)
    _begin(targets, seed)
    return before


def merge_lora(model, seed=None):
    """Add the product of its factors to each kernel, and begin the factors anew: A is drawn, B is 0.

    The outputs stay as they are. It is what comes after a task, before its importances are computed, and before a model
    is saved: Keras writes the merged kernel, and reads both factors as 0, at which their gradients are 0 too. (Of a
    Dense layer it does not read `lora_alpha` either: with another alpha than the rank, make the optimizer anew.)

    Args:
        model: keras.Model. With factors, by `enable_lora` of this room, of a layer, or of a backbone of KerasHub.
        seed: int or None. Decides A.

    Raises:
        ValueError: a model without factors; a quantized layer, to whose kernel nothing can be added.
    """
    found = _with_factors(model)
    for layer, kernel, a, b in found:
        product = _scale(layer) * ops.matmul(a.value, b.value)
        kernel.assign(kernel.value + ops.cast(product, kernel.dtype))
    _begin([layer for layer, *_ in found], seed)


def factors(model):
    """List the factors of a model: list of `Factors`, for `LowRankConsolidation`.

    Raises:
        ValueError: a model without factors, with a quantized layer, or with variables of one path, which a file could
            not tell apart.
    """
    found = [Factors(kernel.path, a.path, b.path, _scale(layer)) for layer, kernel, a, b in _with_factors(model)]
    paths = [path for each in found for path in each[:3]]
    twice = sorted({path for path in paths if paths.count(path) > 1})
    if twice:
        raise ValueError(
            f"Expected variables with paths of their own, received several of {', '.join(twice[:3])}. Give the layers "
            "names of their own."
        )
    return found


@keras.saving.register_keras_serializable(package="weightwise")
class LowRankConsolidation(ElasticWeightConsolidation):
    """`ElasticWeightConsolidation` of a model that is tuned by factors: what is held is the kernel that they make.

    A layer with the frozen kernel W, factors A and B and a scale s has the kernel W + s A B. With importances Omega of
    that kernel, the penalty is (strength / 2) sum Omega (s A B)^2, and as autodiff through the product would, a step
    adds

        P = strength Omega (s A B)        to the gradient of A:  s P B^T,        to that of B:  s A^T P

    one layer after another, without an array of more than the layer's size. The other weights that are trained, such as
    biases, are held as ever. What is pulled back is what the factors have added since they were begun, so the anchor is
    W itself: after a task `merge_lora` adds the product to W, and only then may it be consolidated.

    Penalties are in the space of kernels. `stabilized` has strength Omega / (1 + rate strength Omega) in P, `clamped`
    has min(strength Omega, bound / rate): no weight's coefficient is above 1 / rate, or bound / rate. A step moves the
    kernel by rate s^2 (P B^T B + A A^T P) and what is of second order, so plain gradient descent overshoots by no more
    than the largest eigenvalues of s^2 B^T B and s^2 A A^T add up to; of the latter Keras's first A has about 2 s^2.
    The decoupled penalty is refused: it sets kernels, which factors cannot be set to. So is `separate`: anchors of
    several tasks are no product.

    Args:
        factors: list of `Factors`, as `factors(model)` returns it, or of lists of their four values.
        Others: as for `ElasticWeightConsolidation`.

    Raises:
        ValueError: as there; no factors; the decoupled penalty; `separate`. When it is built: a factor is not among the
            weights that are trained.

    Example:
        ```python
        scores = importance.load("fisher").score(model, x_old, y_old)
        before = enable_lora(model, rank=8)
        optimizer = LowRankConsolidation(keras.optimizers.Adam(1e-3), 10.0, factors=factors(model))
        model.compile(optimizer, loss)
        optimizer.build(model.trainable_variables)
        optimizer.consolidate(scores, before)
        model.fit(x_new, y_new)
        merge_lora(model)
        ```
    """

    def __init__(self, optimizer, strength, penalty="plain", *, factors, **options):
        super().__init__(optimizer, strength, penalty, **options)
        if self.kind not in ADAPTABLE or self.separate:
            received = "separate=True" if self.separate else f"{self.kind!r}"
            raise ValueError(
                f"Expected one of the penalties {', '.join(ADAPTABLE)} and separate=False for a model that is tuned by "
                f"factors, received {received}. Kernels cannot be set, nor anchors averaged, as products of factors."
            )
        self.factors = [Factors(*each) for each in factors]
        if not self.factors:
            raise ValueError("Expected factors of at least one layer, received none. Give factors(model).")

    def build(self, variables):
        """Create importances of the kernels too."""
        if self.built:
            return
        super().build(variables)
        places = {variable.path: place for place, variable in enumerate(variables)}
        missing = [path for each in self.factors for path in (each.a, each.b) if path not in places]
        if missing:
            raise ValueError(
                f"Expected all factors among the weights that are trained, received none of the path {missing[0]!r}. "
                "Give factors(model) of the model that is compiled, and leave its factors trainable."
            )
        self._pairs = [(places[each.a], places[each.b]) for each in self.factors]
        self._of_kernels = [
            self.add_variable((*variables[a].shape[:-1], variables[b].shape[-1]), name=f"importance_of_kernel_{number}")
            for number, (a, b) in enumerate(self._pairs)
        ]
        self._pull_pair = backend.fused(self._pulls_of_factors)

    def consolidate(self, importances, variables=None, classes=None):
        """Hold the kernels where they are, and add importances to those of earlier tasks.

        Args:
            importances: list of arrays like `variables`, of the merged model.
            variables: list of keras.Variable. What `enable_lora` returned: the trainable variables of the model without
                factors. Of those that are neither trained nor have factors, nothing is held, since nothing moves them.
            classes: as for `ElasticWeightConsolidation`.

        Raises:
            ValueError: as there; no `variables`; factors whose product is not 0.
        """
        self._check_built()
        if variables is None or not isinstance(importances, (list, tuple)) or len(importances) != len(variables):
            raise ValueError(
                "Expected importances of the model without factors, and its variables, received "
                f"{'no variables' if variables is None else 'others'}. Give what enable_lora(model, rank) returned."
            )
        for each, (a, b) in zip(self.factors, self._pairs, strict=True):
            a, b = (backend.copied(self._trainable_variables[place]) for place in (a, b))
            if a.any() and b.any():
                raise ValueError(
                    f"Expected factors that are begun anew, received {each.a!r} and {each.b!r} whose product is not 0. "
                    "Call merge_lora(model) first: after a task, and before its importances are computed."
                )
        numbers = {each.kernel: number for number, each in enumerate(self.factors)}
        known = {self._var_key(v) for v in self._trainable_variables}
        rest, of_kernels = [], {}
        for variable, given in zip(variables, importances, strict=True):
            if variable.path in numbers:
                (of_kernels[numbers[variable.path]],) = checked([np.asarray(given)], [variable])
            elif self._var_key(variable) in known:
                rest.append((given, variable))
        before, now = self._consolidate([g for g, _ in rest], [v for _, v in rest], classes)
        for number, importance in enumerate(self._of_kernels):
            importance.assign(before * backend.copied(importance) + now * of_kernels.get(number, 0.0))

    def penalty(self):
        """Return (strength / 2) * the sum of Omega (s A B)^2 and, without factors, of Omega (w - w*)^2: float."""
        total = super().penalty()
        for each, pair, importance in zip(self.factors, self._pairs, self._of_kernels, strict=True):
            a, b = (backend.copied(self._trainable_variables[place]).astype("float64") for place in pair)
            squares = backend.copied(importance) * (each.scale * (a @ b)) ** 2
            total += self.present_strength / 2 * float(np.sum(squares, dtype="float64"))
        return total

    def _of_all(self):
        return [*super()._of_all(), *self._of_kernels]

    def _pulled(self, places, weights, importances, anchors, strength, rates, kind):
        pulls = super()._pulled(places, weights, importances, anchors, strength, rates, kind)
        at = {place: n for n, place in enumerate(places)}
        for each, pair, importance in zip(self.factors, self._pairs, self._of_kernels, strict=True):
            values = [backend.read(self._trainable_variables[place]) for place in pair]
            rate = [rates[at[place]] for place in pair if place in at]
            if rate:
                found = self._pull_pair(*values, backend.read(importance), strength, _larger(rate), each.scale, kind)
                for place, pull in zip(pair, found, strict=True):
                    if place in at:
                        pulls[at[place]] = pull
        return pulls

    def _pulls_of_factors(self, a, b, importance, strength, rate, scale, kind):
        """Return the gradients of a kernel's penalty with respect to its factors A and B."""
        a, b = (ops.cast(factor, importance.dtype) for factor in (a, b))
        pull = scale * self._pull(scale * ops.matmul(a, b), importance, strength, rate, kind)  # of the kernel's shape
        rows = ops.reshape(a, (-1, a.shape[-1])), ops.reshape(pull, (-1, pull.shape[-1]))
        return ops.matmul(pull, ops.transpose(b)), ops.matmul(ops.transpose(rows[0]), rows[1])

    def get_config(self):
        """Return the constructor's arguments, with the strength that was assigned last."""
        return {**super().get_config(), "factors": [list(each) for each in self.factors]}


def _larger(rates):
    """Return the larger of one or two learning rates."""
    return rates[0] if len(rates) == 1 else ops.maximum(*rates)


def _layers(model):
    """List a model and its layers at every depth."""
    return list(model._flatten_layers(include_self=True, recursive=True))


def _with_factors(model):
    """List (layer, W, A, B) of every layer with factors, each layer once."""
    found = []
    for layer in {id(layer): layer for layer in _layers(model)}.values():
        if not getattr(layer, "lora_enabled", False):
            continue
        if layer.quantization_mode is not None:
            raise ValueError(
                f"Expected layers that are not quantized, received {layer.path!r} in {layer.quantization_mode}: "
                "nothing can be added to its kernel, nor importances of it be held. Use the model of before."
            )
        names = next(names for names in _NAMES if hasattr(layer, names[1]))
        found.append((layer, *(getattr(layer, name) for name in names)))
    if not found:
        raise ValueError(
            f"Expected a model with low-rank factors, received {model.name!r} without any. Call "
            "enable_lora(model, rank) first."
        )
    return found


def _scale(layer):
    return layer.lora_alpha / layer.lora_rank


def _begin(found, seed):
    """Draw each layer's A, and set its B to 0."""
    random = keras.random.SeedGenerator(None if seed is None else draws.number(seed, "first factors", bits=31))
    for layer in found:
        _, a, b = next(names for names in _NAMES if hasattr(layer, names[1]))
        a, b = getattr(layer, a), getattr(layer, b)
        a.assign(keras.initializers.HeUniform(random)(a.shape, a.dtype))
        b.assign(np.zeros(b.shape))
