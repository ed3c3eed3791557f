"""A measure that cannot score a network: told before anything is trained, recorded in its rows, in no other's way."""

import re
import warnings

from keras import ops

from engine import structure, variants

EXAMPLES = 8
"""So many show whether a measure can score a network; one that cannot score these is tried on all."""


def attempt(score, model):
    """Score, and say why that is not possible.

    Args:
        score: callable without arguments.
        model: keras.Model. The one that is scored.

    Returns:
        tuple. What `score` returned and None; or None and the reason, a line of text that is the same in every process.

    Raises:
        OSError, MemoryError, variants.Changed, or what says that a device has no memory left: they are the machine's
            or the process's, not the measure's.
    """
    try:
        return score(), None
    except (OSError, MemoryError, variants.Changed):
        raise
    except Exception as error:  # a measure's file may raise anything
        if "RESOURCE_EXHAUSTED" in str(error) or type(error).__name__ == "ResourceExhaustedError":
            raise
        return None, f"cannot score this network: {type(error).__name__}: {_without_numbers(str(error), model)}"


def warn(measure, reason):
    """Say that a measure's rows hold a reason instead of values."""
    warnings.warn(f"The measure {measure!r} {reason.rstrip('.')}. Its rows say so, and the others go on.", stacklevel=2)


def check(unfit, measures):
    """Raise if no measure can score the network, and warn of those that cannot.

    Args:
        unfit: dict from measure to the reason.
        measures: sequence of str. All that are asked for.

    Raises:
        ValueError: there are measures, and none fits.
    """
    if measures and set(unfit) >= set(measures):
        reasons = "\n".join(f"{measure} {reason}" for measure, reason in unfit.items())
        raise ValueError(f"Expected measures that can score this network, received none:\n{reasons}")
    for measure, reason in unfit.items():
        warn(measure, reason)


def stand_still(model):
    """Let a compiled model's optimizer make one step that moves nothing: some measures read what training leaves."""
    weights = model.trainable_variables
    model.optimizer.apply([ops.zeros(v.shape, v.dtype) for v in weights], weights)


def _without_numbers(text, model):
    """Return the first line, its names of layers without the numbers that Keras gives them in this process."""
    line = (text.splitlines() or [""])[0][:500]
    for name in {layer.name for layer in structure.flat_layers(model)}:
        line = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", re.sub(r"_\d+$", "", name), line)
    return line
