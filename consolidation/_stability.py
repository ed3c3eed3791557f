"""Watch how hard a penalty pulls: what tells a protected training from one that explodes or stands still."""

import warnings

import keras

from consolidation._elastic import find


class StabilityMeter(keras.callbacks.Callback):
    """Write a `Stability` into the logs of every epoch, as `ewc_largest`, `ewc_percentile`, ..., and warn.

    The warning comes once for each `fit`, if rate * strength * Omega of some weight is above 2 with the plain penalty.

    Whatever takes the logs takes them with these: `keras.callbacks.CSVLogger`, and `keras.callbacks.TensorBoard`, which
    needs a package of its own (`pip install -r requirements-tensorboard.txt`). It stands before them in the list.

    Raises:
        ValueError: the model's optimizer is no `ElasticWeightConsolidation` and wraps none.

    Example:
        ```python
        table = keras.callbacks.CSVLogger("log.csv")
        history = model.fit(x, y, epochs=3, callbacks=[StabilityMeter(), table]).history
        history["ewc_largest"]  # a float for each epoch
        ```
    """

    def on_train_begin(self, logs=None):
        """Find the penalty."""
        self._warned = False
        self._optimizer = find(self.model.optimizer)
        if self._optimizer is None:
            raise ValueError(
                "Expected a model compiled with an ElasticWeightConsolidation optimizer, received "
                f"{type(self.model.optimizer).__name__}. Leave the StabilityMeter out, or wrap the optimizer."
            )

    def on_epoch_begin(self, epoch, logs=None):
        """Begin anew."""
        if self._optimizer.built:
            self._optimizer.restart_meter()
            self._warn(self._optimizer.stability())

    def on_epoch_end(self, epoch, logs=None):
        """Add to the logs."""
        stability = self._optimizer.stability()
        self._warn(stability)
        if logs is not None:
            logs.update({f"ewc_{name}": value for name, value in stability._asdict().items()})

    def _warn(self, stability):
        if self._optimizer.kind == "plain" and stability.largest > 2 and not self._warned:
            self._warned = True
            warnings.warn(
                f"rate * strength * importance is above 2 for {stability.above_2:.2%} of the weights (largest "
                f"{stability.largest:.3g}): with gradient descent the plain penalty drives them away from their "
                'anchors. Use penalty="stabilized" or "decoupled", or a smaller strength.',
                stacklevel=2,
            )
