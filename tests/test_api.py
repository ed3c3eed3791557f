"""The calls that a user makes, in the order of a first session."""

import keras
import numpy as np
import pandas as pd
import pytest

import aggregation
import importance
import tasks
import thresholding
from experiments import threshold_grid

pytestmark = pytest.mark.xla


def test_one_network_by_hand():
    keras.utils.set_random_seed(0)
    task = tasks.load("digits")
    model = task.build_model()
    scores = importance.load("magnitude").score(model, task.x_train, task.y_train, seed=0)
    groups = aggregation.load("unit").groups(model)
    ranks = thresholding.rank(scores, groups, reduction="mean", scope="layer", model=model, seed=0)
    before = [np.asarray(v) for v in model.trainable_variables]
    weights = thresholding.threshold(before, ranks, 0.3, fill="zero", seed=0)

    assert [w.shape for w in weights] == [tuple(v.shape) for v in model.trainable_variables]
    for kernel, bias, old in zip(weights[::2], weights[1::2], before[::2], strict=True):
        gone = (kernel == 0).all(axis=0)
        assert 0.3 * len(gone) <= gone.sum() < 0.3 * len(gone) + 1
        assert (bias[gone] == 0).all() and np.array_equal(kernel[:, ~gone], old[:, ~gone])
        # A unit's importance is the mean magnitude of its weights and bias: the least important ones are gone.
    means = (np.abs(before[0]).sum(axis=0) + np.abs(before[1])) / (len(before[0]) + 1)
    gone = (weights[0] == 0).all(axis=0)
    assert means[gone].max() < means[~gone].min()

    for variable, value in zip(model.trainable_variables, weights, strict=True):
        variable.assign(value)
    assert np.isfinite(task.loss(task.y_validation, model(task.x_validation)))


def test_one_grid(tmp_path):
    frame = threshold_grid.run(
        task="digits", model="mlp", measures=["magnitude", "random"], levels=["weight", "unit"], thresholds=21,
        epochs=5, every=1, seeds=[0, 1], out=tmp_path, progress=False,
    )  # fmt: skip
    assert len(frame) == 2 * 2 * 21 * 5 * 2 and (frame.status == "ok").all()
    (path,) = tmp_path.glob("*.csv")
    pd.testing.assert_frame_equal(frame, pd.read_csv(path))
    loss = frame.pivot_table(index="threshold", columns=["epoch", "level", "measure"], values="validation_loss")
    assert (loss[5].loc[0] < loss[1].loc[0]).all() and (loss[5].loc[0] < np.log(10)).all()
    assert np.allclose(loss.loc[1], np.log(10), atol=0.1)  # without its weights a network knows nothing
    assert (loss[5]["weight"].magnitude < loss[5]["weight"].random)[0.5]


def test_a_wrong_name_is_answered_with_the_right_ones():
    for load, names in ((tasks.load, tasks.names), (importance.load, importance.names),
                        (aggregation.load, aggregation.names)):  # fmt: skip
        with pytest.raises(ValueError, match=f"\\({', '.join(names())}\\), received 'nothing'"):
            load("nothing")
