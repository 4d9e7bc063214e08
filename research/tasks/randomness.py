"""Random numbers of examples: the same for any number of devices, micro-batches and hosts, and any batch size.

time = per_example(batch["key"], 0, jax.random.uniform)
noise = per_example(batch["key"], 1, jax.random.normal, image.shape[1:])
"""

from __future__ import annotations

from collections.abc import Callable

import jax


def example_keys(key: jax.Array, numbers: jax.Array) -> jax.Array:
    """A key for each example, [batch], from one key and the examples' numbers, int32 [batch]."""
    return jax.vmap(lambda number: jax.random.fold_in(key, number))(numbers)


def per_example(
    keys: jax.Array, stream: int, draw: Callable[..., jax.Array], shape: tuple[int, ...] = (), **options: object
) -> jax.Array:
    """Draws an array of `shape` for each example, [batch, *shape].

    Args:
      keys: [batch], such as `batch["key"]`.
      stream: numbers the draws of one task, so that they are independent of one another.
      draw: a sampler of `jax.random` that takes a key and a shape.
      options: further arguments of the sampler, such as `minval` or `dtype`.
    """
    return jax.vmap(lambda key: draw(jax.random.fold_in(key, stream), shape=shape, **options))(keys)
