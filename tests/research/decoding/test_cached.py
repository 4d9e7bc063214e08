"""Decoding with a cache compared with decoding without it and with calls of the plain model, for any padding."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import numpy as np
import pytest
from decoders import MASK, MODELS, PLAIN, PROMPT, initialised, some

from research.decoding import Beam, Generation, Sample, generate


def by_hand(model, variables, prompt, new):
    """Decodes greedily by calling the plain model on the whole text for each token."""
    tokens = np.zeros((1, 14), np.int64)  # later tokens do not affect a causal model
    tokens[0, : len(prompt)] = prompt
    for end in range(len(prompt), len(prompt) + new):
        tokens[0, end] = PLAIN(model, variables, tokens)[0, end - 1].argmax()
    return tokens[0, len(prompt) : len(prompt) + new]


@pytest.mark.parametrize("name", some(MODELS, "gpt sinusoidal", "gru"))
def test_cached_is_uncached_is_by_hand_whatever_the_padding(name):
    model = MODELS[name]
    variables, how = initialised(model), Generation(max_new_tokens=8)
    cached = generate(model, variables, PROMPT, how, mask=MASK)
    again = generate(model, variables, PROMPT, dataclasses.replace(how, cache=False), mask=MASK)
    np.testing.assert_array_equal(cached.tokens, again.tokens)
    np.testing.assert_allclose(cached.scores, again.scores, atol=1e-4)
    for i in range(3):
        np.testing.assert_array_equal(cached.tokens[i, 0], by_hand(model, variables, PROMPT[i, MASK[i]], 8))


@pytest.mark.parametrize("strategy", [Beam(3, returned=2), Sample(1.3, top_p=0.9, returned=2)], ids=["beam", "sample"])
@pytest.mark.parametrize("name", some(["gpt rotary post-norm scanned", "lstm"], "lstm"))
def test_other_strategies_do_not_see_the_cache_either(name, strategy):
    model = MODELS[name]
    variables = initialised(model)
    how = Generation(strategy=strategy, max_new_tokens=6, stop_tokens=(3,))
    run = partial(generate, model, variables, PROMPT, mask=MASK, rng=jax.random.key(1))
    cached, again = run(how), run(dataclasses.replace(how, cache=False))
    np.testing.assert_array_equal(cached.tokens, again.tokens)
    assert cached.tokens.shape == (3, 2, 6)
