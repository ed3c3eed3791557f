"""What a file on disk says of where it comes from, beside what it has to come from."""

_WORDS = {
    "run": "run", "trial": "trial", "name": "network", "seed": "seed", "start": "initial weights", "epoch": "epoch",
    "digest": "weights", "data_sha256": "data", "backend": "backend", "schema": "schema", "measure": "measure",
    "measure_sha256": "measure's file", "weights_sha256": "weights",
}  # fmt: skip


def difference(says, expected):
    """Say in what a file is of something else.

    Args:
        says: dict. What the file says of itself, as JSON knows it.
        expected: dict, likewise. What it has to say; it may say more.

    Returns:
        str, "the epoch 3, received one that says 2"; None: it is what is expected.
    """
    wrong = next((name for name in expected if says.get(name) != expected[name]), None)
    if wrong is None:
        return None
    return f"the {_WORDS.get(wrong, wrong)} {expected[wrong]}, received one that says {says.get(wrong, 'nothing')}"
