"""Token embeddings, and logits over a vocabulary."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from research.errors import RequestError
from research.layers.dense import dense
from research.layers.dtypes import param_dtype
from research.losses.cross_entropy import TokenLosses, token_losses


def token_embedding(
    vocab_size: int, features: int, *, dtype: str, name: str, init: nn.initializers.Initializer | None = None
) -> nn.Embed:
    """An embedding table with one vector per token, [vocab_size, features]; by default normal with std 0.02."""
    init = init or nn.initializers.normal(0.02)
    return nn.Embed(vocab_size, features, dtype=dtype, param_dtype=param_dtype(dtype), embedding_init=init, name=name)


def looked_up(tokens: jax.Array, embed: nn.Embed, fixed: int | None = None) -> jax.Array:
    """Embeds tokens [...]; the vector of token `fixed` gets no gradient (PyTorch's `padding_idx`)."""
    x = embed(tokens)
    return x if fixed is None else jnp.where((tokens == fixed)[..., None], jax.lax.stop_gradient(x), x)


def tied_logits(x: jax.Array, embed: nn.Embed) -> jax.Array:
    """Logits x Eᵀ [..., vocab_size] from the embedding table E (Press & Wolf, 2017), in at least float32."""
    table = embed.embedding.astype(x.dtype)
    return jnp.einsum("...d,vd->...v", x, table, preferred_element_type=param_dtype(str(x.dtype)))


def untied_logits(x: jax.Array, vocab_size: int, *, name: str, use_bias: bool = False, init=None) -> jax.Array:
    """Logits x W (+ b) [..., vocab_size] from a separate matrix, computed in the dtype of x, returned in at least
    float32.
    """
    head = dense(
        vocab_size, dtype=str(x.dtype), use_bias=use_bias, init=init or nn.initializers.normal(0.02), name=name
    )
    return head(x).astype(param_dtype(str(x.dtype)))


def token_logits(
    x: jax.Array, embed: nn.Embed, *, tied: bool, init: nn.initializers.Initializer | None = None
) -> jax.Array:
    """Logits [..., vocab_size] from the embedding table if `tied`, else from a matrix "head" of the same vocabulary."""
    return tied_logits(x, embed) if tied else untied_logits(x, embed.num_embeddings, name="head", init=init)


def losses_of_tokens(
    x: jax.Array, embed: nn.Embed, targets: jax.Array, *, chunks: int, tied: bool, init: nn.initializers.Initializer
) -> TokenLosses:
    """The losses of `targets` under `token_logits`, computed for a part of the vocabulary at a time."""
    if tied:
        return token_losses(x, embed.embedding, targets, chunks)
    head = dense(embed.num_embeddings, dtype=str(x.dtype), use_bias=False, init=init, name="head")
    return token_losses(x, head.variables["params"]["kernel"].T, targets, chunks)


def check_tokens(tokens: np.ndarray, vocab_size: int, field: str = "tokens") -> None:
    """Checks that tokens are in the vocabulary, since an embedding silently returns NaN for others.

    Raises:
      RequestError: a token is out of range; names the first one and its position.
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
