"""The spec of how a step is laid out over devices, as a field of an experiment."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from research.console import counted
from research.errors import RequestError, require

DATA = "data"
"""The mesh axis over which a batch is split."""

FSDP = "fsdp"
"""The mesh axis over which parameters are split, and the batch too."""

TENSOR = "tensor"
"""The mesh axis over which the heads and hidden features of Transformers are split, by the model's own rules."""

TensorRules = tuple[tuple[str, int], ...]
"""(pattern of a parameter's path, dimension counted from the last) pairs."""

Shard = Literal["fsdp"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parallel:
    """The layout of a step over devices.

    Attributes:
      strategy: "jit" compiles one program for a mesh; "pmap" maps a program over devices and sums over the axis "data".
      mesh: (axis, size) pairs, with an axis "data"; a size of -1 takes the remaining devices.  The batch is split over
        "data" and, if there is one, over the axis "fsdp"; an axis "tensor" splits the layers of Transformers.  The
        command line reads data:2,fsdp:2,tensor:2.
      rules: (pattern of a parameter's path, mesh axis or None for each of its dimensions) pairs.  The first match
        applies; the optimizer's state follows its parameter; arrays that match no rule are copied to every device,
        unless `shard` splits them.
      shard: "fsdp" splits the largest dimension that divides, of every large array of the state, over the mesh axis
        "fsdp", or over "data" if there is no such axis (Rajbhandari et al., 2020); None splits none.
      steps_per_call: steps in one call of the compiled program.  None runs 64 steps in a loop on the device if the data
        live there; it runs 1 step if each step is sent its data, and for convolutions on a CPU, where XLA is about 16
        times slower inside a loop (`experiments/speed/loop_on_cpu.py`).
    """

    strategy: Literal["jit", "pmap"] = "jit"
    mesh: tuple[tuple[str, int], ...] = ((DATA, -1),)
    rules: tuple[tuple[str, tuple[str | None, ...]], ...] = ()
    shard: Shard | None = None
    steps_per_call: int | None = None

    def check(self) -> None:
        names = [name for name, _ in self.mesh]
        if DATA not in names or len(set(names)) != len(names):
            raise RequestError(f"mesh={self.mesh}: expected different axes, one of them 'data'")
        sizes = [size for _, size in self.mesh]
        if sizes.count(-1) > 1 or any(size < 1 and size != -1 for size in sizes):
            raise RequestError(f"mesh={self.mesh}: expected sizes of at least 1, at most one of them -1")
        if self.steps_per_call is not None and self.steps_per_call < 1:
            raise RequestError(f"steps_per_call={self.steps_per_call}: expected at least 1, or none")
        if self.strategy == "pmap" and (len(names) > 1 or self.rules or self.shard):
            raise RequestError("strategy=pmap: expected mesh=(('data', n),), no rules and no shard; use jit for those")
        for pattern, axes in self.rules:
            for axis in axes:
                if axis is not None and axis not in names:
                    raise RequestError(f"rules {pattern!r}: no mesh axis {axis!r}; the mesh has {', '.join(names)}")

    def make_mesh(self, devices: Sequence[jax.Device] | None = None) -> Mesh:
        """The mesh over the devices of this job, or over `devices`.

        Raises:
          RequestError: the devices do not fill it.
        """
        sizes = dict(self.mesh)
        fixed = math.prod(size for size in sizes.values() if size != -1)
        devices = jax.devices() if devices is None else devices
        count = len(devices)
        free = [name for name, size in sizes.items() if size == -1]
        if (free and count % fixed) or fixed > count:
            given = f"{counted(count, 'device')} do{'es' * (count == 1)}"
            raise RequestError(f"parallel.mesh={self.mesh}: {given} not fill it")
        if free:
            sizes[free[0]] = count // fixed
        used = math.prod(sizes.values())
        return Mesh(
            _laid_out(tuple(sizes), tuple(sizes.values()), list(devices[:used])),
            tuple(sizes),
            # Explicit axes, the default, break Linen's batch norm, recurrences and embeddings.
            axis_types=(AxisType.Auto,) * len(sizes),
        )


def _laid_out(names: tuple[str, ...], sizes: tuple[int, ...], devices: list[jax.Device]) -> np.ndarray:
    """Devices [*sizes] of a mesh, so that its axes run along fast links.

    Of several slices, which only the data center's network joins, each holds a part of the axis "data": it needs the
    least communication.  JAX counts hosts of GPUs as slices, too, but their network can join any axis.

    Raises:
      RequestError: the slices do not divide the axis "data".
    """
    slices = len({getattr(device, "slice_index", None) or 0 for device in devices})
    data = sizes[names.index(DATA)]
    if slices == 1 or (devices[0].platform == "gpu" and data % slices):
        return mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    across = tuple(slices if name == DATA else 1 for name in names)
    inside = tuple(size // parts for size, parts in zip(sizes, across, strict=True))
    require(data % slices == 0, f"parallel.mesh: data {data} does not divide over {slices} slices")
    return mesh_utils.create_hybrid_device_mesh(inside, across, devices, allow_split_physical_axes=True)
