"""Tokens in, logits out."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from research.errors import RequestError
from research.layers.dense import dense
from research.layers.dtypes import param_dtype


def token_embedding(
    vocab_size: int, features: int, *, dtype: str, name: str, init: nn.initializers.Initializer | None = None
) -> nn.Embed:
    """A table of one vector a token, [vocab_size, features]; normal with deviation 0.02 unless told otherwise."""
    init = init or nn.initializers.normal(0.02)
    return nn.Embed(vocab_size, features, dtype=dtype, param_dtype=param_dtype(dtype), embedding_init=init, name=name)


def looked_up(tokens: jax.Array, embed: nn.Embed, fixed: int | None = None) -> jax.Array:
    """The vectors of tokens [...]; that of token `fixed` without a gradient (PyTorch's `padding_idx`)."""
    x = embed(tokens)
    return x if fixed is None else jnp.where((tokens == fixed)[..., None], jax.lax.stop_gradient(x), x)


def tied_logits(x: jax.Array, embed: nn.Embed) -> jax.Array:
    """x Eᵀ, [..., vocab_size], with the table that embeds the tokens (Press & Wolf, 2017); in float32 at least."""
    table = embed.embedding.astype(x.dtype)
    return jnp.einsum("...d,vd->...v", x, table, preferred_element_type=param_dtype(str(x.dtype)))


def untied_logits(x: jax.Array, vocab_size: int, *, name: str, use_bias: bool = False, init=None) -> jax.Array:
    """x W (+ b), [..., vocab_size], with a matrix of its own; computed in the dtype of x, float32 at least after it."""
    head = dense(
        vocab_size, dtype=str(x.dtype), use_bias=use_bias, init=init or nn.initializers.normal(0.02), name=name
    )
    return head(x).astype(param_dtype(str(x.dtype)))


def check_tokens(tokens: np.ndarray, vocab_size: int, field: str = "tokens") -> None:
    """Refuses tokens outside the vocabulary, which an embedding would turn into NaN without a word.

    Raises:
      RequestError: names the first such token and where it stands.
    """
    tokens = np.asarray(tokens)
    if not np.issubdtype(tokens.dtype, np.integer):
        raise RequestError(f"{field}: {tokens.dtype} given, expected integers")
    wrong = (tokens < 0) | (tokens >= vocab_size)
    if wrong.any():
        place = np.unravel_index(int(wrong.argmax()), tokens.shape)
        raise RequestError(
            f"{field}: token {tokens[place]} at {list(map(int, place))} is outside the vocabulary, "
            f"expected 0 to {vocab_size - 1}"
        )
