"""The attention layer: projections around attention in several heads, with a cache of keys and values for decoding."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.errors import RequestError
from research.layers.attention_kernels import Kernel, attention_weights, dot_product_attention
from research.layers.dense import dense
from research.layers.masks import both, causal_mask
from research.layers.positions import Rotary


def check_heads(
    width: int,
    num_heads: int,
    num_kv_heads: int | None = None,
    head_dim: int | None = None,
    *,
    rotary: bool = False,
    field: str = "num_heads",
) -> None:
    """Refuses heads that do not divide; the names are those of a model's fields, `field` that of `num_heads`.

    Raises:
      RequestError: names the field, what it is and what would do.
    """
    if head_dim is None:
        if width % num_heads:
            fits = ", ".join(str(n) for n in range(1, min(width, 4 * num_heads) + 1) if width % n == 0)
            raise RequestError(f"{field}={num_heads}: expected a divisor of width={width}, such as {fits}")
        head_dim = width // num_heads
    if num_kv_heads is not None and (num_kv_heads < 1 or num_heads % num_kv_heads):
        raise RequestError(f"num_kv_heads={num_kv_heads}: expected a divisor of num_heads={num_heads}")
    if rotary and head_dim % 2:
        raise RequestError(f"head_dim={head_dim}: expected an even number for rotary positions")


class MultiHeadAttention(nn.Module):
    """Queries from `x`, keys and values from `x` or from `memory`, attention in several heads, and a projection back.

    Decoding (`decode=True`): the first call, which sees the whole prompt, makes the entries of collection `cache` and
    later ones append to them, so apply with `mutable=["cache"]`.  The cache is as long as `mask`'s last axis:

        cache/keys, cache/values                [batch, cache length, kv_heads, head_dim]
        cache/index                             [], how many of its places are filled
        cache/memory_keys, cache/memory_values  [batch, memory length, kv_heads, head_dim], projected in the first call

    When the caller makes the collection `intermediates` mutable, the weights are sown there as `attention_weights`
    [batch, heads, queries, keys], computed beside the kernel and only then.

    Attributes:
      num_heads: heads of the queries.
      num_kv_heads: heads of keys and values, a divisor of `num_heads`; None is as many (1 is multi-query).
      head_dim: features of a head; None is those of `x` divided by `num_heads`.
      use_bias: whether the four projections have one; `key_bias` and `out_bias` say otherwise where they are given.
      scale: of the products; None is 1 / √head_dim.
      rotary: turns queries and keys by their positions.
      dropout: on the weights, in training.
    """

    num_heads: int
    num_kv_heads: int | None = None
    head_dim: int | None = None
    use_bias: bool = True
    key_bias: bool | None = None
    out_bias: bool | None = None
    scale: float | None = None
    rotary: Rotary | None = None
    dropout: float = 0.0
    kernel: Kernel = "auto"
    dtype: str = "float32"
    kernel_init: Callable = nn.initializers.lecun_normal()
    out_init: Callable | None = None

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        memory: jax.Array | None = None,
        *,
        mask: jax.Array | None = None,
        bias: jax.Array | None = None,
        causal: bool = False,
        positions: jax.Array | None = None,
        decode: bool = False,
        train: bool = False,
    ) -> jax.Array:
        """[batch, length, features] to the same.

        Args:
          x: what asks.
          memory: [batch, memory length, features], what is looked at; None is `x` itself.  In decoding, only the first
            call needs it.
          mask: bool, broadcasts to [batch, heads, length, keys]; in decoding, keys are the places of the cache.
          bias: added to the scaled products, like `mask`.
          causal: whether a token sees only itself and those before it.
          positions: [batch, length], for `rotary`; None is 0, 1, 2, ... on from what is in the cache.
          decode: whether to append to the cache.
          train: whether to drop.
        """
        features = x.shape[-1]
        kv_heads = self.num_kv_heads or self.num_heads
        head_dim = self.head_dim or features // self.num_heads

        query = self._heads(x, self.num_heads, head_dim, self.use_bias, "query")
        if memory is not None or self.has_variable("cache", "memory_keys"):
            key, value = self._memory(memory, kv_heads, head_dim, decode)
        else:
            key, value = self._keys_values(x, kv_heads, head_dim)
            start = self.get_variable("cache", "index", 0) if decode else 0
            if self.rotary is not None:
                positions = start + jnp.arange(x.shape[1])[None] if positions is None else positions
                query, key = self.rotary(query, positions), self.rotary(key, positions)
            if decode:
                first = not self.has_variable("cache", "keys")
                cached_key, cached_value = self._append(key, value, mask.shape[-1])
                if first:  # what is in the cache is what has just come: look at that alone
                    mask = mask[..., : x.shape[1]]
                else:
                    key, value = cached_key, cached_value
                    mask, causal = both(mask, causal_mask(x.shape[1], key.shape[1], start)), False

        if self.is_mutable_collection("intermediates") and not self.is_initializing():
            weights = attention_weights(query, key, mask, bias=bias, causal=causal, scale=self.scale)
            self.sow("intermediates", "attention_weights", weights)
        drops = train and self.dropout > 0
        out = dot_product_attention(
            query,
            key,
            value,
            mask,
            bias=bias,
            causal=causal,
            scale=self.scale,
            dropout=self.dropout,
            dropout_rng=self.make_rng("dropout") if drops else None,
            kernel=self.kernel,
        )
        out_bias = self.use_bias if self.out_bias is None else self.out_bias
        project = dense(
            features, dtype=self.dtype, use_bias=out_bias, init=self.out_init or self.kernel_init, name="out"
        )
        return project(out.reshape(*x.shape[:-1], -1))

    def _heads(self, x: jax.Array, heads: int, head_dim: int, use_bias: bool, name: str) -> jax.Array:
        project = dense(heads * head_dim, dtype=self.dtype, use_bias=use_bias, init=self.kernel_init, name=name)
        return project(x).reshape(*x.shape[:-1], heads, head_dim)

    def _keys_values(self, x: jax.Array, heads: int, head_dim: int) -> tuple[jax.Array, jax.Array]:
        key_bias = self.use_bias if self.key_bias is None else self.key_bias
        key = self._heads(x, heads, head_dim, key_bias, "key")
        return key, self._heads(x, heads, head_dim, self.use_bias, "value")

    def _memory(self, memory: jax.Array | None, heads: int, head_dim: int, decode: bool) -> tuple[jax.Array, jax.Array]:
        if decode and self.has_variable("cache", "memory_keys"):
            return self.get_variable("cache", "memory_keys"), self.get_variable("cache", "memory_values")
        key, value = self._keys_values(memory, heads, head_dim)
        if decode:
            self.put_variable("cache", "memory_keys", key)
            self.put_variable("cache", "memory_values", value)
        return key, value

    def _append(self, key: jax.Array, value: jax.Array, length: int) -> tuple[jax.Array, jax.Array]:
        B, T, H, D = key.shape
        keys = self.variable("cache", "keys", jnp.zeros, (B, length, H, D), key.dtype)
        values = self.variable("cache", "values", jnp.zeros, (B, length, H, D), value.dtype)
        index = self.variable("cache", "index", jnp.zeros, (), jnp.int32)
        start = index.value
        keys.value = jax.lax.dynamic_update_slice_in_dim(keys.value, key, start, axis=1)
        values.value = jax.lax.dynamic_update_slice_in_dim(values.value, value, start, axis=1)
        index.value = start + T
        return keys.value, values.value
