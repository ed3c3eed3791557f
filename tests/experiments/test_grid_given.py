"""A network that was trained elsewhere is judged as it is: what it may be, what is compared, and what is refused."""

import pathlib

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers

import importance
import report
import tasks
import thresholding
from engine import backend
from experiments import given, threshold_grid
from experiments.workers import worker

# Keras saves variables of TensorFlow by an interface that NumPy is about to drop.
pytestmark = [pytest.mark.filterwarnings("ignore:__array__ implementation"), pytest.mark.xla]
MEASURES = ["magnitude", "fisher_empirical", "wanda"]


@pytest.fixture(scope="module")
def digits():
    """800 digits that no network here was trained on, as arrays."""
    task = tasks.load("digits", validation=0.4)
    x, y = np.concatenate([task.x_validation, task.x_test]), np.concatenate([task.y_validation, task.y_test])
    return task, x[:800], y[:800]


def network(task, end="softmax", seed=0, epochs=8, optimizer=None):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(12, "relu"), layers.Dense(10, end)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=end is None)
    model.compile(optimizer or keras.optimizers.Adam(0.01), loss)
    model.fit(task.x_train, task.y_train, epochs=epochs, batch_size=32, verbose=0)
    return model


@pytest.fixture(scope="module")
def trained(digits, tmp_path_factory):
    """A trained network that ends with a softmax, and its file."""
    model = network(digits[0])
    path = tmp_path_factory.mktemp("trained") / "my_model.keras"
    model.save(path)
    return model, path


def run(out, **settings):
    asked = {"measures": MEASURES, "levels": ["weight", "unit"], "thresholds": 3, "folds": 4, **settings}
    with pytest.warns(UserWarning, match="softmax at the end of .* is taken off"):
        return threshold_grid.run(out=out, progress=False, **asked)


@pytest.fixture(scope="module")
def finished(digits, trained, tmp_path_factory):
    out = tmp_path_factory.mktemp("given")
    return out, run(out, network=str(trained[1]), x=digits[1], y=digits[2])


def test_every_cell_is_what_the_network_itself_gives(digits, trained, finished):
    (_, x, y), (model, _), (_, frame) = digits, trained, finished
    assert len(frame) == 4 * 3 * 2 * 3 and set(frame["status"]) == {"ok"} and set(frame["epoch"]) == {0}
    assert frame["fold"].unique().tolist() == ["0/4", "1/4", "2/4", "3/4"]
    assert frame["network"].nunique() == 1 and frame["network"].equals(frame["weights"])
    parts = given.divided(y, 8)
    for fold in range(4):
        rows = parts[2 * fold + 1]
        row = frame[(frame["seed"] == fold) & (frame["threshold"] == 0)].iloc[0]
        assert row["examples"] == len(rows) == 100
        loss = -np.log(np.take_along_axis(model.predict(x[rows], verbose=0), y[rows, None], 1))
        assert np.isclose(row["validation_loss"], loss.mean(), rtol=1e-4)


def test_weights_are_ranked_by_the_scoring_half_of_a_fold(digits, trained, finished):
    (_, x, y), (_, path), (_, frame) = digits, trained, finished
    rows, evaluated = given.divided(y, 8)[2:4]
    model = keras.saving.load_model(path)
    scores = importance.load("fisher_empirical").score(model, x[rows], y[rows])
    # With the noise of the run in place of the lower half of each layer, the loss is that of the row.
    ids = np.cumsum([0, *(a.size for a in scores)])
    groups = [np.arange(a.size).reshape(a.shape) + begin for a, begin in zip(scores, ids, strict=False)]
    ranking = thresholding.Partition(groups, model, "layer", "all").rank(scores, "mean", 1)
    fill = thresholding.replacements([backend.copied(v) for v in model.trainable_variables], "noise", 1)
    for variable, ranks, new in zip(model.trainable_variables, ranking.ranks, fill, strict=True):
        variable.assign(np.where(ranks < 0.5, new, backend.copied(variable)))
    expected = -np.log(np.take_along_axis(model.predict(x[evaluated], verbose=0), y[evaluated, None], 1)).mean()
    row = frame.query("seed == 1 and measure == 'fisher_empirical' and level == 'weight' and threshold == 0.5")
    assert np.isclose(row["validation_loss"].item(), expected, rtol=1e-3)


def test_the_ordering_says_for_what_it_holds(finished):
    out, frame = finished
    found = report.order(frame)
    assert "4 splits; a statement for this network, over splits of the examples)" in found.sentences[0]
    assert "chance estimated" not in found.summary
    assert set(found.tests["blocks_are"]) == {"splits"} and set(found.tests["blocks"]) == {4}
    read = report.read(out)
    pd.testing.assert_frame_equal(report.order(read).table, found.table)
    assert set(report.table(read)["splits"]) == {4}
    assert "16 splits can tell 3 measures apart" in report.power(16, 3, kind="splits")


def test_a_study_grows_and_is_resumed(digits, trained, finished, tmp_path):
    _, before = finished
    again = run(tmp_path, network=trained[0], x=digits[1], y=digits[2], measures=["magnitude"])
    assert len(list(tmp_path.glob("*.csv"))) == 1
    grown = run(tmp_path, network=trained[0], x=digits[1], y=digits[2])
    pd.testing.assert_frame_equal(grown[: len(again)], again)
    drop = ["seconds", "run", "model", "validation_loss", "validation_loss_stderr"]
    key = threshold_grid.KEY
    one, other = (f.sort_values(key, ignore_index=True) for f in (grown, before))
    pd.testing.assert_frame_equal(one.drop(columns=drop), other.drop(columns=drop))
    assert np.allclose(one["validation_loss"], other["validation_loss"], rtol=1e-4)


def test_the_users_network_is_left_as_it_is(digits, trained, tmp_path):
    model, _ = trained
    before = [np.array(v) for v in model.variables]
    end, optimizer = model.layers[-1].activation, model.optimizer
    run(tmp_path, network=model, x=digits[1], y=digits[2])
    assert all(np.array_equal(a, np.array(v)) for a, v in zip(before, model.variables, strict=True))
    assert model.layers[-1].activation is end and model.optimizer is optimizer and model.compiled


def test_measures_that_need_training_are_left_out_with_a_word(digits, trained, tmp_path):
    _, x, y = digits
    with pytest.warns(UserWarning) as said:
        grid = threshold_grid.Grid(network=str(trained[1]), x=x, y=y, levels=["weight"], out=tmp_path)
    (left,) = [str(w.message) for w in said if "Left out" in str(w.message)]
    gone = set(importance.general()) - set(grid.settings.measures)
    assert gone and all(importance.load(name).definition.needs == "trajectory" for name in gone)
    assert all(name in left for name in gone)
    assert "adam_second_moment" in grid.settings.measures  # the file has the optimizer's state
    with pytest.warns(UserWarning, match="needs the trajectory of training, and none was recorded"):
        frame = run(tmp_path, network=str(trained[1]), x=x, y=y, measures=["magnitude", "weight_change"], folds=2)
    assert frame[frame["measure"] == "weight_change"]["status"].str.contains("needs the trajectory").all()


def test_what_was_recorded_while_it_was_trained_can_be_asked(digits, tmp_path):
    tracked = importance.Tracked(keras.optimizers.Adam(0.01), ["synaptic_intelligence"])
    network(digits[0], optimizer=tracked).save(tmp_path / "tracked.keras")
    found = run(
        tmp_path, network=str(tmp_path / "tracked.keras"), x=digits[1], y=digits[2], folds=2,
        measures=["synaptic_intelligence", "adam_second_moment"],
    )  # fmt: skip
    assert set(found["status"]) == {"ok"}


def test_several_networks_of_one_structure_are_blocks(digits, tmp_path):
    task, x, y = digits
    folder = tmp_path / "networks"
    folder.mkdir()
    for seed in range(3):
        network(task, None, seed, epochs=4).save(folder / f"{seed}.keras")
    frame = threshold_grid.run(
        network=str(folder), x=x, y=y, measures=MEASURES, levels=["weight"], thresholds=3, progress=False, out=tmp_path
    )  # fmt: skip
    assert frame["network"].nunique() == 3 and frame["fold"].isna().all() and set(frame["examples"]) == {400}
    assert "3 networks" in report.order(frame).summary and "splits" not in report.order(frame).summary
    network(task, None, 3, epochs=4).save(folder / "another.keras")
    grown = threshold_grid.run(
        network=str(folder), x=x, y=y, measures=MEASURES, levels=["weight"], thresholds=3, progress=False, out=tmp_path
    )  # fmt: skip
    assert len(grown) == 4 * 9 and grown[:27].equals(frame)
    with pytest.raises(ValueError, match="Expected no folds with several networks"):
        threshold_grid.Grid(network=str(folder), x=x, y=y, folds=4, out=tmp_path)
    network(task, "softmax", 4, epochs=1).save(folder / "z.keras")
    (folder / "y.keras").write_bytes((folder / "0.keras").read_bytes())
    with pytest.raises(ValueError, match=r"Expected each network once; 0\.keras and y\.keras have the same weights"):
        threshold_grid.Grid(network=str(folder), x=x, y=y, out=tmp_path)
    (folder / "y.keras").unlink()
    wide = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(10)])
    wide.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    wide.fit(x, y, verbose=0)
    wide.save(folder / "wide.keras")
    with pytest.raises(ValueError, match=r"Expected networks of one structure, received wide\.keras"):
        threshold_grid.Grid(network=str(folder), x=x, y=y, out=tmp_path)


@pytest.mark.slow
def test_examples_from_files_a_task_and_a_data_set(digits, trained, finished, tmp_path):
    (task, x, y), (_, path), (_, frame) = digits, trained, finished
    np.savez(tmp_path / "mine.npz", x=x, y=y)
    by_file = run(tmp_path, network=str(path), x=str(tmp_path / "mine.npz"))
    assert by_file["validation_loss"].equals(frame["validation_loss"]) and by_file["task"][0].startswith("mine-")

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 8

        def __getitem__(self, n):
            return x[100 * n : 100 * n + 100], y[100 * n : 100 * n + 100]

    batches = run(tmp_path, network=str(path), x=Batches())
    assert batches["validation_loss"].equals(frame["validation_loss"])
    of_task = run(tmp_path, network=str(path), task="digits")
    assert set(of_task["task"]) == {"digits"} and set(of_task["examples"]) == {len(task.x_test) // 8}
    images = tmp_path / "images"
    for label in "ab":
        (images / label).mkdir(parents=True)
        for n in range(30):
            keras.utils.save_img(images / label / f"{n}.png", np.random.default_rng(n).random((8, 8, 3)))
    colours = keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(2)])
    frame = threshold_grid.run(
        network=colours, x=images, measures=["magnitude"], levels=["weight"], thresholds=2, out=tmp_path,
        progress=False,
    )  # fmt: skip
    assert set(frame["examples"]) == {10} and frame["fold"].nunique() == 3


def test_other_processes_make_the_same_study(digits, trained, tmp_path):
    (_, x, y), (_, path) = digits, trained
    np.savez(tmp_path / "mine.npz", x=x, y=y)
    with pytest.warns(UserWarning, match="taken off"):
        grid = threshold_grid.Grid(
            network=str(path), x=str(tmp_path / "mine.npz"), measures=MEASURES, levels=["weight", "unit"],
            thresholds=3, folds=4, out=tmp_path,
        )  # fmt: skip
    description = grid.description()
    with pytest.warns(UserWarning, match="taken off"):
        other = worker.job(description)
    assert other.store.path.name == grid.store.path.name and other.wanted() == grid.wanted()
    with pytest.warns(UserWarning, match="taken off"):
        grid = threshold_grid.Grid(network=str(path), x=x, y=y, measures=MEASURES, out=tmp_path)
    with pytest.raises(ValueError, match="Expected a network and examples that other processes can read too"):
        grid.run(workers=2)


def test_inputs_as_dict_targets_and_single_outputs(tmp_path):
    rng = np.random.default_rng(0)
    inputs = {"left": keras.Input((3,), name="left"), "right": keras.Input((2,), name="right")}
    model = keras.Model(inputs, layers.Dense(1)(layers.Concatenate()(list(inputs.values()))))
    x = {"left": rng.random((80, 3), "float32"), "right": rng.random((80, 2), "float32")}
    y = x["left"].sum(1, keepdims=True)
    model.compile("adam", "mse")
    model.fit(x, y, epochs=30, verbose=0)
    np.savez(tmp_path / "pairs.npz", **x, y=y)
    frame = threshold_grid.run(
        network=model, x=str(tmp_path / "pairs.npz"), measures=MEASURES, levels=["weight"], thresholds=3, out=tmp_path,
        progress=False,
    )  # fmt: skip
    assert set(frame["status"]) == {"ok"} and frame["fold"].nunique() == 4
    assert np.isclose(frame.attrs["chance_loss"], y.var())
    binary = keras.Sequential([keras.Input((3,)), layers.Dense(4, "relu"), layers.Dense(1, "sigmoid")])
    labels = (y > 1.5).astype(int)
    with pytest.warns(UserWarning, match="The sigmoid at the end"):
        grid = threshold_grid.Grid(
            network=binary, x=x["left"], y=labels, measures=MEASURES, thresholds=2, out=tmp_path, folds=2
        )  # fmt: skip
    assert np.isclose(grid.chance["chance_loss"], np.log(2)) and grid.chance["chance_accuracy"] == 0.5
    row = grid.run(progress=False).query("seed == 0 and threshold == 0").iloc[0]
    rows = given.divided(labels, 4)[1]
    right = (binary.predict(x["left"][rows], verbose=0) > 0.5) == labels[rows]
    assert np.isclose(row["validation_accuracy"], right.mean())


def test_folds_are_disjoint_and_have_every_label_alike():
    y = np.repeat(np.arange(5), [13, 40, 7, 101, 20])
    parts = given.divided(y, 8)
    assert len({len(part) for part in parts}) == 1
    everything = np.concatenate(parts)
    assert len(set(everything.tolist())) == len(everything) > len(y) - 8
    counts = np.stack([np.bincount(y[part], minlength=5) for part in parts])
    assert (counts.max(0) - counts.min(0) <= 1).all()


def test_frozen_weights_are_told_of(digits, tmp_path):
    model = network(digits[0], None, epochs=1)
    model.layers[1].trainable = False
    with pytest.warns(UserWarning, match="780 weights are frozen and take no part, beside 130 that are scored"):
        threshold_grid.Grid(network=model, x=digits[1], y=digits[2], out=tmp_path, measures=MEASURES)


def errors(digits, trained, tmp_path):
    """Name what is wrong, what is given, and what the message says."""
    (_, x, y), (_, path) = digits, trained
    (tmp_path / "text.keras").write_text("no network")
    (tmp_path / "empty").mkdir()
    inside = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(10), layers.Lambda(lambda x: x)])
    inside.save(tmp_path / "lambda.keras")
    late = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(10, "softmax"), layers.Dropout(0)])
    cross = "sparse_categorical_crossentropy"
    of_training = {"epochs": 5}
    return {
        "nothing there": ({"network": "nowhere.keras"}, FileNotFoundError, "there is no such file or folder"),
        "no network": ({"network": str(tmp_path / "text.keras")}, ValueError, "received something else. Save it so"),
        "code": ({"network": str(tmp_path / "lambda.keras")}, ValueError, "it has a Lambda layer, whose code would be"),
        "no files": ({"network": str(tmp_path / "empty")}, FileNotFoundError, "Expected .keras files in the folder"),
        "an object": ({"network": 3}, ValueError, "Expected a keras.Model, a .keras file, a folder"),
        "no application": ({"network": "applications:MyNet"}, ValueError, "with a name among .*MobileNetV2.*'MyNet'"),
        "other inputs": ({"x": x[:, :5]}, ValueError, "can be called with some of the examples.*failed"),
        "no labels": ({"y": None}, ValueError, "Expected labels: y=array"),
        "fewer labels": ({"y": y[:-1]}, ValueError, "Expected as many labels as inputs; received 799 and 800"),
        "too few": ({"x": x[:39], "y": y[:39]}, ValueError, "at least 20 examples in each of 2 folds.*received 39"),
        "too many folds": ({"folds": 60}, ValueError, "in each of 60 folds or more.*800 examples. Give more or fewer"),
        "labels outside": ({"y": y + 1}, ValueError, "Expected integer labels from 0 to 9.*from 1 to 10"),
        "epochs": (of_training, ValueError, "Expected epochs only with networks that are trained here"),
        "a model too": ({"model": "mlp"}, ValueError, "Expected model only with networks that are trained here"),
        "before training": ({"fill": "initial"}, ValueError, "the weights before training are not known"),
        "both": ({"task": "digits"}, ValueError, "Expected either examples x.*received both"),
        "neither": ({"x": None, "y": None}, ValueError, "Expected either examples x.*received neither"),
        "end inside": ({"network": late, "loss": cross}, ValueError, "whose last layer is a softmax or sigmoid"),
        "no file": ({"x": "nowhere.npz", "y": None}, FileNotFoundError, "found nothing at nowhere.npz"),
        "no arrays": ({"x": str(path), "y": None}, ValueError, "to be an .npz file|to hold arrays"),
        "no loss": ({"loss": "mes"}, ValueError, "Expected one keras.losses.Loss object, .*received 'mes'"),
        "odd options": ({"network_options": 5}, ValueError, "Expected network_options to be a dict .*received 5"),
        "options": ({"network_options": {"weights": None}}, ValueError, "network_options only for applications"),
        "other images": ({"x": x[:, :4, :4]}, ValueError, "can be called with some of the examples"),
        "sparse": ({"x": iter(x), "y": None}, ValueError, "Expected labels: y=array"),
    }  # fmt: skip


ERRORS = [
    "nothing there", "no network", "code", "no files", "an object", "no application", "other inputs", "no labels",
    "fewer labels", "too few", "too many folds", "labels outside", "epochs", "a model too", "before training", "both",
    "neither", "end inside", "no file", "no arrays", "no loss", "odd options", "options", "sparse", "other images",
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:The softmax at the end")
@pytest.mark.parametrize("wrong", ERRORS)
def test_what_is_refused(wrong, digits, trained, tmp_path):
    every = errors(digits, trained, tmp_path)
    assert set(every) == set(ERRORS)
    changed, kind, message = every[wrong]
    settings = {"network": trained[0], "x": digits[1], "y": digits[2], "measures": ["magnitude"], **changed}
    with pytest.raises(kind, match=message):
        threshold_grid.run(out=tmp_path, progress=False, **settings)
    assert not list(tmp_path.glob("*.csv"))


def test_what_is_for_networks_from_elsewhere_alone(tmp_path):
    with pytest.raises(ValueError, match="Expected x, folds only with a network that was trained elsewhere: network="):
        threshold_grid.Grid("iris", x=np.zeros((3, 4)), folds=2, out=tmp_path)


def test_a_file_that_changes_in_between(digits, tmp_path):
    task, x, y = digits
    folder = tmp_path / "networks"
    folder.mkdir()
    for seed in range(2):
        network(task, None, seed, epochs=1).save(folder / f"{seed}.keras")
    grid = threshold_grid.Grid(network=str(folder), x=x, y=y, measures=["magnitude"], thresholds=2, out=tmp_path)
    network(task, None, 5, epochs=1).save(folder / "1.keras")
    with pytest.raises(ValueError, match=r"Expected 1\.keras to hold the weights that it had when this began"):
        grid.run(progress=False)
    assert pathlib.Path(grid.store.path).exists()


def test_settings_by_the_names_of_a_notebooks_variables(digits, trained, tmp_path):
    names = {
        "task": "iris", "measures": MEASURES, "seeds": [0, 1], "epochs": 3, "network": None, "x": None, "y": None,
        "folds": None, "network_options": {}, "out": tmp_path, "workers": 2, "In": [""], "_": 3, "tasks": tasks,
    }  # fmt: skip
    grid = threshold_grid.from_names(names)
    assert (grid.settings.task, grid.settings.seeds, grid.settings.epochs) == ("iris", (0, 1), 3)
    assert grid.blocks == "networks" and grid.store.folder == tmp_path
    _, x, y = digits
    with pytest.warns(UserWarning, match="taken off"):
        grid = threshold_grid.from_names({**names, "network": trained[0], "x": x, "y": y})
    assert grid.blocks == "splits" and grid.settings.task.startswith("examples-") and grid.settings.folds == 16
    for wrong, right in {"treshold": "threshold", "seed": "seeds", "learning_rates": "learning_rate"}.items():
        with pytest.raises(ValueError, match=f"Expected the setting '{right}s?', received a variable '{wrong}'"):
            threshold_grid.from_names({**names, wrong: 3})


@pytest.mark.slow
@pytest.mark.long
def test_a_preset_of_kerashub(tmp_path):
    hub = pytest.importorskip("keras_hub")
    keras.utils.set_random_seed(0)
    backbone = hub.models.GPT2Backbone(
        vocabulary_size=11, num_layers=1, num_heads=2, hidden_dim=8, intermediate_dim=16, max_sequence_length=6
    )
    backbone.save_to_preset(str(tmp_path / "backbone"))
    hub.models.GPT2CausalLM(backbone).save_to_preset(str(tmp_path / "gpt"))
    tokens = np.random.default_rng(0).integers(0, 11, (80, 7)).astype("int32")
    x = {"token_ids": tokens[:, :-1], "padding_mask": np.ones((80, 6), "int32")}
    for name in ("gpt", "backbone"):  # whose head is its own embedding
        frame = threshold_grid.run(
            network=f"hub:{tmp_path / name}", x=x, y=tokens[:, 1:], measures=["magnitude", "taylor"], levels=["weight"],
            thresholds=2, out=tmp_path, progress=False,
        )  # fmt: skip
        assert set(frame["status"]) == {"ok"} and frame["fold"].nunique() == 4 and set(frame["model"]) == {name}
    layout = {
        "input_conv_filters": [64], "input_conv_kernel_sizes": [3], "stackwise_num_filters": [64],
        "stackwise_num_blocks": [1], "stackwise_num_strides": [1], "block_type": "basic_block",
        "use_pre_activation": False, "image_shape": (8, 8, 3),
    }  # fmt: skip
    hub.models.ResNetBackbone(**layout).save_to_preset(str(tmp_path / "resnet"))
    for name, message in {"resnet": "CausalLM|a backbone alone", "nothing": "received 'nothing'"}.items():
        where = tmp_path / name if name == "resnet" else name
        with pytest.raises(ValueError, match=message):
            threshold_grid.Grid(network=f"hub:{where}", x=x, y=tokens[:, 1:], out=tmp_path)


@pytest.mark.long
def test_an_application_has_its_own_preprocessing(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (40, 32, 32, 3)).astype("float32"), rng.integers(0, 2, 40)
    options = {"weights": None, "input_shape": (32, 32, 3), "classes": 2, "alpha": 0.35}
    settings = {"network": "applications:MobileNetV2", "y": y, "measures": ["magnitude"], "out": tmp_path}
    with pytest.warns(UserWarning, match="The softmax at the end of MobileNetV2 is taken off"):
        grid = threshold_grid.Grid(x=x, network_options=options, **settings)
    assert grid.settings.model == "MobileNetV2"
    assert np.allclose(grid._source.scored[0], x[given.divided(y, 4)[0]] / 127.5 - 1, atol=1e-5)
    with pytest.raises(ValueError, match="Expected pixels from 0 to 255 for applications:MobileNetV2"):
        threshold_grid.Grid(x=x / 255, network_options=options, **settings)


def test_a_file_whose_loss_is_not_known_needs_one_and_loses_its_optimizer_with_a_word(digits, tmp_path):
    @keras.saving.register_keras_serializable("gone")
    class Gone(keras.losses.Loss):
        def call(self, y, outputs):
            return keras.losses.sparse_categorical_crossentropy(y, outputs, from_logits=True)

    task, x, y = digits
    model = network(task, None, epochs=1)
    model.compile("adam", Gone())
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "own.keras")
    del keras.saving.get_custom_objects()["gone>Gone"]
    asked = {"network": str(tmp_path / "own.keras"), "x": x, "y": y, "measures": ["magnitude"], "out": tmp_path}
    with pytest.raises(ValueError, match=r"with a loss that Keras knows; .*Pass the loss that is meant as loss="):
        threshold_grid.Grid(**asked)
    with pytest.warns(UserWarning, match="is taken without its optimizer, for restoring how it was compiled gave"):
        grid = threshold_grid.Grid(**asked, loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert grid.settings.folds == 16
