"""Sampling draws from the right distribution, and draws depend on the key and the row only."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from decoders import PROMPT, TINY, initialised

from research.decoding import Generation, Sample, generate
from research.decoding.sampling import draw


def frequencies(log_probs, how, n=20000):
    tokens = draw(jax.random.key(0), jnp.tile(jnp.asarray(log_probs, jnp.float32), (n, 1)), how)
    return np.bincount(tokens, minlength=len(log_probs)) / n


PROBS = np.array([0.05, 0.4, 0.25, 0.3])
DRAWS = [
    (Sample(), PROBS),
    (Sample(temperature=0.5), PROBS**2 / (PROBS**2).sum()),
    (Sample(top_k=2), np.array([0, 4, 0, 3]) / 7),
    (Sample(top_k=100), PROBS),
    # The nucleus is the fewest tokens whose sum reaches top_p; the sums are 0.4, 0.7, 0.95 and 1.
    (Sample(top_p=0.39), np.array([0, 1, 0, 0])),
    (Sample(top_p=0.41), np.array([0, 4, 0, 3]) / 7),
    (Sample(top_p=0.69), np.array([0, 4, 0, 3]) / 7),
    (Sample(top_p=0.71), np.array([0, 0.4, 0.25, 0.3]) / 0.95),
    (Sample(top_p=0.94), np.array([0, 0.4, 0.25, 0.3]) / 0.95),
    (Sample(top_p=0.96), PROBS),
    (Sample(top_p=0.01), np.array([0, 1, 0, 0])),
    (Sample(top_k=3, top_p=0.6), np.array([0, 4, 0, 3]) / 7),
    (Sample(temperature=1e-4), np.array([0, 1, 0, 0])),
]


@pytest.mark.parametrize(("how", "expected"), DRAWS, ids=str)
def test_what_is_drawn_how_often(how, expected):
    drawn = frequencies(np.log(PROBS), how)
    np.testing.assert_allclose(drawn, expected, atol=0.02)
    assert (drawn[expected == 0] == 0).all()


def test_samples_depend_on_the_key_and_not_on_the_other_rows(tiny):
    how = Generation(strategy=Sample(), max_new_tokens=8)
    one, two = (tiny(PROMPT, how, rng=jax.random.key(seed)).tokens for seed in (1, 2))
    assert (one != two).any()
    np.testing.assert_array_equal(tiny(PROMPT, how, rng=jax.random.key(1)).tokens, one)
    np.testing.assert_array_equal(tiny(PROMPT[:2], how, rng=jax.random.key(1)).tokens, one[:2])


def test_several_continuations_differ_and_share_the_prompt(tiny):
    flat = jax.tree.map(jnp.zeros_like, initialised(TINY))  # makes all tokens equally likely
    how = Generation(strategy=Sample(returned=4), max_new_tokens=8)
    tokens = generate(TINY, flat, PROMPT, how, rng=jax.random.key(0)).tokens
    assert tokens.shape == (3, 4, 8) and len({tuple(row) for row in np.asarray(tokens).reshape(12, 8).tolist()}) == 12
