"""Small networks and data for the engine's tests."""

import keras
import numpy as np
import pytest
from keras import layers


@pytest.fixture
def classifier():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(5, activation="relu"), layers.Dense(3)])
    rng = np.random.default_rng(0)
    return model, rng.standard_normal((23, 4)).astype("float32"), rng.integers(0, 3, 23).astype("int32")
