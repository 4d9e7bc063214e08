"""Augmentation as values: random functions of one example, inside the program, with a key per example.

    augment((RandomCrop(4), HorizontalFlip()), key, batch)

An example's randomness depends on `key` and its position in the whole batch alone, so it is the same wherever the data
lives and however the batch is divided among devices or micro-batches.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from research.errors import RequestError, nearest, require
from research.hparams import hparam


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation(abc.ABC):
    """A random function of one example's field, written without a batch axis.

    One that changes several fields together (an image and its boxes) overrides `__call__`.
    """

    field: str = "image"

    @abc.abstractmethod
    def apply(self, key: jax.Array, x: jax.Array) -> jax.Array:
        """The field's new value, of one example."""

    def __call__(self, key: jax.Array, example: dict[str, Any]) -> dict[str, Any]:
        if self.field not in example:
            hint = nearest(self.field, example)
            raise RequestError(f"{type(self).__name__}: an example has no field {self.field!r}; {hint}")
        return example | {self.field: self.apply(key, example[self.field])}

    def check(self) -> None:
        """Raises RequestError for a field that cannot be meant."""
        require(bool(self.field), "field='': expected the name of a field of an example")


@dataclasses.dataclass(frozen=True)
class RandomCrop(Augmentation):
    """A crop of the image's own size from the image padded with zeros on every side (He et al., 2015: 4 for CIFAR)."""

    padding: int = 4

    def apply(self, key: jax.Array, x: jax.Array) -> jax.Array:
        """x: [height, width, channels]."""
        p = self.padding
        offset = jax.random.randint(key, (2,), 0, 2 * p + 1)
        return jax.lax.dynamic_slice(jnp.pad(x, ((p, p), (p, p), (0, 0))), (*offset, 0), x.shape)

    def check(self) -> None:
        super().check()
        require(self.padding >= 0, f"padding={self.padding}: expected at least 0 pixels")


@dataclasses.dataclass(frozen=True)
class HorizontalFlip(Augmentation):
    """The image mirrored left to right, with the given probability."""

    probability: float = hparam(0.5)

    def apply(self, key: jax.Array, x: jax.Array) -> jax.Array:
        """x: [height, width, channels]."""
        return jnp.where(jax.random.bernoulli(key, self.probability), x[:, ::-1], x)

    def check(self) -> None:
        super().check()
        require(0 <= self.probability <= 1, f"probability={self.probability}: expected 0 to 1")


@dataclasses.dataclass(frozen=True)
class Noise(Augmentation):
    """x + std · normal noise, in float32 where x holds integers."""

    std: float = hparam(0.1)

    def apply(self, key: jax.Array, x: jax.Array) -> jax.Array:
        x = x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.float32)
        return x + self.std * jax.random.normal(key, x.shape, x.dtype)

    def check(self) -> None:
        super().check()
        require(self.std >= 0, f"std={self.std}: expected at least 0")


def augment(
    augmentations: tuple[Augmentation, ...],
    key: jax.Array,
    batch: dict[str, jax.Array],
    positions: jax.Array | None = None,
) -> dict[str, jax.Array]:
    """The batch with every example augmented, by all augmentations in order.

    `positions` int32 [batch] are the examples' positions in the whole batch, where this is a part of it.
    """
    if not augmentations:
        return batch
    if positions is None:
        positions = jnp.arange(len(next(iter(batch.values()))))

    def one(position: jax.Array, example: dict[str, jax.Array]) -> dict[str, jax.Array]:
        example_key = jax.random.fold_in(key, position)
        for i, augmentation in enumerate(augmentations):
            example = augmentation(jax.random.fold_in(example_key, i), example)
        return example

    return jax.vmap(one)(positions, batch)
