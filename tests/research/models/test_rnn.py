"""Recurrent models: the reference's head on every token, pooling, and packed texts."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import parity
import pytest

from research.errors import RequestError
from research.models.rnn import RNNClassifier, RNNLanguageModel
from research.pretrained import mapping, rnn


@pytest.mark.parametrize("packed", [False, True], ids=["whole", "packed"])
@pytest.mark.parametrize("name", ["rnn", "lstm", "gru", "rnn_relu_bidirectional", "lstm_bidirectional"])
def test_logits_of_every_token(name, packed):
    arrays, metadata = parity.load(name)
    model = rnn.from_config(metadata["config"])
    model.check()
    (key_map,) = rnn.classifier_key_maps(model)
    variables = mapping.to_ours(key_map, parity.under(arrays, "param/"), rnn.FAMILIES[1].shapes(model))
    mask = jnp.arange(arrays["input/x"].shape[1]) < arrays["input/lengths"][:, None] if packed else None
    state = tuple(arrays[f"input/{s}0"].swapaxes(0, 1) for s in "hc" if f"input/{s}0" in arrays)
    logits = jax.jit(model.apply)(variables, arrays["input/x"], mask=mask, state=state)
    np.testing.assert_allclose(logits, arrays["output/logits_packed" if packed else "output/logits"], atol=1e-5)


TOKENS = np.random.default_rng(0).integers(0, 11, (2, 7))
LANGUAGE = RNNLanguageModel(vocab_size=11, width=6, depth=2)


@pytest.mark.parametrize("cell", ["elman", "lstm", "gru"])
def test_no_token_sees_what_follows_it(cell):
    model = dataclasses.replace(LANGUAGE, cell=cell, tied_head=True)
    variables = jax.jit(model.init)(jax.random.key(0), TOKENS)
    changed = TOKENS.copy()
    changed[:, 4:] = (changed[:, 4:] + 1) % 11
    apply = jax.jit(model.apply)
    before, after = apply(variables, TOKENS), apply(variables, changed)
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    assert (abs(before[:, 4:] - after[:, 4:]).max(axis=-1) > 0).all()
    assert "head" not in variables["params"]


def test_packed_texts_do_not_see_each_other():
    variables = jax.jit(LANGUAGE.init)(jax.random.key(0), TOKENS)
    apply = jax.jit(LANGUAGE.apply)
    for segments in ([[0, 0, 0, 1, 1, 1, 1]] * 2, [[7, 7, 7, 2, 2, 2, 2]] * 2):
        packed = apply(variables, TOKENS, segments=np.array(segments))
        apart = [apply(variables, TOKENS[:, part]) for part in (slice(0, 3), slice(3, 7))]
        np.testing.assert_allclose(packed, np.concatenate(apart, axis=1), atol=1e-6)


@pytest.mark.parametrize("pool", ["last", "mean", "max", "none"])
def test_a_classifier_does_not_see_padding(pool):
    model = RNNClassifier(classes=3, vocab_size=11, width=6, bidirectional=True, pool=pool)
    variables = jax.jit(model.init)(jax.random.key(0), TOKENS)
    mask = np.arange(7) < np.array([[7], [4]])
    apply = jax.jit(model.apply)
    logits = apply(variables, TOKENS, mask=mask)
    alone = apply(variables, TOKENS[1:, :4])
    assert logits.shape == ((2, 7, 3) if pool == "none" else (2, 3))
    np.testing.assert_allclose(logits[1:, :4] if pool == "none" else logits[1:], alone, atol=1e-6)


def test_pools_are_what_they_say():
    x = jax.random.normal(jax.random.key(1), (2, 5, 3))
    model = RNNClassifier(classes=3, cell="gru", width=6, pool="none", input_width=3)
    variables = jax.jit(model.init)(jax.random.key(0), x)
    every = model.apply(variables, x)
    np.testing.assert_allclose(dataclasses.replace(model, pool="last").apply(variables, x), every[:, -1], atol=1e-6)
    mean = dataclasses.replace(model, pool="mean").apply(variables, x)
    np.testing.assert_allclose(mean, every.mean(axis=1), atol=1e-6)


BAD = [
    (LANGUAGE, {"width": 0}, "width=0: expected at least 1"),
    (LANGUAGE, {"vocab_size": 0}, "vocab_size=0: expected at least 1"),
    (LANGUAGE, {"depth": 0}, "depth=0: expected at least 1"),
    (LANGUAGE, {"dropout": 1.5}, "dropout=1.5: expected 0 <= dropout < 1"),
    (LANGUAGE, {"tied_head": True, "embed_width": 4}, "embed_width=4: expected width=6 for a tied head"),
    (RNNClassifier(3), {"classes": 0}, "classes=0: expected at least 1"),
    (RNNClassifier(3), {"input_width": 0}, "input_width=0: expected at least 1"),
]


@pytest.mark.parametrize(("model", "fields", "line"), BAD, ids=str)
def test_impossible_models_are_refused(model, fields, line):
    with pytest.raises(RequestError) as refusal:
        dataclasses.replace(model, **fields).check()
    assert str(refusal.value) == line
