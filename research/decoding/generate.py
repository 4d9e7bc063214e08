"""Continues prompts token by token, greedily, by sampling or by beam search: jitted, batched, with a cache.

    how = Generation(strategy=Sample(temperature=0.8, top_k=40), max_new_tokens=200, stop_tokens=(eos,))
    generated = generate(model, variables, prompt, how, rng=jax.random.key(0))
    generated.tokens[0, 0]      # the first prompt's first continuation

`research.decoding.cached` describes the method that a model needs.  Inside a task, get the model and its variables by
`model, variables = apply(method=lambda model: model.unbind())`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from research.console import counted
from research.decoding.beams import beam_search
from research.decoding.cached import Cached, Uncached
from research.decoding.constraints import among
from research.decoding.sampling import one_by_one
from research.decoding.strategies import Beam, Generated, Generation, Sample
from research.errors import require
from research.layers.embeddings import check_tokens


def generate(
    model: nn.Module,
    variables: Mapping[str, Any],
    prompt: jax.Array,
    how: Generation = Generation(),  # noqa: B008  (frozen)
    *,
    mask: jax.Array | None = None,
    rng: jax.Array | None = None,
    memory: Mapping[str, jax.Array] | None = None,
) -> Generated:
    """Continues every prompt of a batch; compiles one program per shape, model and `how`.

    Inside a jitted function the values of `prompt` are unknown, so only shapes and settings are checked.

    Args:
      model: a model with the method `decode` (see `research.decoding.cached`).
      variables: the model's parameters and other collections, if it has any.
      prompt: [batch, length] tokens.
      how: the strategy, the length and the stop tokens.
      mask: [batch, length] bool, False on padding, which may be on either side; None if there is no padding.
      rng: key for `Sample`; the draws for a prompt depend on its place in the batch, not on the other prompts.
      memory: further named arrays for `decode`, each [batch, ...].

    Raises:
      RequestError: a prompt is empty, a token is outside the vocabulary, there are more tokens than the model's context
        holds, or a setting is out of range.
    """
    how.check()
    prompt = prompt if isinstance(prompt, jax.Array) else np.asarray(prompt)
    context = getattr(model, "context_length", None)
    vocab_size = getattr(model, "vocab_size", None)
    _check_prompt(prompt, mask, how, vocab_size, context)
    if isinstance(how.strategy, Sample):
        require(rng is not None, "rng=None: sampling needs a key, such as jax.random.key(0)")
    prompt, mask = _right_aligned(jnp.asarray(prompt), jnp.ones(prompt.shape, bool) if mask is None else mask)
    rng = jax.random.key(0) if rng is None else rng
    run = partial(_generate, model, variables, memory=dict(memory or {}))
    if how.slide and context is not None:
        return _slide(run, prompt, mask, rng, how, context)
    return run(prompt, mask, rng, how)


def batch_prompts(prompts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Makes (prompt, mask) for `generate`, both [batch, length], from token arrays [length] of different lengths.

    Raises:
      RequestError: a prompt is empty, or there are no prompts.
    """
    require(len(prompts) > 0, "prompt: none, expected at least one")
    for i, tokens in enumerate(prompts):
        require(len(tokens) > 0, f"prompt: number {i} is empty, expected at least one token")
    mask = np.arange(max(map(len, prompts))) < np.array([len(tokens) for tokens in prompts])[:, None]
    prompt = np.zeros(mask.shape, np.int32)
    prompt[mask] = np.concatenate(prompts)
    return prompt, mask


def _check_prompt(prompt: Any, mask: Any, how: Generation, vocab_size: int | None, context: int | None) -> None:
    require(prompt.ndim == 2, f"prompt: shape {list(prompt.shape)} given, expected [batch, length]")
    require(prompt.shape[1] > 0, "prompt: empty, expected at least one token")
    if mask is not None:
        shapes = f"{list(mask.shape)} given, expected {list(prompt.shape)} as the prompt"
        require(mask.shape == prompt.shape, f"mask: shape {shapes}")
    longest = prompt.shape[1]
    if not isinstance(prompt, jax.core.Tracer) and not isinstance(mask, jax.core.Tracer):
        tokens, valid = np.asarray(prompt), np.ones(prompt.shape, bool) if mask is None else np.asarray(mask, bool)
        require(bool(valid.any(axis=1).all()), "prompt: one of them is empty, expected at least one token")
        if vocab_size is not None:
            check_tokens(np.where(valid, tokens, 0), vocab_size, "prompt")
        longest = int(valid.sum(axis=1).max())
    if vocab_size is not None:
        for name in ("stop_tokens", "pad_token", "suppress", "suppress_first", "last_token"):
            value = getattr(how, name)
            tokens = value if isinstance(value, tuple) else () if value is None else (value,)
            check_tokens(np.asarray(tokens, np.int64), vocab_size, name)
    if context is None:
        return
    require(longest <= context, f"prompt: {counted(longest, 'token')}, expected at most context_length={context}")
    if how.slide:
        require(context > 1, f"slide=True: context_length={context} leaves no room to go on from")
    else:
        most, tokens = context - longest, counted(longest, "token")
        require(
            how.max_new_tokens <= most,
            f"max_new_tokens={how.max_new_tokens}: expected at most {most} after a prompt of {tokens} "
            f"in context_length={context}, or slide=True",
        )


def _right_aligned(prompt: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Moves all padding of the prompt and its mask to the left, and sets padding tokens to 0."""
    mask = mask.astype(bool)
    order = jnp.argsort(mask, axis=1, stable=True)
    return jnp.take_along_axis(jnp.where(mask, prompt, 0), order, axis=1), jnp.take_along_axis(mask, order, axis=1)


def _slide(
    run: Callable[..., Generated], prompt: jax.Array, mask: jax.Array, rng: jax.Array, how: Generation, context: int
) -> Generated:
    """Generates in pieces, one continuation per row; after a full context, the next piece starts from its last half.

    Cannot run inside a jitted function, because it stops as soon as all rows have ended.
    """
    R, first = how.strategy.returned, int(mask.sum(axis=1).max())
    tokens, valid = jnp.repeat(prompt[:, -first:], R, axis=0), jnp.repeat(mask[:, -first:], R, axis=0)
    rows = len(tokens)
    lengths, scores = jnp.zeros(rows, jnp.int32), jnp.zeros(rows)
    ended = jnp.zeros(rows, bool)
    strategy = dataclasses.replace(how.strategy, returned=1) if R > 1 else how.strategy
    made = 0
    while made < how.max_new_tokens and not bool(ended.all()):
        window = first if made == 0 and first < context else context // 2
        piece = dataclasses.replace(
            how,
            strategy=strategy,
            max_new_tokens=min(context - window, how.max_new_tokens - made),
            last_token=how.last_token if how.max_new_tokens - made <= context - window else None,
            suppress_first=how.suppress_first if made == 0 else (),
            slide=False,
        )
        part = run(tokens[:, -window:], valid[:, -window:], jax.random.fold_in(rng, made), piece)
        new = jnp.where(ended[:, None], how.pad_token, part.tokens[:, 0])
        lengths += jnp.where(ended, 0, part.lengths[:, 0])
        scores += jnp.where(ended, 0, part.scores[:, 0])
        last = jnp.take_along_axis(new, part.lengths - 1, axis=1)[:, 0]
        ended |= among(last, how.stop_tokens)
        tokens, valid = jnp.concatenate([tokens, new], 1), jnp.concatenate([valid, jnp.ones(new.shape, bool)], 1)
        made += piece.max_new_tokens
    new = jnp.pad(tokens[:, first:], ((0, 0), (0, how.max_new_tokens - made)), constant_values=how.pad_token)
    return Generated(new.reshape(-1, R, how.max_new_tokens), lengths.reshape(-1, R), scores.reshape(-1, R))


@partial(jax.jit, static_argnames=("model", "how"))
def _generate(model, variables, prompt, mask, rng, how, *, memory) -> Generated:
    decoder = Cached if how.cache else Uncached
    decoder = decoder(model, dict(variables), memory, how.max_new_tokens)
    if isinstance(how.strategy, Beam):
        return beam_search(decoder, prompt, mask, how, how.strategy)
    return one_by_one(decoder, prompt, mask, rng, how, how.strategy)
