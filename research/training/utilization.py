"""The use that training makes of its chips: model FLOPs utilisation (MFU)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from research.data.feed import take
from research.experiment import Experiment
from research.parallel.chips import Chip, chip_of
from research.parallel.placement import Placement
from research.training.abstract import abstract_state
from research.training.flops import model_flops


@dataclasses.dataclass(frozen=True)
class Work:
    """The work of a training step of one trial.

    Attributes:
      examples: in the batch.
      flops: by three forward passes (`research.training.flops.model_flops`); None if the chip is unknown.
      devices: the number of devices that share the work.
      chip: their figures, if they are published.
    """

    examples: int
    flops: int | None
    devices: int
    chip: Chip | None

    def utilization(self, steps_per_second: float) -> float | None:
        """FLOPs per second over those of the chips in bfloat16; None if the chip is unknown."""
        return None if self.chip is None else steps_per_second * self.flops / (self.devices * self.chip.flops)


def work_of(
    experiment: Experiment,
    resident: Mapping[str, Any],
    sent: Callable[[], Mapping[str, np.ndarray]],
    placement: Placement,
) -> Work:
    """The work of a step; counts FLOPs, by tracing the forward pass, only if the chip is known.

    Args:
      experiment: resolved.
      resident: the data on the device.
      sent: returns what a step of one trial is sent; only shapes matter.
      placement: of the experiment.
    """
    chip, flops = chip_of(placement.mesh.devices.flat[0].device_kind), None
    if chip is not None:
        rows = {
            name: jax.ShapeDtypeStruct((experiment.batch_size, *x.shape[1:]), x.dtype) for name, x in sent().items()
        }
        batch = jax.eval_shape(take, dict(resident), rows)
        flops = model_flops(experiment, abstract_state(experiment, batch), batch)
    return Work(experiment.batch_size, flops, int(placement.mesh.size), chip)
