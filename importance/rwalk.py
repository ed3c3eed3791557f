"""F / max F + s / max s: running Fisher plus the fall of the loss for each step of its distance (Riemannian walk).

F is a running mean of squared batch gradients, and s sums, over windows of 10 steps, the first-order fall of the loss
(at least 0) divided by the distance that the model's distribution went, (1/2) F d^2 + 0.001 with d the window's
displacement and F as it stood at the window's start. Both are divided by their largest value in the model, so the score
is from 0 to 2. `Tracked` outermost gives it the task's own gradient.

Example:
    >>> import importance, keras, numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")])
    >>> optimizer = importance.Tracked(keras.optimizers.SGD(0.01), ["rwalk"])
    >>> model.compile(optimizer, keras.losses.MeanSquaredError())
    >>> _ = model.fit(np.array([[2.0]]), np.array([[1.0]]), verbose=0)
    >>> importance.load("rwalk").score(model)[0].tolist()
    [[2.0]]

References:
    Chaudhry, Dokania, Ajanthan & Torr, "Riemannian walk for incremental learning: understanding forgetting and
    intransigence", ECCV 2018.
"""

import numpy as np
from keras import ops

from importance import Measure

WINDOW = 10  # steps; "Delta t" of the paper
DECAY = 0.9  # share of the latest window in the running Fisher; alpha of the paper
EPSILON = 1e-3


def start(weight):
    """Begin a window at this weight."""
    zeros = ("fisher", "squares", "gain", "path")
    return {"step": np.zeros((), weight.dtype), "anchor": weight, **{name: np.zeros_like(weight) for name in zeros}}


def observe(record, gradient, before, after):
    """Add a step to the window; at its end score it, update the running Fisher and begin the next."""
    square = ops.square(gradient)
    fisher = ops.where(record["step"] == 0, square, record["fisher"])
    squares, gain = record["squares"] + square, record["gain"] - gradient * (after - before)
    step = record["step"] + 1
    ends = ops.equal(step % WINDOW, 0)
    scored = record["path"] + _scored(ops, gain, fisher, after - record["anchor"])
    return {
        "step": step,
        "anchor": ops.where(ends, after, record["anchor"]),
        "fisher": ops.where(ends, (1 - DECAY) * fisher + DECAY * squares / WINDOW, fisher),
        "squares": ops.where(ends, ops.zeros_like(squares), squares),
        "gain": ops.where(ends, ops.zeros_like(gain), gain),
        "path": ops.where(ends, scored, record["path"]),
    }


def score(evidence):
    """Add the running Fisher and the path's score, each relative to its maximum; the last window may be short."""
    records = evidence.trajectory(observe)
    paths = [
        record["path"] + _scored(np, record["gain"], record["fisher"], weight - record["anchor"])
        for weight, record in zip(evidence.weights, records, strict=True)
    ]
    fishers = [record["fisher"] for record in records]
    return [f + p for f, p in zip(_relative(fishers), _relative(paths), strict=True)]


def _scored(ops, gain, fisher, displacement):
    """Divide the fall of the loss by the distance; `ops` is NumPy or `keras.ops`."""
    return ops.maximum(gain, 0) / (fisher * ops.square(displacement) / 2 + EPSILON)


def _relative(arrays):
    largest = max(float(a.max()) for a in arrays)
    return [a / np.float32(largest or 1) for a in arrays]


MEASURE = Measure(score, needs="trajectory", start=start, observe=observe)
