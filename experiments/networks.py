"""Networks: made once by training, kept on disk, and taken from there by every study that asks for them.

A network is in `<out>/networks/<name>/seed-<n>/`, one file for each epoch at which it was asked for: its weights, the
state of its optimizer, and the records that trajectory measures score from, so that any measure can be asked later.
Epoch 0 is before training. The name says what made it, backend and XLA among that, which round differently: what one
backend made, no other takes. How long it was trained is no part of the name, for training goes on from the last epoch
that is kept; nor is what was recorded, which changes no weight: if a record is asked for that is not there, the network
is trained again with it, and has to become the same.

In rows, `network` is a digest of the name, the seed and the initial weights: the same at all epochs and in every study.
`weights` is a digest of the weights themselves.
"""

import contextlib
import hashlib
import json
import pathlib
import warnings

import importance
from engine import backend, training
from experiments.storage import origin
from experiments.storage.checkpoints import Checkpoints
from experiments.storage.locks import Lock

FOLDER = "networks"


class Network:
    """One network on disk; `begin` comes first.

    Args:
        out: str or path. The folder of the results.
        name: str. What made it; see `name_of`.
        seed: int.
        recorded: dict. What its training records from now on, as `recorded` gives it.

    Attributes:
        identity: str. The digest by which rows call it, once it has begun.
    """

    def __init__(self, out, name, seed, recorded=None):
        self._of, self._recorded = {"name": name, "seed": seed}, recorded or {}
        self._kept = Checkpoints(pathlib.Path(out) / FOLDER / name / f"seed-{seed}", keep=None)
        self._lock = Lock(self._kept.folder, "training")
        self._initial = self.identity = None

    def epochs(self):
        """List the epochs that are kept, ascending; 0 is before training."""
        return self._kept.epochs()

    def begin(self, fresh):
        """Return the state before training: what is kept, or else a fresh one, which then is.

        Args:
            fresh: dict, as `state` gives it.

        Returns:
            dict, likewise, without records: they begin here.

        Raises:
            ValueError: what is kept is of another network.
        """
        with self._alone():
            found = self._read(0) if 0 in self.epochs() else None
            without_records = {name: array for name, array in fresh.items() if not name.startswith("records/")}
            self._initial = without_records if found is None else found[0]
            self._of["start"] = digest(self._initial)
            if found is None:
                self._save(0, self._initial, {})
        self.identity = "n" + _digest(json.dumps(self._of, sort_keys=True).encode())
        return self._initial

    def load(self, epoch):
        """Return what was kept after an epoch.

        Args:
            epoch: int.

        Returns:
            dict, as `state` gives it; None, with a warning, if it is damaged.

        Raises:
            ValueError: the network does not have that epoch; the file is of another network, or its weights are not
                those that it was written with.
        """
        if epoch not in self.epochs():
            raise ValueError(
                f"Expected an epoch that is kept in {self._kept.folder} ({', '.join(map(str, self.epochs())) or 'none'}"
                f"), received {epoch}. Ask a study for it, which trains it."
            )
        found = self._read(epoch)
        return found and found[0]

    def take(self, epoch, needs, train):
        """Return the state after an epoch: what is kept, or trained on from the nearest epoch before it, and then kept.

        Of several processes that want it one trains, and the others wait for it.

        Args:
            epoch: int, from 1.
            needs: dict. The records that it has to have, as `recorded` gives them.
            train: callable `train(state, epochs) -> state`. Goes on from a state, both as `state` gives them.

        Returns:
            dict, as `state` gives it.

        Raises:
            ValueError: what is kept is of another network, or became another when it was trained again.
        """
        with self._alone():
            reached, state, recorded = 0, self._initial, self._recorded
            for earlier in reversed([kept for kept in self.epochs() if 0 < kept <= epoch]):
                found = self._read(earlier)
                if found is None:
                    continue
                if needs.items() <= found[1].items():
                    reached, state, recorded = earlier, found[0], found[1]
                    break
                if earlier == epoch:
                    without = ", ".join(sorted(set(needs) - {m for m, d in found[1].items() if needs.get(m) == d}))
                    warnings.warn(
                        f"The network {self._kept.path(epoch)} was kept without the record that {without} needs now, "
                        "and is trained again.",
                        stacklevel=2,
                    )
            if reached < epoch:
                state = train(state, range(reached + 1, epoch + 1))
                self._save(epoch, state, dict(recorded.items() & self._recorded.items()))
            return state

    def untrained(self, epochs, needs):
        """Count the epochs of training that are needed to have some epochs, beyond those that are kept.

        Args:
            epochs: iterable of int.
            needs: dict. As for `take`.
        """
        kept = (epoch for epoch in self.epochs() if epoch and epoch <= max(epochs))
        there = {0, *(e for e in kept if needs.items() <= self._kept.glance(e)[0].get("recorded", {}).items())}
        count = 0
        for epoch in sorted(epochs):
            count += epoch - max(one for one in there if one <= epoch)
            there.add(epoch)
        return count

    @contextlib.contextmanager
    def _alone(self):
        while not self._lock.take(wait=60):
            pass  # it ends with the process that holds it
        try:
            yield
        finally:
            self._lock.release()

    def _read(self, epoch):
        found = self._kept.read(epoch)
        if found is None:
            return None
        state, says = found
        other = origin.difference(says, {**self._of, "epoch": epoch, "digest": digest(state)})
        if other:
            raise ValueError(
                f"Expected {self._kept.path(epoch)} to be of {other}: another file was put in its place. Put the right "
                "one back, or remove it to have it trained again."
            )
        return state, says["recorded"]

    def _save(self, epoch, state, recorded):
        says = {**self._of, "epoch": epoch, "digest": digest(state)}
        before = self._kept.glance(epoch)[0].get("digest") if epoch in self.epochs() else None
        if before not in (None, says["digest"]):
            raise ValueError(
                f"Expected the weights {before} of {self._kept.path(epoch)} again, received {says['digest']}: here the "
                "training ends in others. Leave out what needs the training's record, or choose another `out`."
            )
        self._kept.save(epoch, state, **says, recorded=recorded, versions=backend.versions())


def state(model, optimizer):
    """Copy all that training changes.

    Args:
        model: keras.Model.
        optimizer: importance.Tracked, which moves it.

    Returns:
        dict from str to NumPy array: the model's variables, the optimizer's, and its records.
    """
    found = _variables(model, optimizer)
    return dict(zip(found, training.values(found.values()), strict=True))


def restore(model, optimizer, arrays):
    """Put back what `state` copied; a record that it does not have begins at the weights.

    Raises:
        ValueError: it is of another model or optimizer.
    """
    variables = {name: v for name, v in _variables(model, optimizer).items() if not name.startswith("records/")}
    others = {name: array for name, array in arrays.items() if not name.startswith("records/")}
    training.assign(variables.values(), [others[name] for name in sorted(others)])
    optimizer.restart()
    for name, record in optimizer.records().items():
        kept = arrays.get(f"records/{name}")
        if kept is not None and kept.shape == tuple(record.shape):  # a measure's file may record otherwise by now
            record.assign(kept)


def _variables(model, optimizer):
    records = optimizer.records()
    recorded = {id(record) for record in records.values()}
    others = [variable for variable in optimizer.variables if id(variable) not in recorded]
    return {
        **{f"model/{number:05d}": variable for number, variable in enumerate(training.model_variables(model))},
        **{f"optimizer/{number:05d}": variable for number, variable in enumerate(others)},
        **{f"records/{name}": record for name, record in records.items()},
    }


def digest(state):
    """Return a short digest of the weights of a network, and of all else that its model holds.

    Args:
        state: dict, as `state` gives it.

    Returns:
        str.
    """
    arrays = [state[name] for name in sorted(state) if name.startswith("model/")]
    return "w" + _digest(*(part for a in arrays for part in (f"{a.dtype}{a.shape}".encode(), a.tobytes())))


def _digest(*parts):
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part)
    return whole.hexdigest()[:12]


def name_of(task, model, **made_by):
    """Name networks by what makes them.

    Args:
        task, model: str.
        **made_by: all else that decides what they become but the seed; whatever JSON knows.

    Returns:
        str.
    """
    return f"{task}-{model}-{_digest(json.dumps([task, model, made_by], sort_keys=True).encode())[:8]}"


def record_of(measure):
    """Name the measure by whose file a measure's record is made: another's, where it takes that one's `observe`."""
    name = importance.load(measure).definition.observe.__module__.rpartition(".")[2]
    return name if name in importance.names() else measure.partition(":")[0]


def recorded():
    """Return the measures that watch training, with the digests of their files: {name: str}."""
    digests, found = importance.digests(), {}
    for name in importance.names():
        with contextlib.suppress(Exception):  # a file that is being written stands in nobody's way
            if importance.load(name).definition.observe:
                found[name] = digests[name]
    return found


def table(out="runs"):
    """List the networks that are kept, and who uses them.

    Args:
        out: str or path. The folder of the results.

    Returns:
        pandas.DataFrame. One row for each name: `network`, `seeds`, `epochs` (all that are kept of any seed),
        `megabytes`, `of_records` (those of them that only measures need that watch training), and `studies`, the runs
        in this folder whose settings files say that they are of these networks.
    """
    import pandas as pd

    out, users, rows = pathlib.Path(out), {}, []
    for path in sorted(out.glob("*.json")):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            users.setdefault(json.loads(path.read_text(encoding="utf-8")).get("networks"), []).append(path.stem)
    for folder in sorted(out.glob(f"{FOLDER}/*/")):
        seeds = [Checkpoints(seed) for seed in sorted(folder.glob("seed-*/"))]
        files = [(kept, epoch) for kept in seeds for epoch in kept.epochs()]
        sizes = [kept.glance(epoch)[1] for kept, epoch in files]
        records = sum(size for each in sizes for name, size in each.items() if name.startswith("records/"))
        rows.append({
            "network": folder.name, "seeds": len({kept.folder for kept, _ in files}),
            "epochs": ", ".join(str(epoch) for epoch in sorted({epoch for _, epoch in files})),
            "megabytes": sum(kept.path(epoch).stat().st_size for kept, epoch in files) / 1e6,
            "of_records": records / 1e6, "studies": ", ".join(users.get(folder.name, [])),
        })  # fmt: skip
    return pd.DataFrame(rows, columns=["network", "seeds", "epochs", "megabytes", "of_records", "studies"])
