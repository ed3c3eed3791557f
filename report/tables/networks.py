"""Which rows are of one network, whatever file they stand in, and which of them count where it stands in several."""

import hashlib
import json

import numpy as np
import pandas as pd

from report.tables.columns import CELL, NETWORK

TRIAL = ["task", "model", *NETWORK]
TRAINING = [
    "task", "model", "batch_size", "optimizer", "learning_rate", "optimizer_options", "labels", "validation", "options",
]  # fmt: skip
"""The settings that decide, with the seed, what a network becomes; how long it is trained is its epoch."""
CLOSE = 1e-3
"""Losses before replacing, or correlations, that differ by more than this part are not those of one network."""


def made_by(about):
    """Say in a word what made the networks of a run.

    Args:
        about: dict. What the settings file says.

    Returns:
        (made, data): the training's settings, the schema (which says how a seed is drawn from) and the backend as a
        digest, None where the file does not state them; and a digest of the data, "" where it does not state that.
    """
    settings = about.get("settings") or {}
    if not {"task", "model", "optimizer"} <= set(settings):
        return None, ""
    said = {name: settings[name] for name in TRAINING if settings.get(name) not in (None, {}, [])}
    return _digest([said, about.get("schema", 1), about.get("backend")]), _digest(about.get("data_sha256") or "")


def _digest(said):
    return said and hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]


def name_networks(frames, abouts):
    """Give the frames of several files the column `network`: what stands there already, or what their settings say.

    Args:
        frames: list of DataFrame.
        abouts: list of dict. What the settings file of each says; empty where there is none.

    Returns:
        list of DataFrame. `network` is missing where nothing says what made a network.
    """
    made = [made_by(about) for about in abouts]
    data = {}
    for name, digest in made:
        data.setdefault(name, set()).update({digest} - {""})
    found = []
    for frame, (name, digest) in zip(frames, made, strict=True):
        # A file that does not state its data has those of the others, if they all have the same.
        whole = name if len(data[name]) < 2 else f"{name}-{digest}"
        seeds = frame["seed"].map(lambda seed, whole=whole: f"{whole}-{seed:g}")
        said = seeds.where(frame["seed"].notna() & (name is not None)).astype(object)
        known = frame["network"].astype(object)
        found.append(frame.assign(network=known.where(known.notna(), said)))
    return found


def by_network(frame, place=("epoch", "examples"), value="loss_start"):
    """Call every row by its network, whatever run it is of.

    One network is what has one `network`: a digest of what made it, in rows or by their settings; where it was judged
    by several folds of the examples, each of these counts as one. Without `network`, trials of
    one task, model and seed are one network, unless what was measured of them in the same place tells them apart; where
    the task, the model or the seed is missing too, only if it agrees.

    Args:
        frame: DataFrame of rows or of scores.
        place: tuple of str. Columns that say where something was measured that tells networks apart.
        value: str. The column of what was measured. Rows have the "loss_start" of scores at threshold 0.

    Returns:
        DataFrame, the same rows with `trial`, a number for each task, model, run and seed that they came with; `run`
        and `seed` are those that the network is called by, its own in the run that holds the most networks.
    """
    frame = frame if "network" in frame else frame.assign(network=np.nan)
    frame = frame.assign(trial=frame.groupby(TRIAL, dropna=False).ngroup())
    frame = frame if "fold" in frame else frame.assign(fold=np.nan)
    trials = frame.drop_duplicates("trial").set_index("trial")[[*TRIAL, "network", "fold"]].sort_index()
    held = trials.groupby("run", dropna=False)["network"].transform("size")
    trials = trials.loc[held.sort_values(ascending=False, kind="stable").index]
    called, known = pd.Series(trials.index, trials.index), trials["network"].notna()
    same = [trials[name][known] for name in ("task", "model", "network", "fold")]
    called[known] = called[known].groupby(same, dropna=False).transform("first")
    alike = trials.assign(known=known).groupby(["task", "model", "seed"], dropna=False)["known"]
    doubtful = trials[(alike.transform("size") > 1) & ~alike.transform("all")]
    if len(doubtful):
        told = frame[frame["trial"].isin(doubtful.index)]
        told = told if value in told else told[told["threshold"] == 0].rename(columns={"validation_loss": value})
        told = told.drop_duplicates(["trial", *place]).set_index([*place]).groupby("trial")[value]
        told = dict(list(told))
        for _, group in doubtful.groupby(["task", "model", "seed"], dropna=False):
            _join(group, called, told)
    return frame.assign(**{name: trials.loc[frame["trial"].map(called), name].to_numpy() for name in NETWORK})


def _join(trials, called, told):
    """Call each trial of unknown network by the first network that nothing tells it apart from, known ones first."""
    sure = bool(trials[["task", "model", "seed"]].notna().all(axis=None))
    unknown, networks = trials["network"].isna(), {}
    for trial in [*trials.index[~unknown], *trials.index[unknown]]:
        own = told.get(trial, pd.Series(dtype=float))
        if unknown[trial]:
            called[trial] = next((name for name, known in networks.items() if _agree(own, known, sure)), trial)
        known = networks.get(called[trial])
        networks[called[trial]] = own if known is None else known.combine_first(own)


def _agree(one, other, sure):
    """Say whether two may be one network, by what was measured of both in the same places."""
    both = one.index.intersection(other.index)
    return np.allclose(one[both], other[both], rtol=CLOSE, atol=CLOSE / 10, equal_nan=True) if len(both) else sure


def once_each(frame):
    """Choose the rows that count where several trials are of one network.

    Within an epoch, level, reduction, scope and fill the trial with the most measures comes first, of equally many that
    on the most examples, then that at the most thresholds, then by the run's name. Of the others only measures are
    added that it lacks, from as many examples and thresholds: what is compared on a network was measured alike.

    Args:
        frame: DataFrame of `by_network`.

    Returns:
        DataFrame, some of its rows.
    """
    curve = [name for name in (*CELL, "other") if name in frame]
    where = [name for name in curve if name not in ("measure", "other")]
    size = {"measures": ("measure", "nunique")}
    size |= {"examples": ("examples", "max")} if "examples" in frame else {}
    size |= {"thresholds": ("threshold", "nunique")} if "threshold" in frame else {}
    size |= {"thresholds": ("thresholds", "max")} if "thresholds" in frame else {}
    trials = frame.groupby([*where, "trial"], dropna=False, as_index=False).agg(**size)
    if not trials.duplicated(where).any():
        return frame
    trials = trials.sort_values([*size, "trial"], ascending=[False] * len(size) + [True], kind="stable")
    alike = [name for name in size if name != "measures"]
    first = trials.groupby(where, dropna=False)[alike].transform("first")
    trials = trials[(trials[alike].fillna(-1) == first.fillna(-1)).all(axis=1)]
    trials = trials.assign(turn=trials.groupby(where, dropna=False).cumcount())[[*where, "trial", "turn"]]
    turns = frame[[*where, "trial"]].merge(trials, how="left", on=[*where, "trial"])["turn"].to_numpy()
    frame = frame.assign(turn=turns).dropna(subset="turn")
    return frame[frame["turn"] == frame.groupby(curve, dropna=False)["turn"].transform("min")].drop(columns="turn")


def in_one_division(frame):
    """Choose the rows of one division of the examples into folds of each network: folds of two overlap.

    Args:
        frame: DataFrame of `by_network`, of scores.

    Returns:
        DataFrame. Of each task, model and network the division with the most measures, of equally many with the most
        folds; all rows where there are no folds.
    """
    if "fold" not in frame or frame["fold"].isna().all():
        return frame
    whole = ["task", "model", "network"]
    frame = frame.assign(division=frame["fold"].str.partition("/")[2].astype(float))
    found = frame.groupby([*whole, "division"], dropna=False, as_index=False)["measure"].nunique()
    most = found.sort_values(["measure", "division"]).drop_duplicates(whole, keep="last")
    chosen = frame[whole].merge(most, how="left", on=whole)["division"].to_numpy()
    kept = (frame["division"] == chosen) | frame["division"].isna()
    return frame[kept].drop(columns="division")


def at_one_checkpoint(frame):
    """Choose the rows of one checkpoint of each task and model: where most networks are, of equally many the latest.

    Args:
        frame: DataFrame of `by_network`, each run at its last checkpoint or at one that was asked for.

    Returns:
        DataFrame, some of its rows.
    """
    where = ["task", "model"]
    there = frame.drop_duplicates([*TRIAL, "epoch"]).groupby([*where, "epoch"], dropna=False, as_index=False).size()
    most = there.sort_values(["size", "epoch"]).drop_duplicates(where, keep="last")
    return frame[frame["epoch"] == frame[where].merge(most, how="left", on=where)["epoch"].to_numpy()]
