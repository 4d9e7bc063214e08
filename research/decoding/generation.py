"""Text from a model, token by token: greedy, sampled, or by beam search; jitted, batched, with a cache.

    how = Generation(strategy=Sample(temperature=0.8, top_k=40), max_new_tokens=200, stop_tokens=(eos,))
    generated = generate(model, variables, prompt, how, rng=jax.random.key(0))
    generated.tokens[0, 0]      # the first prompt's first continuation

A model can generate if it has a method

    decode(tokens, *, positions, mask, **memory) -> float32 logits [batch, vocab_size] of what follows the last token

which appends what it has to remember of `tokens` [batch, length] to the mutable collection `cache`.  It is called with
the whole prompt first and then with one token at a time.  `positions` [batch, length] count from the first true token;
`mask` [batch, prompt length + max_new_tokens] bool is False on the prompt's padding, which stands on the left, and its
length is how long the cache has to be.  `memory` is what an encoder-decoder looks at beside: named arrays with a
leading axis `batch`, passed in every call; what the first call makes of them it may keep in the cache.  A model that
reads one sequence and writes another has the method from `research.models.encoder_decoder`.

Inside a task, `model, variables = apply(method=lambda model: model.unbind())`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from research.errors import require
from research.layers.embeddings import check_tokens
from research.layers.positions import valid_positions

NEVER = -1e9
"""The log-probability of what must not happen; finite, so that it can be compared with itself."""


# -- what is asked -------------------------------------------------------------------------------------------------

EarlyStopping = Literal["full", "likely", "never"]
"""When a beam search stops; `Beam` says what they mean."""


@dataclasses.dataclass(frozen=True)
class Greedy:
    """The likeliest token, always."""

    @property
    def returned(self) -> int:
        return 1

    def check(self) -> None:
        """Nothing can be wrong."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """A token drawn from the model's distribution, sharpened and cut.

    Attributes:
      temperature: logits are divided by it.
      top_k: only the k likeliest tokens are drawn (Fan et al., 2018); None is all.
      top_p: only the likeliest tokens that have this much probability together (nucleus; Holtzman et al., 2020).
      returned: continuations of every prompt.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    returned: int = 1

    def check(self) -> None:
        """Raises `RequestError` for a value out of range."""
        require(
            0 < self.temperature < float("inf"),
            f"temperature={self.temperature}: expected a number above 0 (Greedy() takes the likeliest token)",
        )
        require(self.top_k is None or self.top_k >= 1, f"top_k={self.top_k}: expected at least 1, or none")
        require(self.top_p is None or 0 < self.top_p <= 1, f"top_p={self.top_p}: expected 0 < top_p <= 1, or none")
        require(self.returned >= 1, f"returned={self.returned}: expected at least 1")


@dataclasses.dataclass(frozen=True)
class Beam:
    """Beam search, as Hugging Face's `generate` has it.

    Attributes:
      beams: unfinished continuations that are kept of every prompt.
      length_penalty: finished ones are ranked by log-probability / length ** length_penalty; above 0 favours long ones.
      early_stopping: when to stop.  "full": as soon as there are `beams` finished ones.  "likely": when the best
        unfinished one, were it to end now, would not be among them.  "never": when it could not be at any length.
      returned: continuations of every prompt, the best first.
    """

    beams: int = 4
    length_penalty: float = 1.0
    early_stopping: EarlyStopping = "likely"
    returned: int = 1

    def check(self) -> None:
        """Raises `RequestError` for a value out of range."""
        require(self.beams >= 1, f"beams={self.beams}: expected at least 1")
        require(abs(self.length_penalty) < float("inf"), f"length_penalty={self.length_penalty}: expected a number")
        choices = get_args(EarlyStopping)
        require(self.early_stopping in choices, f"early_stopping={self.early_stopping!r}: expected one of {choices}")
        require(
            1 <= self.returned <= self.beams,
            f"returned={self.returned}: expected 1 to beams={self.beams} continuations",
        )


Strategy = Greedy | Sample | Beam


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generation:
    """How to continue a prompt.

    Attributes:
      strategy: how a token is chosen.
      max_new_tokens: how many tokens to add at most, a stop token included.
      stop_tokens: a continuation ends with the first of these.
      pad_token: fills what comes after the end.
      suppress: tokens that are never chosen.
      suppress_first: tokens that are not chosen as the first new one.
      renormalize: whether the probabilities of the tokens that may be chosen are made to sum to 1.
      last_token: what a continuation ends with that has reached `max_new_tokens`; None lets it break off.
      slide: past the model's context, go on from the last half of it, where otherwise the request is refused; not
        inside a jitted function, and not with `Beam`.
      cache: False computes everything anew for every token: slow, and the same (to check a model's cache by).
    """

    strategy: Strategy = Greedy()
    max_new_tokens: int = 100
    stop_tokens: tuple[int, ...] = ()
    pad_token: int = 0
    suppress: tuple[int, ...] = ()
    suppress_first: tuple[int, ...] = ()
    renormalize: bool = False
    last_token: int | None = None
    slide: bool = False
    cache: bool = True

    def check(self) -> None:
        """Raises `RequestError` for a value out of range."""
        require(self.max_new_tokens >= 1, f"max_new_tokens={self.max_new_tokens}: expected at least 1")
        require(not (self.slide and isinstance(self.strategy, Beam)), "slide=True: beam search cannot slide")
        self.strategy.check()


class Generated(NamedTuple):
    """What was generated; `returned` continuations of every prompt.

    Attributes:
      tokens: [batch, returned, max_new_tokens], without the prompt, `pad_token` after the end.
      lengths: [batch, returned], how many of them count, a stop token included.
      scores: [batch, returned], the sum of their log-probabilities under the model, for `Beam` divided by
        length ** length_penalty.
    """

    tokens: jax.Array
    lengths: jax.Array
    scores: jax.Array


# -- asking --------------------------------------------------------------------------------------------------------


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
    """Continues every prompt of a batch; one compiled program for each shape, model and `how`.

    Inside a jitted function the values of `prompt` cannot be looked at, so only shapes and settings are checked.

    Args:
      model: has the method `decode` described above.
      variables: its parameters, and other collections if it has any.
      prompt: [batch, length] tokens.
      how: what to do.
      mask: [batch, length] bool, False on padding, which may stand on either side; None is no padding.
      rng: for `Sample`; the numbers of a prompt depend on its place in the batch and not on the other prompts.
      memory: further named arrays for `decode`, each with leading axis `batch`.

    Raises:
      RequestError: an empty prompt, a token outside the vocabulary, more tokens than the model's context, or a setting
        out of range.
    """
    how.check()
    prompt = prompt if isinstance(prompt, jax.Array) else np.asarray(prompt)
    context = getattr(model, "context_length", None)
    vocab_size = getattr(model, "vocab_size", None)
    _check_prompt(prompt, mask, how, vocab_size, context)
    if isinstance(how.strategy, Sample):
        require(rng is not None, "rng=None: sampling needs a key, such as jax.random.key(0)")
    prompt, mask = _to_the_right(jnp.asarray(prompt), jnp.ones(prompt.shape, bool) if mask is None else mask)
    rng = jax.random.key(0) if rng is None else rng
    run = partial(_generate, model, variables, memory=dict(memory or {}))
    if how.slide and context is not None:
        return _slide(run, prompt, mask, rng, how, context)
    return run(prompt, mask, rng, how)


def batch_prompts(prompts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(prompt, mask) for `generate`, both [batch, length], from token arrays [length] of different lengths.

    Raises:
      RequestError: one of them is empty, or there is none.
    """
    require(len(prompts) > 0, "prompt: none, expected at least one")
    for i, tokens in enumerate(prompts):
        require(len(tokens) > 0, f"prompt: number {i} is empty, expected at least one token")
    mask = np.arange(max(map(len, prompts))) < np.array([len(tokens) for tokens in prompts])[:, None]
    prompt = np.zeros(mask.shape, np.int32)
    prompt[mask] = np.concatenate(prompts)
    return prompt, mask


def _check_prompt(prompt, mask, how, vocab_size, context):
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
    require(longest <= context, f"prompt: {longest} tokens, expected at most context_length={context}")
    if how.slide:
        require(context > 1, f"slide=True: context_length={context} leaves no room to go on from")
    else:
        most = context - longest
        require(
            how.max_new_tokens <= most,
            f"max_new_tokens={how.max_new_tokens}: expected at most {most} after a prompt of {longest} tokens "
            f"in context_length={context}, or slide=True",
        )


def _to_the_right(prompt: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Padding to the left, whatever it holds turned to 0, and the order of the tokens kept."""
    mask = mask.astype(bool)
    order = jnp.argsort(mask, axis=1, stable=True)
    return jnp.take_along_axis(jnp.where(mask, prompt, 0), order, axis=1), jnp.take_along_axis(mask, order, axis=1)


def _slide(run, prompt, mask, rng, how, context):
    """Piece by piece: one continuation a row, from the last half of the context whenever it is full; not in a jit."""
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
        ended |= _among(last, how.stop_tokens)
        tokens, valid = jnp.concatenate([tokens, new], 1), jnp.concatenate([valid, jnp.ones(new.shape, bool)], 1)
        made += piece.max_new_tokens
    new = jnp.pad(tokens[:, first:], ((0, 0), (0, how.max_new_tokens - made)), constant_values=how.pad_token)
    return Generated(new.reshape(-1, R, how.max_new_tokens), lengths.reshape(-1, R), scores.reshape(-1, R))


@partial(jax.jit, static_argnames=("model", "how"))
def _generate(model, variables, prompt, mask, rng, how, *, memory):
    decoder = _Cached if how.cache else _Anew
    decoder = decoder(model, dict(variables), memory, how.max_new_tokens)
    if isinstance(how.strategy, Beam):
        return _beam_search(decoder, prompt, mask, how, how.strategy)
    return _one_by_one(decoder, prompt, mask, rng, how, how.strategy)


# -- calling the model ---------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Cached:
    """The prompt in one call, then one token a call; the state holds the cache, whatever its leaves are."""

    model: nn.Module
    variables: dict[str, Any]
    memory: dict[str, jax.Array]
    new: int

    def start(self, prompt: jax.Array, mask: jax.Array) -> tuple[jax.Array, Any]:
        """Logits of the first new token, [batch, vocab_size], and the state."""
        logits, cache = self._prefill(self.variables, prompt, mask, self.memory)
        state = {"cache": cache, "mask": self._places(mask), "next": mask.sum(axis=1), "memory": self.memory}
        return logits, state

    def step(self, state: Any, token: jax.Array) -> tuple[jax.Array, Any]:
        """Logits of what follows `token` [batch], and the state with it."""
        logits, changed = self.model.apply(
            {**self.variables, "cache": state["cache"]},
            token[:, None],
            positions=state["next"][:, None],
            mask=state["mask"],
            **state["memory"],
            method="decode",
            mutable=["cache"],
        )
        return logits, {**state, "cache": changed["cache"], "next": state["next"] + 1}

    def _places(self, mask: jax.Array) -> jax.Array:
        return jnp.pad(mask, ((0, 0), (0, self.new)), constant_values=True)

    def _prefill(self, variables, prompt, mask, memory):
        logits, changed = self.model.apply(
            variables,
            prompt,
            positions=valid_positions(mask),
            mask=self._places(mask),
            **memory,
            method="decode",
            mutable=["cache"],
        )
        return logits, changed["cache"]


@dataclasses.dataclass(frozen=True)
class _Anew(_Cached):
    """The whole text in every call, moved along so that its last token stands at the right; nothing is kept."""

    def start(self, prompt: jax.Array, mask: jax.Array) -> tuple[jax.Array, Any]:
        left = ((0, 0), (self.new, 0))
        return self._whole({"tokens": jnp.pad(prompt, left), "mask": jnp.pad(mask, left), "memory": self.memory})

    def step(self, state: Any, token: jax.Array) -> tuple[jax.Array, Any]:
        tokens = jnp.concatenate([state["tokens"][:, 1:], token[:, None]], axis=1)
        mask = jnp.pad(state["mask"][:, 1:], ((0, 0), (0, 1)), constant_values=True)
        return self._whole({**state, "tokens": tokens, "mask": mask})

    def _places(self, mask: jax.Array) -> jax.Array:
        return mask

    def _whole(self, state: Any) -> tuple[jax.Array, Any]:
        return self._prefill(self.variables, state["tokens"], state["mask"], state["memory"])[0], state


def _batch_axes(decoder: _Cached, prompt: jax.Array, mask: jax.Array) -> Any:
    """Which axis of every leaf of the state is the batch's: the one that another batch size changes; -1 is none."""

    def state(batch: int) -> Any:
        inputs = (prompt, mask, decoder.memory)
        resized = jax.tree.map(lambda x: jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype), inputs)
        return jax.eval_shape(lambda p, m, memory: dataclasses.replace(decoder, memory=memory).start(p, m)[1], *resized)

    def changed(a: jax.ShapeDtypeStruct, b: jax.ShapeDtypeStruct) -> int:
        return next((i for i, (m, n) in enumerate(zip(a.shape, b.shape, strict=True)) if m != n), -1)

    return jax.tree.map(changed, state(1), state(2))


def _rows(state: Any, rows: jax.Array, axes: Any) -> Any:
    """The state of these rows of the batch, which may repeat, be left out, or change places."""
    return jax.tree.map(lambda x, axis: x if axis < 0 else jnp.take(x, rows, axis=axis), state, axes)


# -- choosing tokens -----------------------------------------------------------------------------------------------


def _allowed(logits: jax.Array, step: jax.Array, how: Generation) -> jax.Array:
    """Log-probabilities [rows, vocab_size] of the step's tokens, `NEVER` where one must not be chosen."""
    V = logits.shape[-1]
    log_probs = jax.nn.log_softmax(logits)
    never = np.zeros(V, bool)
    never[list(how.suppress)] = True
    first = np.zeros(V, bool)
    first[list(how.suppress_first)] = True
    log_probs = jnp.where(never | (first & (step == 0)), NEVER, log_probs)
    log_probs = jax.nn.log_softmax(log_probs) if how.renormalize else log_probs
    if how.last_token is None:
        return log_probs
    last = jnp.where(jnp.arange(V) == how.last_token, 0.0, NEVER)
    return jnp.where(step == how.max_new_tokens - 1, last, log_probs)


def _among(tokens: jax.Array, some: tuple[int, ...]) -> jax.Array:
    return jnp.isin(tokens, jnp.asarray(some, tokens.dtype)) if some else jnp.zeros(tokens.shape, bool)


def draw(key: jax.Array, log_probs: jax.Array, how: Sample) -> jax.Array:
    """A token [rows] for every row of log_probs [rows, vocab_size]; row i draws with fold_in(key, i)."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(len(log_probs)))
    logits = log_probs / how.temperature
    if how.top_k is None and how.top_p is None:
        return jax.vmap(jax.random.categorical)(keys, logits)
    logits, tokens = jax.lax.top_k(logits, min(how.top_k or logits.shape[-1], logits.shape[-1]))
    if how.top_p is not None:
        probs = jax.nn.softmax(logits)
        before = jnp.cumsum(probs, axis=-1) - probs  # the first stays, whatever top_p
        logits = jnp.where(before < how.top_p, logits, NEVER)
    choice = jax.vmap(jax.random.categorical)(keys, logits)
    return jnp.take_along_axis(tokens, choice[:, None], axis=1)[:, 0]


def _one_by_one(decoder: _Cached, prompt, mask, rng, how: Generation, strategy: Greedy | Sample) -> Generated:
    """Greedy and sampling: every row goes its own way until all have ended."""
    R, N = strategy.returned, how.max_new_tokens
    logits, state = decoder.start(prompt, mask)
    if R > 1:
        repeated = jnp.repeat(jnp.arange(len(prompt)), R)
        logits, state = logits[repeated], _rows(state, repeated, _batch_axes(decoder, prompt, mask))

    def advance(carry):
        step, state, logits, (tokens, lengths, scores, ended) = carry
        log_probs = _allowed(logits, step, how)
        if isinstance(strategy, Sample):
            token = draw(jax.random.fold_in(rng, step), log_probs, strategy)
        else:
            token = log_probs.argmax(axis=-1)
        log_prob = jnp.take_along_axis(log_probs, token[:, None], axis=1)[:, 0]
        token = jnp.where(ended, how.pad_token, token).astype(tokens.dtype)
        tokens = tokens.at[:, step].set(token)
        lengths, scores = lengths + ~ended, scores + jnp.where(ended, 0, log_prob)
        logits, state = decoder.step(state, token)
        return step + 1, state, logits, (tokens, lengths, scores, ended | _among(token, how.stop_tokens))

    def unfinished(carry):
        step, *_, (_, _, _, ended) = carry
        return (step < N) & ~ended.all()

    B = len(logits)
    tokens = jnp.full((B, N), how.pad_token, prompt.dtype)
    nothing = (tokens, jnp.zeros(B, jnp.int32), jnp.zeros(B, logits.dtype), jnp.zeros(B, bool))
    *_, (tokens, lengths, scores, _) = jax.lax.while_loop(unfinished, advance, (jnp.int32(0), state, logits, nothing))
    return Generated(tokens.reshape(-1, R, N), lengths.reshape(-1, R), scores.reshape(-1, R))


class _Beams(NamedTuple):
    tokens: jax.Array  # [batch, beams, max_new_tokens]
    scores: jax.Array  # [batch, beams], the best first; log-probabilities, of finished ones penalised by their length
    lengths: jax.Array  # [batch, beams]; 0 while there is no finished one in this place

    def best(self, count: int) -> tuple[_Beams, jax.Array]:
        """The `count` best of every example, and which those are."""
        _, order = jax.lax.top_k(self.scores, count)
        return self.take(order), order

    def take(self, order: jax.Array) -> _Beams:
        """Those at `order` [batch, count]."""
        return _Beams(*(jnp.take_along_axis(x, order.reshape(order.shape + (1,) * (x.ndim - 2)), 1) for x in self))


def _beam_search(decoder: _Cached, prompt, mask, how: Generation, beam: Beam) -> Generated:
    """Of all continuations by one token of the running beams the best are looked at: those that end compete with the
    finished ones, the others run on."""
    B, K, N = len(prompt), beam.beams, how.max_new_tokens
    logits, state = decoder.start(prompt, mask)
    V = logits.shape[-1]
    candidates = min(max(2, 1 + len(how.stop_tokens)) * K, K * V)  # so many that K of them do not end
    repeated = jnp.repeat(jnp.arange(B), K)
    axes = _batch_axes(decoder, prompt, mask)
    logits, state = logits[repeated], _rows(state, repeated, axes)

    tokens = jnp.full((B, K, N), how.pad_token, prompt.dtype)
    only_first = jnp.where(jnp.arange(K) == 0, 0.0, NEVER)  # at first all beams are the same one
    running = _Beams(tokens, jnp.broadcast_to(only_first, (B, K)).astype(logits.dtype), jnp.zeros((B, K), jnp.int32))
    finished = running._replace(scores=jnp.full((B, K), NEVER, logits.dtype))

    def advance(carry):
        step, state, logits, running, finished, hopeful = carry
        length = step + 1
        log_probs = _allowed(logits, step, how).reshape(B, K, V) + running.scores[:, :, None]
        scores, flat = jax.lax.top_k(log_probs.reshape(B, K * V), candidates)
        origin, token = flat // V, (flat % V).astype(prompt.dtype)
        tokens = running.take(origin).tokens.at[:, :, step].set(token)
        extended = _Beams(tokens, scores, jnp.full((B, candidates), length, jnp.int32))
        ends = _among(token, how.stop_tokens) | (length == N)

        # Only what ends among the K best counts as finished: what ranks lower has K better ones to come.
        closed = ends & (jnp.arange(candidates) < K) & hopeful[:, None]
        penalised = jnp.where(closed, scores / length**beam.length_penalty, NEVER)
        newly = extended._replace(scores=penalised, lengths=jnp.where(closed, length, 0))
        finished, _ = _Beams(*(jnp.concatenate(pair, axis=1) for pair in zip(finished, newly, strict=True))).best(K)
        running, order = extended._replace(scores=jnp.where(ends, scores + NEVER, scores)).best(K)

        # An example that cannot get better rests, so that its result does not depend on the others in the batch.
        full = (finished.lengths > 0).all(axis=1)
        reach = N if beam.early_stopping == "never" and beam.length_penalty > 0 else length
        attainable = running.scores[:, 0] / reach**beam.length_penalty
        hopeful &= ~full | ((beam.early_stopping != "full") & (attainable > finished.scores.min(axis=1)))

        origin = jnp.take_along_axis(origin, order, axis=1)
        state = _rows(state, (jnp.arange(B)[:, None] * K + origin).reshape(-1), axes)
        logits, state = decoder.step(state, running.tokens[:, :, step].reshape(-1))
        return length, state, logits, running, finished, hopeful

    def unfinished(carry):
        return (carry[0] < N) & carry[-1].any()

    carry = (jnp.int32(0), state, logits, running, finished, jnp.ones(B, bool))
    *_, finished, _ = jax.lax.while_loop(unfinished, advance, carry)
    R = beam.returned
    return Generated(finished.tokens[:, :R], finished.lengths[:, :R], finished.scores[:, :R])
