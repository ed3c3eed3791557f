"""Every draw has a name: what is drawn for one purpose says nothing about what is drawn for another.

`default_rng([seed, number])` would be one stream for all who count from 0: the shuffle of the first layer's ties would
be the noise of the first variable.
"""

import hashlib
import json

import numpy as np


def number(seed, name, *index, bits=128):
    """Return a number that stands for one draw, to seed it with.

    Args:
        seed: int. The run's.
        name: str. What is drawn, such as "ties".
        *index: int. Which of several draws of this name.
        bits: int, up to 256. How large the number may be; `keras.utils.set_random_seed` takes 32.

    Returns:
        int from 0 to 2**bits - 1, the same on every machine.

    Example:
        >>> number(0, "ties", 1, bits=32), number(0, "noise", 1, bits=32)
        (932262834, 1474206554)
    """
    said = json.dumps([name, int(seed), *map(int, index)])
    return int.from_bytes(hashlib.sha256(said.encode()).digest(), "big") >> (256 - bits)


def generator(seed, name, *index):
    """Return a NumPy generator for one draw; see `number`.

    Args:
        seed: int. The run's.
        name: str. What is drawn, such as "ties".
        *index: int. Which of several draws of this name.

    Returns:
        numpy.random.Generator. Different seeds, names and indices give streams that have nothing in common.

    Example:
        >>> generator(0, "ties", 1).permutation(5).tolist() == generator(0, "ties", 1).permutation(5).tolist()
        True
    """
    return np.random.default_rng(number(seed, name, *index))
