"""SpecAugment: hides stretches of time and bands of frequency from the model (Park et al., 2019)."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from research.config.checks import check_counts
from research.data.augment.augmentation import Augmentation
from research.errors import require


@dataclasses.dataclass(frozen=True)
class SpecAugment(Augmentation):
    """Replaces random stretches and bands of `features` [frames, mels] with their mean, after `preprocess`.

    The width of a mask is uniform from 0 to its maximum, and its position is uniform among the frames that are not
    padding.

    >>> masks = SpecAugment(time_masks=2, frequency_masks=2)
    >>> masks(jax.random.key(0), {"features": jnp.ones((50, 80))})["features"].shape
    (50, 80)

    Attributes:
      time_masks, time_width: the number of masked stretches, and the maximum width of one in frames.
      time_share: the maximum fraction of an example's frames that one stretch hides.
      frequency_masks, frequency_width: the number of masked bands, and the maximum width of one in mels.
    """

    field: str = "features"
    time_masks: int = 2
    time_width: int = 20
    time_share: float = 0.2
    frequency_masks: int = 2
    frequency_width: int = 15

    after_preprocess: ClassVar[bool] = True

    def apply(self, key: jax.Array, x: jax.Array) -> jax.Array:
        """Masks x [frames, mels] without padding."""
        return self.masked(key, x, jnp.ones(len(x), bool))

    def __call__(self, key: jax.Array, example: dict[str, Any]) -> dict[str, Any]:
        self.require_field(self.field, example)
        valid = example.get(f"{self.field}_mask", jnp.ones(len(example[self.field]), bool))
        return example | {self.field: self.masked(key, example[self.field], valid)}

    def masked(self, key: jax.Array, x: jax.Array, valid: jax.Array) -> jax.Array:
        """Masks x [frames, mels]; `valid` [frames] bool is False on padding, which is at the end."""
        times, bands = jax.random.split(key)
        frames, mels = valid.sum(), x.shape[1]
        widest = jnp.minimum(self.time_width, (frames * self.time_share).astype(jnp.int32))
        hidden = _stretches(times, self.time_masks, widest, frames, len(x))[:, None]
        hidden |= _stretches(bands, self.frequency_masks, min(self.frequency_width, mels), mels, mels)[None]
        mean = jnp.where(valid[:, None], x, 0).sum() / jnp.maximum(1, frames * mels)
        return jnp.where(hidden & valid[:, None], mean.astype(x.dtype), x)

    def check(self) -> None:
        super().check()
        check_counts(self, "time_masks", "time_width", "frequency_masks", "frequency_width", least=0)
        require(0 <= self.time_share <= 1, f"time_share={self.time_share}: expected 0 to 1")


def _stretches(key: jax.Array, count: int, widest: Any, among: Any, length: int) -> jax.Array:
    """Draws `count` stretches of 0 to `widest` positions within the first `among`: bool [length]."""
    keys = jax.random.split(key)
    width = jax.random.randint(keys[0], (count,), 0, widest + 1)
    start = (jax.random.uniform(keys[1], (count,)) * (among - width + 1)).astype(jnp.int32)
    place = jnp.arange(length)
    return ((place >= start[:, None]) & (place < (start + width)[:, None])).any(axis=0)
