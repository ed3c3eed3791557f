"""The seam between Keras and the library below it: the only file that imports TensorFlow or JAX.

Everything above speaks `keras.ops`. What Keras has no word for (compiling a function, gradients at an inner value,
vectorising over examples, feeding prepared batches) is here once for each backend.
"""

import contextlib
import functools
import importlib.metadata
import os
import platform
import sys

import keras
import numpy as np

from engine import compilations, quiet

NAME = keras.backend.backend()

if NAME == "tensorflow":
    import tensorflow as tf
    from tensorflow.python.framework.ops import gradient_registry

    with quiet.native_errors():  # without a GPU, looking for one writes an error the first time
        _found = tf.config.list_physical_devices("GPU")
    if not _found and os.path.exists("/dev/nvidia0") and os.environ.get("CUDA_VISIBLE_DEVICES", "0") not in ("", "-1"):
        print(f"TensorFlow finds no GPU, though there is one. {quiet.LEVEL}=0 has it say why.", file=sys.stderr)
elif NAME == "jax":
    import jax
    import jax.numpy as jnp

    if jax.config.values["jax_compilation_cache_dir"] is None and (_folder := compilations.folder()):
        jax.config.update("jax_compilation_cache_dir", str(_folder))
        if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
            jax.config.update("jax_persistent_cache_min_compile_time_secs", compilations.SECONDS)
else:
    raise ImportError(f"Expected KERAS_BACKEND to be 'tensorflow' or 'jax', received {NAME!r}.")


def device():
    """Name the kind of device that computes: "cpu" or the accelerator's model, such as "NVIDIA H200"."""
    if NAME == "jax":
        return jax.devices()[0].device_kind
    accelerators = tf.config.list_physical_devices("GPU")
    if not accelerators:
        return "cpu"
    return tf.config.experimental.get_device_details(accelerators[0]).get("device_name", "gpu")


def versions():
    """Return {package: version} for Python and the packages that can change a result."""
    found = {"python": platform.python_version()}
    for package in ("keras", "numpy", NAME):
        found[package] = importlib.metadata.version(package)
    return found


def compiled(function, xla=True):
    """Compile a pure function of nested arrays.

    Args:
        function: callable. No side effects; arguments and results are arrays or nested lists and dicts of them.
        xla: bool. TensorFlow only (JAX always uses XLA): compile with XLA, or as a TensorFlow graph.
    """
    if NAME == "jax":
        return jax.jit(function)
    # A partial has no code, by which TensorFlow takes closures for one function that is traced over and over.
    return tf.function(functools.partial(_unregistered(function)), jit_compile=xla, autograph=False)


def _unregistered(function):
    """Take the custom gradients of a traced function out of TensorFlow's registry, which would hold the graph for ever.

    They are asked for while the function is traced, and not again: nothing differentiates it from outside.
    """

    @functools.wraps(function)
    def traced(*arguments):
        before = set(gradient_registry.list())
        try:
            return function(*arguments)
        finally:
            for name in set(gradient_registry.list()) - before:
                if name.startswith("CustomGradient-"):
                    del gradient_registry._registry[name]

    return traced


def once(function, *arrays):
    """Call a pure function a single time, in the way that takes the least time to prepare."""
    # JAX compiles every single operation of what is not compiled as a whole.
    return jax.jit(function)(*arrays) if NAME == "jax" else function(*arrays)


def fused(function):
    """Compile an elementwise function so that it makes one pass over memory, also inside a graph without XLA."""
    return function if NAME == "jax" else tf.function(function, jit_compile=True, autograph=False)


def gradients_at_taps(run):
    """Differentiate some scalars with respect to values inside their computation, which is done once for all.

    Args:
        run: callable `run(tap) -> (scalars, extra)`. It calls `value = tap(key, value)` where a gradient is wanted,
            each key once. `scalars` is a list; `extra` any nest of arrays.

    Returns:
        gradients: dict. From each key to a list of arrays of the tapped value's shape, one for each scalar.
        extra: as returned by `run`.
    """
    if NAME == "tensorflow":
        tapped = {}
        with tf.GradientTape(persistent=True) as tape:

            def tap(key, value):
                tape.watch(value)
                tapped[key] = value
                return value

            scalars, extra = run(tap)
        each = [tape.gradient(scalar, tapped, unconnected_gradients="zero") for scalar in scalars]
        return {key: [found[key] for found in each] for key in tapped}, extra

    shapes = {}

    def record(key, value):
        shapes[key] = jax.ShapeDtypeStruct(value.shape, value.dtype)
        return value

    jax.eval_shape(lambda: run(record))
    offsets = {key: jnp.zeros(shape.shape, shape.dtype) for key, shape in shapes.items()}

    def shifted(offsets):
        scalars, extra = run(lambda key, value: value + offsets[key])
        return jnp.stack(scalars), extra

    scalars, back, extra = jax.vjp(shifted, offsets, has_aux=True)
    each = [back(row)[0] for row in jnp.eye(len(scalars), dtype=scalars.dtype)]
    return {key: [found[key] for found in each] for key in offsets}, extra


def is_symbolic(array):
    """Say whether an array has no value yet, as inside of what the backend compiles, vectorises or loops over."""
    return tf.is_symbolic_tensor(array) if NAME == "tensorflow" else isinstance(array, jax.core.Tracer)


def is_sparse(gradient):
    """Say whether a gradient comes as rows or entries with their places, as that of a lookup does on TensorFlow."""
    return isinstance(gradient, tf.IndexedSlices) if NAME == "tensorflow" else hasattr(gradient, "todense")


def dense(gradient):
    """Turn a gradient into an array, if it is sparse."""
    if NAME == "tensorflow":
        return tf.convert_to_tensor(gradient)
    return gradient.todense() if is_sparse(gradient) else gradient


def zero_where(condition, gradient):
    """Set a gradient to 0 where a condition on the weight holds; one that comes as rows stays rows."""
    if NAME == "tensorflow" and isinstance(gradient, tf.IndexedSlices):
        rows = tf.where(tf.gather(condition, gradient.indices), tf.zeros_like(gradient.values), gradient.values)
        return tf.IndexedSlices(rows, gradient.indices, gradient.dense_shape)
    return keras.ops.where(condition, keras.ops.zeros_like(gradient), gradient)


def replicas():
    """Return on how many replicas the step is done in which this is called; each has a part of the batch."""
    return tf.distribute.get_strategy().num_replicas_in_sync if _under_a_strategy() else 1


def scope():
    """Say how what is made now is spread over devices, so that the same is said where it is the same: int."""
    return id(tf.distribute.get_strategy() if NAME == "tensorflow" else keras.distribution.distribution())


def _under_a_strategy():
    return NAME == "tensorflow" and tf.distribute.has_strategy() and not tf.distribute.in_cross_replica_context()


def over_replicas(arrays):
    """Sum a list of arrays over the replicas of a step."""
    if replicas() == 1 or not arrays:
        return arrays
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, arrays)


def _here(arrays):
    """Copy arrays into the graph that is being built: an all-reduce takes them from one graph only."""

    def copied(a):
        if isinstance(a, tf.IndexedSlices):  # whose places may be a tuple of numbers
            return tf.IndexedSlices(tf.identity(a.values), tf.identity(a.indices), a.dense_shape)
        return a if a is None else tf.identity(a)

    return [copied(a) for a in arrays]


def either(condition, step, one, other):
    """Call `step(one)` where a boolean scalar is true, else `step(other)`, in a step on TensorFlow."""
    if not _under_a_strategy():
        tf.cond(condition, lambda: step(_here(one)), lambda: step(_here(other)))
        return

    # A step on several replicas may not stand inside of a choice, the choice has to stand around all of them.
    def choose(strategy, condition, one, other):
        def of_each(given):
            strategy.extended.call_for_each_replica(step, args=(given,))

        tf.cond(strategy.experimental_local_results(condition)[0], lambda: of_each(one), lambda: of_each(other))

    tf.distribute.get_replica_context().merge_call(choose, args=(condition, one, other))


def cond(condition, one, other):
    """Choose between two computations; where nothing is compiled, at once: JAX would compile both for every call."""
    if NAME == "jax" and not is_symbolic(condition):
        return one() if condition else other()
    return keras.ops.cond(condition, one, other)


def assign(variables, values):
    """Put values into Keras variables during a step, whatever its strategy."""
    if not _under_a_strategy():
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        return

    def update(strategy, values):
        for variable, value in zip(variables, values, strict=True):
            strategy.extended.update(_native(variable), lambda v, a: v.assign(a), args=(value,), group=False)

    tf.distribute.get_replica_context().merge_call(update, args=(list(values),))


def gradients(function, arrays):
    """Differentiate `function(arrays) -> scalar` by a list of arrays; zeros where it does not depend on them."""
    if NAME == "jax":
        return jax.grad(function)(arrays)
    with tf.GradientTape() as tape:
        tape.watch(arrays)
        scalar = function(arrays)
    return [dense(g) for g in tape.gradient(scalar, arrays, unconnected_gradients="zero")]


def hessian_vector_products(function, arrays, vectors):
    """Return H v for the Hessian H of a scalar function and some vectors, after one gradient for all.

    Args:
        function: callable `function(arrays) -> (scalar, extra)`, `extra` any nest of arrays.
        arrays: list of arrays.
        vectors: list of vectors, each a list of arrays like `arrays`.

    Returns:
        products: list of lists, like `vectors`.
        extra: as returned by `function`.
    """
    if NAME == "jax":
        _, along, extra = jax.linearize(jax.grad(function, has_aux=True), arrays, has_aux=True)
        return [along(vector) for vector in vectors], extra
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(arrays)
        with tf.GradientTape() as inner:
            inner.watch(arrays)
            scalar, extra = function(arrays)
        slopes = [dense(g) for g in inner.gradient(scalar, arrays, unconnected_gradients="zero")]
    each = (tape.gradient(slopes, arrays, output_gradients=v, unconnected_gradients="zero") for v in vectors)
    return [[dense(g) for g in found] for found in each], extra


def vectorised(function, arrays):
    """Apply `function` to each example of a nest of arrays; results are stacked on a first axis.

    To all at once; on TensorFlow to one after another, in a compiled loop, where vectorising is not safe (see
    `_onednn_writes_astray`) or cannot be done, as with the gradient by what a recurrent layer is fed.
    """
    if NAME == "jax":
        return jax.vmap(function)(arrays)
    example = tf.nest.map_structure(lambda a: tf.TensorSpec(a.shape[1:], a.dtype), arrays)
    one = tf.function(function, autograph=False)
    traced = one.get_concrete_function(example)
    if not (_onednn_writes_astray() or _groups_channels(traced.graph)):
        with contextlib.suppress(TypeError, ValueError, NotImplementedError), _quietly():
            return tf.vectorized_map(function, arrays)
    results = tf.nest.map_structure(tf.TensorSpec.from_tensor, traced.structured_outputs)
    return tf.map_fn(one, arrays, fn_output_signature=results)


def _groups_channels(graph):
    """Say whether a graph has a grouped convolution, whose gradient TensorFlow vectorises wrongly or not at all."""
    kinds = ("Conv2D", "Conv3D")

    def grouped(operation):
        images, kernel = (given.shape for given in operation.inputs[:2])
        return images[1 if operation.get_attr("data_format").startswith(b"NC") else -1] != kernel[-2]

    # Keras puts it, and no other convolution, into a function of its own.
    apart = any(node.op in kinds for each in graph.as_graph_def().library.function for node in each.node_def)
    return apart or any(grouped(operation) for operation in graph.get_operations() if operation.type in kinds)


@contextlib.contextmanager
def _quietly():
    """Open a context in which TensorFlow does not log errors that are dealt with."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("CRITICAL")
    try:
        yield
    finally:
        logger.setLevel(level)


@functools.cache
def _onednn_writes_astray():
    """Say whether this TensorFlow multiplies (n, 1, rows, k) by (k, columns) wrongly.

    Up to 2.21 oneDNN, which is on by default on processors with AVX-512, reads and writes beyond the arrays then: wrong
    numbers, or a crash (https://github.com/tensorflow/tensorflow/issues/117700). Vectorised over single examples, every
    product of a sequence with a layer's weights has these shapes.
    """
    if not on_cpu() or tuple(map(int, tf.__version__.split(".")[:2])) > (2, 21):
        return False
    from tensorflow.python.util import _pywrap_util_port  # TensorFlow has no public word for it

    return _pywrap_util_port.IsMklEnabled()


def training_loop(model, xla=True):
    """Compile many steps of a compiled model's own `train_step` into one call.

    Args:
        model: keras.Model, compiled, its metrics built.
        xla: bool. As for `compiled`.

    Returns:
        callable `loop(x, y, order)`: x (examples, ...) and y (examples, ...) on the device, order int32 (steps, batch);
        row s holds the examples of step s.
    """
    if NAME == "jax":
        return _steps_on_jax(model, together=xla)

    def loop(x, y, order):
        def step(number):
            model.train_step((tf.gather(x, order[number]), tf.gather(y, order[number])))
            return (number + 1,)

        # Steps follow one another: each reads the variables that the one before has written.
        tf.while_loop(lambda number: number < tf.shape(order)[0], step, (0,), parallel_iterations=1)

    traced = tf.function(_unregistered(loop), jit_compile=xla, autograph=False)

    def of_any_length(*arrays):
        """Trace the step once for all numbers of examples and steps: XLA alone compiles anew for others."""
        specs = [tf.TensorSpec((None, *array.shape[1:]), array.dtype) for array in arrays]
        return traced.get_concrete_function(*specs)(*arrays)

    return of_any_length


def _steps_on_jax(model, together):
    """Compile a scan of steps, or one step where a processor is slower inside a scan: at convolutions."""

    def step(state, rows, x, y):
        return model.train_step(state, (x[rows], y[rows]))[1]

    @jax.jit
    def scan(state, order, x, y):
        return jax.lax.scan(lambda state, rows: (step(state, rows, x, y), None), state, order)[0]

    one_step = jax.jit(step)

    def one_by_one(state, order, x, y):
        for rows in order:
            state = one_step(state, rows, x, y)
        return state

    def loop(x, y, order):
        variables = [
            model.trainable_variables, model.non_trainable_variables, model.optimizer.variables,
            model.metrics_variables,
        ]  # fmt: skip
        state = tuple([v.value for v in vs] for vs in variables)
        state = (scan if together else one_by_one)(state, order, x, y)
        for of_kind, arrays in zip(variables, state, strict=True):
            for variable, array in zip(of_kind, arrays, strict=True):
                variable.assign(array)

    return loop


def untraced():
    """Open a context in which values can be read, even while a training step is being compiled around it."""
    return tf.init_scope() if NAME == "tensorflow" else contextlib.nullcontext()


def read(variable):
    """Return a variable's present value as an array of the backend; later assignments do not change it."""
    return tf.convert_to_tensor(_native(variable)) if NAME == "tensorflow" else variable.value


def has_value(variable):
    """Say whether a variable has a value yet; on TensorFlow one made inside a step has none before the step's end."""
    return NAME != "tensorflow" or bool(_native(variable).is_initialized())


def copied(variable):
    """Copy a variable to NumPy."""
    return np.array(np.asarray(read(variable)), copy=True)


def _native(variable):
    """Return what lies in a Keras variable; on TensorFlow an optimizer may be given a bare one."""
    return variable.value if isinstance(variable, keras.Variable) else variable


def to_numpy(nest):
    """Bring a nest of arrays to NumPy."""
    return keras.tree.map_structure(np.asarray, nest)


def on_device(array):
    """Put a NumPy array where the computing is done."""
    return keras.ops.convert_to_tensor(array)


def slow_convolutions(layers):
    """Say whether training these layers takes about three times as long here as on the other backend.

    On a processor XLA has no fast way to the gradient of a convolution's kernel, and JAX has no other compiler.
    """
    return NAME == "jax" and on_cpu() and _convolutional(layers)


def _convolutional(layers):
    return any("Conv" in type(layer).__name__ for layer in layers)


def enough_xla(layers):
    """Say whether XLA is the faster choice for these layers.

    XLA is faster for dense nets everywhere and for everything on an accelerator; convolutions on a CPU run faster as
    a TensorFlow graph. Measured by `benchmarks/grid.py` and `benchmarks/tracking.py`. Some layers know no XLA,
    such as lookups in tables; recurrent ones do, though Keras prefers cuDNN for them.
    """
    able = all(layer.supports_jit or isinstance(layer, keras.layers.RNN) for layer in layers)
    return able and not (_convolutional(layers) and on_cpu())


@functools.cache
def on_cpu():
    """Say whether the computing is done by the processor itself."""
    return device() == "cpu"
