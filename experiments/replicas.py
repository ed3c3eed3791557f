"""Many runs of sequential learning side by side: one compiled step trains a whole batch of them. On JAX alone.

What differs between the runs of a batch (weights, optimizer state, importances, anchors, strength) is stacked, and
`jax.vmap` carries Keras's own training step over it. All examples lie on the device once; a run has the places of its
own, in its own order, and of every task the order of its pixels. After a task each run in turn is put into the model,
which is scored and consolidated as if it were alone.
"""

import hashlib
import time

import keras
import numpy as np
from keras import ops

from engine import active_outputs, backend, structure, training

TESTED = 500
"""Examples on which a batch of runs is tested at once."""


class Replicas:
    """Does runs side by side; keeps what is compiled and what lies on the device.

    Side by side go runs with the same penalty whose measures watch training alike: seeds, strengths, and all measures
    that watch nothing. Under the published protocol a seed goes on from the optimizer's state of the one before, so
    there it is only the strengths and measures of one seed at a time.

    Args:
        runs: experiments.sequential.Sequential.
    """

    def __init__(self, runs):
        self._runs, self.pool = runs, _Pool()
        self._plans, self._compiled = {}, {}

    def run(self, missing, finished):
        """Do runs, as many at once as the setting `replicas` says.

        Args:
            missing: list of (Protection, seed).
            finished: callable `finished(count)`, called after each batch.

        Raises:
            ValueError: the backend is TensorFlow.
        """
        if backend.NAME != "jax":
            raise ValueError(
                f"Expected replicas=1 on {backend.NAME}, where runs go one at a time; received "
                f"{self._runs.settings.replicas}. Set KERAS_BACKEND=jax before Python starts."
            )
        by_kind = {}
        for protection, seed in missing:
            kind = (*self._runs.kind(protection), protection.measure == "joint")
            by_kind.setdefault(kind, []).append((protection, seed))
        for pairs in by_kind.values():
            self._in_order_of_seeds(pairs, finished) if self._runs.carries else self._in_any_order(pairs, finished)

    def _in_any_order(self, pairs, finished):
        by_steps = {}
        for pair in pairs:
            by_steps.setdefault(self.plan(pair[1]).steps, []).append(pair)
        for alike in by_steps.values():
            for batch in _portions(alike, self._runs.settings.replicas):
                self._do(batch, [None] * len(batch))
                finished(len(batch))

    def _in_order_of_seeds(self, pairs, finished):
        runs, wanted = self._runs, {}
        for protection, seed in pairs:
            wanted.setdefault(protection, []).append(seed)
        for protections in _portions(list(wanted), runs.settings.replicas):
            leading = {p: runs.leading_to(p, min(wanted[p])) for p in protections}
            carried = {p: state for p, (_, state) in leading.items()}
            for seed in runs.settings.seeds:
                now = [p for p in protections if leading[p][0][0] <= seed <= max(wanted[p])]
                if now:
                    states = self._do([(p, seed) for p in now], [carried[p] for p in now])
                    for protection, state in zip(now, states, strict=True):
                        carried[protection] = state
                        runs.keep(protection, seed, state)
                    finished(sum(seed in wanted[p] for p in now))

    def _do(self, pairs, carried):
        learner = self._runs.learner(*pairs[0])
        if learner not in self._compiled:
            self._compiled[learner] = _Compiled(learner)
        plans = [self.plan(seed) for _, seed in pairs]
        return _Batch(self._runs, learner, self._compiled[learner], self.pool, pairs, plans, carried).run()

    def plan(self, seed):
        """Return where the examples of a seed's tasks are: _Plan."""
        if seed not in self._plans:
            self._plans[seed] = _Plan(self._runs, self.pool, seed)
        return self._plans[seed]


def _portions(items, size):
    return [items[start : start + size] for start in range(0, len(items), size)]


class _Pool:
    """Examples, each once, however many seeds deal them out differently."""

    def __init__(self):
        self._places, self._x, self._y, self._placed = {}, [], [], None

    def places(self, x, y):
        """Return where examples stand, an int32 array (examples,); those that are new are put at the end."""
        found = np.empty(len(x), "int32")
        for number, (image, label) in enumerate(zip(x, y, strict=True)):
            key = hashlib.blake2b(image.tobytes() + bytes(label), digest_size=16).digest()
            if key not in self._places:
                self._places[key] = len(self._x)
                self._x.append(image.ravel())
                self._y.append(label)
                self._placed = None
            found[number] = self._places[key]
        return found

    def on_device(self):
        """Return all examples: x (examples, values) and y (examples,), on the device."""
        if self._placed is None:
            self._host = np.stack(self._x), np.array(self._y)
            self._x = list(self._host[0])  # views, so that the arrays that were read are freed
            self._placed = tuple(map(backend.on_device, self._host))
        return self._placed

    def on_host(self, places):
        """Return examples: x (examples, values) and y (examples,)."""
        self.on_device()
        return tuple(array[places] for array in self._host)

    def labels(self, places):
        """Return the labels of examples: y (examples,)."""
        self.on_device()
        return self._host[1][places]


class _Plan:
    """Where the examples of one seed's tasks are.

    Attributes:
        places: dict from (task, part), tasks counted from 1, to an int32 array (examples,).
        pixels: int32 array (tasks, pixels), the order of the pixels in each task, or None if it is always their own.
        steps: tuple. What has to agree between runs that go side by side: (steps, batch size) of each task.
    """

    def __init__(self, runs, pool, seed):
        sequence = runs.sequence_of(seed)
        s, self.shape = runs.settings, sequence.first.input_shape
        of_base = {
            (task, part): pool.places(getattr(base, f"x_{part}"), sequence.asked(getattr(base, f"y_{part}")))
            for task, base in sequence.bases.items()
            for part in ("train", *runs.tested)
        }
        self.places = {
            (number, part): of_base[stage.task, part][_all_if_none(sequence.rows(number - 1, part))]
            for number, stage in enumerate(sequence.stages, 1)
            for part in ("train", *runs.tested)
        }
        orders = [stage.pixels for stage in sequence.stages]
        count = next((len(order) for order in orders if order is not None), None)
        own = None if count is None else np.arange(count)
        self.pixels = None if own is None else np.array([own if o is None else o for o in orders], "int32")
        self.tasks = len(orders)
        self.steps = tuple(
            training.steps_per_epoch(len(self.places[number, "train"]), s.batch_size)
            for number in range(1, self.tasks + 1)
        )

    def classes(self, pool, number):
        """Count the labels that the training examples of a task have."""
        return len(np.unique(pool.labels(self.places[number, "train"])))

    def examples(self, pool, number, last):
        """Return the last so many training examples of a task (None: all), as the model is given them."""
        x, y = pool.on_host(self.places[number, "train"][-last if last else None :])
        order = None if self.pixels is None else self.pixels[number - 1]
        return np.asarray(_ordered(x, order, self.shape)), y


class _Batch:
    """Runs that are trained side by side."""

    def __init__(self, runs, learner, compiled, pool, pairs, plans, carried):
        self._runs, self._learner, self._compiled = runs, learner, compiled
        self._pool, self._pairs, self._plans, self._tasks = pool, pairs, plans, plans[0].tasks
        self._ended = [None] * len(pairs)  # the optimizer's state of runs that are over
        start = []
        for (protection, seed), state in zip(pairs, carried, strict=True):
            self._learner.begin(runs.new_weights(seed), protection.strength, carried=state)
            self._learner.restart()
            start.append(self._of_learner())
        self._states = _stacked(start)

    def run(self):
        """Train all tasks, and write the rows of each; return the optimizer's state at the end of every run."""
        if self._pairs[0][0].measure == "joint":
            self._train(self._mixed())
            self._after(self._tasks)
        else:
            for number in range(1, self._tasks + 1):
                self._train(self._of_task(number))
                self._after(number)
        return self._ended

    def _of_task(self, number):
        """Yield, for each epoch of a task, the places of every step's examples, and the order of the pixels."""
        s = self._runs.settings
        pixels = self._over_runs(lambda plan, _: None if plan.pixels is None else plan.pixels[number - 1])
        for epoch in range((number - 1) * s.epochs + 1, number * s.epochs + 1):

            def places(plan, seed, epoch=epoch):
                own = plan.places[number, "train"]
                return own[training.order(len(own), s.batch_size, seed, epoch)]

            yield self._over_runs(places), None, pixels

    def _mixed(self):
        """Yield the same for the tasks all at once, and for every example which task it is of."""
        epochs, batch = self._runs.settings.epochs, self._runs.settings.batch_size
        pixels = self._over_runs(lambda plan, _: plan.pixels)
        parts = [
            self._runs.mixed(seed, [len(plan.places[k, "train"]) for k in range(1, plan.tasks + 1)])
            for plan, (_, seed) in zip(self._plans, self._pairs, strict=True)
        ]
        for epoch, of_runs in zip(range(1, epochs * self._tasks + 1), zip(*parts, strict=True), strict=True):
            rows, stages = [], []
            for plan, (_, seed), shares in zip(self._plans, self._pairs, of_runs, strict=True):
                places = np.concatenate([plan.places[k, "train"][share] for k, share in enumerate(shares, 1)])
                task = np.repeat(np.arange(self._tasks, dtype="int32"), [len(share) for share in shares])
                order = training.order(len(places), batch, seed, epoch)
                rows.append(places[order]), stages.append(task[order])
            yield np.stack(rows), np.stack(stages), pixels

    def _over_runs(self, function):
        found = [function(plan, seed) for plan, (_, seed) in zip(self._plans, self._pairs, strict=True)]
        return None if found[0] is None else np.stack(found)

    def _train(self, epochs):
        self._started = time.perf_counter()
        with self._runs.timed("training"):
            data = self._pool.on_device()
            # Convolutions inside a loop that XLA compiles are slow on a processor.
            at_once = None if structure.xla(self._learner.model) else 1
            for rows, stages, pixels in epochs:
                for start in range(0, rows.shape[1], at_once or rows.shape[1]):
                    now = slice(start, start + (at_once or rows.shape[1]))
                    stage = None if stages is None else stages[:, now]
                    self._states = self._compiled.train(self._states, rows[:, now], stage, pixels, *data)
            backend.to_numpy(self._states[2][:1])  # wait until it is done

    def _after(self, number):
        """Test, score and consolidate every run after a task, and write its rows."""
        runs, learner = self._runs, self._learner
        with runs.timed("evaluating"):
            accuracies = self._accuracies(number)
        with runs.timed("moving"):
            self._states = backend.to_numpy(self._states)
        seconds = (time.perf_counter() - self._started) / len(self._pairs)
        states, known = [], {}
        for place, (protection, seed) in enumerate(self._pairs):
            with runs.timed("moving"):
                self._into_learner(place)
            begun = time.perf_counter()
            if self._ended[place] is None and not learner.finite():
                runs.give_up(protection, seed, number)
                self._ended[place] = learner.optimizer_state()
            protected = number < self._tasks and protection.measure not in ("none", "joint")
            if self._ended[place] is None:
                if protected:
                    with runs.timed("scoring"):
                        scores, why = self._scores(known, place, number)
                found = [(on, *accuracies[on][place], "ok") for on in range(1, number + 1)]
                spent = seconds + time.perf_counter() - begun
                runs.write(protection, seed, number, found, learner.stability(), spent)
                gone = protected and (why or not training.finite(scores))
                if gone:
                    runs.give_up(protection, seed, number, "importances", why)
                elif protected:
                    learner.protect(scores, self._plans[place].classes(self._pool, number))
                learner.restart()
                if gone or number == self._tasks:
                    self._ended[place] = learner.optimizer_state()
            with runs.timed("moving"):
                states.append(self._of_learner())
        with runs.timed("moving"):
            self._states = _stacked(states)

    def _scores(self, known, place, number):
        (protection, seed), s = self._pairs[place], self._runs.settings
        if seed not in known:
            known.clear()
            last = s.examples if s.protocol == "published" else None
            known[seed] = self._plans[place].examples(self._pool, number, last)
        return self._runs.scores(self._learner, protection, *known[seed], seed)

    def _accuracies(self, number):
        """Return {task: float array (runs, 2)}: validation and test accuracies of every task up to this one."""
        found = {}
        for on in range(1, number + 1):
            parts = {part: self._accuracy(on, part) for part in self._runs.tested}
            found[on] = np.stack([parts.get("validation", parts["test"]), parts["test"]], axis=1)
        return found

    def _accuracy(self, on, part):
        places = [plan.places[on, part] for plan in self._plans]
        width = -(-max(map(len, places)) // TESTED) * TESTED
        rows = np.stack([np.pad(p, (0, width - len(p)), constant_values=-1) for p in places])
        pixels = self._over_runs(lambda plan, _: None if plan.pixels is None else plan.pixels[on - 1])
        data, weights = self._pool.on_device(), self._states[:2]
        right = sum(
            np.asarray(self._compiled.right(weights, rows[:, start : start + TESTED], pixels, *data))
            for start in range(0, width, TESTED)
        )
        return right / np.array([len(p) for p in places])

    def _of_learner(self):
        return [training.values(variables) for variables in self._learner.variables()]

    def _into_learner(self, place):
        for variables, stacked in zip(self._learner.variables(), self._states, strict=True):
            training.assign(variables, [array[place] for array in stacked])


class _Compiled:
    """The compiled functions of one learner, for batches of any size."""

    def __init__(self, learner):
        self._model, self._loss, self._shape = learner.model, learner.loss, learner.model.input_shape[1:]
        self.train = backend.compiled(self._train)
        self.right = backend.compiled(self._right)

    def _train(self, states, rows, stages, pixels, x, y):
        """Carry the states of all runs through some steps.

        Args:
            states: list of lists of arrays (runs, ...): weights, other variables, optimizer's, metrics'.
            rows: int array (runs, steps, batch). The examples of every step.
            stages: int array (runs, steps, batch), the task that each is of; or None: all are of one task.
            pixels: int array (runs, tasks, pixels), or for one task (runs, pixels); or None.
            x: array (examples, values).
            y: array (examples,).
        """

        def one(arguments):
            state, rows, stages, pixels = arguments

            def step(state, now):
                rows, stages = now
                order = pixels if stages is None or pixels is None else ops.take(pixels, stages, axis=0)
                inputs = _ordered(ops.take(x, rows, axis=0), order, self._shape)
                _, state = self._model.train_step(tuple(state), (inputs, ops.take(y, rows, axis=0)))
                return list(state), None

            return ops.scan(step, state, (rows, stages))[0]

        return backend.vectorised(one, (states, rows, stages, pixels))

    def _right(self, weights, rows, pixels, x, y):
        """Count for every run how many of its examples (runs, examples) are classified rightly; row -1 is none."""

        def one(arguments):
            (trainable, others), rows, pixels = arguments
            inputs = _ordered(ops.take(x, ops.maximum(rows, 0), axis=0), pixels, self._shape)
            outputs, _ = self._model.stateless_call(trainable, others, inputs, training=False)
            labels = ops.take(y, ops.maximum(rows, 0), axis=0)
            predicted = ops.argmax(active_outputs.active(self._loss, outputs, labels), axis=-1)
            hit = ops.equal(ops.cast(predicted, "int32"), labels)
            return ops.sum(ops.cast(ops.logical_and(hit, rows >= 0), "int32"))

        return backend.vectorised(one, (weights, rows, pixels))


def _all_if_none(rows):
    return slice(None) if rows is None else rows


def _ordered(x, order, shape):
    """Put the pixels of examples (examples, values) in order, (pixels,) or (examples, pixels), and into their shape."""
    if order is not None:
        flat = ops.reshape(x, (x.shape[0], order.shape[-1], -1))
        x = ops.take(flat, order, axis=1) if order.ndim == 1 else ops.take_along_axis(flat, order[..., None], axis=1)
    return ops.reshape(x, (x.shape[0], *shape))


def _stacked(states):
    """Stack the variables of several runs on a first axis."""
    return keras.tree.map_structure(lambda *arrays: np.stack(arrays), *states)
