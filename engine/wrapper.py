"""An optimizer around another one: the hook on which tracking and consolidation hang."""

import contextlib

import keras

from engine import backend


class OptimizerWrapper(keras.optimizers.Optimizer):
    """Stand for the wrapped optimizer in everything; subclasses act before or after its step.

    A subclass creates its arrays in `build` with `self.add_variable`, so that they are compiled into the training
    step, saved with the model and restored with it on every backend, and overrides `step`. What belongs to a variable
    is found by the variable: `self._get_variable_index`.

    Attributes that neither a wrapper nor its class has are read from the wrapped optimizer, and set on it:
    `wrapper.clipnorm`, `wrapper.use_ema`, `wrapper.beta_1`.

    Args:
        optimizer: keras.optimizers.Optimizer. The one that moves the weights; may be wrapped itself.
        name: str or None.
    """

    def __init__(self, optimizer, name=None):
        found = None
        with contextlib.suppress(Exception):  # whatever Keras raises of what is none
            found = keras.optimizers.get(optimizer)
        if found is None:
            raise ValueError(f"Expected an optimizer of Keras, or the name of one, received {optimizer!r}.")
        super().__init__(learning_rate=0.0, name=name)
        # The base class has set clipping, averages, counter and so on. They are the wrapped optimizer's.
        public = [key for key in vars(self) if not key.startswith("_") and key not in ("name", "built")]
        for key in (*public, "_iterations", "_learning_rate"):
            delattr(self, key)
        self.inner = found

    def __getattr__(self, name):
        if name == "inner" or name.startswith("__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.inner, name)

    def __setattr__(self, name, value):
        own = name.startswith("_") or name in vars(self) or hasattr(type(self), name)
        if own or "inner" not in vars(self) or not hasattr(_bare(self), name):
            super().__setattr__(name, value)
            return
        if name == "loss_scale_factor" and find(self, keras.optimizers.LossScaleOptimizer):
            # A LossScaleOptimizer does so to what it is put around.
            raise ValueError(
                "Expected at most one scaling of the loss, received another for an optimizer around a "
                "LossScaleOptimizer. Leave that out: with mixed_float16, model.compile adds one itself."
            )
        setattr(self.inner, name, value)

    def build(self, variables):
        """Create the wrapped optimizer's variables for these weights; subclasses add their own, once."""
        if not self.inner.built:
            self.inner.build(variables)
        for index, variable in enumerate(variables):
            self._trainable_variables_indices[self._var_key(variable)] = index
        self._trainable_variables.extend(variables)
        self.built = True

    def step(self, gradients, weights):
        """Move the weights once: pass the gradients to the wrapped optimizer.

        Args:
            gradients: list of arrays, one for each weight; None for a weight that has none, which stays where it is.
                On TensorFlow a lookup's are `tf.IndexedSlices`. Scaled, if the loss is: see `loss_scale`.
            weights: list of keras.Variable, all or some of those that the optimizer was built for, in any order.
        """
        if backend.NAME == "jax" and isinstance(self.inner, keras.optimizers.LossScaleOptimizer):
            # Its choice between two steps cannot assign.
            self._assign(self._moved_without_state(gradients, weights))
        else:
            self.inner.apply(gradients, weights)

    def step_either(self, condition, gradients, others, weights):
        """Move the weights once, by the first gradients where a boolean scalar is true, else by the others."""
        if backend.NAME == "jax":
            one, other = (lambda g=g: self._moved_without_state(g, weights) for g in (gradients, others))
            self._assign(backend.cond(condition, one, other))
        else:
            backend.either(condition, lambda g: self.inner.apply(g, weights), gradients, others)

    def _moved_without_state(self, gradients, weights):
        """Return what a step makes of the wrapped optimizer's weights and variables."""
        given = {self._var_key(w): g for g, w in zip(gradients, weights, strict=True)}
        known = self.inner._trainable_variables
        return self.inner.stateless_apply(
            [v.value for v in self.inner.variables],
            [given.get(self._var_key(w)) for w in known],
            [w.value for w in known],
        )

    def _assign(self, moved):
        for variables, values in zip((self.inner._trainable_variables, self.inner.variables), moved, strict=True):
            backend.assign(variables, values)

    def apply(self, grads, trainable_variables=None):
        """Apply one step; called by Keras on every backend. What the wrapped optimizer refuses is refused."""
        grads = list(grads)
        weights = self._trainable_variables if trainable_variables is None else list(trainable_variables)
        if not grads or not (self.built or weights):
            self.inner.apply(grads, trainable_variables)  # which does nothing, or says what is missing
            return
        if not self.built:
            self.build(weights)
        self._check_variables_are_known(weights)
        if len(grads) != len(weights):
            raise ValueError(f"Expected a gradient for each of {len(weights)} weights, received {len(grads)}.")
        self.step(grads, weights)

    def mover(self, variable):
        """Return the optimizer that moves a variable: the innermost, or the one to which MultiOptimizer gives it."""
        innermost = unwrapped(self)[-1]
        if isinstance(innermost, keras.optimizers.MultiOptimizer):
            return movers(innermost)[innermost._var_to_optimizer_idx[innermost._var_key(variable)]]
        return innermost

    def trained(self, gradients, weights):
        """List the places of the weights that have a gradient and follow it: others Keras leaves alone, or sets."""
        return [
            n
            for n, (gradient, weight) in enumerate(zip(gradients, weights, strict=True))
            if gradient is not None and not self._overwrite_variable_with_gradient(weight)
        ]

    def loss_scale(self):
        """Return the factor by which the gradients given to `step` are too large, or None if they are not."""
        scale = None
        for optimizer in unwrapped(self.inner):
            factor = None
            if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
                factor = backend.read(optimizer.dynamic_scale)
            elif not isinstance(optimizer, OptimizerWrapper):
                factor = optimizer.loss_scale_factor
            if factor is not None:
                scale = factor if scale is None else scale * factor
        return scale

    def unscaled(self, gradients, weights):
        """Return gradients of the loss itself: arrays of the weights' types, summed over replicas.

        None stands for no gradient, and for the "gradient" to which Keras sets a weight, as it does in float8.
        """
        scale, found = self.loss_scale(), [None] * len(weights)
        some = self.trained(gradients, weights)
        for n, gradient in zip(some, backend.over_replicas([backend.dense(gradients[n]) for n in some]), strict=True):
            gradient = keras.ops.cast(gradient, weights[n].dtype)
            found[n] = gradient if scale is None else gradient / keras.ops.cast(scale, gradient.dtype)
        return found

    @property
    def variables(self):
        """All variables, this wrapper's own first, then the wrapped optimizer's."""
        return [*self._variables, *self.inner.variables]

    @property
    def learning_rate(self):
        """The wrapped optimizer's learning rate."""
        return self.inner.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate):
        self.inner.learning_rate = learning_rate

    @property
    def iterations(self):
        """The wrapped optimizer's step counter."""
        return self.inner.iterations

    def scale_loss(self, loss):
        """Scale the loss as the wrapped optimizer asks."""
        return self.inner.scale_loss(loss)

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        """Exclude variables from the wrapped optimizer's weight decay."""
        self.inner.exclude_from_weight_decay(var_list, var_names)

    def finalize_variable_values(self, var_list):
        """Let the wrapped optimizer set final values, such as moving averages."""
        self.inner.finalize_variable_values(var_list)

    def update_step(self, gradient, variable, learning_rate):
        """Do the part of the wrapped optimizer's step that concerns one variable, and nothing else."""
        self.inner.update_step(gradient, variable, learning_rate)

    def set_weights(self, weights):
        """Set all variables, like `variables`."""
        own = len(self._variables)
        super().set_weights(weights[:own])
        self.inner.set_weights(weights[own:])

    def get_config(self):
        """Return the constructor's arguments; subclasses add theirs."""
        return {"name": self.name, "optimizer": keras.saving.serialize_keras_object(self.inner)}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Build the wrapper and what it wraps from their configuration."""
        config = dict(config)
        optimizer = keras.saving.deserialize_keras_object(config.pop("optimizer"), custom_objects=custom_objects)
        return cls(optimizer, **config)


class Summed(OptimizerWrapper):
    """An optimizer that gets one gradient for each weight, on TensorFlow too.

    There the gradient of a lookup comes as rows, one for each occurrence, and Keras's Adam and its kin square each by
    itself, not their sum.
    """

    def step(self, gradients, weights):
        """Move the weights once, by the sums."""
        super().step([g if g is None else backend.dense(g) for g in gradients], weights)


def unwrapped(optimizer):
    """List an optimizer and those that it wraps, outermost first, through Keras's LossScaleOptimizer too."""
    chain = [optimizer]
    while isinstance(chain[-1], (OptimizerWrapper, keras.optimizers.LossScaleOptimizer)):
        chain.append(chain[-1].inner if isinstance(chain[-1], OptimizerWrapper) else chain[-1].inner_optimizer)
    return chain


def movers(optimizer):
    """List the optimizers that move the weights: the innermost, or those to which a MultiOptimizer gives them."""
    innermost = unwrapped(optimizer)[-1]
    several = isinstance(innermost, keras.optimizers.MultiOptimizer)
    return [unwrapped(o)[-1] for o in innermost.optimizers] if several else [innermost]


def find(optimizer, kind):
    """Return the first of a kind among an optimizer and those it wraps, or None."""
    return next((o for o in unwrapped(optimizer) if isinstance(o, kind)), None)


def _bare(optimizer):
    """Return the optimizer of Keras that a wrapper stands for."""
    return next(o for o in unwrapped(optimizer) if not isinstance(o, OptimizerWrapper))
