"""Channels: written out by hand for small networks, and seen from outside, by what is built without them."""

import keras
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from keras import layers, ops

from engine import backend, channels, structure

OUT = structure.ABSENT


def drawn(model, seed=0):
    """Draw a model's weights, far from 0, and statistics that are not those of the start."""
    rng = np.random.default_rng(seed)
    for v in model.weights:
        if v.name == "moving_variance":
            v.assign(rng.uniform(0.5, 2, v.shape))
        elif v.dtype == "float32":
            v.assign(rng.uniform(0.2, 1, v.shape) * rng.choice([-1, 1], v.shape))
    return model


def examples(model, seed=1):
    rng = np.random.default_rng(seed)
    shapes = [(3, *(7 if n is None else n for n in symbol.shape[1:])) for symbol in model.inputs]
    return [
        rng.integers(0, 5, shape) if symbol.dtype == "int32" else rng.normal(size=shape).astype("float32")
        for symbol, shape in zip(model.inputs, shapes, strict=True)
    ]


def outputs(model, x, compiled=False):
    if compiled:
        return [model.predict_on_batch(x if len(x) > 1 else x[0])]
    return [ops.convert_to_numpy(out) for out in keras.tree.flatten(model(x if len(x) > 1 else x[0], training=False))]


def zeroed(model, gone, x, compiled=False):
    """Return a model's outputs for x with zeros for some weights, and as it is again."""
    kept = [backend.copied(v) for v in model.weights]
    for v, value, away in zip(model.weights, kept, gone, strict=True):
        v.assign(np.where(away & v.trainable, 0, value) if v.trainable else value)
    try:
        return outputs(model, x, compiled)
    finally:
        for v, value in zip(model.weights, kept, strict=True):
            v.assign(value)


def own(model):
    """Return the labels of a model's weights by the paths of these: two dicts, made and read."""
    found = channels.follow(model)
    paths = [v.path.removeprefix(f"{model.name}/") for v in model.weights]
    return dict(zip(paths, found.made, strict=True)), dict(zip(paths, found.read, strict=True))


def lines(labels, axis=-1):
    """Return labels that lie along one axis, as a list; fails where they change along another."""
    labels = np.moveaxis(labels, axis, -1)
    assert (labels == labels.reshape(-1, labels.shape[-1])[0]).all()
    return labels.reshape(-1, labels.shape[-1])[0].tolist()


# By hand


def residual():
    """Two stages: an identity shortcut, and a projection to more channels."""
    x = keras.Input((6, 6, 2))

    def normal(y, name):
        return layers.ReLU()(layers.BatchNormalization(name=f"bn_{name}")(y))

    def conv(filters, name, size=3, **options):
        return layers.Conv2D(filters, size, padding="same", name=name, **options)

    stem = normal(conv(2, "stem", use_bias=False)(x), "stem")
    inner = normal(conv(3, "inner")(stem), "inner")
    first = layers.Add()([stem, layers.BatchNormalization(name="bn_back")(conv(2, "back")(inner))])
    deep = normal(conv(2, "deep", strides=2)(first), "deep")
    second = conv(4, "wide")(deep) + conv(4, "projection", 1, strides=2)(first)
    return keras.Model(x, layers.Dense(3, name="out")(layers.GlobalAveragePooling2D()(ops.relu(second))))


def test_a_residual_network():
    made, read = own(residual())
    stream, inner, deep, wide = [0, 1], [2, 3, 4], [5, 6], [7, 8, 9, 10]
    for name, expected in {"stem": stream, "inner": inner, "back": stream, "deep": deep}.items():
        assert lines(made[f"{name}/kernel"]) == expected
        for role in ("gamma", "beta", "moving_mean", "moving_variance"):
            assert lines(made[f"bn_{name}/{role}"]) == expected
    for name in ("wide", "projection"):
        assert lines(made[f"{name}/kernel"]) == lines(made[f"{name}/bias"]) == wide
    rows = {"inner": stream, "back": inner, "deep": stream, "wide": deep, "projection": stream, "out": wide}
    for name, expected in rows.items():
        assert lines(read[f"{name}/kernel"], -2) == expected
    assert (read["stem/kernel"] == OUT).all() and (made["out/kernel"] == OUT).all() and (made["out/bias"] == OUT).all()
    assert channels.follow(residual()).differs == [()] * 11


def transformer():
    tokens = keras.Input((5,), dtype="int32")
    stream = layers.Embedding(7, 4, name="embedding")(tokens)
    normal = layers.LayerNormalization(name="norm_1")(stream)
    stream = stream + layers.MultiHeadAttention(2, 3, name="attention")(normal, normal, use_causal_mask=True)
    inner = layers.Dense(6, activation="gelu", name="in")(layers.LayerNormalization(name="norm_2")(stream))
    stream = layers.Add()([stream, layers.Dense(4, name="back")(inner)])
    return keras.Model(tokens, layers.Dense(7, name="out")(stream))


def test_a_transformer_block():
    made, read = own(transformer())
    stream, inner = [0, 1, 2, 3], [4, 5, 6, 7, 8, 9]
    owned = ("embedding/embeddings", "norm_1/gamma", "norm_1/beta", "norm_2/gamma", "norm_2/beta", "back/kernel",
             "back/bias", "attention/attention_output/kernel", "attention/attention_output/bias")  # fmt: skip
    assert [lines(made[name]) for name in owned] == [stream] * 9
    assert lines(made["in/kernel"]) == lines(made["in/bias"]) == lines(read["back/kernel"], 0) == inner
    for role in ("query", "key", "value"):
        assert (made[f"attention/{role}/kernel"] == OUT).all() and (made[f"attention/{role}/bias"] == OUT).all()
        assert lines(read[f"attention/{role}/kernel"], 0) == stream
    assert lines(read["in/kernel"], 0) == lines(read["out/kernel"], 0) == stream
    assert (made["out/kernel"] == OUT).all()
    assert channels.follow(transformer()).differs == [("norm_1", "norm_2")] * 4 + [()] * 6


def sequential(shape, *parts, dtype="float32"):
    return keras.Sequential([keras.Input(shape, dtype=dtype), *parts])


def test_depthwise_steps_keep_channels_and_pointwise_ones_make_them():
    made, read = own(
        sequential((6, 6, 1), layers.Conv2D(2, 1, name="a"), layers.DepthwiseConv2D(2, depth_multiplier=2, name="b"),
                   layers.SeparableConv2D(3, 2, name="c"), layers.Flatten(), layers.Dense(2, name="out"))
    )  # fmt: skip
    assert lines(made["a/kernel"]) == lines(made["b/kernel"], -2) == [0, 1]
    assert lines(made["b/bias"]) == lines(made["c/depthwise_kernel"], -2) == [0, 0, 1, 1]
    assert lines(read["c/pointwise_kernel"], -2) == [0, 0, 1, 1] and lines(made["c/pointwise_kernel"]) == [2, 3, 4]
    assert lines(read["out/kernel"], 0) == [2, 3, 4] * 16


def test_concatenated_channels_lie_one_after_another_and_normalisations_are_shared_out():
    x = keras.Input((4,))
    a, b = layers.Dense(2, name="a")(x), layers.Dense(3, name="b")(x)
    both = layers.BatchNormalization(name="norm")(layers.Concatenate()([b, a]))
    partly = layers.Concatenate()([layers.Add()([a, layers.Dense(2, name="c")(both)]), x])
    made, read = own(keras.Model(x, layers.Dense(1, name="out")(partly)))
    of = {name: lines(made[f"{name}/kernel"]) for name in "abc"}
    assert sorted(of["a"] + of["b"]) == [0, 1, 2, 3, 4] and of["c"] == of["a"]
    assert lines(made["norm/gamma"]) == lines(read["c/kernel"], 0) == of["b"] + of["a"]
    assert lines(read["out/kernel"], 0) == of["a"] + [OUT] * 4


def test_a_recurrent_unit_is_all_its_gates():
    made, read = own(sequential((4, 2), layers.LSTM(2, return_sequences=True, name="a"), layers.GRU(3, name="b"),
                                layers.Dense(1, name="out")))  # fmt: skip
    a = {role: made[f"a/lstm_cell/{role}"] for role in ("kernel", "recurrent_kernel", "bias")}
    assert all(lines(labels) == [0, 1] * 4 for labels in a.values())
    assert lines(read["a/lstm_cell/recurrent_kernel"], 0) == lines(read["b/gru_cell/kernel"], 0) == [0, 1]
    assert lines(made["b/gru_cell/bias"]) == [2, 3, 4] * 3 and lines(read["out/kernel"], 0) == [2, 3, 4]


def test_what_is_shaped_anew_goes_with_each_of_its_places():
    made, read = own(
        sequential((3,), layers.Dense(8, name="a"), layers.Reshape((2, 2, 2)), layers.Conv2D(2, 1, name="b"),
                   layers.Flatten(), layers.Dense(1, name="out"))
    )  # fmt: skip
    assert lines(made["a/kernel"]) == [0, 1] * 4 and lines(read["b/kernel"], -2) == [0, 1]
    assert lines(read["out/kernel"], 0) == [2, 3] * 4


def test_what_reaches_an_input_or_an_output_takes_no_part():
    x = keras.Input((3,))
    tied = layers.Add()([x, layers.Dense(3, name="tied")(x)])
    seen = layers.Dense(2, name="seen")(tied)
    model = keras.Model(x, [layers.Dense(1, name="out")(seen), layers.Softmax()(seen)])
    assert all((labels == OUT).all() for labels in channels.follow(model).made)


def test_layers_and_models_that_are_called_twice_are_joined():
    shared = sequential((3,), layers.Dense(3, name="inside"), layers.ReLU(), layers.Dense(2, name="back"))
    x, y = keras.Input((2,)), keras.Input((2,))
    first, second = layers.Dense(3, name="a"), layers.Dense(3, name="b")
    both = layers.Subtract()([shared(first(x)), shared(second(y))])
    made, read = own(keras.Model([x, y], layers.Dense(1, name="out")(both)))
    (inside,) = (path for path in made if path.endswith("inside/kernel"))
    assert lines(made["a/kernel"]) == lines(made["b/kernel"]) == lines(read[inside], 0)
    assert len(set(lines(made[inside]))) == 3


def test_frozen_channels_take_no_part():
    model = sequential((3,), layers.Dense(2, name="a"), layers.Dense(2, name="b"), layers.Dense(1))
    model.layers[0].trainable = False
    made, _ = own(model)
    assert (made["a/kernel"] == OUT).all() and lines(made["b/kernel"]) == [0, 1]


@pytest.mark.parametrize(
    "behind, said",
    [
        (lambda: layers.Activation("sigmoid", name="bent"), "bent"),
        (lambda: layers.Softmax(name="bent"), "bent"),
        (lambda: layers.Rescaling(1, offset=1.0, name="bent"), "bent"),
        (lambda: layers.BatchNormalization(scale=False, name="bent"), "bent"),
        (lambda: layers.LayerNormalization(name="bent"), "bent"),
        (lambda: layers.Dense(2, activation="sigmoid", name="bent"), None),
        (lambda: layers.ReLU(), None),
        (lambda: layers.Dropout(0.5), None),
    ],
)
def test_where_a_zero_is_not_what_is_gone(behind, said):
    model = sequential((3,), layers.Dense(2), behind(), layers.Dense(1))
    found = [[path.split("/")[-1] for path in paths] for paths in channels.follow(model).differs[:2]]
    assert found == [[] if said is None else [said]] * 2


@pytest.mark.parametrize("gate", [lambda y: layers.Softmax(name="gate")(y), layers.Dense(2, "softmax", name="gate")])
def test_a_softmax_that_multiplies_changes_the_channels_beside(gate):
    x = keras.Input((3,))
    y = layers.Dense(2)(x)
    model = keras.Model(x, layers.Dense(1)(layers.Multiply()([y, gate(y)])))
    assert channels.follow(model).differs == [("gate",)] * 2


def test_grouped_filters_cannot_be_taken_out_alone():
    model = sequential((4, 4, 1), layers.Conv2D(4, 1), layers.Conv2D(4, 1, groups=2, name="two"), layers.Flatten(),
                       layers.Dense(1))  # fmt: skip
    found = channels.follow(model)
    assert all(len(at) == 1 and at[0].endswith("two") for at in found.differs) and len(found.differs) == 8
    assert found.read[2][0, 0].tolist() == [[0, 0, 2, 2], [1, 1, 3, 3]]


# From outside

BODIES = {
    "dense": [lambda: layers.Dense(4, activation="relu"), lambda: layers.PReLU(), lambda: layers.Dense(3)],
    "convolutions": [
        lambda: layers.Conv1D(4, 2, activation="tanh"), lambda: layers.MaxPooling1D(2, 1),
        lambda: layers.Conv1DTranspose(3, 2), lambda: layers.ZeroPadding1D(1), lambda: layers.PReLU(shared_axes=[1]),
        lambda: layers.DepthwiseConv1D(2, depth_multiplier=2), lambda: layers.Cropping1D(1),
        lambda: layers.BatchNormalization(), lambda: layers.Flatten(), lambda: layers.Dense(3),
    ],
    "recurrent": [
        lambda: layers.Bidirectional(layers.LSTM(2, return_sequences=True)),
        lambda: layers.SimpleRNN(3, return_sequences=True),
        lambda: layers.RNN([layers.GRUCell(2), layers.LSTMCell(3)], return_sequences=True),
        lambda: layers.Bidirectional(layers.GRU(2), merge_mode="sum"), lambda: layers.RepeatVector(2),
        lambda: layers.TimeDistributed(layers.Dense(3)), lambda: layers.GlobalMaxPooling1D(),
    ],
    "einsums": [
        lambda: layers.EinsumDense("abc,cde->abde", (6, 2, 4), bias_axes="de"), lambda: layers.Permute((2, 1, 3)),
        lambda: layers.EinsumDense("abcd,bde->abce", (2, 6, 3), bias_axes="be"), lambda: layers.Reshape((2, 18)),
        lambda: layers.EinsumDense("abc,c->abc", (2, 18)),
        lambda: layers.EinsumDense("...c,cd->...d", (4,), bias_axes="d"),
    ],
    "attention": [lambda: layers.Dense(4), lambda: _attend(), lambda: layers.Dense(2)],
}  # fmt: skip


def _attend():
    x = keras.Input((6, 4))
    one = layers.MultiHeadAttention(2, 3)(x, x)
    other = layers.GroupQueryAttention(2, 4, 2)(x, layers.Dense(4)(x))
    return keras.Model(x, layers.Attention()([one, other]))


@pytest.mark.parametrize("name", sorted(BODIES))
def test_what_reads_a_channel_that_is_zero_reads_zeros(name):
    """Zeros in place of all that makes a channel: what is behind it is the same whatever the weights that read it."""
    shape = {"dense": (3,), "recurrent": (3, 3)}.get(name, (6, 3))
    parts = [make() for make in BODIES[name]]
    model = drawn(sequential(shape, *parts, layers.Flatten(), layers.Dense(2)))
    found, x = channels.follow(model), examples(model)
    assert found.differs.count(()) == len(found.differs) > 2
    whole = outputs(model, x, compiled=True)[0]
    for channel in range(0, len(found.differs), 4):
        made, read = ([labels == channel for labels in part] for part in (found.made, found.read))
        without = zeroed(model, made, x, compiled=True)[0]
        both = zeroed(model, [m | r for m, r in zip(made, read, strict=True)], x, compiled=True)[0]
        np.testing.assert_allclose(without, both, atol=1e-6)
        assert abs(without - whole).max() > 1e-6


SIZES = st.integers(1, 3)
ACTIVATIONS = st.sampled_from(["relu", "tanh", "linear", "gelu", "silu"])


@st.composite
def plans(draw):
    """Draw how a network goes on: a list of steps, each a kind and the places (mod) of what it takes."""
    image = draw(st.booleans())
    kinds = ["new", "new", "norm", "add", "concatenate", "tie"] + (["depthwise", "pool"] if image else ["gate"])
    steps = draw(st.lists(st.tuples(st.sampled_from(kinds), st.integers(0, 9), st.integers(0, 9), ACTIVATIONS, SIZES),
                          min_size=2, max_size=7))  # fmt: skip
    return image, steps


def built(plan, widths):
    """Build the network of a plan; `widths(name, default)` says how many channels a layer makes."""
    image, steps = plan
    x = keras.Input((4, 4, 2) if image else (3,))

    def new(y, name, default, activation="linear"):
        units = widths(name, default)
        if image:
            return layers.Conv2D(units, 2, padding="same", activation=activation, name=name)(y)
        return layers.Dense(units, activation=activation, name=name)(y)

    flows, sizes = [new(x, "first", 3)], [3]  # sizes are those of the whole network, so that a plan stays what it is
    for number, (kind, one, other, activation, size) in enumerate(steps):
        a, b, name = one % len(flows), other % len(flows), f"step{number}"
        alike = [place for place, n in enumerate(sizes) if n == sizes[a]]
        if kind == "new":
            flow, n = new(flows[a], name, size, activation), size
        elif kind == "norm":
            flow, n = layers.BatchNormalization(name=name)(flows[a]), sizes[a]
        elif kind == "add":
            flow, n = layers.Add()([flows[a], flows[alike[other % len(alike)]]]), sizes[a]
        elif kind == "tie":
            flow, n = flows[a] + new(flows[b], name, sizes[a], activation), sizes[a]
        elif kind == "concatenate":
            flow, n = layers.Concatenate()([flows[a], flows[b]]), sizes[a] + sizes[b]
        elif kind == "depthwise":
            flow, n = (
                layers.DepthwiseConv2D(2, padding="same", depth_multiplier=size, name=name)(flows[a]),
                sizes[a] * size,
            )
        elif kind == "pool":
            flow, n = layers.MaxPooling2D(2, 1, padding="same")(flows[a]), sizes[a]
        else:
            flow, n = layers.Multiply()([flows[a], new(flows[b], name, sizes[a], "sigmoid")]), sizes[a]
        flows.append(flow)
        sizes.append(n)
    every = layers.Concatenate()([layers.Flatten()(flow) for flow in flows])
    return keras.Model(x, layers.Dense(2, name="out")(every))


@settings(max_examples=20, deadline=None, phases=[Phase.explicit, Phase.generate])  # building is slow, plans are short
@given(plan=plans(), which=st.integers(0, 99), seed=st.integers(0, 9))
def test_without_a_channel_the_network_is_the_one_built_without_it(plan, which, seed):
    model = drawn(built(plan, lambda name, default: default), seed)
    found, x = channels.follow(model), examples(model)
    assert found.differs
    channel = which % len(found.differs)
    left = [(m != channel) & (r != channel) for m, r in zip(found.made, found.read, strict=True)]
    widths = {
        v.path.split("/")[-2]: int((labels.reshape(-1, labels.shape[-1])[0] != channel).sum())
        for v, labels in zip(model.weights, found.made, strict=True) if v.name == "kernel"
    }  # fmt: skip
    if found.differs[channel] or 0 in widths.values():
        return
    smaller = built(plan, widths.get)
    for v, own_, kept in zip(smaller.weights, model.weights, left, strict=True):
        v.assign(backend.copied(own_)[kept].reshape(v.shape))
    made = [labels == channel for labels in found.made]
    expected = zeroed(model, made, x)[0]
    scale = max(1, np.abs(expected).max())  # sums of terms so large have that much rounding, whatever they come to
    np.testing.assert_allclose(outputs(smaller, x)[0], expected, atol=1e-5 * scale)


# What is not known


class Gated(layers.Layer):
    def build(self, shape):
        self.inner = layers.Dense(shape[-1])
        self.inner.build(shape)

    def call(self, x):
        return x * self.inner(x)

    def compute_output_shape(self, shape):
        return shape


class Doubled(layers.Dense):
    def call(self, x):
        return 2 * super().call(x)


class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, x):
        return self.dense(x)


def _with(tail, shape=(3,)):
    x = keras.Input(shape)
    return keras.Model(x, layers.Dense(1)(tail(layers.Dense(3)(x))))


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: _with(Gated(name="mine")), "received 'mine', a Gated"),
        (lambda: _with(Doubled(3, name="mine")), "received 'mine', a Doubled"),
        (lambda: _with(layers.Lambda(lambda t: 2 * t, name="mine")), "received 'mine', a Lambda"),
        (lambda: _with(lambda y: layers.TimeDistributed(Gated(name="mine"))(y), (2, 3)), "a Gated"),
        (lambda: _with(lambda y: ops.cumsum(y, axis=1)), "a Cumsum"),
        (lambda: _with(lambda y: y / y), "a TrueDivide by a tensor|a Divide by a tensor"),
        (lambda: _with(Own()), "a Own with a call of its own"),
        (lambda: _with(sequential((3,), Gated(name="mine"))), "a Gated"),
    ],
)
def test_what_is_not_known_is_named(make, said):
    with pytest.raises(ValueError, match=f"Expected .*{said}.* use the level 'unit' or 'weight'"):
        channels.follow(make())


def test_a_model_that_is_written_as_a_subclass():
    model = Own()
    model(np.zeros((1, 2), "float32"))
    with pytest.raises(ValueError, match=r"a Own with a call of its own\. Build it with keras.Model"):
        channels.follow(model)


def test_a_weight_that_a_layer_of_a_known_kind_does_not_have():
    model = sequential((3,), layers.Dense(2, name="a"), layers.Dense(1))
    model.layers[0].enable_lora(1)
    with pytest.raises(ValueError, match="a Dense with a weight that is computed of others"):
        channels.follow(model)
