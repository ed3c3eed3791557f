"""Channels of networks of every make: what reads one that is zero reads zeros, or the network is refused."""

import keras
import numpy as np
import pytest
import zoo
import zoo_layers
import zoo_models

from engine import backend, channels

FOLLOWED = {
    "attention_with_padding", "bidirectional_with_mask", "causal_language_model", "contractions", "conv_lstm",
    "cross_attention", "grouped_query_attention", "nested_models", "separable_convolutions", "siamese",
    "stacked_recurrent", "transposed_convolutions",
}  # fmt: skip


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
