"""What holds for every measure, new files included."""

import gc
import importlib
import logging
import random
import re
import sys
import weakref

import keras
import numpy as np
import plain
import pytest
import reference_measures
from keras import layers
from scipy import stats

import importance
from engine import training
from importance._measure import NEEDS

pytestmark = pytest.mark.xdist_group("importance")  # whose networks are trained once
EVERY_MEASURE = pytest.mark.parametrize("name", importance.names())
ON_DENSE = pytest.mark.parametrize("name", importance.general())  # the others are held against their plain versions
DATA_DRIVEN = [name for name in importance.names() if importance.load(name).definition.needs in ("inputs", "labels")]


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


# What scores are is held against plain versions for all three networks (`test_importance_reference.py`).
@pytest.mark.parametrize(
    "case",
    [
        pytest.param("dense", marks=pytest.mark.xla),
        pytest.param("convolutional", marks=pytest.mark.slow),
        # Without XLA TensorFlow adds up three arrays in the order in which their memory comes free.
        pytest.param("attention", marks=[pytest.mark.slow, pytest.mark.xla]),
    ],
    indirect=True,
)
@EVERY_MEASURE
def test_scores_are_finite_and_at_least_0_and_change_nothing(name, case):
    if name == "bn_scale" and case.name != "convolutional":
        pytest.skip("refused, as its plain version says")

    def draws():
        return [np.random.random(), random.random(), float(keras.random.uniform(()))]

    model = case.model
    variables = [*model.variables, *model.optimizer.variables]
    keras.utils.set_random_seed(5)
    expected, before = draws(), training.values(variables)
    keras.utils.set_random_seed(5)
    scores = importance.load(name).score(model, case.x, case.y, seed=1)
    assert draws() == expected and same(before, training.values(variables))
    assert [s.shape for s in scores] == [tuple(v.shape) for v in model.trainable_variables]
    for score in scores:
        assert isinstance(score, np.ndarray) and score.dtype == np.float32
        assert np.isfinite(score).all() and (score >= 0).all()
    assert same(scores, importance.load(name).score(model, case.x, case.y, seed=1))


@ON_DENSE
def test_chunks_do_not_matter(name, dense_case):
    case = dense_case
    whole = importance.load(name).score(case.model, case.x, case.y, seed=1)
    parts = importance.load(name).score(case.model, case.x, case.y, seed=1, chunk=5)
    tiny = importance.load(name).score(case.model, case.x, case.y, seed=1, memory=1)
    for a, b, c in zip(whole, parts, tiny, strict=True):
        np.testing.assert_allclose(b, a, rtol=2e-5, atol=2e-7)
        np.testing.assert_allclose(c, a, rtol=2e-5, atol=2e-7)


@EVERY_MEASURE
def test_definition_says_what_it_needs(name):
    measure = importance.load(name).definition
    assert measure.needs in NEEDS
    assert (measure.needs == "trajectory") == (measure.observe is not None) == (measure.start is not None)
    assert importance.table().loc[name, "needs"] == measure.needs


@EVERY_MEASURE
def test_docstring_begins_with_its_formula(name):
    assert len(importlib.import_module(f"importance.{name}").__doc__.splitlines()[0]) > 20


# A dead unit


# Measures of the weight alone do not know that a unit is dead; others only see a part of it.
BLIND = {
    "random": "looks at nothing",
    "uniform": "looks at nothing",
    "magnitude": "looks at the weight alone",
    "inverse_magnitude": "looks at the weight alone",
    "sign_stability": "a weight that never moves keeps its sign",
    "weight_stability": "a weight that never moves is stable",
    "movement": "a weight that never moves stands above those whose moves raised the loss",
    "signal": "sees what flows into the unit, not what comes out",
    "wanda": "sees what flows into the unit, not what comes out",
    "ria": "sees what flows into the unit, not what comes out",
    "obs_layer": "sees what flows into the unit, not what comes out",
    "variance": "weights out of the unit stand or fall with the next layer's units",
    "obs": "the damping stands for curvature where there is none",
    "deletion": "weights out of the unit stand or fall with the next layer's units",
}


def rectified():
    return keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="relu"), layers.Dense(3)])


@pytest.fixture(scope="module")
def with_dead_unit():
    keras.utils.set_random_seed(1)
    model = rectified()
    model.layers[0].bias.assign([0.5, -100.0, 0.5])
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20, 4)).astype("float32"), rng.integers(0, 3, 20)
    optimizer = importance.Tracked(keras.optimizers.Adam(0.02), importance.names())
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, batch_size=5, epochs=3, verbose=0)
    return model, x, y


def dead_parts(scores):
    """Split scores into (into the dead unit, out of it, all others)."""
    into = np.concatenate([scores[0][:, 1], scores[1][1:2]])
    rest = [scores[0][:, [0, 2]].ravel(), scores[1][[0, 2]], scores[2][[0, 2]].ravel(), scores[3]]
    return into, scores[2][1], np.concatenate(rest)


@ON_DENSE
def test_weights_of_a_dead_unit_score_lowest(name, with_dead_unit):
    into, out, rest = dead_parts(importance.load(name).score(*with_dead_unit, seed=0))
    if name not in BLIND:
        assert not into.any() and not out.any() and rest.any()
    elif name in ("signal", "wanda", "ria", "obs_layer"):
        assert not out.any()
    elif name in ("deletion", "variance"):
        assert not into.any()


# A network that computes the same with other weights


def rescaled(model, c):
    """Multiply the weights into each hidden ReLU unit by c, those out of it by 1/c: the same function."""
    other = rectified()
    kernel, bias, out, last = plain.values(model.trainable_variables)
    factors = np.array(c, "float32")
    for v, w in zip(
        other.trainable_variables, (kernel * factors, bias * factors, out / factors[:, None], last), strict=True
    ):
        v.assign(w)
    return other


UNCHANGED = {"obd", "expected_rise", "taylor", "lrp", "snip", "variance", "deletion"}


@pytest.mark.parametrize("name", sorted(set(DATA_DRIVEN) | {"magnitude", "inverse_magnitude"}))
def test_scaling_a_relu_unit(name, with_dead_unit):
    """`pytest -rP -k scaling` shows by how much each measure changes."""
    model, x, y = with_dead_unit
    other = rescaled(model, [4.0, 1.0, 0.5])
    before, after = (importance.load(name).score(m, x, y, seed=0) for m in (model, other))
    flat_before, flat_after = (np.concatenate([s.ravel() for s in scores]) for scores in (before, after))
    if name in UNCHANGED:
        np.testing.assert_allclose(flat_after, flat_before, rtol=1e-4, atol=1e-6)
    else:
        order = float(stats.spearmanr(flat_before, flat_after).statistic)
        print(f"{name}: rank correlation {order:.2f} with the rescaled network")
        assert order < 0.9999


# Relations between measures


def test_obd_is_half_of_fisher_times_the_squared_weight(case):
    scores = importance.score(["obd", "fisher"], case.model, case.x)
    for obd, fisher, w in zip(scores["obd"], scores["fisher"], case.weights, strict=True):
        np.testing.assert_allclose(obd, 0.5 * fisher * w**2, rtol=1e-6)


def test_expected_rise_is_of_what_replaces_the_weight(case):
    rng, of = np.random.default_rng(0), {"seed": reference_measures.SEED}
    drawn = [rng.standard_normal(w.shape).astype("float32") for w in case.weights]
    for gradient in (False, True):
        found = importance.load("expected_rise", gradient=gradient).score(
            case.model, case.x, case.y, replacements=drawn, **of
        )
        expected = reference_measures.expected_rise(case, drawn, gradient)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * max(float(b.max()), 1e-3))
    assert importance.load("expected_rise").definition.of_fill and not importance.load("obd").definition.of_fill
    zero = importance.load("expected_rise").score(case.model, case.x, fill="zero")
    assert same(zero, importance.load("obd").score(case.model, case.x))
    kept = importance.load("expected_rise").score(case.model, case.x, replacements=case.weights)
    assert not any(s.any() for s in kept)


def test_folded_magnitude_is_that_of_the_folded_network():
    """A network without BatchNormalization that computes the same has these magnitudes."""
    keras.utils.set_random_seed(0)
    given = keras.Input((6, 6, 2))
    hidden = layers.BatchNormalization()(layers.DepthwiseConv2D(2, depth_multiplier=2)(given))
    hidden = layers.BatchNormalization(scale=False)(layers.Conv2D(3, 2, use_bias=False)(hidden))
    model = keras.Model(given, layers.Dense(2)(layers.Flatten()(hidden)))
    rng = np.random.default_rng(0)
    for v in model.variables:
        v.assign(rng.uniform(0.5, 1.5, v.shape).astype("float32"))
    depthwise, first, conv, second, last = (layer for layer in model.layers if layer.weights)
    folded = importance.load("magnitude", folded=True).score(model)
    x = rng.standard_normal((3, 6, 6, 2)).astype("float32")

    plain_layer = type(depthwise).from_config({**depthwise.get_config(), "use_bias": False})
    plain_layer.build(x.shape)
    found = plain_layer.stateless_call([folded[0]], [], x)[0]
    spread = np.sqrt(np.asarray(first.moving_variance) + first.epsilon)
    shift = folded[1] - np.asarray(first.gamma) * np.asarray(first.moving_mean) / spread + np.asarray(first.beta)
    np.testing.assert_allclose(np.asarray(found) + shift, np.asarray(first(depthwise(x), training=False)), rtol=1e-4)
    assert same(folded[2:4], [np.asarray(first.gamma), np.asarray(first.beta)])
    spread = np.sqrt(np.asarray(second.moving_variance) + second.epsilon)
    np.testing.assert_allclose(folded[4], np.asarray(conv.kernel) / spread, rtol=1e-6)
    assert np.array_equal(folded[-2], np.asarray(last.kernel))


@pytest.mark.parametrize("make", [
    lambda x: layers.Dense(2)(layers.Dense(3)(x)),  # none
    lambda x: layers.Dense(2)(layers.BatchNormalization()(layers.ReLU()(layers.Dense(3)(x)))),  # not directly behind
    lambda x: layers.Dense(2)((lambda h: layers.BatchNormalization()(h) + h)(layers.Dense(3)(x))),  # and not alone
])  # fmt: skip
@pytest.mark.parametrize("written", ["bn_scale", "magnitude:folded=True"])
def test_networks_without_a_batch_normalization_behind_a_layer(make, written):
    given = keras.Input((4,))
    with pytest.raises(ValueError, match=r"in which a BatchNormalization takes .* of .*Dense.*Use the measure 'magnit"):
        importance.load(written).score(keras.Model(given, make(given)))


def test_variance_needs_the_readers_of_channels():
    single = keras.Sequential([keras.Input((2,)), layers.Dense(2)])
    with pytest.raises(ValueError, match=r"units that something reads, received 'sequential.*Use the measure 'wanda'"):
        importance.load("variance").score(single, np.ones((3, 2)))
    frozen = keras.Sequential([keras.Input((2,)), layers.Dense(2), layers.Dense(2, trainable=False)])
    with pytest.raises(ValueError, match=r"'variance' needs all weights that read .* received '.*dense.*kernel'"):
        importance.load("variance").score(frozen, np.ones((3, 2)))


def test_an_activation_of_its_own_stands_before_a_batch_normalization():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(3, activation="relu"), layers.BatchNormalization()])
    model.layers[1].gamma.assign([1.0, -2.0, 3.0])
    assert importance.load("bn_scale").score(model)[0][0].tolist() == [1.0, 2.0, 3.0]
    with pytest.raises(ValueError, match="where there is none"):
        importance.load("magnitude", folded=True).score(model)


def test_replacements_that_do_not_fit(dense_case):
    case = dense_case
    with pytest.raises(ValueError, match=r"Expected replacements with the shapes .* received \[\(6,\)"):
        importance.load("expected_rise").score(case.model, case.x, replacements=case.weights[1:])
    with pytest.raises(ValueError, match=r"the fill 'zero', received 'noise'.*replacements="):
        importance.load("expected_rise").score(case.model, case.x, fill="noise")
    with pytest.raises(ValueError, match="needs labels"):
        importance.load("expected_rise", gradient=True).score(case.model, case.x)


def test_obs_by_the_recursion_over_gradients(dense_case):
    """v_k = F_(k-1)^-1 g_k; the diagonal is 1/d - sum_k v_k^2 / (m + g_k v_k)."""
    case, damping = dense_case, 1e-3
    found = importance.load("obs", damping=damping).score(case.model, case.x, case.y, seed=0)
    every = [reference_measures.loss_gradient(case, n, case.y[n]) for n in range(len(case.x))]
    for layer in (slice(0, 2), slice(2, 4), slice(4, 6)):
        rows = [np.concatenate([g.ravel() for g in gradients[layer]]) for gradients in every]
        inverse, diagonal = np.eye(len(rows[0])) / damping, np.full(len(rows[0]), 1 / damping)
        for g in rows:
            v = inverse @ g
            diagonal -= v**2 / (len(rows) + g @ v)
            inverse -= np.outer(v, v) / (len(rows) + g @ v)
        w, score = (np.concatenate([a.ravel() for a in arrays[layer]]) for arrays in (case.weights, found))
        np.testing.assert_allclose(score, w**2 / (2 * diagonal), rtol=1e-4)
    few = [importance.load("obs", gradients=5).score(case.model, case.x, case.y, seed=seed) for seed in (0, 0, 1)]
    assert same(few[0], few[1]) and not same(few[0], few[2])
    strong = importance.load("obs", damping=1e6).score(case.model, case.x, case.y)
    for s, w in zip(strong, case.weights, strict=True):  # the order of magnitude
        np.testing.assert_allclose(s, 1e6 * w**2 / 2, rtol=1e-4)


def test_fisher_sampled_approaches_fisher(dense_case):
    case = dense_case
    exact = importance.load("fisher").score(case.model, case.x)
    few, many = (importance.load("fisher_sampled", draws=d).score(case.model, case.x) for d in (2, 300))

    def error(scores):
        return sum(np.abs(s - e).sum() for s, e in zip(scores, exact, strict=True)) / sum(e.sum() for e in exact)

    assert error(many) < 0.05 and error(many) < error(few) / 3


def test_hessian_approaches_its_diagonal(dense_case):
    case = dense_case
    evidence = importance.Evidence(case.model, case.x, case.y)
    from importance import hessian

    found = np.concatenate([h.ravel() for h in hessian.diagonal(evidence, probes=200)])
    exact = np.diag(case.hessian)
    assert np.abs(found - exact).max() < 0.25 * np.abs(exact).max()


def test_hessian_reports_negative_curvature(dense_case, caplog):
    case = dense_case
    with caplog.at_level(logging.INFO, "importance.hessian"):
        importance.load("hessian", probes=1).score(case.model, case.x, case.y)
    assert re.search(r"\d+\.\d% of the weights have negative curvature", caplog.text)


def test_fisher_of_a_regression_is_its_curvature():
    """Of mean_k (y_k - f_k)^2 with linear outputs the Hessian is (2/K) sum_k (df_k/dw)^2, whatever y is."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    model.compile("sgd", keras.losses.MeanSquaredError())
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((50, 3)).astype("float32"), rng.standard_normal((50, 2)).astype("float32")
    kernel, bias = importance.load("fisher").score(model, x)
    np.testing.assert_allclose(kernel, np.tile((x**2).mean(axis=0)[:, None], (1, 2)), rtol=1e-5)
    np.testing.assert_allclose(bias, [1, 1], rtol=1e-6)
    sampled, _ = importance.load("fisher_sampled", draws=100).score(model, x)
    np.testing.assert_allclose(sampled, kernel, rtol=0.15)
    assert importance.load("mas").score(model, x)[0].any()
    assert importance.load("fisher_empirical").score(model, x, y)[0].any()


# Sharing


def test_measures_asked_for_together_share_passes(dense_case, monkeypatch):
    from engine import per_example

    case, passes = dense_case, []
    sums = per_example.sums
    monkeypatch.setattr(per_example, "sums", lambda *args: passes.append(args[-1]) or sums(*args))
    together = importance.score(["fisher", "obd", "fisher_empirical", "taylor"], case.model, case.x, case.y)
    assert passes == [3, None]  # one over all classes, and one with the true labels
    assert same(together["taylor"], importance.load("taylor").score(case.model, case.x, case.y))


# Deletion


def test_deletion_of_a_sample_of_single_weights(dense_case):
    from importance import deletion

    case = dense_case
    evidence = importance.Evidence(case.model, case.x, case.y, seed=4)
    all_of_them = deletion.rises(evidence, level="weight")
    sample = deletion.rises(evidence, level="weight", sample=20)
    assert len(sample.evaluated) == 20 and sample.evaluated.tolist() == sorted(set(sample.evaluated.tolist()))
    np.testing.assert_allclose(sample.change, all_of_them.change[sample.evaluated], atol=1e-6)
    ends = np.cumsum([w.size for w in case.weights])
    counts = np.bincount(np.searchsorted(ends, sample.evaluated, side="right"), minlength=6)
    assert counts.tolist() == [4, 3, 3, 3, 4, 3] or (counts >= 3).all()
    # The standard error, by hand: paired over the examples.
    group = sample.evaluated[0]
    without = [np.where(ids == group, 0, w) for ids, w in zip(sample.groups, case.weights, strict=True)]

    def losses_of(weights):
        logits = plain.output(case.model, [w.astype("float32") for w in weights], case.others, case.x)
        return np.array([float(plain.cross_entropy(logits[n], case.y[n])) for n in range(len(case.x))])

    change = losses_of(without) - losses_of(case.weights)
    assert sample.change[0] == pytest.approx(change.mean(), abs=1e-6)
    assert sample.stderr[0] == pytest.approx(change.std(ddof=1) / len(case.x) ** 0.5, rel=1e-3)
    assert (all_of_them.change < 0).any()  # a fall is there in the raw changes, and 0 in the score
    scores = importance.load("deletion", level="weight", sample=20).score(case.model, case.x, case.y, seed=4)
    assert min(s.min() for s in scores) == 0


def test_deletion_takes_any_level(dense_case):
    import aggregation

    case = dense_case
    own = importance.load("deletion", level="layer", fill="noise").score(case.model, case.x, case.y)
    assert all(len(np.unique(score)) == 1 for score in own)
    groups = {"conv_filter": aggregation.load("conv_filter").groups(case.model)}
    given = importance.load("deletion", level="conv_filter").score(case.model, case.x, case.y, groups=groups)
    weight = importance.load("deletion", level="weight").score(case.model, case.x, case.y)
    assert same(given, weight)  # without convolutions every weight stands alone
    with pytest.raises(ValueError, match=r"received 'conv_filter'.*groups="):
        importance.load("deletion", level="conv_filter").score(case.model, case.x, case.y)


# Names, options, new files


def test_a_new_file_is_a_new_measure(tmp_path, monkeypatch, dense_case):
    """The example in the contract's docstring works when it is copied into the folder."""
    example = re.search(r"```python\n(.*?)```", importance.__doc__, re.DOTALL).group(1)
    (tmp_path / "squared.py").write_text(example, encoding="utf-8")
    monkeypatch.setattr(importance, "__path__", [*importance.__path__, str(tmp_path)])
    try:
        loaded = importance.load("squared:power=4.0")
        assert loaded.name == "squared:power=4.0" and "squared" in importance.names()
        np.testing.assert_allclose(loaded.score(dense_case.model)[0], np.abs(dense_case.weights[0]) ** 4.0, rtol=1e-5)
    finally:
        sys.modules.pop("importance.squared", None)


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Write a measure's file."""
    monkeypatch.setattr(importance, "__path__", [*importance.__path__, str(tmp_path)])
    names = []

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        names.append(name)

    yield write
    for name in names:
        sys.modules.pop(f"importance.{name}", None)


SIGNED = "from importance import Measure\n\nMEASURE = Measure(lambda evidence: [w - 1 for w in evidence.weights])\n"


def test_a_faulty_measure_is_named(written, dense_case):
    written("signed", SIGNED)
    with pytest.raises(ValueError, match=r"the measure 'signed' to give importances of at least 0 .* negative values"):
        importance.load("signed").score(dense_case.model)
    written("short", SIGNED.replace("w - 1 for w in evidence.weights", "abs(w) for w in evidence.weights[1:]"))
    with pytest.raises(
        ValueError, match=r"the measure 'short' .*received arrays of the shapes \[.*importance/short.py"
    ):
        importance.load("short").score(dense_case.model)
    for name, text in (("bare", "MEASURE = len"), ("needy", SIGNED.replace("])", "], needs='gradients')"))):
        written(name, text)
        with pytest.raises(
            ValueError, match=rf"importance/{name}.py to define MEASURE = Measure\(score, needs=\.\.\.\)"
        ):
            importance.load(name)


def test_a_file_that_cannot_be_loaded_stands_in_nobodys_way(written):
    written("signed", SIGNED)
    written("broken", "MEASURE = (")
    table = importance.table()
    assert table.loc["signed", "summary"] == "" and "SyntaxError" in table.loc["broken", "summary"]
    assert len(table) == len(importance.names()) and table.loc["magnitude", "summary"]


def test_a_digest_is_of_what_a_file_does(written):
    found = []
    for text in (
        SIGNED,
        "# why\n" + SIGNED.replace("w - 1", "w  -  1"),
        SIGNED.replace("w - 1", "w - 2"),
        "MEASURE = (",
    ):
        written("signed", text)
        found.append(importance.digests()["signed"])
    assert found[0] == found[1] and len(set(found)) == 3


def test_names_and_options():
    assert importance.load("mas", outputs="softmax").name == "mas"  # a default is no change
    assert importance.load("mas:outputs=logits") == importance.load("mas", outputs="logits")
    with pytest.raises(ValueError, match=r"importance/ \(adam_second_moment, .*received 'fischer'"):
        importance.load("fischer")
    with pytest.raises(ValueError, match=r"options that the measure 'mas' has \(outputs\), received output\. Did"):
        importance.load("mas", output="logits")
    with pytest.raises(ValueError, match="received 'logits'"):
        importance.load("mas:logits")


def test_examples_are_drawn_with_the_seed(dense_case):
    case = dense_case
    taken = importance.Evidence(case.model, case.x, case.y, seed=1, examples=5)
    assert taken.x.shape == (5, 5) and len(np.unique(taken.x[:, 0])) == 5
    assert np.array_equal(taken.x, importance.Evidence(case.model, case.x, case.y, seed=1, examples=5).x)
    assert not np.array_equal(taken.x, importance.Evidence(case.model, case.x, case.y, seed=2, examples=5).x)
    rows = [int(np.flatnonzero((case.x == x).all(axis=1))[0]) for x in taken.x]
    assert np.array_equal(taken.y, case.y[rows])


# Errors


def score(name, case, x=None, y=None, **kwargs):
    return importance.load(name).score(case.model, case.x if x is None else x, y, **kwargs)


@pytest.mark.parametrize(
    "y, message",
    [
        (None, "needs labels"),
        (np.zeros((12, 2), "int32"), r"shape \(12,\), received int32 of shape \(12, 2\)"),
        (np.full(12, 3), "from 0 to 2 .* from 3 to 3"),
        (np.full(12, -1), "from -1 to -1"),
        (np.zeros(12, "float32"), "integer labels .*received float32"),
        (np.zeros(11, "int32"), "as many labels as inputs.*received 11 and 12"),
    ],
)
def test_labels_that_do_not_fit(y, message, dense_case):
    with pytest.raises(ValueError, match=message):
        score("fisher_empirical", dense_case, y=y)


def test_targets_that_do_not_fit():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
    with pytest.raises(ValueError, match=r"shape of the model's outputs, \(4, 1\), received float32 of shape \(4, 2\)"):
        importance.load("taylor").score(model, np.ones((4, 2)), np.ones((4, 2)))


def test_inputs_are_missing(dense_case):
    with pytest.raises(ValueError, match=r"'mas' needs inputs: expected x=\(examples, \.\.\.\)"):
        importance.load("mas").score(dense_case.model)


@pytest.mark.parametrize("name", [n for n in importance.names() if importance.load(n).definition.observe])
def test_a_missing_trajectory_says_how_to_get_it(name):
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=rf"importance\.Tracked\(optimizer, measures=\['{name}'\]\) and train"):
        importance.load(name).score(model)


def test_an_optimizer_without_second_moment():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2)])
    with pytest.raises(ValueError, match="received no optimizer"):
        importance.load("adam_second_moment").score(model)
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"\(Adam, AdamW, Nadam, RMSprop\).*received SGD"):
        importance.load("adam_second_moment").score(model)


def test_losses_whose_distribution_is_not_known(dense_case):
    with pytest.raises(ValueError, match=r"received Huber\. .*fisher_empirical"):
        score("fisher", dense_case, loss=keras.losses.Huber())


def test_a_loss_that_does_not_say_whether_it_takes_logits():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2)])
    model.compile("sgd", lambda y, outputs: keras.ops.sum(outputs, axis=-1))
    with pytest.raises(ValueError, match=r"keras\.losses\.Loss object.*received <function"):
        importance.load("fisher_empirical").score(model, np.ones((3, 2)), np.zeros(3, int))
    assert importance.load("magnitude").score(model)


def test_activations_of_an_unknown_layer():
    model = keras.Sequential([keras.Input((4, 2)), layers.GRU(2), layers.Dense(2)])
    with pytest.raises(ValueError, match=r"a GRUCell in a loop\. Use a measure of gradients"):
        importance.load("wanda").score(model, np.ones((3, 4, 2)))


@pytest.mark.parametrize(
    "name, options",
    [
        ("fisher_sampled", {"draws": 0}),
        ("hessian", {"probes": 0}),
        ("obs", {"gradients": 0}),
        ("obs", {"damping": 0}),
        ("obs_layer", {"damping": 0}),
        ("fisher_batched", {"batch_size": 0}),
        ("mas", {"outputs": "probabilities"}),
        ("deletion", {"fill": "nothing"}),
        ("deletion", {"sample": 0}),
    ],
)
def test_options_out_of_range(name, options, dense_case):
    with pytest.raises(ValueError, match=f"received {next(iter(options.values()))!r}"):
        importance.load(name, **options).score(dense_case.model, dense_case.x, dense_case.y)


def test_nothing_is_kept_of_a_model_that_is_gone():
    model = rectified()
    importance.load("fisher_argmax").score(model, np.ones((3, 4)))
    gone = weakref.ref(model)
    del model
    keras.backend.clear_session()
    gc.collect()
    assert gone() is None
