"""Generation: the references' tokens, the cache against none, sampling against its distribution, what is refused."""

from __future__ import annotations

import dataclasses
import functools
from functools import partial

import chex
import jax
import jax.numpy as jnp
import language_models
import numpy as np
import pytest

from research.decoding import Beam, Generated, Generation, Greedy, Sample, batch_prompts, generate
from research.decoding.sampling import draw
from research.errors import RequestError
from research.models.gpt import GPT
from research.models.llama import Llama
from research.models.rnn import RNNLanguageModel
from research.pretrained import gpt2, llama, marian

# -- the references' tokens ----------------------------------------------------------------------------------------

CAUSAL = [("gpt2", gpt2.FAMILY), ("gpt2_untied", gpt2.FAMILY), ("llama", llama.FAMILY), ("llama_scaled", llama.FAMILY)]
LAYOUTS = pytest.mark.parametrize(
    "fields", [{}, pytest.param({"scan_layers": True}, marks=pytest.mark.slow)], ids=["written out", "scanned"]
)


def prompts(arrays):
    """The prompts of a fixture, and their masks where they are padded."""
    if "gen/input_ids" in arrays:
        return arrays["gen/input_ids"], None
    return arrays["input/padded_input_ids"], arrays["input/padded_attention_mask"].astype(bool)


def same(tokens, ids, length):
    """Whether these are the reference's new tokens; ids [rows, prompt + new], the prompt's `length`."""
    expected = ids[:, length:]
    return np.array_equal(np.asarray(tokens).reshape(len(ids), -1)[:, : expected.shape[1]], expected)


@LAYOUTS
@pytest.mark.parametrize(("name", "family"), CAUSAL, ids=[name for name, _ in CAUSAL])
def test_greedy_is_the_reference_token_for_token(name, family, fields):
    arrays, model, _, variables = language_models.reference(family, name, fields)
    prompt, mask = prompts(arrays)
    pad = 0 if mask is None else 2  # what the fixtures were padded with
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
    """An encoder-decoder, its variables, how to start, and what it looks at."""
    arrays, model, _, variables = language_models.reference(marian.FAMILY, "gen_marian", {})
    source, mask = arrays["input/input_ids"], arrays["input/attention_mask"].astype(bool)
    how = Generation(max_new_tokens=11, stop_tokens=(0,), pad_token=39, suppress=(39,), last_token=0)
    start = np.full((len(source), 1), 39)
    return arrays, partial(generate, model, variables), start, how, {"source": source, "source_mask": mask}


def some(names, *slow):
    """Parameters of a test, some of them slow."""
    return [pytest.param(name, marks=pytest.mark.slow) if name in slow else name for name in names]


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


# -- the cache -----------------------------------------------------------------------------------------------------

MODELS = {
    "gpt": GPT(13, context_length=20, width=8, depth=1, num_heads=2),
    "gpt rotary post-norm scanned": GPT(
        13, 20, width=8, depth=2, num_heads=2, positions="rotary", norm="post", scan_layers=True
    ),
    "gpt sinusoidal": GPT(13, context_length=20, width=8, depth=1, num_heads=2, positions="sinusoidal"),
    "llama": Llama(13, context_length=20, width=8, depth=1, num_heads=4, mlp_width=12, num_kv_heads=2),
    "lstm": RNNLanguageModel(13, "lstm", width=8),
    "gru": RNNLanguageModel(13, "gru", width=8, depth=2),
}
PROMPT = np.random.default_rng(0).integers(1, 13, (3, 6))
MASK = np.array([[1, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1], [1, 1, 0, 0, 0, 0]], bool)  # whole, left, right


PLAIN = jax.jit(lambda model, variables, tokens: model.apply(variables, tokens), static_argnums=0)


@functools.cache
def initialised(model):
    """Variables of a model that is sure of what it says, so that rounding does not choose."""
    return jax.tree.map(lambda x: x * 8, jax.jit(model.init)(jax.random.key(0), PROMPT))


def by_hand(model, variables, prompt, new):
    """The likeliest token again and again, the whole text through the plain model every time."""
    tokens = np.zeros((1, 14), np.int64)  # a model that does not look ahead does not mind what comes later
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


# -- stopping ------------------------------------------------------------------------------------------------------

TINY = MODELS["gpt"]


@pytest.fixture(scope="module")
def tiny():
    return partial(generate, TINY, initialised(TINY))


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
    """Where it is asked for: the same tokens, each likelier by what the forbidden ones had."""
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


# -- sampling ------------------------------------------------------------------------------------------------------


def frequencies(log_probs, how, n=20000):
    tokens = draw(jax.random.key(0), jnp.tile(jnp.asarray(log_probs, jnp.float32), (n, 1)), how)
    return np.bincount(tokens, minlength=len(log_probs)) / n


PROBS = np.array([0.05, 0.4, 0.25, 0.3])
DRAWS = [
    (Sample(), PROBS),
    (Sample(temperature=0.5), PROBS**2 / (PROBS**2).sum()),
    (Sample(top_k=2), np.array([0, 4, 0, 3]) / 7),
    (Sample(top_k=100), PROBS),
    (Sample(top_p=0.6), np.array([0, 4, 0, 3]) / 7),
    (Sample(top_p=0.75), np.array([0, 0.4, 0.25, 0.3]) / 0.95),
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
    flat = jax.tree.map(jnp.zeros_like, initialised(TINY))  # every token as likely as the others
    how = Generation(strategy=Sample(returned=4), max_new_tokens=8)
    tokens = generate(TINY, flat, PROMPT, how, rng=jax.random.key(0)).tokens
    assert tokens.shape == (3, 4, 8) and len({tuple(row) for row in np.asarray(tokens).reshape(12, 8).tolist()}) == 12


# -- beams ---------------------------------------------------------------------------------------------------------


def test_one_beam_is_greedy(tiny):
    how = Generation(max_new_tokens=8, stop_tokens=(5,))
    greedy, beam = tiny(PROMPT, how), tiny(PROMPT, dataclasses.replace(how, strategy=Beam(1, 0.0)))
    np.testing.assert_array_equal(greedy.tokens, beam.tokens)
    np.testing.assert_allclose(greedy.scores, beam.scores, atol=1e-4)


def test_as_many_beams_as_texts_find_the_best(tiny):
    """All 13² continuations of two tokens, ranked by hand."""
    variables = initialised(TINY)
    beam = tiny(PROMPT[:1], Generation(strategy=Beam(13, 0.0, returned=5), max_new_tokens=2))
    first = jax.nn.log_softmax(PLAIN(TINY, variables, PROMPT[:1])[0, -1])
    texts = np.concatenate([np.repeat(PROMPT[:1], 13, axis=0), np.arange(13)[:, None]], axis=1)
    both = first[:, None] + jax.nn.log_softmax(PLAIN(TINY, variables, texts)[:, -1])
    best = np.argsort(-both.reshape(-1))[:5]
    np.testing.assert_array_equal(beam.tokens[0], np.stack([best // 13, best % 13], axis=1))
    np.testing.assert_allclose(beam.scores[0], both.reshape(-1)[best], atol=1e-4)


# -- inside a task -------------------------------------------------------------------------------------------------


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


# -- what is refused -----------------------------------------------------------------------------------------------

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
