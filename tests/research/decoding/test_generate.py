"""Generation: stop tokens, forced and forbidden tokens, sliding, use inside a task, and one-line errors."""

from __future__ import annotations

import dataclasses
from functools import partial

import chex
import jax
import numpy as np
import pytest
from decoders import MASK, PLAIN, PROMPT, TINY, initialised

from research.decoding import Beam, Generated, Generation, Greedy, Sample, batch_prompts, generate
from research.errors import RequestError


def test_a_stop_token_ends_a_row_and_no_other(tiny):
    free = tiny(PROMPT, Generation(max_new_tokens=8)).tokens[:, 0]
    stop = int(free[0, 2])
    stopped = tiny(PROMPT, Generation(max_new_tokens=8, stop_tokens=(stop, 12), pad_token=12))
    for row, tokens, length in zip(free, stopped.tokens[:, 0], stopped.lengths[:, 0], strict=True):
        ends = np.isin(row, (stop, 12))
        expected = int(ends.argmax()) + 1 if ends.any() else 8
        assert length == expected
        np.testing.assert_array_equal(tokens[:length], row[:length])
        assert (tokens[length:] == 12).all()


def test_scores_are_log_probabilities(tiny):
    generated = tiny(PROMPT, Generation(max_new_tokens=4))
    text = np.concatenate([PROMPT, generated.tokens[:, 0]], axis=1)
    log_probs = jax.nn.log_softmax(PLAIN(TINY, initialised(TINY), text))[:, 5:-1]
    expected = np.take_along_axis(log_probs, np.asarray(generated.tokens[:, 0])[..., None], axis=2).sum(axis=(1, 2))
    np.testing.assert_allclose(generated.scores[:, 0], expected, atol=1e-4)


def test_tokens_that_are_suppressed_or_forced(tiny):
    free = tiny(PROMPT, Generation(max_new_tokens=5)).tokens
    first = tuple({int(token) for token in free[:, 0, 0]})
    never = tiny(PROMPT, Generation(max_new_tokens=5, suppress=first)).tokens
    assert not np.isin(never, first).any()
    later = tiny(PROMPT, Generation(max_new_tokens=5, suppress_first=first, last_token=7)).tokens
    assert not np.isin(later[:, :, 0], first).any() and (later[:, :, -1] == 7).all()


def test_what_may_be_chosen_sums_to_one(tiny):
    """`renormalize` gives the same tokens, with the probability of forbidden tokens spread over the others."""
    how = Generation(max_new_tokens=4, suppress=(1, 2, 3), suppress_first=(4,))
    plain, renormalized = (tiny(PROMPT, dataclasses.replace(how, renormalize=flag)) for flag in (False, True))
    np.testing.assert_array_equal(plain.tokens, renormalized.tokens)
    text = np.concatenate([PROMPT, plain.tokens[:, 0]], axis=1)
    probs = np.exp(jax.nn.log_softmax(PLAIN(TINY, initialised(TINY), text))[:, 5:-1])
    allowed = 1 - probs[..., 1:4].sum(axis=2)
    allowed[:, 0] -= probs[:, 0, 4]
    np.testing.assert_allclose(renormalized.scores - plain.scores, -np.log(allowed).sum(axis=1)[:, None], atol=1e-4)


@pytest.mark.slow
def test_sliding_goes_on_past_the_context(tiny):
    how = Generation(max_new_tokens=40, slide=True)
    long = tiny(PROMPT, how, mask=MASK)
    np.testing.assert_array_equal(long.tokens[0, 0, :14], tiny(PROMPT, Generation(max_new_tokens=14)).tokens[0, 0])
    text = np.concatenate([PROMPT[0], long.tokens[0, 0]])
    np.testing.assert_array_equal(text[20:30], tiny(text[None, 10:20], Generation(max_new_tokens=10)).tokens[0, 0])
    np.testing.assert_array_equal(text[30:40], tiny(text[None, 20:30], Generation(max_new_tokens=10)).tokens[0, 0])
    stop = int(long.tokens[0, 0, 25])
    stopped = tiny(PROMPT, dataclasses.replace(how, stop_tokens=(stop,), pad_token=0), mask=MASK)
    length = int(stopped.lengths[0, 0])
    assert length == int((long.tokens[0, 0] == stop).argmax()) + 1
    np.testing.assert_array_equal(stopped.tokens[0, 0, :length], long.tokens[0, 0, :length])
    assert (stopped.tokens[0, 0, length:] == 0).all()


def test_inside_a_jitted_function_from_a_bound_apply():
    variables = initialised(TINY)

    @jax.jit
    def evaluate(variables, prompt, mask):
        apply = partial(TINY.apply, variables)
        model, bound = apply(method=lambda model: model.unbind())
        return generate(model, bound, prompt, Generation(max_new_tokens=4), mask=mask)

    generated = evaluate(variables, PROMPT, MASK)
    assert isinstance(generated, Generated)
    expected = generate(TINY, variables, PROMPT, Generation(max_new_tokens=4), mask=MASK)
    chex.assert_trees_all_close(generated, expected, atol=1e-5)


OUTSIDE = PROMPT.copy()
OUTSIDE[1, 2] = 13
BAD = [
    (PROMPT, Generation(max_new_tokens=4, pad_token=-1), "pad_token: token -1 at [0] is outside the vocabulary"),
    (PROMPT, Generation(strategy=Sample(temperature=0.0)), "temperature=0.0: expected a number above 0"),
    (PROMPT, Generation(strategy=Sample(temperature=-1.0)), "temperature=-1.0: expected a number above 0"),
    (PROMPT, Generation(strategy=Sample(temperature=float("nan"))), "temperature=nan: expected a number above 0"),
    (PROMPT, Generation(strategy=Sample(top_k=0)), "top_k=0: expected at least 1, or none"),
    (PROMPT, Generation(strategy=Sample(top_p=0.0)), "top_p=0.0: expected 0 < top_p <= 1, or none"),
    (PROMPT, Generation(strategy=Sample(top_p=1.5)), "top_p=1.5: expected 0 < top_p <= 1, or none"),
    (PROMPT, Generation(strategy=Sample(returned=0)), "returned=0: expected at least 1"),
    (PROMPT, Generation(strategy=Sample(), max_new_tokens=4), "rng=None: sampling needs a key"),
    (PROMPT, Generation(strategy=Beam(beams=0)), "beams=0: expected at least 1"),
    (PROMPT, Generation(strategy=Beam(beams=2, returned=3)), "returned=3: expected 1 to beams=2"),
    (PROMPT, Generation(strategy=Beam(length_penalty=float("inf"))), "length_penalty=inf: expected a number"),
    (PROMPT, Generation(strategy=Beam(early_stopping="maybe")), "early_stopping='maybe': expected one of"),
    (PROMPT, Generation(strategy=Beam(), slide=True), "slide=True: beam search cannot slide"),
    (PROMPT, Generation(max_new_tokens=0), "max_new_tokens=0: expected at least 1"),
    (PROMPT, Generation(max_new_tokens=15), "max_new_tokens=15: expected at most 14 after a prompt of 6 tokens"),
    (PROMPT, Generation(max_new_tokens=4, stop_tokens=(13,)), "stop_tokens: token 13 at [0] is outside the vocabulary"),
    (PROMPT, Generation(max_new_tokens=4, last_token=-1), "last_token: token -1 at [0] is outside the vocabulary"),
    (PROMPT, Generation(max_new_tokens=4, suppress=(99,)), "suppress: token 99 at [0] is outside the vocabulary"),
    (OUTSIDE, Generation(max_new_tokens=4), "prompt: token 13 at [1, 2] is outside the vocabulary, expected 0 to 12"),
    (-PROMPT, Generation(max_new_tokens=4), "prompt: token -"),
    (PROMPT * 1.0, Generation(max_new_tokens=4), "prompt: float64 given, expected integers"),
    (PROMPT[0], Generation(max_new_tokens=4), "prompt: shape [6] given, expected [batch, length]"),
    (PROMPT[:, :0], Generation(max_new_tokens=4), "prompt: empty, expected at least one token"),
    (np.ones((1, 21), int), Generation(max_new_tokens=4), "prompt: 21 tokens, expected at most context_length=20"),
    (np.ones((1, 21), int), Generation(max_new_tokens=4, slide=True), "prompt: 21 tokens, expected at most"),
]


@pytest.mark.parametrize(("prompt", "how", "line"), BAD, ids=[line for *_, line in BAD])
def test_bad_requests_are_one_line(tiny, prompt, how, line):
    with pytest.raises(RequestError) as refusal:
        tiny(prompt, how)
    assert str(refusal.value).startswith(line) and "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("mask", "line"),
    [
        (MASK[:2], "mask: shape [2, 6] given, expected [3, 6] as the prompt"),
        (MASK & (np.arange(3) > 0)[:, None], "prompt: one of them is empty"),
    ],
)
def test_bad_masks_are_one_line(tiny, mask, line):
    with pytest.raises(RequestError) as refusal:
        tiny(PROMPT, Generation(strategy=Greedy(), max_new_tokens=4), mask=mask)
    assert str(refusal.value).startswith(line)


def test_prompts_of_different_lengths():
    prompt, mask = batch_prompts([np.array([5, 6, 7]), np.array([8])])
    np.testing.assert_array_equal(prompt, [[5, 6, 7], [8, 0, 0]])
    np.testing.assert_array_equal(mask, [[1, 1, 1], [1, 0, 0]])
    for prompts, line in (([], "prompt: none"), ([np.array([1]), np.array([], int)], "prompt: number 1 is empty")):
        with pytest.raises(RequestError, match=line):
            batch_prompts(prompts)


def test_what_padding_holds_does_not_matter(tiny):
    noisy = np.where(MASK, PROMPT, 99)
    how = Generation(max_new_tokens=4)
    np.testing.assert_array_equal(tiny(noisy, how, mask=MASK).tokens, tiny(PROMPT, how, mask=MASK).tokens)
