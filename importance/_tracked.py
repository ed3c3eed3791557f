"""Watch training from inside the optimizer, for the measures that need the weights' trajectory."""

import keras
import numpy as np
from keras import ops

import importance
from engine import backend, wrapper


@keras.saving.register_keras_serializable(package="weightwise")
class Tracked(wrapper.OptimizerWrapper):
    """An optimizer that records, at every step, what trajectory measures need.

    The record is made of optimizer variables: compiled into the step, saved in `.keras` files, restored with them.
    Which gradient it sees depends on the order of wrapping: in `Tracked(ElasticWeightConsolidation(Adam()))` the
    task's own, as Synaptic Intelligence defines it; in `ElasticWeightConsolidation(Tracked(Adam()))` the penalised.

    A step is one that moves the weights, and its gradient that of the loss which moved them: not scaled, summed over
    replicas, under gradient accumulation the mean over the calls that make up the step, and without the gradients of
    the weights' own regularizers, which `model.fit` adds to the loss (a training loop of one's own should too). A
    weight without a gradient is recorded with the gradient 0; one that is not given to a step, because its layer is
    frozen, keeps its record.

    Args:
        optimizer: keras.optimizers.Optimizer.
        measures: list of str, or one. The measures to record for; those that watch nothing are passed over.
        name: str or None.

    Example:
        >>> import importance, keras
        >>> optimizer = importance.Tracked(keras.optimizers.SGD(0.1), ["weight_change", "sign_stability"])
    """

    def __init__(self, optimizer, measures=("synaptic_intelligence",), name=None):
        super().__init__(optimizer, name=name)
        self.measures = [measures] if isinstance(measures, str) else list(measures)
        definitions = (importance.load(measure).definition for measure in self.measures)
        # Keyed by the function itself: measures that share `observe` share its record.
        self._watched = {d.observe: d.start for d in definitions if d.observe}
        self._records = []  # of each function in turn

    def build(self, variables):
        """Create the records for these weights, once, and start them at the weights' present values."""
        if self.built:
            return
        super().build(variables)
        with backend.untraced():  # `fit` builds an optimizer while it compiles the first step
            self._late = not all(map(backend.has_value, variables))  # or even the model
            self._records = [
                [
                    {
                        key: self.add_variable(np.shape(array), dtype=str(array.dtype), name=f"{key}_{index}")
                        for key, array in start(np.zeros(variable.shape, _dtype(variable))).items()
                    }
                    for index, variable in enumerate(variables)
                ]
                for start in self._watched.values()
            ]
            if not self._late:
                self.restart()
            # So far in the present step, for weights whose gradients are accumulated over several calls.
            self._gathered = [
                self.add_variable_from_reference(v, "gathered") if self._calls_of_a_step(v) > 1 else None
                for v in variables
            ]
        # XLA makes one pass over memory of all records; without it every small operation is a pass of its own.
        self._observe_all = backend.fused(self._observe_all_of_them)

    def records(self):
        """List the variables of the record, each with a name that says what it is of: {str: keras.Variable}."""
        return {
            f"{observe.__module__}.{observe.__name__}/{key}/{index}": variable
            for observe, records in zip(self._watched, self._records, strict=bool(self._records))
            for index, record in enumerate(records)
            for key, variable in record.items()
        }

    def restart(self):
        """Begin a new trajectory at the present weights, as a new task does."""
        if not self.built:  # nothing has begun
            return
        for start, records in zip(self._watched.values(), self._records, strict=True):
            for record, weight in zip(records, self._trainable_variables, strict=True):
                for key, array in start(backend.copied(weight)).items():
                    record[key].assign(array)

    def _start_late(self, places, weights, calls):
        """Before the first step, put the weights' values where a record begins with them."""
        pairs = []
        for start, records in zip(self._watched.values(), self._records, strict=True):
            for place, weight, count in zip(places, weights, calls, strict=True):
                sample = np.zeros(weight.shape)
                for key, array in start(sample).items():
                    if array is sample:
                        kept = backend.read(records[place][key])
                        pairs.append((records[place][key], ops.where(ops.equal(count, 0), weight, kept)))
        backend.assign(*zip(*pairs, strict=True) if pairs else ((), ()))

    def step(self, gradients, weights):
        """Move the weights and record the step."""
        places = [self._get_variable_index(w) for w in weights]
        before, calls = [backend.read(w) for w in weights], self._calls(weights)
        if self._late:
            self._start_late(places, before, calls)
        seen = self._seen(gradients, weights)
        super().step(gradients, weights)
        after = [backend.read(w) for w in weights]
        moved = self._moved(weights, calls, self._calls(weights))
        seen = self._gathered_up(seen, places, weights, moved)
        kept = [[of_weights[place] for place in places] for of_weights in self._records]
        records = [[{k: backend.read(v) for k, v in r.items()} for r in rs] for rs in kept]
        found = self._observe_all(records, seen, before, after, [stepped for _, stepped in moved])
        pairs = [
            (old_record[key], changed)
            for old, new in zip(kept, found, strict=True)
            for old_record, new_record in zip(old, new, strict=True)
            for key, changed in new_record.items()
        ]
        backend.assign(*zip(*pairs, strict=True) if pairs else ((), ()))

    def _observe_all_of_them(self, records, gradients, before, after, stepped):
        def observed(observe, record, gradient, before, after, stepped):
            changed = observe(record, gradient, before, after)
            if stepped is None:
                return changed
            return {key: ops.where(stepped, array, record[key]) for key, array in changed.items()}

        return [
            [observed(observe, *seen) for seen in zip(of_weights, gradients, before, after, stepped, strict=True)]
            for observe, of_weights in zip(self._watched, records, strict=True)
        ]

    def _seen(self, gradients, weights):
        """Return the gradients of the loss without the weights' regularizers; 0 for those that have none."""
        gradients = self.unscaled(gradients, weights)
        regular = [n for n, w in enumerate(weights) if gradients[n] is not None and _regularizer(w)]
        if regular:
            of_regularizers = backend.gradients(
                lambda arrays: sum(_regularizer(weights[n])(a) for n, a in zip(regular, arrays, strict=True)),
                [backend.read(weights[n]) for n in regular],
            )
            for n, gradient in zip(regular, of_regularizers, strict=True):
                gradients[n] = gradients[n] - gradient
        return [ops.zeros(w.shape, _dtype(w)) if g is None else g for g, w in zip(gradients, weights, strict=True)]

    def _calls(self, weights):
        """Return how often the optimizers that move some weights have been called."""
        return [backend.read(self.mover(w)._iterations) for w in weights]

    def _calls_of_a_step(self, weight):
        return self.mover(weight).gradient_accumulation_steps or 1

    def _moved(self, weights, before, after):
        """Return for each weight whether this call counted and whether it made a step; None where all do."""
        scaled = wrapper.find(self.inner, keras.optimizers.LossScaleOptimizer)  # passes over calls that overflow
        moved = []
        for weight, then, now in zip(weights, before, after, strict=True):
            each = self._calls_of_a_step(weight)
            counted = ops.not_equal(now, then) if scaled else None
            moved.append((counted, ops.not_equal(now // each, then // each) if scaled or each > 1 else None))
        return moved

    def _gathered_up(self, gradients, places, weights, moved):
        """Return the mean gradients of the steps that are made; keep those of the steps that are not."""
        gradients, pairs = list(gradients), []
        for n, (place, (counted, stepped)) in enumerate(zip(places, moved, strict=True)):
            gathered = self._gathered[place]
            if gathered is not None:
                so_far = backend.read(gathered)
                total = so_far + gradients[n]
                gradients[n] = total / self._calls_of_a_step(weights[n])
                total = ops.where(stepped, ops.zeros_like(total), total)
                pairs.append((gathered, total if counted is None else ops.where(counted, total, so_far)))
        backend.assign(*zip(*pairs, strict=True) if pairs else ((), ()))
        return gradients

    def record(self, observe, variables=None):
        """Return what was recorded.

        Args:
            observe: a measure's `observe` function.
            variables: list of keras.Variable; None: those that the optimizer was built for.

        Returns:
            One {name: NumPy array} for each variable, None for one that the optimizer does not know; or None, if
            nothing was recorded for the measure.
        """
        found = dict(zip(self._watched, self._records, strict=False))  # empty before the optimizer is built
        if observe not in found:
            return None
        records = found[observe]
        if variables is not None:
            places = self._trainable_variables_indices
            records = [records[places[key]] if key in places else None for key in map(self._var_key, variables)]
        return [record and {key: backend.copied(v) for key, v in record.items()} for record in records]

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "measures": self.measures}


def find(optimizer):
    """List the `Tracked` wrappers among an optimizer and those it wraps, outermost first."""
    return [o for o in wrapper.unwrapped(optimizer) if isinstance(o, Tracked)]


def _dtype(weight):
    return keras.backend.standardize_dtype(weight.dtype)


def _regularizer(weight):
    return getattr(weight, "regularizer", None)
