"""The optimizers that settings name: those of Keras, their options, and schedules of the learning rate."""

import inspect
import json
import math

import keras

from engine import checks
from engine.checks import Unfit

_CHECKS = {
    **dict.fromkeys(
        ("beta_1", "beta_2", "adam_beta_1", "adam_beta_2", "rho", "momentum", "ema_momentum"), checks.number(0, 1)
    ),
    **dict.fromkeys(("clipnorm", "clipvalue", "global_clipnorm", "loss_scale_factor"), checks.number(above=0)),
    **dict.fromkeys(("weight_decay", "adam_weight_decay", "epsilon"), checks.number(0)),
    **dict.fromkeys(("ema_overwrite_frequency", "ns_steps"), checks.whole()),
    "gradient_accumulation_steps": checks.whole(2),
    "warmup_steps": checks.whole(0),
    "exclude_layers": checks.several(checks.text),
    "name": checks.text,
}
"""What options may be, where that is more than a value like the default."""

_SCHEDULE = keras.optimizers.schedules.LearningRateSchedule


def _learning_rate(name, value):
    if not isinstance(value, (dict, _SCHEDULE)):
        return _A_NUMBER.take(name, value)
    try:
        schedule = value if isinstance(value, _SCHEDULE) else keras.optimizers.schedules.deserialize(value)
        form = keras.optimizers.schedules.serialize(schedule)
        json.dumps(form)
        fits = isinstance(schedule, _SCHEDULE) and math.isfinite(float(schedule(0)))
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # what Keras raises of what is none
        raise Unfit(f" {_WRITTEN} Keras says: {error}") from None
    if not fits:
        raise Unfit(f" {_WRITTEN}")
    return {key: form[key] for key in ("class_name", "config", "registered_name") if form.get(key) is not None}


_WRITTEN = (
    'Write {"class_name": "CosineDecay", "config": {"initial_learning_rate": 0.01, "decay_steps": 1000}}, or give the '
    "schedule itself."
)
_A_NUMBER = checks.number(above=0)
A_LEARNING_RATE = checks.Check(f"{_A_NUMBER.what}, or a schedule of keras.optimizers.schedules", _learning_rate)
"""The check for a learning rate. A schedule becomes its configuration; its steps count from the first epoch on."""

_CLIPPING = ("clipnorm", "clipvalue", "global_clipnorm")


def names():
    """List Keras's optimizers that have a learning rate: {name in lower case: class}."""
    classes = {name: found for name, found in vars(keras.optimizers).items() if inspect.isclass(found)}
    return {name.lower(): found for name, found in classes.items() if "learning_rate" in _options(found)}


def check(optimizer, options):
    """Check the name and the options of an optimizer, without making one, which would take a device.

    Args:
        optimizer: str. A name, in whatever case; of a class of one's own, the one that it is registered by at Keras.
        options: dict.

    Returns:
        dict. The options, each value in its one form.

    Raises:
        ValueError: no such optimizer or option, or a value that it does not take.
    """
    found = names().get(optimizer.lower()) or keras.saving.get_registered_object(optimizer)
    if found is None:
        raise ValueError(
            f"Expected optimizer to be one of {', '.join(names())}, received {optimizer!r}."
            f"{checks.nearest(optimizer.lower(), names())}"
        )
    known, of = _options(found), f"the optimizer {optimizer!r}"
    if "learning_rate" in options:
        raise ValueError(
            "Expected the learning rate as learning_rate=..., received it among the optimizer_options. Leave it out "
            "there."
        )
    unknown = [name for name in options if name not in known]
    if unknown:
        listed = ", ".join(name for name in known if name != "learning_rate")
        raise ValueError(
            f"Expected optimizer_options that {of} has ({listed}), received {', '.join(unknown)}."
            f"{checks.nearest(unknown[0], known)}"
        )
    clipped = [name for name in _CLIPPING if options.get(name) is not None]
    if len(clipped) > 1:
        raise ValueError(f"Expected optimizer_options with one of {', '.join(_CLIPPING)}, received {clipped}.")
    return {name: _checked(name, value, known[name], of) for name, value in options.items()}


def _checked(name, value, default, of):
    if value is None and default is None:
        return None
    number = checks.number() if isinstance(default, int) and not isinstance(default, bool) else checks.like(default)
    return _CHECKS.get(name, number)(f"{name} of {of}", value)


def _options(optimizer):
    """Return an optimizer's options that it says by name: {name: default}."""
    parameters = inspect.signature(optimizer).parameters.values()
    return {p.name: p.default for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
