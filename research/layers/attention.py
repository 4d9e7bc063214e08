"""Multi-head attention, with a cache of keys and values for decoding."""

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
    """Checks that heads divide the width, by the names of a model's fields; `field` is the name for `num_heads`.

    Raises:
      RequestError: names the field, its value, and valid values.
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
    """Attends from `x` to `x` or to `memory` with several heads, between linear projections.

    >>> attention = MultiHeadAttention(num_heads=2)
    >>> y, variables = jax.eval_shape(attention.init_with_output, jax.random.key(0), jnp.zeros((2, 5, 16)))
    >>> y.shape
    (2, 5, 16)

    With `decode=True`, the first call, with the whole prompt, creates the entries of the collection `cache`, and later
    calls append to them; apply with `mutable=["cache"]`.  The last axis of `mask` gives the length of the cache:

        cache/keys, cache/values                [batch, cache length, kv_heads, head_dim]
        cache/index                             [], the number of filled positions
        cache/memory_keys, cache/memory_values  [batch, memory length, kv_heads, head_dim], projected in the first call

    If the collection `intermediates` is mutable, the weights [batch, heads, queries, keys] are computed separately from
    the kernel and sown as `attention_weights`.

    Attributes:
      num_heads: the number of query heads.
      num_kv_heads: the number of key and value heads, a divisor of `num_heads`; None means `num_heads`, 1 is
        multi-query.
      head_dim: the features of a head; None means the features of `x` divided by `num_heads`.
      use_bias: give the four projections a bias.
      key_bias, out_bias: override `use_bias` for the key and the output projection; None does not.
      scale: of the products; None means 1 / √head_dim.
      rotary: rotates queries and keys by their positions.
      dropout: the dropout rate on attention weights.
      kernel: see `research.layers.attention_kernels`.
      dtype: of the computation.
      kernel_init: initialises the projections.
      out_init: initialises the output projection; None means `kernel_init`.
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
        keys: jax.Array | None = None,
        mask: jax.Array | None = None,
        bias: jax.Array | None = None,
        causal: bool = False,
        positions: jax.Array | None = None,
        decode: bool = False,
        train: bool = False,
    ) -> jax.Array:
        """Maps [batch, length, features] to the same shape.

        Args:
          x: gives the queries.
          memory: [batch, memory length, features], gives keys and values; None means `x`.  During decoding, only the
            first call reads it.
          keys: [batch, memory length, features], gives the keys instead (the memory with positions added, as in DETR);
            needs `memory`, and is not for decoding.
          mask: bool, broadcasts to [batch, heads, length, keys]; during decoding, keys are the positions of the cache.
          bias: added to the scaled products; broadcasts like `mask`.
          causal: a token attends only to itself and to earlier tokens.
          positions: [batch, length], for `rotary`; None continues from the tokens in the cache: 0, 1, 2, ...
          decode: append to the cache.
          train: apply dropout.
        """
        features = x.shape[-1]
        kv_heads = self.num_kv_heads or self.num_heads
        head_dim = self.head_dim or features // self.num_heads

        query = self._heads(x, self.num_heads, head_dim, self.use_bias, "query")
        if memory is not None or self.has_variable("cache", "memory_keys"):
            key, value = self._memory(memory, keys, kv_heads, head_dim, decode)
        else:
            key, value = self._keys_values(x, kv_heads, head_dim)
            start = self.get_variable("cache", "index", 0) if decode else 0
            if self.rotary is not None:
                positions = start + jnp.arange(x.shape[1])[None] if positions is None else positions
                query, key = self.rotary(query, positions), self.rotary(key, positions)
            if decode:
                first = not self.has_variable("cache", "keys")
                cached_key, cached_value = self._append(key, value, mask.shape[-1])
                if first:  # the cache holds only these tokens, so attend to them directly
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

    def _keys_values(
        self, x: jax.Array, heads: int, head_dim: int, keys: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        key_bias = self.use_bias if self.key_bias is None else self.key_bias
        key = self._heads(x if keys is None else keys, heads, head_dim, key_bias, "key")
        return key, self._heads(x, heads, head_dim, self.use_bias, "value")

    def _memory(
        self, memory: jax.Array | None, keys: jax.Array | None, heads: int, head_dim: int, decode: bool
    ) -> tuple[jax.Array, jax.Array]:
        if decode and self.has_variable("cache", "memory_keys"):
            return self.get_variable("cache", "memory_keys"), self.get_variable("cache", "memory_values")
        key, value = self._keys_values(memory, heads, head_dim, keys)
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
