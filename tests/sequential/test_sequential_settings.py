"""Which settings are refused, and what a run is called."""

import pytest

from experiments import sequential
from experiments.sequential import SequentialSettings

GIVEN = {"sequence": "split_digits", "model": "mlp", "measures": ["magnitude"], "strengths": [1.0, 10.0]}


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"sequence": "digits"}, "Expected each sequence to be one of mnist_fashion_rotations, .*received 'digits'"),
        ({"measures": ["fischer"]}, "files in importance/"),
        ({"measures": "magnitude"}, r"Write \['magnitude'\]"),
        ({"measures": ["random", "random"]}, "each once"),
        ({"measures": [], "ends": False}, "measures to be a list of at least one"),
        ({"penalties": ["stable"]}, "'plain', 'stabilized', 'decoupled', 'clamped', .* received 'stable'"),
        ({"penalties": ["decoupled:adaptive"]}, "'clamped:adaptive', received 'decoupled:adaptive'"),
        ({"strengths": []}, "Expected strengths to be a list of at least one, each once; received"),
        ({"strengths": [1.0, 1.0]}, "each once; received"),
        ({"strengths": [1, 1.0]}, "each once"),
        ({"strengths": [-1.0]}, "Expected strengths to be finite numbers above 0, .* received -1.0"),
        ({"strengths": [0.0, 1.0]}, "since 0, no protection, is a run of its own, received 0.0"),
        ({"strengths": [float("nan")]}, "above 0"),
        ({"protocol": "papers"}, "'honest', 'published', received 'papers'"),
        ({"epochs": 0}, "epochs to be a whole number of at least 1"),
        ({"examples": 0}, "examples to be"),
        ({"seeds": []}, "seeds to be a list of at least one"),
        ({"seeds": [-1]}, "at least 0, received -1"),
        ({"seeds": [2, 1], "protocol": "published"}, r"0, 1, 2, ... for the published protocol.*\[2, 1\]"),
        ({"seeds": [1], "protocol": "published"}, r"seeds 0, 1, 2, .*received \[1\]"),
        ({"learning_rate": 0.0}, "learning_rate to be a finite number above 0"),
        ({"decay": 2.0}, "decay to be a finite number from 0 to 1"),
    ],
)
def test_settings_that_cannot_be(changed, message):
    with pytest.raises(ValueError, match=message):
        SequentialSettings(**{**GIVEN, **changed})


def test_an_unknown_option_or_model(tmp_path):
    with pytest.raises(ValueError, match=r"'split_digits' has \(labels_per_task\), received tasks"):
        sequential.run("split_digits", options={"tasks": 3}, out=tmp_path)
    with pytest.raises(ValueError, match=r"model of the task 'digits' \(mlp, cnn\), received 'cnm'"):
        sequential.run("split_digits", model="cnm", out=tmp_path)


def test_the_name_is_of_what_is_no_column():
    name = SequentialSettings(**GIVEN).name
    # Pinned: earlier results must be found again.
    assert name == "split_digits-mlp-4a0484a8"
    same = {"measures": ["random"], "strengths": [3.0], "penalties": ["plain"], "seeds": [1, 2], "ends": False}
    assert SequentialSettings(**{**GIVEN, **same}).name == name
    for changed in ({"epochs": 2}, {"protocol": "published"}, {"separate": True}, {"options": {"labels_per_task": 5}}):
        assert SequentialSettings(**{**GIVEN, **changed}).name != name


def test_the_published_adam():
    assert SequentialSettings(**GIVEN, protocol="published").optimizer_options == {"epsilon": 1e-8}
    given = {"protocol": "published", "optimizer_options": {"epsilon": 1e-4}}
    assert SequentialSettings(**GIVEN, **given).optimizer_options == {"epsilon": 1e-4}
    assert SequentialSettings(**GIVEN, protocol="published", optimizer="Adam").optimizer_options == {"epsilon": 1e-8}
    assert SequentialSettings(**GIVEN).optimizer_options == {}
