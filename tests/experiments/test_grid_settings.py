"""Settings: what cannot be is refused at once, with what was expected and what was received."""

import json

import keras
import numpy as np
import pytest

import aggregation
import importance
import tasks
from experiments.threshold_grid import Grid, GridSettings

GIVEN = {"task": "iris", "model": "mlp", "measures": ["magnitude", "random"]}


def settings(**changed):
    return GridSettings(**{**GIVEN, **changed})


@pytest.mark.parametrize(
    "changed, expected, received",
    [
        ({"task": "irises"}, ", ".join(tasks.names()), "'irises'"),
        ({"measures": ["magnitudes"]}, ", ".join(importance.names()), "'magnitudes'"),
        (
            {"measures": ["mas:output=logits"]},
            "the measure 'mas' has (outputs)",
            "received output. Did you mean 'outputs'?",
        ),
        ({"measures": ["uniform:power=2"]}, "'uniform' has (it has none)", "received power"),
        ({"measures": ["mas:logits"]}, "'name:option=value,option=value'", "received 'logits'"),
        ({"measures": "magnitude"}, "measures to be a list", "received 'magnitude'. Write ['magnitude']"),
        ({"measures": []}, "measures to be a list of at least one, each once", "received []"),
        ({"measures": ["random", "random"]}, "each once", "received ['random', 'random']"),
        ({"levels": ["units"]}, ", ".join(aggregation.names()), "'units'"),
        ({"levels": "unit"}, "levels to be a list", "received 'unit'. Write ['unit']"),
        ({"levels": []}, "levels to be a list of at least one", "received []"),
        ({"fill": "zeros"}, "fill to be one of 'noise', 'zero', 'initial', 'mean'", "received 'zeros'"),
        ({"fill": ["zero", "zero"]}, "fill to be a list of at least one, each once", "received ['zero', 'zero']"),
        ({"calibrations": "training"}, "calibrations to be a list", "received 'training'. Write ['training']"),
        ({"calibrations": ["test"]}, "each set of calibrations to be one of training, validation, ", "received 'test'"),
        ({"calibrations": ["training:0"]}, "examples of calibrations to be a whole number of at least 1", "received 0"),
        ({"calibrations": ["training:x"]}, "as in 'training:5000'", "received 'training:x'"),
        ({"calibrations": ["training:1", "training:01"]}, "each once", "['training:1', 'training:01']"),
        ({"calibrations": ["training"], "examples": 7}, "calibrations alone", "and examples=7"),
        ({"network": "w1", "calibrations": ["digits"]}, "only for networks that are trained here", "received digits"),
        ({"repairs": "bias"}, "repairs to be a list", "received 'bias'. Write ['bias']"),
        ({"repairs": ["ridge"]}, "one of 'none', 'bias', 'least_squares', 'batch_norm'", "received 'ridge'"),
        ({"repairs": ["none:5"]}, "as in 'least_squares:1000'", "received 'none:5'"),
        ({"repairs": ["bias:0"]}, "examples of repairs to be a whole number of at least 1", "received 0"),
        ({"repairs": ["bias:5", "bias:05"]}, "each once", "['bias:5', 'bias:05']"),
        ({"repairs": ["bias"], "evaluated": "auto"}, "None for evaluated with repairs", 'received "auto"'),
        (
            {"oracles": ["greedy"]},
            "groups are units or larger with the oracle 'greedy'",
            "received 'weight'",
        ),
        ({"oracles": ["greedy"], "levels": ["unit"], "scopes": ["model:lamp"]}, "'layer' and 'model' alone", "lamp"),
        ({"oracles": ["gredy"]}, "one of 'greedy', 'shapley'", "received 'gredy'"),
        ({"oracles": ["greedy:permutations=3"]}, "that the oracle 'greedy' has (examples)", "received permutations"),
        ({"oracles": ["shapley:permutations=0"]}, "permutations of the oracle 'shapley' to be a whole", "received 0"),
        ({"oracles": "greedy"}, "oracles to be a list", "received 'greedy'. Write ['greedy']"),
        ({"fill": 3}, "fill to be a list", "received 3. Write [3]"),
        ({"fill": "rounded"}, "'rounded:<bits>'", "received 'rounded'. Say how many bits: 'rounded:2'"),
        ({"fill": "rounded:1"}, "the bits of fill to be a whole number of at least 2 and at most 32", "received 1"),
        ({"fill": ["noise", "rounded:33"]}, "bits of fill to be a whole number of at least 2", "received 33"),
        ({"network": "w1", "fill": ["zero", "initial"]}, "a fill such as", 'received "initial"'),
        ({"scopes": ["net"]}, "scopes to be one of 'layer', 'output', 'model'", "received 'net'"),
        ({"scopes": "layer"}, "scopes to be a list", "received 'layer'"),
        ({"scopes": ["4:2"]}, "N of M weights are kept, such as '2:4'", "received '4:2'"),
        ({"scopes": ["layer", "2:4"], "thresholds": 11}, "multiples of 1/4", "Use thresholds=[0, 0.25, 0.5, 0.75, 1]"),
        ({"reductions": ["median"]}, "one of 'mean', 'sum', 'minimum', 'maximum'", "received 'median'"),
        ({"scored_on": "test"}, "scored_on to be one of 'training', 'validation'", "received 'test'"),
        ({"thresholds": [0, 1.1]}, "thresholds to be fractions of the weights, from 0 to 1", "received 1.1"),
        ({"thresholds": [-0.1, 1]}, "fractions of the weights, from 0 to 1", "received -0.1"),
        ({"thresholds": [0, float("nan")]}, "from 0 to 1", "received nan"),
        ({"thresholds": [0, 50, 100]}, "fractions of the weights", "received 50"),
        ({"thresholds": []}, "thresholds to be a list of at least one", "received []"),
        ({"thresholds": 0.5}, "thresholds to be a list", "received 0.5. Write [0.5]"),
        ({"thresholds": "0.5"}, "thresholds to be a list", "received '0.5'"),
        ({"thresholds": 1}, "thresholds to be a whole number of at least 2", "received 1"),
        ({"thresholds": [0.5, 0.2]}, "thresholds in ascending order", "received [0.5, 0.2]"),
        ({"thresholds": [0.2, 0.2]}, "each once", "received [0.2, 0.2]"),
        ({"epochs": 0}, "epochs to be a whole number of at least 1", "received 0"),
        ({"epochs": 2.5}, "epochs to be a whole number", "received 2.5"),
        ({"epochs": True}, "epochs to be a whole number", "received True"),
        ({"every": 0}, "every to be a whole number of at least 1", "received 0"),
        ({"batch_size": -1}, "batch_size to be a whole number of at least 1", "received -1"),
        ({"examples": 0}, "examples to be a whole number of at least 1", "received 0"),
        ({"evaluated": 0}, "evaluated to be a whole number of at least 1", "received 0"),
        ({"seeds": [0, 1, 0]}, "seeds to be a list of at least one, each once", "received [0, 1, 0]"),
        ({"seeds": []}, "seeds to be a list of at least one", "received []"),
        ({"seeds": 3}, "seeds to be a list", "received 3. Write [3]"),
        ({"seeds": "01"}, "seeds to be a list", "received '01'"),
        ({"seeds": [-1]}, "seeds to be a whole number of at least 0", "received -1"),
        ({"seeds": [0.5]}, "seeds to be a whole number", "received 0.5"),
        ({"labels": []}, "labels to be a list of at least one", "received []"),
        ({"labels": 3}, "labels to be a list", "received 3. Write [3]"),
        ({"labels": "35"}, "labels to be a list", "received '35'"),
        ({"variables": "kernel"}, "variables to be a list", "received 'kernel'. Write ['kernel']"),
        ({"variables": []}, "variables to be a list of at least one", "received []"),
        ({"learning_rate": 0}, "learning_rate to be a finite number above 0", "received 0"),
        ({"learning_rate": float("nan")}, "learning_rate to be a finite number above 0", "received nan"),
        (
            {"learning_rate": {"class_name": "CosineDecay", "config": {"initial_learning_rate": 0.1}}},
            "above 0, or a schedule of keras.optimizers.schedules, received {",
            "missing 1 required positional argument: 'decay_steps'",
        ),
        ({"learning_rate": {"decay_steps": 3}}, 'Write {"class_name": "CosineDecay"', "received {'decay_steps': 3}"),
        ({"learning_rate": {"class_name": "Adam", "config": {}}}, "a schedule of keras.optimizers", "received {'class"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_what_cannot_be(changed, expected, received):
    with pytest.raises(ValueError) as caught:
        settings(**changed)
    assert str(caught.value).startswith("Expected")
    assert expected in str(caught.value) and received in str(caught.value)


@pytest.mark.parametrize(
    "changed, expected, received",
    [
        ({"model": "mpl"}, "a model of the task 'iris' (mlp)", "received 'mpl'"),
        ({"labels": [0]}, "labels to be two or more different ones", "received [0]"),
        ({"labels": [0, 7]}, "labels that the task 'iris' has ([0, 1, 2])", "received [7]"),
        ({"validation": 1.0}, "a finite number between 0 and 1 (both excluded) or 'test'", "received 1.0"),
        ({"options": {"noise": 1}}, "options that the task 'iris' has (it has none)", "received noise"),
        ({"variables": ["gamma"]}, "some of this model's 'bias', 'kernel'", "received ['gamma']"),
    ],
)
def test_what_the_task_does_not_have(tmp_path, changed, expected, received):
    with pytest.raises(ValueError) as caught:
        Grid(out=tmp_path, **{**GIVEN, **changed})
    assert expected in str(caught.value) and received in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_no_such_setting(tmp_path):
    with pytest.raises(TypeError, match="epoch"):
        Grid(out=tmp_path, **GIVEN, epoch=5)


# The run's name


def test_the_name_is_pinned():
    """Results on disk are found again by it: where this fails, earlier runs would be run again."""
    assert settings().first_name == "iris-mlp-7ea6e38d"
    assert settings(fill="zero", labels=[0, 2], thresholds=[0, 0.5, 1], options={}).first_name == "iris-mlp-a8b3f6d6"


CHANGES = {
    "measures": ["magnitude"], "levels": ["weight"], "reductions": ["mean", "sum"], "scopes": ["model"], "fill": "zero",
    "thresholds": 20, "epochs": 6, "every": 2, "batch_size": 99, "optimizer": "sgd", "learning_rate": 0.01,
    "optimizer_options": {"weight_decay": 0.01},
    "labels": [0, 1], "validation": 0.2, "variables": ["kernel"], "examples": None, "scored_on": "validation",
    "evaluated": 5, "options": {"noise": 0.1}, "task": "digits", "model": "cnn",
    "records": False, "sweep": True, "network": "w123456789abc", "loss": "MeanSquaredError {}", "folds": 8,
    "until": "settled", "limit": 20, "calibrations": ["training:7"],
    "oracles": ["greedy"], "repairs": ["none", "bias"],
}  # fmt: skip


def test_every_setting_that_is_no_column_changes_the_name():
    assert set(CHANGES) | {"seeds"} == set(settings().as_dict())
    for name, varied in (("name", GridSettings.VARIED), ("first_name", GridSettings.FIRST_VARIED)):
        beside = {"oracles": {"levels": ["unit"]}}  # these cannot be had of single weights
        found = {key: getattr(settings(**{key: value} | beside.get(key, {})), name) for key, value in CHANGES.items()}
        same = {key for key, value in found.items() if value == getattr(settings(), name)}
        assert same == varied - {"seeds", "calibrations", "repairs"} and len(set(found.values()) | {""}) == len(
            CHANGES
        ) - len(same) + 1 + bool(same)
    assert settings(seeds=[7, 3]).name == settings().name


def test_measures_that_need_records_are_left_out_or_refused_without_them():
    assert "synaptic_intelligence" not in settings(measures=None, records=False).measures
    with pytest.raises(ValueError, match=r"Expected records=True.*received records=False with synaptic_intelligence"):
        settings(measures=["magnitude", "synaptic_intelligence"], records=False)


def test_a_setting_at_its_default_is_no_part_of_the_name(monkeypatch):
    """So a setting that is added later, with a default that does what was done before, keeps the names."""
    name, as_dict = settings().name, GridSettings.as_dict
    defaults = {key: value for key, value in settings().as_dict().items() if key not in GIVEN}
    assert settings(**defaults).name == name
    for absent in defaults:
        monkeypatch.setattr(
            GridSettings, "as_dict", lambda self, absent=absent: {k: v for k, v in as_dict(self).items() if k != absent}
        )
        assert settings().name == name, absent


def test_fills_are_an_axis_and_one_alone_is_what_it_was():
    assert settings(fill=["zero"]) == settings(fill="zero") and settings(fill="zero").fills == ("zero",)
    assert settings(fill=["zero", "rounded:02"]).fills == ("zero", "rounded:2")
    assert settings(fill=["zero", "rounded:2"]).name == settings().name
    assert settings(fill=["zero"]).first_name == settings(fill="zero").first_name


def test_calibrations_that_are_compared_are_one_more_study_and_which_ones_is_a_column():
    one, two = (settings(calibrations=these) for these in (["training:007"], ["digits", "validation:5"]))
    assert one.calibrations == ("training:7",) and two.calibrations == ("digits", "validation:5")
    assert one.name == two.name != settings().name


def test_repairs_that_are_compared_are_one_more_study_and_none_alone_is_what_it_was():
    assert settings(repairs=["none"]).name == settings().name
    one, two = (settings(repairs=these) for these in (["bias:05"], ["none", "least_squares", "batch_norm:7"]))
    assert one.repairs == ("bias:5",) and one.name == two.name != settings().name
    assert one.name != settings(calibrations=["training"]).name


def test_options_of_measures_and_numbers_in_other_types_have_one_spelling():
    assert settings(measures=["mas:outputs=softmax"]).measures == settings(measures=["mas"]).measures == ("mas",)
    assert settings(thresholds=[0, 0.5, 1]) == settings(thresholds=3) == settings(thresholds=np.linspace(0, 1, 3))
    plain = settings(epochs=3, seeds=[0, 1, 2], labels=[1, 2], learning_rate=0.5)
    of_numpy = settings(epochs=np.int64(3), seeds=np.arange(3), labels=np.array([1, 2]), learning_rate=np.float32(0.5))
    assert of_numpy.name == plain.name and of_numpy.as_dict() == plain.as_dict()
    assert settings(seeds=range(3)).seeds == (0, 1, 2)


def test_a_schedule_of_the_learning_rate_is_said_by_its_configuration():
    schedule = keras.optimizers.schedules.CosineDecay(0.01, decay_steps=20, warmup_target=0.1, warmup_steps=5)
    given = settings(learning_rate=schedule)
    config = {"class_name": "CosineDecay", "config": {"initial_learning_rate": 0.01, "decay_steps": 20}}
    named = settings(learning_rate=config)
    assert given.name != named.name != settings().name
    assert named.as_dict()["learning_rate"]["config"].items() >= config["config"].items()
    assert GridSettings(**json.loads(json.dumps(given.as_dict()))) == given
    assert settings(learning_rate=given.as_dict()["learning_rate"]).name == given.name


def test_as_dict_gives_the_settings_back():
    given = settings(labels=[0, 2], variables=["kernel"], options={"a": 1}, seeds=[3])
    assert GridSettings(**json.loads(json.dumps(given.as_dict()))) == given


def test_checkpoints_are_every_so_often_and_the_last():
    assert settings(epochs=5, every=2).checkpoints == [2, 4, 5]
    assert settings(epochs=4, every=2).checkpoints == [2, 4]
    assert settings(epochs=3, every=10).checkpoints == [3]
    assert settings().checkpoints == [1, 2, 3, 4, 5]


def test_twenty_one_thresholds_are_steps_of_a_twentieth():
    assert settings().thresholds == tuple(round(0.05 * n, 2) for n in range(21))


def test_all_measures_unless_some_are_named():
    every = list(settings(measures=None).measures)
    assert every == importance.general() and set(importance.names()) - set(every) == {"bn_scale", "inverse_fisher"}
