"""Which settings are refused, and what a run is called."""

import pytest

from experiments.fine_tuning import FineTuningSettings

GIVEN = {"measures": ["magnitude"], "strengths": [1.0, 10.0]}


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"measures": ["magnitude", "synaptic_intelligence"]}, "no record of the training, .* synaptic_intelligence"),
        ({"measures": ["fischer"]}, "files in importance/"),
        ({"measures": "magnitude"}, r"Write \['magnitude'\]"),
        ({"penalties": ["stable"]}, "'plain', 'stabilized', 'decoupled', 'clamped', .* received 'stable'"),
        ({"penalties": ["decoupled:lora=4"]}, "'plain:adaptive,lora=8', received 'decoupled:lora=4'"),
        ({"penalties": ["plain:lora=0"]}, "received 'plain:lora=0'"),
        ({"lora": [0]}, "Expected lora to be a whole number of at least 1, received 0"),
        (
            {"replay": [0.0]},
            "Expected replay to be numbers above 0 and at most 100, per cent of the old text, received",
        ),
        ({"replay": [101]}, "at most 100, per cent of the old text, received 101"),
        ({"strengths": []}, "strengths to be a list of at least one"),
        ({"strengths": [0.0]}, "strengths to be finite numbers above 0, .* received 0.0"),
        ({"learning_rate": 0.0}, "Expected learning_rate to be a finite number above 0, received 0.0"),
        ({"pretraining_rate": float("nan")}, "pretraining_rate to be a finite number above 0"),
        ({"pretraining_steps": -1}, "pretraining_steps to be a whole number of at least 0"),
        ({"steps": 0}, "steps to be a whole number of at least 1"),
        ({"every": 2.5}, "every to be"),
        ({"sequence_length": 0}, "sequence_length to be"),
        ({"examples": None}, "examples to be"),
        ({"seeds": [-1]}, "at least 0, received -1"),
    ],
)
def test_settings_that_cannot_be(changed, message):
    with pytest.raises(ValueError, match=message):
        FineTuningSettings(**{**GIVEN, **changed})


def test_the_name_is_of_what_is_no_column():
    name = FineTuningSettings(**GIVEN).name
    # Pinned: earlier results must be found again.
    assert name == "gpt-prose-to-python-44136fa3"
    same = {
        "measures": ["random"],
        "strengths": [3.0],
        "penalties": ["plain:lora=2"],
        "seeds": [1, 2],
        "lora": [2],
        "replay": [1],
    }
    assert FineTuningSettings(**{**GIVEN, **same}).name == name
    for changed in ({"steps": 2}, {"per_token": True}, {"scaled": False}, {"model_options": {"width": 64}}):
        assert FineTuningSettings(**{**GIVEN, **changed}).name != name
    assert FineTuningSettings(old="/a/my notes.txt", model="b/c").name.startswith("c-my_notes-to-python-")


def test_evaluations_end_with_the_last_step():
    assert FineTuningSettings(steps=10, every=4).checkpoints == [4, 8, 10]
    assert FineTuningSettings(steps=3, every=4).checkpoints == [3]
