"""Attention: softmax(Q Kᵀ / √d) V (Vaswani et al., 2017), one meaning in three kernels, and the layer around it.

A mask is True where a query may look at a key.  The layer keeps a cache of keys and values for decoding in the
mutable collection `cache`; see `MultiHeadAttention`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.errors import RequestError
from research.layers import kernels
from research.layers.dense import dense
from research.layers.positions import Rotary

Kernel = Literal["auto", "einsum", "xla", "cudnn"]

# What `auto` means where nothing stands against it.  einsum: products over contiguous heads, on a CPU 1.0 to 1.4 times
# as fast as xla (experiments/speed/attention_kernels.py).  cudnn: flash attention, no [length, length] array.
_TABLE = {"cpu": "einsum", "cuda": "cudnn", "rocm": "xla", "tpu": "xla"}

# -- masks ---------------------------------------------------------------------------------------------------------


def causal_mask(queries: int, keys: int, start: int | jax.Array = 0) -> jax.Array:
    """[1, 1, queries, keys]: query i, which stands at position start + i, looks at keys 0 ... start + i."""
    return (jnp.arange(keys) <= start + jnp.arange(queries)[:, None])[None, None]


def padding_mask(valid: jax.Array) -> jax.Array:
    """[batch, 1, 1, keys] from [batch, keys]: every query looks at the keys that are not padding."""
    return valid.astype(bool)[:, None, None, :]


def visible(mask: jax.Array) -> jax.Array:
    """Who may look at whom, [batch, 1, queries, keys]: that mask itself, or one of padding, [batch, keys]."""
    return padding_mask(mask) if mask.ndim == 2 else mask


def segment_mask(query_segments: jax.Array, key_segments: jax.Array | None = None) -> jax.Array:
    """[batch, 1, queries, keys] from [batch, length]: tokens look only at their own segment of a packed sequence."""
    key_segments = query_segments if key_segments is None else key_segments
    return (query_segments[:, :, None] == key_segments[:, None, :])[:, None]


def both(*masks: jax.Array | None) -> jax.Array | None:
    """Where every mask allows it; None stands for a mask that allows everything."""
    given = [mask.astype(bool) for mask in masks if mask is not None]
    combined = given[0] if given else None
    for mask in given[1:]:
        combined = combined & mask
    return combined


# -- kernels -------------------------------------------------------------------------------------------------------


def choose_kernel(
    kernel: Kernel, *, platform: str | None = None, dtype: str = "float32", head_dim: int = 64, plain: bool = True
) -> tuple[str, str]:
    """The kernel to run, "einsum", "xla" or "cudnn", and the reason for it.

    Args:
      kernel: a kernel's name, which is kept or refused; or "auto", the table's choice that can run.
      platform: what the program is compiled for; see `kernels.target_platform`.
      dtype: of queries, keys and values.
      head_dim: features of one head.
      plain: neither dropout on the weights nor an additive bias.

    Raises:
      RequestError: the kernel that was asked for cannot run.
    """
    platform = kernels.target_platform(platform)
    dtype = str(jnp.dtype(dtype))
    if kernel != "auto":
        _refuse(kernel, _obstacle(kernel, dtype, head_dim, plain) or _absent(kernel, platform))
        return kernel, "asked for"
    wanted = _TABLE.get(platform, "xla")
    obstacle = _obstacle(wanted, dtype, head_dim, plain) or _absent(wanted, platform)
    if not obstacle:
        return wanted, f"the table's for {platform}"
    return ("xla" if plain else "einsum"), obstacle


def check_kernel(kernel: Kernel, *, dtype: str, head_dim: int, dropout: float = 0.0) -> None:
    """Refuses a kernel that runs nowhere with a model's fields `dtype` and `dropout` and its heads.

    Raises:
      RequestError: names the field `kernel` and what stands against it.
    """
    if kernel != "auto":
        _refuse(kernel, _obstacle(kernel, dtype, head_dim, dropout == 0))


def _refuse(kernel: str, obstacle: str | None) -> None:
    if obstacle:
        raise RequestError(f"kernel={kernel!r}: {obstacle}; expected 'auto' or 'einsum'")


def _obstacle(kernel: str, dtype: str, head_dim: int, plain: bool) -> str | None:
    """What stands against a kernel on every platform."""
    if kernel != "einsum" and not plain:
        return "dropout of attention weights, or a bias on them, runs with 'einsum' only"
    if kernel == "cudnn" and dtype not in ("bfloat16", "float16"):
        return f"cuDNN's flash attention computes in bfloat16 and this model in {dtype}"
    if kernel == "cudnn" and (head_dim % 8 or head_dim > 128):
        return f"cuDNN's flash attention takes heads of 8, 16, ... 128 features and these have {head_dim}"
    return None


def _absent(kernel: str, platform: str) -> str | None:
    """What stands against a kernel on this platform."""
    if kernel != "cudnn":
        return None
    if platform != "cuda":
        return f"cuDNN needs an NVIDIA GPU and this program is for {platform}"
    return _cudnn_refusal()


@functools.cache
def _cudnn_refusal() -> str | None:
    """What JAX has against cuDNN's attention here: it asks the library and the GPU for their versions."""
    x = jax.ShapeDtypeStruct((1, 8, 1, 64), jnp.bfloat16)
    attend = jax.jit(functools.partial(jax.nn.dot_product_attention, implementation="cudnn"))
    try:
        attend.trace(x, x, x).lower(lowering_platforms=("cuda",))
    except Exception as error:  # JAX raises several kinds
        return f"JAX says of cuDNN: {str(error).splitlines()[0].rstrip('.')}"
    return None


def dot_product_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array | None = None,
    *,
    bias: jax.Array | None = None,
    causal: bool = False,
    scale: float | None = None,
    dropout: float = 0.0,
    dropout_rng: jax.Array | None = None,
    kernel: Kernel = "auto",
    platform: str | None = None,
) -> jax.Array:
    """softmax(scale Q Kᵀ + bias) V; the softmax in float32 at least, whatever the inputs.

    Args:
      query: [batch, queries, heads, head_dim].
      key: [batch, keys, kv_heads, head_dim]; kv_heads divides heads (grouped-query attention, Ainslie et al., 2023).
      value: as `key`.
      mask: bool, broadcasts to [batch, heads, queries, keys]; True where a query may look.  A query that may look
        nowhere gets a finite value without meaning.
      bias: added to the scaled products; broadcasts like `mask`.
      causal: query i sees keys 0 ... i as well as what `mask` allows; queries = keys.
      scale: 1 / √head_dim unless given.
      dropout: the rate at which weights are dropped, with `dropout_rng`; without a key none are.
      kernel: see `choose_kernel`; what runs is noted for `kernels.recording`.
      platform: what the program is compiled for, where that is not the machine at hand.

    Returns:
      [batch, queries, heads, head_dim] in the dtype of `query`.

    Raises:
      RequestError: `kernel` cannot run here.
    """
    drops = dropout > 0 and dropout_rng is not None
    head_dim = query.shape[-1]
    scale = head_dim**-0.5 if scale is None else scale
    chosen, reason = choose_kernel(
        kernel, platform=platform, dtype=query.dtype, head_dim=head_dim, plain=bias is None and not drops
    )
    kernels.note("attention", f"{chosen} ({reason})")
    if chosen == "einsum":
        mask = both(mask, causal_mask(query.shape[1], key.shape[1]) if causal else None)
        return _einsum_attention(query, key, value, mask, bias, scale, dropout if drops else 0.0, dropout_rng)
    return jax.nn.dot_product_attention(
        query, key, value, mask=mask, scale=scale, is_causal=causal, implementation=chosen
    )


def attention_weights(
    query: jax.Array,
    key: jax.Array,
    mask: jax.Array | None = None,
    *,
    bias: jax.Array | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> jax.Array:
    """softmax(scale Q Kᵀ + bias), [batch, heads, queries, keys] in float32: who looks at whom, for pictures."""
    mask = both(mask, causal_mask(query.shape[1], key.shape[1]) if causal else None)
    scores = _scores(query, key, mask, bias, query.shape[-1] ** -0.5 if scale is None else scale)
    weights = jax.nn.softmax(scores, axis=-1)
    return weights.reshape(query.shape[0], query.shape[2], query.shape[1], key.shape[1])


def _einsum_attention(query, key, value, mask, bias, scale, dropout, dropout_rng):
    """Products over contiguous [batch · kv_heads, rows, head_dim]; the softmax's division waits for the second one,
    where it runs over head_dim features and not over all keys."""
    B, Q, H, D = query.shape
    G, K = key.shape[2], key.shape[1]
    scores = _scores(query, key, mask, bias, scale)
    weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True)))
    total = weights.sum(axis=-1).reshape(B * G, -1, 1)
    if dropout:
        kept = jax.random.bernoulli(dropout_rng, 1 - dropout, weights.shape)
        weights = jnp.where(kept, weights / (1 - dropout), 0)
    weights = weights.astype(value.dtype).reshape(B * G, -1, K)
    out = jnp.einsum("nqk,nkd->nqd", weights, _by_head(value), preferred_element_type=scores.dtype) / total
    return out.astype(query.dtype).reshape(B, H, Q, D).transpose(0, 2, 1, 3)


def _scores(query, key, mask, bias, scale):
    """[batch, kv_heads, heads // kv_heads, queries, keys], at least float32; the least finite number where masked."""
    B, Q, H, D = query.shape
    G, K = key.shape[2], key.shape[1]
    rows = _by_head(query).reshape(B * G, -1, D)  # the queries of heads that share keys, one after another
    dtype = jnp.promote_types(query.dtype, jnp.float32)
    scores = jnp.einsum("nqd,nkd->nqk", rows, _by_head(key), preferred_element_type=dtype) * scale
    scores = scores.reshape(B, G, H // G, Q, K)
    if bias is not None:
        scores = scores + _grouped(bias, G)
    if mask is not None:
        scores = jnp.where(_grouped(mask, G), scores, jnp.finfo(dtype).min)
    return scores


def _by_head(x):
    """[batch, length, heads, head_dim] as contiguous [batch · heads, length, head_dim]."""
    B, T, H, D = x.shape
    return x.transpose(0, 2, 1, 3).reshape(B * H, T, D)


def _grouped(x, groups):
    """[batch, heads or 1, queries, keys] as [batch, groups or 1, heads // groups or 1, queries, keys]."""
    B, H, Q, K = x.shape
    return x.reshape(B, 1, 1, Q, K) if H == 1 else x.reshape(B, groups, H // groups, Q, K)


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


# -- the layer -----------------------------------------------------------------------------------------------------


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
