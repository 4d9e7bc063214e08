"""Kneser-Ney against its formula written for one token at a time, and as a distribution."""

from collections import Counter

import numpy as np
import pytest

from research.errors import RequestError
from research.models.ngram import NGram

TEXT = np.random.default_rng(0).choice(6, size=400, p=[0.4, 0.2, 0.15, 0.1, 0.1, 0.05])
HELD = np.random.default_rng(1).integers(7, size=60)


def by_the_formula(tokens, order, vocab_size):
    """P(w | h) by recursion over dictionaries."""
    grams = {n: [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)] for n in range(1, order + 1)}
    counts = {order: Counter(grams[order])}
    for n in range(order - 1, 0, -1):
        counts[n] = Counter(gram[1:] for gram in counts[n + 1])

    def p(word, context):
        n = len(context) + 1
        lower = p(word, context[1:]) if context else 1 / vocab_size
        following = {gram: c for gram, c in counts[n].items() if gram[:-1] == context}
        if not following:
            return lower
        once, twice = (sum(c == times for c in counts[n].values()) for times in (1, 2))
        discount = once / (once + 2 * twice) if once and twice else 0.5
        total = sum(following.values())
        own = max(following.get((*context, word), 0) - discount, 0)
        return own / total + discount * len(following) / total * lower

    return p


@pytest.mark.parametrize("order", [1, 2, 4])
def test_log_probs_are_those_of_the_formula(order):
    model = NGram.fit(TEXT, 7, order)
    p = by_the_formula(TEXT.tolist(), order, 7)
    held = HELD.tolist()
    wanted = [p(held[i], tuple(held[max(0, i - order + 1) : i])) for i in range(1, len(held))]
    np.testing.assert_allclose(np.exp(model.log_probs(HELD)), wanted, rtol=1e-12)


def test_next_probs_is_a_distribution_and_agrees():
    model = NGram.fit(TEXT, 7, 3)
    for i in range(1, len(HELD)):
        p = model.next_probs(HELD[:i])
        assert p.min() > 0 and p.sum() == pytest.approx(1, abs=1e-12)
        assert np.log(p[HELD[i]]) == pytest.approx(model.log_probs(HELD[: i + 1])[-1], abs=1e-12)


def test_it_learns_and_samples_what_it_saw():
    cycle = np.tile(np.arange(5), 40)
    model = NGram.fit(cycle, 5, 3)
    assert np.exp(model.log_probs(cycle)[2:]).min() > 0.9
    rng = np.random.default_rng(0)
    assert model.sample(np.array([3, 4]), 6, rng=rng, temperature=0.1).tolist() == [0, 1, 2, 3, 4, 0]
    assert model.sample(np.array([3, 4]), 6, rng=rng, temperature=0.1, stop_token=2).tolist() == [0, 1]


def test_drawn_tokens_follow_the_distribution():
    model = NGram.fit(TEXT, 7, 2)
    rng = np.random.default_rng(0)
    drawn = [model.sample(np.array([1]), 1, rng=rng)[0] for _ in range(2000)]
    shares = np.bincount(drawn, minlength=7) / 2000
    assert np.abs(shares - model.next_probs(np.array([1]))).max() < 0.04


@pytest.mark.parametrize(
    ("tokens", "fields", "message"),
    [
        (TEXT, {"vocab_size": 4096, "order": 6}, "order=6: expected 1 to 5 with vocab_size=4096"),
        (TEXT, {"vocab_size": 7, "order": 0}, "order=0: expected 1 to"),
        (TEXT[:2], {"vocab_size": 7, "order": 3}, "tokens: 2, expected at least order=3"),
    ],
)
def test_what_cannot_be_counted(tokens, fields, message):
    with pytest.raises(RequestError, match=f"^{message}"):
        NGram.fit(tokens, **fields)
