"""The devices of a topology by name: TPU slices, GPUs and virtual CPU devices, none of which need to be here.

    v5e:4x4           a TPU slice by its shape in chips
    v5litepod-16      the same by its name in the cloud; names of v4, v5p and tpu7x count TensorCores, two to a chip
    h100:8            GPUs, on hosts of eight
    cpu:8             virtual CPU devices

JAX reads the environment when it is imported, so `prepare` comes before any import of JAX.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from typing import TYPE_CHECKING

from research.errors import RequestError, likely, one_line, require

if TYPE_CHECKING:
    import jax

MOST_DEVICES = 10_000
"""The maximum number of devices; more would take minutes and memory to make."""

_PLANES, _CUBES = ("v5e", "v6e"), ("v4", "v5p", "tpu7x")
_CLOUD = {"v5litepod": "v5e", "v5e": "v5e", "v6e": "v6e", "v4": "v4", "v5p": "v5p", "tpu7x": "tpu7x", "v7x": "tpu7x"}
_LARGEST = {"v5e": 256, "v6e": 256, "v4": 4096, "v5p": 8192, "tpu7x": 8192}  # chips of a slice that a cloud name gives
_HOST_OF_GPUS = 8
_GPUS = {  # libtpu describes TPUs; XLA wants to be told about GPUs
    "h100": ("NVIDIA H100 80GB HBM3", (9, 0), 132, 1.98, 3_352_320_000_000, 50 << 20, 84_942_979_072),
    "h200": ("NVIDIA H200", (9, 0), 132, 1.98, 4_800_000_000_000, 60 << 20, 150_000_000_000),
    "b200": ("NVIDIA B200", (10, 0), 148, 1.965, 8_000_000_000_000, 126 << 20, 191_000_000_000),
}
"""{name: (kind, compute capability, cores, GHz, bytes per second of memory, bytes of the L2 cache, bytes of memory)}"""


def prepare() -> None:
    """Sets the environment for compiling without the devices: whatever runs, runs on the CPU."""
    for name, value in {
        "JAX_PLATFORMS": "cpu",
        "TPU_SKIP_MDS_QUERY": "1",  # do not query a cloud's metadata server
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_ACCELERATOR_TYPE": "v5litepod-1",  # else libtpu warns
        "TPU_MIN_LOG_LEVEL": "3",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # several processes may compile at once
        "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",  # neither CUDA nor a driver has to be installed
    }.items():
        os.environ.setdefault(name, value)
    # XLA chooses the tiles of Triton's products by timing them, which needs the GPU; without, some are refused.
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_enable_triton_gemm=false".strip()


def devices_of(name: str, slices: int = 1) -> list[jax.Device]:
    """The devices of a topology; several slices are several times the topology, joined by the data center's network.

    Raises:
      RequestError: there is no such topology, or its compiler is not installed; the message names the nearest one.
    """
    kind, _, size = _spelled_out(name).partition(":")
    if kind == "cpu" and size.isdecimal():
        require(slices == 1, f"--slices {slices}: expected a TPU topology, not {name}")
        return virtual_devices(int(size), f"--topology {name}")
    if kind in _GPUS and size.isdecimal():
        require(slices == 1, f"--slices {slices}: expected a TPU topology, not {name}; GPUs come on hosts of eight")
        return _gpus(name, kind, int(size))
    if kind in _PLANES + _CUBES and re.fullmatch(r"[1-9]\d*(x[1-9]\d*){1,2}", size):
        return _tpus(name, kind, tuple(map(int, size.split("x"))), slices)
    raise _no_such(name)


def virtual_devices(number: int, asked: str) -> list[jax.Device]:
    """CPU devices of this process; `asked` is the option that asks for them."""
    import jax

    require(1 <= number <= MOST_DEVICES, f"{asked}: expected 1 to {MOST_DEVICES:,} devices")
    with contextlib.suppress(RuntimeError):  # the devices of this process are already initialised
        jax.config.update("jax_num_cpu_devices", number)
    found = jax.devices("cpu")
    require(len(found) >= number, f"{asked}: this process has {len(found)} CPU devices already")
    return found[:number]


def _spelled_out(name: str) -> str:
    """A cloud's name as a topology: "v5p-16" as "v5p:2x2x2"."""
    kind, dash, count = name.lower().partition("-")
    if not dash or kind not in _CLOUD or not count.isdecimal():
        kind, colon, size = name.lower().partition(":")
        return f"{_CLOUD.get(kind, kind)}{colon}{size}"
    kind = _CLOUD[kind]
    chips = int(count) // (1 if kind in _PLANES else 2)  # others are counted in TensorCores
    if int(count) not in _cloud_sizes(kind).values():
        raise _no_such(name)
    return f"{kind}:{_shape(chips, 2 if kind in _PLANES else 3)}"


def _cloud_sizes(kind: str) -> dict[str, int]:
    """{topology: the number in its cloud name} of the slices of a kind."""
    axes, cores = (2, 1) if kind in _PLANES else (3, 2)
    least = 1 if kind in _PLANES else 4
    powers = (2**n for n in range(14))
    shapes = {_shape(n, axes): n * cores for n in powers if least <= n <= _LARGEST[kind]}
    shapes.pop("1x2", None)
    return shapes


def _shape(chips: int, axes: int) -> str:
    """The shape of a slice with a power of two of chips, as even as possible: 32 in three axes is 2x4x4."""
    power = chips.bit_length() - 1
    sides = [2 ** ((power + i) // axes) for i in range(axes)]
    return "x".join(map(str, sorted(sides, key=lambda side: (side == 1, side))))


def _no_such(name: str) -> RequestError:
    known = [f"{kind}:{shape}" for kind in _PLANES + _CUBES for shape in _cloud_sizes(kind)]
    known += [f"{gpu}:{number}" for gpu in _GPUS for number in (1, 8, 16, 64)]
    known += [f"{cloud}-{n}" for cloud, kind in _CLOUD.items() for n in _cloud_sizes(kind).values()] + ["cpu:8"]
    meant = likely(name.lower(), known)
    did = f"did you mean {meant}? " if meant else ""
    return RequestError(
        f"--topology {name}: no such topology; {did}expected one such as v5e:4x4, v5p-128, h100:8, cpu:8"
    )


def _tpus(name: str, kind: str, shape: tuple[int, ...], slices: int) -> list[jax.Device]:
    """The devices of TPU slices, as described by libtpu."""
    axes, example = (2, "4x4") if kind in _PLANES else (3, "2x2x2")
    require(len(shape) == axes, f"--topology {name}: expected {axes} axes, such as {kind}:{example}")
    most = 2 * MOST_DEVICES
    require(math.prod(shape) * slices <= most, f"--topology {name}: expected at most {most:,} chips")
    from jax.experimental import topologies

    from research.config.extras import from_extra

    from_extra("libtpu", "tpu", f"--topology {name}")
    options = {"num_slices": slices} if slices > 1 else {}
    if math.prod(shape) < 4:  # a part of a host
        options["chips_per_host_bounds"] = [*shape, 1, 1][:3]
    if kind == "v4":
        options["chip_config_name"] = "megacore"  # a device for a chip, as on the machines
    try:
        topology = f"{kind}:{'x'.join(map(str, shape))}"
        return list(topologies.get_topology_desc(platform="tpu", topology_name=topology, **options).devices)
    except Exception as error:  # libtpu raises errors of many types
        raise RequestError(f"--topology {name}: libtpu does not know such a slice ({one_line(error)})") from None


def _gpus(name: str, kind: str, number: int) -> list[jax.Device]:
    """GPUs as described to XLA's compiler, eight to a host."""
    from jax.experimental import topologies

    from research.config.extras import from_extra

    hosts = -(-number // _HOST_OF_GPUS)
    whole = 0 < number <= MOST_DEVICES and (number <= _HOST_OF_GPUS or number % _HOST_OF_GPUS == 0)
    require(whole, f"--topology {name}: expected 1 to 8 GPUs, or a multiple of 8")
    from_extra("jax_cuda13_plugin", "cuda13", f"--topology {name}")
    try:
        found = topologies.get_topology_desc(
            platform="cuda", target_config=_described(kind), topology=f"1x{hosts}x{number // hosts}"
        )
    except Exception as error:  # the plug-in raises errors of many types
        raise RequestError(f"--topology {name}: the CUDA plug-in does not compile for it ({one_line(error)})") from None
    return list(found.devices)


def _described(kind: str) -> str:
    """A GPU in the text form of XLA's GpuTargetConfigProto."""
    device, (major, minor), cores, clock, bandwidth, cache, memory = _GPUS[kind]
    return f"""
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048 block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535 block_dim_limit_z: 65535 shared_memory_per_block: 49152 shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448 registers_per_core_limit: 65536 registers_per_block_limit: 65536
  fpus_per_core: 128 core_count: {cores} clock_rate_ghz: {clock} memory_bandwidth: {bandwidth} l2_cache_size: {cache}
  device_memory_size: {memory} cuda_compute_capability {{ major: {major} minor: {minor} }}
}}
platform_name: "CUDA" device_description_str: "{device}"
dnn_version_info {{ major: 9 minor: 10 patch: 0 }} runtime_version {{ major: 13 minor: 0 patch: 0 }}
"""
