"""Fine-tuning a language model on a new text, its knowledge of the old one protected by importances.

A model is pretrained on the old text once for each seed, or comes trained; measures score it there. For each measure x
penalty x strength x seed it is fine-tuned on the new text, and the perplexities of both texts on what was held out of
them are recorded as it goes on. Plain fine-tuning (measure "none", strength 0) stands beside.
"""

import hashlib
import itertools
import json
import math
import time
import warnings
from contextlib import contextmanager

import keras
import numpy as np

import importance
from consolidation import ElasticWeightConsolidation, Stability, find
from engine import backend, evaluation, structure, training, wrapper
from experiments import importances, locks
from experiments.checkpoints import Checkpoints
from experiments.job import Job
from experiments.sequential import ENDS, METER, Protection, file_name
from experiments.settings import FineTuningSettings
from experiments.store import Store, provenance
from tasks import texts

KEY = ["measure", "penalty", "strength", "seed", "step"]
COLUMNS = [
    "run", "model", "old_text", "new_text", *KEY, "old_loss", "new_loss", "old_perplexity", "new_perplexity", *METER,
    "seconds", "status",
]  # fmt: skip
SPREAD_KEY = ["measure", "seed", "variable"]
SPREAD = ["run", "model", *SPREAD_KEY, "kind", "size", "mean", "largest"]
PRETRAINING_STEPS = 1500
UNPROTECTED = ENDS[0]
_AT_ONCE = 100
"""Steps of pretraining from one checkpoint to the next."""


class FineTuning(Job):
    """Runs of fine-tuning: settings, files, and compiled models.

    Args:
        old: str or path. The text that the model knows: a file in `tasks/texts/`, or a text file.
        new: str or path. The text that it is fine-tuned on.
        model: str or path. "gpt", or a GPT-2 preset of KerasHub, by name or folder.
        out: str or path. The folder for the CSV, its settings file, `pretrained/` and `checkpoints/`.
        **settings: see `experiments.settings.FineTuningSettings`.

    Attributes:
        settings: FineTuningSettings.
        store: experiments.store.Store. One row for each run and evaluation.
        spread: experiments.store.Store. `<run>-importances.csv`: one row for each measure, seed and variable of the
            pretrained model: what `kind` of layer has it, and the mean and the largest importance (not scaled).
        timings: dict. Seconds of the last `run` spent in "pretraining", "scoring", "training", "evaluating", and in
            "total".

    Raises:
        ValueError: a setting that cannot be; a text that is empty, too short or no UTF-8; a folder that is no preset,
            a sequence that is longer than the preset's model takes.
        FileNotFoundError: no such text.
        ImportError: a preset, and KerasHub is not installed.
        OSError: a folder that cannot be written.
    """

    PARTS = ("pretraining", "scoring", "training", "evaluating")

    def __init__(self, old="prose", new="python", model="gpt", out="data/finetuning", **settings):
        self.settings = s = FineTuningSettings(old=old, new=new, model=model, **settings)
        self._language = texts.language(s.model, **s.model_options)
        self._old, self._new = (texts.load(text, self._language, s.sequence_length) for text in (s.old, s.new))
        self.loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        about = {key: value for key, value in s.as_dict().items() if key not in s.VARIED}
        digests = {"old": self._old.digest, "new": self._new.digest}
        about = {"settings": about, "data_sha256": digests, "measures_sha256": importance.digests()}
        self.store = Store(out, s.name, COLUMNS, KEY, about)
        self.spread = Store(out, f"{s.name}-importances", SPREAD, SPREAD_KEY, run=s.name)
        self._tuners, self._scores, self._held_out = {}, {}, None
        self.timings = dict.fromkeys(self.PARTS, 0.0)

    @property
    def stores(self):
        """The files that rows go to; see `experiments.work`."""
        return [self.store, self.spread]

    def wanted(self):
        """Return the keys of all rows that were asked for: set of tuples of str."""
        return {self.store.key_of(cell) for run in self._pairs() for cell in self._cells(*run)}

    def trials(self):
        """Return what is missing of each run: {name: [(protection, seed)] or []}."""
        done = self.store.done
        return {
            f"{file_name(protection)}-seed-{seed}": [(protection, seed)]
            if any(self.store.key_of(cell) not in done for cell in self._cells(protection, seed))
            else []
            for protection, seed in self._pairs()
        }

    def description(self):
        """Return what another process needs to make the same runs: dict, as JSON knows it."""
        return {"kind": "fine_tuning", "out": str(self.store.folder.absolute()), "settings": self.settings.as_dict()}

    def do(self, missing):
        """Do the runs that are missing of a trial; see `trials`."""
        for protection, seed in missing:
            self.begun(protection)
            self._run(protection, seed)
            self.finished()

    def pretrained(self, seed):
        """Return the weights that a seed's fine-tuning begins with: list of arrays, as `training.model_variables`.

        They are trained once and kept in `<out>/pretrained/`, for all runs with the same model and old text.
        """
        steps = self._pretraining_steps()
        keras.utils.set_random_seed(seed)
        model = self._language.build(self.settings.sequence_length)
        if not steps:
            return training.values(training.model_variables(model))
        kept = Checkpoints(self._kept / f"seed-{seed}")
        with self._alone(f"seed-{seed}"), self.timed("pretraining"):
            reached, arrays = kept.latest(steps)
            if reached < steps:
                arrays = self._pretrain(model, seed, kept, reached, arrays)
        return arrays[: len(training.model_variables(model))]

    def scores(self, measure, seed):
        """Score the pretrained model on the old text.

        The importances are kept beside the pretrained weights, `<measure>-seed-<seed>.npz`; see
        `experiments.importances`.

        Args:
            measure: str.
            seed: int.

        Returns:
            list of float32 arrays like the model's trainable variables, not scaled.
        """
        if (measure, seed) not in self._scores:
            s = self.settings
            named = file_name(Protection(measure, "tokens" if s.per_token else "sequences", s.examples))
            path = self._kept / f"{named}-seed-{seed}.npz"
            model = self._language.build(s.sequence_length)
            start = self.pretrained(seed)
            training.assign(training.model_variables(model), start)
            digest = hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in start)).hexdigest()
            with self._alone(path.stem), self.timed("scoring"):
                found, about = importances.load(path) if path.exists() else (None, {})
                if about.get("weights_sha256") != digest:
                    found = self._score(model, measure, seed)
                    about = {"measure": measure, "seed": seed, "weights_sha256": digest, "settings": s.as_dict()}
                    importances.save(path, found, **about, **provenance())
            self._scores[measure, seed] = found
        return self._scores[measure, seed]

    def _score(self, model, measure, seed):
        s = self.settings
        x, y = self._old.draw(s.examples, [seed, s.examples])
        if s.per_token:
            model = texts.one_position(model)
            places = np.random.default_rng([seed, s.sequence_length]).integers(0, s.sequence_length, s.examples)
            x, y = np.concatenate([places[:, None], x], axis=1), y[np.arange(s.examples), places]
        return importance.load(measure).score(
            model, x.astype("int32"), y.astype("int32"), seed=seed, loss=self.loss, examples=None
        )

    def _record_spread(self, model, measure, seed):
        scores = self.scores(measure, seed)
        rows = [
            {
                "run": self.settings.name, "model": self._language.name, "measure": measure, "seed": seed,
                "variable": variable.path, "kind": _kind(part), "size": score.size, "mean": score.mean(dtype="float64"),
                "largest": float(score.max()),
            }
            for part, variable, score in zip(structure.parts(model), model.trainable_variables, scores, strict=True)
        ]  # fmt: skip
        self.spread.append([row for row in rows if self.spread.key_of(row) not in self.spread.done])

    @contextmanager
    def _alone(self, name):
        """Open a context in which no other process computes what is kept under a name; they wait."""
        lock = locks.Lock(self._kept, name)
        while not lock.take(wait=5.0):
            pass
        try:
            yield
        finally:
            lock.release()

    @property
    def _kept(self):
        """The folder of what depends on the pretraining alone."""
        s = self.settings
        about = [
            self._old.digest, s.model, s.model_options, s.sequence_length, s.batch_size, self._pretraining_steps(),
            s.pretraining_rate, backend.NAME,
        ]  # fmt: skip
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:8]
        return self.store.folder / "pretrained" / f"{self._language.name}-{self._old.name}-{digest}"

    def _pretraining_steps(self):
        asked = self.settings.pretraining_steps
        return asked if asked is not None else 0 if self._language.pretrained else PRETRAINING_STEPS

    def _pretrain(self, model, seed, kept, reached, arrays):
        s, steps = self.settings, self._pretraining_steps()
        optimizer = keras.optimizers.Adam(s.pretraining_rate)
        training.compile_model(model, optimizer, self.loss)
        if reached:
            training.restore(model, optimizer, arrays)
        ends = [*range(0, steps, _AT_ONCE), steps]
        for begin, end in itertools.pairwise(ends):
            if end > reached:
                x, y = self._old.draw((end - begin) * s.batch_size, [seed, 0, end])
                training.train(model, x, y, [end], s.batch_size, seed)
                kept.save(end, training.state(model, optimizer))
        return training.state(model, optimizer)

    def _run(self, protection, seed):
        """Fine-tune once, from the last evaluation that was written."""
        s, started = self.settings, time.perf_counter()
        done = self.store.done
        tuner = self._tuner(protection.penalty)
        importances_ = None
        if protection != UNPROTECTED:
            self._record_spread(tuner.model, protection.measure, seed)
            importances_ = self._scaled(protection.measure, seed)
        tuner.begin(self.pretrained(seed), protection.strength, importances_)
        kept = Checkpoints(self.store.folder / "checkpoints" / s.name / f"{file_name(protection)}-seed-{seed}")
        written = [c["step"] for c in self._cells(protection, seed) if self.store.key_of(c) in done]
        reached, arrays = kept.latest(max(written, default=0))
        if reached:
            tuner.restore(arrays)
        if 0 not in written:
            self._record(tuner, protection, seed, 0, started)
        for before, step in itertools.pairwise([0, *s.checkpoints]):
            if step <= reached:
                continue
            x, y = self._new.draw((step - before) * s.batch_size, [seed, 1, step])
            started = time.perf_counter()
            with self.timed("training"):
                tuner.train(x, y, step, seed)
            if not tuner.finite():
                self._give_up(protection, seed, step)
                break
            if step not in written:
                self._record(tuner, protection, seed, step, started)
            kept.save(step, tuner.state())
        kept.clear()

    def _scaled(self, measure, seed):
        found = self.scores(measure, seed)
        if not self.settings.scaled:
            return found
        mean = sum(a.sum(dtype="float64") for a in found) / sum(a.size for a in found)
        if not 0 < mean < math.inf:
            raise ValueError(
                f"Expected importances with a finite mean above 0 to scale them by, received {mean} from {measure!r}. "
                "Use scaled=False, or another measure."
            )
        return [(a / mean).astype("float32") for a in found]

    def _tuner(self, penalty):
        if penalty not in self._tuners:
            self._tuners[penalty] = _Tuner(self._language.build(self.settings.sequence_length), self, penalty)
        return self._tuners[penalty]

    def _pairs(self):
        s = self.settings
        protections = [Protection(m, p, v) for m in s.measures for p in s.penalties for v in s.strengths]
        return [(protection, seed) for seed in s.seeds for protection in (UNPROTECTED, *protections)]

    def _cells(self, protection, seed):
        return [{**protection._asdict(), "seed": seed, "step": step} for step in (0, *self.settings.checkpoints)]

    def held_out(self):
        """Return the held-out sequences of the old and the new text: ((x, y), (x, y))."""
        if self._held_out is None:
            self._held_out = tuple(text.evaluated(self.settings.evaluated) for text in (self._old, self._new))
        return self._held_out

    def _record(self, tuner, protection, seed, step, started):
        with self.timed("evaluating"):
            losses = tuner.losses()
        status = "ok" if np.isfinite(losses).all() else "losses are not finite"
        self._write(protection, seed, step, losses, tuner.stability(), time.perf_counter() - started, status)

    def _give_up(self, protection, seed, step):
        """Record that a run ended because its weights are no longer finite, with NaN for the steps that are left."""
        reason = f"weights are not finite at step {step}"
        warnings.warn(f"With {protection}, seed {seed}, {reason}; the run is recorded so.", stacklevel=2)
        for left in (c for c in self.settings.checkpoints if c >= step):
            self._write(protection, seed, left, [math.nan] * 2, Stability(*[math.nan] * len(METER)), math.nan, reason)

    def _write(self, protection, seed, step, losses, stability, seconds, status):
        row = {
            "run": self.settings.name, "model": self._language.name, "old_text": self._old.name,
            "new_text": self._new.name, **protection._asdict(), "seed": seed, "step": step,
            **dict(zip(("old_loss", "new_loss"), losses, strict=True)),
            **{f"{text}_perplexity": _exp(loss) for text, loss in zip(("old", "new"), losses, strict=True)},
            **dict(zip(METER, (float(f"{value:.6g}") for value in stability), strict=True)),
            "seconds": round(seconds, 3), "status": status,
        }  # fmt: skip
        if self.store.key_of(row) not in self.store.done:
            self.store.append([row])


class _Tuner:
    """One compiled model and optimizer, used for all runs with one penalty."""

    def __init__(self, model, runs, penalty):
        s = runs.settings
        config = {"learning_rate": s.learning_rate, **s.optimizer_options}
        optimizer = keras.optimizers.get({"class_name": s.optimizer, "config": config})
        if penalty != "none":
            kind = {} if penalty == "plain" else {penalty: True}
            optimizer = ElasticWeightConsolidation(optimizer, 0.0, **kind)
        else:
            # Keras on TensorFlow squares the gradients of a token's occurrences one by one, not their sum, which Adam
            # means; a wrapper adds them up, here as with a penalty.
            optimizer = wrapper.OptimizerWrapper(optimizer)
        self.model, self._optimizer, self._penalty = model, optimizer, find(optimizer)
        self._batch_size = s.batch_size
        training.compile_model(model, optimizer, runs.loss)
        self._start = training.values(optimizer.variables)
        self._held_out = runs.held_out()
        self._evaluator = evaluation.Evaluator(model, runs.loss, *self._held_out[0], s.batch_size)
        zeros = [np.zeros(v.shape, "float32") for v in model.trainable_variables]
        self._nothing = self._evaluator.place(zeros)

    def begin(self, weights, strength, importances_):
        training.assign(training.model_variables(self.model), weights)
        training.assign(self._optimizer.variables, self._start)
        if self._penalty:
            self._penalty.strength = strength
            self._penalty.consolidate(importances_)

    def train(self, x, y, step, seed):
        if self._penalty:
            self._penalty.restart_meter()
        training.train(self.model, x, y, [step], self._batch_size, seed)
        backend.copied(self._optimizer.iterations)  # wait until it is done

    def losses(self):
        """Return the mean loss of a token of the old and the new text, nats."""
        found = []
        for x, y in self._held_out:
            self._evaluator.set_examples(x, y, self._batch_size)  # one compiled function serves both
            # At threshold 0 no weight is replaced.
            found.append(float(self._evaluator(self._nothing, self._nothing, [0.0]).loss[0]))
        return found

    def finite(self):
        return training.finite(training.values(self.model.trainable_variables))

    def stability(self):
        return self._penalty.stability() if self._penalty else Stability(0.0, 0.0, 0.0, 0.0, 0.0, 1.0)

    def state(self):
        return training.state(self.model, self._optimizer)

    def restore(self, arrays):
        training.restore(self.model, self._optimizer, arrays)


def _exp(loss):
    with np.errstate(over="ignore"):  # weights that explode: infinity says so
        return float(np.exp(loss))


def _kind(part):
    """Name the kind of layer that a variable belongs to."""
    if "Normalization" in type(part.layer).__name__:
        return "normalisation"
    if "Embedding" in type(part.layer).__name__:
        return "embedding"
    return "attention" if "attention" in part.layer.path else "dense"


def run(
    old="prose", new="python", model="gpt", out="data/finetuning", watch=None, progress=True, workers=1, gpus=0.0,
    **settings,
):  # fmt: skip
    """Fine-tune with every protection, or do what is missing; see `FineTuning` and `Job.run`.

    Returns:
        pandas.DataFrame. One row for each run and evaluation; the same rows are in `<out>/<run name>.csv`.

    Example:
        ```python
        frame = fine_tuning.run(measures=["fisher_empirical"], strengths=[1.0, 10.0, 100.0], seeds=range(3))
        report.at_equal_new(report.read_fine_tuning("data/finetuning"))
        ```
    """
    return FineTuning(old, new, model, out, **settings).run(watch, progress, workers, gpus)
