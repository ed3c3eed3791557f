"""Fine-tuning a language model on a new text, its knowledge of the old one protected by importances.

A model is pretrained on the old text once for each seed, or comes trained; measures score it there. For each measure x
penalty x strength x seed it is fine-tuned on the new text, and the perplexities of both texts on what was held out of
them are recorded as it goes on. Plain fine-tuning (measure "none", strength 0) stands beside; and where asked for, that
of low-rank factors (measure "lora", whose strength is the rank), which penalties such as "plain:lora=8" protect, and of
replay of some of the old text (measure "replay", whose strength is how many per cent).
"""

import dataclasses
import functools
import hashlib
import itertools
import json
import math
import pathlib
import re
import time
import warnings
from contextlib import contextmanager

import keras
import numpy as np

import consolidation
import importance
from engine import backend, checks, draws, evaluation, structure, training, wrapper
from experiments import optimizers, shared, unfit
from experiments.protection import (
    CHECKS,
    ENDS,
    LOW_RANK,
    METER,
    Learner,
    Protection,
    a_penalty_of_factors,
    check_some,
    hold,
    meter,
    protections,
)
from experiments.settings import Settings
from experiments.storage import importances, locks
from experiments.storage.checkpoints import Checkpoints
from experiments.storage.store import SCHEMA, Store, provenance
from experiments.study import Study, new_optimizer
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
REPLAYED = 0.25
"""The share of replayed sequences."""
_percent = checks.Check(
    "numbers above 0 and at most 100, per cent of the old text",
    lambda name, value: float(checks.number(above=0, most=100).take(name, value)),
)
_AT_ONCE = 100
"""Steps of pretraining from one checkpoint to the next."""


@dataclasses.dataclass(frozen=True)
class FineTuningSettings(Settings):
    """What a run of fine-tuning does. Measures, penalties, strengths and seeds are no part of its name.

    Attributes:
        old: str. The text that the model knows: a file in `tasks/texts/`, or the path of a text file.
        new: str. The text that it is fine-tuned on, likewise.
        model: str. "gpt", or a GPT-2 preset of KerasHub, by name or folder.
        measures: tuple of str. Files in `importance/`, with options if wanted; none that watches training.
        penalties: tuple of str. Among "plain", "stabilized", "decoupled" and "clamped", and "plain:adaptive",
            "stabilized:adaptive" and "clamped:adaptive", whose strength follows the gradients.
            With "lora=<rank>" as in "plain:lora=8" or "plain:adaptive,lora=8", low-rank factors are tuned in place of
            the weights, and their product is held (`consolidation.LowRankConsolidation`).
        strengths: tuple of float, above 0. Of the penalty (strength / 2) * sum Omega (w - w*)^2; of an adaptive one,
            its rho.
        lora: tuple of int, above 0. Ranks: for each, a run in which the factors are tuned without a penalty.
        replay: tuple of float, above 0 and at most 100. How many per cent of the old text's training part are kept, in
            one piece, a larger one with the smaller in it: for each, a run without a penalty in which a quarter of the
            sequences are drawn from that piece in place of the new text.
        scaled: bool. Whether importances are divided by their mean over all weights, so that one grid of strengths
            serves all measures.
        sequence_length: int. Tokens.
        batch_size: int. Sequences.
        pretraining_steps: int or None. On the old text; None: 1500, or 0 for a preset.
        pretraining_rate: float. Learning rate (Adam).
        pretrainings: int or None. How many models are pretrained: a seed's fine-tuning begins with the one of number
            seed modulo that. Seeds that share one say nothing of how pretrained models differ. None: each its own.
        steps: int. Of fine-tuning.
        every: int. Steps from one evaluation to the next; the last step is always one.
        optimizer: str. A Keras optimizer's name, for fine-tuning.
        learning_rate: float. Of it.
        optimizer_options: dict. Further arguments of it.
        examples: int. Sequences of the old text that measures look at.
        per_token: bool. Whether an example is one token of a sequence; else the whole sequence, with the mean of its
            tokens' losses.
        evaluated: int. Sequences of each text's held-out part that losses are measured on.
        model_options: dict. Of "gpt"; see `tasks.texts.language`.
        seeds: tuple of int. One run each.
    """

    VARIED = frozenset({"seeds", "measures", "penalties", "strengths", "lora", "replay"})
    NAMED_BY = ("about",)
    CHECKS = (
        Settings.CHECKS
        | CHECKS
        | {
            **dict.fromkeys(("old", "new", "model"), checks.path),
            "penalties": checks.several(a_penalty_of_factors, least=0),
            "lora": checks.several(checks.whole(), least=0),
            "replay": checks.several(_percent, least=0),
            "pretraining_steps": checks.optional(checks.whole(0)),
            "pretrainings": checks.optional(checks.whole()),
        }
    )

    old: str = "prose"
    new: str = "python"
    model: str = "gpt"
    measures: tuple = ()
    penalties: tuple = ("plain", "stabilized", "decoupled")
    strengths: tuple = ()
    scaled: bool = True
    sequence_length: int = 64
    batch_size: int = 32
    pretraining_steps: int | None = None
    pretraining_rate: float = 2e-3
    steps: int = 150
    every: int = 15
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    optimizer_options: dict = dataclasses.field(default_factory=dict)
    examples: int = 512
    per_token: bool = False
    evaluated: int = 256
    model_options: dict = dataclasses.field(default_factory=dict)
    seeds: tuple = (0,)
    lora: tuple = ()
    replay: tuple = ()
    pretrainings: int | None = None

    def __post_init__(self):
        super().__post_init__()
        check_some(self)
        chosen = optimizers.check(self.optimizer, self.optimizer_options)
        object.__setattr__(self, "optimizer_options", chosen)
        texts.check_options(self.model, self.model_options)
        watching = [m for m in self.measures if importance.load(m).definition.observe is not None]
        if watching:
            raise ValueError(
                f"Expected measures that need no record of the training, since the pretrained model is kept without "
                f"one; received {', '.join(watching)}."
            )

    @property
    def about(self):
        """What the name begins with: the model, and what becomes of it."""
        stems = [re.sub(r"[^A-Za-z0-9.]", "_", pathlib.Path(name).stem) for name in (self.model, self.old, self.new)]
        return "{}-{}-to-{}".format(*stems)

    @property
    def checkpoints(self):
        """The steps after which both texts are evaluated: every `every`, and the last."""
        return sorted({*range(self.every, self.steps + 1, self.every), self.steps})


class FineTuning(Study):
    """Runs of fine-tuning: settings, files, and compiled models.

    Args:
        old: str or path. The text that the model knows: a file in `tasks/texts/`, or a text file.
        new: str or path. The text that it is fine-tuned on.
        model: str or path. "gpt", or a GPT-2 preset of KerasHub, by name or folder.
        out: str or path. The folder for the CSV, its settings file, `pretrained/` and `checkpoints/`.
        **settings: see `FineTuningSettings`.

    Attributes:
        settings: FineTuningSettings.
        store: experiments.storage.store.Store. One row for each run and evaluation.
        spread: experiments.storage.store.Store. `<run>-importances.csv`: one row for each measure, seed and variable
            of the pretrained models: what `kind` of layer has it, and the mean and the largest importance (not scaled).
        timings: dict. Seconds of the last `run` spent in "pretraining", "scoring", "training", "evaluating", and in
            "total".

    Raises:
        ValueError: a setting that cannot be; a text that is empty, too short or no UTF-8; a folder that is no preset,
            a sequence that is longer than the preset's model takes.
        FileNotFoundError: no such text.
        ImportError: a preset, and KerasHub is not installed.
        OSError: a folder that cannot be written.
    """

    SETTINGS, KEY, COLUMNS = FineTuningSettings, KEY, COLUMNS
    PARTS, PREPARED = ("pretraining", "scoring", "training", "evaluating"), False

    def __init__(self, old="prose", new="python", model="gpt", out="runs/finetuning", **settings):
        self.settings = s = FineTuningSettings(old=old, new=new, model=model, **settings)
        self._language = texts.language(s.model, **s.model_options)
        self._old, self._new = (texts.load(text, self._language, s.sequence_length) for text in (s.old, s.new))
        self.loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.open(out, data_sha256={"old": self._old.digest, "new": self._new.digest})
        self.spread = Store(out, f"{s.name}-importances", SPREAD, SPREAD_KEY, run=s.name)
        self._made, self._scores, self._held_out, self._start = {}, {}, None, None
        least = 100 * (s.sequence_length + 1) / len(self._old.train)
        if s.replay and min(s.replay) < least:
            raise ValueError(
                f"Expected replay of a piece that is longer than a sequence of {s.sequence_length} tokens, at least "
                f"{least:.2g} per cent of the old text, received {min(s.replay):g}."
            )

    @property
    def stores(self):
        """The files that rows go to; see `experiments.workers.desk`."""
        return [self.store, self.spread]

    def cells(self):
        """List what is asked for: a trial is one run, a (protection, seed)."""
        s = self.settings
        for seed in s.seeds:
            asked = {"lora": s.lora, "replay": s.replay}
            others = [Protection(name, "none", float(value)) for name, values in asked.items() for value in values]
            for protection in (UNPROTECTED, *others, *protections(s)):
                yield protection.trial(seed), (protection, seed), self._cells(protection, seed)

    def do(self, missing):
        """Do the runs that are missing of a trial."""
        for (protection, seed), _ in missing:
            self.begun(str(protection))
            self._run(protection, seed)
            self.finished()

    def try_measures(self, measures):
        """Score a model by each measure, before it is trained; return {measure: None, or why that failed}."""
        found, seed = {}, self.settings.seeds[0]
        weights = self._new_weights(seed)
        for measure in measures:
            for examples in (min(unfit.EXAMPLES, self.settings.examples), self.settings.examples):
                score = functools.partial(self._score, weights, measure, seed, examples)
                _, found[measure] = unfit.attempt(score, self._scored()[0])
                if found[measure] is None:
                    break
        return found

    def pretrained(self, seed):
        """Return the weights that a seed's fine-tuning begins with: list of arrays, as `training.model_variables`.

        They are trained once and kept in `<out>/pretrained/`, for all runs with the same model and old text.
        """
        seed = self._begins_with(seed)
        if self._start is None or self._start[0] != seed:
            self._start = seed, self._pretrained(seed)
        return self._start[1]

    def scores(self, measure, seed):
        """Score the pretrained model on the old text.

        The importances are kept beside the pretrained weights, `<measure>-seed-<seed>.npz`; see
        `experiments.storage.importances`.

        Args:
            measure: str.
            seed: int.

        Returns:
            list of float32 arrays like the model's trainable variables, not scaled.
        """
        seed = self._begins_with(seed)
        if (measure, seed) not in self._scores:
            s = self.settings
            named = Protection(measure, "tokens" if s.per_token else "sequences", s.examples)
            path = self._kept / f"{named.trial(seed)}.npz"
            start = self.pretrained(seed)
            digest = hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in start)).hexdigest()
            of = {
                "trial": path.stem, **self._pretraining(), "measure": measure, "seed": seed, "weights_sha256": digest,
                "measure_sha256": self.comes_from(measure)["measure_sha256"],
            }  # fmt: skip
            with self._alone(path.stem), self.timed("scoring"):
                found = importances.kept(path, of)
                if found is None:
                    found = self._score(start, measure, seed, s.examples)
                    importances.save(path, found, **{**provenance(), **of, "settings": s.as_dict()})
            self._scores[measure, seed] = found
        return self._scores[measure, seed]

    def _scored(self):
        """Return the model that is scored, and what it is scored as: itself, or a model of one position."""
        one = texts.one_position if self.settings.per_token else lambda model: model
        return self._compiled("scored", lambda model: (model, one(model)))

    def _score(self, weights, measure, seed, examples):
        s, (model, asked) = self.settings, self._scored()
        training.assign(training.model_variables(model), weights)
        x, y = self._old.draw(examples, draws.generator(seed, "scored sequences"))
        if s.per_token:
            places = draws.generator(seed, "scored tokens").integers(0, s.sequence_length, examples)
            x, y = np.concatenate([places[:, None], x], axis=1), y[np.arange(examples), places]
        return importance.load(measure).score(
            asked, x.astype("int32"), y.astype("int32"), seed=seed, loss=self.loss, examples=None
        )

    def _record_spread(self, tuner, measure, seed):
        seed = self._begins_with(seed)
        scores = self.scores(measure, seed)
        rows = [
            {
                "run": self.settings.name, "model": self._language.name, "measure": measure, "seed": seed,
                "variable": variable.path, "kind": kind, "size": score.size, "mean": score.mean(dtype="float64"),
                "largest": float(score.max()),
            }
            for kind, variable, score in zip(tuner.kinds, tuner.scored, scores, strict=True)
        ]  # fmt: skip
        self.spread.complete(rows)

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
        about = list(self._pretraining().values())
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:8]
        return self.store.folder / "pretrained" / f"{self._language.name}-{self._old.name}-{digest}"

    def _pretraining(self):
        """Return what the pretraining of a seed comes from: dict, as JSON knows it."""
        s = self.settings
        return {
            "data_sha256": self._old.digest, "model": s.model, "model_options": s.as_dict()["model_options"],
            "sequence_length": s.sequence_length, "batch_size": s.batch_size, "steps": self._pretraining_steps(),
            "pretraining_rate": s.pretraining_rate, "backend": backend.NAME, "schema": SCHEMA,
        }  # fmt: skip

    def _pretraining_steps(self):
        asked = self.settings.pretraining_steps
        return asked if asked is not None else 0 if self._language.pretrained else PRETRAINING_STEPS

    def _pretrained(self, seed):
        """Read the weights of a pretrained model, or train them."""
        steps, weights = self._pretraining_steps(), self._new_weights(seed)
        if not steps:
            return weights
        kept = Checkpoints(self._kept / f"seed-{seed}", of={"trial": f"seed-{seed}", **self._pretraining()})
        with self._alone(f"seed-{seed}"), self.timed("pretraining"):
            reached, arrays = kept.latest(steps)
            if reached < steps:
                arrays = self._pretrain(weights, seed, kept, reached, arrays)
        return arrays[: len(weights)]

    def _new_weights(self, seed):
        return training.values(training.model_variables(training.initial(self._build, seed)))

    def _begins_with(self, seed):
        """Return the seed of the pretrained model that a seed's fine-tuning begins with."""
        models = self.settings.pretrainings
        return seed if models is None else seed % models

    def _pretrain(self, weights, seed, kept, reached, arrays):
        s, steps = self.settings, self._pretraining_steps()
        adam = keras.optimizers.Adam(s.pretraining_rate)
        learner = self._compiled("pretrained", lambda model: Learner(model, adam, self.loss, s.batch_size))
        learner.begin(weights, 0.0)
        if reached:
            learner.restore(arrays)
        ends = [*range(0, steps, _AT_ONCE), steps]
        for begin, end in itertools.pairwise(ends):
            if end > reached:
                x, y = self._old.draw((end - begin) * s.batch_size, draws.generator(seed, "pretraining", end))
                learner.train(x, y, [end], draws.number(seed, "pretraining"))
                kept.save(end, learner.state())
        return learner.state()

    def _run(self, protection, seed):
        """Fine-tune once, from the last evaluation that was written."""
        s, started = self.settings, time.perf_counter()
        done = self.store.done
        rank, penalty = protection.rank, protection.penalty
        kind = penalty if penalty != "none" or rank is None else f"none:{LOW_RANK}{rank}"
        tuner = self._compiled(kind, lambda model: _Tuner(model, self, penalty, rank))
        pretrained, importances_ = self.pretrained(seed), None
        if penalty != "none":
            scaled = functools.partial(self._scaled, protection.measure, seed)
            importances_, why = unfit.attempt(scaled, tuner.model)
            if why:
                self._give_up(protection, seed, 0, why)
                return
            self._record_spread(tuner, protection.measure, seed)
        tuner.begin_from(pretrained, protection.strength, importances_, seed)
        kept = self.checkpoints(protection.trial(seed), protection.measure)
        written = [c["step"] for c in self._cells(protection, seed) if self.store.key_of(c) in done]
        reached, arrays = kept.latest(max(written, default=0))
        if reached:
            tuner.restore(arrays)
        if 0 not in written:
            self._record(tuner, protection, seed, 0, started)
        for before, step in itertools.pairwise([0, *s.checkpoints]):
            if step <= reached:
                continue
            x, y = self._trained_on(protection, seed, before, step)
            started = time.perf_counter()
            with self.timed("training"):
                tuner.train(x, y, [step], seed)
            if not tuner.finite():
                self._give_up(protection, seed, step, f"weights are not finite at step {step}")
                break
            if step not in written:
                self._record(tuner, protection, seed, step, started)
            kept.save(step, tuner.state())
        kept.clear()

    def _trained_on(self, protection, seed, before, step):
        """Return the sequences of some steps: of the new text; with replay, some of the piece kept of the old one."""
        count = (step - before) * self.settings.batch_size
        own = self._new.draw(count, draws.generator(seed, "fine-tuning", step))
        if protection.measure != "replay":
            return own
        kept, replayed = self._kept_piece(protection.strength, seed), round(REPLAYED * count)
        earlier = kept.draw(replayed, draws.generator(seed, "replayed sequences", step))
        return tuple(np.concatenate([old, new[replayed:]]) for old, new in zip(earlier, own, strict=True))

    def _kept_piece(self, percent, seed):
        """Return so many per cent of the old text, from a place that the seed decides; it goes on at the start."""
        tokens = self._old.train
        begin, size = draws.generator(seed, "replayed text").integers(len(tokens)), round(len(tokens) * percent / 100)
        return self._old._replace(train=np.roll(tokens, -begin)[:size])

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

    def _build(self):
        return self._language.build(self.settings.sequence_length)

    def _compiled(self, what, make):
        """Return `make(model)`, now or of an earlier study of this process that compiles the same.

        Args:
            what: str. "pretrained", "scored" or a penalty, "none:lora=8" for factors without one.
            make: callable. From an untrained model to what is compiled of it.
        """
        if what not in self._made:
            s, model = self.settings, self._build()
            said = [s.batch_size, s.evaluated, s.per_token, s.pretraining_rate, self._old.digest, self._new.digest]
            identity = shared.identity(model, self.loss, new_optimizer(s), said=said)
            self._made[what] = shared.kept((identity, what), lambda: make(model))
        return self._made[what]

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

    def _give_up(self, protection, seed, step, reason):
        """Record why a run ended, with NaN for the steps that are left."""
        warnings.warn(f"With {protection!r}, seed {seed}, {reason}; the run is recorded so.", stacklevel=2)
        for left in (c for c in (0, *self.settings.checkpoints) if c >= step):
            self._write(protection, seed, left, [math.nan] * 2, None, math.nan, reason)

    def _write(self, protection, seed, step, losses, stability, seconds, status):
        row = {
            "run": self.settings.name, "model": self._language.name, "old_text": self._old.name,
            "new_text": self._new.name, **protection._asdict(), "seed": seed, "step": step,
            **dict(zip(("old_loss", "new_loss"), losses, strict=True)),
            **{f"{text}_perplexity": _exp(loss) for text, loss in zip(("old", "new"), losses, strict=True)},
            **meter(stability),
            "seconds": round(seconds, 3), "status": status,
        }  # fmt: skip
        self.store.complete([row])


class _Tuner(Learner):
    """The learner of all runs with one penalty and rank, and what measures its losses.

    Attributes:
        scored: list of keras.Variable. Those that importances are of: the trainable ones of the pretrained model.
        kinds: list of str. The kind of layer that each of them belongs to.
    """

    def __init__(self, model, runs, penalty, rank):
        s = runs.settings
        self._pretrained, self._rank = training.model_variables(model), rank
        self.scored, self.kinds = list(model.trainable_variables), [_kind(part) for part in structure.parts(model)]
        factors = None
        if rank is not None:
            consolidation.enable_lora(model, rank)
            factors = consolidation.factors(model)
        # Keras on TensorFlow squares the gradients of a token's occurrences one by one, not their sum, which Adam
        # means. It is given the sum, with a penalty and without.
        optimizer = hold(wrapper.Summed(new_optimizer(s)), penalty, factors)
        super().__init__(model, optimizer, runs.loss, s.batch_size)
        self._held_out = runs.held_out()
        self._evaluator = evaluation.Evaluator(model, runs.loss, *self._held_out[0], s.batch_size)
        zeros = [np.zeros(v.shape, "float32") for v in model.trainable_variables]
        self._nothing = self._evaluator.place(zeros)

    def begin_from(self, weights, strength, importances, seed):
        """Begin a run at the pretrained weights, with factors, if there are any, that the seed decides."""
        if self._rank is not None:
            consolidation.merge_lora(self.model, draws.number(seed, "low-rank factors", bits=32))
            training.assign(self._pretrained, weights)
            weights = training.values(training.model_variables(self.model))
        self.begin(weights, strength)
        if importances is not None:
            self.protect(importances)

    def protect(self, importances, classes=None):
        """Hold the weights, or the kernels that factors make, where they are."""
        if self._rank is None:
            super().protect(importances, classes)
        else:
            self._penalty.consolidate(importances, self.scored)

    def losses(self):
        """Return the mean loss of a token of the old and the new text, nats."""
        found = []
        for x, y in self._held_out:
            self._evaluator.set_examples(x, y, self._batch_size)  # one compiled function serves both
            # At threshold 0 no weight is replaced.
            found.append(float(self._evaluator(self._nothing, self._nothing, [0.0]).loss[0]))
        return found


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
    old="prose", new="python", model="gpt", out="runs/finetuning", watch=None, progress=True, workers=1, gpus=0.0,
    **settings,
):  # fmt: skip
    """Fine-tune with every protection, or do what is missing; see `FineTuning` and `Study.run`.

    Returns:
        pandas.DataFrame. One row for each run and evaluation; the same rows are in `<out>/<run name>.csv`.

    Example:
        ```python
        frame = fine_tuning.run(measures=["fisher_empirical"], strengths=[1.0, 10.0, 100.0], seeds=range(3))
        report.at_equal_new(report.read_fine_tuning("runs/finetuning"))
        ```
    """
    return FineTuning(old, new, model, out, **settings).run(watch, progress, workers, gpus)


STUDY = FineTuning
