"""The zoo by what is made of layers: weights used twice, several inputs, frozen parts, objectives, sequences."""

import keras
from keras import layers, losses, ops
from zoo import (
    ARGMAX,
    BELIEFS,
    EXACT,
    FLOWS,
    LABELS,
    OF_LOSS,
    TOKENS,
    UNITS,
    entry,
    floats,
    integers,
    one_hot,
    padded,
    prefixes,
    sequential,
    zeros_and_ones,
)

# Layers and models that are used more than once, and models in models


@entry([floats(4), floats(4)], LABELS, quick=True)
def siamese():
    left, right = keras.Input((4,)), keras.Input((4,))
    trunk = sequential(keras.Input((4,)), layers.Dense(3, activation="relu"), layers.Dense(2, activation="tanh"))
    return keras.Model([left, right], layers.Dense(3)(layers.Subtract()([trunk(left), trunk(right)])))


@entry(floats(4, 4, 1), LABELS, normalised=True)
def nested_models():
    inner = sequential(keras.Input((4, 4, 1)), layers.Conv2D(2, 2), layers.BatchNormalization(), layers.ReLU())
    x = keras.Input((4, 4, 1))
    middle = keras.Model(x, layers.Flatten()(inner(x)))
    return sequential(keras.Input((4, 4, 1)), middle, sequential(layers.Dense(4, activation="relu")), layers.Dense(3))


@entry(TOKENS, LABELS)
def shared_embedding():
    """Tokens that stand twice in an example, and a table that is looked up twice."""
    tokens, table = keras.Input((4,), dtype="int32"), layers.Embedding(7, 3)
    there, back = table(tokens), table(layers.Lambda(lambda t: ops.flip(t, axis=1))(tokens))
    return keras.Model(tokens, layers.Dense(3)(layers.Flatten()(layers.Multiply()([there, back]))))


class WithoutTraining(keras.Model):
    """Written as Keras's guides begin: a call that takes inputs alone."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out = layers.Dense(4, activation="tanh"), layers.Dense(3)

    def call(self, x):
        return self.out(self.hidden(x))


@entry(floats(4), LABELS, quick=True)
def subclassed_without_training():
    return WithoutTraining()


class Block(layers.Layer):
    def __init__(self, units):
        super().__init__()
        self.parts = [layers.Dense(units, activation="relu"), layers.LayerNormalization(), layers.Dropout(0.5)]

    def call(self, x, training=None):
        x = self.parts[0](x)
        return x + self.parts[2](self.parts[1](x), training=training)


class Blocks(keras.Model):
    def __init__(self):
        super().__init__()
        self.blocks, self.head = [Block(4), Block(4)], layers.Dense(3)

    def call(self, inputs, training=None):
        x = inputs["x"]
        for block in self.blocks:
            x = block(x, training=training)
        return self.head(x)


@entry({"x": floats(4)}, LABELS)
def subclassed_blocks_of_a_dict():
    return Blocks()


class Scaled(layers.Dense):
    """A kind of Dense that does something else with its weights."""

    def call(self, inputs, training=None):
        return self.activation(ops.matmul(inputs, ops.softplus(self.kernel)) + 2.0 * self.bias)


class OwnWeights(keras.Model):
    """A model that owns weights itself, one of them a scalar, before a layer of one's own."""

    def __init__(self):
        super().__init__()
        self.scale = self.add_weight(shape=(), name="scale", initializer="ones")
        self.table = self.add_weight(shape=(4, 3), name="table")
        self.hidden = Scaled(4, activation="tanh")

    def call(self, x):
        return self.scale * self.hidden(x) @ self.table


@entry(floats(4), LABELS, refused=FLOWS, refusable=UNITS)
def weights_of_ones_own():
    return OwnWeights()


# Weights that are used outside their layer's own call


class TiedHead(keras.Model):
    def __init__(self):
        super().__init__()
        self.table, self.hidden = layers.Embedding(7, 4), layers.Dense(4, activation="tanh")

    def call(self, tokens, training=None):
        return ops.matmul(self.hidden(self.table(tokens)), ops.transpose(self.table.embeddings))


@entry(TOKENS, integers(7, 4), refused=FLOWS, refusable=EXACT, quick=True)
def tied_head():
    return TiedHead()


class Reading(layers.Layer):
    """A layer without weights that multiplies by another's kernel."""

    def __init__(self, other):
        super().__init__(trainable=False)
        self.other = lambda: other  # hidden from Keras, which would count the other layer as a part of this one

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.other().kernel))


@entry(floats(4), integers(4), refused=FLOWS)
def tied_autoencoder():
    x, encoder = keras.Input((4,)), layers.Dense(3, activation="tanh")
    return keras.Model(x, Reading(encoder)(encoder(x)))


@entry(floats(4), LABELS, refused=FLOWS)
def weights_read_by_a_lambda():
    """A Lambda that reads a kernel and a bias; a normalisation's gamma is read too."""
    x, hidden, normal = keras.Input((4,)), layers.Dense(3), layers.LayerNormalization()
    y = normal(hidden(x))
    y = layers.Lambda(lambda t: t * ops.sum(hidden.kernel, axis=0) + hidden.bias * normal.gamma)(y)
    return keras.Model(x, layers.Dense(3)(y))


@entry(floats(4, 4, 2), LABELS, refused=FLOWS)
def convolution_read_twice():
    x, filters = keras.Input((4, 4, 2)), layers.Conv2D(2, 2, activation="relu")
    again = layers.Lambda(lambda t: ops.conv(t, filters.kernel, strides=2))(filters(x))
    return keras.Model(x, layers.Dense(3)(layers.Flatten()(again)))


# Several inputs


@entry([floats(3), floats(2, 2)], LABELS)
def list_of_inputs():
    a, b = keras.Input((3,)), keras.Input((2, 2))
    joined = layers.Concatenate()([layers.Dense(3, activation="tanh")(a), layers.Flatten()(layers.Dense(2)(b))])
    return keras.Model([a, b], layers.Dense(3)(joined))


@entry({"words": TOKENS, "age": floats(1)}, LABELS, quick=True)
def dict_of_inputs():
    words, age = keras.Input((4,), dtype="int32", name="words"), keras.Input((1,), name="age")
    embedded = layers.GlobalAveragePooling1D()(layers.Embedding(7, 3)(words))
    joined = layers.Concatenate()([embedded, layers.Dense(2, activation="relu")(age)])
    return keras.Model({"words": words, "age": age}, layers.Dense(3)(joined))


# Partly frozen


@entry(floats(4), LABELS, refusable=FLOWS)
def frozen_kernel():
    """The bias is trained and the kernel is not, as when only biases are fine-tuned."""
    model = sequential(keras.Input((4,)), layers.Dense(4, activation="tanh"), layers.Dense(3))
    model.layers[0].kernel.trainable = False
    return model


@entry(floats(4, 4, 1), LABELS)
def frozen_trunk():
    trunk = sequential(keras.Input((4, 4, 1)), layers.Conv2D(2, 2), layers.BatchNormalization(), layers.Flatten())
    trunk.trainable = False
    return sequential(keras.Input((4, 4, 1)), trunk, layers.Dense(3, activation="relu"), layers.Dense(3))


# Other objectives


def small(units, activation=None):
    hidden = layers.Dense(4, activation="tanh")
    return sequential(keras.Input((4,)), hidden, layers.Dense(units, activation=activation))


@entry(floats(4), zeros_and_ones(1), losses.BinaryCrossentropy(from_logits=True), quick=True)
def single_logit():
    return small(1)


@entry(floats(4), integers(2), losses.BinaryCrossentropy(), refused={"lrp"})
def single_sigmoid():
    """With labels as they often come: integers without an axis for the one output."""
    return small(1, "sigmoid")


@entry(floats(4), zeros_and_ones(3), losses.BinaryCrossentropy(from_logits=True), refused={"lrp"})
def several_labels():
    return small(3)


@entry(floats(4), LABELS, losses.SparseCategoricalCrossentropy(), refused={"lrp"})
def softmax_at_the_end():
    return small(3, "softmax")


@entry(floats(4), LABELS, losses.SparseCategoricalCrossentropy(), told=None, refusable=BELIEFS | OF_LOSS | {"mas"})
def softmax_without_compiling():
    return small(3, "softmax")


@entry(floats(4), one_hot(3), losses.CategoricalCrossentropy(from_logits=True), quick=True)
def one_hot_labels():
    return small(3)


@entry(floats(4), floats(3), losses.MeanSquaredError(), told=None, refused=ARGMAX)
def squared_error():
    return small(3)


@entry(floats(4), floats(2), losses.Huber(0.7), refused=BELIEFS)
def huber():
    return small(2)


@entry(floats(4), zeros_and_ones(3), losses.Dice(), refused=BELIEFS, refusable=OF_LOSS | {"mas"})
def dice():
    """A loss whose `call` gives one number for the whole batch."""
    return small(3, "sigmoid")


class Pinball(losses.Loss):
    """The loss of a quantile, which says nothing of itself in its configuration and reduces nothing."""

    def __init__(self, quantile):
        super().__init__(reduction=None)
        self.quantile = quantile

    def call(self, y_true, y_pred):
        error = y_true - y_pred
        return ops.mean(ops.maximum(self.quantile * error, (self.quantile - 1) * error), axis=-1)


@entry(floats(4), floats(2), Pinball(0.8), refused=BELIEFS)
def loss_of_ones_own():
    return small(2)


# One label for each place of a sequence


@entry(padded(7, 5), integers(3, 5), refused=FLOWS, refusable=EXACT)
def tagging_with_mask():
    return sequential(
        keras.Input((5,), dtype="int32"), layers.Embedding(7, 3, mask_zero=True), layers.LSTM(3, return_sequences=True),
        layers.Dense(3),
    )  # fmt: skip


def ignoring(label):
    return losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=label)


@entry(floats(4, 3), integers(3, 4, low=-1), ignoring(-1), refused=BELIEFS)
def ignored_labels():
    return sequential(keras.Input((4, 3)), layers.Dense(3, activation="tanh"), layers.Dense(3))


@entry(padded(7, 4), integers(3, 4), ignoring(0), refused=BELIEFS)
def ignored_labels_under_a_mask():
    return sequential(
        keras.Input((4,), dtype="int32"), layers.Embedding(7, 3, mask_zero=True), layers.Dense(3, activation="tanh"),
        layers.Dense(3),
    )  # fmt: skip


@entry(padded(7, 4), integers(3, 4), losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum"),
       refusable=EXACT)  # fmt: skip
def summed_over_a_sequence():
    return sequential(
        keras.Input((4,), dtype="int32"), layers.Embedding(7, 3, mask_zero=True), layers.Dense(3, activation="relu"),
        layers.Dense(3),
    )  # fmt: skip


@entry(padded(7, 4), floats(4, 1), losses.MeanSquaredError(), refused=ARGMAX, refusable=BELIEFS)
def masked_regression():
    return sequential(
        keras.Input((4,), dtype="int32"), layers.Embedding(7, 3, mask_zero=True), layers.Dense(3, activation="relu"),
        layers.Dense(1),
    )  # fmt: skip


# From KerasHub


@entry({"token_ids": TOKENS, "padding_mask": prefixes(4)}, integers(7, 4), refused=FLOWS, refusable=EXACT | UNITS)
def gpt2():
    import keras_hub

    backbone = keras_hub.models.GPT2Backbone(
        vocabulary_size=7, num_layers=1, num_heads=2, hidden_dim=4, intermediate_dim=6, max_sequence_length=4
    )
    return keras.Model(backbone.input, backbone.token_embedding(backbone.output, reverse=True))


@entry({"token_ids": TOKENS, "padding_mask": prefixes(4)}, LABELS, refusable=FLOWS | UNITS)
def llama_with_head():
    import keras_hub

    backbone = keras_hub.models.LlamaBackbone(
        vocabulary_size=7, num_layers=1, num_query_heads=2, num_key_value_heads=1, hidden_dim=4, intermediate_dim=6
    )
    last = layers.GlobalAveragePooling1D()(backbone.output)
    return keras.Model(backbone.input, layers.Dense(3)(last))
