"""The CTC model: Whisper's encoder with a head, unaffected by padding; and it learns."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import optax
import pytest

from research.errors import RequestError
from research.losses.ctc import ctc_loss, greedy
from research.models.ctc import CTC

TINY = CTC(5, mels=5, width=8, depth=1, num_heads=2, audio_length=9)
FEATURES = np.random.default_rng(0).normal(size=(3, 13, 5)).astype(np.float32)
MASK = np.arange(13) < np.array([13, 8, 5])[:, None]


@pytest.mark.parametrize(("strides", "lengths"), [((1, 2), (7, 4, 3)), ((2, 2), (4, 2, 2))])
def test_lengths_and_padding(strides, lengths):
    model = dataclasses.replace(TINY, strides=strides)
    variables = jax.jit(model.init)(jax.random.key(0), FEATURES, MASK)
    assert set(variables["params"]) == {"encoder", "head"}
    apply = jax.jit(model.apply)
    logits, mask = apply(variables, FEATURES, MASK)
    np.testing.assert_array_equal(mask.sum(axis=1), lengths)
    for i, length in enumerate(MASK.sum(axis=1)):
        alone, whole = apply(variables, FEATURES[i : i + 1, :length], None)
        assert whole.all() and whole.shape == (1, lengths[i])
        np.testing.assert_allclose(alone[0], logits[i, : lengths[i]], atol=1e-5)


def test_it_learns_three_texts():
    labels = np.array([[1, 2, 2], [3, 4, 0], [2, 0, 0]])
    labels_mask = labels > 0
    variables = jax.jit(TINY.init)(jax.random.key(0), FEATURES, MASK)
    optimizer = optax.adam(0.01)

    @jax.jit
    def train(params):
        def loss(params):
            logits, mask = TINY.apply({**variables, "params": params}, FEATURES, MASK, train=True)
            return ctc_loss(logits, mask, labels, labels_mask).mean()

        def step(carry, _):
            params, state = carry
            value, gradient = jax.value_and_grad(loss)(params)
            updates, state = optimizer.update(gradient, state)
            return (optax.apply_updates(params, updates), state), value

        return jax.lax.scan(step, (params, optimizer.init(params)), length=150)

    (params, _), losses = train(variables["params"])
    assert losses[-1] < 0.1 < losses[0]
    given = greedy(*TINY.apply({**variables, "params": params}, FEATURES, MASK))
    np.testing.assert_array_equal(given.lengths, [3, 2, 1])
    np.testing.assert_array_equal(given.tokens[:, :3], labels)


def test_impossible_models_are_refused():
    for fields, line in (({"vocab_size": 0}, "vocab_size=0: expected"), ({"num_heads": 3}, "num_heads=3: expected")):
        with pytest.raises(RequestError, match=line):
            dataclasses.replace(TINY, **fields).check()
