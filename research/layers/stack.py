"""Blocks one after another: written out, or as one block scanned over a leading axis of its parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn


def stack(
    block: Callable[..., nn.Module],
    depth: int,
    x: jax.Array,
    call: Callable[..., jax.Array],
    *,
    along: Sequence[float] | None = None,
    scan_layers: bool = False,
    remat: bool = False,
) -> jax.Array:
    """`x = call(block, x)` for each of `depth` blocks; to be used inside `@nn.compact`.

    Written out, the blocks are `block0`, `block1`, ...  Scanned, there is one `blocks` whose parameters, caches and
    intermediates have a leading axis `layer`; it is compiled once, whatever the depth.

    Args:
      block: makes a block when called with `name=`.
      depth: how many.
      x: what goes in.
      call: applies one block; the arrays and the flags that all blocks see are in its closure.
      along: a number per block, which `call` takes as its third argument: an array [] where blocks are scanned.
      scan_layers: whether to scan.
      remat: whether the backward pass computes a block's inner values again instead of keeping them.
    """

    def recomputed(call: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
        # A scan's body is no place for the elimination of what is computed twice.
        return nn.remat(call, prevent_cse=not scan_layers) if remat else call

    if not scan_layers:
        for layer in range(depth):
            own = () if along is None else (along[layer],)
            x = recomputed(lambda one, x, own=own: call(one, x, *own))(block(name=f"block{layer}"), x)
        return x
    each = () if along is None else (jnp.asarray(along),)
    step = recomputed(call)
    scanned = nn.scan(
        lambda one, x, *own: (step(one, x, *own), None),
        variable_axes={"params": 0, "cache": 0, "intermediates": 0},
        split_rngs={"params": True, "dropout": True},
        length=depth,
    )
    return scanned(block(name="blocks"), x, *each)[0]
