"""Stacks of blocks: written out, or one block scanned over a leading axis of its parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

Remat = bool | Literal["dots_saveable", "dots_with_no_batch_dims_saveable", "offload_dots_with_no_batch_dims"]
"""The parts of each block that the backward pass recomputes: False nothing, True everything but the block's input.  The
policies of `jax.checkpoint_policies` recompute everything but the results of matrix products ("dots_saveable"), of
those with weights ("dots_with_no_batch_dims_saveable"), or of these, which are kept in the memory of the host until
then ("offload_dots_with_no_batch_dims"; on accelerators).
"""


def policy(remat: Remat) -> Callable[..., Any] | None:
    """The policy of `jax.checkpoint` for the value of a field `remat`; None stores nothing inside a block."""
    policies = jax.checkpoint_policies
    if remat == "offload_dots_with_no_batch_dims":
        return policies.offload_dot_with_no_batch_dims("device", "pinned_host")
    return getattr(policies, remat) if isinstance(remat, str) else None


def stack(
    block: Callable[..., nn.Module],
    depth: int,
    x: jax.Array,
    call: Callable[..., jax.Array],
    *,
    along: Sequence[float] | None = None,
    scan_layers: bool = False,
    remat: Remat = False,
) -> jax.Array:
    """Applies `depth` blocks, `x = call(block, x)` for each; for use inside `@nn.compact`.

    Written out, the blocks are named `block0`, `block1`, ...  Scanned, there is one `blocks` whose parameters, caches
    and intermediates have a leading axis `layer`; it compiles once, whatever the depth.

    Args:
      block: a constructor of blocks that takes `name=`.
      depth: the number of blocks.
      x: the input of the first block.
      call: applies one block; arrays and flags that all blocks share are in its closure.
      along: one number per block, passed to `call` as its third argument; an array [] if blocks are scanned.
      scan_layers: scan the blocks instead of writing them out.
      remat: the parts of a block that the backward pass recomputes.
    """

    def recomputed(call: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
        # A scan prevents common subexpression elimination by itself.
        return nn.remat(call, prevent_cse=not scan_layers, policy=policy(remat)) if remat else call

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
