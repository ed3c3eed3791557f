"""Train on one replica and on two, and print what comes of it as JSON; `test_wrappers_trajectory` compares."""

import json
import pathlib
import sys

import keras
import numpy as np
import tensorflow as tf

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "reference"))

import compiling

import importance
import thresholding
from consolidation import ElasticWeightConsolidation, StabilityMeter

MEASURES = ["synaptic_intelligence", "rwalk", "weight_change"]


def found_on(replicas):
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"][:replicas])
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, (24, 3)), rng.integers(0, 3, 24)
    importances = [rng.random(shape) for shape in ((5, 4), (12, 3), (3,))]
    found = {}
    for name, strength, options in (
        ("bare", None, {}), ("strength 0", 0.0, {}), ("plain", 3.0, {}), ("decoupled", 3.0, {"penalty": "decoupled"}),
        ("masked", None, {}),
    ):  # fmt: skip
        with strategy.scope():
            keras.utils.set_random_seed(0)
            layers = [keras.layers.Embedding(5, 4), keras.layers.Flatten(), keras.layers.Dense(3)]
            model = keras.Sequential([keras.Input((3,), dtype="int32"), *layers])
            optimizer = keras.optimizers.Adam(0.05)
            if strength is not None:
                optimizer = importance.Tracked(ElasticWeightConsolidation(optimizer, strength, **options), MEASURES)
            if name == "masked":
                optimizer = thresholding.Masked(optimizer).hold(model, importances, 0.5)
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            model.compile(optimizer, loss, jit_compile=False)
            optimizer.build(model.trainable_variables)
        if strength is not None:
            optimizer.consolidate(importances)
        callbacks = [] if strength is None else [StabilityMeter()]
        logs = model.fit(x, y, 8, epochs=2, shuffle=False, verbose=0, callbacks=callbacks).history
        found[name] = [v.numpy().tolist() for v in model.trainable_variables]
        if strength is not None:
            scores = importance.score(MEASURES, model)
            found[name + " scores"] = {key: [s.tolist() for s in of_key] for key, of_key in scores.items()}
            found[name + " meter"] = logs["ewc_penalty_ratio"]
    return found


if __name__ == "__main__":
    compiling.simply()
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    json.dump([found_on(1), found_on(2)], sys.stdout)
