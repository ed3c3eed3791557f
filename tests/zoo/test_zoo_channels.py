"""Channels of networks of every make: what reads one that is zero reads zeros, or is cut out, or refused."""

import keras
import numpy as np
import pytest
import zoo
import zoo_layers
import zoo_models

import thresholding
from engine import backend, channels

FOLLOWED = {
    "attention_with_padding", "bidirectional_with_mask", "causal_language_model", "contractions", "conv_lstm",
    "cross_attention", "grouped_query_attention", "nested_models", "separable_convolutions", "siamese",
    "stacked_recurrent", "transposed_convolutions",
}  # fmt: skip

UNEVEN = {"bidirectional_with_mask", "grouped_query_attention"}
"""Networks with a layer that Keras has of equal lengths alone: as many units each way, as many outputs as queries."""


@pytest.mark.parametrize("entry", zoo.of(zoo_layers) + zoo.of(zoo_models))
def test_channels_are_right_or_refused(entry):
    model = entry.build()
    try:
        found = channels.follow(model)
    except ValueError as error:
        assert entry.name not in FOLLOWED and str(error).startswith("Expected ") and "use the level" in str(error)
        return
    assert found.differs or entry.name not in FOLLOWED
    kept = [backend.copied(v) for v in model.weights]
    clean = [channel for channel, at in enumerate(found.differs) if not at]
    for channel in clean[:: max(1, len(clean) // 2)][:2]:
        given = []
        for also_read in (False, True):
            for v, value, made, read in zip(model.weights, kept, found.made, found.read, strict=True):
                gone = (made == channel) | (also_read & (read == channel))
                v.assign(np.where(gone & v.trainable, 0, value))
            given.append([backend.to_numpy(out) for out in keras.tree.flatten(model(entry.x, training=False))])
        for without, both in zip(*given, strict=True):
            np.testing.assert_allclose(without.astype("float32"), both.astype("float32"), atol=1e-5)
    if entry.name in FOLLOWED and clean:
        for v, value in zip(model.weights, kept, strict=True):
            v.assign(value)
        made = dict(zip(map(id, model.weights), found.made, strict=True))
        ranks = [np.where(made[id(v)] == channel, 0, np.inf) for v in model.trainable_variables]
        if entry.name in UNEVEN:
            with pytest.raises(ValueError, match="Expected layers and operations that can be made smaller"):
                thresholding.shrink(model, ranks, 0.5)
            return
        smaller = thresholding.shrink(model, ranks, 0.5)
        for without, out in zip(given[0], keras.tree.flatten(smaller(entry.x, training=False)), strict=True):
            np.testing.assert_allclose(backend.to_numpy(out), without, atol=1e-5)
