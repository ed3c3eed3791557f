"""Labels: what they may be, and what a task says of others."""

import numpy as np


def numbered(name, parts):
    """Number the different training labels in sorted order.

    Args:
        name: str. The task's.
        parts: dict from "training", "test" and perhaps "validation" to inputs and labels.

    Returns:
        known: list. The labels, in that order.
        parts: dict, likewise, with labels as numbers.
    """
    labels = {part: _names_as_text(np.asarray(y)) for part, (_, y) in parts.items()}
    found = f"The {{part}} data of the task {name!r}: expected"
    for part, y in labels.items():
        if y.ndim != 1 or not y.size or y.dtype.kind not in "biuU":
            raise ValueError(
                f"{found.format(part=part)} labels of shape (examples,), integers or names; received {described(y)}. "
                f"{_remedy(y)}"
            )
    known = np.unique(labels["training"])
    if len(known) < 2:
        raise ValueError(
            f"{found.format(part='training')} two or more different labels, received {_listed(known)} alone."
        )
    for part, y in labels.items():
        strange = [label for label in np.unique(y).tolist() if label not in known.tolist()]
        if strange:
            raise ValueError(
                f"{found.format(part=part)} labels that the training data have ({_listed(known)}), received "
                f"{_listed(strange)} besides. Leave these examples out."
            )
    return known.tolist(), {part: (x, np.searchsorted(known, labels[part])) for part, (x, _) in parts.items()}


def checked(found, y, examples, classes):
    """Return labels as int32, or raise: `found` begins the sentence."""
    if y.shape != (examples,) or y.dtype.kind not in "iu" or not np.isin(y, range(classes)).all():
        raise ValueError(
            f"{found} integer labels from 0 to {classes - 1} of shape {(examples,)}; received {described(y)}. "
            f"{_remedy(y)}"
        )
    return y.astype("int32")


def check_all_occur(name, y_train, classes):
    """Raise if some class has no training example: it would count as a choice, and chance would be too low."""
    never = [] if classes is None else np.setdiff1d(np.arange(classes), y_train)
    if len(never):
        raise ValueError(
            f"The training data of the task {name!r}: expected every label from 0 to {classes - 1}; "
            f"{_listed(never)} never {'occurs' if len(never) == 1 else 'occur'}. Write the number of labels that "
            "occur as the task's classes, or 'counted', which numbers them in sorted order."
        )


def chosen(name, labels, known):
    """Return the numbers of the labels to keep, in the order given."""
    if known is None:
        raise ValueError(f"Expected labels=None for the regression task {name!r}, received labels={labels!r}.")
    labels = np.atleast_1d(labels).tolist()
    if len(labels) < 2 or len(set(labels)) < len(labels):
        raise ValueError(f"Expected labels to be two or more different ones, received {labels!r}.")
    if isinstance(known[0], str) and not any(isinstance(label, str) for label in labels):
        known = list(range(len(known)))  # names may be called by their numbers
    missing = [label for label in labels if label not in known]
    if missing:
        raise ValueError(f"Expected labels that the task {name!r} has ({known}), received {missing!r} besides.")
    return [known.index(label) for label in labels]


def described(y):
    """Say what an array of labels holds that do not fit."""
    about = f"{y.dtype} of shape {y.shape}"
    if y.dtype.kind in "iuf" and y.size:
        about += f" from {np.min(y)} to {np.max(y)}"
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        about += f", {np.count_nonzero(~np.isfinite(y))} of them NaN or infinite"
    return about


def _names_as_text(y):
    """Return an object array of names, as pandas has them, as text."""
    return y.astype(str) if y.dtype == object and all(isinstance(label, str) for label in y.flat) else y


def _remedy(y):
    """Say what makes labels of these."""
    if y.ndim == 2:
        return "Write y.reshape(-1) in the task's read()." if y.shape[1] == 1 else "Of one-hot labels take y.argmax(1)."
    if y.dtype.kind == "f":
        return "Leave out examples without a label, and write y.astype(int) in the task's read()."
    return (
        "Write classes='counted' in the task's file, which numbers integers or names in sorted order, or number them "
        "in its read(): np.unique(y, return_inverse=True)[1]."
    )


def _listed(values, most=10):
    values = np.asarray(values).tolist()
    return ", ".join(map(repr, values[:most])) + (f" and {len(values) - most} more" if len(values) > most else "")
