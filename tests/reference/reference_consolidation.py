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


def adaptive(weights, gradients, rho, importances, anchors, rate, kind, bound=0.1, memory=0.9):
    """Some steps of gradient descent from given task gradients, a list of arrays each; return weights and strengths."""
    weights, task, pull, strengths = [w.copy() for w in weights], 0.0, 0.0, []
    for gradient_ in gradients:
        squares_of_task = squares_of_pull = 0.0
        for w, g, omega, anchor in zip(weights, gradient_, importances, anchors, strict=True):
            squares_of_task += float(np.sum(g.astype("float64") ** 2))
            squares_of_pull += float(np.sum((omega * (w - anchor)).astype("float64") ** 2))
        task = memory * task + (1 - memory) * squares_of_task**0.5
        pull = memory * pull + (1 - memory) * squares_of_pull**0.5
        strengths.append(rho * task / pull if pull else 0.0)
        for n, (w, g, omega, anchor) in enumerate(zip(weights, gradient_, importances, anchors, strict=True)):
            held = strengths[-1] * omega
            held = {"plain": held, "stabilized": held / (1 + rate * held), "clamped": np.minimum(held, bound / rate)}
            weights[n] = w - rate * (g + held[kind] * (w - anchor))
    return weights, strengths
