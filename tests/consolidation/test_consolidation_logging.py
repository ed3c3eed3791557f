"""What the meter says goes wherever Keras's own callbacks write."""

import keras
import numpy as np
import pandas as pd
import pytest

from consolidation import ElasticWeightConsolidation, Stability, StabilityMeter

COLUMNS = [f"ewc_{name}" for name in Stability._fields]


@pytest.fixture
def protected(setting):
    """A network that has learnt task 0 and is protected."""
    model = setting.model(ElasticWeightConsolidation(keras.optimizers.SGD(0.1), 1.0, penalty="stabilized"))
    setting.fit(model, 0, epochs=1)
    model.optimizer.consolidate([np.where(a > 0.9, 15.0, 0.0) for a in setting.importances])
    return model


def test_a_csv_logger_takes_it(setting, protected, tmp_path):
    callbacks = [StabilityMeter(), keras.callbacks.CSVLogger(str(tmp_path / "log.csv"))]
    history = setting.fit(protected, 1, epochs=3, callbacks=callbacks)
    table = pd.read_csv(tmp_path / "log.csv")
    assert list(table["epoch"]) == [0, 1, 2] and set(COLUMNS) <= set(table.columns)
    np.testing.assert_allclose(table["ewc_largest"], 1.5, rtol=1e-5)  # rate * strength * Omega = 0.1 * 1 * 15
    for column in ("loss", *COLUMNS):
        np.testing.assert_allclose(table[column], history[column], rtol=1e-6)
    last = protected.optimizer.stability()
    np.testing.assert_allclose(table[COLUMNS].iloc[-1], list(last), rtol=1e-6)
    assert last.penalty_ratio > 0


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras, when it writes
def test_tensorboard_takes_it(setting, protected, tmp_path):
    pytest.importorskip("tensorboard")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("Keras writes for TensorBoard by TensorFlow.")
    callbacks = [StabilityMeter(), keras.callbacks.TensorBoard(str(tmp_path), write_graph=False)]
    setting.fit(protected, 1, epochs=1, callbacks=callbacks)
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("events*"))
    assert all(f"epoch_{column}".encode() in written for column in COLUMNS)
