"""Watch training from inside the optimizer, for the measures that need the weights' trajectory."""

import keras
import numpy as np

import importance
from engine import backend, wrapper


@keras.saving.register_keras_serializable(package="weightwise")
class Tracked(wrapper.OptimizerWrapper):
    """An optimizer that records, at every step, what trajectory measures need.

    The record is made of optimizer variables: compiled into the step, saved in `.keras` files, restored with them.
    Which gradient it sees depends on the order of wrapping: in `Tracked(ElasticWeightConsolidation(Adam()))` the
    task's own, as Synaptic Intelligence defines it; in `ElasticWeightConsolidation(Tracked(Adam()))` the penalised.

    Args:
        optimizer: keras.optimizers.Optimizer.
        measures: list of str. The measures to record for; those that watch nothing are passed over.
        name: str or None.

    Example:
        >>> import importance, keras
        >>> optimizer = importance.Tracked(keras.optimizers.SGD(0.1), ["weight_change", "sign_stability"])
    """

    def __init__(self, optimizer, measures=("synaptic_intelligence",), name=None):
        super().__init__(optimizer, name=name)
        self.measures = list(measures)
        definitions = (importance.load(measure).definition for measure in self.measures)
        # Keyed by the function itself: measures that share `observe` share its record.
        self._watched = {d.observe: d.start for d in definitions if d.observe}
        self._records = {}

    def build(self, variables):
        """Create the records for these weights and start them at the weights' present values."""
        super().build(variables)
        with backend.untraced():  # `fit` builds an optimizer while it compiles the first step
            self._records = {
                observe: [
                    {
                        key: self.add_variable(np.shape(array), dtype=str(array.dtype), name=f"{key}_{index}")
                        for key, array in start(backend.copied(variable)).items()
                    }
                    for index, variable in enumerate(variables)
                ]
                for observe, start in self._watched.items()
            }
            self.restart()
        # XLA makes one pass over memory of all records; without it every small operation is a pass of its own.
        self._observe_all = backend.fused(self._observe_all_of_them)

    def restart(self):
        """Begin a new trajectory at the present weights, as a new task does."""
        for observe, records in self._records.items():
            for record, weight in zip(records, self._trainable_variables, strict=True):
                for key, array in self._watched[observe](backend.copied(weight)).items():
                    record[key].assign(array)

    def step(self, gradients, weights):
        """Move the weights and record the step."""
        before = [backend.read(w) for w in weights]
        super().step(gradients, weights)
        after = [backend.read(w) for w in weights]
        records = [[{k: backend.read(v) for k, v in r.items()} for r in rs] for rs in self._records.values()]
        for old, new in zip(self._records.values(), self._observe_all(records, gradients, before, after), strict=True):
            for old_record, new_record in zip(old, new, strict=True):
                for key, changed in new_record.items():
                    old_record[key].assign(changed)

    def _observe_all_of_them(self, records, gradients, before, after):
        return [
            [observe(*seen) for seen in zip(of_weights, gradients, before, after, strict=True)]
            for observe, of_weights in zip(self._records, records, strict=True)
        ]

    def record(self, observe):
        """Return what was recorded: one {name: NumPy array} for each weight, or None if nothing was."""
        if observe not in self._records:
            return None
        return [{key: backend.copied(v) for key, v in record.items()} for record in self._records[observe]]

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "measures": self.measures}


def find(optimizer):
    """Return the `Tracked` wrapper among an optimizer and those it wraps, or None."""
    return next((o for o in wrapper.unwrapped(optimizer) if isinstance(o, Tracked)), None)
