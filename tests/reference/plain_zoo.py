"""Every measure of any network, plainly: one example at a time through `model(x)` and `loss(y, outputs)` of Keras.

Nothing here knows the engine, but for what units and channels are. Derivatives are the running backend's own, of one
example; what a weight multiplies is what its layer gives when that weight is 1 and all others of the layer are 0. Each
function named like a measure takes a `Plain` and returns a list of float64 arrays like `model.trainable_variables`.

What a model believes is the distribution of labels that its loss is the negative logarithm of: a class for each
softmax, 0 or 1 for each sigmoid, a normal distribution of variance K/2 around K real outputs. Its Fisher is the mean
squared gradient of an example's loss under labels drawn from it.
"""

import contextlib
import functools
import itertools
import math

import keras
import numpy as np
import plain
from keras import layers, losses

import aggregation
import importance
from engine import channels, per_example

SEED = 3  # with which the tests score
PROBES = 1


_BELIEFS = {
    losses.SparseCategoricalCrossentropy: "classes",
    losses.CategoricalCrossentropy: "classes",
    losses.BinaryCrossentropy: "yes or no",
    losses.MeanSquaredError: "values",
}


class Unknown(Exception):
    """There is no plain version of this measure for this network."""


def numpy64(arrays):
    return [np.asarray(a).astype("float64") for a in arrays]


@contextlib.contextmanager
def changed(layer, change, seen):
    """While open, a layer's output before its activation goes through `change`, and its input is added to `seen`."""
    call, activation = type(layer).call, getattr(layer, "activation", None)

    def changed_call(self, inputs, *args, **kwargs):
        if self is not layer:
            return call(self, inputs, *args, **kwargs)
        seen.append(inputs)
        outputs = call(self, inputs, *args, **kwargs)
        return change(outputs) if activation is None else outputs

    type(layer).call = changed_call
    if activation is not None:
        layer.activation = lambda value: activation(change(value))
    try:
        yield
    finally:
        type(layer).call = call
        if activation is not None:
            layer.activation = activation


class Plain:
    """A network of the zoo, its examples one by one, and the derivatives of each."""

    def __init__(self, entry, model):
        self.entry, self.model = entry, model
        self.weights = [w.astype("float32") for w in plain.values(model.trainable_variables)]
        self.xs = [keras.tree.map_structure(lambda a: a[n : n + 1], entry.x) for n in range(len(entry.y))]  # noqa: B023
        self.ys = [entry.y[n : n + 1] for n in range(len(entry.y))]
        self._multiplied, self._pulled = functools.cache(self._multiplied), functools.cache(self._pulled)
        self._found = plain.compiled(lambda ws, *rest: plain.differentiated(lambda ws: self._objective(ws, *rest), ws))

    def outputs_of(self, weights, x):
        """What the model gives in inference mode with other weights in the place of its own."""
        with keras.StatelessScope(list(zip(self.model.trainable_variables, weights, strict=True))):
            return self.model(x, training=False)

    def _objective(self, weights, x, y, share, vector):
        """`share` times the loss plus the outputs times `vector`: one function for both is compiled once."""
        outputs = self.outputs_of(weights, x)
        loss = keras.ops.mean(keras.ops.cast(self.entry.loss(y, outputs), "float32"))
        return share * loss + keras.ops.sum(keras.ops.cast(outputs, "float32") * vector)

    # Of example n

    def loss(self, n, weights=None):
        return float(self._of(n, weights=weights)[0])

    def gradient(self, n, y=None):
        """The gradient of the loss, with another label `y` (1, ...) in the place of its own."""
        return numpy64(self._of(n, y)[1])

    def pull(self, n, vector):
        """The gradient of sum(outputs * vector), `vector` (...) held constant."""
        return numpy64(self._of(n, share=0.0, vector=vector)[1])

    def _of(self, n, y=None, weights=None, share=1.0, vector=None):
        y = self.ys[n] if y is None else y.astype(self.ys[n].dtype)
        vector = self._no_vector if vector is None else vector[None].astype("float32")
        return self._found(self._placed(weights), self.xs[n], y, np.asarray(share, "float32"), vector)

    def output_shapes(self, probed):
        """The shapes of what some layers compute for an example, before their activation."""
        values = [[] for _ in probed]
        with contextlib.ExitStack() as stack:
            for layer, seen in zip(probed, values, strict=True):
                stack.enter_context(changed(layer, lambda value, seen=seen: seen.append(value) or value, []))
            self.model(self.xs[0], training=False)
        return [tuple(value.shape[1:]) for (value,) in values]

    def products_at_outputs(self, n, offsets, vectors, probed, places):
        """Multiply the Hessian by what is added to some layers' outputs, before their activation, and by some weights.

        Returns (the products at the outputs, those at the weights, what each layer is given).
        """
        weights, directions = self._placed(), [a[None] for a in offsets] + vectors
        products, given = self._multiplied(probed, places)(weights, directions, self.xs[n], self.ys[n])
        products = numpy64(products)
        return [product[0] for product in products[: len(probed)]], products[len(probed) :], given

    def _multiplied(self, probed, places):
        no_vector = self._no_vector

        @plain.compiled
        def multiplied(weights, directions, x, y):
            given = [[] for _ in probed]

            def loss(arrays):
                moved, others = arrays[: len(probed)], list(weights)
                for place, array in zip(places, arrays[len(probed) :], strict=True):
                    others[place] = array
                with contextlib.ExitStack() as stack:
                    for layer, offset in zip(probed, moved, strict=True):
                        add = lambda value, offset=offset: value + keras.ops.cast(offset, value.dtype)  # noqa: E731
                        stack.enter_context(changed(layer, add, []))
                    return self._objective(others, x, y, 1.0, no_vector)

            def directional(arrays):
                _, gradients = plain.differentiated(loss, arrays)
                return sum(keras.ops.sum(g * v) for g, v in zip(gradients, directions, strict=True))

            offsets = [keras.ops.zeros_like(vector) for vector in directions[: len(probed)]]
            products = plain.differentiated(directional, offsets + [weights[place] for place in places])[1]
            with contextlib.ExitStack() as stack:
                for layer, seen in zip(probed, given, strict=True):
                    stack.enter_context(changed(layer, lambda value: value, seen))
                self.outputs_of(weights, x)
            return products, [inputs for (inputs,) in given]

        return multiplied

    def pull_layer(self, given, vector, layer, places):
        """The gradient by a layer's weights of sum(output before the activation * vector), its input held constant."""
        weights = plain.tensors(self.weights[p] for p in places)
        return numpy64(self._pulled(layer, places)(weights, given, vector[None].astype("float32")))

    def _pulled(self, layer, places):
        own = [self.model.trainable_variables[place] for place in places]

        def pulled(weights, given, vector):
            outputs = []
            with keras.StatelessScope(list(zip(own, weights, strict=True))):
                with changed(layer, lambda value: outputs.append(value) or value, []):
                    mode = {"training": False} if isinstance(layer, layers.BatchNormalization) else {}
                    layer(given, **mode)
            return keras.ops.sum(keras.ops.cast(outputs[0], "float32") * vector)

        return plain.compiled(lambda weights, *rest: plain.differentiated(lambda ws: pulled(ws, *rest), weights)[1])

    def _placed(self, weights=None):
        return plain.tensors(self.weights if weights is None else weights)

    @functools.cached_property
    def _no_vector(self):
        return np.zeros((1, *self.outputs.shape[1:]), "float32")

    @functools.cached_property
    def outputs(self):
        """(examples, ...), float64."""
        found = [np.asarray(keras.ops.cast(self.model(x, training=False), "float32")) for x in self.xs]
        return np.concatenate(found).astype("float64")

    @functools.cached_property
    def weights_of_places(self):
        """For each example and place the share of that place's loss in the example's loss."""
        shares = []
        for x, outputs in zip(self.xs, self.outputs, strict=True):
            mask = keras.src.backend.get_keras_mask(self.model(x, training=False))
            counts = np.ones(outputs.shape[:-1]) if mask is None else np.asarray(mask)[0].astype("float64")
            shares.append(counts if self.entry.loss.reduction == "sum" else counts / max(counts.sum(), 1))
        return np.stack(shares)

    @property
    def believed(self):
        """What the model's labels are, or None if its loss is no log-probability."""
        return _BELIEFS.get(type(self.entry.loss))

    @functools.cached_property
    def probabilities(self):
        """Of each class, or of a yes."""
        if not self.entry.loss.get_config()["from_logits"]:
            return self.outputs
        return plain.softmax(self.outputs) if self.believed == "classes" else 1 / (1 + np.exp(-self.outputs))

    @functools.cached_property
    def exact_fisher(self):
        return _fisher(self)

    @functools.cached_property
    def flows(self):
        return _flows(self)

    def label(self, classes):
        """Write classes as the labels of this network are written."""
        if isinstance(self.entry.loss, losses.CategoricalCrossentropy):
            return np.eye(self.outputs.shape[-1])[classes]
        return np.asarray(classes).reshape((1, *self.ys[0].shape[1:]))


def mean(terms):
    return [sum(arrays) / len(arrays) for arrays in zip(*terms, strict=True)]


def of_each_example(case, function):
    return mean([function(n) for n in range(len(case.xs))])


def squared(arrays):
    return [a**2 for a in arrays]


def added(terms):
    return [sum(arrays) for arrays in zip(*terms, strict=True)]


# Of the weights alone


def random(case):
    rng = np.random.default_rng(importance.draw_seed(SEED, "random"))
    return [rng.random(w.shape, dtype="float32") for w in case.weights]


def uniform(case):
    return [np.ones(w.shape) for w in case.weights]


def magnitude(case):
    return [np.abs(w) for w in case.weights]


def bn_scale(case):
    """By the arrays that a run hands from a layer to a BatchNormalization."""
    calls = []
    with heard(calls):
        case.model(case.entry.x, training=False)
    norms = [(args[0], layer) for layer, args, _, _ in calls if isinstance(layer, layers.BatchNormalization)]
    found = {}
    for layer, _, _, outputs in calls:
        behind = [norm for given, norm in norms if given is outputs] or [layer] * (layer in [n for _, n in norms])
        if behind and behind[0].gamma is not None:
            found |= {id(v): np.abs(np.asarray(behind[0].gamma)) for v in layer.trainable_variables}
    return [np.broadcast_to(found.get(id(v), 1), v.shape) for v in case.model.trainable_variables]


def inverse_magnitude(case):
    return [1 / (np.abs(w) + np.float32(1e-12)) for w in case.weights]


# Of gradients


def fisher_empirical(case):
    return of_each_example(case, lambda n: squared(case.gradient(n)))


def fisher_batched(case, batch_size=32):
    starts = range(0, len(case.xs), batch_size)
    batches = [range(start, min(start + batch_size, len(case.xs))) for start in starts]
    return mean([squared(mean([case.gradient(n) for n in batch])) for batch in batches])


def fisher(case):
    return case.exact_fisher


def inverse_fisher(case):
    found = fisher(case)
    return [max(f.max() for f in found) - f for f in found]


def _fisher(case):
    if case.believed == "classes" and case.outputs.ndim == 2:
        of_label = lambda n, c: [case.probabilities[n, c] * g**2 for g in case.gradient(n, case.label([c]))]  # noqa: E731
        return of_each_example(case, lambda n: added([of_label(n, c) for c in range(case.outputs.shape[-1])]))
    if case.believed == "classes":
        return of_each_example(case, lambda n: added(_of_places(case, n)))
    if case.believed == "yes or no":
        return of_each_example(case, lambda n: added(_of_all_labels(case, n)))
    if case.believed == "values":
        return of_each_example(case, lambda n: added(_of_values(case, n)))
    raise Unknown


def _of_places(case, n):
    """The labels of different places are independent: their squared gradients add up."""
    p = case.probabilities[n]
    for place in np.ndindex(p.shape[:-1]):
        share = case.weights_of_places[n][place]
        for c in range(p.shape[-1]):
            vector = np.zeros_like(p)
            vector[place] = np.eye(p.shape[-1])[c] - p[place]  # of log p_c by the logits
            yield [p[place][c] * (share * g) ** 2 for g in case.pull(n, vector)]


def _of_all_labels(case, n):
    p = case.probabilities[n]
    for labels in itertools.product((0, 1), repeat=p.size):
        labels = np.reshape(labels, p.shape)
        yield [np.prod(np.where(labels, p, 1 - p)) * g**2 for g in case.gradient(n, case.label(labels))]


def _of_values(case, n):
    """Where l = sum_e s_e (y_e - f_e)^2, an output's variance is 1/(2 s_e) and its share 4 s_e^2 (df_e)^2 / (2 s_e)."""
    shape = case.outputs[n].shape
    for output in np.ndindex(shape):
        vector, share = np.zeros(shape), case.weights_of_places[n][output[:-1]] / shape[-1]
        vector[output] = 1
        yield [2 * share * g**2 for g in case.pull(n, vector)]


def fisher_sampled(case):
    rng = np.random.default_rng(importance.draw_seed(SEED, "fisher_sampled"))
    if case.believed == "classes":
        uniform, p = rng.random(case.outputs.shape[:-1]), case.probabilities
        drawn = np.argmax(np.cumsum(p, axis=-1) / p.sum(axis=-1, keepdims=True) > uniform[..., None], axis=-1)
    elif case.believed == "yes or no":
        drawn = rng.random(case.outputs.shape) < case.probabilities
    elif case.believed == "values":
        spread = (case.outputs[0].size / 2) ** 0.5
        drawn = case.outputs + spread * rng.standard_normal(case.outputs.shape)
    else:
        raise Unknown
    return of_each_example(case, lambda n: squared(case.gradient(n, case.label(drawn[n : n + 1]))))


def fisher_argmax(case):
    if case.believed == "classes":
        likely = np.argmax(case.outputs, axis=-1)
    elif case.believed == "yes or no":
        likely = case.probabilities > 0.5
    else:
        raise Unknown
    return of_each_example(case, lambda n: squared(case.gradient(n, case.label(likely[n : n + 1]))))


def mas(case):
    def one(n):
        f = case.outputs[n]
        by_output = 2 * f
        if case.believed == "yes or no":  # of p^2 + (1 - p)^2 by p, and by the logit
            p = case.probabilities[n]
            by_output = (4 * p - 2) * (p * (1 - p) if case.entry.loss.get_config()["from_logits"] else 1)
        elif case.believed == "classes" and case.entry.loss.get_config()["from_logits"]:
            p = case.probabilities[n]  # d sum_k p_k^2 / dz_j = 2 p_j (p_j - sum_k p_k^2)
            by_output = 2 * p * (p - (p**2).sum(axis=-1, keepdims=True))
        there = case.weights_of_places[n][..., None] > 0  # places that a mask leaves out are no outputs
        return [np.abs(g) for g in case.pull(n, by_output * there)]

    return of_each_example(case, one)


def fisher_reversed(case):
    if case.believed not in ("classes", "yes or no"):
        raise Unknown

    def one(n):
        p, y = case.probabilities[n], case.ys[n][0]
        share = case.weights_of_places[n]
        if case.believed == "classes":
            inverse = (1 / p) / (1 / p).sum(axis=-1, keepdims=True)
            labels = y if y.shape == p.shape else np.eye(p.shape[-1])[y.reshape(p.shape[:-1])]
            signal = (labels - inverse) * share[..., None]  # by the logits
            if not case.entry.loss.get_config()["from_logits"]:
                signal = signal / p  # by the probabilities: the logits are their logarithms
                signal = signal - (signal * p).sum(axis=-1, keepdims=True)  # which Keras makes add up to 1
        else:
            signal = (np.reshape(y, p.shape) - (1 - p)) * share[..., None] / p.shape[-1]
            if not case.entry.loss.get_config()["from_logits"]:
                signal = signal / (p * (1 - p))
        return squared(case.pull(n, signal))

    return of_each_example(case, one)


def lrp(case):
    def one(n):
        labels = case.ys[n][0]
        if case.believed == "classes" and labels.shape != case.outputs[n].shape:
            labels = np.eye(case.outputs.shape[-1])[int(np.squeeze(labels))]
        signal = labels if case.believed == "classes" else np.ones(case.outputs[n].shape)
        return [np.abs(w * g) for w, g in zip(case.weights, case.pull(n, signal), strict=True)]

    return of_each_example(case, one)


def taylor(case):
    return [w.astype("float64") ** 2 * f for w, f in zip(case.weights, fisher_empirical(case), strict=True)]


def snip(case):
    gradients = of_each_example(case, case.gradient)
    return [np.abs(w * g) for w, g in zip(case.weights, gradients, strict=True)]


def obd(case):
    return [0.5 * f * w.astype("float64") ** 2 for f, w in zip(case.exact_fisher, case.weights, strict=True)]


def expected_rise(case):
    return obd(case)  # with zeros for replacements


def obs(case):
    return plain.surgery(case.model, case.weights, [case.gradient(n) for n in range(len(case.xs))], 1e-5)


def hessian(case, probes=PROBES, at="outputs"):
    """One example and one probe after another."""
    name = f"hessian:{'at=weights,' if at == 'weights' else ''}probes={probes}"
    rng = np.random.default_rng(importance.draw_seed(SEED, name))
    # Which layers are linear in their weights is the engine's finding; what follows from it is computed here.
    plans = per_example.plans(case.model, case.entry.x, per_example.TRANSFORMS["square"])
    probed = [p for p in plans if p.path != "generic" and at == "outputs"]
    where = [i for p in probed for i in p.indices]
    alone = tuple(i for i in range(len(case.weights)) if i not in where)
    shapes = case.output_shapes([p.layer for p in probed])

    def diagonal(stream):
        vectors = [signs(stream.integers(0, 2, case.weights[i].shape)) for i in alone]

        def of_example(n):
            words = stream.integers(0, 2**64, -(-sum(map(math.prod, shapes)) // 64), dtype="uint64")
            bits = iter([int(word) >> place & 1 for word in words for place in range(64)])
            offsets = [signs([next(bits) for _ in range(math.prod(s))]).reshape(s) for s in shapes]
            of_which = tuple(p.layer for p in probed), alone
            moved, products, given = case.products_at_outputs(n, offsets, vectors, *of_which)
            found = [np.zeros(0)] * len(case.weights)
            for place, v, product in zip(alone, vectors, products, strict=True):
                found[place] = v * product
            for p, one, other, seen in zip(probed, offsets, moved, given, strict=True):
                of_layer = [case.pull_layer(seen, vector, p.layer, tuple(p.indices)) for vector in (one, other)]
                for place, g, h in zip(p.indices, *of_layer, strict=True):
                    found[place] = g * h
            return found

        return of_each_example(case, of_example)

    estimate = mean([diagonal(stream) for stream in rng.spawn(probes)])
    return [0.5 * np.maximum(h, 0) * w.astype("float64") ** 2 for h, w in zip(estimate, case.weights, strict=True)]


def signs(bits):
    return np.asarray(bits, "float32") * 2 - 1


def deletion(case):
    def mean_loss(weights):
        return np.mean([case.loss(n, weights) for n in range(len(case.xs))])

    groups = aggregation.load("unit").groups(case.model)
    scores, before = [np.zeros(w.shape) for w in case.weights], mean_loss(case.weights)
    for group in range(max(int(ids.max()) for ids in groups) + 1):
        without = [np.where(ids == group, 0, w).astype("float32") for ids, w in zip(groups, case.weights, strict=True)]
        rise = max(mean_loss(without) - before, 0)
        for ids, score in zip(groups, scores, strict=True):
            score[ids == group] = rise
    return scores


# Of what flows through the weights

_ACTIVATIONS = (layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU, layers.PReLU, layers.Softmax)
_UNITS = {  # how many units share the places of a layer's output; all these layers are linear in their weights
    layers.Dense: lambda layer: layer.units,
    layers.Embedding: lambda layer: layer.output_dim,
    layers.EinsumDense: lambda layer: math.prod(
        length for letter, length in zip(layer.equation.split(",")[1], layer.kernel.shape, strict=False)
        if letter in layer.equation.split("->")[1]
    ),
    **dict.fromkeys(
        (layers.Conv1D, layers.Conv2D, layers.Conv3D, layers.Conv1DTranspose, layers.Conv2DTranspose,
         layers.Conv3DTranspose),
        lambda layer: layer.filters,
    ),
    **dict.fromkeys(
        (layers.DepthwiseConv1D, layers.DepthwiseConv2D), lambda layer: layer.kernel.shape[-2] * layer.kernel.shape[-1]
    ),
    **dict.fromkeys(
        (layers.BatchNormalization, layers.LayerNormalization, layers.GroupNormalization, layers.RMSNormalization),
        lambda layer: math.prod(layer.trainable_variables[0].shape),
    ),
}  # fmt: skip


@contextlib.contextmanager
def heard(calls):
    """Note (layer, args, kwargs, outputs) of every layer's every call."""
    original = keras.Layer.__call__

    def listening(layer, *args, **kwargs):
        outputs = original(layer, *args, **kwargs)
        calls.append((layer, args, kwargs, outputs))
        return outputs

    keras.Layer.__call__ = listening
    try:
        yield
    finally:
        keras.Layer.__call__ = original


class Flow:
    """Of one variable: absolute values and squares of what it multiplies, or its units' outputs, summed."""

    def __init__(self, shape):
        self.absolute, self.square, self.signed, self.output = np.zeros((4, *shape))
        self.products, self.uses, self.layer = 0, 0, None  # of what two weights add to the same outputs


def _flows(case):
    calls, found = [], {id(v): Flow(v.shape) for v in case.model.trainable_variables}
    with heard(calls):
        case.model(case.entry.x, training=False)
    owners = {id(v): layer for layer in case.model._flatten_layers() for v in layer.trainable_variables}
    for layer, args, kwargs, outputs in calls:
        owned = [v for v in layer.trainable_variables if owners.get(id(v)) is layer]
        if not owned:
            continue
        if type(layer) not in _UNITS:
            raise Unknown
        for variable in owned:
            flow, added = found[id(variable)], variable.name in ("bias", "beta")
            flow.layer = layer
            units = math.prod(variable.shape) if added else _UNITS[type(layer)](layer)
            flow.uses += math.prod(outputs.shape) // units
            if added:
                flow.square += math.prod(outputs.shape) // units
                flow.output += _over_places(np.abs(_activated(calls, outputs)), variable.shape)
                continue
            columns = []
            for index in np.ndindex(*variable.shape):
                multiplied = _alone(layer, variable, index, args, kwargs)
                flow.absolute[index] += np.abs(multiplied).sum()
                flow.square[index] += (multiplied**2).sum()
                flow.signed[index] += multiplied.sum()
                columns.append(multiplied.ravel())
            flow.products = flow.products + np.stack(columns) @ np.stack(columns).T
    if not all(flow.uses for flow in found.values()):
        raise Unknown
    return [found[id(v)] for v in case.model.trainable_variables]


def _alone(layer, variable, index, args, kwargs):
    """What a layer gives before its activation when one weight is 1 and all others are 0."""
    one = np.zeros(variable.shape, "float32")
    one[index] = 1
    values = [(v, keras.ops.convert_to_tensor(one if v is variable else np.zeros(v.shape, "float32")))
              for v in layer.trainable_variables]  # fmt: skip
    activation = getattr(layer, "activation", None)
    if activation is not None:
        layer.activation = keras.activations.linear
    try:
        with keras.StatelessScope(values):
            return np.asarray(layer(*args, **kwargs)).astype("float64")
    finally:
        if activation is not None:
            layer.activation = activation


def _activated(calls, outputs):
    """What the activation layer directly behind gives, or the outputs themselves."""
    for layer, args, _, activated in calls:
        if args and args[0] is outputs and isinstance(layer, _ACTIVATIONS):
            return _activated(calls, activated)
    return np.asarray(outputs).astype("float64")


def _over_places(values, shape):
    aligned = (1,) * (values.ndim - len(shape)) + tuple(shape)
    return values.sum(axis=tuple(a for a in range(values.ndim) if a == 0 or aligned[a] == 1)).reshape(shape)


def signal(case):
    return [
        flow.output / flow.uses if v.name in ("bias", "beta") else np.abs(w) * flow.absolute / flow.uses
        for w, v, flow in zip(case.weights, case.model.trainable_variables, case.flows, strict=True)
    ]


def wanda(case):
    return [np.abs(w) * np.sqrt(flow.square) for w, flow in zip(case.weights, case.flows, strict=True)]


def obs_layer(case):
    def of_variable(w, v, flow):
        products = np.diag(flow.square.ravel()) if v.name in ("bias", "beta") else flow.products
        dead = np.diag(products) == 0
        products = products + np.diag(dead)
        damped = products + 0.01 * np.mean(np.diag(products)) * np.eye(w.size)
        cost = np.where(dead, 0, 1 / np.diag(np.linalg.inv(damped)))
        return w.astype("float64") ** 2 * cost.reshape(w.shape)

    every = zip(case.weights, case.model.trainable_variables, case.flows, strict=True)
    return [of_variable(*each) for each in every]


def variance(case):
    """Weight by weight, by the channels that `engine.channels` finds, as `deletion` takes a level's groups."""
    found = channels.follow(case.model)
    places = [next(n for n, w in enumerate(case.model.weights) if w is v) for v in case.model.trainable_variables]
    of_channel = np.zeros(len(found.differs))
    for place, w, flow in zip(places, case.weights, case.flows, strict=True):
        for index in np.ndindex(*w.shape):
            if found.read[place][index] >= 0:
                spread = flow.square[index] / flow.uses - (flow.signed[index] / flow.uses) ** 2
                of_channel[found.read[place][index]] += spread * float(w[index]) ** 2
    return [np.where(m >= 0, of_channel[m], of_channel.max()) for m in (found.made[place] for place in places)]


def ria(case):
    def of_variable(w, v, flow):
        w, sums = np.abs(w.astype("float64")), {}
        for index in np.ndindex(*w.shape):
            for key in _ends(flow.layer, v, index):
                sums[key] = sums.get(key, 0) + w[index]
        shares = np.zeros(w.shape)
        for index in np.ndindex(*w.shape):
            shares[index] = sum(w[index] / (sums[key] or 1) for key in _ends(flow.layer, v, index))
        return shares * flow.square**0.25

    every = zip(case.weights, case.model.trainable_variables, case.flows, strict=True)
    return [of_variable(*each) for each in every]


def _ends(layer, variable, index):
    """Name the input and the output that a weight joins."""
    if variable.name in ("bias", "beta"):
        return ("in",), ("out", index)
    if variable.name == "gamma":
        return ("in", index), ("out", index)
    if type(layer) in (layers.Dense, layers.Embedding):
        return ("in", index[0]), ("out", index[1])
    if type(layer) in (layers.DepthwiseConv1D, layers.DepthwiseConv2D):
        return ("in", index[:-1]), ("out", index[-2:])
    if type(layer) in (layers.Conv1D, layers.Conv2D, layers.Conv3D):
        group = index[-1] // (layer.filters // layer.groups)
        return ("in", index[:-1], group), ("out", index[-1])
    if type(layer) is layers.EinsumDense:
        source, rest = layer.equation.split(",")
        kernel, target = rest.split("->")
        letters = list(zip(kernel, index, strict=True))
        return tuple((end, *(i for x, i in letters if x in part)) for end, part in (("in", source), ("out", target)))
    raise Unknown


# Comparing

_SQUARES = {
    "fisher",
    "fisher_sampled",
    "fisher_empirical",
    "fisher_argmax",
    "fisher_batched",
    "taylor",
    "obd",
    "expected_rise",
}


def disagreement(name, score, expected, variables, epsilon=2**-23):
    """Say where a score is not what the plain loop gives, or return None.

    A weight that moves no output (the bias of all keys alike, what stands before a normalisation) has what rounding
    leaves for a score: a part of the largest in the model, squared where the measure squares gradients. A difference
    of two losses near 1 is right to the rounding of the losses; in a second derivative more cancels than in a first.
    """
    largest = max(float(np.max(e)) for e in expected)
    relative, absolute = max(1e-4, 8 * epsilon), max(1e-4 if name == "hessian" else 1e-5, 8 * epsilon)
    rounding = 4 * epsilon if name == "deletion" else largest * (1e-10 if name in _SQUARES else 1e-6)
    for number, (variable, got, right) in enumerate(zip(variables, score, expected, strict=True)):
        allowed = relative * np.abs(right) + max(absolute * np.max(right), rounding)
        if not np.all(np.abs(got - right) <= allowed):
            worst = np.unravel_index(np.argmax(np.abs(got - right) - allowed), got.shape)
            return f"{variable.path} (variable {number}) at {worst}: expected {right[worst]:.6g}, got {got[worst]:.6g}"
    return None
