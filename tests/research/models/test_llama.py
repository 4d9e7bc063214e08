"""Llama: the reference's logits, gradients and training losses, with and without scaled rotations, and its sizes."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import language_models
import numpy as np
import pytest

from research.errors import RequestError
from research.layers.positions import Llama3Scaling, Rotary
from research.models.llama import SIZES, Llama, llama
from research.pretrained import llama as published

FIXTURES = ("llama", "llama_scaled")
LAYOUTS = ({}, {"scan_layers": True, "remat": True, "kernel": "xla"})


@pytest.mark.parametrize("fields", LAYOUTS, ids=["written out", "scanned"])
@pytest.mark.parametrize("name", FIXTURES)
def test_logits_of_whole_and_padded_texts(name, fields):
    language_models.check_logits(published.FAMILY, name, fields)


@pytest.mark.parametrize("fields", LAYOUTS, ids=["written out", "scanned"])
@pytest.mark.parametrize("name", FIXTURES)
def test_loss_gradients_and_training(name, fields):
    language_models.check_training(published.FAMILY, name, fields)


TINY = Llama(vocab_size=11, context_length=12, width=8, depth=1, num_heads=4, num_kv_heads=2, mlp_width=12)
TOKENS = np.random.default_rng(0).integers(0, 11, (2, 7))


def test_moving_a_text_along_changes_nothing():
    """Rotations depend only on distances."""
    variables = jax.jit(TINY.init)(jax.random.key(0), TOKENS)
    positions = jnp.arange(7)[None]
    apply = jax.jit(TINY.apply)
    moved = apply(variables, TOKENS, positions=positions + 5)
    np.testing.assert_allclose(apply(variables, TOKENS, positions=positions), moved, atol=1e-5)


def test_packed_texts_do_not_see_each_other():
    variables = jax.jit(TINY.init)(jax.random.key(0), TOKENS)
    apply = jax.jit(TINY.apply)
    packed = apply(variables, TOKENS, segments=np.array([[0, 0, 0, 1, 1, 1, 1]] * 2))
    apart = [apply(variables, TOKENS[:, part]) for part in (slice(0, 3), slice(3, 7))]
    np.testing.assert_allclose(packed, np.concatenate(apart, axis=1), atol=1e-6)


def test_bfloat16_computes_short_and_keeps_long():
    model = dataclasses.replace(TINY, dtype="bfloat16")
    variables = jax.jit(model.init)(jax.random.key(0), TOKENS)
    logits = jax.jit(model.apply)(variables, TOKENS)
    assert logits.dtype == jnp.float32 and {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    np.testing.assert_allclose(logits, jax.jit(TINY.apply)(variables, TOKENS), atol=0.05)


@pytest.mark.parametrize("scan_layers", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_published_sizes(size, scan_layers):
    shapes = published.FAMILY.shapes(llama(size, scan_layers=scan_layers))
    assert sum(x.size for x in jax.tree.leaves(shapes)) == SIZES[size][-1]


def test_more_tokens_than_the_context_are_refused():
    with pytest.raises(RequestError, match="tokens: 13 in a row, expected at most context_length=12"):
        TINY.init(jax.random.key(0), np.zeros((1, 13), int))


BAD = [
    ({"kernel": "cudnn", "dtype": "bfloat16", "head_dim": 6}, "kernel='cudnn': cuDNN's flash attention takes heads of"),
    ({"num_heads": 3, "num_kv_heads": None}, "num_heads=3: expected a divisor of width=8"),
    ({"num_kv_heads": 3}, "num_kv_heads=3: expected a divisor of num_heads=4"),
    ({"num_kv_heads": 0}, "num_kv_heads=0: expected a divisor of num_heads=4"),
    ({"head_dim": 3}, "head_dim=3: expected an even number for rotary positions"),
    ({"head_dim": 0}, "head_dim=0: expected at least 1"),
    ({"mlp_width": 0}, "mlp_width=0: expected at least 1"),
    ({"rotary": Rotary(theta=-1.0)}, "rotary.theta=-1.0: expected a number above 0"),
    ({"rotary": Rotary(scaling=Llama3Scaling(factor=0.0))}, "rotary.scaling.factor=0.0: expected at least 1"),
]


@pytest.mark.parametrize(("fields", "line"), BAD, ids=str)
def test_impossible_models_are_refused(fields, line):
    with pytest.raises(RequestError) as refusal:
        dataclasses.replace(TINY, **fields).check()
    assert str(refusal.value).startswith(line) and "\n" not in str(refusal.value)


def test_an_unknown_size_names_the_nearest():
    with pytest.raises(RequestError, match=r"did you mean 'llama3\.2-1b'"):
        llama("llama32-1b")


@pytest.mark.parametrize("tied_head", [False, True])
def test_the_row_of_the_padding_token_is_trained_only_by_a_tied_head(tied_head):
    """As `padding_idx` of PyTorch's embedding: no gradient through the look-up, the same for every other row."""
    plain = dataclasses.replace(TINY, tied_head=tied_head)
    padded = dataclasses.replace(plain, pad_token=3)
    tokens = np.array([[1, 3, 3, 5, 7, 3]])
    variables = jax.jit(plain.init)(jax.random.key(0), tokens)

    def rows(model):
        def loss(variables):
            return (jax.nn.log_softmax(model.apply(variables, tokens))[:, :-1] ** 2).mean()

        return jax.jit(jax.grad(loss))(variables)["params"]["token_embedding"]["embedding"]

    others = np.arange(11) != 3
    np.testing.assert_allclose(rows(padded)[others], rows(plain)[others], atol=1e-6)
    assert np.abs(rows(padded)[3] - rows(plain)[3]).max() > 1e-4
    assert (np.abs(rows(padded)[3]).max() > 0) == tied_head


def test_the_padding_token_of_a_config():
    config = published.to_config(TINY)
    for given, row in ((None, None), (0, 0), (10, 10), (-1, 10)):
        model = published.from_config(config | {"pad_token_id": given})
        assert model.pad_token == row and published.to_config(model)["pad_token_id"] == row
    assert published.from_config({k: x for k, x in config.items() if k != "pad_token_id"}).pad_token is None
    for given, said in ((11, "expected below 11"), ("0", "expected a whole number")):
        with pytest.raises(RequestError, match=said):
            published.from_config(config | {"pad_token_id": given})
    with pytest.raises(RequestError, match="pad_token=11: expected 0 to 10"):
        dataclasses.replace(TINY, pad_token=11).check()
