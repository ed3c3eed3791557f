"""What people bring: a network that was trained elsewhere, and examples, in the forms that they have them in."""

import hashlib
import pathlib
import re
import sys
import warnings
import zipfile
from typing import Any, NamedTuple

import keras
import numpy as np

import tasks
from engine import examples

FORMS = (
    'a keras.Model, a .keras file, a folder of .keras files, "applications:<name>" (such as applications:MobileNetV2) '
    'or "hub:<preset>"'
)


class Networks(NamedTuple):
    """Networks by name.

    Attributes:
        name: str. For rows and files.
        load: dict. From each network's own name to a function `load(compiled) -> keras.Model`, whose argument says
            whether the optimizer and the loss with which it was saved are needed.
        own: bool. Whether what `load` returns belongs to nobody else.
        preprocess: callable or None. What makes inputs of pixels from 0 to 255.
        where: str or None. By what another process finds them.
    """

    name: str
    load: dict
    own: bool = True
    preprocess: Any = None
    where: str | None = None


def networks(network, options):
    """Find networks.

    Args:
        network: keras.Model or str; see `experiments.given.Given`.
        options: dict. Arguments of what "applications:..." and "hub:..." call.

    Returns:
        Networks.

    Raises:
        FileNotFoundError: there is no such file or folder, or none of a network in it.
        ValueError: it is something else.
    """
    if isinstance(network, keras.Model):
        _no_options(options, network.name)
        automatic = rf"({_snake(type(network).__name__)})_\d+"
        return Networks(_plain(re.sub(automatic, r"\1", network.name)), {network.name: lambda _: network}, own=False)
    if not isinstance(network, (str, pathlib.Path)):
        raise ValueError(f"Expected {FORMS}; received {network!r}.")
    where = str(network)
    kind, _, name = where.partition(":")
    if kind == "applications":
        return _application(name, options)
    if kind == "hub":
        return Networks(_plain(pathlib.PurePath(name).name), {name: lambda _: _preset(name, options)}, where=where)
    _no_options(options, where)
    path = pathlib.Path(where).expanduser()
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix == ".keras")
        if not files:
            raise FileNotFoundError(f"Expected .keras files in the folder {where}, found none.")
    elif path.exists():
        files = [path]
    else:
        raise FileNotFoundError(f"Expected {FORMS}; received {where!r}, and there is no such file or folder.")
    load = {file.name: lambda compiled, file=file: _saved(file, compiled) for file in files}
    return Networks(_plain(path.stem), load, where=where)


def _no_options(options, received):
    if options:
        raise ValueError(
            "Expected network_options only for applications:... and hub:..., which are built; received "
            f"{', '.join(options)} for {received!r}."
        )


def _application(name, options):
    build = getattr(keras.applications, name, None)
    if not callable(build):
        known = sorted(key for key, value in vars(keras.applications).items() if callable(value))
        raise ValueError(f"Expected applications:<name> with a name among {', '.join(known)}; received {name!r}.")
    module = sys.modules[build.__module__]  # each has the preprocessing that it was trained with

    def preprocess(x):
        if not isinstance(x, np.ndarray) or x.max() <= 1:
            raise ValueError(
                f"Expected pixels from 0 to 255 for applications:{name}, which has its own preprocessing; received "
                f"values up to {np.max(x):g}. Multiply them by 255."
            )
        return np.asarray(module.preprocess_input(np.array(x, "float32")))

    return Networks(_plain(name), {name: lambda _: build(**options)}, True, preprocess, f"applications:{name}")


def _preset(name, options):
    try:
        import keras_hub
        from keras_hub.src.utils import preset_utils  # which alone knows what a preset is of
    except ImportError as error:
        raise ValueError(
            f"Expected the package keras-hub for hub:{name}; it is not installed. Run: pip install -r "
            "requirements-hub.txt"
        ) from error
    where = str(pathlib.Path(name).expanduser())
    try:
        whole = preset_utils.check_file_exists(where, preset_utils.TASK_CONFIG_FILE)
        kind = keras_hub.models.CausalLM
        if whole:
            kind = preset_utils.check_config_class(preset_utils.load_json(where, preset_utils.TASK_CONFIG_FILE))
        model = kind.from_preset(where, **{"preprocessor": None, **options})
    except (ValueError, OSError) as error:
        raise ValueError(
            f"Expected hub:<preset> with a preset of KerasHub, by its name or as a folder; received {name!r}: "
            f"{str(error)[:300]}"
        ) from error
    if not whole and model.has_task_weights():
        raise ValueError(
            f"Expected a preset of a whole classifier or language model, received {name!r}, a backbone alone, whose "
            "head would have new weights. Load it yourself, train the head, and pass the model."
        )
    return model


def _saved(file, compiled):
    """Load a `.keras` file, whose code is not trusted.

    Args:
        file: pathlib.Path.
        compiled: bool. Whether it is of no use without the loss with which it was saved.
    """
    wanted = f"Expected {file} to be a network that Keras saved as .keras"
    if file.suffix != ".keras" or not zipfile.is_zipfile(file) or "config.json" not in zipfile.ZipFile(file).namelist():
        raise ValueError(
            f"{wanted}, received something else. Save it so: model.save('my_model.keras'); of other formats (h5, "
            "SavedModel) load it first, and pass the keras.Model."
        )
    try:
        return keras.saving.load_model(file, safe_mode=True)
    except MemoryError:
        raise
    except Exception as error:  # which kinds there are depends on what is in the file
        first = error
    said = re.sub(r"\s+", " ", str(first))
    if "lambda" in said.lower() and "safe" in said.lower():
        raise ValueError(
            f"{wanted} without code in it; it has a Lambda layer, whose code would be run. If you trust where the file "
            "comes from, load it yourself: network=keras.saving.load_model(path, safe_mode=False)."
        ) from first
    try:
        model = keras.saving.load_model(file, safe_mode=True, compile=False)
    except MemoryError:
        raise
    except Exception as error:
        said = re.sub(r"\s+", " ", str(error))[:300]
        raise ValueError(
            f"{wanted}; loading it gave {type(error).__name__}: {said} If it has layers of your own, import the module "
            "that registers them first (@keras.saving.register_keras_serializable()), or load it yourself and pass the "
            "keras.Model."
        ) from error
    if compiled:
        raise ValueError(
            f"{wanted} with a loss that Keras knows; restoring how it was compiled gave {said[:300]} Pass the loss "
            "that is meant as loss=..."
        ) from first
    warnings.warn(
        f"{file} is taken without its optimizer, for restoring how it was compiled gave {said[:300]} Measures that "
        "read the optimizer's state cannot score it.",
        stacklevel=2,
    )
    return model


class Examples(NamedTuple):
    """Examples.

    Attributes:
        name: str. For rows and files.
        x: array (examples, ...), or a dict or list of them.
        y: array (examples, ...).
        digest: str. sha256 of the data.
        pixels: bool. Whether a task made numbers from 0 to 1 of pixels from 0 to 255.
        where: dict or None. The arguments by which another process finds them.
    """

    name: str
    x: Any
    y: Any
    digest: str
    pixels: bool = False
    where: dict | None = None


def read(x, y, model):
    """Read examples.

    Args:
        x, y: as for `experiments.given.Given`.
        model: keras.Model. The one that takes them.

    Returns:
        Examples.

    Raises:
        FileNotFoundError, ValueError: there are no such examples; says what is expected.
    """
    name, pixels, where = "examples", False, None
    if isinstance(x, (str, pathlib.Path)):
        path, where = pathlib.Path(x).expanduser(), {"x": str(x)}
        if y is not None:
            raise ValueError(f"Expected labels in {path}, where the inputs are, received others as y. Leave y out.")
        if not path.exists():
            raise FileNotFoundError(f"Expected an .npz file or a folder of images, found nothing at {path}.")
        name, pixels = path.stem, path.is_dir()
        x, y = _images(path, model) if pixels else _arrays(path, model)
    elif y is None:
        x, y = _batches(x, model)
    elif hasattr(x, "as_numpy_iterator") or isinstance(x, keras.utils.PyDataset):
        raise ValueError("Expected labels in the data set, beside the inputs, received others as y. Leave y out.")
    x, y = examples.standardized(x, model), examples.as_array(y, "labels")
    digest = hashlib.sha256()
    for array in (*examples.arrays(x), y):
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array))
    digest = digest.hexdigest()
    return Examples(f"{_plain(name)}-{digest[:8]}", x, y, digest, pixels, where)


def of_task(task, labels, options):
    """Take the test set of a task: Examples."""
    loaded = tasks.load(task, labels=labels, validation="test", **options)
    images = len(loaded.input_shape) == 3
    return Examples(task, loaded.x_test, loaded.y_test, loaded.digest, images, {"task": task})


def _arrays(path, model):
    forms = "arrays x and y, or x_test and y_test, or y and one for each input of the network, by its name"
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"Expected {path} to be an .npz file ({forms}); reading it gave {type(error).__name__}: {error}"
        ) from error
    for inputs, labels in (("x", "y"), ("x_test", "y_test")):
        if {inputs, labels} <= set(found):
            return found[inputs], found[labels]
    if "y" not in found or len(found) < 2:
        raise ValueError(f"Expected {path} to hold {forms}; received {', '.join(sorted(found)) or 'none'}.")
    y = found.pop("y")
    return found, y


def _images(path, model):
    sizes = [tuple(tensor.shape[1:]) for tensor in getattr(model, "inputs", None) or ()]
    if len(sizes) != 1 or len(sizes[0]) != 3 or sizes[0][0] != sizes[0][1] or sizes[0][0] is None or sizes[0][2] != 3:
        raise ValueError(
            f"Expected a network with one input of square images in colour, (size, size, 3), for the folder {path}; "
            f"received {', '.join(map(str, sizes)) or 'one whose inputs are not known'}. Give the images as arrays."
        )
    task = tasks.load("image_folder", folder=str(path), image_size=sizes[0][0], validation="test")
    return np.concatenate([task.x_train, task.x_test]), np.concatenate([task.y_train, task.y_test])


def _batches(data, model):
    """Read what gives batches (x, y), once, to its end."""
    if hasattr(data, "as_numpy_iterator"):
        if int(data.cardinality()) == -1:
            raise ValueError("Expected a tf.data.Dataset that ends, received one that repeats for ever. Use take(n).")
        batches = list(data.as_numpy_iterator())
    elif isinstance(data, keras.utils.PyDataset):
        batches = [data[number] for number in range(len(data))]
    else:
        raise ValueError(
            "Expected labels: y=array (examples, ...), or x=a tf.data.Dataset of (x, y) batches, the path of an .npz "
            f"file or of a folder of images; received x of type {type(data).__name__} and no y."
        )
    if not batches or not isinstance(batches[0], tuple) or len(batches[0]) != 2:
        received = f"{len(batches[0])} parts" if batches and isinstance(batches[0], tuple) else "something else"
        raise ValueError(
            f"Expected a data set of pairs (x, y), at least one, received {received if batches else 'none'}. "
            "Weights of examples are not supported."
        )
    expected = getattr(model, "inputs", None)
    some = np.ndim(keras.tree.flatten(batches[0][0])[0])
    single = expected is not None and some == len(expected[0].shape) - 1
    join = (lambda *parts: np.stack(parts)) if single else (lambda *parts: np.concatenate(parts))
    return keras.tree.map_structure(join, *batches)


def _snake(name):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _plain(name):
    """Return a name as a part of a file's name."""
    return re.sub(r"[^A-Za-z0-9._=]+", "-", name).strip("-._") or "network"
