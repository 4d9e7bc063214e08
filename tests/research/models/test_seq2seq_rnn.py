"""The recurrent encoder-decoder: dependencies, cache and attention weights, against a loop by hand."""

from __future__ import annotations

import dataclasses

import encoder_decoders
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.errors import RequestError
from research.models.seq2seq_rnn import Seq2SeqRNN

TINY = Seq2SeqRNN(11, width=8, embed_width=6)
SOURCE = np.random.default_rng(0).integers(1, 11, (3, 6))
MASK = np.arange(6) < np.array([6, 4, 2])[:, None]
TARGET = np.random.default_rng(1).integers(1, 11, (3, 5))

OPTIONS = [
    pytest.param({}, marks=pytest.mark.slow),
    {"attention": "multiplicative", "input_feeding": True, "cell": "gru", "depth": 2},
    {"attention": "none", "bidirectional": False, "depth": 2, "shared_embedding": False, "source_vocab_size": 13},
]


@pytest.mark.parametrize("fields", OPTIONS, ids=str)
def test_what_the_target_sees_and_what_the_cache_keeps(fields):
    model = dataclasses.replace(TINY, **fields)
    model.check()
    variables = encoder_decoders.sure(model, SOURCE, MASK, SOURCE)
    encoder_decoders.check_order(model, variables, SOURCE, MASK)
    encoder_decoders.check_decoding(model, variables, {"source": SOURCE, "source_mask": MASK})


@pytest.mark.parametrize("input_feeding", [False, True])
@pytest.mark.parametrize("attention", ["additive", "multiplicative"])
def test_the_equations(attention, input_feeding):
    """Luong et al. (2015), Bahdanau et al. (2015), one example without padding, step by step."""
    model = dataclasses.replace(TINY, attention=attention, input_feeding=input_feeding, cell="elman", tied_head=False)
    variables = encoder_decoders.sure(model, SOURCE, None, TARGET)
    logits, kept = jax.jit(lambda v: model.apply(v, SOURCE, None, TARGET, mutable=["intermediates"]))(variables)
    (weights,) = kept["intermediates"]["attention_weights"]
    assert weights.shape == (3, 1, 5, 6)

    p = jax.tree.map(np.asarray, variables["params"])
    embed = p["token_embedding"]["embedding"]

    def run(p, inputs, h):
        states = []
        for x in inputs:
            h = np.tanh(x @ p["input_kernel"] + p["input_bias"] + h @ p["hidden_kernel"] + p["hidden_bias"])
            states.append(h)
        return np.array(states)

    read, zero = embed[SOURCE[0]], np.zeros(8)
    forward = run(p["encoder"]["rnn"]["forward0"], read, zero)
    backward = run(p["encoder"]["rnn"]["backward0"], read[::-1], zero)[::-1]
    values = np.concatenate([forward, backward], axis=-1)
    keys = values @ p["encoder"]["key"]["kernel"]
    bridge, out, decoder = p["encoder"]["bridge_h"], p["decoder"]["out"], p["decoder"]
    h = np.tanh(np.concatenate([forward[-1], backward[0]]) @ bridge["kernel"] + bridge["bias"])
    seen = zero
    for t, token in enumerate(TARGET[0]):
        x = np.concatenate([embed[token], seen]) if input_feeding else embed[token]
        (h,) = run(decoder["rnn"]["forward0"], [x], h)
        if attention == "additive":
            query = h @ decoder["query"]["kernel"] + decoder["query"]["bias"]
            scores = np.tanh(query + keys) @ decoder["score"]["kernel"][:, 0]
        else:
            scores = keys @ h
        alignment = np.asarray(jax.nn.softmax(scores))
        np.testing.assert_allclose(weights[0, 0, t], alignment, atol=1e-5)
        seen = np.tanh(np.concatenate([alignment @ values, h]) @ out["kernel"] + out["bias"])
        expected = seen @ p["head"]["kernel"] + p["head"]["bias"]
        np.testing.assert_allclose(logits[0, t], expected, atol=1e-4)


def test_padding_gets_no_attention_and_no_gradient():
    variables = jax.jit(TINY.init)(jax.random.key(0), SOURCE, MASK, TARGET)

    def run(variables):
        logits, kept = TINY.apply(variables, np.where(MASK, SOURCE, 10), MASK, TARGET, mutable=["intermediates"])
        return logits.sum(), kept["intermediates"]["attention_weights"][0]

    gradient, weights = jax.jit(jax.grad(run, has_aux=True))(variables)
    assert (np.asarray(weights)[:, 0][~np.broadcast_to(MASK[:, None], (3, 5, 6))] == 0).all()
    np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-6)
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(gradient))


def test_dropout_only_in_training():
    model = dataclasses.replace(TINY, dropout=0.3, input_feeding=True, tied_head=True, embed_width=None)
    model.check()
    variables = jax.jit(model.init)(jax.random.key(0), SOURCE, MASK, TARGET)
    apply, rngs = jax.jit(model.apply, static_argnames="train"), {"dropout": jax.random.key(1)}
    quiet = apply(variables, SOURCE, MASK, TARGET)
    assert abs(apply(variables, SOURCE, MASK, TARGET, train=True, rngs=rngs) - quiet).max() > 1e-3


BAD = [
    ({"width": 0}, "width=0: expected at least 1"),
    ({"dropout": -0.1}, "dropout=-0.1: expected 0 <= dropout < 1"),
    ({"tied_head": True}, "embed_width=6: expected width=8 for a tied head"),
    ({"source_vocab_size": 13}, "source_vocab_size=13: expected vocab_size=11, or shared_embedding=False"),
]


@pytest.mark.parametrize(("fields", "line"), BAD, ids=str)
def test_impossible_models_are_refused(fields, line):
    with pytest.raises(RequestError) as refusal:
        dataclasses.replace(TINY, **fields).check()
    assert str(refusal.value).startswith(line) and "\n" not in str(refusal.value)
