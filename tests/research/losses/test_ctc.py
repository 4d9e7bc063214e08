"""CTC: PyTorch's loss and gradient, and texts against an enumeration of all alignments."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import parity
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.losses.ctc import ctc_loss, fits, greedy, prefix_beam_search


def fixture():
    """(arrays, logits [batch, length, vocab_size], its mask, labels, their mask)."""
    arrays, _ = parity.load("ctc_loss")
    logits, labels = arrays["input/logits"].transpose(1, 0, 2), arrays["input/targets"]
    mask = np.arange(logits.shape[1]) < arrays["input/input_lengths"][:, None]
    return arrays, logits, mask, labels, np.arange(labels.shape[1]) < arrays["input/target_lengths"][:, None]


@pytest.mark.parametrize("blank", [0, 6])
def test_loss_and_gradient_are_pytorchs(blank):
    """If nothing aligns, both are 0, as with `zero_infinity`; the blank may be any token."""
    arrays, logits, mask, labels, labels_mask = fixture()
    if blank:  # the same, with tokens numbered from the other end
        logits, labels = logits[..., ::-1], 6 - labels
    run = jax.jit(jax.value_and_grad(lambda x: ctc_loss(x, mask, labels, labels_mask, blank=blank).sum()))
    total, gradient = run(logits)
    losses = ctc_loss(logits, mask, labels, labels_mask, blank=blank)
    np.testing.assert_allclose(losses, arrays["output64/loss_none_zero_inf"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(total, arrays["output64/loss_none_zero_inf"].sum(), rtol=1e-5)
    gradient = gradient[..., ::-1] if blank else gradient
    np.testing.assert_allclose(gradient.transpose(1, 0, 2), arrays["output64/grad_logits_of_sum_zero_inf"], atol=1e-5)
    np.testing.assert_array_equal(fits(mask, labels, labels_mask), np.isfinite(arrays["output/loss_none"]))


def texts(log_probs, blank):
    """{text: the log of the total probability of its alignments}, by enumeration."""
    sums = {}
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        text = tuple(token for token, _ in itertools.groupby(path) if token != blank)
        sums[text] = np.logaddexp(sums.get(text, -np.inf), sum(log_probs[t, c] for t, c in enumerate(path)))
    return sums


CASES = st.tuples(st.integers(0, 1000), st.integers(1, 5), st.sampled_from([0, 2]))


@settings(max_examples=10, deadline=None)
@given(CASES)
def test_texts_are_those_of_all_alignments(case):
    seed, length, blank = case
    logits = np.random.default_rng(seed).normal(size=(1, 5, 3)).astype(np.float32) * 2
    mask = np.arange(5)[None] < length
    log_probs = np.asarray(jax.nn.log_softmax(logits))[0, :length]
    sums = texts(log_probs, blank)

    found = prefix_beam_search(logits, mask, beams=64, blank=blank)
    best = max(sums, key=sums.get)
    np.testing.assert_allclose(found.scores[0], sums[best], atol=1e-4)
    np.testing.assert_allclose(
        sums[tuple(np.asarray(found.tokens[0, : found.lengths[0]]).tolist())], sums[best], atol=1e-4
    )

    path = greedy(logits, mask, blank=blank)
    expected = tuple(token for token, _ in itertools.groupby(log_probs.argmax(axis=1).tolist()) if token != blank)
    assert tuple(np.asarray(path.tokens[0, : path.lengths[0]]).tolist()) == expected
    np.testing.assert_allclose(path.scores[0], log_probs.max(axis=1).sum(), atol=1e-4)

    labels = np.zeros((1, 5), int)
    labels[0, : len(best)] = best
    loss = ctc_loss(logits, mask, labels, np.arange(5)[None] < len(best), blank=blank)
    np.testing.assert_allclose(loss[0], -sums[best], atol=1e-4)


def test_a_search_may_find_what_greedy_misses():
    """Two alignments of a text are together more probable than the best one (Graves et al., 2006, figure 2)."""
    logits = np.log(np.array([[[0.6, 0.4], [0.6, 0.4]]], np.float32))
    mask = np.ones((1, 2), bool)
    assert greedy(logits, mask).lengths[0] == 0
    found = prefix_beam_search(logits, mask, beams=2)
    assert found.lengths[0] == 1 and found.tokens[0, 0] == 1
    np.testing.assert_allclose(np.exp(found.scores[0]), 0.64, atol=1e-5)


def test_batches_padding_and_limits():
    logits = np.random.default_rng(3).normal(size=(4, 9, 6)).astype(np.float32) * 3
    mask = np.arange(9) < np.array([9, 5, 1, 0])[:, None]
    for decode in (greedy, prefix_beam_search):
        together = decode(logits, mask)
        noisy = decode(np.where(mask[..., None], logits, 99), mask)
        np.testing.assert_array_equal(together.tokens, noisy.tokens)
        assert together.lengths[-1] == 0 and together.scores[-1] == 0
        alone = decode(logits[1:2, :5], mask[1:2, :5])
        length = int(alone.lengths[0])
        assert together.lengths[1] == length
        np.testing.assert_array_equal(together.tokens[1, :length], alone.tokens[0, :length])
        assert (together.tokens[1, length:] == 0).all()
    assert prefix_beam_search(logits, mask, max_length=2).lengths.max() == 2
    wide, narrow = (prefix_beam_search(logits, mask, beams=n).scores for n in (32, 1))
    assert (wide >= narrow - 1e-5).all() and jnp.isfinite(wide).all()
