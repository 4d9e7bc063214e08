"""Decoding gives the tokens of reference implementations: greedy and beam search, decoder-only and with a memory."""

from __future__ import annotations

import dataclasses
from functools import partial

import language_models
import numpy as np
import pytest
from decoders import some

from research.decoding import Beam, Generation, generate
from research.pretrained import gpt2, llama, marian

CAUSAL = [("gpt2", gpt2.FAMILY), ("gpt2_untied", gpt2.FAMILY), ("llama", llama.FAMILY), ("llama_scaled", llama.FAMILY)]
LAYOUTS = pytest.mark.parametrize(
    "fields", [{}, pytest.param({"scan_layers": True}, marks=pytest.mark.slow)], ids=["written out", "scanned"]
)


def prompts(arrays):
    """Returns the prompts of a fixture, and their mask, or None without padding."""
    if "gen/input_ids" in arrays:
        return arrays["gen/input_ids"], None
    return arrays["input/padded_input_ids"], arrays["input/padded_attention_mask"].astype(bool)


def same(tokens, ids, length):
    """True if `tokens` equal the reference's new tokens; ids [rows, prompt + new], with a prompt of `length`."""
    expected = ids[:, length:]
    return np.array_equal(np.asarray(tokens).reshape(len(ids), -1)[:, : expected.shape[1]], expected)


@LAYOUTS
@pytest.mark.parametrize(("name", "family"), CAUSAL, ids=[name for name, _ in CAUSAL])
def test_greedy_is_the_reference_token_for_token(name, family, fields):
    arrays, model, _, variables = language_models.reference(family, name, fields)
    prompt, mask = prompts(arrays)
    pad = 0 if mask is None else 2  # the padding token of the fixtures
    how = Generation(max_new_tokens=10, stop_tokens=(2,), pad_token=pad)
    generated = generate(model, variables, prompt, how, mask=mask)
    assert same(generated.tokens, arrays["gen/greedy_ids"], prompt.shape[1])


@LAYOUTS
@pytest.mark.parametrize(("name", "family"), CAUSAL, ids=[name for name, _ in CAUSAL])
def test_beam_search_is_the_reference_token_for_token(name, family, fields):
    arrays, model, _, variables = language_models.reference(family, name, fields)
    prompt, mask = prompts(arrays)
    beam = Beam(4, returned=2) if mask is None else Beam(5, 0.7, "full", 3)
    how = Generation(strategy=beam, max_new_tokens=10, stop_tokens=(2,), pad_token=2)
    generated = generate(model, variables, prompt, how, mask=mask)
    assert same(generated.tokens, arrays["gen/beam_ids"], prompt.shape[1])
    np.testing.assert_allclose(generated.scores.reshape(-1), arrays["gen/beam_sequences_scores"], atol=1e-4)


@pytest.fixture(scope="module")
def translation():
    """Returns an encoder-decoder, its variables, the start tokens and the memory."""
    arrays, model, _, variables = language_models.reference(marian.FAMILY, "gen_marian", {})
    source, mask = arrays["input/input_ids"], arrays["input/attention_mask"].astype(bool)
    how = Generation(max_new_tokens=11, stop_tokens=(0,), pad_token=39, suppress=(39,), last_token=0)
    start = np.full((len(source), 1), 39)
    return arrays, partial(generate, model, variables), start, how, {"source": source, "source_mask": mask}


BEAMS = {
    "beam3_lp2.0_esnever": Beam(3, 2.0, "never", 2),
    "beam4_lp0.6_esTrue": Beam(4, 0.6, "full", 2),
    "beam4_lp1.0_esFalse": Beam(4, 1.0, "likely", 2),
    "beam6_lp1.0_esFalse": Beam(6, 1.0, "likely", 2),
}


@pytest.mark.parametrize("name", some(BEAMS, "beam6_lp1.0_esFalse"))
def test_beam_search_over_a_memory(translation, name):
    arrays, run, start, how, memory = translation
    how = dataclasses.replace(how, strategy=BEAMS[name])
    generated = run(start, how, memory=memory)
    assert same(generated.tokens, arrays[f"gen/{name}/ids"], 1)
    np.testing.assert_allclose(generated.scores.reshape(-1), arrays[f"gen/{name}/scores"], atol=1e-4)


def test_an_example_does_not_depend_on_its_batch(translation):
    _, run, start, how, memory = translation
    how = dataclasses.replace(how, strategy=BEAMS["beam4_lp1.0_esFalse"])
    together = run(start, how, memory=memory).tokens
    for i in range(len(start)):
        alone = run(start[i : i + 1], how, memory={name: x[i : i + 1] for name, x in memory.items()})
        np.testing.assert_array_equal(alone.tokens[0], together[i])


def test_greedy_over_a_memory_with_and_without_a_cache(translation):
    arrays, run, start, how, memory = translation
    for cache in (True, False):
        generated = run(start, dataclasses.replace(how, cache=cache), memory=memory)
        assert same(generated.tokens, arrays["gen/greedy_ids"], 1)
