"""English prose that comes with every Python: the reference manual's topics, half a million characters."""

import random
from pydoc_data.topics import topics


def read():
    """Join the topics, in an order that is always the same and mixes what is to be held out with the rest."""
    names = sorted(topics)
    random.Random(0).shuffle(names)
    return "\n".join(topics[name] for name in names)


TEXT = read
