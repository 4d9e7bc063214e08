"""Attention, softmax(Q Kᵀ / √d) V (Vaswani et al., 2017), with three interchangeable kernels."""

from __future__ import annotations

import functools
from typing import Literal

import jax
import jax.numpy as jnp

from research.errors import RequestError
from research.layers import kernels
from research.layers.masks import both, causal_mask

Kernel = Literal["auto", "einsum", "xla", "cudnn"]

# The choice of `auto` where possible.  einsum: products over contiguous heads, on a CPU 1.0 to 1.4 times as fast as xla
# (experiments/speed/attention_kernels.py).  cudnn: flash attention, without a [length, length] array.
_TABLE = {"cpu": "einsum", "cuda": "cudnn", "rocm": "xla", "tpu": "xla"}


def choose_kernel(
    kernel: Kernel, *, platform: str | None = None, dtype: str = "float32", head_dim: int = 64, plain: bool = True
) -> tuple[str, str]:
    """Returns the kernel to run, "einsum", "xla" or "cudnn", and the reason.

    Args:
      kernel: the name of a kernel, which is used or refused; or "auto" for the table's choice among those that can run.
      platform: the platform to compile for; see `kernels.target_platform`.
      dtype: of queries, keys and values.
      head_dim: the features of a head.
      plain: True if there is neither dropout on the weights nor an additive bias.

    Raises:
      RequestError: the requested kernel cannot run.
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
    """Checks that a kernel can run on some platform with a model's `dtype`, `dropout` and heads.

    Raises:
      RequestError: names the field `kernel` and the obstacle.
    """
    if kernel != "auto":
        _refuse(kernel, _obstacle(kernel, dtype, head_dim, dropout == 0))


def _refuse(kernel: str, obstacle: str | None) -> None:
    if obstacle:
        raise RequestError(f"kernel={kernel!r}: {obstacle}; expected 'auto' or 'einsum'")


def _obstacle(kernel: str, dtype: str, head_dim: int, plain: bool) -> str | None:
    """The reason why a kernel cannot run on any platform; None if there is none."""
    if kernel != "einsum" and not plain:
        return "dropout of attention weights, or a bias on them, runs with 'einsum' only"
    if kernel == "cudnn" and dtype not in ("bfloat16", "float16"):
        return f"cuDNN's flash attention computes in bfloat16 and this model in {dtype}"
    if kernel == "cudnn" and (head_dim % 8 or head_dim > 128):
        return f"cuDNN's flash attention takes heads of 8, 16, ... 128 features and these have {head_dim}"
    return None


def _absent(kernel: str, platform: str) -> str | None:
    """The reason why a kernel cannot run on this platform; None if there is none."""
    if kernel != "cudnn":
        return None
    if platform != "cuda":
        return f"cuDNN needs an NVIDIA GPU and this program is for {platform}"
    return _cudnn_refusal()


@functools.cache
def _cudnn_refusal() -> str | None:
    """The reason why JAX refuses cuDNN's attention for this library version and GPU; None if it does not."""
    x = jax.ShapeDtypeStruct((1, 8, 1, 64), jnp.bfloat16)
    attend = jax.jit(functools.partial(jax.nn.dot_product_attention, implementation="cudnn"))
    try:
        attend.trace(x, x, x).lower(lowering_platforms=("cuda",))
    except Exception as error:  # JAX raises errors of several types
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
    """Computes softmax(scale Q Kᵀ + bias) V, with the softmax in at least float32.

    Args:
      query: [batch, queries, heads, head_dim].
      key: [batch, keys, kv_heads, head_dim]; kv_heads divides heads (grouped-query attention, Ainslie et al., 2023).
      value: like `key`.
      mask: bool, broadcasts to [batch, heads, queries, keys]; True where a query may attend to a key.  A query without
        any keys gets a finite value without meaning.
      bias: added to the scaled products; broadcasts like `mask`.
      causal: query i attends only to keys 0 ... i, within `mask`; needs as many queries as keys.
      scale: None means 1 / √head_dim.
      dropout: the dropout rate on the weights; needs `dropout_rng`.
      kernel: see `choose_kernel`; the choice is noted for `kernels.recording`.
      platform: the platform to compile for; None means this machine.

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
    """Computes softmax(scale Q Kᵀ + bias), [batch, heads, queries, keys] in float32, for visualisation."""
    mask = both(mask, causal_mask(query.shape[1], key.shape[1]) if causal else None)
    scores = _scores(query, key, mask, bias, query.shape[-1] ** -0.5 if scale is None else scale)
    weights = jax.nn.softmax(scores, axis=-1)
    return weights.reshape(query.shape[0], query.shape[2], query.shape[1], key.shape[1])


def _einsum_attention(query, key, value, mask, bias, scale, dropout, dropout_rng):
    """Multiplies contiguous [batch · kv_heads, rows, head_dim].

    The softmax is normalised after the second product, over head_dim features instead of over all keys.
    """
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
    """Returns [batch, kv_heads, heads // kv_heads, queries, keys] in at least float32; masked entries are the lowest
    finite number.
    """
    B, Q, H, D = query.shape
    G, K = key.shape[2], key.shape[1]
    rows = _by_head(query).reshape(B * G, -1, D)  # concatenates the queries of heads that share keys
    dtype = jnp.promote_types(query.dtype, jnp.float32)
    scores = jnp.einsum("nqd,nkd->nqk", rows, _by_head(key), preferred_element_type=dtype) * scale
    scores = scores.reshape(B, G, H // G, Q, K)
    if bias is not None:
        scores = scores + _grouped(bias, G)
    if mask is not None:
        scores = jnp.where(_grouped(mask, G), scores, jnp.finfo(dtype).min)
    return scores


def _by_head(x):
    """Converts [batch, length, heads, head_dim] to contiguous [batch · heads, length, head_dim]."""
    B, T, H, D = x.shape
    return x.transpose(0, 2, 1, 3).reshape(B * H, T, D)


def _grouped(x, groups):
    """Converts [batch, heads or 1, queries, keys] to [batch, groups or 1, heads // groups or 1, queries, keys]."""
    B, H, Q, K = x.shape
    return x.reshape(B, 1, 1, Q, K) if H == 1 else x.reshape(B, groups, H // groups, Q, K)
