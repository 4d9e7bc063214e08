"""Random numbers per example, independent of the number of devices, micro-batches and hosts, and of the batch size.

time = per_example(batch["key"], 0, jax.random.uniform)
noise = per_example(batch["key"], 1, jax.random.normal, image.shape[1:])
"""

from __future__ import annotations

from collections.abc import Callable

import jax


def example_keys(key: jax.Array, numbers: jax.Array) -> jax.Array:
    """Derives one key per example, [batch], from a key and the indices of the examples, int32 [batch]."""
    return jax.vmap(lambda number: jax.random.fold_in(key, number))(numbers)


def per_example(
    keys: jax.Array, stream: int, draw: Callable[..., jax.Array], shape: tuple[int, ...] = (), **options: object
) -> jax.Array:
    """Draws an array of `shape` for each example, [batch, *shape].

    >>> keys = jax.random.split(jax.random.key(0), 4)
    >>> per_example(keys, 0, jax.random.normal, (2,)).shape
    (4, 2)

    Args:
      keys: [batch], such as `batch["key"]`.
      stream: a number for each draw of a task, which makes the draws independent.
      draw: a sampler of `jax.random` that takes a key and a shape.
      options: further arguments of the sampler, such as `minval` or `dtype`.
    """
    return jax.vmap(lambda key: draw(jax.random.fold_in(key, stream), shape=shape, **options))(keys)
