"""Texts and language models: what is drawn from a text, and that a model sees no token before its time."""

import keras
import numpy as np
import pytest

from tasks import texts

LENGTH = 8
GPT = texts.language("gpt", blocks=1, width=16, heads=2)


@pytest.fixture
def written(tmp_path):
    """A text of 2000 characters in which each number of three digits stands once."""
    path = tmp_path / "numbers.txt"
    path.write_text("".join(f"{n:03} " for n in range(500)), encoding="utf-8")
    return path


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    return GPT.build(LENGTH)


def test_names():
    assert texts.names() == ["prose", "python"]


@pytest.mark.parametrize("name", texts.names())
def test_the_texts_of_this_folder_are_always_the_same_and_long(name):
    text = texts.read(name)
    assert text == texts.read(name) and 400_000 < len(text) <= 1_000_000
    loaded = texts.load(name, GPT, 128)
    assert loaded.name == name and loaded.digest == texts.load(name, GPT, 64).digest
    assert loaded.train.dtype == np.int32 and 0 <= loaded.train.min() and loaded.train.max() < GPT.vocabulary
    assert len(loaded.held_out) == pytest.approx(len(text) / 10, rel=0.01)
    x, _ = loaded.evaluated(128)
    assert x.shape == (128, 128)


def test_a_text_is_its_bytes(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("é" + "a" * 198, encoding="utf-8")
    loaded = texts.load(path, GPT, LENGTH)
    assert loaded.name == "text" and loaded.train[:3].tolist() == [0xC3, 0xA9, 97]
    assert (len(loaded.train), len(loaded.held_out)) == (180, 20)


@pytest.mark.parametrize("part", ["draw", "evaluated"])
def test_what_comes_next_is_what_was_given_moved_by_one(written, part):
    loaded = texts.load(written, GPT, LENGTH)
    x, y = loaded.draw(20, np.random.default_rng(1)) if part == "draw" else loaded.evaluated(20)
    assert x.dtype == y.dtype == np.int32 and x.shape == y.shape == (20, LENGTH)
    assert np.array_equal(y[:, :-1], x[:, 1:])
    characters = written.read_text()
    for given, following in zip(x, y, strict=True):
        together = bytes([*given.tolist(), following[-1]]).decode()
        assert together in characters


def test_a_seed_decides_what_is_drawn_and_none_draws_what_is_held_out(written):
    loaded = texts.load(written, GPT, LENGTH)
    once, again, other = (loaded.draw(300, np.random.default_rng(seed))[0] for seed in (1, 1, 2))
    assert np.array_equal(once, again) and not np.array_equal(once, other)
    train, held_out = (bytes(part.tolist()).decode() for part in (loaded.train, loaded.held_out))
    assert train + held_out == written.read_text()
    x, y = loaded.draw(20_000, np.random.default_rng(0))
    places = {train.index(bytes([*a.tolist(), b]).decode()) for a, b in zip(x, y[:, -1], strict=True)}
    assert places == set(range(len(train) - LENGTH))  # all of the training part, and nothing else


def test_evaluated_sequences_do_not_overlap_and_are_spread_over_the_part(written):
    loaded = texts.load(written, GPT, LENGTH)
    held_out = bytes(loaded.held_out.tolist()).decode()
    for asked, found in ((4, 4), (1000, 24)):
        x, _ = loaded.evaluated(asked)
        starts = [held_out.index(bytes(row.tolist()).decode()) for row in x]
        assert len(x) == found and min(np.diff(starts)) >= LENGTH
        assert starts[0] == 0 and starts[-1] >= len(held_out) - 2 * LENGTH - 1


def test_a_text_that_is_none(tmp_path):
    with pytest.raises(FileNotFoundError, match="texts prose, python, or the path of a text file; received 'pros'"):
        texts.read("pros")
    with pytest.raises(FileNotFoundError, match="which is neither"):
        texts.read(tmp_path)
    empty = tmp_path / "empty.txt"
    empty.write_text(" \n")
    with pytest.raises(ValueError, match=r"Expected a text, received .*empty.txt, in which there is none"):
        texts.read(empty)
    latin = tmp_path / "latin.txt"
    latin.write_bytes(b"caf\xe9 au lait")
    with pytest.raises(ValueError, match=r"UTF-8, received .*latin.txt, whose byte 3 \(0xe9\) is none.*iconv"):
        texts.read(latin)
    short = tmp_path / "short.txt"
    short.write_text("x" * 80)
    with pytest.raises(ValueError, match=r"longer than a sequence of 8 tokens, received .*short.txt' with 80 tokens"):
        texts.load(short, GPT, LENGTH)
    assert len(texts.load(short, GPT, 7).evaluated(9)[0]) == 1


def test_a_model_sees_no_token_before_its_time(model):
    tokens = np.random.default_rng(0).integers(0, 256, (3, LENGTH)).astype("int32")
    logits = np.asarray(model(tokens))
    assert logits.shape == (3, LENGTH, 256)
    for place in range(LENGTH):
        changed = tokens.copy()
        changed[:, place] = (changed[:, place] + 1) % 256
        moved = np.abs(np.asarray(model(changed)) - logits).max(axis=-1)
        assert moved[:, :place].max(initial=0) < 1e-6 and moved[:, place:].min() > 1e-6


def test_a_place_counts(model):
    same = np.full((1, LENGTH), 97, "int32")
    logits = np.asarray(model(same))[0]
    assert np.abs(np.diff(logits, axis=0)).max(axis=-1).min() > 1e-4


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras, when it loads a layer
def test_a_model_is_saved_and_loaded_without_running_code(model, tmp_path):
    tokens = np.random.default_rng(0).integers(0, 256, (3, LENGTH)).astype("int32")
    model.save(tmp_path / "gpt.keras")
    again = keras.saving.load_model(tmp_path / "gpt.keras", safe_mode=True)
    np.testing.assert_array_equal(np.asarray(again(tokens)), np.asarray(model(tokens)))


def test_the_size_that_is_told_of():
    assert texts.language("gpt").build(128).count_params() == 478_976


def test_one_position(model):
    tokens = np.random.default_rng(0).integers(0, 256, (3, LENGTH)).astype("int32")
    places = np.array([0, 5, LENGTH - 1], "int32")
    there = texts.one_position(model)
    assert [id(v) for v in there.trainable_variables] == [id(v) for v in model.trainable_variables]
    found = np.asarray(there(np.concatenate([places[:, None], tokens], axis=1)))
    np.testing.assert_allclose(found, np.asarray(model(tokens))[np.arange(3), places], atol=1e-6)


def test_options_are_of_the_small_model_only():
    with pytest.raises(ValueError, match="no options for the preset 'gpt2_base_en', received width"):
        texts.language("gpt2_base_en", width=16)
