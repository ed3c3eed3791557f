"""Python source: modules of the standard library, about a million characters."""

import random
import sysconfig
from pathlib import Path

_CHARACTERS = 1_000_000


def read():
    """Join modules at the top of the library, in an order that is always the same, up to a million characters."""
    paths = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    random.Random(0).shuffle(paths)
    found = []
    for path in paths:
        found.append(path.read_text(encoding="utf-8"))
        if sum(map(len, found)) >= _CHARACTERS:
            break
    return "\n".join(found)[:_CHARACTERS]


TEXT = read
