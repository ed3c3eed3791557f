"""v / (1 - beta_2^t): the optimizer's running mean of squared gradients, for free.

The gradients are those of batches, of the latest steps, and of all that the optimizer saw: with a penalty outside of
the optimizer, the penalised ones. Taken from Adam, AdamW and Nadam (with their correction of the start at 0) and from
RMSprop (whose running mean has none), also inside wrappers.

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
    chain = [] if evidence.optimizer is None else wrapper.unwrapped(evidence.optimizer)
    inner = next((o for o in chain if isinstance(o, (*_CORRECTED, optimizers.RMSprop)) and o.built), None)
    steps = 0 if inner is None else int(inner.iterations)
    if not steps:
        received = "no optimizer" if not chain else f"{type(chain[-1]).__name__} after {steps} steps"
        raise ValueError(
            "Expected a model trained with an optimizer that keeps a second moment (Adam, AdamW, Nadam, RMSprop) for "
            f"the measure {evidence.name!r}, received {received}. Compile the model with one and train it."
        )
    scale = 1 - inner.beta_2**steps if isinstance(inner, _CORRECTED) else 1.0
    moments = [backend.copied(v) for v in inner._velocities]
    return [moments[inner._get_variable_index(v)] / scale for v in evidence.model.trainable_variables]


MEASURE = Measure(score, needs="optimizer")
