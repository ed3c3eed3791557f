"""Odd values for every setting and option: what is accepted is right by plain rules, what is refused is told why."""

import ast
import collections
import decimal
import json
import math
import pathlib

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import aggregation
import importance
import tasks
from engine import checks
from experiments.fine_tuning import FineTuningSettings
from experiments.retraining import RetrainingSettings
from experiments.sequential import SequentialSettings
from experiments.threshold_grid import GridSettings
from tasks import sequences

# Plain rules, which know nothing of the checks


def whole(least):
    return lambda v: isinstance(v, (int, np.integer)) and not isinstance(v, bool) and v >= least


def is_number(v):
    if isinstance(v, str):  # as YAML leaves 1e-3
        plain = set(v) <= set("0123456789.eE+-") and "e" in v.lower()
        return plain and can(lambda: float(v)) and math.isfinite(float(v))
    real = isinstance(v, (int, float, np.integer, np.floating)) and not isinstance(v, bool)
    return real and can(lambda: float(v)) and math.isfinite(float(v))


def number(inside):
    return lambda v: is_number(v) and inside(float(v))


def can(function):
    try:
        function()
    except Exception:
        return False
    return True


def none_or(rule):
    return lambda v: v is None or rule(v)


def among(names):
    return lambda v: isinstance(v, str) and v in names


def is_list(v):
    return isinstance(v, (list, tuple, range)) or (isinstance(v, np.ndarray) and v.ndim > 0)


def listed(rule, least=1, one_form=lambda v: v):
    return lambda v: is_list(v) and len(v) >= least and all(map(rule, v)) and len({one_form(i) for i in v}) == len(v)


def is_flag(v):
    return isinstance(v, (bool, np.bool_))


def is_text(v):
    return isinstance(v, str) and v.isprintable() and bool(v.strip())


def is_path(v):
    return isinstance(v, pathlib.Path) or (isinstance(v, str) and "\0" not in v and bool(v.strip()))


def is_json(v):
    return (
        isinstance(v, dict)
        and all(isinstance(k, str) for k in v)
        and can(lambda: json.dumps(v, allow_nan=False, default=np.generic.item))
    )


def is_label(v):
    return isinstance(v, (str, int, np.integer)) and not isinstance(v, bool)


def is_fill(v):
    return isinstance(v, str) and (v in ("noise", "zero", "initial", "mean") or v in ROUNDED)


ROUNDED = {f"rounded:{bits}" for bits in range(2, 33)}


def is_thresholds(v):
    if whole(2)(v):
        return v <= 10**6
    if not (is_list(v) and len(v) > 0 and all(map(number(lambda f: 0 <= f <= 1), v))):
        return False
    return [float(f) for f in v] == sorted({float(f) for f in v})


def is_optimizer(v):
    return isinstance(v, str) and can(lambda: keras.optimizers.get(v))


ADAM = {
    "beta_1": number(lambda v: 0 <= v <= 1), "epsilon": number(lambda v: v >= 0), "amsgrad": is_flag,
    "weight_decay": none_or(number(lambda v: v >= 0)), "clipnorm": none_or(number(lambda v: v > 0)),
    "gradient_accumulation_steps": none_or(whole(2)), "name": none_or(is_text),
}  # fmt: skip
GPT = {"blocks": whole(1), "width": whole(4), "heads": lambda v: whole(1)(v) and v <= 128, "vocabulary": whole(256)}


def options(rules):
    return lambda v: isinstance(v, dict) and is_json(v) and all(k in rules and rules[k](i) for k, i in v.items())


def measures(least, known):
    """A name with a colon and no option behind it is the name."""
    return listed(lambda v: isinstance(v, str) and v.removesuffix(":") in known, least, lambda v: v.removesuffix(":"))


POSITIVE = number(lambda v: v > 0)
NAMES = importance.names()
WATCHING = [name for name in NAMES if importance.load(name).definition.observe is not None]
OF_ALL = {
    "model": is_text, "batch_size": whole(1), "optimizer": is_optimizer, "optimizer_options": options(ADAM),
    "learning_rate": POSITIVE, "seeds": listed(whole(0)),
}  # fmt: skip
KINDS = ["plain", "stabilized", "decoupled", "clamped", "plain:adaptive", "stabilized:adaptive", "clamped:adaptive"]
OF_FACTORS = [f"{kind}:{more}lora=4" for kind in ("plain", "stabilized", "clamped") for more in ("", "adaptive,")]
PROTECTED = {
    "penalties": listed(among(KINDS)),
    "strengths": listed(POSITIVE, 1, float),
}  # fmt: skip
STUDIES = {
    GridSettings: (
        {"task": "iris", "model": "mlp", "measures": ["magnitude", "random"]},
        {
            **OF_ALL, "task": among(tasks.names()), "measures": none_or(measures(1, NAMES)),
            "levels": listed(among(aggregation.names())),
            "scopes": listed(among(["layer", "model", "output", "model:lamp", "model:owl"])),
            "reductions": listed(among(["mean", "sum", "minimum", "maximum"])),
            "fill": lambda v: is_fill(v) or listed(is_fill)(v), "thresholds": is_thresholds, "epochs": whole(1),
            "every": whole(1), "labels": none_or(listed(is_label)),
            "validation": lambda v: (isinstance(v, str) and v == "test") or number(lambda f: 0 < f < 1)(v),
            "variables": lambda v: (isinstance(v, str) and v == "all") or listed(is_text)(v),
            "examples": none_or(whole(1)), "options": is_json,
            "evaluated": lambda v: (isinstance(v, str) and v == "auto") or none_or(whole(1))(v),
            "scored_on": among(["training", "validation"]), "records": is_flag, "sweep": is_flag,
            "network": none_or(is_text), "loss": none_or(is_text), "folds": none_or(whole(2)),
            "until": none_or(among(["settled"])), "limit": whole(1),
            "oracles": lambda v: is_list(v) and len(v) == 0,  # not with single weights, which are among the levels
            "repairs": listed(among(["none", "bias", "least_squares", "batch_norm"])),
            "calibrations": none_or(listed(among(["training", "validation", *tasks.names()]))),
        },
    ),
    RetrainingSettings: (
        {"task": "iris", "model": "mlp", "measures": ["magnitude", "random"], "protocols": ["one_shot"]},
        {
            **OF_ALL, "task": among(tasks.names()), "measures": measures(0, NAMES),
            "levels": listed(among(aggregation.names())),
            "scopes": listed(among(["layer", "model", "output", "model:lamp", "model:owl"])),
            "fractions": listed(number(lambda f: 0 < f <= 1), 1, float),
            "protocols": listed(among(["one_shot", "iterative", "rewind", "repaired"])),
            "learning_rates": none_or(listed(POSITIVE, 1, float)), "unpruned": is_flag, "budget": whole(1),
            "rounds": whole(1), "rewind": whole(0), "fill": is_fill, "epochs": whole(1),
            "repair": among(["bias", "least_squares", "batch_norm"]), "repair_examples": whole(1),
            "costs": listed(among(["parameters", "multiply_adds", "latency", "latency_xla"]), 0),
            "labels": none_or(listed(is_label)),
            "validation": lambda v: (isinstance(v, str) and v == "test") or number(lambda f: 0 < f < 1)(v),
            "variables": lambda v: (isinstance(v, str) and v == "all") or listed(is_text)(v),
            "examples": none_or(whole(1)), "options": is_json, "records": is_flag,
        },
    ),
    SequentialSettings: (
        {"sequence": "split_digits", "model": "mlp", "measures": ["magnitude"], "strengths": [1.0, 10.0]},
        {
            **OF_ALL, **PROTECTED, "sequence": among(sequences.names()), "measures": measures(0, NAMES),
            "ends": is_flag, "epochs": whole(1), "protocol": among(["honest", "published"]),
            "examples": none_or(whole(1)), "decay": number(lambda v: 0 <= v <= 1), "separate": is_flag,
            "options": is_json, "replicas": whole(1), "replay": listed(whole(1), 0),
            "accumulate": among(["sum", "mean"]),
        },
    ),
    FineTuningSettings: (
        {"measures": ["magnitude"], "strengths": [1.0, 10.0]},
        {
            **OF_ALL, **PROTECTED, "penalties": listed(among([*KINDS, *OF_FACTORS])),
            "pretrainings": none_or(whole(1)), "lora": listed(whole(1), 0),
            "replay": listed(number(lambda v: 0 < v <= 100), 0, float),
            "old": is_path, "new": is_path, "model": is_path,
            "measures": measures(0, set(NAMES) - set(WATCHING)), "scaled": is_flag, "sequence_length": whole(1),
            "pretraining_steps": none_or(whole(0)), "pretraining_rate": POSITIVE, "steps": whole(1), "every": whole(1),
            "examples": whole(1), "per_token": is_flag, "evaluated": whole(1), "model_options": options(GPT),
        },
    ),
}  # fmt: skip
OPTIONS = {
    ("deletion", "level"): is_text,
    ("deletion", "fill"): among(["zero", "noise"]),
    ("deletion", "sample"): none_or(whole(1)),
    ("expected_rise", "gradient"): is_flag,
    ("fisher_batched", "batch_size"): whole(1),
    ("fisher_sampled", "draws"): whole(1),
    ("hessian", "at"): among(["outputs", "weights"]),
    ("hessian", "probes"): whole(1),
    ("inverse_magnitude", "epsilon"): number(lambda v: v >= 1e-30),
    ("magnitude", "folded"): is_flag,
    ("mas", "outputs"): among(["softmax", "logits"]),
    ("obs", "damping"): POSITIVE,
    ("obs", "gradients"): whole(1),
    ("obs_layer", "damping"): POSITIVE,
    ("ria", "exponent"): number(lambda v: v >= 0),
    ("synaptic_intelligence", "xi"): number(lambda v: v >= 1e-30),
}

# Odd values

WORDS = [
    "", " ", "a", "false", "true", "None", "1e-3", "1e3", "1.5e-1", "0.1", "3", "nan", "inf", "1e999", "e", "1e", "all",
    "test", "training", "validation", "zero", "noise", "initial", "mean", "rounded",
    "rounded:2", "rounded:1", "rounded:x", "rounded:99", "layer", "model", "sum", "median", "weight",
    "unit", "units", "kernel", "plain", "stabilized", "decoupled", "honest", "published", "sgd", "SGD", "adam", "adm",
    "momentum", "magnitude", "mas", "mas:", "mas:outputs=foo", "mas:outputs", "hessian:probes=1.5", "hessian:probes=0",
    "hessian:probes=1,probes=2", "random:seed=1", "synaptic_intelligence", "iris", "digits", "split_digits", "gpt",
    "greedy", "auto",
    "softmax", "logits", "a\n", "a/b", "\0", "\ud800",
]  # fmt: skip
ODD = st.one_of(
    st.sampled_from([None, True, False, np.bool_(True)]),
    st.sampled_from([0, -1, 1, 2, 3, 255, 256, 10**7, 2**64, 10**400]),
    st.integers(),
    st.sampled_from([0.0, -0.0, 0.5, 1.0, 1.5, 1e-300, 1e308, math.inf, -math.inf, math.nan]),
    st.floats(),
    st.sampled_from(WORDS),
    st.text(max_size=3),
    st.sampled_from(
        [
            b"01", 1j, decimal.Decimal(1), object(), int, len, pathlib.Path("a.txt"), {1, 2}, range(3), range(0),
            np.int64(3), np.float32(0.5), np.float64("nan"), np.array(3), np.array([1, 2]), np.array([[1, 2]]),
            np.array(["plain"]), np.array([0.25, 0.5]), iter([1, 2]), collections.Counter("a"),
        ]
    ),
)  # fmt: skip
LISTS = st.lists(ODD, max_size=3)
KEYS = st.sampled_from([*ADAM, *GPT, "learning_rate", "a", "", 1, None])
DICTS = st.dictionaries(KEYS, st.one_of(ODD, LISTS), max_size=2)
VALUES = st.one_of(ODD, LISTS, LISTS.map(tuple), DICTS)
tried = collections.Counter()


def made(make, rule, value, what):
    """Make something of a value, and return it; None where it is refused as it should be."""
    tried[what] += 1
    try:
        found = make()
    except ValueError as error:
        assert str(error).startswith("Expected ") and "received" in str(error), (what, value, error)
        assert not rule(value), (what, value, error)
        return None
    assert rule(value), (what, value)
    return found


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.__name__)
@settings(max_examples=1200, deadline=None, derandomize=True)
@given(data=st.data())
def test_odd_settings(study, data):
    rest, rules = STUDIES[study]
    name = data.draw(st.sampled_from(sorted(rules)))
    value = data.draw(VALUES)
    found = made(lambda: study(**{**rest, name: value}), rules[name], value, study.__name__)
    if found is not None:
        again = json.loads(json.dumps(found.as_dict(), allow_nan=False))
        assert study(**again) == found and study(**again).name == found.name


@settings(max_examples=600, deadline=None, derandomize=True)
@given(data=st.data())
def test_odd_options_of_measures(data):
    measure, option = data.draw(st.sampled_from(sorted(OPTIONS)))
    value, rule = data.draw(VALUES), OPTIONS[measure, option]
    found = made(lambda: importance.load(measure, **{option: value}), rule, value, "measure")
    written = not any(mark in str(value) for mark in ",:= '\"") and not (
        isinstance(value, str) and can(lambda: ast.literal_eval(value))  # read as what it is a literal of
    )
    if found is not None and written:
        assert importance.load(found.name).name == found.name


def test_at_least_two_thousand_were_tried():
    if tried:  # by what ran in this process
        assert sum(tried.values()) >= 600 and (len(tried) < 4 or sum(tried.values()) >= 2000), tried


def test_every_setting_and_option_has_a_rule():
    for study, (rest, rules) in STUDIES.items():
        assert set(rules) == set(study(**rest).__dataclass_fields__)
    every = {(name, option) for name in NAMES for option in options_of(name)}
    assert set(OPTIONS) == every


def options_of(name):
    text = importance.table().loc[name, "options"]
    return [part.partition("=")[0].strip() for part in text.split(", ") if part]


@pytest.mark.parametrize(
    "changed, message",
    [
        (
            {"learning_rate": math.inf},
            "above 0, or a schedule of keras.optimizers.schedules, received inf.",
        ),
        ({"batch_size": True}, "Expected batch_size to be a whole number of at least 1, received True."),
        ({"records": "false"}, "Expected records to be True or False, received 'false'."),
        ({"measures": ["mas:outputs=foo"]}, "outputs of the measure 'mas' to be one of 'softmax', 'logits', received"),
        ({"measures": ["hessian:probes=1.5"]}, "probes of the measure 'hessian' to be a whole number of at least 1, "),
        ({"optimizer": "adm"}, "'adm'. Did you mean 'adam'?"),
        ({"optimizer_options": {"momentum": 0.9}}, "that the optimizer 'adam' has (beta_1, "),
        ({"optimizer_options": {"learning_rate": 1}}, "Expected the learning rate as learning_rate=..., received it"),
        (
            {"optimizer_options": {"clipnorm": 1, "clipvalue": 1}},
            "one of clipnorm, clipvalue, global_clipnorm, received",
        ),
        ({"labels": [0.5, 1.5]}, "Expected labels to be whole numbers or texts, received 0.5."),
        ({"labels": [[0], [1]]}, "Expected labels to be"),
        ({"levels": ["weigth"]}, "received 'weigth'. Did you mean 'weight'?"),
    ],
)
def test_what_is_said(changed, message):
    with pytest.raises(ValueError) as caught:
        GridSettings(**{"task": "iris", "model": "mlp", "measures": ["magnitude"], **changed})
    assert message in str(caught.value)


def test_numbers_that_yaml_leaves_as_text():
    plain = GridSettings("iris", "mlp", ["magnitude"], learning_rate=1e-3, optimizer_options={"epsilon": 1e-8})
    read = GridSettings("iris", "mlp", ["magnitude"], learning_rate="1e-3", optimizer_options={"epsilon": "1e-8"})
    assert read == plain and read.name == plain.name
    with pytest.raises(ValueError, match="epochs to be a whole number of at least 1, received '1e3'"):
        GridSettings("iris", "mlp", ["magnitude"], epochs="1e3")


def test_an_option_says_by_an_annotation_what_it_takes():
    def score(evidence, kind: checks.choice("one", "two") = "one", power=2.0, count=3, other=None):
        pass

    right = {"kind": "two", "power": np.float32(0.5), "count": np.int64(4), "other": [1]}
    assert checks.options("this", score, right, leaving=1) == {"kind": "two", "power": 0.5, "count": 4, "other": [1]}
    for wrong in ({"kind": "three"}, {"power": "x"}, {"count": 0}, {"evidence": 1}, {"cuont": 1}):
        with pytest.raises(ValueError, match=r"Expected .* received"):
            checks.options("this", score, wrong, leaving=1)
    with pytest.raises(ValueError, match=r"Did you mean 'count'\?"):
        checks.options("this", score, {"cuont": 1}, leaving=1)
