"""Augmentation as values: random functions of examples, inside the program, with a key per example.

    augment((RandomCrop(4), HorizontalFlip(), CutMix(classes=10)), key, batch)

An example's randomness depends on `key` and its position in the whole batch alone, so it is the same wherever the data
lives and however the batch is divided among devices or micro-batches.  They run before `preprocess`, on the pixels as
the data set has them, and in training only.

Here: what moves the image.  Elsewhere: erasing.py, color_jitter.py, resized_crop.py, randaugment.py, and
mixing.py, whose functions look at other examples of the batch.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from research.config.checks import check_part, check_types
from research.config.hparams import hparam
from research.errors import RequestError, nearest, require

Padding = Literal["zeros", "reflect", "edge"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchAugmentation(abc.ABC):
    """A random function of a batch, with a key for each of its examples."""

    field: str = "image"

    after_preprocess: ClassVar[bool] = False
    """Whether it changes what `preprocess` makes (features of speech), not what the data set has."""

    @abc.abstractmethod
    def over_batch(self, keys: jax.Array, batch: dict[str, Any]) -> dict[str, Any]:
        """The batch with some of its fields changed; keys [batch]."""

    def require_field(self, name: str, example: dict[str, Any]) -> None:
        """Raises RequestError unless an example (or a batch) has a field of that name."""
        if name not in example:
            raise RequestError(f"{type(self).__name__}: an example has no field {name!r}; {nearest(name, example)}")

    def check(self) -> None:
        """Raises RequestError for a field that cannot be meant."""
        check_types(self)
        require(bool(self.field), "field='': expected the name of a field of an example")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation(BatchAugmentation):
    """A random function of one example's field, written without a batch axis.

    One that changes several fields together (an image and its boxes) overrides `__call__`.
    """

    @abc.abstractmethod
    def apply(self, key: jax.Array, x: jax.Array) -> jax.Array:
        """The field's new value, of one example."""

    def __call__(self, key: jax.Array, example: dict[str, Any]) -> dict[str, Any]:
        self.require_field(self.field, example)
        return example | {self.field: self.apply(key, example[self.field])}

    def over_batch(self, keys: jax.Array, batch: dict[str, Any]) -> dict[str, Any]:
        return jax.vmap(self)(keys, batch)


@dataclasses.dataclass(frozen=True)
class RandomCrop(Augmentation):
    """The image moved by up to `padding` pixels each way: a crop of its own size from the image padded on every side
    (He et al., 2015: 4 for CIFAR), with zeros or with itself."""

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
    """The image mirrored left to right, with the given probability."""

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
    """x + std · normal noise, in float32 where x holds integers."""

    std: float = hparam(0.1)

    def apply(self, key: jax.Array, x: jax.Array) -> jax.Array:
        x = x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.float32)
        return x + self.std * jax.random.normal(key, x.shape, x.dtype)

    def check(self) -> None:
        super().check()
        require(self.std >= 0, f"std={self.std}: expected at least 0")


@dataclasses.dataclass(frozen=True)
class OneOf(BatchAugmentation):
    """One of several, drawn for each example: `OneOf((Mixup(classes=10), CutMix(classes=10)))`.

    `weights` says how often, in proportion; None is as often.
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
    """The batch with every example augmented, by all augmentations in order.

    `positions` int32 [batch] are the examples' positions in the whole batch, where this is a part of it.
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
    """Raises RequestError unless `value` is what a pixel can be, as the data set has it."""
    require(0 <= value <= 255, f"fill={value}: expected 0 to 255")


def require_image(augmentation: Augmentation, x: jax.Array) -> None:
    """Raises RequestError unless x is an image [height, width, channels]."""
    if x.ndim != 3:
        raise RequestError(
            f"{type(augmentation).__name__}: {augmentation.field!r} is {list(x.shape)} per example; expected an image "
            "[height, width, channels]"
        )
