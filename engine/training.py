"""Train an epoch at a time, in one compiled call, in an order that the seed alone decides."""

import warnings

import keras
import numpy as np

from engine import backend, draws, structure

_AT_ONCE = 2**30
"""Bytes of examples that are kept on the device; of more, one part after another is sent there."""
_SLOW = (
    "On a processor JAX takes about three times as long as TensorFlow to train convolutions, since its compiler has no "
    "fast gradient of their kernels. Set KERAS_BACKEND=tensorflow before Python starts, or use an accelerator."
)


def compile_model(model, optimizer, loss, metrics=(), xla=None):
    """Call `model.compile`, and compile many steps of training into one call, for `train`.

    Args:
        model: keras.Model.
        optimizer: keras.optimizers.Optimizer.
        loss: keras.losses.Loss.
        metrics: list. As for `model.compile`.
        xla: bool or None. As for `engine.backend.compiled`; None: what is faster for many steps.
    """
    if backend.slow_convolutions(structure.flat_layers(model)):
        warnings.warn(_SLOW, stacklevel=2)
    xla = structure.xla(model) if xla is None else xla
    model.compile(optimizer, loss=loss, metrics=list(metrics), jit_compile=xla or backend.NAME == "jax")
    optimizer.build(model.trainable_variables)
    model.training_loop = backend.training_loop(model, xla)


def finite(arrays):
    """Say whether no value of some arrays is infinite or NaN."""
    return all(np.isfinite(a).all() for a in arrays)


def steps_per_epoch(examples, batch_size):
    """Return (steps, batch size) of one epoch: whole batches only, at least one."""
    batch = min(batch_size, examples)
    return examples // batch, batch


def order(examples, batch_size, seed, epoch):
    """Return the examples of each step of one epoch.

    The order is a function of seed and epoch alone, so a run that is resumed sees the data it would have seen. All
    batches have one size, which keeps the step compiled once; the up to batch_size - 1 examples left over are others
    in each epoch.

    Args:
        examples: int.
        batch_size: int.
        seed: int.
        epoch: int, from 1.

    Returns:
        int32 array (steps, batch).
    """
    steps, batch = steps_per_epoch(examples, batch_size)
    rows = draws.generator(seed, "order of examples", epoch).permutation(examples)[: steps * batch]
    return rows.astype("int32").reshape(steps, batch)


def train(model, x, y, epochs, batch_size, seed, on_epoch=None):
    """Run some epochs of a compiled model.

    Args:
        model: keras.Model, compiled by `compile_model`.
        x: float array (examples, ...).
        y: array (examples, ...). Both may be what `placed` gives, which serves several calls.
        epochs: iterable of int, from 1. The epochs to run, such as `range(1, 6)`.
        batch_size: int.
        seed: int.
        on_epoch: callable `on_epoch(epoch, logs)` or None. Called after each epoch.
    """
    # Metrics make their variables when they first see data, which must not be inside the loop.
    model.compute_metrics(x[:1], y[:1], structure.forward(model, x[:1]))
    place = _placing(x, y)
    for epoch in epochs:
        model.reset_metrics()
        for part in place(order(len(x), batch_size, seed, epoch)):
            model.training_loop(*map(backend.on_device, part))
        if on_epoch:
            on_epoch(epoch, {name: float(value) for name, value in model.get_metrics_result().items()})
    model.optimizer.finalize_variable_values(model.trainable_variables)


def placed(x, y):
    """Put examples on the device, where they are trained on; as they are, if they are more than are kept there."""
    return (backend.on_device(x), backend.on_device(y)) if x.nbytes <= _AT_ONCE else (x, y)


def _placing(x, y):
    """Return a function from the order of an epoch to parts (x, y, order), which are trained on one after another."""
    if isinstance(x, np.ndarray):
        x, y = placed(x, y)
    if not isinstance(x, np.ndarray):
        return lambda order: [(x, y, order)]
    parts = -(-x.nbytes // _AT_ONCE)

    def gathered(order):
        for rows in np.array_split(order, min(parts, len(order))):
            yield x[rows.ravel()], y[rows.ravel()], np.arange(rows.size, dtype="int32").reshape(rows.shape)

    return gathered


def initial(build, seed):
    """Build a model whose initial weights, and the draws of whose layers, the seed alone decides.

    Args:
        build: callable `build() -> keras.Model`.
        seed: int.

    Returns:
        keras.Model.
    """
    keras.utils.set_random_seed(draws.number(seed, "initial weights", bits=32))
    return build()


def model_variables(model):
    """List what a model's training changes: weights, statistics, and the state of its random streams."""
    return [*model.trainable_variables, *model.non_trainable_variables]


def values(variables):
    """Copy variables to NumPy."""
    return [backend.copied(v) for v in variables]


def assign(variables, arrays):
    """Put arrays into variables.

    Raises:
        ValueError: the arrays are not like the variables.
    """
    expected, received = [tuple(v.shape) for v in variables], [np.shape(a) for a in arrays]
    if expected != received:
        raise ValueError(
            f"Expected {len(expected)} arrays with the shapes of the model's and optimizer's variables, received "
            f"{len(received)} that differ. They belong to another model: use the checkpoint of this one."
        )
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def state(model, optimizer):
    """Copy everything that training changes: the model's variables, then the optimizer's and its records'.

    Returns:
        list of NumPy arrays, in an order that depends on the architecture alone.
    """
    return values([*model_variables(model), *optimizer.variables])


def restore(model, optimizer, arrays):
    """Put back what `state` copied; see `assign`."""
    assign([*model_variables(model), *optimizer.variables], arrays)
