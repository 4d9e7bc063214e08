"""Beam search compared with greedy decoding and with an exhaustive ranking of all texts."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
from decoders import PLAIN, PROMPT, TINY, initialised

from research.decoding import Beam, Generation


def test_one_beam_is_greedy(tiny):
    how = Generation(max_new_tokens=8, stop_tokens=(5,))
    greedy, beam = tiny(PROMPT, how), tiny(PROMPT, dataclasses.replace(how, strategy=Beam(1, 0.0)))
    np.testing.assert_array_equal(greedy.tokens, beam.tokens)
    np.testing.assert_allclose(greedy.scores, beam.scores, atol=1e-4)


def test_as_many_beams_as_texts_find_the_best(tiny):
    """Compares with an exhaustive ranking of all 13² continuations of two tokens."""
    variables = initialised(TINY)
    beam = tiny(PROMPT[:1], Generation(strategy=Beam(13, 0.0, returned=5), max_new_tokens=2))
    first = jax.nn.log_softmax(PLAIN(TINY, variables, PROMPT[:1])[0, -1])
    texts = np.concatenate([np.repeat(PROMPT[:1], 13, axis=0), np.arange(13)[:, None]], axis=1)
    both = first[:, None] + jax.nn.log_softmax(PLAIN(TINY, variables, texts)[:, -1])
    best = np.argsort(-both.reshape(-1))[:5]
    np.testing.assert_array_equal(beam.tokens[0], np.stack([best // 13, best % 13], axis=1))
    np.testing.assert_allclose(beam.scores[0], both.reshape(-1)[best], atol=1e-4)
