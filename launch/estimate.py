"""The work of a compiled step, and the least time that its chip needs for it by the published figures."""

from __future__ import annotations

import dataclasses

from launch.collectives import Collective, collectives
from launch.compiled import Compiled
from research.training.flops import model_flops, step_flops


@dataclasses.dataclass(frozen=True)
class Estimate:
    """The work of a device in a step.

    Attributes:
      flops: of matrix products and convolutions, with what is recomputed.
      model_flops: without what is recomputed (`research.training.flops`).
      collectives: each collective of the program.
      bounds: seconds that a part of the chip needs at least, by the part; {} if its figures are not published.
    """

    flops: float
    model_flops: float
    collectives: tuple[Collective, ...]
    bounds: dict[str, float]

    @property
    def least(self) -> float:
        """Seconds that a step takes at least, if all parts work at the same time."""
        return max(self.bounds.values())


def estimate(compiled: Compiled) -> Estimate:
    """Estimates the work of a compiled step.

    The bounds are compute: all FLOPs at the peak in bfloat16; memory: reading the state and the batch once, writing
    the state once, and writing and reading the temporaries once; links: what collectives send at the bandwidth of all
    links together; network: what leaves the slice or the host.
    """
    devices = list(compiled.placement.mesh.devices.flat)
    domains = [device.process_index if device.platform == "gpu" else _slice(device) for device in devices]
    found = tuple(collectives(compiled.program.as_text(), domains)) if len(devices) > 1 else ()
    with_recomputed = step_flops(compiled.experiment, compiled.state, compiled.batch) / len(devices)
    needed = model_flops(compiled.experiment, compiled.state, compiled.batch) / len(devices)
    return Estimate(with_recomputed, needed, found, _bounds(compiled, with_recomputed, found))


def _slice(device: object) -> int:
    return getattr(device, "slice_index", 0)


def _bounds(compiled: Compiled, flops: float, found: tuple[Collective, ...]) -> dict[str, float]:
    chip, memory = compiled.chip, compiled.memory
    if chip is None:
        return {}
    bounds = {"compute": flops / chip.flops, "memory": 2 * memory.total / chip.bandwidth}
    outside = sum(one.times * one.outside for one in found)
    inside = sum(one.times * (one.sent - one.outside) for one in found)
    if inside:
        bounds["links"] = inside / chip.links
    if outside and chip.network is not None:
        bounds["network"] = outside / chip.network
    return bounds
