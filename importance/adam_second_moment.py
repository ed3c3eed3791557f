"""v / (1 - beta_2^t): the optimizer's running mean of squared gradients, for free.

The gradients are those of batches, of the latest steps, and of all that the optimizer saw: with a penalty outside of
the optimizer, the penalised ones. Taken from Adam, AdamW and Nadam (with their correction of the start at 0) and from
RMSprop (whose running mean has none), also inside wrappers. Two limits come from these optimizers: on TensorFlow the
gradients of an embedding's row are squared for each of its occurrences by itself, and a weight that had no gradient in
some of the steps, as one whose layer was frozen, has a score that is too small.

Example:
    >>> import importance, keras, numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")])
    >>> model.compile(keras.optimizers.Adam(0.1), keras.losses.MeanSquaredError())
    >>> _ = model.fit(np.array([[2.0]]), np.array([[1.0]]), verbose=0)
    >>> importance.load("adam_second_moment").score(model)[0].round(3).tolist()  # (2 (w x - y) x)^2
    [[16.0]]

References:
    Li et al., "Fishers for free? Approximating the Fisher information matrix by recycling the squared gradient
    accumulator", arXiv 2507.18807 (2025).
"""

from keras import optimizers

from engine import backend, wrapper
from importance import Measure

_CORRECTED = (optimizers.Adam, optimizers.Nadam)  # AdamW is an Adam


def score(evidence):
    """Return the second-moment estimate of the optimizer that moves the weights."""
    movers = [] if evidence.optimizer is None else wrapper.movers(evidence.optimizer)
    kept = [o for o in movers if isinstance(o, (*_CORRECTED, optimizers.RMSprop)) and o.built and int(o.iterations)]
    return [_estimate(variable, kept, movers, evidence.name) for variable in evidence.model.trainable_variables]


def _estimate(variable, kept, movers, name):
    for optimizer in kept:
        place = optimizer._trainable_variables_indices.get(optimizer._var_key(variable))
        velocity = None if place is None else optimizer._velocities[place]
        if velocity is not None:
            corrected = isinstance(optimizer, _CORRECTED)
            return backend.copied(velocity) / (1 - optimizer.beta_2 ** int(optimizer.iterations) if corrected else 1.0)
    if kept:
        raise ValueError(
            f"Expected an optimizer that keeps a second moment of {variable.path} for the measure {name!r}, received "
            "one that was built without it. Before layers are frozen, call optimizer.build(model.trainable_variables)."
        )
    received = [f"{type(o).__name__} after {int(o.iterations)} steps" for o in movers]
    raise ValueError(
        "Expected a model trained with an optimizer that keeps a second moment (Adam, AdamW, Nadam, RMSprop) for "
        f"the measure {name!r}, received {', '.join(received) or 'no optimizer'}. Compile the model with one and train "
        "it."
    )


MEASURE = Measure(score, needs="optimizer")
