"""generation_config.json: the meaning of transformers' settings, and the file that we write."""

from __future__ import annotations

import json

import numpy as np
import parity
import pytest
from safetensors.numpy import save_file

from research.decoding import Beam, Generation, Greedy, Sample, generate
from research.errors import RequestError
from research.models.mlp import MLP
from research.pretrained import Pretrained, export_pretrained, load_pretrained
from research.pretrained.generation_config import Decoding, read, written

MARIAN = {
    "bad_words_ids": [[58100]],
    "bos_token_id": 0,
    "decoder_start_token_id": 58100,
    "eos_token_id": 0,
    "forced_eos_token_id": 0,
    "max_length": 512,
    "num_beams": 6,
    "pad_token_id": 58100,
    "renormalize_logits": True,
    "transformers_version": "4.32.0",
}
WHISPER = {
    "begin_suppress_tokens": [220, 50257],
    "decoder_start_token_id": 50258,
    "eos_token_id": 50257,
    "pad_token_id": 50257,
    "forced_decoder_ids": [[1, None], [2, 50359]],
    "is_multilingual": True,
    "lang_to_id": {"<|de|>": 50261, "<|en|>": 50259},
    "max_initial_timestamp_index": 50,
    "max_length": 448,
    "no_timestamps_token_id": 50363,
    "suppress_tokens": [1, 2, 7],
    "task_to_id": {"transcribe": 50359, "translate": 50358},
}


def test_marian():
    start, how = read(MARIAN, context_length=512)
    assert start == (58100,)
    assert how == Generation(
        strategy=Beam(6),
        max_new_tokens=511,
        stop_tokens=(0,),
        pad_token=58100,
        suppress=(58100,),
        last_token=0,
        renormalize=True,
    )


def test_whisper_is_told_the_language():
    start, how = read(WHISPER, context_length=448, language="de")
    assert start == (50258, 50261, 50359, 50363)
    assert how == Generation(
        max_new_tokens=444,
        stop_tokens=(50257,),
        pad_token=50257,
        suppress=(1, 2, 7),
        suppress_first=(220, 50257),
    )


def test_whisper_for_english_is_told_nothing():
    english = WHISPER | {"is_multilingual": False, "forced_decoder_ids": [[1, 50362]]}
    assert read(english, context_length=448).start == (50258, 50362)


def test_sampling_has_the_defaults_of_transformers():
    _, how = read({"do_sample": True, "temperature": 0.6, "top_p": 0.9, "eos_token_id": [1, 2]}, context_length=64)
    assert how.strategy == Sample(temperature=0.6, top_k=50, top_p=0.9)
    assert (how.stop_tokens, how.pad_token, how.max_new_tokens) == ((1, 2), 1, 63)


def test_a_forbidden_word_that_is_a_stop_token_ends_the_text_all_the_same():
    _, how = read({"bad_words_ids": [[1], [7]], "eos_token_id": [1, 2]}, context_length=64)
    assert (how.suppress, how.stop_tokens) == ((7,), (1, 2))


def test_a_decoder_beside_an_encoder_begins_with_bos_unless_told_otherwise():
    config = {"bos_token_id": 5, "max_length": 20}
    assert read(config, context_length=64, begins=True).start == (5,)
    assert read(config | {"decoder_start_token_id": 3}, context_length=64, begins=True).start == (3,)
    assert read(config, context_length=64).start == ()


def test_nothing_given():
    assert read({}, context_length=1024) == Decoding((), Generation())


DECODINGS = [
    Decoding((3,), Generation(strategy=Beam(4, 0.6, "never", 2), max_new_tokens=20, stop_tokens=(2,), pad_token=1)),
    Decoding((3, 5, 6), Generation(strategy=Greedy(), max_new_tokens=8, stop_tokens=(2,), suppress_first=(4, 5))),
    Decoding(
        (3,), Generation(strategy=Beam(2, early_stopping="full"), max_new_tokens=8, suppress=(1, 9), last_token=2)
    ),
    Decoding((), Generation(strategy=Sample(0.5, None, 0.9), max_new_tokens=30, stop_tokens=(1, 2), renormalize=True)),
    Decoding((), Generation(strategy=Sample(1.0, 40), max_new_tokens=30, stop_tokens=(7,))),
]


@pytest.mark.parametrize("decoding", DECODINGS, ids=str)
def test_there_and_back(decoding):
    assert read(json.loads(json.dumps(written(decoding))), context_length=64) == decoding


WRONG = [
    ({"repetition_penalty": 1.2}, "generation_config.json: repetition_penalty=1.2 is not supported"),
    (
        {"no_repeat_ngram_size": 3, "min_length": 5},
        "generation_config.json: min_length=5, no_repeat_ngram_size=3 is not",
    ),
    ({"do_sample": True, "num_beams": 4}, "do_sample=True with num_beams=4 in generation_config.json is not supported"),
    ({"num_beams": "4"}, "num_beams='4' in generation_config.json: expected a whole number"),
    (
        {"num_beams": 4, "early_stopping": "soon"},
        "early_stopping='soon' in generation_config.json: expected true, false",
    ),
    ({"eos_token_id": "</s>"}, "eos_token_id='</s>' in generation_config.json: expected a token, or a list of tokens"),
    ({"forced_eos_token_id": [1, 2]}, "forced_eos_token_id=[1, 2] in generation_config.json: expected one token"),
    ({"bad_words_ids": [[1, 2]]}, "bad_words_ids=[[1, 2]] in generation_config.json: expected lists of one token each"),
    (
        {"forced_decoder_ids": [[1, None]]},
        "forced_decoder_ids=[[1, None]] in generation_config.json: expected [[1, token]",
    ),
    ({"decoder_start_token_id": 1, "max_length": 1}, "max_new_tokens=0: expected at least 1"),
    (WHISPER, "language=None: this model is told the language; one of: de, en"),
]


@pytest.mark.parametrize(("config", "line"), WRONG, ids=[line for _, line in WRONG])
def test_what_cannot_be_meant(config, line):
    with pytest.raises(RequestError) as refusal:
        read(config, context_length=448)
    assert str(refusal.value).startswith(line)


def test_languages_that_there_are_not():
    with pytest.raises(RequestError, match=r"^language='fr': one of: de, en$"):
        read(WHISPER, context_length=448, language="fr")
    with pytest.raises(RequestError, match=r"^language='de': this model is told no language$"):
        read(MARIAN, context_length=512, language="de")


def test_sliding_is_not_written():
    with pytest.raises(RequestError, match="^slide=True: no generation_config.json can express this$"):
        written(Decoding((), Generation(slide=True)))


def test_a_model_that_writes_no_text():
    with pytest.raises(RequestError, match="^decoding: MLP writes no text$"):
        Pretrained(MLP(widths=(2,), classes=2), {}, None, "huggingface").decoding()


def test_a_published_folder_writes_as_the_reference_does(tmp_path):
    """Also for the folder that we export again."""
    arrays, metadata = parity.load("gen_marian")
    save_file(parity.under(arrays, "param/"), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(metadata["config"]))
    settings = {
        "decoder_start_token_id": 39,
        "pad_token_id": 39,
        "eos_token_id": 0,
        "forced_eos_token_id": 0,
        "bad_words_ids": [[39]],
        "num_beams": 4,
        "length_penalty": 0.6,
        "early_stopping": True,
        "num_return_sequences": 2,
        "max_length": 12,
    }
    (tmp_path / "generation_config.json").write_text(json.dumps(settings))
    published = load_pretrained("auto", tmp_path)
    export_pretrained(*published, tmp_path / "again" / "model.safetensors", decoding=published.decoding())

    config = json.loads((tmp_path / "again" / "config.json").read_text())
    assert (config["decoder_start_token_id"], config["bos_token_id"], config["eos_token_id"]) == (39, 39, 0)

    source, mask = arrays["input/input_ids"], arrays["input/attention_mask"].astype(bool)
    for folder in (tmp_path, tmp_path / "again"):
        model = load_pretrained("auto", folder)
        start, how = model.decoding()
        prompt = np.tile(start, (len(source), 1))
        tokens = generate(*model, prompt, how, memory={"source": source, "source_mask": mask}).tokens
        expected = arrays["gen/beam4_lp0.6_esTrue/ids"][:, 1:]
        np.testing.assert_array_equal(np.asarray(tokens).reshape(len(expected), -1)[:, : expected.shape[1]], expected)
