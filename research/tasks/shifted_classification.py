"""Classification that is also evaluated on shifted images."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from research.errors import require
from research.metrics.ranking import is_first
from research.tasks.classification import Classification
from research.tasks.task import Apply, Batch, Direction
from research.tasks.test_time_augmentation import four_ways


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShiftedClassification(Classification):
    """Classification, also evaluated on images that are shifted up, down, left and right.

    The metric "accuracy_shift_2" is the mean accuracy over the four directions for shifts of 2 pixels.  New pixels are
    0, so preprocessing should map the background to 0.

    >>> ShiftedClassification(classes=10, shifts=(2, 4)).shifts
    (2, 4)

    Attributes:
      shifts: the numbers of pixels to shift images by in evaluation; training images are not shifted.
    """

    better: ClassVar[Mapping[str, Direction]] = {**Classification.better, "accuracy_shift_*": "max"}

    shifts: tuple[int, ...] = (1, 2, 3, 4)

    def check(self) -> None:
        super().check()
        require(len(self.shifts) > 0 and min(self.shifts) >= 1, f"shifts={self.shifts}: expected pixels, at least 1")

    def eval_outputs(self, apply: Apply, batch: Batch) -> dict[str, jax.Array]:
        """Adds "correct_shift_…", float32 [batch]: the fraction of the four directions with a correct prediction."""
        outputs = super().eval_outputs(apply, batch)
        images, labels = batch[self.input], batch[self.label]

        def right(moved: jax.Array) -> jax.Array:
            return is_first(self._eval_logits(apply, {**batch, self.input: moved}), labels)

        # A loop on the device compiles the model once for all shifts and directions.
        moved = jnp.stack([x for shift in self.shifts for x in four_ways(images, shift)])
        fractions = jax.lax.map(right, moved).reshape(len(self.shifts), 4, -1).mean(1, dtype=jnp.float32)
        outputs |= {f"correct_shift_{shift}": x for shift, x in zip(self.shifts, fractions, strict=True)}
        return outputs

    def finalize(self, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Adds "accuracy_shift_…", a fraction, for every shift."""
        shifted = {f"accuracy_shift_{s}": float(outputs[f"correct_shift_{s}"].mean()) for s in self.shifts}
        return super().finalize(outputs) | shifted
