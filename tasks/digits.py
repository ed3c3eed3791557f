"""Small handwritten digits: 1,797 images of 8x8 grey pixels, 10 classes, a fifth of them the test set.

They ship with scikit-learn, so this is the task to try things on: no download, and an epoch takes a moment.

References:
    Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, https://doi.org/10.24432/C50P49, 1998.
"""

from functools import partial

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from tasks import Task, _models


def read():
    """Read the images `(examples, 8, 8, 1)`, whose pixels count 0 to 16, as floats from 0 to 1."""
    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        x.reshape(-1, 8, 8, 1) / 16, y, test_size=0.2, stratify=y, random_state=0
    )
    return x_train, y_train, x_test, y_test


TASK = Task(read=read, models={"mlp": partial(_models.mlp, hidden=(32, 16)), "cnn": _models.cnn_small}, classes=10)
