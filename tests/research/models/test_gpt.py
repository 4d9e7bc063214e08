"""GPT: the reference's logits, gradients and training losses, causality, its options, and its sizes."""

from __future__ import annotations

import dataclasses
from functools import partial

import chex
import jax
import jax.numpy as jnp
import language_models
import numpy as np
import pytest

from research.errors import RequestError
from research.models.gpt import GPT, SIZES, gpt2
from research.pretrained import gpt2 as published
from research.pretrained import mapping

FIXTURES = ("gpt2", "gpt2_untied")
LAYOUTS = ({}, {"scan_layers": True, "remat": True, "kernel": "xla"})


@pytest.mark.parametrize("fields", LAYOUTS, ids=["written out", "scanned"])
@pytest.mark.parametrize("name", FIXTURES)
def test_logits_of_whole_and_padded_texts(name, fields):
    language_models.check_logits(published.FAMILY, name, fields)


@pytest.mark.parametrize("fields", LAYOUTS, ids=["written out", "scanned"])
@pytest.mark.parametrize("name", FIXTURES)
def test_loss_gradients_and_training(name, fields):
    language_models.check_training(published.FAMILY, name, fields)


TINY = GPT(vocab_size=11, context_length=12, width=8, depth=1, num_heads=2)
TOKENS = np.random.default_rng(0).integers(0, 11, (2, 7))


def initialised(model, **inputs):
    return jax.jit(model.init)(jax.random.key(0), jnp.asarray(TOKENS), **inputs)


OPTIONS = [
    {},
    {"norm": "post"},
    {"positions": "rotary"},
    {"positions": "sinusoidal"},
    {"positions": "none"},
    {"use_bias": False, "tied_head": False},
    {"scan_layers": True, "depth": 2},
    {"remat": True},
    {"mlp_width": 12, "activation": "relu"},
]


@pytest.mark.parametrize("fields", OPTIONS, ids=str)
def test_no_token_sees_what_follows_it(fields):
    model = dataclasses.replace(TINY, **fields)
    model.check()
    variables = initialised(model)
    changed = TOKENS.copy()
    changed[:, 4:] = (changed[:, 4:] + 1) % 11
    apply = jax.jit(model.apply)
    before, after = apply(variables, TOKENS), apply(variables, changed)
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    assert (abs(before[:, 4:] - after[:, 4:]).max(axis=-1) > 0).all()


def leaves(model):
    return set(mapping.flatten(published.FAMILY.shapes(model)))


def test_options_change_the_parameters_they_name():
    assert "params/norm/scale" in leaves(TINY) and "params/position_embedding/embedding" in leaves(TINY)
    assert "params/norm/scale" not in leaves(dataclasses.replace(TINY, norm="post"))
    assert "params/position_embedding/embedding" not in leaves(dataclasses.replace(TINY, positions="rotary"))
    assert "params/head/kernel" in leaves(dataclasses.replace(TINY, tied_head=False))
    assert not [path for path in leaves(dataclasses.replace(TINY, use_bias=False)) if path.endswith("bias")]


def test_without_positions_order_of_what_came_before_is_lost():
    """Holds for one block; in a second block, earlier tokens differ in what they attended to."""
    tokens, swapped = np.array([[1, 2, 3, 4]]), np.array([[2, 1, 3, 4]])
    for positions, same in (("none", True), ("learned", False), ("rotary", False), ("sinusoidal", False)):
        model = dataclasses.replace(TINY, positions=positions)
        variables = jax.tree.map(lambda x: x * 20, initialised(model))
        apply = jax.jit(model.apply)
        difference = abs(apply(variables, tokens)[:, -1] - apply(variables, swapped)[:, -1]).max()
        assert (difference < 1e-4) == same, positions


def test_packed_texts_do_not_see_each_other():
    segments = np.array([[0, 0, 0, 1, 1, 1, 1]] * 2)
    for fields in ({}, {"positions": "rotary"}):
        model = dataclasses.replace(TINY, **fields)
        variables = initialised(model)
        apply = jax.jit(model.apply)
        packed = apply(variables, TOKENS, segments=segments)
        apart = [apply(variables, TOKENS[:, part]) for part in (slice(0, 3), slice(3, 7))]
        np.testing.assert_allclose(packed, np.concatenate(apart, axis=1), atol=1e-6)


def test_dropout_only_in_training():
    model = dataclasses.replace(TINY, dropout=0.3)
    variables, rngs = initialised(model), {"dropout": jax.random.key(1)}
    apply = jax.jit(model.apply, static_argnames="train")
    quiet = apply(variables, TOKENS)
    chex.assert_trees_all_equal(apply(variables, TOKENS, rngs=rngs), quiet)
    assert abs(apply(variables, TOKENS, train=True, rngs=rngs) - quiet).max() > 1e-3


def test_bfloat16_computes_short_and_keeps_long():
    model = dataclasses.replace(TINY, dtype="bfloat16")
    variables = initialised(model)
    logits = jax.jit(model.apply)(variables, TOKENS)
    assert logits.dtype == jnp.float32 and {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    np.testing.assert_allclose(logits, jax.jit(TINY.apply)(variables, TOKENS), atol=0.05)


def test_initial_loss_is_that_of_guessing():
    model = gpt2(vocab_size=1000, width=64, depth=4, num_heads=4, context_length=32, scan_layers=True)
    tokens, targets = np.random.default_rng(0).integers(0, 1000, (2, 4, 32))
    logits = jax.jit(model.apply)(jax.jit(model.init)(jax.random.key(0), tokens), tokens)
    loss = -jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], axis=-1).mean()
    assert abs(loss - np.log(1000)) < 0.1


@pytest.mark.parametrize("scan_layers", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_published_sizes(size, scan_layers):
    shapes = published.FAMILY.shapes(gpt2(size, scan_layers=scan_layers))
    assert sum(x.size for x in jax.tree.leaves(shapes)) == SIZES[size][-1]


def test_a_scanned_program_does_not_grow_with_the_depth():
    def lines(depth):
        model = dataclasses.replace(TINY, depth=depth, scan_layers=True)
        shapes = jax.eval_shape(model.init, jax.random.key(0), TOKENS)
        loss = jax.grad(lambda variables: model.apply(variables, TOKENS).sum())
        return len(jax.jit(loss).lower(shapes).as_text().splitlines())

    assert lines(24) == lines(4)


def test_recomputing_does_not_stand_against_decoding():
    model = dataclasses.replace(TINY, depth=2, remat=True, scan_layers=True)
    variables = initialised(model)
    positions, mask = jnp.arange(7)[None], jnp.ones((2, 9), bool)
    decode = jax.jit(partial(model.apply, method="decode", mutable=["cache"]))
    logits, cache = decode(variables, TOKENS, positions=positions, mask=mask)
    np.testing.assert_allclose(logits, jax.jit(model.apply)(variables, TOKENS)[:, -1], atol=1e-6)
    assert cache["cache"]["blocks"]["attention"]["keys"].shape == (2, 2, 9, 2, 4)


def test_more_tokens_than_the_context_are_refused():
    with pytest.raises(RequestError, match="tokens: 13 in a row, expected at most context_length=12"):
        TINY.init(jax.random.key(0), np.zeros((1, 13), int))


BAD = [
    ({"kernel": "cudnn"}, "kernel='cudnn': cuDNN's flash attention computes in bfloat16 and this model in float32"),
    ({"kernel": "xla", "dropout": 0.1}, "kernel='xla': dropout of attention weights"),
    ({"num_heads": 3}, "num_heads=3: expected a divisor of width=8"),
    ({"width": 0}, "width=0: expected at least 1"),
    ({"depth": -1}, "depth=-1: expected at least 1"),
    ({"vocab_size": 0}, "vocab_size=0: expected at least 1"),
    ({"context_length": 0}, "context_length=0: expected at least 1"),
    ({"mlp_width": 0}, "mlp_width=0: expected at least 1"),
    ({"num_heads": 8, "positions": "rotary"}, "head_dim=1: expected an even number"),
    ({"width": 9, "num_heads": 3, "positions": "sinusoidal"}, "width=9: expected an even number"),
    ({"dropout": 1.0}, "dropout=1.0: expected 0 <= dropout < 1"),
    ({"attention_dropout": -0.1}, "attention_dropout=-0.1: expected 0"),
]


@pytest.mark.parametrize(("fields", "line"), BAD, ids=str)
def test_impossible_models_are_refused(fields, line):
    with pytest.raises(RequestError) as refusal:
        dataclasses.replace(TINY, **fields).check()
    assert str(refusal.value).startswith(line) and "\n" not in str(refusal.value)


def test_an_unknown_size_names_the_nearest():
    with pytest.raises(RequestError, match="did you mean 'gpt2-medium'"):
        gpt2("gpt2-midium")
