"""The encoder-decoder Transformer: its references' logits, gradients and tokens, its options, and its sizes."""

from __future__ import annotations

import dataclasses
from functools import partial

import chex
import encoder_decoders
import jax
import jax.numpy as jnp
import language_models
import numpy as np
import pytest

from research.decoding import Beam, Generation, generate
from research.errors import RequestError
from research.models.transformer import Transformer, translation
from research.pretrained import mapping, marian

SCANNED = {"scan_layers": True, "remat": True, "kernel": "xla"}


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("transformer_vaswani", {}),
        ("transformer_prenorm", SCANNED),
        ("transformer_odd", {}),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_pytorchs_transformer(name, fields):
    arrays, model, key_map, variables = language_models.reference(marian.FAMILY, name, fields, marian.from_pytorch)
    source, target = arrays["input/src"], arrays["input/tgt"]
    encoder_decoders.check_parity(
        arrays, key_map, variables, lambda v: model.apply(v, source, source != 0, target), padding=0, smoothing=0.1
    )


@pytest.mark.parametrize(
    ("name", "fields"), [("marian", SCANNED), ("marian_odd", {}), ("marian_separate", {})], ids=str
)
def test_marian(name, fields):
    arrays, model, key_map, variables = language_models.reference(marian.FAMILY, name, fields)
    inputs = arrays["input/input_ids"], arrays["input/attention_mask"].astype(bool), arrays["input/decoder_input_ids"]
    encoder_decoders.check_parity(
        arrays, key_map, variables, lambda v: model.apply(v, *inputs), padding=-100, constants=("final_logits_bias",)
    )


@pytest.mark.parametrize("name", ["marian_odd", "marian_separate"])
def test_tokens_of_marian(name):
    arrays, model, _, variables = language_models.reference(marian.FAMILY, name, {})
    start = arrays["input/decoder_input_ids"][:, :1]
    pad = {"marian_odd": 52, "marian_separate": 30}[name]
    memory = {"source": arrays["input/input_ids"], "source_mask": arrays["input/attention_mask"].astype(bool)}
    how = Generation(max_new_tokens=8, stop_tokens=(0,), pad_token=pad, last_token=0)
    for strategy, ids in ((how.strategy, "greedy_ids"), (Beam(4, 0.8, "full", 2), "beam_ids")):
        given = generate(model, variables, start, dataclasses.replace(how, strategy=strategy), memory=memory)
        expected = arrays[f"gen/{ids}"][:, 1:]
        tokens = np.asarray(given.tokens).reshape(len(expected), -1)
        np.testing.assert_array_equal(tokens[:, : expected.shape[1]], expected)
    np.testing.assert_allclose(given.scores.reshape(-1), arrays["gen/beam_scores"], atol=1e-4)


TINY = Transformer(11, context_length=12, width=8, depth=2, decoder_depth=1, num_heads=2, dropout=0.0)
SOURCE = np.random.default_rng(0).integers(1, 11, (3, 6))
MASK = np.arange(6) < np.array([6, 4, 2])[:, None]
MEMORY = {"source": SOURCE, "source_mask": MASK}

OPTIONS = [
    pytest.param({}, marks=pytest.mark.slow),  # like the fixtures, whose tokens are decoded with and without a cache
    {"norm": "pre", "positions": "learned", "scan_layers": True, "decoder_num_heads": 4, "source_vocab_size": 13,
     "shared_embedding": False, "tied_head": False, "mlp_width": 12},
]  # fmt: skip


@pytest.mark.parametrize("fields", OPTIONS, ids=str)
def test_what_the_target_sees_and_what_the_cache_keeps(fields):
    model = dataclasses.replace(TINY, **fields)
    model.check()
    variables = encoder_decoders.sure(model, SOURCE, MASK, SOURCE)
    encoder_decoders.check_order(model, variables, SOURCE, MASK)
    encoder_decoders.check_decoding(model, variables, MEMORY)


def leaves(**fields):
    return set(mapping.flatten(marian.FAMILY.shapes(dataclasses.replace(TINY, **fields))))


def test_options_change_the_parameters_they_name():
    assert "params/decoder/norm/scale" in leaves(norm="pre") - leaves()
    assert "params/decoder/norm/scale" not in leaves(norm="pre", final_norm=False)
    assert leaves(shared_embedding=False) - leaves() == {"params/source_embedding/embedding"}
    assert leaves(tied_head=False) - leaves() == {"params/head/kernel"}
    assert leaves(logits_bias=True) - leaves() == {"constants/logits_bias"}
    tables = {f"params/{side}_positions/embedding" for side in ("source", "target")}
    assert leaves(positions="learned") - leaves() == tables


def test_dropout_only_in_training_and_bfloat16_inside():
    model = dataclasses.replace(TINY, depth=1)
    variables = jax.jit(model.init)(jax.random.key(0), SOURCE, MASK, SOURCE)
    quiet = jax.jit(dataclasses.replace(model, dropout=0.3).apply)(variables, SOURCE, MASK, SOURCE)
    for rate in ("dropout", "attention_dropout", "activation_dropout"):
        drops = jax.jit(partial(dataclasses.replace(model, **{rate: 0.3}).apply, train=True))
        dropped = drops(variables, SOURCE, MASK, SOURCE, rngs={"dropout": jax.random.key(1)})
        assert abs(dropped - quiet).max() > 1e-3
    short = dataclasses.replace(model, dtype="bfloat16")
    shapes = jax.eval_shape(short.init, jax.random.key(0), SOURCE, MASK, SOURCE)
    chex.assert_trees_all_equal_shapes_and_dtypes(shapes, jax.eval_shape(lambda: variables))
    logits = jax.jit(short.apply)(variables, SOURCE, MASK, SOURCE)
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, quiet, atol=0.1)


@pytest.mark.parametrize(("size", "parameters"), [("base", 63_082_496), ("big", 214_245_376)])
def test_sizes_of_the_paper(size, parameters):
    """With 37,000 tokens; the paper's table rounds them to 65 and 213 million."""
    for scan_layers in (False, True):
        shapes = marian.FAMILY.shapes(translation(size, scan_layers=scan_layers))
        assert sum(x.size for x in jax.tree.leaves(shapes)) == parameters


BAD = [
    ({"num_heads": 3}, "num_heads=3: expected a divisor of width=8"),
    ({"decoder_num_heads": 3}, "decoder_num_heads=3: expected a divisor of width=8"),
    ({"width": 9, "num_heads": 3}, "width=9: expected an even number"),
    ({"depth": 0}, "depth=0: expected at least 1"),
    ({"decoder_depth": -1}, "decoder_depth=-1: expected at least 1"),
    ({"source_vocab_size": 13}, "source_vocab_size=13: expected vocab_size=11, or shared_embedding=False"),
    ({"dropout": 1.0}, "dropout=1.0: expected 0 <= dropout < 1"),
    ({"kernel": "xla", "attention_dropout": 0.1}, "kernel='xla': dropout of attention weights"),
]


@pytest.mark.parametrize(("fields", "line"), BAD, ids=str)
def test_impossible_models_are_refused(fields, line):
    with pytest.raises(RequestError) as refusal:
        dataclasses.replace(TINY, **fields).check()
    assert str(refusal.value).startswith(line) and "\n" not in str(refusal.value)


def test_sequences_longer_than_the_context_are_refused():
    long, short = np.ones((1, 13), int), np.ones((1, 2), int)
    for source, target, name in ((long, short, "source"), (short, long, "target")):
        with pytest.raises(RequestError, match=f"{name}: 13 in a row, expected at most context_length=12"):
            jax.eval_shape(TINY.init, jax.random.key(0), source, source > 0, target)


def test_an_unknown_size_names_the_nearest():
    with pytest.raises(RequestError, match="did you mean 'base'"):
        translation("bace")
