"""The networks: functions from an example's shape and the number of outputs to a Keras model that is not compiled.

Nothing here takes a seed: weights, dropout and augmentation draw from Keras's global random state, so
`keras.utils.set_random_seed` before building makes all of it reproducible.
"""

import math
from functools import partial

import keras
from keras import layers


def mlp(input_shape, outputs, hidden=(300, 150)):
    """Build a fully connected network with LeakyReLU of slope 0.01.

    Kernels and biases start uniform in +-1/sqrt(fan_in). With its defaults and 784 inputs it is the network
    784-300-150-10 of the paper.

    Args:
        input_shape: tuple of int. Shape of one example; it is flattened.
        outputs: int. Number of outputs.
        hidden: tuple of int. Units of each hidden layer.

    Returns:
        keras.Model.

    References:
        Kutalev and Lapina, Stabilizing Elastic Weight Consolidation method in practical ML tasks and using weight
        importances for neural network pruning, https://arxiv.org/abs/2109.10021, 2021.
    """
    sizes = (math.prod(input_shape), *hidden)
    stack = [layers.Flatten(name="flatten")]
    for number, (fan_in, units) in enumerate(zip(sizes, hidden, strict=False), 1):
        stack.append(layers.Dense(units, name=f"dense_{number}", **_uniform(fan_in)))
        stack.append(layers.LeakyReLU(0.01, name=f"leaky_relu_{number}"))
    stack.append(layers.Dense(outputs, name="output", **_uniform(sizes[-1])))
    return _model("mlp", input_shape, stack)


def cnn_batchnorm(input_shape, outputs):
    """Build the stabilised-EWC paper's convolutional network: filters 64-128-256, batch normalisation, LeakyReLU.

    Convolutions 5x5, 3x3 and 3x3, padding "valid"; kernels and biases start uniform in +-1/sqrt(fan_in).

    Args:
        input_shape: tuple of int. Height, width and channels of an image, at least (14, 14, 1).
        outputs: int. Number of outputs.

    Returns:
        keras.Model.

    References:
        Kutalev and Lapina, Stabilizing Elastic Weight Consolidation method in practical ML tasks and using weight
        importances for neural network pruning, https://arxiv.org/abs/2109.10021, 2021.
    """
    stack, channels = [], input_shape[-1]
    for number, (filters, size) in enumerate(((64, 5), (128, 3), (256, 3)), 1):
        stack.append(layers.Conv2D(filters, size, name=f"conv_{number}", **_uniform(size * size * channels)))
        stack.append(layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"batchnorm_{number}"))
        stack.append(layers.LeakyReLU(0.01, name=f"leaky_relu_{number}"))
        if number == 1:
            stack.append(layers.MaxPooling2D(name="pool_1"))
        channels = filters
    stack.append(layers.Flatten(name="flatten"))
    height, width = ((side - 4) // 2 - 4 for side in input_shape[:2])
    stack.append(layers.Dense(outputs, name="output", **_uniform(height * width * channels)))
    return _model("cnn_batchnorm", input_shape, stack)


def cnn_mnist(input_shape, outputs, augmented=False):
    """Build the threshold grid's network for MNIST: convolutions 32-32-64-64, dense 64-64, ReLU.

    Convolutions 3x3, padding "valid".

    Args:
        input_shape: tuple of int. Height, width and channels of an image, at least (16, 16, 1).
        outputs: int. Number of outputs.
        augmented: bool. Whether images are zoomed and rotated at random while training, as the published runs did.
            Defaults to False.

    Returns:
        keras.Model.

    References:
        McAlister, Neural Network Weight Importance Measures,
        https://github.com/hmcalister/Neural-Network-Weight-Importance-Measures.
    """
    stack = _augmentation() if augmented else []
    stack += [*_convolutions(1, 32, 32), _batchnorm(1), layers.MaxPooling2D(name="pool_1")]
    stack += [*_convolutions(3, 64, 64), _batchnorm(2), layers.MaxPooling2D(name="pool_2")]
    stack += _head(64, outputs)
    return _model("cnn", input_shape, stack)


def cnn_cifar10(input_shape, outputs):
    """Build the threshold grid's network for CIFAR-10: convolutions 32 to 256, dense 128-128, ReLU, augmented images.

    Convolutions 3x3, padding "valid", which takes 32x32 images exactly to 1x1. While training, images are zoomed and
    rotated at random.

    Args:
        input_shape: tuple of int. Height, width and channels of an image, at least (32, 32, 1).
        outputs: int. Number of outputs.

    Returns:
        keras.Model.

    References:
        McAlister, Neural Network Weight Importance Measures,
        https://github.com/hmcalister/Neural-Network-Weight-Importance-Measures.
    """
    stack = _augmentation()
    stack += [*_convolutions(1, 32, 32, 64), _batchnorm(1), layers.MaxPooling2D(name="pool_1")]
    stack += [*_convolutions(4, 64, 128, 128), _batchnorm(2)]
    stack += _convolutions(7, 128, 128, 256)
    stack += _head(128, outputs)
    return _model("cnn", input_shape, stack)


def cnn_small(input_shape, outputs):
    """Build a small convolutional network with batch normalisation for 8x8 images: 3x3 filters 16-32, ReLU.

    Args:
        input_shape: tuple of int. Height, width and channels of an image, at least (8, 8, 1).
        outputs: int. Number of outputs.

    Returns:
        keras.Model.
    """
    stack = [*_convolutions(1, 16), _batchnorm(1), layers.MaxPooling2D(name="pool_1"), *_convolutions(2, 32)]
    stack += [layers.Flatten(name="flatten"), layers.Dense(outputs, name="output")]
    return _model("cnn", input_shape, stack)


def cnn_pooled(input_shape, outputs):
    """Build a convolutional network for images of any size: 3x3 filters 32-64-128, batch normalisation, ReLU.

    Convolutions have padding "same"; the mean over each last feature map is what the output layer sees, so the number
    of weights does not depend on the images' height and width.

    Args:
        input_shape: tuple of int. Height, width and channels of an image, at least (4, 4, 1).
        outputs: int. Number of outputs.

    Returns:
        keras.Model.
    """
    stack = []
    for number, filters in enumerate((32, 64, 128), 1):
        stack.append(layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"conv_{number}"))
        stack.append(_batchnorm(number))
        if number < 3:
            stack.append(layers.MaxPooling2D(name=f"pool_{number}"))
    stack += [layers.GlobalAveragePooling2D(name="mean"), layers.Dense(outputs, name="output")]
    return _model("cnn", input_shape, stack)


def resnet(input_shape, outputs, filters=(16, 32, 64)):
    """Build a small residual network with batch normalisation: a block a stage, each stage at half the resolution.

    A 3x3 convolution of stride 2 begins; a block is two 3x3 convolutions (the first of stride 2, but in the first
    stage) beside a 1x1 projection where the shape changes. No convolution has a bias, as each is normalised; the mean
    over the last feature maps is what the output layer sees.

    Args:
        input_shape: tuple of int. Height, width and channels of an image, at least (8, 8, 1).
        outputs: int. Number of outputs.
        filters: tuple of int. Filters of each stage.

    Returns:
        keras.Model, of 78,042 trainable weights for 32x32 coloured images and 10 outputs.

    References:
        He, Zhang, Ren and Sun, Deep Residual Learning for Image Recognition, https://arxiv.org/abs/1512.03385, 2015.
    """

    def normalised(value, count, size, stride, name):
        value = layers.Conv2D(count, size, stride, padding="same", use_bias=False, name=f"conv_{name}")(value)
        return layers.BatchNormalization(momentum=0.9, name=f"batchnorm_{name}")(value)

    inputs = keras.Input(input_shape, name="input")
    value = layers.ReLU(name="relu_0")(normalised(inputs, filters[0], 3, 2, "0"))
    for number, count in enumerate(filters, 1):
        stride = 1 if number == 1 else 2
        inner = layers.ReLU(name=f"relu_{number}a")(normalised(value, count, 3, stride, f"{number}a"))
        inner = normalised(inner, count, 3, 1, f"{number}b")
        if stride > 1 or value.shape[-1] != count:
            value = normalised(value, count, 1, stride, f"{number}_projection")
        value = layers.ReLU(name=f"relu_{number}b")(layers.Add(name=f"add_{number}")([value, inner]))
    value = layers.GlobalAveragePooling2D(name="mean")(value)
    return keras.Model(inputs, layers.Dense(outputs, name="output")(value), name="resnet")


def vit(input_shape, outputs, patch=8, blocks=4, width=64, heads=8):
    """Build a small vision transformer: patches, pre-normalised blocks of attention and a twofold dense layer.

    Patches do not overlap; each place has its own bias, which tells it where it is. The mean over places is what the
    output layer sees.

    Args:
        input_shape: tuple of int. Height, width and channels of an image; height and width are multiples of `patch`.
        outputs: int. Number of outputs.
        patch: int. Side of a patch.
        blocks: int.
        width: int.
        heads: int. Each block's, of width // heads features.

    Returns:
        keras.Model, of 147,978 trainable weights for 32x32 coloured images and 10 outputs.

    References:
        Dosovitskiy et al., An Image is Worth 16x16 Words, https://arxiv.org/abs/2010.11929, 2020.
    """
    rows, columns, channels = input_shape[0] // patch, input_shape[1] // patch, input_shape[2]
    inputs = keras.Input(input_shape, name="input")
    value = layers.Reshape((rows, patch, columns, patch, channels), name="rows_and_columns")(inputs)
    value = layers.Permute((1, 3, 2, 4, 5), name="patches")(value)
    value = layers.Reshape((rows * columns, patch * patch * channels), name="flat_patches")(value)
    value = layers.EinsumDense("pic,cd->pid", (rows * columns, width), bias_axes="id", name="embedding")(value)
    for number in range(1, blocks + 1):
        normal = layers.LayerNormalization(name=f"attention_norm_{number}")(value)
        attention = layers.MultiHeadAttention(heads, width // heads, name=f"attention_{number}")(normal, normal)
        value = layers.Add(name=f"attention_add_{number}")([value, attention])
        inner = layers.LayerNormalization(name=f"dense_norm_{number}")(value)
        inner = layers.Dense(2 * width, activation="relu", name=f"dense_in_{number}")(inner)
        inner = layers.Dense(width, name=f"dense_out_{number}")(inner)
        value = layers.Add(name=f"dense_add_{number}")([value, inner])
    value = layers.LayerNormalization(name="last_norm")(value)
    value = layers.GlobalAveragePooling1D(name="mean")(value)
    return keras.Model(inputs, layers.Dense(outputs, name="output")(value), name="vit")


MNIST_MODELS = {
    "mlp": mlp,
    "cnn": cnn_mnist,
    "cnn_augmented": partial(cnn_mnist, augmented=True),
    "cnn_batchnorm": cnn_batchnorm,
}
ANY_SIZE_MODELS = {"cnn": cnn_pooled, "mlp": partial(mlp, hidden=(128, 64))}


def of_shape(input_shape):
    """Return the models that suit examples of a shape: dict from name to builder, as `Task` has them."""
    images = len(input_shape) == 3 and min(input_shape[:2]) >= 4
    return ANY_SIZE_MODELS if images else {"mlp": ANY_SIZE_MODELS["mlp"]}


def _model(name, input_shape, stack):
    inputs = outputs = keras.Input(input_shape, name="input")
    for layer in stack:
        outputs = layer(outputs)
    return keras.Model(inputs, outputs, name=name)


def _uniform(fan_in):
    bound = 1 / math.sqrt(fan_in)
    # Two objects: an initializer without a seed draws the same numbers each time it is called.
    return {
        "kernel_initializer": keras.initializers.RandomUniform(-bound, bound),
        "bias_initializer": keras.initializers.RandomUniform(-bound, bound),
    }


def _convolutions(first, *filters):
    return [
        layers.Conv2D(count, 3, activation="relu", name=f"conv_{number}") for number, count in enumerate(filters, first)
    ]


def _batchnorm(number):
    return layers.BatchNormalization(name=f"batchnorm_{number}")


def _head(units, outputs):
    stack = [layers.Flatten(name="flatten")]
    for number in (1, 2):
        stack.append(layers.Dense(units, activation="relu", name=f"dense_{number}"))
        stack.append(layers.Dropout(0.2, name=f"dropout_{number}"))
    return [*stack, layers.Dense(outputs, name="output")]


def _augmentation():
    """Zoom in by 5 to 25 %, height and width apart, and rotate by up to 0.05 turns either way; only while training."""
    zoom = layers.RandomZoom((-0.25, -0.05), (-0.25, -0.05), name="zoom")
    rotation = layers.RandomRotation(0.05, fill_mode="constant", name="rotation")
    # Keras marks both as not compilable because TensorFlow's XLA lacks their kernel; JAX compiles them.
    zoom.supports_jit = rotation.supports_jit = keras.backend.backend() == "jax"
    return [zoom, rotation]
