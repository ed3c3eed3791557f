"""An optimizer around another one: the hook on which tracking and consolidation hang."""

import keras

from engine import backend


class OptimizerWrapper(keras.optimizers.Optimizer):
    """Pass everything on to the wrapped optimizer; subclasses act before or after its step.

    A subclass creates its arrays in `build` with `self.add_variable`, so that they are compiled into the training
    step, saved with the model and restored with it on every backend, and overrides `step`.

    Args:
        optimizer: keras.optimizers.Optimizer. The one that moves the weights; may be wrapped itself.
        name: str or None.
    """

    def __init__(self, optimizer, name=None):
        optimizer = keras.optimizers.get(optimizer)
        # The wrapped optimizer has the learning rate; Keras asks for one here too.
        super().__init__(learning_rate=0.0, name=name)
        self.inner = optimizer

    def build(self, variables):
        """Create the wrapped optimizer's variables for these weights; subclasses add their own."""
        if not self.inner.built:
            self.inner.build(variables)
        super().build(variables)

    def step(self, gradients, weights):
        """Move the weights once: pass the gradients to the wrapped optimizer.

        Args:
            gradients: list of arrays, one for each weight.
            weights: list of keras.Variable.
        """
        self.inner.apply(gradients, weights)

    def apply(self, grads, trainable_variables=None):
        """Apply one step; called by Keras on every backend."""
        weights = list(trainable_variables or self._trainable_variables)
        if not self.built:
            self.build(weights)
        if len(weights) != len(self._trainable_variables):
            raise ValueError(
                f"Expected the {len(self._trainable_variables)} weights that this optimizer was built for, received "
                f"{len(weights)}: layers were frozen or unfrozen since. Compile with a new optimizer."
            )
        # On TensorFlow a lookup's gradient comes as rows, a repeated one more than once: its square would be wrong.
        gradients = [
            keras.ops.zeros_like(w) if g is None else backend.dense(g) for g, w in zip(grads, weights, strict=True)
        ]
        self.step(gradients, weights)

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

    def finalize_variable_values(self, var_list):
        """Let the wrapped optimizer set final values, such as moving averages."""
        self.inner.finalize_variable_values(var_list)

    def get_config(self):
        """Return the constructor's arguments; subclasses add theirs."""
        return {"name": self.name, "optimizer": keras.saving.serialize_keras_object(self.inner)}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Build the wrapper and what it wraps from their configuration."""
        config = dict(config)
        optimizer = keras.saving.deserialize_keras_object(config.pop("optimizer"), custom_objects=custom_objects)
        return cls(optimizer, **config)


def unwrapped(optimizer):
    """List an optimizer and those that it wraps, outermost first."""
    chain = [optimizer]
    while isinstance(chain[-1], OptimizerWrapper):
        chain.append(chain[-1].inner)
    return chain
