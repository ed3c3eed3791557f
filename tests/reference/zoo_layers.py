"""The zoo by layers: dense, recurrent, attention, convolutions, normalisations, contractions."""

import keras
import numpy as np
from keras import layers
from zoo import EXACT, EXAMPLES, FLOWS, LABELS, TOKENS, UNITS, entry, floats, integers, padded, sequential

# Dense layers and their activations


def _branches(activations):
    x = keras.Input((4,))
    branches = [layers.Dense(2, activation=name)(x) for name in activations]
    return keras.Model(x, layers.Dense(3)(layers.Concatenate()(branches)))


@entry(floats(4), LABELS)
def smooth_activations():
    return _branches(
        "elu selu gelu silu softplus tanh sigmoid exponential celu mish log_sigmoid squareplus "
        "tanh_shrink softmax log_softmax".split()
    )


@entry(floats(4), LABELS)
def kinked_activations():
    return _branches(
        "relu relu6 leaky_relu hard_sigmoid hard_silu hard_tanh hard_shrink soft_shrink sparse_plus "
        "sparse_sigmoid sparsemax linear".split()
    )


@entry(floats(4), LABELS, quick=True)
def activation_layers():
    return sequential(
        keras.Input((4,)), layers.Dense(4), layers.ReLU(max_value=2.0, negative_slope=0.1), layers.Dense(3),
        layers.LeakyReLU(), layers.Dense(3), layers.ELU(), layers.Dense(3), layers.Activation("gelu"),
        layers.Dropout(0.5), layers.Dense(3), layers.Softmax(), layers.Dense(3, use_bias=False),
    )  # fmt: skip


@entry(floats(2, 4), LABELS, refused=FLOWS)
def prelu():
    return sequential(
        keras.Input((2, 4)), layers.Dense(3), layers.PReLU(shared_axes=[1]), layers.Flatten(), layers.Dense(3)
    )


@entry(floats(4), LABELS)
def regularized():
    return sequential(
        keras.Input((4,)), layers.Dense(3, activation="tanh", kernel_regularizer="l2", activity_regularizer="l1"),
        layers.Dense(3, kernel_regularizer="l1", bias_regularizer="l2"),
    )  # fmt: skip


@entry(floats(4), LABELS)
def residual_branches():
    """Biases of branches that run side by side, each with its own activation layer, and a sum of them."""
    x = keras.Input((4,))
    left, right = layers.Dense(4)(x), layers.Dense(4)(x)
    left, right = layers.Activation("tanh")(left), layers.ReLU()(right)
    return keras.Model(x, layers.Dense(3)(layers.Add()([x, left, right])))


@entry(floats(4), LABELS, refused=FLOWS, refusable=UNITS)
def lora():
    model = sequential(keras.Input((4,)), layers.Dense(4, activation="tanh"), layers.Dense(3))
    model.layers[0].enable_lora(2)
    return model


# Recurrent layers


@entry(floats(4, 3), LABELS, refused=FLOWS)
def stacked_recurrent():
    return sequential(
        keras.Input((4, 3)), layers.GRU(3, return_sequences=True), layers.SimpleRNN(2, go_backwards=True),
        layers.Dense(3),
    )  # fmt: skip


@entry(padded(7, 5), LABELS, refused=FLOWS)
def bidirectional_with_mask():
    return sequential(
        keras.Input((5,), dtype="int32"), layers.Embedding(7, 3, mask_zero=True),
        layers.Bidirectional(layers.GRU(2, reset_after=False)), layers.Dense(3),
    )  # fmt: skip


@entry(floats(3, 4), LABELS, refusable=FLOWS)
def time_distributed():
    return sequential(
        keras.Input((3, 4)), layers.TimeDistributed(layers.Dense(3, activation="tanh")), layers.Flatten(),
        layers.Dense(3),
    )  # fmt: skip


@entry(floats(3, 4, 4, 1), LABELS, refused=FLOWS)
def conv_lstm():
    return sequential(
        keras.Input((3, 4, 4, 1)), layers.ConvLSTM2D(2, 2), layers.GlobalAveragePooling2D(), layers.Dense(3)
    )


@entry(lambda rng: np.where(rng.random((EXAMPLES, 4, 1)) < 0.3, 0, rng.standard_normal((EXAMPLES, 4, 3))).astype(
    "float32"), LABELS, refused=FLOWS)  # fmt: skip
def masking_of_floats():
    return sequential(keras.Input((4, 3)), layers.Masking(), layers.SimpleRNN(3), layers.Dense(3))


# Attention


@entry(padded(7, 5), LABELS)
def attention_with_padding():
    tokens = keras.Input((5,), dtype="int32")
    x = layers.Embedding(7, 4, mask_zero=True)(tokens)
    x = layers.LayerNormalization()(layers.Add()([x, layers.MultiHeadAttention(2, 2)(x, x)]))
    return keras.Model(tokens, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))


@entry(TOKENS, LABELS, quick=True)
def grouped_query_attention():
    tokens = keras.Input((4,), dtype="int32")
    x = layers.Embedding(7, 4)(tokens)
    x = layers.GroupQueryAttention(2, 4, 2)(x, x)
    return keras.Model(tokens, layers.Dense(3)(layers.GlobalMaxPooling1D()(x)))


@entry({"tokens": TOKENS, "picture": floats(3, 4)}, LABELS)
def cross_attention():
    tokens, picture = keras.Input((4,), dtype="int32", name="tokens"), keras.Input((3, 4), name="picture")
    x = layers.MultiHeadAttention(2, 2, output_shape=5, use_bias=False)(layers.Embedding(7, 4)(tokens), picture)
    return keras.Model({"tokens": tokens, "picture": picture}, layers.Dense(3)(layers.Flatten()(x)))


@entry(TOKENS, integers(7, 4), refusable=EXACT)
def causal_language_model():
    tokens = keras.Input((4,), dtype="int32")
    x = layers.Embedding(7, 4)(tokens)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 2)(x, x, use_causal_mask=True)])
    x = layers.Dense(4, activation="gelu")(layers.LayerNormalization()(x))
    return keras.Model(tokens, layers.Dense(7)(x))


@entry(floats(3, 4), LABELS, refused=FLOWS)
def scaled_attentions():
    x = keras.Input((3, 4))
    hidden = layers.Dense(4, activation="tanh")(x)
    added = layers.AdditiveAttention()([hidden, x])
    scaled = layers.Attention(use_scale=True, score_mode="concat")([hidden, x])
    return keras.Model(x, layers.Dense(3)(layers.Flatten()(layers.Concatenate()([added, scaled]))))


# Convolutions


@entry(floats(6, 2), LABELS)
def causal_dilated_convolutions():
    return sequential(
        keras.Input((6, 2)), layers.Conv1D(3, 2, padding="causal", activation="tanh"),
        layers.Conv1D(2, 2, padding="causal", dilation_rate=2), layers.ReLU(), layers.Flatten(), layers.Dense(3),
    )  # fmt: skip


@entry(floats(5, 4, 2), LABELS, quick=True)
def strided_and_pooled_convolutions():
    return sequential(
        keras.Input((5, 4, 2)), layers.ZeroPadding2D(1), layers.Conv2D(3, (2, 3), strides=2, padding="same"),
        layers.ReLU(), layers.MaxPooling2D(2, padding="same"), layers.Conv2D(2, 1, activation="elu"),
        layers.UpSampling2D(2), layers.AveragePooling2D(2), layers.Flatten(), layers.Dense(3),
    )  # fmt: skip


@entry(floats(5, 5, 4), LABELS)
def grouped_and_dilated_convolutions():
    return sequential(
        keras.Input((5, 5, 4)), layers.Conv2D(4, 2, groups=2, activation="relu"), layers.Conv2D(2, 2, dilation_rate=2),
        layers.GlobalMaxPooling2D(), layers.Dense(3),
    )  # fmt: skip


@entry(floats(3, 4, 3, 1), LABELS)
def convolution_3d():
    return sequential(
        keras.Input((3, 4, 3, 1)), layers.Conv3D(2, 2, strides=(1, 2, 1), activation="tanh"), layers.Flatten(),
        layers.Dense(3),
    )  # fmt: skip


@entry(floats(5, 4, 2), LABELS)
def depthwise_convolutions():
    return sequential(
        keras.Input((5, 4, 2)), layers.DepthwiseConv2D(2, depth_multiplier=2, activation="tanh"),
        layers.Reshape((4, 12)), layers.DepthwiseConv1D(3, padding="same", strides=2), layers.Flatten(),
        layers.Dense(3, use_bias=False),
    )  # fmt: skip


@entry(floats(5, 4, 2), LABELS, refused=FLOWS)
def separable_convolutions():
    return sequential(
        keras.Input((5, 4, 2)), layers.SeparableConv2D(3, 2, activation="tanh"), layers.Reshape((4, 9)),
        layers.SeparableConv1D(2, 2, padding="same", use_bias=False), layers.Flatten(), layers.Dense(3),
    )  # fmt: skip


@entry(floats(3, 3, 2), LABELS, refusable=FLOWS)
def transposed_convolutions():
    return sequential(
        keras.Input((3, 3, 2)), layers.Conv2DTranspose(2, 2, strides=2, activation="tanh"), layers.Reshape((6, 12)),
        layers.Conv1DTranspose(2, 3, padding="same"), layers.Flatten(), layers.Dense(3),
    )  # fmt: skip


# Normalisations


@entry(floats(4, 4, 2), LABELS, quick=True, normalised=True)
def batch_normalization():
    return sequential(
        keras.Input((4, 4, 2)), layers.Conv2D(3, 2, use_bias=False), layers.BatchNormalization(), layers.ReLU(),
        layers.Flatten(), layers.Dense(4), layers.BatchNormalization(scale=False), layers.Activation("tanh"),
        layers.BatchNormalization(center=False), layers.Dense(3),
    )  # fmt: skip


@entry(floats(3, 4), LABELS, refusable=FLOWS)
def normalizations_of_other_axes():
    return sequential(
        keras.Input((3, 4)), layers.Dense(4), layers.LayerNormalization(axis=[1, 2]), layers.Activation("tanh"),
        layers.LayerNormalization(axis=1, center=False), layers.BatchNormalization(axis=1), layers.Flatten(),
        layers.Dense(3),
    )  # fmt: skip


@entry(floats(3, 4), LABELS, refusable=FLOWS)
def other_normalizations():
    return sequential(
        keras.Input((3, 4)), layers.UnitNormalization(), layers.Dense(4), layers.GroupNormalization(2), layers.ReLU(),
        layers.RMSNormalization(), layers.Flatten(), layers.UnitNormalization(), layers.Dense(3),
    )  # fmt: skip


@entry(floats(5), LABELS, refusable=FLOWS)
def spectral_normalization():
    return sequential(
        keras.Input((5,)), layers.SpectralNormalization(layers.Dense(4, activation="tanh")), layers.Dense(3)
    )


# Contractions


@entry(floats(3, 4), LABELS)
def contractions():
    return sequential(
        keras.Input((3, 4)), layers.EinsumDense("abc,cd->abd", (3, 2), bias_axes="d", activation="tanh"),
        layers.EinsumDense("abc,cde->aebd", (4, 3, 2), bias_axes="de"), layers.ReLU(),
        layers.EinsumDense("aebd,bdf->aef", (4, 2), bias_axes="f"), layers.Flatten(),
        layers.EinsumDense("ab,bc->ac", 3, bias_axes="c"),
    )  # fmt: skip


@entry(floats(3, 4), LABELS, refusable=FLOWS)
def contractions_of_other_kinds():
    """Letters that are repeated over, kept from input and kernel alike, or added up before they meet the kernel."""
    return sequential(
        keras.Input((3, 4)), layers.EinsumDense("abc,bc->abc", (3, 4), bias_axes="bc"), layers.Activation("tanh"),
        layers.EinsumDense("abc,bcd->abd", (3, 2), bias_axes="d"),
        layers.EinsumDense("...c,cd->...d", 3, bias_axes="d", activation="tanh"), layers.Flatten(),
        layers.Dense(3),
    )  # fmt: skip


# In another precision


@entry(floats(4), LABELS, rounding=2**-8)
def mixed_bfloat16():
    policy = "mixed_bfloat16"
    return sequential(
        keras.Input((4,)), layers.Dense(4, activation="tanh", dtype=policy), layers.Dense(3, dtype=policy)
    )
