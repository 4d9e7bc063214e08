"""Operations on the rows of a batch that XLA does not partition: they run on the devices that hold the rows."""

from __future__ import annotations

import contextlib
import contextvars
import math
from collections.abc import Callable, Iterator

import jax
from jax.sharding import Mesh, PartitionSpec

_split: contextvars.ContextVar[tuple[Mesh, tuple[str, ...]] | None] = contextvars.ContextVar("split", default=None)


@contextlib.contextmanager
def rows_over(mesh: Mesh, axes: tuple[str, ...]) -> Iterator[None]:
    """Traces the functions called inside for batches whose rows are split over some axes of a mesh."""
    token = _split.set((mesh, axes))
    try:
        yield
    finally:
        _split.reset(token)


def on_each_row(function: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """Applies a function of a batch [batch, ...] that treats its rows alike and independently of one another.

    XLA would gather the rows of all devices on each of them before an operation that it cannot partition.  Where the
    number of rows does not divide over the devices, it still does.

    >>> on_each_row(jax.numpy.fft.rfft, jax.numpy.ones((2, 8))).shape
    (2, 5)
    """
    split = _split.get()
    if split is None:
        return function(x)
    mesh, axes = split
    if x.shape[0] % math.prod(mesh.shape[axis] for axis in axes):
        return function(x)
    rows = PartitionSpec(axes)
    return jax.shard_map(function, mesh=mesh, in_specs=rows, out_specs=rows, axis_names=set(axes))(x)
