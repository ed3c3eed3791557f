"""Factors of low rank, held in the space of the kernels that they make."""

import keras
import numpy as np
import plain
import pytest
from keras import layers, ops

import consolidation
from consolidation import LowRankConsolidation
from engine import training

IN_KERAS = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in its own saving
RATE, RANK, ALPHA = 0.1, 2, 3.0
X, Y = np.random.default_rng(0).integers(0, 7, (12, 4)).astype("int32"), np.arange(12, dtype="int32") % 3


def network():
    """An Embedding, an EinsumDense of two outputs' axes, a normalisation and a Dense."""
    keras.utils.set_random_seed(0)
    tokens = keras.Input((4,), dtype="int32")
    hidden = layers.Embedding(7, 5, name="embedding")(tokens)
    hidden = layers.EinsumDense("abc,cde->abde", (4, 2, 3), bias_axes="e", activation="tanh", name="heads")(hidden)
    hidden = layers.LayerNormalization(name="normal")(layers.Flatten()(hidden))
    return keras.Model(tokens, layers.Dense(3, name="output")(hidden))


def importances(variables, seed=1):
    rng = np.random.default_rng(seed)
    return [rng.random(v.shape).astype("float32") for v in variables]


def held(penalty="plain", strength=4.0, optimizer=None, embedding=False, alpha=ALPHA, **options):
    """A model with factors that is held where it is; return it, its variables of before, and their importances."""
    model = network()
    before = consolidation.enable_lora(model, RANK, alpha, seed=3)
    if embedding:
        layer = model.get_layer("embedding")
        layer.trainable = True
        layer.enable_lora(RANK, lora_alpha=ALPHA)
    optimizer = LowRankConsolidation(
        optimizer or keras.optimizers.SGD(RATE), strength, penalty, factors=consolidation.factors(model), **options
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, jit_compile=plain.BACKEND == "jax")
    optimizer.build(model.trainable_variables)
    given = importances(before)
    optimizer.consolidate(given, before)
    return model, before, given


def scatter(model):
    """Move everything that is trained."""
    rng = np.random.default_rng(2)
    for variable in model.trainable_variables:
        variable.assign(variable.value + 0.3 * rng.standard_normal(variable.shape).astype("float32"))


def pulls(model):
    """What one step of gradient descent without a task does, as a gradient."""
    before = plain.values(model.trainable_variables)
    model.optimizer.apply([ops.zeros(v.shape) for v in model.trainable_variables], model.trainable_variables)
    return [(b - a) / RATE for b, a in zip(before, plain.values(model.trainable_variables), strict=True)]


def in_full_space(model, before, given, anchors, strength):
    """The penalty as a function of what is trained: of each kernel, and of each bias by itself."""
    trained = [v.path for v in model.trainable_variables]
    parts = {each.kernel: each for each in consolidation.factors(model)}

    def penalty(values):
        total = 0.0
        for variable, omega, anchor in zip(before, given, anchors, strict=True):
            if variable.path in parts:
                a, b = (values[trained.index(path)] for path in parts[variable.path][1:3])
                total = total + ops.sum(omega * ops.square(ALPHA / RANK * ops.matmul(a, b)))
            elif variable.path in trained:
                total = total + ops.sum(omega * ops.square(values[trained.index(variable.path)] - anchor))
        return strength / 2 * total

    return penalty


@pytest.mark.parametrize("embedding", [False, True])
def test_the_gradient_is_autodiffs_through_the_product(embedding):
    model, before, given = held(embedding=embedding)
    anchors = plain.values(before)
    scatter(model)
    values = plain.values(model.trainable_variables)
    penalty = in_full_space(model, before, given, anchors, 4.0)
    expected = plain.gradient(penalty, values)
    assert model.optimizer.penalty() == pytest.approx(float(penalty(values)), rel=1e-5)
    for found, e in zip(pulls(model), expected, strict=True):
        np.testing.assert_allclose(found, e, rtol=1e-4, atol=2e-5)
        assert np.abs(e).max() > 0.1  # biases too


@pytest.mark.parametrize("kind", ["stabilized", "clamped"])
def test_other_penalties_have_their_coefficient_in_full_space(kind):
    """Autodiff of (1/2) sum c (s A B)^2, c the coefficient of each weight."""
    strength = 30.0
    model, before, given = held(kind, strength)
    anchors = plain.values(before)
    scatter(model)
    factor = [RATE * strength * omega for omega in given]
    assert any((f > 0.1).any() and (f < 0.5).any() for f in factor)
    limited = [f / (1 + f) if kind == "stabilized" else np.minimum(f, 0.1) for f in factor]
    penalty = in_full_space(model, before, [f / RATE for f in limited], anchors, 1.0)
    expected = plain.gradient(penalty, plain.values(model.trainable_variables))
    for found, e in zip(pulls(model), expected, strict=True):
        np.testing.assert_allclose(found, e, rtol=1e-4, atol=2e-5)
    assert model.optimizer.stability().largest == pytest.approx(max(f.max() for f in factor), rel=1e-5)


@pytest.mark.parametrize("jit_compile", [True, False])
@pytest.mark.xla
def test_fit_follows_autodiff_and_tasks_follow_one_another(jit_compile):
    model, before, given = held(strength=2.0)
    model.compile(model.optimizer, model.loss, jit_compile=jit_compile)
    optimizer, others, sums = model.optimizer, plain.values(model.non_trainable_variables), given
    for number in (1, 2):
        anchors, values = plain.values(before), plain.values(model.trainable_variables)
        model.fit(X, Y, batch_size=4, epochs=2, shuffle=False, verbose=0)
        penalty = in_full_space(model, before, sums, anchors, 2.0)
        for rows in [slice(n, n + 4) for _ in range(2) for n in range(0, 12, 4)]:
            steps = zip(
                plain.step_gradient(model, values, others, X[rows], Y[rows]), plain.gradient(penalty, values),
                strict=True,
            )  # fmt: skip
            values = [v - RATE * (task + pull) for v, (task, pull) in zip(values, steps, strict=True)]
        for found, expected in zip(plain.values(model.trainable_variables), values, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
        if number == 1:
            more = importances(before, seed=7)
            with pytest.raises(ValueError, match=r"whose product is not 0. Call merge_lora\(model\) first"):
                optimizer.consolidate(more, before)
            consolidation.merge_lora(model, seed=4)
            optimizer.consolidate(more, before)
            sums, others = (
                [a + b for a, b in zip(given, more, strict=True)],
                plain.values(model.non_trainable_variables),
            )
            assert optimizer.penalty() == 0


def test_an_adaptive_strength_goes_by_the_factors_gradients():
    model, before, given = held(strength=0.5, adaptive=True)
    anchors = plain.values(before)
    scatter(model)
    values = plain.values(model.trainable_variables)
    pull = plain.gradient(in_full_space(model, before, given, anchors, 1.0), values)
    task = [np.ones_like(v) for v in values]
    model.optimizer.apply([ops.convert_to_tensor(g) for g in task], model.trainable_variables)
    norms = [np.sqrt(sum(np.sum(np.square(g, dtype="float64")) for g in of)) for of in (task, pull)]
    assert model.optimizer.present_strength == pytest.approx(0.5 * norms[0] / norms[1], rel=1e-4)


def test_the_mean_by_classes_is_of_kernels_too():
    model, before, given = held(accumulate="mean")
    more = importances(before, seed=7)
    model.optimizer.consolidate(more, before, classes=3)
    number = [each.kernel for each in consolidation.factors(model)].index("output/kernel")
    place = [v.path for v in before].index("output/kernel")
    found = plain.values(model.optimizer._of_kernels)[number]
    np.testing.assert_allclose(found, (given[place] + 3 * more[place]) / 4, rtol=1e-6)


def test_merging_changes_no_output_and_begins_factors_anew():
    model, before, _ = held(embedding=True)
    expected = np.asarray(model(X))
    kernels = plain.values(before)
    scatter(model)
    assert np.abs(np.asarray(model(X)) - expected).max() > 0.1
    expected = np.asarray(model(X))
    consolidation.merge_lora(model, seed=5)
    np.testing.assert_allclose(np.asarray(model(X)), expected, atol=1e-5)
    moved = [v.path for v, k in zip(before, kernels, strict=True) if not np.allclose(plain.values([v])[0], k)]
    assert {"embedding/embeddings", "heads/kernel", "output/kernel"} <= set(moved) and "normal/gamma" not in moved
    first = plain.values(model.trainable_variables)
    for variable, value in zip(model.trainable_variables, first, strict=True):
        assert value.any() == ("_b" not in variable.name)
    consolidation.merge_lora(model, seed=5)
    for one, other in zip(plain.values(model.trainable_variables), first, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_is_trained_is_factors_and_their_layers_biases():
    model = network()
    variables = list(model.trainable_variables)
    expected = np.asarray(model(X))
    assert consolidation.enable_lora(model, RANK, seed=3) == variables
    np.testing.assert_allclose(np.asarray(model(X)), expected, atol=1e-6)
    assert {v.path for v in model.trainable_variables} == {
        f"{layer}/{name}" for layer in ("heads", "output") for name in ("bias", "lora_kernel_a", "lora_kernel_b")
    }
    assert [each.scale for each in consolidation.factors(model)] == [1, 1]


@IN_KERAS
def test_a_merged_model_is_saved_loaded_and_goes_on(tmp_path):
    model, before, _ = held(strength=5.0, alpha=None, accumulate="mean")
    model.fit(X, Y, batch_size=4, shuffle=False, verbose=0)
    expected = np.asarray(model(X))
    consolidation.merge_lora(model, seed=6)
    model.optimizer.consolidate(importances(before, seed=8), before, classes=2)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(np.asarray(loaded(X)), expected, atol=1e-5)
    assert loaded.optimizer.factors == model.optimizer.factors and loaded.optimizer.kind == "plain"
    for one, other in zip(*(plain.values(m.optimizer._of_kernels) for m in (model, loaded)), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not any(plain.values([v])[0].any() for v in loaded.trainable_variables if "lora" in v.name)
    consolidation.merge_lora(loaded, seed=6)  # draws the A that Keras has read as 0
    model.fit(X, Y, batch_size=4, shuffle=False, verbose=0)
    trained = plain.values(model.trainable_variables)
    loaded.fit(X, Y, batch_size=4, shuffle=False, verbose=0)
    for one, other in zip(plain.values(loaded.trainable_variables), trained, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_a_state_in_the_middle_of_a_task_is_put_back():
    model, *_ = held(strength=5.0)
    model.fit(X, Y, batch_size=4, shuffle=False, verbose=0)
    state = training.state(model, model.optimizer)
    found = []
    for _ in range(2):
        training.restore(model, model.optimizer, state)
        model.fit(X, Y, batch_size=4, shuffle=False, verbose=0)
        found.append(training.state(model, model.optimizer))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_strength_zero_is_training_unprotected():
    found = []
    for optimizer in (None, keras.optimizers.SGD(RATE)):
        model, *_ = held(strength=0.0)
        if optimizer is not None:
            model.compile(optimizer, model.loss, jit_compile=plain.BACKEND == "jax")
        model.fit(X, Y, batch_size=4, shuffle=False, verbose=0)
        found.append(plain.values(model.trainable_variables))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_backbone_of_keras_hub():
    hub = pytest.importorskip("keras_hub")
    keras.utils.set_random_seed(0)
    backbone = hub.models.GPT2Backbone(
        vocabulary_size=9, num_layers=1, num_heads=2, hidden_dim=8, intermediate_dim=8, max_sequence_length=4
    )
    before = list(backbone.trainable_variables)
    backbone.enable_lora(RANK)
    found = consolidation.factors(backbone)
    assert len(found) == 2 and {each.kernel.split("/")[-2] for each in found} == {"query", "value"}
    optimizer = LowRankConsolidation(keras.optimizers.SGD(RATE), 3.0, factors=found)
    optimizer.build(backbone.trainable_variables)
    given = importances(before)
    optimizer.consolidate(given, before)
    by_path = {v.path: np.full(v.shape, 0.1 * n, "float32") for n, v in enumerate(backbone.trainable_variables, 1)}
    for variable in backbone.trainable_variables:
        if "lora" in variable.name:  # and not the biases
            variable.assign(by_path[variable.path])
    expected = sum(
        np.sum(omega * (by_path[each.a] @ by_path[each.b]) ** 2)
        for each in found for v, omega in zip(before, given, strict=True) if v.path == each.kernel
    )  # fmt: skip
    assert optimizer.penalty() == pytest.approx(3 / 2 * expected, rel=1e-5) and len(by_path) == 6
    inputs = {"token_ids": X[:2] % 9, "padding_mask": np.ones((2, 4), "int32")}
    output = np.asarray(backbone(inputs))
    consolidation.merge_lora(backbone)
    np.testing.assert_allclose(np.asarray(backbone(inputs)), output, atol=1e-5)


def test_what_cannot_be():
    model, before, given = held()
    found = consolidation.factors(model)
    for options, received in (({"penalty": "decoupled"}, "'decoupled'"), ({"separate": True}, "separate=True")):
        with pytest.raises(ValueError, match=f"for a model that is tuned by factors, received {received}"):
            LowRankConsolidation(keras.optimizers.SGD(RATE), 1.0, factors=found, **options)
    with pytest.raises(ValueError, match=r"at least one layer, received none. Give factors\(model\)"):
        LowRankConsolidation(keras.optimizers.SGD(RATE), 1.0, factors=[])
    with pytest.raises(ValueError, match=r"received 'functional.*' with some that have them. Merge a model"):
        consolidation.enable_lora(model, RANK)
    with pytest.raises(ValueError, match=r"low-rank factors, received .* without any. Call enable_lora\(model, rank\)"):
        consolidation.factors(network())
    with pytest.raises(ValueError, match="rank to be a whole number of at least 1, received 0"):
        consolidation.enable_lora(network(), 0)
    with pytest.raises(ValueError, match=r"received no variables. Give what enable_lora\(model, rank\) returned"):
        model.optimizer.consolidate(given)
    with pytest.raises(ValueError, match="1 negative ones for output/kernel"):
        wrong = [a.copy() for a in given]
        wrong[[v.path for v in before].index("output/kernel")][0, 0] = -1
        model.optimizer.consolidate(wrong, before)
    other = LowRankConsolidation(keras.optimizers.SGD(RATE), 1.0, factors=found)
    with pytest.raises(ValueError, match="trained, received none of the path 'heads/lora_kernel_a'"):
        other.build(network().trainable_variables)
    assert isinstance(consolidation.find(model.optimizer), LowRankConsolidation)
