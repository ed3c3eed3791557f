"""Runs of fine-tuning are what they say: losses, steps and penalties are those of plain loops."""

import itertools

import keras
import numpy as np
import plain
import pytest
import reference_language

import consolidation
from engine import draws, training

HELD = {"measures": ["magnitude"], "penalties": ["stabilized"], "strengths": [3.0]}


def losses(frame, **of):
    """The losses (evaluations, texts) of one run, in the order of its steps."""
    for column, value in of.items():
        frame = frame[frame[column] == value]
    return frame.sort_values("step")[["old_loss", "new_loss"]].to_numpy()


def built(job, weights):
    """A model that no job has touched, with these weights."""
    model = job._language.build(job.settings.sequence_length)
    training.assign(training.model_variables(model), weights)
    return model


def rounds(job, seed):
    """Yield (x, y) for each step of a run's fine-tuning, and None where it is evaluated."""
    s = job.settings
    for before, step in itertools.pairwise([0, *s.checkpoints]):
        x, y = job._new.draw((step - before) * s.batch_size, draws.generator(seed, "fine-tuning", step))
        for rows in training.order(len(x), s.batch_size, seed, step):
            yield x[rows], y[rows]
        yield None


def steps(optimizer, rate):
    """Return a function from weights and their gradients to the weights after the next step."""
    means, squares, done = {}, {}, itertools.count(1)

    def adam(weights, gradients):
        t = next(done)
        moved = []
        for i, (w, g) in enumerate(zip(weights, gradients, strict=True)):
            means[i] = 0.9 * means.get(i, 0) + 0.1 * g
            squares[i] = 0.999 * squares.get(i, 0) + 0.001 * g**2
            moved.append(w - rate * (1 - 0.999**t) ** 0.5 / (1 - 0.9**t) * means[i] / (np.sqrt(squares[i]) + 1e-7))
        return [w.astype("float32") for w in moved]

    def sgd(weights, gradients):
        return [w - np.float32(rate) * g for w, g in zip(weights, gradients, strict=True)]

    return {"adam": adam, "sgd": sgd}[optimizer]


def of_task(job, model, weights, x, y):
    """The gradient of a batch's loss."""
    others = plain.values(model.non_trainable_variables)
    return plain.gradient(lambda ws: job.loss(y, plain.output(model, ws, others, x, training=True)), weights)


def tuned(job, penalty):
    """The weights at the end of the last run with a penalty."""
    return training.values(job._made[penalty].model.trainable_variables)


def test_a_loss_is_the_mean_over_the_tokens_that_were_held_out(small):
    job = small.job()
    frame = job.run(progress=False)
    model = built(job, job.pretrained(0))
    expected = [reference_language.mean_loss(model, *part) for part in job.held_out()]
    np.testing.assert_allclose(losses(frame, step=0)[0], expected, rtol=1e-5)
    assert [len(x) for x, _ in job.held_out()] == [5, 5]


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_fine_tuning_is_a_plain_loop_over_the_same_sequences(small, optimizer):
    job = small.job(optimizer=optimizer, learning_rate=0.01, seeds=[2])
    frame = job.run(progress=False)
    model = built(job, job.pretrained(2))
    weights, step = plain.values(model.trainable_variables), steps(optimizer, 0.01)
    expected = [[reference_language.mean_loss(model, *part) for part in job.held_out()]]
    for batch in rounds(job, 2):
        if batch:
            weights = step(weights, of_task(job, model, weights, *batch))
        else:
            training.assign(model.trainable_variables, weights)
            expected.append([reference_language.mean_loss(model, *part) for part in job.held_out()])
    np.testing.assert_allclose(losses(frame), expected, rtol=1e-4)
    # Adam divides by the root of a mean of squares: where gradients nearly vanish, their rounding shows.
    for found, weight in zip(tuned(job, "none"), weights, strict=True):
        np.testing.assert_allclose(found, weight, atol=1e-3 if optimizer == "adam" else 1e-6)


@pytest.mark.slow
def test_with_next_to_no_strength_a_run_is_unprotected(small):
    penalties = ["plain", "stabilized", "decoupled", "clamped"]
    frame = small.run(measures=["magnitude"], penalties=penalties, strengths=[1e-12])
    for penalty in penalties:
        np.testing.assert_allclose(losses(frame, penalty=penalty), losses(frame, penalty="none"), rtol=1e-4)


@pytest.mark.slow
def test_with_a_huge_strength_the_weights_stay(small):
    settings = {"strengths": [1e9], "measures": ["uniform"], "optimizer": "sgd", "learning_rate": 0.05, "steps": 6}
    job = small.job(penalties=["stabilized", "decoupled"], **settings)
    frame = job.run(progress=False)
    model = built(job, job.pretrained(0))
    weights = start = plain.values(model.trainable_variables)
    for batch in filter(None, rounds(job, 0)):
        weights = [w - 0.05 * g for w, g in zip(start, of_task(job, model, weights, *batch), strict=True)]
    # Decoupled, all are put back at every step; stabilised, all but the step of the task itself.
    for penalty, expected in (("decoupled", start), ("stabilized", weights)):
        for found, weight in zip(tuned(job, penalty), expected, strict=True):
            np.testing.assert_allclose(found, weight, atol=1e-6)
    np.testing.assert_allclose(losses(frame, penalty="decoupled"), losses(frame, step=0)[[0] * 4], rtol=1e-5)


def test_uniform_importances_are_l2_towards_the_start(small):
    rate, strength = 0.1, 2.0
    settings = {"optimizer": "sgd", "learning_rate": rate, "steps": 2, "every": 2}
    job = small.job(measures=["uniform"], penalties=["plain"], strengths=[strength], **settings)
    job.run(progress=False)
    model = built(job, job.pretrained(0))
    weights = start = plain.values(model.trainable_variables)
    for batch in filter(None, rounds(job, 0)):
        gradients = of_task(job, model, weights, *batch)
        weights = [w - rate * (g + strength * (w - a)) for w, g, a in zip(weights, gradients, start, strict=True)]
    for found, expected in zip(tuned(job, "plain"), weights, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_importances_are_scaled_to_a_mean_of_1(small):
    job = small.job(**HELD, optimizer="sgd", learning_rate=0.5)
    frame = job.run(progress=False)
    scores = np.concatenate([s.ravel() for s in job.scores("magnitude", 0)])
    held = frame[(frame["measure"] == "magnitude") & (frame["step"] > 0)]["ewc_largest"]
    np.testing.assert_allclose(held, 0.5 * 3.0 * scores.max() / scores.mean(), rtol=1e-5)
    raw = small.run(**HELD, optimizer="sgd", learning_rate=0.5, scaled=False)
    held = raw[(raw["measure"] == "magnitude") & (raw["step"] > 0)]["ewc_largest"]
    np.testing.assert_allclose(held, 0.5 * 3.0 * scores.max(), rtol=1e-5)


def test_factors_are_tuned_and_held_as_a_plain_loop_does(small):
    """Gradient descent on A, B and biases, from the penalty on the kernels that they make."""
    rate, strength, rank = 0.1, 3.0, 2
    settings = {"optimizer": "sgd", "learning_rate": rate, "scaled": False, "lora": [rank]}
    job = small.job(measures=["magnitude"], penalties=["plain:lora=2"], strengths=[strength], **settings)
    frame = job.run(progress=False)
    assert set(frame["status"]) == {"ok"} and len(frame) == 3 * 3
    np.testing.assert_allclose(losses(frame, step=0), losses(frame, step=0)[[0] * 3], rtol=1e-6)
    start, scores = job.pretrained(0), job.scores("magnitude", 0)
    for measure, kind, held in (("lora", "none:lora=2", 0.0), ("magnitude", "plain:lora=2", strength)):
        model = built(job, start)
        before = list(model.trainable_variables)
        anchors = dict(zip([v.path for v in before], plain.values(before), strict=True))
        omegas = dict(zip(anchors, scores, strict=True))
        consolidation.enable_lora(model, rank, seed=draws.number(0, "low-rank factors", bits=32))
        parts = consolidation.factors(model)
        trained = [v.path for v in model.trainable_variables]

        def penalty(values, omegas=omegas, anchors=anchors, parts=parts, trained=trained):
            of = dict(zip(trained, values, strict=True))
            total = sum(keras.ops.sum(omegas[p.kernel] * keras.ops.matmul(of[p.a], of[p.b]) ** 2) for p in parts)
            others = [path for path in trained if "lora" not in path]
            return (total + sum(keras.ops.sum(omegas[p] * (of[p] - anchors[p]) ** 2) for p in others)) / 2

        weights = plain.values(model.trainable_variables)
        for batch in filter(None, rounds(job, 0)):
            pairs = zip(of_task(job, model, weights, *batch), plain.gradient(penalty, weights), strict=True)
            weights = [w - rate * (g + held * p) for w, (g, p) in zip(weights, pairs, strict=True)]
        for found, expected in zip(tuned(job, kind), weights, strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-5)
        training.assign(model.trainable_variables, weights)
        expected = [reference_language.mean_loss(model, *part) for part in job.held_out()]
        np.testing.assert_allclose(losses(frame, measure=measure)[-1], expected, rtol=1e-4)
    ends = [losses(frame, measure=measure)[-1] for measure in ("none", "lora", "magnitude")]
    assert len({round(float(old), 4) for old, _ in ends}) == 3
    assert (job.spread.frame()["size"] == [score.size for score in scores]).all()


def test_replay_trains_on_a_piece_of_the_old_text(small, monkeypatch):
    seen, train = [], training.train

    def watched(model, x, y, *rest):
        seen.append(np.concatenate([x, y[:, -1:]], axis=1))
        assert np.array_equal(y[:, :-1], x[:, 1:])
        train(model, x, y, *rest)

    monkeypatch.setattr(training, "train", watched)
    job = small.job(replay=[2.0, 50.0], seeds=[1])
    frame = job.run(progress=False)
    assert set(frame["measure"]) == {"none", "replay"} and set(frame["strength"]) == {0, 2, 50}
    old = job._old.train
    pieces = {}
    for share, (first, second) in {None: seen[:2], 2.0: seen[2:4], 50.0: seen[4:]}.items():
        if share is None:
            plain_ones = first, second
            continue
        size = round(len(old) * share / 100)
        pieces[share] = job._kept_piece(share, 1).train
        doubled, text = np.concatenate([old, old]).tolist(), pieces[share].tolist()
        assert len(text) == size and any(doubled[n : n + size] == text for n in range(len(old)))
        for found, plain_one in zip((first, second), plain_ones, strict=True):
            assert len(found) == 8 and np.array_equal(found[2:], plain_one[2:])  # a quarter of two steps of 4
            assert all(any(text[n : n + 9] == row for n in range(size)) for row in found[:2].tolist())
    assert np.array_equal(pieces[50.0][: len(pieces[2.0])], pieces[2.0])
    assert len({tuple(of) for of in losses(frame, step=4)}) == 3
    with pytest.raises(ValueError, match=r"longer than a sequence of 8 tokens, at least .* per cent .* received 0.01"):
        small.job(replay=[0.01])
