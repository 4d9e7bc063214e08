"""Augmentations as values: random functions of examples, inside the compiled program, with one key per example.

    augment((RandomCrop(4), HorizontalFlip(), CutMix(classes=10)), key, batch)

The randomness of an example depends only on `key` and the example's position in the whole batch.  It is the same
wherever the data are stored and however the batch is divided among devices or micro-batches.  Augmentations run in
training only, before `preprocess`, on pixels as stored in the data set.

This file holds the base classes and the simplest augmentations; see also erasing.py, color_jitter.py, resized_crop.py,
randaugment.py, spec_augment.py, and mixing.py, which combines examples of a batch.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from research.config.checks import check_part, check_types
from research.config.hparams import hparam
from research.config.inherited import describe_inherited
from research.errors import RequestError, nearest, require

Padding = Literal["zeros", "reflect", "edge"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchAugmentation(abc.ABC):
    """A random function of a batch, with one key per example.

    Attributes:
      field: the field of an example to change.
    """

    field: str = "image"

    after_preprocess: ClassVar[bool] = False
    """True if it runs after `preprocess` (on features of speech) rather than on the stored data."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        describe_inherited(cls)

    @abc.abstractmethod
    def over_batch(self, keys: jax.Array, batch: dict[str, Any]) -> dict[str, Any]:
        """Returns the batch with some fields changed; keys [batch]."""

    def require_field(self, name: str, example: dict[str, Any]) -> None:
        """Raises RequestError unless the example or batch has a field of that name."""
        if name not in example:
            raise RequestError(f"{type(self).__name__}: an example has no field {name!r}; {nearest(name, example)}")

    def check(self) -> None:
        """Raises RequestError for an invalid field."""
        check_types(self)
        require(bool(self.field), "field='': expected the name of a field of an example")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation(BatchAugmentation):
    """A random function of one field of one example, written without a batch axis.

    An augmentation that changes several fields together (an image and its boxes) overrides `__call__`.

    >>> @dataclasses.dataclass(frozen=True)
    ... class VerticalFlip(Augmentation):
    ...     def apply(self, key, x):
    ...         return jnp.where(jax.random.bernoulli(key), x[::-1], x)
    >>> VerticalFlip()(jax.random.key(0), {"image": jnp.zeros((2, 2, 1))})["image"].shape
    (2, 2, 1)
    """

    @abc.abstractmethod
    def apply(self, key: jax.Array, x: jax.Array) -> jax.Array:
        """Computes the new value of the field for one example."""

    def __call__(self, key: jax.Array, example: dict[str, Any]) -> dict[str, Any]:
        self.require_field(self.field, example)
        return example | {self.field: self.apply(key, example[self.field])}

    def over_batch(self, keys: jax.Array, batch: dict[str, Any]) -> dict[str, Any]:
        return jax.vmap(self)(keys, batch)


@dataclasses.dataclass(frozen=True)
class RandomCrop(Augmentation):
    """Pads the image by `padding` pixels on every side and crops a random window of the original size.

    He et al. (2015) use `RandomCrop(4)` for CIFAR.

    >>> RandomCrop(4)(jax.random.key(0), {"image": jnp.zeros((32, 32, 3))})["image"].shape
    (32, 32, 3)

    Attributes:
      padding: the pixels added per side.
      mode: pad with "zeros", by "reflect"-ing the image, or by repeating its "edge".
    """

    padding: int = 4
    mode: Padding = "zeros"

    def apply(self, key: jax.Array, x: jax.Array) -> jax.Array:
        """x: [height, width, channels]."""
        require_image(self, x)
        p, side = self.padding, min(x.shape[:2])
        given = f"{self.field!r} is {list(x.shape)} per example"
        require(p < side, f"RandomCrop: padding={p}, {given}; expected fewer pixels than its shorter side's {side}")
        offset = jax.random.randint(key, (2,), 0, 2 * p + 1)
        padded = jnp.pad(x, ((p, p), (p, p), (0, 0)), mode={"zeros": "constant"}.get(self.mode, self.mode))
        return jax.lax.dynamic_slice(padded, (*offset, 0), x.shape)

    def check(self) -> None:
        super().check()
        require(self.padding >= 0, f"padding={self.padding}: expected at least 0 pixels")


@dataclasses.dataclass(frozen=True)
class HorizontalFlip(Augmentation):
    """Mirrors the image left to right with the given probability.

    >>> image = jnp.arange(3).reshape(1, 3, 1)
    >>> HorizontalFlip(1.0)(jax.random.key(0), {"image": image})["image"].ravel().tolist()
    [2, 1, 0]

    Attributes:
      probability: of a flip.
    """

    probability: float = hparam(0.5)

    def apply(self, key: jax.Array, x: jax.Array) -> jax.Array:
        """x: [height, width, channels]."""
        require_image(self, x)
        return jnp.where(jax.random.bernoulli(key, self.probability), x[:, ::-1], x)

    def check(self) -> None:
        super().check()
        check_probability("probability", self.probability)


@dataclasses.dataclass(frozen=True)
class Noise(Augmentation):
    """Adds normal noise; integers become float32.

    >>> Noise(0.1, field="features")(jax.random.key(0), {"features": jnp.zeros(3)})["features"].shape
    (3,)

    Attributes:
      std: the standard deviation of the noise.
    """

    std: float = hparam(0.1)

    def apply(self, key: jax.Array, x: jax.Array) -> jax.Array:
        x = x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.float32)
        return x + self.std * jax.random.normal(key, x.shape, x.dtype)

    def check(self) -> None:
        super().check()
        require(self.std >= 0, f"std={self.std}: expected at least 0")


@dataclasses.dataclass(frozen=True)
class OneOf(BatchAugmentation):
    """Applies one of several augmentations, drawn per example.

    >>> flip_or_crop = OneOf((HorizontalFlip(1.0), RandomCrop(4)), weights=(3.0, 1.0))
    >>> augment((flip_or_crop,), jax.random.key(0), {"image": jnp.zeros((2, 8, 8, 3))})["image"].shape
    (2, 8, 8, 3)

    Attributes:
      augmentations: the augmentations to choose from.
      weights: their relative probabilities; None makes all equally likely.
      field: unused; each augmentation has its own.
    """

    augmentations: tuple[BatchAugmentation, ...]
    weights: tuple[float, ...] | None = None

    def over_batch(self, keys: jax.Array, batch: dict[str, Any]) -> dict[str, Any]:
        both = jax.vmap(jax.random.split)(keys)
        weights = jnp.asarray(self.weights or (1.0,) * len(self.augmentations))
        chosen = jax.vmap(lambda key: jax.random.categorical(key, jnp.log(weights)))(both[:, 0])
        results = [augmentation.over_batch(both[:, 1], batch) for augmentation in self.augmentations]
        mixed = dict(results[0])
        for i, result in enumerate(results[1:], 1):
            for name, x in result.items():
                if x.shape != mixed[name].shape:
                    shapes = f"{list(mixed[name].shape[1:])} or {list(x.shape[1:])}"
                    raise RequestError(f"OneOf: {name!r} is {shapes}, depending on what is drawn; expected one shape")
                where = (chosen == i).reshape(-1, *(1,) * (x.ndim - 1))
                mixed[name] = jnp.where(where, x, mixed[name])
        return mixed

    def check(self) -> None:
        super().check()
        require(len(self.augmentations) > 0, "augmentations=(): expected at least one")
        weights = self.weights
        if weights is not None:
            good = len(weights) == len(self.augmentations) and min(weights) >= 0 and sum(weights) > 0
            require(good, f"weights={weights}: expected {len(self.augmentations)}, none below 0 and some above")
        for i, augmentation in enumerate(self.augmentations):
            check_part(f"augmentations.{i}", augmentation)


def augment(
    augmentations: tuple[BatchAugmentation, ...],
    key: jax.Array,
    batch: dict[str, jax.Array],
    positions: jax.Array | None = None,
) -> dict[str, jax.Array]:
    """Applies all augmentations, in order, to every example of a batch.

    `positions` int32 [batch] are the examples' positions in the whole batch, if this is only part of it.
    """
    if not augmentations:
        return batch
    if positions is None:
        positions = jnp.arange(len(next(iter(batch.values()))))
    keys = jax.vmap(lambda position: jax.random.fold_in(key, position))(positions)
    for i, augmentation in enumerate(augmentations):
        batch = augmentation.over_batch(jax.vmap(lambda k, i=i: jax.random.fold_in(k, i))(keys), batch)
    return batch


def check_probability(name: str, value: float) -> None:
    """Raises RequestError unless `value` is from 0 to 1."""
    require(0 <= value <= 1, f"{name}={value}: expected 0 to 1")


def check_fill(value: float) -> None:
    """Raises RequestError unless `value` is a possible pixel value of stored images."""
    require(0 <= value <= 255, f"fill={value}: expected 0 to 255")


def require_image(augmentation: Augmentation, x: jax.Array) -> None:
    """Raises RequestError unless x is an image [height, width, channels]."""
    if x.ndim != 3:
        raise RequestError(
            f"{type(augmentation).__name__}: {augmentation.field!r} is {list(x.shape)} per example; expected an image "
            "[height, width, channels]"
        )
