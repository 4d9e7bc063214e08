"""Published figures of accelerators, for bounds on the time of a step and for its utilisation."""

from __future__ import annotations

from typing import NamedTuple


class Chip(NamedTuple):
    """Figures of one device, as JAX counts devices.

    Attributes:
      name: the name in `launch compile --topology`.
      kinds: JAX's names of such a device (`device_kind`).
      flops: FLOP/s of dense matrix products in bfloat16.
      memory: bytes.
      bandwidth: bytes per second between the device and its memory.
      links: bytes per second that the device sends over all its links to others of its slice or host.
      network: bytes per second that the device sends to other slices or hosts; None is not published.
    """

    name: str
    kinds: tuple[str, ...]
    flops: float
    memory: int
    bandwidth: float
    links: float
    network: float | None


_GB, _GIB = 10**9, 2**30

# TPUs: the pages "TPU v4", "TPU v5e", "TPU v5p", "TPU v6e" and "TPU7x" of docs.cloud.google.com/tpu/docs.  These give
# the bandwidth of links for both directions together; half of it is one direction.  The network of a v5e or v6e is the
# data center network of a pod, divided by its 256 chips.  A TPU7x has two devices, each with half of its figures.
# Links of the v4: six of 50 GB/s (Jouppi et al., 2023, table 4).
# GPUs: the data sheets of the H100 SXM, H200 SXM and DGX B200 by NVIDIA, without sparsity.  A DGX has a 400 Gb/s
# network adapter per GPU.
CHIPS = (
    Chip("v4", ("TPU v4",), 275e12, 32 * _GIB, 1200e9, 300e9, None),
    Chip("v5e", ("TPU v5 lite", "TPU v5e"), 197e12, 16 * _GIB, 819e9, 200e9, 3.125e9),
    Chip("v5p", ("TPU v5", "TPU v5p"), 459e12, 95 * _GIB, 2765e9, 600e9, 6.25e9),
    Chip("v6e", ("TPU v6 lite", "TPU v6e"), 918e12, 32 * _GIB, 1638e9, 400e9, 12.5e9),
    Chip("tpu7x", ("TPU7x", "TPU v7x"), 2307e12 / 2, 96 * _GIB, 7380e9 / 2, 600e9 / 2, 12.5e9 / 2),
    Chip("h100", ("NVIDIA H100 80GB HBM3",), 989e12, 80 * _GB, 3350e9, 450e9, 50e9),
    Chip("h200", ("NVIDIA H200",), 989e12, 141 * _GB, 4800e9, 450e9, 50e9),
    Chip("b200", ("NVIDIA B200",), 2250e12, 180 * _GB, 8000e9, 900e9, 50e9),
)


def chip_of(device_kind: str) -> Chip | None:
    """The figures of a device by JAX's name of it; None if they are not in the table.

    >>> chip_of("TPU v5 lite").name
    'v5e'
    """
    return next((chip for chip in CHIPS if device_kind in chip.kinds), None)
