"""Losses over parts of a vocabulary are those over whole logits, and never hold these."""

import dataclasses
import re

import chex
import families
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.losses.cross_entropy import token_losses
from research.metrics.ranking import is_first
from research.models.gpt import GPT
from research.models.llama import Llama
from research.models.rnn import RNNLanguageModel
from research.tasks.language_modeling import LanguageModeling
from research.training.abstract import abstract_state, hparam_arrays
from research.training.step import make_eval_step, make_init, make_train_step

VOCABULARY = 13


def of_all(x, table, targets):
    logits = x @ table.T
    return optax.softmax_cross_entropy_with_integer_labels(logits, targets), is_first(logits, targets)


@pytest.mark.parametrize("chunks", [1, 2, 5, 13])
def test_losses_and_gradients_are_those_of_whole_logits(chunks):
    keys = jax.random.split(jax.random.key(0), 3)
    x, table = 3 * jax.random.normal(keys[0], (4, 6, 8)), jax.random.normal(keys[1], (VOCABULARY, 8))
    targets = jax.random.randint(keys[2], (4, 6), 0, VOCABULARY)
    weights = jnp.linspace(-1, 2, 24).reshape(4, 6)

    def weighted(losses):
        return lambda x, table: (losses(x, table)[0] * weights).sum()

    theirs, ours = lambda x, t: of_all(x, t, targets), lambda x, t: token_losses(x, t, targets, chunks)
    chex.assert_trees_all_close(tuple(ours(x, table)), theirs(x, table), rtol=1e-6, atol=1e-6)
    assert theirs(x, table)[1].any()
    gradients = [jax.grad(weighted(losses), argnums=(0, 1))(x, table) for losses in (ours, theirs)]
    chex.assert_trees_all_close(*gradients, rtol=1e-5, atol=1e-5)


def test_equal_logits_choose_the_first_token():
    x, table = jnp.ones((1, 1)), jnp.array([[0.0], [2.0], [1.0], [2.0]])
    found = [bool(token_losses(x, table, jnp.array([target]), 2).correct[0]) for target in (1, 3)]
    assert found == [True, False]


LAYERS = {"width": 16, "depth": 1, "num_heads": 2}
MODELS = {
    "tied": GPT(VOCABULARY, 12, **LAYERS),
    "untied": Llama(VOCABULARY, 12, mlp_width=32, **LAYERS),
    "half precision": GPT(VOCABULARY, 12, **LAYERS, dtype="bfloat16"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_step_and_an_evaluation_are_the_same_in_chunks(name):
    experiment = families.text(MODELS[name], None)
    generator = np.random.default_rng(0)
    tokens = generator.integers(0, VOCABULARY, (8, 12)).astype(np.uint8)
    length = np.array([12, 5, 1, 12, 12, 7, 12, 3], np.int32)
    batch = {"tokens": tokens, "targets": np.roll(tokens, -1, 1), "length": length, "weight": np.ones(8, np.float32)}
    state = jax.jit(make_init(experiment))(jax.random.key(0), batch, hparam_arrays(experiment))
    found = []
    for chunks in (1, 4):
        own = dataclasses.replace(experiment, task=LanguageModeling(vocab_size=VOCABULARY, vocab_chunks=chunks))
        after, metrics = jax.jit(make_train_step(own))(state, batch)
        found.append((metrics, jax.jit(make_eval_step(own))(state, batch)))
    close = 1e-5 if name != "half precision" else 0.02
    chex.assert_trees_all_close(*found, rtol=close, atol=close)


def largest(program: str) -> int:
    """The number of elements of the largest float32 array in a compiled program."""
    return max(int(np.prod([int(n) for n in dims.split(",")])) for dims in re.findall(r"f32\[([\d,]+)\]", program))


def test_a_large_vocabulary_needs_the_memory_of_one_part():
    vocab, batch_size, length = 16_384, 8, 64
    model = GPT(vocab, length, width=8, depth=1, num_heads=1)
    experiment = families.text(model, None)
    tokens = jax.ShapeDtypeStruct((batch_size, length), "int32")
    batch = {"tokens": tokens, "targets": tokens, "weight": jax.ShapeDtypeStruct((batch_size,), "float32")}
    logits = batch_size * length * vocab

    def compiled(chunks):
        task = LanguageModeling(vocab_size=vocab, vocab_chunks=chunks)
        own = dataclasses.replace(experiment, task=task)
        return jax.jit(make_train_step(own)).lower(abstract_state(own, batch), batch).compile()

    whole, parts = compiled(1), compiled(16)
    assert largest(whole.as_text()) >= logits and largest(parts.as_text()) <= logits / 16
    temporaries = [program.memory_analysis().temp_size_in_bytes for program in (whole, parts)]
    assert temporaries[0] > 4 * logits and temporaries[1] < 4 * logits / 4


@pytest.mark.parametrize(
    ("model", "chunks", "says"),
    [
        (RNNLanguageModel(VOCABULARY), 2, "RNNLanguageModel computes all logits; expected 1"),
        (MODELS["tied"], 14, "vocab_chunks=14: expected 1 to 13"),
        (MODELS["tied"], 0, "vocab_chunks=0: expected 1 to 13"),
    ],
)
def test_chunks_that_cannot_be_are_refused(model, chunks, says):
    task = LanguageModeling(vocab_size=VOCABULARY, vocab_chunks=chunks)
    with pytest.raises(ValueError, match=says):
        dataclasses.replace(families.text(model, None), task=task).check()
