"""Files of earlier studies: other columns, the trial number in the file name, nothing recorded about the run."""

import re

import numpy as np

COLUMNS = ["Epoch", "EWC Method", "Threshold Value", "Loss", "Validation Loss"]
"""What such a file must have; `Aggregation Level` and an unnamed index may be there too."""

LEVELS = {"no_aggregation": "weight", "unit": "unit", "conv_filter": "conv_filter"}

MEASURES = {
    # Squares of *batch* gradients (there: of the log of the outputs, which are logits), so not the per-example Fisher.
    "fisher_matrix": "fisher_batched",
    "fisher_information_matrix": "fisher_batched",
    "fisher_information": "fisher_batched",
    "fisher": "fisher_batched",
    "fim": "fisher_batched",
    # 1 / (1 + number of sign changes).
    "sign_flipping": "sign_stability",
    "sign_flip": "sign_stability",
    # 1 / (1 + number of changes of direction): it has no momentum in it.
    "momentum_based": "direction_stability",
    "momentum": "direction_stability",
    # 1 / (1 + change), so important = moved little; there the steps kept their signs and cancelled each other.
    "weight_change": "weight_stability",
    "total_weight_change": "weight_stability",
    # There the signed weight, without the absolute value.
    "weight_magnitude": "magnitude",
    "inverse_weight_magnitude": "inverse_magnitude",
    "random": "random",
}
"""Their names and the measure of ours that means the same; a name that is not here becomes its own snake_case."""


REDEFINED = {"hessian": ("at=weights", "aef64020dd556a89")}
"""Measures that became others under their name: what they were is said by an option now, and by which digest of their
file. Settings files of schema 1, not all of which have digests, are of that one too."""


def is_legacy(columns):
    """Tell whether a header is one of an earlier study."""
    return {"EWC Method", "Threshold Value"} <= set(columns)


def snake_case(name):
    """Write a name in snake_case: "Fisher Information Matrix", "FisherInformationMatrix" and "fisher_..." agree."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", str(name))
    return re.sub(r"[^a-z0-9]+", "_", spaced.lower()).strip("_")


def trial(stem):
    """Split a file name into the run and the trial, as in `losses_TRIAL_7` -> ("losses", 7.0); no trial is NaN."""
    found = re.fullmatch(r"(.*?)_?TRIAL_?(\d+)", stem, re.IGNORECASE)
    return (found[1], float(found[2])) if found else (stem, np.nan)


def translate(frame, stem):
    """Give an earlier study's rows our columns.

    The trial is the seed, the file name without it the run and what the task is called by, and the validation loss is
    kept. `called` is what a measure is called there. Model, scope, fill,
    replaced fractions and everything else that the file does not say stay missing. `Loss`, measured on the training
    data, has no column here.

    Args:
        frame: DataFrame with `COLUMNS`.
        stem: str. The file's name without its ending.

    Returns:
        DataFrame with those of our columns that the file knows.
    """
    run, seed = trial(stem)
    names = frame["EWC Method"].map(snake_case)
    columns = {
        "run": run,
        "task": f"{run} (task unknown)",  # files of another name may be of another task, and are not pooled with these
        "seed": seed,
        "epoch": frame["Epoch"],
        "measure": names.map(lambda name: MEASURES.get(name, name)),
        "called": frame["EWC Method"].astype(str),
        "threshold": frame["Threshold Value"],
        "validation_loss": frame["Validation Loss"],
    }
    if "Aggregation Level" in frame:
        levels = frame["Aggregation Level"].dropna().map(snake_case)
        columns["level"] = levels.map(lambda name: LEVELS.get(name, name)).reindex(frame.index)
    return frame[[]].assign(**columns)


def has_redefined(frame):
    """Tell whether rows are of a measure that became another under its name."""
    return frame["measure"].astype(str).str.partition(":")[0].isin(REDEFINED).any()


def name_redefined(frame, known, columns=("measure",)):
    """Call measures what they are called now, in a file from before they were redefined.

    Args:
        frame: DataFrame, the rows of one file in their order.
        known: dict. What its settings file says. Without one nothing is known, and names stay.
        columns: columns of measures' names.

    Returns:
        DataFrame, the same rows, and `called`, the name in the file, where it is another now.
    """
    for name, (option, digest) in REDEFINED.items():
        unsaid = digest if known and known.get("schema", 1) < 2 else None  # a lost settings file that was written anew
        if known.get("measures_sha256", {}).get(name, unsaid) != digest:
            continue
        # A run that was continued after the change has rows of both.
        since = [made["rows"] for made in known.get("provenance", []) if name in made.get("measures_sha256", {})]
        before = np.arange(len(frame)) < min(since, default=len(frame))
        for column in columns:
            of = frame[column].astype(str)
            options = of.str.partition(":")[2]
            renamed = of.str.partition(":")[0].eq(name) & ~options.str.contains("at=") & before
            if renamed.any():
                now = f"{name}:{option}" + options.where(options == "", "," + options)
                if column == "measure":
                    frame = frame.assign(called=of.where(renamed, frame.get("called", np.nan)))
                frame = frame.assign(**{column: frame[column].mask(renamed, now)})
    return frame


def name_means(frame):
    """Call a file of means over trials what it is, where the trials are there too.

    Args:
        frame: DataFrame of `report.read`. Rows without a seed are of a file without a trial in its name.

    Returns:
        DataFrame, the same rows. The run and the task of those that are the means of the trials of a run of the same
        name say so: they are no further network.
    """
    for run in frame.loc[frame["seed"].isna(), "run"].unique():
        rows = frame[frame["run"] == run]
        whole, trials = rows[rows["seed"].isna()], rows[rows["seed"].notna()]
        place = ["epoch", "measure", "level", "threshold"]
        means = trials.groupby(place, dropna=False)["validation_loss"].mean()
        given = whole.groupby(place, dropna=False)["validation_loss"].mean()
        both = given.index.intersection(means.index)
        if len(both) and np.allclose(given[both], means[both], rtol=1e-4):
            name = f"{run} (mean over {trials['seed'].nunique()} trials)"
            frame.loc[whole.index, ["run", "task"]] = name
    return frame
