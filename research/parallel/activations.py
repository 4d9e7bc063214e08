"""Keeps activations split along the batch, so that split parameters do not make devices repeat the work of others."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from flax import linen as nn
from flax.linen.module import InterceptorContext
from jax.sharding import Mesh, NamedSharding, PartitionSpec


@contextlib.contextmanager
def split_along_batch(mesh: Mesh, axes: tuple[str, ...]) -> Iterator[None]:
    """Splits the first axis of what each module returns over `axes` of the mesh, in programs that are traced inside.

    Where a parameter is split over the axes of the batch, XLA would otherwise have to guess: to gather the parameter,
    which is cheap, or the activations, with which each device repeats the work of the others.

    This concerns outputs with as many rows as the module's first argument; other dimensions are left to XLA.
    """
    parts = math.prod(mesh.shape[axis] for axis in axes)

    def intercept(call: Callable[..., Any], args: Any, kwargs: dict[str, Any], context: InterceptorContext) -> Any:
        outputs = call(*args, **kwargs)
        given = jax.tree.leaves((args, kwargs))
        rows = next((x.shape[0] for x in given if getattr(x, "ndim", 0) > 0), None)
        if context.method_name != "__call__" or rows is None or rows % parts:
            return outputs

        def split(x: Any) -> Any:
            if getattr(x, "ndim", 0) < 2 or x.shape[0] != rows:
                return x
            others = [PartitionSpec.UNCONSTRAINED] * (x.ndim - 1)
            return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec(axes, *others)))

        return jax.tree.map(split, outputs)

    with nn.intercept_methods(intercept):
        yield
