"""Losses and importances of a language model, one sequence or one token at a time."""

import numpy as np
import plain
from keras import ops


def mean_loss(model, x, y):
    """The mean loss of a token, from the outputs alone: float64."""
    logits = np.asarray(model(x, training=False), "float64")  # (sequences, length, vocabulary)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return -np.take_along_axis(log_p, y[..., None].astype(int), axis=-1).mean()


def loss_of_sequence(logits, y):
    return sum(plain.cross_entropy(logits[place], y[place]) for place in range(y.shape[0])) / y.shape[0]


def squares_of_outputs(logits, y):
    return ops.sum(ops.square(ops.softmax(logits)))


def gradients(model, x, y, objective=loss_of_sequence, *others):
    """The gradients of objective(logits (length, vocabulary), labels, ...) of each sequence: lists of float64 arrays.

    `others` are more arguments of the objective, an array with an entry for each sequence.
    """
    weights, rest = plain.values(model.trainable_variables), plain.values(model.non_trainable_variables)
    found = plain.gradient_of(lambda ws, x, *given: objective(plain.output(model, ws, rest, x)[0], *given))
    return [
        [g.astype("float64") for g in found(weights, x[n : n + 1], *(each[n] for each in (y, *others)))]
        for n in range(len(x))
    ]


def token_gradients(model, x, y, places):
    """The gradients of the loss of one token of each sequence."""
    return gradients(model, x, y, lambda z, y, place: plain.cross_entropy(z[place], y[place]), places)


def mean_square(gradients):
    return [np.mean(np.square(arrays), axis=0) for arrays in zip(*gradients, strict=True)]


def assert_close(scores, expected, relative=1e-4, rounding=1e-10):
    """Compare to a relative error, and to a hundred-thousandth of the variable's or a part of the model's largest.

    A bias of all keys alike moves no output: its score is what rounding leaves.
    """
    largest = max(float(np.max(slow)) for slow in expected)
    for score, slow in zip(scores, expected, strict=True):
        np.testing.assert_allclose(score, slow, rtol=relative, atol=max(1e-5 * np.max(slow), rounding * largest))
