"""Build a model without some of its channels and attention heads: a smaller one, of plain Keras."""

import math
from operator import attrgetter

import keras
import numpy as np
from keras import layers
from keras.src.ops import numpy as array_ops

from engine import backend, channel_rules, channels, heads, structure, units


def shrink(model, ranks, threshold):
    """Build the model that is left without the channels and attention heads whose ranks are below a threshold.

    It gives what the model gives with zeros in place of these weights, has fewer of them, and takes less time. It is
    made of the layers that the model is made of, with fewer units, filters or heads: it is saved and loaded as any
    model of Keras, without this project where the layers are Keras's own. The model itself is left as it is.

    Args:
        model: keras.Model, built: a Sequential or functional one, which may contain others.
        ranks: list of float arrays like `model.trainable_variables`, of a level whose groups can be taken out as a
            whole: "channel", "attention_head", or "unit" and "hidden_unit" where nothing ties units to others.
        threshold: float in [0, 1]. What is ranked below it goes.

    Returns:
        keras.Model, not compiled. Its layers have the names that they had.

    Raises:
        ValueError: a model or a layer whose channels cannot be followed (`engine.channels`); ranks below which parts
            of a channel or head fall alone; a channel without which something else changes than what a zero in its
            place changes, such as the statistics of a LayerNormalization; a layer of which nothing would be left, or
            that cannot be made smaller. Nothing is cut in part.

    Example:
        >>> import aggregation, importance, keras, thresholding
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(2)])
        >>> scores = importance.load("magnitude").score(model)
        >>> groups = aggregation.load("channel").groups(model)
        >>> smaller = thresholding.shrink(model, thresholding.rank(scores, groups, model=model), 0.75)
        >>> [layer.units for layer in smaller.layers]
        [2, 2]
    """
    found, fallen = channels.follow(model), _below(model, ranks, threshold)
    of_heads = _heads_that_go(model, fallen, threshold)
    gone = _channels_that_go(model, found, fallen, of_heads, threshold)
    kept = {}
    for v, made, read in zip(model.weights, found.made, found.read, strict=True):
        stays = ~(_among(made, gone) | _among(read, gone) | of_heads.get(id(v), False))
        kept[id(v)] = _along_axes(stays, v.path)
        if not stays.any():
            raise _nothing_left(v.path, threshold)
    return _Smaller(kept, _shapes(found.calls, gone)).whole(model)


# What goes


def _below(model, ranks, threshold):
    """Return which weights fall: dict from the id of a trainable variable to a bool array."""
    variables = model.trainable_variables
    shapes, received = [tuple(v.shape) for v in variables], [np.shape(r) for r in ranks]
    if received != shapes:
        raise ValueError(
            f"Expected ranks with the shapes of the model's trainable variables, {shapes}, received {received}."
        )
    if not 0 <= threshold <= 1:
        raise ValueError(f"Expected a threshold from 0 to 1, the fraction that goes, received {threshold!r}.")
    return {id(v): np.asarray(r) < np.float32(threshold) for v, r in zip(variables, ranks, strict=True)}


def _heads_that_go(model, fallen, threshold):
    """Return which weights are those of heads that go: dict from the id of a variable to a bool array."""
    found = {}
    for layer in structure.flat_layers(model):
        if isinstance(layer, heads.KINDS) and all(id(v) in fallen for v in layer.weights):
            labels, stays = heads.labels(layer), np.zeros(heads.count(layer), bool)
            for key, own in labels.items():
                stays[own[~fallen[key] & (own >= 0)]] = True
            if not stays.any():
                raise _nothing_left(layer.path, threshold)
            found |= {key: _among(own, np.flatnonzero(~stays)) for key, own in labels.items()}
            found |= _shared_that_go(layer, stays)
    return found


def _shared_that_go(layer, stays):
    """Return the same for keys and values that several query heads share, which go with the last of these."""
    shared = layer._key_dense.kernel.shape[1]
    left = stays.reshape(shared, -1).sum(axis=1)
    if shared == len(stays):
        return {}
    if len(set(left[left > 0])) > 1:
        raise ValueError(
            f"Expected ranks that leave as many query heads to each key and value head of {layer.path!r}, which has "
            f"groups of one size, received ranks that leave {left.tolist()}. Use another threshold."
        )
    variables = [*layer._key_dense.weights, *layer._value_dense.weights]
    return {id(v): heads.along(left == 0, v, heads.head_axis(v)) for v in variables}


def _channels_that_go(model, found, fallen, of_heads, threshold):
    """List the channels that go; raises where weights fall of which the channel or head does not."""
    totals, fell = np.zeros(len(found.differs), int), np.zeros(len(found.differs), int)
    own = [
        (v, made, (made >= 0) & ~np.broadcast_to(of_heads.get(id(v), False), made.shape))
        for v, made in zip(model.weights, found.made, strict=True) if id(v) in fallen
    ]  # fmt: skip
    for v, made, counted in own:
        totals += np.bincount(made[counted], minlength=len(totals))
        fell += np.bincount(made[counted & fallen[id(v)]], minlength=len(totals))
    gone = np.flatnonzero((totals > 0) & (fell == totals))
    alone = [v.path for v, made, _ in own if (fallen[id(v)] & ~_among(made, gone) & ~of_heads.get(id(v), False)).any()]
    if alone:
        raise ValueError(
            "Expected ranks of whole channels or heads, whose weights fall together and reach no output, received "
            f"ranks by which some of {_some(alone)} are below {threshold} while other weights of the same channel are "
            "not, or of no channel that may go. Use ranks of the level 'channel' or 'attention_head', or 'hidden_unit' "
            "for networks without normalisations and additions."
        )
    at = {name: None for channel in gone for name in found.differs[channel]}
    if at:
        raise ValueError(
            f"Expected channels whose removal changes no others, received ranks of channels below {threshold} that "
            f"reach {_some(list(at))}, where a channel that is zero is something else than one that is not there. Keep "
            "these channels (rank them above the threshold), or replace their weights by zeros: thresholding.threshold."
        )
    return gone


def _among(labels, gone):
    return np.broadcast_to(np.isin(structure.once(labels), gone), labels.shape)


def _some(names):
    return ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _nothing_left(path, threshold):
    return ValueError(
        f"Expected ranks that leave something of each layer, received ranks of which all that {path!r} is made of, or "
        f"reads, are below {threshold}. Use a lower threshold, or keep one of them."
    )


def _along_axes(stays, name):
    """Return the places that stay along each axis; raises where what stays is no array."""
    axes = [np.flatnonzero(stays.any(tuple(a for a in range(stays.ndim) if a != axis))) for axis in range(stays.ndim)]
    if math.prod(map(len, axes)) != np.count_nonzero(stays):
        raise ValueError(
            f"Expected channels that can be cut, received some that go from a part of {name!r} alone, which would be "
            "no array any more. Keep them, or build the model without the reshaping that mixes them."
        )
    return axes


# What is left of the graph


class _Left:
    """What is left of the tensors around an operation: sets of shapes without the examples, of all its calls."""

    def __init__(self):
        self.given, self.made = set(), set()


def _shapes(calls, gone):
    """Return what is left around each operation, at whatever depth: dict from id to `_Left`."""
    found = {}
    for call in _flat(calls):
        name = channel_rules.name(call.operation)
        given = [f for f in keras.tree.flatten(call.arguments) if isinstance(f, channel_rules.Flow)]
        left = found.setdefault(id(call.operation), _Left())
        left.given.add(tuple(_length_left(flow, gone, name) for flow in given))
        left.made.add(tuple(_length_left(flow, gone, name) for flow in call.made))
        if given and _set_for_each(call, given[0], _length_left(given[0], gone, name)):
            raise _uncut(call.operation, "which says something about single channels, of which some would go")
    return found


def _flat(calls):
    return [each for call in calls for each in (call, *_flat(call.inside))]


def _length_left(flow, gone, name):
    stays = ~np.isin(flow.labels, gone)
    if stays.all():
        return flow.shape
    if not stays.any():
        raise ValueError(
            f"Expected ranks that leave something of each tensor, received some that leave none at {name!r}."
        )
    left = _along_axes(stays, name)
    return tuple(len(own) if n > 1 else length for own, n, length in zip(left, stays.shape, flow.shape, strict=True))


def _set_for_each(call, x, left):
    """Say whether an operation has settings for single channels of a tensor of which some go."""
    operation, cut = call.operation, [axis for axis, n in enumerate(x.shape, 1) if n != left[axis - 1]]
    if not cut:
        return False
    if isinstance(operation, array_ops.GetItem):
        return any(_parts(call.arguments["key"], len(x.shape) + 1)[axis] != slice(None) for axis in cut)
    if isinstance(operation, layers.Masking):
        return operation.mask_value != 0
    if isinstance(operation, layers.Rescaling):
        return np.size(operation.scale) > 1
    return getattr(operation, "noise_shape", None) is not None


def _parts(key, rank):
    """Return what an index asks for along each axis."""
    key = [part for part in (key if isinstance(key, (list, tuple)) else [key]) if part is not None]
    if Ellipsis not in key:
        key.append(Ellipsis)
    place = key.index(Ellipsis)
    return [*key[:place], *[slice(None)] * (rank - len(key) + 1), *key[place + 1 :]]


def _uncut(operation, why):
    return ValueError(
        f"Expected layers and operations that can be made smaller, received {channel_rules.name(operation)!r}, a "
        f"{type(operation).__name__}, {why}. Keep the channels that reach it, or build the model without it."
    )


# The smaller model

_OF_KINDS = [
    ((layers.Dense,), {"units": ("kernel", -1)}),
    ((layers.Conv1D, layers.Conv2D, layers.Conv3D), {"filters": ("kernel", -1)}),
    ((layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose), {"filters": ("kernel", -2)}),
    ((layers.SeparableConv1D, layers.SeparableConv2D), {"filters": ("pointwise_kernel", -1)}),
    ((layers.Embedding, layers.ReversibleEmbedding), {"output_dim": ("embeddings", -1)}),
    ((layers.SimpleRNN, layers.LSTM, layers.GRU), {"units": ("cell.recurrent_kernel", -2)}),
    ((layers.SimpleRNNCell, layers.LSTMCell, layers.GRUCell), {"units": ("recurrent_kernel", -2)}),
    ((layers.ConvLSTM1D, layers.ConvLSTM2D, layers.ConvLSTM3D), {"filters": ("cell.recurrent_kernel", -2)}),
    ((layers.MultiHeadAttention,), {"num_heads": ("_query_dense.kernel", 1)}),
    (
        (layers.GroupQueryAttention,),
        {"num_query_heads": ("_query_dense.kernel", 1), "num_key_value_heads": ("_key_dense.kernel", 1)},
    ),
    ((units.LayerScale,), {"projection_dim": ("gamma", -1)}),
]
_LENGTHS = {kind: settings for kinds, settings in _OF_KINDS for kind in kinds}
"""Which settings of a layer are lengths of its weights: the weight and the axis."""


class _Smaller:
    """Builds the parts of a model anew, each once, whatever it is called by.

    Args:
        kept: dict from the id of a variable to the places that stay along each axis.
        left: dict from the id of an operation to `_Left`.
    """

    def __init__(self, kept, left):
        self._kept, self._left, self._made, self._pairs = kept, left, {}, []

    def whole(self, model):
        """Return a model that is smaller, with the weights that stay."""
        smaller = self._model(model, [tuple(symbol.shape[1:]) for symbol in model.inputs])
        for old, new in self._pairs:
            self._take_over(old, new)
        return smaller

    def _take_over(self, old, new):
        values = [backend.copied(v)[np.ix_(*self._kept[id(v)])] for v in old.weights]
        left = [(v.name, value.shape) for v, value in zip(old.weights, values, strict=True)]
        if left != [(v.name, tuple(v.shape)) for v in new.weights]:
            raise _uncut(old, f"which, made anew, has other weights than the {left} that are left")
        for v, value in zip(new.weights, values, strict=True):
            v.assign(value)
        if isinstance(new, layers.Normalization):
            new.finalize_state()  # computes what it goes by from its weights

    def _model(self, model, shapes):
        shapes = iter(shapes)

        def entrance(symbol):
            config = symbol._keras_history.operation.get_config()
            lengths = [n if old is not None else None for n, old in zip(next(shapes), symbol.shape[1:], strict=True)]
            return layers.InputLayer(**{**config, "batch_shape": (symbol.shape[0], *lengths)})

        if isinstance(model, keras.Sequential):
            first = entrance(model.inputs[0])
            return self._stacked(model, [first, *map(self._operation, model.layers)])
        inputs = keras.tree.map_structure(lambda symbol: entrance(symbol).output, model._inputs_struct)
        return keras.Model(inputs, model._run_through_graph(inputs, call_fn=self._call), name=model.name)

    def _stacked(self, model, parts):
        try:
            return keras.Sequential(parts, name=model.name)
        except (TypeError, ValueError) as error:
            raise _uncut(model, f"which cannot be built of what is left: {structure.said(error)}") from error

    def _call(self, old, *args, **kwargs):
        """Call what stands for a layer or operation: symbols."""
        new = self._operation(old)
        try:
            made = new(*args, **kwargs)
        except (TypeError, ValueError) as error:
            raise _uncut(old, f"which cannot be called with what is left: {structure.said(error)}") from error
        shapes = [tuple(symbol.shape[1:]) for symbol in keras.tree.flatten(made)]
        if not any(_agree(shapes, expected) for expected in self._left[id(old)].made):
            raise _uncut(old, f"which gives {shapes} where {sorted(self._left[id(old)].made)} is left")
        return made

    def _operation(self, old):
        """Return what stands for a layer, model or operation."""
        if id(old) not in self._made:
            if isinstance(old, keras.Model):
                new = self._model(old, self._only(old, self._left[id(old)].given))
            else:
                new = self._copied(old)
                self._pairs += [(old, new)] if isinstance(old, layers.Layer) else []
            self._made[id(old)] = new
        return self._made[id(old)]

    def _copied(self, old):
        config = self._config(old)
        try:
            return type(old).from_config(config)
        except (TypeError, ValueError) as error:
            raise _uncut(old, f"which cannot be made anew from its settings: {structure.said(error)}") from error

    def _only(self, operation, shapes):
        if len(shapes) > 1:
            raise _uncut(
                operation, f"which is called with tensors of which different shapes are left: {sorted(shapes)}"
            )
        (found,) = shapes
        return found

    # Settings

    def _config(self, old):
        try:
            config = old.get_config()
        except NotImplementedError as error:
            raise _uncut(old, f"which does not say its settings: {structure.said(error)}") from error
        for setting, (weight, axis) in _LENGTHS.get(units.kind_among(old, _LENGTHS), {}).items():
            config[setting] = len(self._kept[id(attrgetter(weight)(old))][axis])
        if isinstance(old, layers.Bidirectional):
            self._check_ways(old)
        if isinstance(old, layers.MultiHeadAttention):
            self._output_of_attention(old, config)
        for setting in _SHAPES.get(units.kind_among(old, _SHAPES), ()):
            (made,) = self._only(old, self._left[id(old)].made)
            config[setting] = _with_lengths(config[setting], made)
        for setting, inner in _inner_layers(old, config).items():
            found = keras.tree.map_structure(
                lambda layer: keras.saving.serialize_keras_object(self._inner(layer)), inner
            )
            config[setting] = found
        return config

    def _check_ways(self, old):
        if self._left[id(old.forward_layer)].made != self._left[id(old.backward_layer)].made:
            raise _uncut(old, "of which different numbers of units would be left in its two ways")

    def _inner(self, old):
        """Return what stands for a layer inside of another, which takes over its weights."""
        if isinstance(old, keras.Model):
            return self._model(old, self._only(old, self._left[id(old)].given))
        return self._copied(old)

    def _output_of_attention(self, old, config):
        """Say how long the outputs are, which follows from the queries where none of either go."""
        queries, output = self._kept[id(old._query_dense.kernel)], self._kept[id(old._output_dense.kernel)]
        left = [len(queries[0]), *map(len, output[2:])]
        if left != [old._query_dense.kernel.shape[0], *old._output_dense.kernel.shape[2:]]:
            config["output_shape"] = tuple(left[1:])


_SHAPES = {
    layers.Reshape: ["target_shape"], layers.EinsumDense: ["output_shape"], array_ops.Reshape: ["newshape"],
}  # fmt: skip
"""Which settings are shapes of the outputs."""


def _with_lengths(setting, lengths):
    """Put lengths in place of those of a setting, which has them last; None and -1 stay."""
    old = list(setting) if isinstance(setting, (list, tuple)) else [setting]
    for back, length in enumerate(reversed(lengths), 1):
        if back <= len(old) and old[-back] not in (None, -1):
            old[-back] = length
    return tuple(old)


def _inner_layers(layer, config):
    """Return the layers that are settings of a wrapper: dict from the setting."""
    if isinstance(layer, layers.Bidirectional):
        return {"layer": layer.forward_layer, "backward_layer": layer.backward_layer}
    if isinstance(layer, layers.Wrapper):
        return {"layer": layer.layer}
    if isinstance(layer, layers.StackedRNNCells):
        return {"cells": list(layer.cells)}
    return {"cell": layer.cell} if "cell" in config else {}


def _agree(shapes, expected):
    """Say whether shapes are those that are expected, wherever lengths are known."""
    return len(shapes) == len(expected) and all(
        len(one) == len(other) and all(n in (None, m) for n, m in zip(one, other, strict=True))
        for one, other in zip(shapes, expected, strict=True)
    )
