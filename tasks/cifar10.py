"""Animals and vehicles: 50,000 training and 10,000 test images of 32x32 coloured pixels, 10 classes.

References:
    Krizhevsky, Learning Multiple Layers of Features from Tiny Images,
    https://www.cs.toronto.edu/~kriz/cifar.html, 2009.
"""

from functools import partial

from tasks import Task, _data, _models

TASK = Task(
    read=partial(_data.images, "cifar10", (32, 32, 3)),
    models={
        "cnn": _models.cnn_cifar10,
        "resnet": _models.resnet,
        "vit": _models.vit,
        "mlp": partial(_models.mlp, hidden=(128, 64)),
    },
    classes=10,
)
