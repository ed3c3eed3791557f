"""Networks on disk: who trains, what is refused, and what is listed."""

import multiprocessing
import re
import shutil

import numpy as np
import pytest
from grid_runs import run

from engine import backend, structure, training
from experiments import __main__, networks

START = {"model/00000": np.zeros((2, 2), "float32"), "optimizer/00000": np.array(0)}


@pytest.fixture
def copy(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def folder(copy):
    (folder,) = (copy / networks.FOLDER).iterdir()
    return folder


@pytest.fixture
def network(copy, folder):
    return networks.Network(copy, folder.name, 0, networks.recorded())


def step(state, epochs):
    return {name: array + len(epochs) for name, array in state.items()}


def test_an_epoch_that_is_not_kept(network):
    assert network.epochs() == [0, 1, 2, 3] and network.untrained([2, 5, 7], networks.recorded()) == 4
    assert network.untrained([2, 3], {"rwalk": "of another file"}) == 3
    with pytest.raises(ValueError, match=r"Expected an epoch that is kept in .*\(0, 1, 2, 3\), received 7"):
        network.load(7)


@pytest.mark.parametrize("other, wrong", [("seed-0/00002", "epoch 3"), ("seed-1/00003", "seed 0")])
def test_another_file_in_its_place(copy, folder, network, quick, other, wrong):
    shutil.copy(folder / f"{other}.npz", folder / "seed-0" / "00003.npz")
    with pytest.raises(ValueError, match=f"to be of the {wrong}, received one that says"):
        network.load(3)
    with pytest.raises(ValueError, match=f"to be of the {wrong}"):
        run(copy, levels=["layer"])


def test_another_folder_in_its_place(copy, folder, quick):
    shutil.rmtree(folder / "seed-1")
    shutil.copytree(folder / "seed-0", folder / "seed-1")
    with pytest.raises(ValueError, match=r"seed-1.00000.npz to be of the seed 1, received one that says 0"):
        run(copy, levels=["layer"])
    with pytest.raises(ValueError, match=r"to be of the network other, received one that says iris-mlp-\w+: another f"):
        shutil.copytree(folder, folder.parent / "other")
        networks.Network(copy, "other", 0).begin(START)


def test_a_later_epoch_of_another_beginning(tmp_path):
    for number in (0, 1):
        network = networks.Network(tmp_path / str(number), "name", 0)
        network.begin({name: array + number for name, array in START.items()})
        network.take(1, {}, step)
    shutil.copy(tmp_path / "0/networks/name/seed-0/00001.npz", tmp_path / "1/networks/name/seed-0")
    with pytest.raises(ValueError, match=r"to be of the initial weights \w+, received one that says \w+"):
        network.take(1, {}, step)


def test_weights_that_are_not_those_that_were_written(network):
    state, says = network._kept.read(3)
    network._kept.save(3, state | {"model/00000": state["model/00000"] + 1}, **says)
    with pytest.raises(ValueError, match=r"of the weights \w+, received one that says \w+: another file"):
        network.load(3)


@pytest.mark.skipif(backend.NAME == "jax", reason="JAX always uses XLA")
def test_networks_of_another_compiler_do_not_join_the_rows(copy, monkeypatch):
    monkeypatch.setattr(structure, "xla", lambda model: True)
    with pytest.raises(ValueError, match=r"the network n\w+, of which rows in .* for seed 0; received n\w+: the"):
        run(copy, levels=["layer"])


def test_nor_do_those_that_training_makes_others_of_by_now(copy, folder, quick, monkeypatch):
    shutil.rmtree(folder)
    order = training.order
    monkeypatch.setattr(training, "order", lambda *a: order(*a)[::-1])
    with pytest.raises(ValueError, match=r"the weights w\w+, of which rows in .* for seed 0 and epoch 1; received w"):
        run(copy, levels=["layer"])


def test_training_again_that_ends_in_others_replaces_nothing(tmp_path):
    network = networks.Network(tmp_path, "name", 0)
    network.begin(START)
    first = network.take(1, {}, step)
    again = networks.Network(tmp_path, "name", 0, {"rwalk": "abc"})
    again.begin(START)
    with pytest.raises(ValueError, match=r"Expected the weights w\w+ of .*00001.npz again"), pytest.warns(UserWarning):
        again.take(1, {"rwalk": "abc"}, lambda state, epochs: step(step(state, epochs), epochs))
    assert np.array_equal(again.take(1, {}, step)["model/00000"], first["model/00000"])


def test_a_measure_that_reads_the_record_of_another_needs_only_that():
    of_others = {name: networks.record_of(name) for name in networks.recorded()}
    assert {name: of for name, of in of_others.items() if name != of} == {"movement": "synaptic_intelligence"}


def test_epochs_are_trained_from_the_nearest_before_them(tmp_path):
    network, asked = networks.Network(tmp_path, "name", 0), []
    network.begin(START)
    for epoch in (2, 5, 3, 5):
        state = network.take(epoch, {}, lambda state, epochs: (asked.append(list(epochs)), step(state, epochs))[1])
        assert (state["model/00000"] == epoch).all()
    assert asked == [[1, 2], [3, 4, 5], [3]]


def wants(out, started, go):
    def train(state, epochs):
        started.set()
        go.wait(20)
        return step(state, epochs)

    network = networks.Network(out, "name", 0)
    network.begin(START)
    network.take(1, {}, train)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning", "ignore:.*fork:RuntimeWarning")
@pytest.mark.parametrize("killed", [False, True])
def test_of_two_that_want_a_network_one_trains_it(tmp_path, killed):
    """The other waits, and takes it, or trains it if the first was killed."""
    context = multiprocessing.get_context("fork")
    both = []
    for _ in range(2):
        started, go = context.Event(), context.Event()
        process = context.Process(target=wants, args=(tmp_path, started, go))
        process.start()
        both.append((process, started, go))
        if len(both) == 1:
            assert started.wait(20)
    (first, _, go), (second, began, goes) = both
    assert not began.wait(0.3) and second.is_alive()
    first.kill() if killed else go.set()
    goes.set()
    for process in (first, second):
        process.join(20)
    assert second.exitcode == 0 and began.is_set() == killed
    assert networks.Network(tmp_path, "name", 0).epochs() == [0, 1]


def test_they_are_listed_with_the_studies_that_use_them(copy):
    (row,) = networks.table(copy).to_dict("records")
    assert (row["seeds"], row["epochs"], row["studies"]) == (2, "0, 1, 2, 3", next(copy.glob("*.csv")).stem)
    assert row["megabytes"] > row["of_records"] > 0


def test_the_command_says_what_they_take(copy, tmp_path_factory, capsys):
    __main__.main(["networks", str(copy)])
    (name,) = (copy / networks.FOLDER).iterdir()
    said = capsys.readouterr().out
    assert name.name in said and re.search(r"[\d.]+ MB in .*networks, [\d.]+ of them records of the training", said)
    __main__.main(["networks", str(tmp_path_factory.mktemp("none"))])
    assert capsys.readouterr().out == "No networks yet.\n"
