"""The penalty written out, and training with it by plain autodiff and plain steps, one weight array at a time."""

import numpy as np
import plain
from keras import ops


def penalty(weights, strength, importances, anchors):
    """(strength / 2) * sum over tasks and weights of Omega (w - w*)^2; a list of importances and of anchors a task."""
    total = 0.0
    for omegas, means in zip(importances, anchors, strict=True):
        for w, omega, mean in zip(weights, omegas, means, strict=True):
            total = total + ops.sum(ops.multiply(omega, ops.square(w - mean)))
    return strength / 2 * total


def gradient(weights, strength, importances, anchors):
    return plain.gradient(lambda ws: penalty(ws, strength, importances, anchors), weights)


def stabilized_gradient(weights, strength, importances, anchors, rate):
    return [
        strength * omega / (1 + rate * strength * omega) * (w - mean)
        for w, omega, mean in zip(weights, importances, anchors, strict=True)
    ]


def clamped_gradient(weights, strength, importances, anchors, rate, bound):
    """Each weight's rate * strength * Omega, Omega that of all tasks, is at most the bound."""
    found = []
    for w, omega, mean in zip(weights, importances, anchors, strict=True):
        held = np.array([min(float(rate * strength * o), bound) / rate for o in omega.ravel()]).reshape(omega.shape)
        found.append(held * (w - mean))
    return found


def proximal(weights, strength, importances, anchors, rate):
    """The w that minimises |w - weights|^2 / (2 rate) + (strength / 2) * sum Omega (w - w*)^2."""
    return [
        (np.asarray(w) + rate * strength * omega * mean) / (1 + rate * strength * omega)
        for w, omega, mean in zip(weights, importances, anchors, strict=True)
    ]
