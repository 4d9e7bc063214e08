"""Mixing: combines pairs of examples in a batch, and their labels in the same proportion.

    augment=(RandomCrop(4), HorizontalFlip(), OneOf((Mixup(classes=10), CutMix(classes=10))))

Neighbours in the batch, 2k and 2k + 1, are mixed with each other.  Their order is random already, and the mixtures stay
the same however a batch is divided, as long as each part holds an even number of examples.  Each of the two draws its
own share.  The last example of an odd batch stays unmixed, and so does an example whose neighbour is padding (weight
0).
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from research.config.hparams import hparam
from research.data.augment.augmentation import BatchAugmentation, check_probability
from research.data.augment.erasing import rectangle
from research.data.labels import probabilities
from research.errors import require


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mixing(BatchAugmentation):
    """The base of Mixup and CutMix: labels become probabilities [batch, classes], in proportion to the images.

    Attributes:
      classes: the number of classes (as in the task).
      label: the field of labels, which are integers or already probabilities.
      probability: the fraction of examples that are mixed.
    """

    classes: int
    label: str = "label"
    probability: float = hparam(1.0)

    @abc.abstractmethod
    def mix(self, key: jax.Array, x: jax.Array, other: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Mixes two images: (mixture, share of x in it)."""

    def over_batch(self, keys: jax.Array, batch: dict[str, Any]) -> dict[str, Any]:
        for name in (self.field, self.label):
            self.require_field(name, batch)
        images, labels = batch[self.field], probabilities(batch[self.label], self.classes)
        size = len(images)
        mixed = jnp.arange(size) < size // 2 * 2
        if "weight" in batch:
            mixed &= neighbours(batch["weight"]) > 0

        def one(key, x, other, label, other_label, mixed):
            whether, how = jax.random.split(key)
            mixed &= jax.random.bernoulli(whether, self.probability)
            mixture, share = self.mix(how, x, other)
            share = jnp.where(mixed, share, 1.0)
            return jnp.where(mixed, mixture, x), share * label + (1 - share) * other_label

        images, labels = jax.vmap(one)(keys, images, neighbours(images), labels, neighbours(labels), mixed)
        return batch | {self.field: images, self.label: labels}

    def check(self) -> None:
        super().check()
        require(self.classes >= 2, f"classes={self.classes}: expected at least 2")
        require(bool(self.label), "label='': expected the name of a field of an example")
        check_probability("probability", self.probability)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mixup(Mixing):
    """Averages two images: λ x + (1 - λ) x', λ ~ Beta(alpha, alpha) (Zhang et al., 2018); integers become float32.

    >>> from research.data.augment.augmentation import augment
    >>> batch = {"image": jnp.zeros((2, 8, 8, 3)), "label": jnp.array([0, 1])}
    >>> augment((Mixup(classes=10),), jax.random.key(0), batch)["label"].shape
    (2, 10)

    Attributes:
      alpha: the parameter of the beta distribution.
    """

    alpha: float = hparam(0.2)

    def mix(self, key: jax.Array, x: jax.Array, other: jax.Array) -> tuple[jax.Array, jax.Array]:
        share = jax.random.beta(key, self.alpha, self.alpha)
        dtype = jnp.promote_types(x.dtype, jnp.float32) if not jnp.issubdtype(x.dtype, jnp.floating) else x.dtype
        x, other = x.astype(dtype), other.astype(dtype)
        return other + share.astype(dtype) * (x - other), share

    def check(self) -> None:
        super().check()
        require(self.alpha > 0, f"alpha={self.alpha}: expected more than 0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CutMix(Mixing):
    """Pastes a rectangle of x' over x, with λ ~ Beta(alpha, alpha) (Yun et al., 2019).

    The rectangle has the image's aspect ratio, a fraction 1 - λ of its area, and a random pixel as its centre.  It is
    clipped at the border, and the label's share is the remaining area of x.

    >>> from research.data.augment.augmentation import augment
    >>> batch = {"image": jnp.zeros((2, 8, 8, 3)), "label": jnp.array([0, 1])}
    >>> augment((CutMix(classes=10),), jax.random.key(0), batch)["label"].shape
    (2, 10)

    Attributes:
      alpha: the parameter of the beta distribution.
    """

    alpha: float = hparam(1.0)

    def mix(self, key: jax.Array, x: jax.Array, other: jax.Array) -> tuple[jax.Array, jax.Array]:
        height, width = x.shape[:2]
        size_key, row_key, column_key = jax.random.split(key, 3)
        side = jnp.sqrt(1 - jax.random.beta(size_key, self.alpha, self.alpha))
        h, w = (jnp.floor(side * n).astype(jnp.int32) for n in (height, width))
        top = jax.random.randint(row_key, (), 0, height) - h // 2
        left = jax.random.randint(column_key, (), 0, width) - w // 2
        pasted = rectangle(height, width, top, left, top + h, left + w)
        return jnp.where(pasted[..., None], other, x), 1 - pasted.mean(dtype=jnp.float32)

    def check(self) -> None:
        super().check()
        require(self.alpha > 0, f"alpha={self.alpha}: expected more than 0")


def neighbours(x: jax.Array) -> jax.Array:
    """Swaps examples 2k and 2k + 1 of x [batch, ...]; the last of an odd number stays.

    >>> neighbours(jnp.arange(5)).tolist()
    [1, 0, 3, 2, 4]
    """
    even = len(x) // 2 * 2
    swapped = x[:even].reshape(-1, 2, *x.shape[1:])[:, ::-1].reshape(even, *x.shape[1:])
    return swapped if even == len(x) else jnp.concatenate([swapped, x[even:]])
