"""The published protocol of sequential learning written out: NumPy, float64, derivatives by hand, nothing shared.

A network of dense layers with LeakyReLU between them learns one task after another; Adam sees the gradient of the mean
cross-entropy plus the penalty's; after each task but the last, importances are added up and the weights are the anchor.
Synaptic Intelligence is at least 0, as in its own paper and in `importance`; in the published runs it may be negative.
Weights are [kernel (in, out), bias (out,), kernel, ...].
"""

import numpy as np

SLOPE = 0.01


def forward(weights, x):
    """Return the inputs of each layer, and the logits."""
    inputs = [x]
    for kernel, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
        z = inputs[-1] @ kernel + bias
        inputs.append(np.where(z > 0, z, SLOPE * z))
    return inputs, inputs[-1] @ weights[-2] + weights[-1]


def softmax(logits):
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def of_cross_entropy(logits, y):
    """d(-log softmax(z)[y])/dz = p - onehot(y)."""
    return softmax(logits) - np.eye(logits.shape[1])[y]


def of_squared_norm(logits, y):
    """d(sum_k p_k^2)/dz_j = 2 p_j (p_j - sum_k p_k^2)."""
    p = softmax(logits)
    return 2 * p * (p - np.sum(p**2, axis=1, keepdims=True))


def of_each_example(weights, x, y, of_logits):
    """Return every example's own gradient: arrays (examples, *weight)."""
    inputs, logits = forward(weights, x)
    delta, found = of_logits(logits, y), []
    for layer in reversed(range(len(inputs))):
        found = [inputs[layer][:, :, None] * delta[:, None, :], delta, *found]
        delta = (delta @ weights[2 * layer].T) * np.where(inputs[layer] > 0, 1, SLOPE)
    return found


def scores(measure, weights, x, y, path):
    """Score the weights; `path` holds (gradients, weights before, weights after) of each step of the task."""
    if measure == "synaptic_intelligence":
        gains = [-sum(g[i] * (after[i] - before[i]) for g, before, after in path) for i in range(len(weights))]
        moves = [after - before for before, after in zip(path[0][1], path[-1][2], strict=True)]
        return [np.maximum(gain, 0) / (move**2 + 0.1) for gain, move in zip(gains, moves, strict=True)]
    if measure == "mas":
        return [np.abs(g).mean(axis=0) for g in of_each_example(weights, x, y, of_squared_norm)]
    return [(g**2).mean(axis=0) for g in of_each_example(weights, x, y, of_cross_entropy)]


def learn(weights, tasks, orders, measure, penalty, strength, examples, rate=0.001, epsilon=1e-8):
    """Learn the tasks in turn.

    Args:
        weights: list of arrays. Where they start.
        tasks: list of (x (examples, inputs), y (examples,)).
        orders: list of int arrays (steps, batch), the examples of each step of each task.
        measure, penalty, strength: "mas", "fisher_empirical" or "synaptic_intelligence"; "plain" or "stabilized".
        examples: int. How many of the last examples of a task the measure looks at.
        rate, epsilon: Adam's; its betas are 0.9 and 0.999.

    Returns:
        weights: list of arrays, after the last task.
        importances: list of arrays, the sum over all tasks but the last.
    """
    weights = [w.astype("float64") for w in weights]
    zeros = [np.zeros_like(w) for w in weights]
    first, second, importances, anchors, t = zeros, zeros, zeros, weights, 0
    for number, ((x, y), order) in enumerate(zip(tasks, orders, strict=True), 1):
        path = []
        for rows in order:
            t += 1
            held = [strength * o / (1 + (penalty == "stabilized") * rate * strength * o) for o in importances]
            mean = [g.mean(axis=0) for g in of_each_example(weights, x[rows], y[rows], of_cross_entropy)]
            gradients = [g + h * (w - a) for g, h, w, a in zip(mean, held, weights, anchors, strict=True)]
            first = [0.9 * m + 0.1 * g for m, g in zip(first, gradients, strict=True)]
            second = [0.999 * v + 0.001 * g**2 for v, g in zip(second, gradients, strict=True)]
            # As in Keras, epsilon is added before the second moment's bias is taken out.
            scale = rate * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
            before = weights
            weights = [w - scale * m / (np.sqrt(v) + epsilon) for w, m, v in zip(weights, first, second, strict=True)]
            path.append((gradients, before, weights))
        if number < len(tasks):
            found = scores(measure, weights, x[-examples:], y[-examples:], path)
            importances = [o + f for o, f in zip(importances, found, strict=True)]
            anchors = weights
    return weights, importances
