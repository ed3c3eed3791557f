"""|gamma| of the channel that the weight makes: how much of it the BatchNormalization behind the layer lets through.

All weights of a unit or filter, its bias, gamma and beta share the score, so single weights tie; it is made for levels
of units, filters and channels. The pairing is that of a layer with the BatchNormalization that alone takes what it
gives; with an activation between the two there is no pair, with the layer's own activation there is. What has no
BatchNormalization behind it, as the last layer, counts as one with gamma = 1, for that is what it computes.

A network in which there is no such pair is refused; a grid of all measures leaves this one out unless it is named.

Example:
    >>> import importance, keras, numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2), keras.layers.BatchNormalization()])
    >>> _ = model.layers[1].gamma.assign([-3.0, 0.5])
    >>> importance.load("bn_scale").score(model)[0].tolist()
    [[3.0, 0.5]]

References:
    Liu, Li, Shen, Huang, Yan & Zhang, "Learning efficient convolutional networks through network slimming", ICCV 2017.
"""

from engine import batch_norms
from importance import Measure


def score(evidence):
    """Give each weight the absolute gamma of its channel."""
    norms = batch_norms.following(evidence.model)
    return [batch_norms.scales(part, norm) for part, norm in zip(evidence.parts, norms, strict=True)]


MEASURE = Measure(score, general=False)
