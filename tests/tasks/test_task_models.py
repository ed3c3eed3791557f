"""The networks are those of the papers."""

import keras
import numpy as np
import pytest

import tasks
from tasks import _models


def sizes(model):
    return [tuple(variable.shape) for variable in model.trainable_variables]


@pytest.mark.parametrize(
    "build, input_shape, outputs, trainable, all_weights",
    [
        (_models.mlp, (28, 28, 1), 10, 784 * 300 + 300 + 300 * 150 + 150 + 150 * 10 + 10, 282160),
        (_models.cnn_mnist, (28, 28, 1), 10, 135594, 135594 + 2 * (32 + 64)),
        # The counts that the grid's authors print in their notebook.
        (_models.cnn_cifar10, (32, 32, 3), 10, 928426, 928810),
        # 5*5*64+64, 3*3*64*128+128, 3*3*128*256+256, gamma and beta of 448 channels, 8*8*256*10+10.
        (_models.cnn_batchnorm, (28, 28, 1), 10, 1664 + 73856 + 295168 + 896 + 163850, 536330),
        (_models.cnn_small, (8, 8, 1), 10, 160 + 32 + 4640 + 330, 5194),
        # 3*3*3*32+32, 3*3*32*64+64, 3*3*64*128+128, gamma and beta of 224 channels, 128*6+6; whatever the size.
        (_models.cnn_pooled, (64, 64, 3), 6, 896 + 18496 + 73856 + 448 + 774, 94918),
        (_models.cnn_pooled, (4, 4, 3), 6, 896 + 18496 + 73856 + 448 + 774, 94918),
        # 27*16 + 2*9*16*16, 9*16*32 + 9*32*32 + 16*32, 9*32*64 + 9*64*64 + 32*64, gamma and beta of 336, 64*10+10.
        (_models.resnet, (32, 32, 3), 10, 432 + 4608 + 14336 + 57344 + 672 + 650, 78714),
        # 192*64 + 16*64, four times (two norms, 4*(64*64+64), 64*128+128 + 128*64+64), the last norm, 64*10+10.
        (_models.vit, (32, 32, 3), 10, 13312 + 4 * (256 + 16640 + 16576) + 128 + 650, 147978),
    ],
)
def test_number_of_weights(build, input_shape, outputs, trainable, all_weights):
    model = build(input_shape, outputs)
    assert sum(int(np.prod(shape)) for shape in sizes(model)) == trainable
    assert model.count_params() == all_weights
    assert model.input_shape == (None, *input_shape) and model.output_shape == (None, outputs)


def test_mlp_is_784_300_150_10():
    model = _models.mlp((28, 28, 1), 10)
    assert sizes(model) == [(784, 300), (300,), (300, 150), (150,), (150, 10), (10,)]
    assert [layer.name for layer in model.layers] == [
        *("input", "flatten", "dense_1", "leaky_relu_1", "dense_2", "leaky_relu_2", "output")
    ]
    assert np.array(model.get_layer("leaky_relu_1")(np.array([[-1.0, 2.0]]))).tolist() == [[pytest.approx(-0.01), 2.0]]


@pytest.mark.parametrize("build, input_shape", [(_models.mlp, (28, 28, 1)), (_models.cnn_batchnorm, (28, 28, 1))])
def test_kernels_and_biases_start_uniform_in_the_bound_of_the_fan_in(build, input_shape):
    keras.utils.set_random_seed(0)
    model = build(input_shape, 10)
    layers = [layer for layer in model.layers if hasattr(layer, "kernel")]
    for layer in layers:
        kernel, bias = (np.asarray(variable.value) for variable in (layer.kernel, layer.bias))
        bound = 1 / np.sqrt(np.prod(kernel.shape[:-1]))
        for drawn in (kernel, bias):
            assert 0.6 * bound < np.abs(drawn).max() <= bound * (1 + 1e-6)
        assert kernel.std() == pytest.approx(bound / np.sqrt(3), rel=0.05)
        assert kernel.mean() == pytest.approx(0, abs=0.05 * bound)
        assert not np.array_equal(kernel.ravel()[: bias.size], bias)
    assert len(layers) == len({layer.name for layer in layers}) >= 3


def test_batchnorm_of_the_paper():
    model = _models.cnn_batchnorm((28, 28, 1), 10)
    assert model.get_layer("leaky_relu_3").output.shape == (None, 8, 8, 256)
    assert all(model.get_layer(f"batchnorm_{number}").momentum == 0.9 for number in (1, 2, 3))
    assert all(model.get_layer(f"batchnorm_{number}").epsilon == 1e-5 for number in (1, 2, 3))


def test_augmentation_acts_only_while_training_and_follows_the_global_seed():
    images = np.random.default_rng(0).uniform(size=(4, 32, 32, 3)).astype("float32")

    def augmented(seed, training):
        keras.utils.set_random_seed(seed)
        zoom, rotation = _models._augmentation()
        return np.array(rotation(zoom(images, training=training), training=training))

    assert np.array_equal(augmented(0, training=False), images)
    assert np.array_equal(augmented(0, training=True), augmented(0, training=True))
    assert not np.allclose(augmented(0, training=True), augmented(1, training=True))
    assert not np.allclose(augmented(0, training=True), images)


def test_zoom_is_inward_by_5_to_25_percent():
    ramp = np.broadcast_to(np.linspace(0, 1, 32, dtype="float32"), (64, 32, 32))[..., np.newaxis]
    zoom, _ = _models._augmentation()
    zoomed = np.array(zoom(ramp, training=True))
    width = zoomed[:, 16, 31, 0] - zoomed[:, 16, 0, 0]
    assert 0.75 - 1e-3 <= width.min() < 0.8 and 0.9 < width.max() <= 0.95 + 1e-3


def test_augmented_networks_train_compiled_where_the_backend_can():
    head = [keras.layers.Flatten(), keras.layers.Dense(1)]
    model = _models._model("augmented", (8, 8, 1), _models._augmentation() + head)
    model.compile("sgd", "mse")
    model.fit(np.ones((8, 8, 8, 1)), np.ones((8, 1)), batch_size=4, verbose=0)
    assert model.jit_compile == (keras.backend.backend() == "jax")


def test_digits_are_learnt():
    keras.utils.set_random_seed(0)
    task = tasks.load("digits")
    model = task.build_model()
    model.compile(keras.optimizers.Adam(0.01), task.loss)
    history = model.fit(task.x_train, task.y_train, batch_size=50, epochs=5, verbose=0).history
    assert history["loss"][-1] < task.chance_loss / 4
