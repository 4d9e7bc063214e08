"""Calls a model's `decode` for the prompt and then for each new token, with its cache or, to check the cache, without.

A model can generate if it has a method

    decode(tokens, *, positions, mask, **memory) -> float32 logits [batch, vocab_size] of the token after the last one

which appends the keys and values of `tokens` [batch, length], or any other state, to the mutable collection `cache`.
The first call gets the whole prompt, each later call one token.  `positions` [batch, length] count from the first token
that is not padding.  `mask` [batch, prompt length + max_new_tokens] bool is False on the prompt's padding, which is on
the left; its length is the length of the cache.  `memory` is the input of an encoder-decoder: named arrays
[batch, ...], passed in every call; the first call may keep values computed from them in the cache.
`research.models.encoder_decoder` defines the method for encoder-decoders.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.layers.positions import valid_positions


@dataclasses.dataclass(frozen=True)
class Cached:
    """Decodes the prompt in one call, then one token per call; the state holds the cache.

    Attributes:
      model: a model with the method `decode`.
      variables: the model's variables.
      memory: named arrays [batch, ...] for `decode`.
      new: maximum number of tokens after the prompt.
    """

    model: nn.Module
    variables: dict[str, Any]
    memory: dict[str, jax.Array]
    new: int

    def start(self, prompt: jax.Array, mask: jax.Array) -> tuple[jax.Array, Any]:
        """Decodes the prompt; returns the logits of the first new token, [batch, vocab_size], and the state."""
        logits, cache = self._prefill(self.variables, prompt, mask, self.memory)
        state = {"cache": cache, "mask": self._places(mask), "next": mask.sum(axis=1), "memory": self.memory}
        return logits, state

    def step(self, state: Any, token: jax.Array) -> tuple[jax.Array, Any]:
        """Decodes `token` [batch]; returns the logits of the next token, [batch, vocab_size], and the updated state."""
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
class Uncached(Cached):
    """Decodes the whole text in every call, without a cache; the text is aligned at the right."""

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


def batch_axes(decoder: Cached, prompt: jax.Array, mask: jax.Array) -> Any:
    """The batch axis of every leaf of the decoder's state, found by changing the batch size; -1 if there is none."""

    def state(batch: int) -> Any:
        inputs = (prompt, mask, decoder.memory)
        resized = jax.tree.map(lambda x: jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype), inputs)
        return jax.eval_shape(lambda p, m, memory: dataclasses.replace(decoder, memory=memory).start(p, m)[1], *resized)

    def changed(a: jax.ShapeDtypeStruct, b: jax.ShapeDtypeStruct) -> int:
        return next((i for i, (m, n) in enumerate(zip(a.shape, b.shape, strict=True)) if m != n), -1)

    return jax.tree.map(changed, state(1), state(2))


def take_rows(state: Any, rows: jax.Array, axes: Any) -> Any:
    """Selects `rows` of the batch in the decoder's state, in any order and with repeats."""
    return jax.tree.map(lambda x, axis: x if axis < 0 else jnp.take(x, rows, axis=axis), state, axes)
