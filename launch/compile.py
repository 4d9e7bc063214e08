"""`launch compile`: compiles the step that users run for other devices, from shapes alone.

JAX reads the environment when it is imported, so this module sets the environment first.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from research.console import say
from research.errors import RequestError, in_one_line, one_line, require

if TYPE_CHECKING:
    import jax

    from research.experiment import Experiment
    from research.parallel.placement import Placement

MOST_DEVICES = 10_000
"""The maximum number of virtual devices; more would take minutes and memory to make."""


def compile_experiment(
    experiment: str, *, settings: Sequence[str] = (), topology: str | None = None, devices: int | None = None
) -> int:
    """Compiles the train step of an experiment and prints its requirements per device.

    Args:
      experiment, settings: as for `launch run`.
      topology: a TPU slice, "v5e:4x4".
      devices: the number of virtual CPU devices; without either, the devices of this machine.

    Returns:
      The exit status: 0 if it fits, 1 if the compiler reports that it does not.

    Raises:
      RequestError: the request is wrong, or no compiler for that topology is installed.
    """
    if topology is not None or devices is not None:
        os.environ.setdefault("JAX_PLATFORMS", "cpu")  # anything that runs here runs on the CPU
    found = _devices(topology, devices)

    from launch.request import read_request

    return _compile(read_request(experiment, settings=settings).trials[0].experiment, found)


def _devices(topology: str | None, number: int | None) -> list:
    """The devices to compile for."""
    if topology is not None:
        return _topology(topology)
    import jax

    if number is None:
        return jax.devices()
    require(number <= MOST_DEVICES, f"--devices {number}: expected at most {MOST_DEVICES:,}")
    with contextlib.suppress(RuntimeError):  # the devices of this process are already initialised
        jax.config.update("jax_num_cpu_devices", number)
    found = jax.devices("cpu")
    require(len(found) >= number, f"--devices {number}: this process has {len(found)} CPU devices already")
    return found[:number]


def _topology(name: str) -> list:
    """The devices of a TPU slice such as v5e:4x4, as described by libtpu; none needs to be attached."""
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # do not query a cloud's metadata server
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_MIN_LOG_LEVEL", "3")
    from jax.experimental import topologies

    from research.config.extras import from_extra

    from_extra("libtpu", "tpu", f"--topology {name}")
    try:
        return list(topologies.get_topology_desc(platform="tpu", topology_name=name).devices)
    except Exception as error:  # libtpu raises errors of many types
        said = f"--topology {name}: expected a TPU slice, such as v5e:4x4 or v4:2x2x1"
        raise RequestError(f"{said} ({one_line(error)})") from None


def _compile(experiment: Experiment, devices: list) -> int:
    import jax

    from research import paths
    from research.layers import kernels
    from research.training.programs import make_programs, placement_of

    placement = placement_of(experiment, devices=devices)  # before any data are read
    experiment, batch, resident = _from_shapes(experiment)
    programs = make_programs(experiment, resident, devices=devices)
    with kernels.targeting(placement.platform):
        state = _laid_out(experiment, placement, batch | resident)
    started = time.perf_counter()
    try:
        program = programs.train_program(state, batch)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        say(f"does not fit: {one_line(error)}")
        return 1
    sizes = [math.prod(x.shape) for x in paths.flatten(state.params).values()]
    memory, cost = program.memory_analysis(), program.cost_analysis() or {}
    kept = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    mesh = " x ".join(f"{axis} {size}" for axis, size in placement.mesh.shape.items())
    lines = {
        "devices": f"{placement.mesh.size} x {devices[0].device_kind} (mesh: {mesh})",
        "parameters": f"{sum(sizes):,}",
        "batch": f"{experiment.batch_size:,} examples, {experiment.batch_size / placement.shards:,.6g} per device",
        "memory": f"{_gibibytes(kept + memory.temp_size_in_bytes)} per device: {_gibibytes(kept)} of state and batch, "
        f"{_gibibytes(memory.temp_size_in_bytes)} of temporaries",
        "FLOPs": f"{cost.get('flops', float('nan')):.4g} per device and step",
        "kernels": ", ".join(f"{name}: {kernel}" for name, kernel in programs.kernels.items()) or "none to choose",
        "compiled in": f"{time.perf_counter() - started:.1f} s",
    }
    if devices[0].platform == "tpu":  # its compiler knows the memory and rejects larger programs
        lines["fits"] = "yes"
    for name, said in lines.items():
        say(f"{name + ':':13}{said}")
    return 0


def _from_shapes(experiment: Experiment) -> tuple[Experiment, dict[str, Any], dict[str, Any]]:
    """Returns the experiment and the shapes of a batch and of resident data.

    Takes the shapes from the data spec if it knows them, or else from the data.
    """
    import jax
    import numpy as np

    from research.data.feed import SHARED, columns_of
    from research.data.source import first_example, shared

    example = experiment.data.example()
    if example is None:
        splits = experiment.load()
        experiment, example = experiment.fit(splits), first_example(splits.train) | {SHARED: shared(splits.train)}
    one_step = dataclasses.replace(experiment.parallel, steps_per_call=1)  # a pod's batches are transferred
    batch = {"weight": np.float32(1)} | columns_of(example)
    shapes = {name: jax.ShapeDtypeStruct((experiment.batch_size, *x.shape), x.dtype) for name, x in batch.items()}
    common = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in example.get(SHARED, {}).items()}
    resident = {SHARED: common} if common else {}
    return dataclasses.replace(experiment, parallel=one_step), shapes, resident


def _laid_out(experiment: Experiment, placement: Placement, batch: dict[str, Any]) -> Any:
    """The shapes of the state with their placement on devices."""
    import jax

    from research.training.abstract import abstract_state
    from research.training.step import make_train_step

    with in_one_line("model, task and data do not fit together: "):
        state = abstract_state(experiment, batch)
        jax.eval_shape(make_train_step(experiment), state, batch)
    experiment.optimizer.check_paths(state.params)

    def placed(x: Any, sharding: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    return jax.tree.map(placed, state, placement.state_shardings(state))


def _gibibytes(size: float) -> str:
    return f"{size / 2**30:,.2f} GiB"
