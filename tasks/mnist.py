"""Handwritten digits: 60,000 training and 10,000 test images of 28x28 grey pixels, 10 classes.

References:
    LeCun, Cortes and Burges, The MNIST database of handwritten digits, http://yann.lecun.com/exdb/mnist, 1998.
"""

from functools import partial

from tasks import Task, _data, _models

TASK = Task(read=partial(_data.images, "mnist", (28, 28, 1)), models=_models.MNIST_MODELS, classes=10)
