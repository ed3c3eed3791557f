"""Inside `fit`: compiled, saved and restored, wrapped both ways, and vectorised."""

import keras
import numpy as np
import plain
import pytest

import consolidation
import importance
from consolidation import ElasticWeightConsolidation, StabilityMeter, find
from engine import training, wrapper

IN_KERAS = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in its own saving
PENALTIES = [{"penalty": kind} for kind in consolidation.PENALTIES]
EVERY_PENALTY = pytest.mark.parametrize("options", PENALTIES, ids=consolidation.PENALTIES)
ADAPTIVE = {"penalty": "stabilized", "adaptive": True, "accumulate": "mean", "decay": 1.0}
AND_ADAPTIVE = pytest.mark.parametrize("options", [*PENALTIES, ADAPTIVE], ids=[*consolidation.PENALTIES, "adaptive"])


def same(one, other, **tolerance):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, **{"rtol": 1e-5, "atol": 1e-6, **tolerance})


@EVERY_PENALTY
@pytest.mark.parametrize("jit_compile", [True, False])
@pytest.mark.xla
def test_fit_follows_the_penalty_written_out(setting, options, jit_compile):
    """Plain autodiff and plain steps of gradient descent give the same weights."""
    rate, strength = 0.2, 4.0
    optimizer = ElasticWeightConsolidation(keras.optimizers.SGD(rate), strength, **options)
    model = setting.model(optimizer, jit_compile)
    setting.fit(model, 0)
    anchors = plain.values(model.trainable_variables)
    optimizer.consolidate(setting.importances)
    setting.fit(model, 1, epochs=2)
    weights = anchors
    for rows in [slice(n, n + 8) for _ in range(2) for n in range(0, 24, 8)]:
        task = plain.step_gradient(model, weights, [], setting.x[1][rows], setting.y[1][rows])
        stepped = []
        for w, g, omega, anchor in zip(weights, task, setting.importances, anchors, strict=True):
            factor = rate * strength * omega
            if options["penalty"] == "decoupled":
                w = w - rate * g
                stepped.append(w - factor / (1 + factor) * (w - anchor))
            else:
                held = {"plain": factor, "stabilized": factor / (1 + factor), "clamped": np.minimum(factor, 0.1)}
                factor = held[options["penalty"]]
                stepped.append(w - rate * g - factor * (w - anchor))
        weights = stepped
    same(plain.values(model.trainable_variables), weights, rtol=1e-4, atol=1e-5)


@IN_KERAS
@AND_ADAPTIVE
def test_save_load_and_go_on(setting, options, tmp_path):
    schedule = keras.optimizers.schedules.ExponentialDecay(0.05, 5, 0.9)
    optimizer = ElasticWeightConsolidation(
        keras.optimizers.Adam(schedule), 1.0, separate=True, **{"decay": 0.5, **options}
    )  # fmt: skip
    whole = setting.model(optimizer)
    setting.fit(whole, 0)
    optimizer.consolidate(setting.importances)
    optimizer.strength = 7.0
    setting.fit(whole, 1)
    whole.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.get_config()["strength"] == 7.0
    assert loaded.optimizer.penalty() == pytest.approx(optimizer.penalty()) and optimizer.penalty() > 0
    for model in (whole, loaded):
        setting.fit(model, 1)
        model.optimizer.consolidate(setting.importances)
        setting.fit(model, 0)
    same(training.state(whole, whole.optimizer), training.state(loaded, loaded.optimizer))


@IN_KERAS
def test_configuration_round_trip():
    optimizer = ElasticWeightConsolidation(
        importance.Tracked(keras.optimizers.SGD(0.5)),
        2.0,
        "clamped",
        decay=0.5,
        separate=True,
        bound=0.2,
        name="held",
        adaptive=True,
    )
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert isinstance(copy, ElasticWeightConsolidation) and copy.get_config() == optimizer.get_config()
    copy = ElasticWeightConsolidation.from_config(
        ElasticWeightConsolidation(keras.optimizers.SGD(0.5), 0.0, "decoupled").get_config()
    )
    assert copy.kind == "decoupled"


@IN_KERAS
@pytest.mark.parametrize("kind", ["plain", "stabilized", "decoupled"])
def test_a_file_of_before_the_penalty_was_one_choice(setting, kind, tmp_path, monkeypatch):
    optimizer = ElasticWeightConsolidation(keras.optimizers.SGD(0.1), 2.0, kind)
    whole = setting.model(optimizer)
    setting.fit(whole, 0)
    optimizer.consolidate(setting.importances)
    config = optimizer.get_config()
    before = {key: value for key, value in config.items() if key not in ("penalty", "bound", "adaptive", "accumulate")}
    before |= {"stabilized": kind == "stabilized", "decoupled": kind == "decoupled"}
    with monkeypatch.context() as patched:
        patched.setattr(ElasticWeightConsolidation, "get_config", lambda self: before)
        whole.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")  # without a warning, which would be an error here
    assert loaded.optimizer.get_config() == config
    same(training.state(whole, whole.optimizer), training.state(loaded, loaded.optimizer))


def test_building_or_compiling_again_forgets_nothing(setting):
    optimizer = ElasticWeightConsolidation(keras.optimizers.SGD(0.1), 1.0)
    model = setting.model(optimizer)
    optimizer.build(model.trainable_variables)
    optimizer.consolidate(setting.importances)
    training.compile_model(model, optimizer, model.loss)
    same(plain.values(optimizer._importances), setting.importances)
    assert len(optimizer.variables) == len({id(v) for v in optimizer.variables})


def test_strength_and_importances_change_without_compiling_again(setting):
    optimizer = ElasticWeightConsolidation(keras.optimizers.SGD(0.1), 1.0)
    model = setting.model(optimizer, jit_compile=True)
    setting.fit(model, 0)
    compiled = model.train_function
    optimizer.consolidate(setting.importances)
    anchors = plain.values(model.trainable_variables)

    def distance(strength):
        training.assign(model.trainable_variables, anchors)
        optimizer.strength = strength
        setting.fit(model, 1, epochs=2)
        return sum(np.sum((w - a) ** 2) for w, a in zip(plain.values(model.trainable_variables), anchors, strict=True))

    distances = [distance(strength) for strength in (0.0, 2.0, 8.0)]
    assert distances[0] > distances[1] > distances[2] > 0
    assert model.train_function is compiled


def si(setting, wrap):
    """Train two tasks; return what Synaptic Intelligence accumulated in the second, and the optimizer."""
    optimizer = wrap(keras.optimizers.SGD(0.2))
    model = setting.model(optimizer)
    setting.fit(model, 0)
    find(optimizer).consolidate(setting.importances)
    tracked = next(o for o in wrapper.unwrapped(optimizer) if isinstance(o, importance.Tracked))
    tracked.restart()
    anchors = plain.values(model.trainable_variables)
    path, gradients = [anchors], []
    for rows in [slice(n, n + 8) for n in range(0, 24, 8)]:
        x, y = setting.x[1][rows], setting.y[1][rows]
        gradients.append(plain.step_gradient(model, path[-1], [], x, y))
        model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
        path.append(plain.values(model.trainable_variables))
    record = tracked.record(importance.load("synaptic_intelligence").definition.observe)
    return [r["gain"] for r in record], path, gradients, anchors


def expected_gain(setting, path, gradients, anchors, strength, penalised):
    gains = [np.zeros_like(w) for w in anchors]
    for before, after, task in zip(path[:-1], path[1:], gradients, strict=True):
        for gain, b, a, g, omega, anchor in zip(
            gains, before, after, task, setting.importances, anchors, strict=True
        ):  # fmt: skip
            gain -= (g + (strength * omega * (b - anchor) if penalised else 0)) * (a - b)
    return gains


def test_tracked_outside_sees_the_tasks_own_gradient(setting):
    gain, *seen = si(setting, lambda o: importance.Tracked(ElasticWeightConsolidation(o, 3.0)))
    same(gain, expected_gain(setting, *seen, 3.0, penalised=False), rtol=1e-3)
    assert not np.allclose(gain[0], expected_gain(setting, *seen, 3.0, penalised=True)[0], rtol=1e-2)


def test_tracked_inside_sees_the_penalised_gradient(setting):
    gain, *seen = si(setting, lambda o: ElasticWeightConsolidation(importance.Tracked(o), 3.0))
    same(gain, expected_gain(setting, *seen, 3.0, penalised=True), rtol=1e-3)


def test_both_orders_train_alike(setting):
    found = []
    for wrap in (
        lambda o: importance.Tracked(ElasticWeightConsolidation(o, 3.0, penalty="stabilized")),
        lambda o: ElasticWeightConsolidation(importance.Tracked(o), 3.0, penalty="stabilized"),
    ):
        optimizer = wrap(keras.optimizers.Adam(0.05))
        model = setting.model(optimizer)
        setting.fit(model, 0)
        find(optimizer).consolidate(setting.importances)
        setting.fit(model, 1)
        found.append(plain.values(model.trainable_variables))
    same(*found)


@AND_ADAPTIVE
def test_vectorised_over_strengths_equals_one_at_a_time(setting, options):
    if plain.BACKEND != "jax":
        pytest.skip("TensorFlow's optimizers have no stateless_apply")
    import jax

    strengths = [0.0, 1.0, 20.0]
    optimizer = ElasticWeightConsolidation(importance.Tracked(keras.optimizers.Adam(0.05)), 1.0, **options)
    model = setting.model(optimizer)
    setting.fit(model, 0)
    optimizer.consolidate(setting.importances)
    start = training.state(model, optimizer)
    alone = []
    for strength in strengths:
        training.restore(model, optimizer, start)
        optimizer.strength = strength
        setting.fit(model, 1, epochs=2)
        alone.append(plain.values(model.trainable_variables))
    training.restore(model, optimizer, start)

    def state(strength):
        variables = [strength if v is optimizer.strength else v.value for v in optimizer.variables]
        metrics = [v.value for v in model.metrics_variables]
        return [v.value for v in model.trainable_variables], [], variables, metrics

    states = jax.vmap(state)(np.array(strengths, "float32"))
    step = jax.jit(jax.vmap(model.train_step, in_axes=(0, None)))
    for rows in [slice(n, n + 8) for _ in range(2) for n in range(0, 24, 8)]:
        _, states = step(states, (setting.x[1][rows], setting.y[1][rows]))
    for index, weights in enumerate(alone):
        same(weights, [np.asarray(w[index]) for w in states[0]], rtol=1e-4, atol=1e-5)
    assert not np.allclose(alone[0][0], alone[2][0], rtol=1e-2)


def test_the_meter_writes_into_the_logs(setting, monkeypatch):
    monkeypatch.setattr("consolidation._elastic.METERED", 2)  # an epoch has 3 steps
    rate, strength = 0.1, 15.0
    optimizer = ElasticWeightConsolidation(keras.optimizers.SGD(rate, global_clipnorm=0.3), strength)
    model = setting.model(optimizer)
    first = setting.fit(model, 0, callbacks=[StabilityMeter()])
    assert first["ewc_largest"] == [0.0] and first["ewc_penalty_ratio"] == [0.0]
    anchors = plain.values(model.trainable_variables)
    optimizer.consolidate(setting.importances)
    path = [anchors]

    def note(batch, logs):
        if plain.BACKEND == "jax":
            model.jax_state_sync()
        path.append(plain.values(model.trainable_variables))

    seen = keras.callbacks.LambdaCallback(on_train_batch_end=note)
    logs = setting.fit(model, 1, epochs=2, callbacks=[StabilityMeter(), seen])
    factors = rate * strength * np.concatenate([a.ravel() for a in setting.importances])
    assert set(logs) >= {f"ewc_{name}" for name in optimizer.stability()._fields}
    for epoch in range(2):
        assert logs["ewc_largest"][epoch] == pytest.approx(factors.max(), rel=1e-5)
        assert logs["ewc_percentile"][epoch] == pytest.approx(np.quantile(factors, 0.999), rel=1e-5)
        assert logs["ewc_above_1"][epoch] == np.mean(factors > 1) > 0
        assert logs["ewc_above_2"][epoch] == np.mean(factors > 2) == 0
    task, pull, left = [], [], []
    for n, weights in zip(range(0, 24, 8), path[3:6], strict=True):  # the second epoch
        g = plain.step_gradient(model, weights, [], setting.x[1][n : n + 8], setting.y[1][n : n + 8])
        p = [strength * o * (w - a) for o, w, a in zip(setting.importances, weights, anchors, strict=True)]
        total = [a + b for a, b in zip(g, p, strict=True)]
        norms = [np.sqrt(sum(np.sum(a**2) for a in arrays)) for arrays in (g, p, total)]
        task.append(norms[0]), pull.append(norms[1]), left.append(min(1, 0.3 / norms[2]))
    assert logs["ewc_penalty_ratio"][1] == pytest.approx(np.dot(pull, [1, 1, 2]) / np.dot(task, [1, 1, 2]), rel=1e-3)
    assert logs["ewc_task_left"][1] == pytest.approx(np.dot(left, [1, 1, 2]) / 4, rel=1e-3) and np.mean(left) < 0.9


def test_a_schedule_is_metered_at_its_largest_rate(setting):
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5)
    optimizer = ElasticWeightConsolidation(keras.optimizers.SGD(schedule), 1.0, penalty="stabilized")
    model = setting.model(optimizer)
    optimizer.build(model.trainable_variables)
    optimizer.consolidate(setting.importances)
    largest = max(a.max() for a in setting.importances)
    logs = setting.fit(model, 0, epochs=2, callbacks=[StabilityMeter()])["ewc_largest"]
    assert logs == pytest.approx([0.1 * largest, 0.1 / 8 * largest], rel=1e-5)  # 3 steps an epoch


def test_the_meter_warns_of_the_plain_penalty_alone(setting):
    for options in PENALTIES:
        optimizer = ElasticWeightConsolidation(keras.optimizers.SGD(0.1), 30.0, **options)
        model = setting.model(optimizer)
        optimizer.build(model.trainable_variables)
        optimizer.consolidate(setting.importances)
        if options["penalty"] != "plain":
            setting.fit(model, 0, callbacks=[StabilityMeter()])  # warnings are errors here
        else:
            with pytest.warns(UserWarning, match='is above 2 for .* Use penalty="stabilized" or') as caught:
                setting.fit(model, 0, epochs=2, callbacks=[StabilityMeter()])
            assert len(caught) == 1
