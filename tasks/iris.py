"""Three species of iris: 150 flowers, 4 lengths and widths of each, 30 % of them the test set.

They ship with scikit-learn.

References:
    Fisher, The Use of Multiple Measurements in Taxonomic Problems,
    https://doi.org/10.1111/j.1469-1809.1936.tb02137.x, 1936.
"""

from functools import partial

from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split

from tasks import Task, _models


def read():
    """Read the measurements `(examples, 4)`, each scaled so that it goes from 0 to 1 over the 150 flowers."""
    x, y = load_iris(return_X_y=True)
    x = (x - x.min(axis=0)) / (x.max(axis=0) - x.min(axis=0))
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.3, stratify=y, random_state=0)
    return x_train, y_train, x_test, y_test


TASK = Task(read=read, models={"mlp": partial(_models.mlp, hidden=(16, 16))}, classes=3)
