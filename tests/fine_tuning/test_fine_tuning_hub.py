"""A GPT-2 of KerasHub: the model is its own, and it is fine-tuned and scored like the small one."""

import sys

import keras
import numpy as np
import pytest
import reference_language

import importance
from engine import draws, training
from experiments import fine_tuning
from tasks import texts

keras_hub = pytest.importorskip("keras_hub")

# Saving in Keras and, on JAX, reading a variable.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,;()=*ĠĊ"
MERGES = ["a n", "an d", "Ġ and", "1 2"]
LENGTH = 8


@pytest.fixture(scope="module")
def gpt2():
    tokens = [*LETTERS, "an", "and", "Ġand", "12", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = keras_hub.models.GPT2Tokenizer(vocabulary=vocabulary, merges=MERGES)
    keras.utils.set_random_seed(0)
    backbone = keras_hub.models.GPT2Backbone(
        vocabulary_size=len(tokens), num_layers=1, num_heads=2, hidden_dim=16, intermediate_dim=32,
        max_sequence_length=16,
    )  # fmt: skip
    for variable in backbone.trainable_variables:  # not the small ones that a model begins with
        variable.assign(variable + keras.random.normal(variable.shape, stddev=0.3, seed=1))
    preprocessor = keras_hub.models.GPT2CausalLMPreprocessor(tokenizer, sequence_length=16)
    return keras_hub.models.GPT2CausalLM(backbone=backbone, preprocessor=preprocessor)


@pytest.fixture(scope="module")
def preset(gpt2, tmp_path_factory):
    folder = tmp_path_factory.mktemp("presets") / "tiny gpt2"
    gpt2.save_to_preset(str(folder))
    return folder


@pytest.fixture
def hub(small, preset):
    small.settings |= {"model": preset, "model_options": {}, "pretraining_steps": None}
    return small


def test_the_model_is_the_presets_own(gpt2, preset):
    language = texts.language(preset)
    assert (language.name, language.vocabulary, language.pretrained) == ("tiny-gpt2", len(LETTERS) + 5, True)
    assert list(language.encode("1 and 12")) == [27, 47, 43, 48]
    models = [language.build(LENGTH) for _ in range(2)]
    tokens = np.random.default_rng(0).integers(0, language.vocabulary, (3, LENGTH)).astype("int32")
    expected = np.asarray(gpt2({"token_ids": tokens, "padding_mask": np.ones_like(tokens)}))
    for model in models:
        np.testing.assert_allclose(np.asarray(model(tokens)), expected, atol=1e-5)
        assert model.count_params() == gpt2.count_params()
    # Each has its own weights: changing one model's changes no other's.
    for variable in models[0].trainable_variables:
        variable.assign(variable * 0)
    np.testing.assert_allclose(np.asarray(language.build(LENGTH)(tokens)), expected, atol=1e-5)
    np.testing.assert_allclose(np.asarray(models[1](tokens)), expected, atol=1e-5)
    changed = tokens.copy()
    changed[:, 5] = (changed[:, 5] + 1) % language.vocabulary
    np.testing.assert_allclose(np.asarray(models[1](changed))[:, :5], expected[:, :5], atol=1e-5)


@pytest.mark.parametrize("per_token", [False, True])
def test_importances_are_those_of_a_slow_loop_and_kept(hub, monkeypatch, per_token):
    job = hub.job(per_token=per_token)
    model = job._language.build(LENGTH)
    x, y = job._old.draw(6, draws.generator(0, "scored sequences"))
    if per_token:
        gradients = reference_language.token_gradients(
            model, x, y, draws.generator(0, "scored tokens").integers(0, LENGTH, 6)
        )  # fmt: skip
    else:
        gradients = reference_language.gradients(model, x, y)
    found = job.scores("fisher_empirical", 0)
    reference_language.assert_close(found, reference_language.mean_square(gradients))
    monkeypatch.setattr(importance.LoadedMeasure, "score", None)  # computed no more
    assert all(np.array_equal(a, b) for a, b in zip(hub.job(per_token=per_token).scores("fisher_empirical", 0), found))  # noqa: B905


def test_it_is_fine_tuned(hub, preset):
    settings = {"measures": ["fisher_empirical"], "penalties": ["stabilized"], "strengths": [1.0]}
    job = hub.job(**settings)
    frame = job.run(progress=False)
    assert set(frame["status"]) == {"ok"} and set(frame["model"]) == {"tiny-gpt2"} and len(frame) == 2 * 3
    model = job._language.build(LENGTH)
    expected = [reference_language.mean_loss(model, *part) for part in job.held_out()]
    for _, row in frame[frame["step"] == 0].iterrows():
        np.testing.assert_allclose(row[["old_loss", "new_loss"]].astype(float), expected, rtol=1e-5)
    assert (frame[frame["step"] == 4]["new_loss"] < expected[1]).all()
    for a, b in zip(job.pretrained(0), training.values(model.trainable_variables), strict=False):
        np.testing.assert_array_equal(a, b)
    kinds = set(job.spread.frame()["kind"])
    assert kinds == {"embedding", "attention", "dense", "normalisation"}
    assert hub.job(**settings).run(progress=False).equals(frame)


@pytest.mark.slow
def test_its_factors_are_tuned(hub):
    settings = {"measures": ["magnitude"], "penalties": ["plain:lora=2"], "strengths": [1.0], "lora": [2]}
    frame = hub.run(**settings).set_index(["penalty", "measure", "step"])
    assert set(frame["status"]) == {"ok"}
    for of in (("none", "lora"), ("plain:lora=2", "magnitude")):
        assert frame.loc[(*of, 4), "new_loss"] < frame.loc[(*of, 0), "new_loss"]


def test_a_preset_that_is_none(hub, tmp_path, preset, monkeypatch):
    folder = tmp_path / "empty"
    folder.mkdir()
    with pytest.raises(ValueError, match=r"received .*empty, which has no config.json. Write one with model.save_to"):
        hub.job(model=folder)
    (folder / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"name or the folder of a GPT-2 preset of KerasHub, received '.*empty'"):
        hub.job(model=folder)
    with pytest.raises(ValueError, match=r"at most 16 tokens for 'tiny-gpt2', received sequence_length=17"):
        hub.job(sequence_length=17)
    with pytest.raises(ValueError, match="no options for the preset"):
        hub.job(model_options={"width": 16})
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(ImportError, match=r"pip install -r requirements-hub.txt, or use model='gpt'"):
        fine_tuning.run(hub.old, hub.new, model="gpt2_base_en", out=tmp_path / "out")
