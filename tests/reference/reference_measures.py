"""Every measure again, slowly and plainly: one function for each file in `importance/`, of the same name.

Each takes a `Case` (tests/importance/conftest.py): a small trained classifier, its data, and everything that happened
while it was trained; and returns a list of float64 arrays like `model.trainable_variables`. Derivatives come as
`case.jacobian`, one backward pass an example and output; the rest is NumPy.
"""

import itertools
from types import SimpleNamespace

import keras
import numpy as np
import plain
import plain_zoo

import importance

SEED = 3  # with which the tests score


# What the per-example measures have in common


def mean_over_examples(terms):
    """Average lists of arrays."""
    return [sum(arrays) / len(terms) for arrays in zip(*terms, strict=True)]


def loss_gradient(case, n, label):
    """d(-log p(label | x_n)) / dw = sum_k (p_k - [k = label]) df_k/dw."""
    p = plain.softmax(case.logits[n])
    return [sum((p[k] - (k == label)) * j[k] for k in range(len(p))) for j in zip(*case.jacobian[n], strict=True)]


def of_each_example(case, function):
    return mean_over_examples([function(n) for n in range(len(case.x))])


def squared(arrays):
    return [a**2 for a in arrays]


# The measures


def random(case):
    rng = np.random.default_rng(importance.draw_seed(SEED, "random"))
    return [rng.random(w.shape, dtype="float32") for w in case.weights]


def uniform(case):
    return [np.full(w.shape, 1.0) for w in case.weights]


def magnitude(case, folded=False):
    if folded and case.name != "convolutional":
        return None
    factor = 1
    if folded:
        normal = case.model.get_layer("normal")
        factor = np.abs(case.weights[2]) / np.sqrt(np.asarray(normal.moving_variance.value) + normal.epsilon)
    return [np.abs(w) * (factor if n < 2 else 1) for n, w in enumerate(case.weights)]


def bn_scale(case):
    if case.name != "convolutional":
        return None  # refused: no BatchNormalization
    gamma = np.abs(case.weights[2])  # of the first two layers, kernel, bias, gamma and beta
    return [np.broadcast_to(gamma if n < 4 else 1, w.shape) for n, w in enumerate(case.weights)]


def inverse_magnitude(case):
    return [1 / (np.abs(w) + 1e-12) for w in case.weights]


def fisher(case):
    def one(n):
        p = plain.softmax(case.logits[n])
        each = [[p[c] * g**2 for g in loss_gradient(case, n, c)] for c in range(len(p))]
        return [sum(arrays) for arrays in zip(*each, strict=True)]

    return of_each_example(case, one)


def inverse_fisher(case):
    found = fisher(case)
    return [max(f.max() for f in found) - f for f in found]


def fisher_sampled(case):
    uniform = np.random.default_rng(importance.draw_seed(SEED, "fisher_sampled")).random(len(case.x))
    labels = [int(np.argmax(np.cumsum(plain.softmax(z.astype("float64"))) > u)) for z, u in zip(case.logits, uniform)]  # noqa: B905
    return of_each_example(case, lambda n: squared(loss_gradient(case, n, labels[n])))


def fisher_empirical(case):
    return of_each_example(case, lambda n: squared(loss_gradient(case, n, case.y[n])))


def fisher_argmax(case):
    return of_each_example(case, lambda n: squared(loss_gradient(case, n, int(np.argmax(case.logits[n])))))


def fisher_batched(case, batch_size=32):
    starts = range(0, len(case.x), batch_size)
    batches = [range(start, min(start + batch_size, len(case.x))) for start in starts]
    means = [mean_over_examples([loss_gradient(case, n, case.y[n]) for n in batch]) for batch in batches]
    return mean_over_examples([squared(mean) for mean in means])


def mas(case, outputs="softmax"):
    def one(n):
        z, p = case.logits[n].astype("float64"), plain.softmax(case.logits[n].astype("float64"))
        if outputs == "logits":
            by_output = 2 * z
        else:  # d sum_k p_k^2 / dz_j = 2 p_j (p_j - sum_k p_k^2)
            by_output = 2 * p * (p - (p**2).sum())
        return [np.abs(sum(by_output[k] * j[k] for k in range(len(p)))) for j in zip(*case.jacobian[n], strict=True)]

    return of_each_example(case, one)


def taylor(case):
    return of_each_example(
        case, lambda n: [(w * g) ** 2 for w, g in zip(case.weights, loss_gradient(case, n, case.y[n]), strict=True)]
    )


def snip(case):
    mean = of_each_example(case, lambda n: loss_gradient(case, n, case.y[n]))
    return [np.abs(w * g) for w, g in zip(case.weights, mean, strict=True)]


def fisher_reversed(case):
    def one(n):
        reverse = plain.softmax(-case.logits[n].astype("float64"))
        signal = [(k == case.y[n]) - reverse[k] for k in range(len(reverse))]
        return [sum(signal[k] * j[k] for k in range(len(signal))) ** 2 for j in zip(*case.jacobian[n], strict=True)]

    return of_each_example(case, one)


def lrp(case):
    return of_each_example(
        case, lambda n: [np.abs(w * j) for w, j in zip(case.weights, case.jacobian[n][case.y[n]], strict=True)]
    )


def obd(case):
    return [0.5 * f * w**2 for f, w in zip(fisher(case), case.weights, strict=True)]


def expected_rise(case, replacements=None, gradient=False):
    replacements = replacements or [np.zeros(w.shape) for w in case.weights]
    means = of_each_example(case, lambda n: loss_gradient(case, n, case.y[n]))
    rises = []
    for f, w, r, g in zip(fisher(case), case.weights, replacements, means, strict=True):
        second = 0.5 * f * (w.astype("float64") - r) ** 2
        rises.append(np.maximum(g * (r - w) + second, 0) if gradient else second)
    return rises


def obs(case, gradients=200, damping=1e-5):
    every = [loss_gradient(case, n, case.y[n]) for n in range(len(case.x))]
    return plain.surgery(case.model, case.weights, every, damping)


def hessian(case, probes, at="outputs"):
    if at == "outputs":
        entry = SimpleNamespace(x=case.x, y=case.y, loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return plain_zoo.hessian(plain_zoo.Plain(entry, case.model), probes)
    rng = np.random.default_rng(importance.draw_seed(SEED, f"hessian:at=weights,probes={probes}"))
    estimate = 0
    for stream in rng.spawn(probes):
        v = np.concatenate([stream.integers(0, 2, w.shape).astype("float64").ravel() * 2 - 1 for w in case.weights])
        estimate = estimate + v * (case.hessian @ v) / probes
    diagonal = case.unflatten(estimate)
    return [0.5 * np.maximum(h, 0) * w**2 for h, w in zip(diagonal, case.weights, strict=True)]


def signal(case):
    return [
        np.mean([np.abs(o).mean(axis=0) for o in part.outputs], axis=0)
        if part.added
        else np.abs(w) * np.mean([np.abs(a).mean(axis=0) for a in part.inputs], axis=0)
        for w, part in zip(case.weights, case.signals, strict=True)
    ]


def wanda(case):
    return [
        np.abs(w) * np.sqrt(sum((a**2).sum(axis=0) for a in part.inputs))
        for w, part in zip(case.weights, case.signals, strict=True)
    ]


def obs_layer(case):
    def of_variable(w, part):
        if w.ndim == 1:  # each weight alone in its output
            products = np.diag(sum((a.astype("float64") ** 2).sum(axis=0) for a in part.inputs).ravel())
        elif part.added:
            products = np.diag(np.full(w.size, sum(len(a) for a in part.inputs)))
        else:
            rows = np.concatenate([a.reshape(len(a), -1) for a in part.inputs]).astype("float64")
            products = rows.T @ rows
        dead = np.diag(products) == 0
        products = products + np.diag(dead)
        damped = products + 0.01 * np.mean(np.diag(products)) * np.eye(len(products))
        cost = np.where(dead, 0, 1 / np.diag(np.linalg.inv(damped)))
        return (w.astype("float64").reshape(len(cost), -1) ** 2 * cost[:, None]).reshape(w.shape)

    return [of_variable(w, part) for w, part in zip(case.weights, case.signals, strict=True)]


def ria(case):
    def of_variable(w, part, norm):
        w = np.abs(w.astype("float64"))
        if part.added:
            shares = 1 + w / w.sum()
        elif w.ndim == 1:
            shares = np.full(w.shape, 2)
        else:
            outputs = tuple(axis for axis in range(w.ndim) if part.inputs[0].shape[axis + 1] == 1)
            inputs = tuple(axis for axis in range(w.ndim) if axis not in outputs)
            shares = w / w.sum(axis=inputs, keepdims=True) + w / w.sum(axis=outputs, keepdims=True)
        return np.where(w > 0, shares, 0) * norm**0.5

    norms = [np.sqrt(sum((a.astype("float64") ** 2).sum(axis=0) for a in part.inputs)) for part in case.signals]
    return [of_variable(w, part, norm) for w, part, norm in zip(case.weights, case.signals, norms, strict=True)]


def variance(case):
    def lost(index):
        """Of each weight of a kernel, the variance of its input times its square."""
        values = np.concatenate(case.signals[index].inputs).astype("float64")
        return values.var(axis=0) * case.weights[index].astype("float64") ** 2

    # From the variables that make channels along their last axis to what of the readers belongs to each channel.
    if case.name == "dense":
        made = {(0, 1): lost(2).sum(axis=1), (2, 3): lost(4).sum(axis=1)}
    elif case.name == "convolutional":
        made = {(0, 1, 2, 3): lost(4).sum(axis=(0, 1, 3)), (4, 5): lost(6).reshape(-1, 2, 3).sum(axis=(0, 2))}
    else:  # what is embedded, and what attention adds to it, is read by queries, keys, values and the next layer
        inside = sum(lost(index).sum(axis=(1, 2)) for index in (1, 3, 5))
        made = {(0, 7, 8, 9, 10): inside + lost(11).sum(axis=1), (11, 12): lost(13).sum(axis=1)}
    largest = max(of_channel.max() for of_channel in made.values())
    scores = [np.full(w.shape, largest) for w in case.weights]
    for indices, of_channel in made.items():
        for index in indices:
            scores[index] = np.broadcast_to(of_channel, scores[index].shape)
    return scores


def deletion(case):
    import aggregation

    groups = aggregation.load("unit").groups(case.model)
    scores = [np.zeros(w.shape) for w in case.weights]
    for group in range(max(int(ids.max()) for ids in groups) + 1):
        without = [np.where(ids == group, 0, w).astype("float32") for ids, w in zip(groups, case.weights, strict=True)]
        rise = case.mean_loss(without) - case.mean_loss(case.weights)
        for ids, score in zip(groups, scores, strict=True):
            score[ids == group] = max(rise, 0)
    return scores


# Of the trajectory: case.path[t] are the weights after t steps, case.gradients[t] the gradient of step t + 1.


def steps(case, index):
    """Yield (gradient, before, after) of one variable for every step, float64."""
    for t, gradients in enumerate(case.gradients):
        yield tuple(a.astype("float64") for a in (gradients[index], case.path[t][index], case.path[t + 1][index]))


def of_each_variable(case, function):
    return [function(list(steps(case, index))) for index in range(len(case.weights))]


def net_displacement(case):
    return of_each_variable(case, lambda steps: np.abs(steps[-1][2] - steps[0][1]))


def weight_change(case):
    return of_each_variable(case, lambda steps: sum(np.abs(after - before) for _, before, after in steps))


def weight_stability(case):
    return [1 / (1 + change) for change in weight_change(case)]


def sign_stability(case):
    return of_each_variable(case, lambda steps: 1 / (1 + sum((before * after < 0) for _, before, after in steps)))


def direction_stability(case):
    def one(steps):
        moves = [(after.astype("float32") - before.astype("float32")) for _, before, after in steps]
        reversals = sum((a * b < 0) for a, b in itertools.pairwise(moves))
        count = sum((m != 0) for m in moves)
        return np.where(count > 0, 1 / (1 + reversals / np.maximum(count, 1)), 0)

    return of_each_variable(case, one)


def synaptic_intelligence(case):
    def one(steps):
        gain = sum(-gradient * (after - before) for gradient, before, after in steps)
        return np.maximum(gain, 0) / ((steps[-1][2] - steps[0][1]) ** 2 + 0.1)

    return of_each_variable(case, one)


def movement(case):
    gains = of_each_variable(case, lambda steps: sum(-gradient * (after - before) for gradient, before, after in steps))
    return [gain - min(g.min() for g in gains) for gain in gains]


def rwalk(case, window=10, decay=0.9, epsilon=1e-3):
    def one(steps):
        fisher, path = steps[0][0] ** 2, 0
        for start in range(0, len(steps), window):
            part = steps[start : start + window]
            gain = sum(-gradient * (after - before) for gradient, before, after in part)
            moved = part[-1][2] - part[0][1]
            path = path + np.maximum(gain, 0) / (0.5 * fisher * moved**2 + epsilon)
            if len(part) == window:
                fisher = (1 - decay) * fisher + decay * sum(g**2 for g, _, _ in part) / window
        return fisher, path

    fishers, paths = zip(*of_each_variable(case, one), strict=True)
    largest = [max(a.max() for a in arrays) for arrays in (fishers, paths)]
    return [f / largest[0] + p / largest[1] for f, p in zip(fishers, paths, strict=True)]


def adam_second_moment(case, beta=0.999):
    def one(steps):
        moment = 0
        for gradient, _, _ in steps:
            moment = beta * moment + (1 - beta) * gradient**2
        return moment / (1 - beta ** len(steps))

    return of_each_variable(case, one)
