"""A small classifier, two tasks for it, and importances."""

import keras
import numpy as np
from keras import layers

RNG_OF_IMPORTANCES = 5


class Setting:
    """Two tasks of 24 examples, and a classifier 4-6-3 that always starts at the same weights."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.x = rng.standard_normal((2, 24, 4)).astype("float32")
        self.y = rng.integers(0, 3, (2, 24)).astype("int32")
        self.importances = [
            np.random.default_rng([RNG_OF_IMPORTANCES, i]).random(shape).astype("float32")
            for i, shape in enumerate([(4, 6), (6,), (6, 3), (3,)])
        ]

    def model(self, optimizer, jit_compile="auto"):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((4,)), layers.Dense(6, activation="tanh"), layers.Dense(3)])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer, loss, jit_compile=jit_compile)
        return model

    def fit(self, model, task, epochs=1, **kwargs):
        return model.fit(
            self.x[task], self.y[task], batch_size=8, epochs=epochs, shuffle=False, verbose=0, **kwargs
        ).history
