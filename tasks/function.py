"""Regression: approximate a function of one number from noisy examples."""

from functools import partial

import numpy as np

from engine import checks
from tasks import Task, _models

FUNCTIONS = {
    "sine": lambda x: np.sin(2 * np.pi * x),
    "parabola": lambda x: (2 * x - 1) ** 2,
    "absolute": lambda x: np.abs(2 * x - 1),
    "step": lambda x: np.where(x < 0.5, -1.0, 1.0),
}
TEST_EXAMPLES = 500


def read(
    function: checks.choice(*FUNCTIONS) = "sine", examples: checks.whole(2) = 2000, noise: checks.number(0) = 0.05
):  # fmt: skip
    """Draw examples y = f(x) + noise with x uniform from 0 to 1; the same ones each time.

    Args:
        function: str. One of `FUNCTIONS`. Defaults to "sine".
        examples: int. How many examples there are to train and validate on; the 500 of the test set are the same
            whatever their number. Defaults to 2000.
        noise: float. Standard deviation of the normal noise, in units of y. Defaults to 0.05.

    Returns:
        x_train, y_train, x_test, y_test: float arrays `(examples, 1)`.
    """
    random = np.random.default_rng(0)
    x_test, y_test = _draw(random, FUNCTIONS[function], TEST_EXAMPLES, noise)
    x_train, y_train = _draw(random, FUNCTIONS[function], examples, noise)
    return x_train, y_train, x_test, y_test


def _draw(random, function, examples, noise):
    x = random.uniform(size=(examples, 1))
    return x, function(x) + noise * random.normal(size=(examples, 1))


TASK = Task(read=read, models={"mlp": partial(_models.mlp, hidden=(32, 32))}, classes=None)
