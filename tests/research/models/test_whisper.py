"""Whisper: its reference's logits, gradients and tokens, padding of its features, its options, and its sizes."""

from __future__ import annotations

import dataclasses

import encoder_decoders
import jax
import jax.numpy as jnp
import language_models
import numpy as np
import pytest

from research.decoding import Generation, generate
from research.errors import RequestError
from research.models.whisper import SIZES, SpeechEncoder, Whisper, whisper
from research.pretrained import whisper as published

FIXTURES = [("whisper", {"scan_layers": True, "remat": True, "kernel": "xla"}), ("whisper_odd", {})]


@pytest.mark.parametrize(("name", "fields"), FIXTURES, ids=["whisper", "odd"])
def test_the_reference(name, fields):
    arrays, model, key_map, variables = language_models.reference(published.FAMILY, name, fields)
    features, target = arrays["input/input_features"].transpose(0, 2, 1), arrays["input/decoder_input_ids"]
    encoder_decoders.check_parity(
        arrays,
        key_map,
        variables,
        lambda v: model.apply(v, features, None, target),
        padding=-100,
        constants=("model.encoder.embed_positions.weight",),
    )
    ids = arrays["gen/greedy_ids_plain_argmax"]
    how = Generation(max_new_tokens=ids.shape[1] - 1)
    given = generate(model, variables, ids[:, :1], how, memory={"features": features})
    np.testing.assert_array_equal(given.tokens[:, 0], ids[:, 1:])


def test_what_the_encoder_gives():
    arrays, model, _, variables = language_models.reference(published.FAMILY, "whisper", {})
    features = arrays["input/input_features"].transpose(0, 2, 1)
    encoder = SpeechEncoder(mels=16, width=32, depth=2, num_heads=4, mlp_width=64, audio_length=30)
    own = {name: tree["encoder"] for name, tree in variables.items()}
    for mask in (None, np.ones(features.shape[:2], bool)):
        given, valid = jax.jit(encoder.apply)(own, features, mask)
        np.testing.assert_allclose(given, arrays["output/encoder_last_hidden_state"], atol=2e-5)
        assert (valid is None) == (mask is None)


TINY = Whisper(11, context_length=12, mels=5, width=8, depth=1, decoder_depth=2, num_heads=2, audio_length=9)
FEATURES = np.random.default_rng(0).normal(size=(3, 13, 5)).astype(np.float32)
MASK = np.arange(13) < np.array([13, 8, 5])[:, None]
TARGET = np.random.default_rng(1).integers(1, 11, (3, 5))

OPTIONS = [
    pytest.param({}, marks=pytest.mark.slow),  # like the fixtures, whose tokens are decoded with a cache
    {"strides": (2, 2), "scan_layers": True, "decoder_num_heads": 4, "tied_head": False, "decoder_mlp_width": 12},
]


@pytest.mark.parametrize("fields", OPTIONS, ids=str)
def test_what_the_text_sees_and_what_the_cache_keeps(fields):
    model = dataclasses.replace(TINY, **fields)
    model.check()
    variables = encoder_decoders.sure(model, FEATURES, MASK, TARGET)
    encoder_decoders.check_order(model, variables, FEATURES, MASK)
    encoder_decoders.check_decoding(model, variables, {"features": FEATURES, "features_mask": MASK})


def test_positions_of_the_encoder_are_kept_and_not_trained():
    variables = jax.jit(TINY.init)(jax.random.key(0), FEATURES, None, TARGET)
    table = variables["constants"]["encoder"]["positions"]
    assert table.shape == (9, 8)
    np.testing.assert_allclose(table[:, 0], np.sin(np.arange(9)), atol=1e-6)
    np.testing.assert_allclose(table[:, -1], np.cos(np.arange(9) / 10000), atol=1e-6)
    assert "positions" not in variables["params"]["encoder"]


def test_dropout_only_in_training_and_bfloat16_inside():
    model = dataclasses.replace(TINY, dropout=0.3, decoder_depth=1)
    variables = jax.jit(model.init)(jax.random.key(0), FEATURES, MASK, TARGET)
    apply, rngs = jax.jit(model.apply, static_argnames="train"), {"dropout": jax.random.key(1)}
    quiet = apply(variables, FEATURES, MASK, TARGET)
    assert abs(apply(variables, FEATURES, MASK, TARGET, train=True, rngs=rngs) - quiet).max() > 1e-3
    short = jax.jit(dataclasses.replace(model, dtype="bfloat16").apply)(variables, FEATURES, MASK, TARGET)
    assert short.dtype == jnp.float32
    np.testing.assert_allclose(short, quiet, atol=0.1)


PARAMETERS = {  # counted like the reference, including the encoder's table of positions
    "tiny": 37_760_640,
    "base": 72_593_920,
    "small": 241_734_912,
    "medium": 763_857_920,
    "large": 1_543_304_960,
    "large-v3": 1_543_490_560,
    "large-v3-turbo": 808_878_080,
}


@pytest.mark.parametrize("size", SIZES)
def test_published_sizes(size):
    shapes = published.FAMILY.shapes(whisper(size, scan_layers=True))
    assert sum(x.size for x in jax.tree.leaves(shapes)) == PARAMETERS[size]


BAD = [
    ({"num_heads": 3}, "num_heads=3: expected a divisor of width=8"),
    ({"decoder_num_heads": 3}, "decoder_num_heads=3: expected a divisor of width=8"),
    ({"width": 9, "num_heads": 3}, "width=9: expected an even number"),
    ({"mels": 0}, "mels=0: expected at least 1"),
    ({"strides": (0, 2)}, "strides=(0, 2): expected at least 1"),
    ({"vocab_size": 0}, "vocab_size=0: expected at least 1"),
    ({"attention_dropout": 1.0}, "attention_dropout=1.0: expected 0 <= attention_dropout < 1"),
]


@pytest.mark.parametrize(("fields", "line"), BAD, ids=str)
def test_impossible_models_are_refused(fields, line):
    with pytest.raises(RequestError) as refusal:
        dataclasses.replace(TINY, **fields).check()
    assert str(refusal.value).startswith(line) and "\n" not in str(refusal.value)


LONG = [
    ((1, 19, 5), 2, "features: 19 frames, expected at most 18 for audio_length=9 vectors"),
    ((1, 13, 4), 2, "features: 4 in a frame, expected mels=5"),
    ((1, 13, 5), 13, "target: 13 in a row, expected at most context_length=12"),
]


@pytest.mark.parametrize(("shape", "tokens", "line"), LONG, ids=[line for *_, line in LONG])
def test_inputs_that_do_not_fit_are_refused(shape, tokens, line):
    with pytest.raises(RequestError) as refusal:
        jax.eval_shape(TINY.init, jax.random.key(0), np.zeros(shape, np.float32), None, np.zeros((1, tokens), int))
    assert str(refusal.value) == line


def test_an_unknown_size_names_the_nearest():
    with pytest.raises(RequestError, match="did you mean 'large-v3'"):
        whisper("large_v3")
