"""Pieces of clothing: 60,000 training and 10,000 test images of 28x28 grey pixels, 10 classes.

References:
    Xiao, Rasul and Vollgraf, Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms,
    https://arxiv.org/abs/1708.07747, 2017.
"""

from functools import partial

from tasks import Task, _data, _models

TASK = Task(read=partial(_data.images, "fashion_mnist", (28, 28, 1)), models=_models.MNIST_MODELS, classes=10)
