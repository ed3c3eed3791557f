"""Tiny stand-ins for the data sets that are downloaded."""

import numpy as np
import pytest

SHAPES = {"mnist": (28, 28), "fashion_mnist": (28, 28), "cifar10": (32, 32, 3)}


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Write small random data sets, ten images of each class to train on, into a folder that WEIGHTWISE_DATA names."""
    for name, shape in SHAPES.items():
        random = np.random.default_rng(0)
        np.savez(
            tmp_path / f"{name}.npz",
            x_train=random.integers(0, 256, (100, *shape), dtype="uint8"),
            y_train=np.arange(100, dtype="uint8") % 10,
            x_test=random.integers(0, 256, (30, *shape), dtype="uint8"),
            y_test=np.arange(30, dtype="uint8")[:, np.newaxis] % 10,
        )
    monkeypatch.setenv("WEIGHTWISE_DATA", str(tmp_path))
    return tmp_path
