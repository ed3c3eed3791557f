"""An optimizer that trains what is left of a network: weights that were removed stay what stands in for them."""

import keras
import numpy as np
from keras import ops

from engine import backend, checks, wrapper

_THRESHOLD = checks.number(0, 1)


@keras.saving.register_keras_serializable(package="weightwise")
class Masked(wrapper.OptimizerWrapper):
    """An optimizer that leaves some weights where they were put, to the last bit, and moves the others.

    The gradients of removed weights are 0, so that they count in no norm by which gradients are clipped; after every
    step, whatever momentum, decay, averages or constraints have done, each of them is set to its fill again, in the
    averages too. Until the first `hold` nothing is removed, and the weights move as the wrapped optimizer alone moves
    them.

    Which weights are removed and what stands in for them are optimizer variables: saved with the model, restored with
    it, and read by a compiled step at every call, so that other masks need no new compilation.

    Args:
        optimizer: keras.optimizers.Optimizer.
        name: str or None.

    Example:
        >>> import keras, numpy as np, thresholding
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, use_bias=False)])
        >>> ranks = [np.array([[0.0], [0.75], [0.25], [0.5]])]
        >>> optimizer = thresholding.Masked(keras.optimizers.SGD(0.1, momentum=0.9)).hold(model, ranks, 0.5)
        >>> model.compile(optimizer, "mse")
        >>> _ = model.fit(np.ones((8, 4)), np.ones((8, 1)), verbose=0)
        >>> np.flatnonzero(model.get_weights()[0]).tolist()
        [1, 3]
    """

    def build(self, variables):
        """Create what is held of these weights, nothing at first; once, so that compiling anew removes nothing."""
        if self.built:
            return
        super().build(variables)
        # None for a variable that Keras sets instead of training it.
        self._fills = self.add_optimizer_variables(variables, "fill")
        self._removed = [
            None if fill is None else self.add_variable(fill.shape, dtype="bool", name="removed")
            for fill in self._fills
        ]

    def hold(self, model, ranks, threshold, replacements=None):
        """Remove the weights whose rank is below a threshold: put the fill in their place, and hold it there.

        What was removed before and is not now, is trained again from where it is. Weights of layers that are frozen
        keep what was said of them.

        Args:
            model: keras.Model, built.
            ranks: list of float arrays like `model.trainable_variables`, as `thresholding.rank` gives them.
            threshold: float in [0, 1]. The fraction to remove.
            replacements: list of float arrays, likewise, such as `thresholding.replacements` gives. None: zeros.

        Returns:
            This optimizer.

        Raises:
            ValueError: a threshold outside its range, arrays of other shapes, or weights that the optimizer was not
                built for.
        """
        threshold, variables = np.float32(_THRESHOLD("threshold", threshold)), model.trainable_variables
        replacements = [np.zeros(v.shape) for v in variables] if replacements is None else replacements
        for name, arrays in (("ranks", ranks), ("replacements", replacements)):
            expected, received = [tuple(v.shape) for v in variables], [np.shape(a) for a in arrays]
            if received != expected:
                raise ValueError(
                    f"Expected {name} with the shapes of model.trainable_variables, {expected}, received {received}. "
                    "Rank the weights of the model that is trained."
                )
        if not self.built:
            self.build(variables)
        self._check_variables_are_known(variables)
        for variable, rank, fill in zip(variables, ranks, replacements, strict=True):
            place = self._get_variable_index(variable)
            if self._fills[place] is not None:
                self._fills[place].assign(np.asarray(fill, "float32"))
                self._removed[place].assign(np.asarray(rank, "float32") < threshold)
        self._fill_in()
        return self

    def removed(self, model):
        """Return which weights of a model are removed: list of bool arrays like `model.trainable_variables`."""
        places = {self._var_key(v): place for place, v in enumerate(self._trainable_variables)}
        masks = {key: self._removed[place] for key, place in places.items()}
        found = [(v, masks.get(self._var_key(v))) for v in model.trainable_variables]
        return [np.zeros(v.shape, bool) if mask is None else backend.copied(mask) for v, mask in found]

    def step(self, gradients, weights):
        """Move the weights that are left once, and put back the others."""
        gradients = list(gradients)
        for n in self.trained(gradients, weights):
            removed = self._removed[self._get_variable_index(weights[n])]
            gradients[n] = backend.zero_where(backend.read(removed), gradients[n])
        super().step(gradients, weights)
        self._fill_in()

    def _fill_in(self):
        """Put the fills where weights are removed, in those that had no part in a step too: averages set them all."""
        places = {self._var_key(v): place for place, v in enumerate(self._trainable_variables)}
        held = list(zip(places.values(), self._trainable_variables, strict=True))
        for mover in wrapper.movers(self):
            averages = getattr(mover, "_model_variables_moving_average", ())
            of = [places[self._var_key(v)] for v in mover._trainable_variables] if averages else ()
            held += [(place, average) for place, average in zip(of, averages, strict=True) if average is not None]
        held = [(place, variable) for place, variable in held if self._fills[place] is not None]
        filled = [
            ops.where(backend.read(self._removed[place]), backend.read(self._fills[place]), backend.read(variable))
            for place, variable in held
        ]
        backend.assign([variable for _, variable in held], filled)
