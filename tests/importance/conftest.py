"""Three small networks, trained for a few steps, with a record of all that happened."""

import functools
from typing import NamedTuple

import keras
import numpy as np
import plain
import pytest
from keras import layers

import importance
from engine import wrapper

EXAMPLES, CLASSES, BATCH, STEPS = 12, 3, 6, 12


def dense():
    return keras.Sequential(
        [keras.Input((5,)), layers.Dense(6, activation="relu"), layers.Dense(4), layers.LeakyReLU(0.1), layers.Dense(3)]
    )


def convolutional():
    return keras.Sequential(
        [
            keras.Input((6, 5, 2)),
            layers.Conv2D(3, 3, name="first"),
            layers.BatchNormalization(name="normal"),
            layers.ReLU(name="rectified"),
            layers.Conv2D(2, (2, 3), strides=2, padding="same", activation="tanh", name="second"),
            layers.Flatten(),
            layers.Dense(3, name="last"),
        ]
    )


def attention():
    tokens = keras.Input((4,), dtype="int32")
    embedded = layers.Embedding(7, 4, name="tokens")(tokens)
    mixed = layers.MultiHeadAttention(2, 3, name="heads")(embedded, embedded)
    hidden = layers.LayerNormalization(name="normal")(embedded + mixed)
    hidden = layers.Dense(5, activation="gelu", name="hidden")(hidden)
    return keras.Model(tokens, layers.Dense(3, name="last")(layers.GlobalAveragePooling1D()(hidden)))


class Multiplied(NamedTuple):
    """What the weights of one variable multiply: for each example an array (places, ...) that broadcasts to it."""

    inputs: list
    outputs: list = ()
    added: bool = False


class Case:
    """A trained network, and what the references need to know about it."""

    def __init__(self, name, build, x):
        rng = np.random.default_rng(0)
        keras.utils.set_random_seed(0)
        self.name, self.model, self.x = name, build(), x
        self.y = rng.integers(0, CLASSES, len(x)).astype("int32")
        for v in self.model.non_trainable_variables:  # statistics that differ from their start
            if "moving" in v.name:
                v.assign(np.abs(np.asarray(v.value)) + rng.random(v.shape).astype("float32"))
        self._train()
        self.weights = plain.values(self.model.trainable_variables)
        self.others = plain.values(self.model.non_trainable_variables)
        self.logits = np.concatenate([np.asarray(self.model(x[n : n + 1], training=False)) for n in range(len(x))])

    def _train(self):
        """Train with everything tracked; keep the weights after every step."""
        model = self.model
        optimizer = importance.Tracked(wrapper.Summed(keras.optimizers.Adam(0.02)), importance.names())
        model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        self.path, others = [plain.values(model.trainable_variables)], plain.values(model.non_trainable_variables)

        def note(batch, logs):
            if plain.BACKEND == "jax":
                model.jax_state_sync()  # while it trains, the model's variables are empty
            self.path.append(plain.values(model.trainable_variables))

        seen = keras.callbacks.LambdaCallback(on_train_batch_end=note)
        epochs = STEPS * BATCH // len(self.x)
        model.fit(self.x, self.y, BATCH, epochs, shuffle=False, verbose=0, callbacks=[seen])
        rows = [np.arange(s * BATCH, (s + 1) * BATCH) % len(self.x) for s in range(STEPS)]
        # In training mode the gradient does not depend on the moving statistics.
        self.gradients = [
            plain.step_gradient(model, weights, others, self.x[r], self.y[r])
            for weights, r in zip(self.path[:-1], rows, strict=True)
        ]

    @functools.cached_property
    def jacobian(self):
        return plain.jacobian(self.model, self.x)

    def mean_loss(self, weights):
        logits = np.asarray(self._outputs(plain.tensors(weights)))
        return float(np.mean([plain.cross_entropy(logits[n], self.y[n]) for n in range(len(self.x))]))

    @functools.cached_property
    def _outputs(self):
        return plain.compiled(lambda weights: plain.output(self.model, weights, self.others, self.x))

    @functools.cached_property
    def hessian(self):
        def mean_loss(weights):
            logits = plain.output(self.model, weights, self.others, self.x)
            return sum(plain.cross_entropy(logits[n], self.y[n]) for n in range(len(self.x))) / len(self.x)

        return plain.hessian(mean_loss, self.weights)

    def unflatten(self, flat):
        ends = np.cumsum([w.size for w in self.weights])[:-1]
        return [part.reshape(w.shape) for part, w in zip(np.split(flat, ends), self.weights, strict=True)]

    @functools.cached_property
    def signals(self):
        return {"dense": dense_signals, "convolutional": convolutional_signals, "attention": attention_signals}[
            self.name
        ](self)

    def at(self, layer, side="output"):
        """What a layer is given or gives, for all examples."""
        tensor = getattr(self.model.get_layer(layer) if isinstance(layer, str) else layer, side)
        return np.asarray(keras.Model(self.model.inputs[0], tensor)(self.x, training=False))


def kernel_and_bias(given, gives):
    """Of a Dense layer on (n, places, ...): the kernel multiplies what is given, the bias moves what it gives."""
    given = given.reshape(len(given), -1, given.shape[-1], 1)
    gives = gives.reshape(len(gives), -1, gives.shape[-1])
    return [Multiplied(list(given)), Multiplied(list(np.ones_like(gives)), list(gives), True)]


def dense_signals(case):
    first, _, leaky, last = case.model.layers
    return [
        *kernel_and_bias(case.x, case.at(first)),
        *kernel_and_bias(case.at(first), case.at(leaky)),
        *kernel_and_bias(case.at(leaky), case.at(last)),
    ]


def patches(images, size, stride, shape):
    """The patches under a kernel at every place of the output, (n, places, height, width, channels, 1)."""
    return np.stack(
        [
            images[:, i * stride : i * stride + size[0], j * stride : j * stride + size[1]]
            for i in range(shape[0])
            for j in range(shape[1])
        ],
        axis=1,
    )[..., None]


def convolutional_signals(case):
    def added(gives):
        gives = gives.reshape(len(gives), -1, gives.shape[-1])
        return Multiplied(list(np.ones_like(gives)), list(gives), True)

    normal = case.model.get_layer("normal")
    mean, variance = np.asarray(normal.moving_mean.value), np.asarray(normal.moving_variance.value)
    normalised = (case.at("first") - mean) / np.sqrt(variance + normal.epsilon)
    rectified = case.at("rectified")  # (n, 4, 3, 3): with stride 2 and kernel (2, 3), padding 0 above, 1 at each side
    padded = np.pad(rectified, [(0, 0), (0, 0), (1, 1), (0, 0)])
    return [
        Multiplied(list(patches(case.x, (3, 3), 1, (4, 3)))),
        added(case.at("first")),
        Multiplied(list(normalised.reshape(len(case.x), -1, 3))),
        added(rectified),
        Multiplied(list(patches(padded, (2, 3), 2, (2, 2)))),
        added(case.at("second")),
        *kernel_and_bias(case.at("second").reshape(len(case.x), 1, -1), case.at("last")),
    ]


def attention_signals(case):
    table, wq, bq, wk, bk, wv, bv, wo, bo = (w.astype("float64") for w in case.weights[:9])
    one_hot = np.eye(7)[case.x]  # (n, t, vocabulary)
    embedded = table[case.x]  # (n, t, c)
    projected = [np.einsum("ntc,chd->nthd", embedded, w) + b for w, b in ((wq, bq), (wk, bk), (wv, bv))]
    query, key, value = projected
    attended = plain.softmax(np.einsum("nthd,nshd->nhts", query, key) / np.sqrt(3))
    joined = np.einsum("nhts,nshd->nthd", attended, value)
    mixed = np.einsum("nthd,hdc->ntc", joined, wo) + bo
    summed = embedded + mixed
    normal = case.model.get_layer("normal")
    centred = summed - summed.mean(axis=-1, keepdims=True)
    normalised = centred / np.sqrt(summed.var(axis=-1, keepdims=True) + normal.epsilon)

    def into_heads(gives):
        return [Multiplied(list(embedded[..., None, None])), Multiplied(list(np.ones_like(gives)), list(gives), True)]

    hidden = case.at("hidden")
    return [
        Multiplied(list(one_hot[..., None])),
        *(part for gives in projected for part in into_heads(gives)),
        Multiplied(list(joined[..., None])),
        Multiplied(list(np.ones_like(mixed)), list(mixed), True),
        Multiplied(list(normalised)),
        Multiplied(list(np.ones_like(normalised)), list(case.at("normal")), True),
        *kernel_and_bias(case.at("normal"), hidden),
        *kernel_and_bias(hidden.mean(axis=1), case.at("last")),
    ]


@functools.cache
def trained(name):
    rng = np.random.default_rng(1)
    if name == "dense":
        return Case(name, dense, rng.standard_normal((EXAMPLES, 5)).astype("float32"))
    if name == "convolutional":
        return Case(name, convolutional, rng.standard_normal((EXAMPLES, 6, 5, 2)).astype("float32"))
    return Case(name, attention, rng.integers(0, 7, (EXAMPLES, 4)).astype("int32"))


@pytest.fixture(params=[pytest.param("dense", marks=pytest.mark.xla), "convolutional", "attention"])
def case(request):
    return trained(request.param)


@pytest.fixture
def dense_case():
    return trained("dense")
