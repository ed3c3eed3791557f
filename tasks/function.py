"""Regression: approximate a function of one number from noisy examples."""

from functools import partial

import numpy as np

from tasks import Task, _models

FUNCTIONS = {
    "sine": lambda x: np.sin(2 * np.pi * x),
    "parabola": lambda x: (2 * x - 1) ** 2,
    "absolute": lambda x: np.abs(2 * x - 1),
    "step": lambda x: np.where(x < 0.5, -1.0, 1.0),
}
TEST_EXAMPLES = 500


def read(function="sine", examples=2000, noise=0.05):
    """Draw examples y = f(x) + noise with x uniform from 0 to 1; the same ones each time.

    Args:
        function: str. One of `FUNCTIONS`. Defaults to "sine".
        examples: int. How many examples there are to train and validate on; the 500 of the test set are the same
            whatever their number. Defaults to 2000.
        noise: float. Standard deviation of the normal noise, in units of y. Defaults to 0.05.

    Returns:
        x_train, y_train, x_test, y_test: float arrays `(examples, 1)`.

    Raises:
        ValueError: no such function, fewer than two examples or a negative noise.
    """
    if function not in FUNCTIONS:
        raise ValueError(f"Expected function to be one of {', '.join(FUNCTIONS)}, received {function!r}.")
    if examples < 2 or not 0 <= noise < np.inf:
        raise ValueError(f"Expected examples >= 2 and noise >= 0, received examples={examples!r}, noise={noise!r}.")
    random = np.random.default_rng(0)
    x_test, y_test = _draw(random, FUNCTIONS[function], TEST_EXAMPLES, noise)
    x_train, y_train = _draw(random, FUNCTIONS[function], examples, noise)
    return x_train, y_train, x_test, y_test


def _draw(random, function, examples, noise):
    x = random.uniform(size=(examples, 1))
    return x, function(x) + noise * random.normal(size=(examples, 1))


TASK = Task(read=read, models={"mlp": partial(_models.mlp, hidden=(32, 32))}, classes=None)
