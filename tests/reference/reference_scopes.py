"""Ranks in every scope by plain loops over single weights that are all of different importance."""

import numpy as np


def places(shapes):
    """List the weights of a model of dense layers or plain convolutions, a kernel and a bias each.

    Returns:
        list of (layer, unit, number of the input, whether it is a weight of the kernel), in the order of the variables.
    """
    found = []
    for variable, shape in enumerate(shapes):
        layer, is_kernel = divmod(variable, 2)
        for flat in range(int(np.prod(shape))):
            found.append((layer, flat % shape[-1], flat // shape[-1], is_kernel == 0))
    return found


def ranks(scores, shapes, scope):
    """Return the rank of each weight; infinity where it takes no part.

    Args:
        scores: float array (weights,), all different.
        shapes: list of tuples.
        scope: str.

    Returns:
        float array (weights,).
    """
    where = places(shapes)
    if scope == "output":
        compared = [(layer, unit) for layer, unit, _, _ in where]
    elif scope[0].isdigit():
        length = int(scope.split(":")[1])
        compared = [(layer, unit, number // length) if kernel else None for layer, unit, number, kernel in where]
    elif scope == "layer":
        compared = [layer for layer, _, _, _ in where]
    else:
        compared = ["everything"] * len(where)
        scores = {"model": lambda s, _: s, "model:lamp": lamp, "model:owl": owl}[scope](scores, [w[0] for w in where])
    return np.array([
        np.inf if own is None else
        np.mean([scores[other] < scores[i] for other in range(len(scores)) if compared[other] == own])
        for i, own in enumerate(compared)
    ])  # fmt: skip


def lamp(scores, layers):
    """Score by the square over the sum of squares of all in the layer that are not below."""
    return np.array([
        score**2 / sum(scores[v] ** 2 for v in range(len(scores)) if layers[v] == layer and scores[v] >= score)
        for score, layer in zip(scores, layers, strict=True)
    ])  # fmt: skip


def owl(scores, layers):
    """Score by the rank in the layer, later by up to 0.16 where more weights are above five times the layer's mean."""
    of = {layer: np.array([s for s, own in zip(scores, layers, strict=True) if own == layer]) for layer in set(layers)}
    share = {layer: np.mean(values > 5 * values.mean()) for layer, values in of.items()}
    low, high = min(share.values()), max(share.values())
    return np.array([
        np.mean(of[layer] < score) + (0.16 * (share[layer] - low) / (high - low) if high > low else 0)
        for score, layer in zip(scores, layers, strict=True)
    ])  # fmt: skip
