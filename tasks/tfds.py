"""Any set of TensorFlow Datasets in which images have one class each, by its name there.

It needs `pip install tensorflow-datasets`, which downloads a set when it is first read and keeps it in the folder that
the environment variable TFDS_DATA_DIR names, `~/tensorflow_datasets` without it. The file format is array_record: a
set that other programs have put there in another one needs another folder.

References:
    TensorFlow Datasets, a collection of ready-to-use datasets, https://www.tensorflow.org/datasets/catalog/overview.
"""

import io

import numpy as np

from engine import checks
from tasks import Task, _data, _models


def read(
    dataset="beans", test_fraction: checks.number(above=0, below=1) = 0.2, image_size: checks.whole(4) = 64
):  # fmt: skip
    """Read the images as uint8 `(examples, image_size, image_size, channels)`, 1 channel if they are grey, else 3.

    The set's "test" split is the test set, and "train" and "validation" are the training examples. Without a "test"
    split "validation" is the test set; without either, a part of "train" is held out. Other splits are not read.

    Args:
        dataset: str. Name in the catalogue, with a configuration and version if wanted, such as "stl10" or
            "cmaterdb/devanagari:1.0.0". Defaults to "beans", 1,295 photographs of bean leaves in 3 classes.
        test_fraction: float. For a set without a split to test on, the fraction of each label, between 0 and 1, that is
            held out as test set; the same examples each time. Defaults to 0.2.
        image_size: int. Height and width, at least 4, that every image is stretched or shrunk to. Defaults to 64.

    Returns:
        x_train, y_train, x_test, y_test.

    Raises:
        ImportError: TensorFlow Datasets is not installed.
        FileNotFoundError: the set is not on this machine and its download failed.
        ValueError: no such set, one that is no image classification, one without a "train" split, or a size or fraction
            that does not fit.
        NotImplementedError: the set is on this machine in another file format than array_record.
    """
    builder, skip_decoding = _builder(dataset)
    image, label = _check_features(dataset, builder.info)
    channels = 1 if builder.info.features[image].shape[-1] == 1 else 3
    _prepare(dataset, builder)

    splits = list(builder.info.splits)
    if "train" not in splits:
        raise ValueError(f"Expected a data set with a split 'train', received {dataset!r} with {', '.join(splits)}.")
    test = next((split for split in ("test", "validation") if split in splits), None)
    training = ["train", "validation"] if test == "test" and "validation" in splits else ["train"]

    def examples(*parts):
        x, y = [], []
        for part in parts:
            for number, example in enumerate(builder.as_data_source(part, decoders={image: skip_decoding})):
                source = f"image {number} of the split {part!r} of {dataset}"
                x.append(_data.resized(io.BytesIO(example[image]), source, image_size, channels))
                y.append(example[label])
        return np.stack(x), np.array(y)

    x_train, y_train = examples(*training)
    if test is None:
        x_train, x_test, y_train, y_test = _data.hold_out_test(x_train, y_train, test_fraction)
    else:
        x_test, y_test = examples(test)
    return x_train, y_train, x_test, y_test


def _builder(dataset):
    """Return the set's builder and the decoder that leaves images as the bytes of their files."""
    try:
        import tensorflow_datasets
    except ModuleNotFoundError as error:
        raise ImportError(
            f"Expected TensorFlow Datasets for the task 'tfds', found none ({error}). "
            "Install it: pip install tensorflow-datasets"
        ) from error
    return tensorflow_datasets.builder(dataset), tensorflow_datasets.decode.SkipDecoding()


def _check_features(dataset, info):
    """Return the names under which an example has its image and its label."""
    keys = info.supervised_keys
    if keys and len(keys) == 2:
        image, label = (info.features[key] if isinstance(key, str) else None for key in keys)
        fits = len(getattr(image, "shape", ())) == 3 and image.np_dtype == np.uint8 and hasattr(label, "num_classes")
        if fits:
            return keys
    raise ValueError(
        f"Expected a data set of 8-bit images with one class each, received {dataset!r}, whose inputs and targets are "
        f"{keys} of {info.features}."
    )


def _prepare(dataset, builder):
    try:
        # This format is read without TensorFlow, which beside JAX would take the GPU's memory.
        builder.download_and_prepare(file_format="array_record")
    except Exception as error:  # Each set fails in its own way.
        raise FileNotFoundError(
            f"Expected the data set {dataset!r} in {builder.data_dir} or a download; found none, and the download "
            f"failed: {type(error).__name__}: {error}. Connect to the network once, or name the folder that has it in "
            "the environment variable TFDS_DATA_DIR."
        ) from error


TASK = Task(read=read, models=_models.ANY_SIZE_MODELS, classes="counted")
