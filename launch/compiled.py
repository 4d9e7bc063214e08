"""A training step compiled for some devices, from shapes alone."""

from __future__ import annotations

import dataclasses
import math
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from research import paths
from research.data.feed import SHARED, columns_of
from research.data.source import first_example, shared
from research.errors import RequestError, in_one_line, one_line
from research.experiment import Experiment
from research.layers import kernels
from research.parallel.chips import Chip, chip_of
from research.parallel.placement import Placement
from research.training.abstract import abstract_state
from research.training.programs import make_programs, placement_of
from research.training.step import make_train_step


class Memory(NamedTuple):
    """Bytes on a device: of state and batch, and of temporaries."""

    kept: float
    temporaries: float

    @property
    def total(self) -> float:
        return self.kept + self.temporaries


class Known(NamedTuple):
    """An experiment of which the shapes of the data are known.

    Attributes:
      experiment: resolved, as far as its data are at hand.
      example: an example of the data, or arrays of its shapes.
    """

    experiment: Experiment
    example: Mapping[str, Any]


@dataclasses.dataclass
class Compiled:
    """A compiled step, or the compiler's refusal.

    Attributes:
      given: what was asked for.
      experiment: the experiment as it was compiled.
      placement: how its arrays lie on the devices.
      state, batch: shapes.
      kernels: the kernel chosen for each operation.
      chip: the figures of the devices, if they are published.
      program: None if the compiler refuses it for its memory.
      refusal: the compiler's line.
      memory: on each device; None if the compiler does not say.
      seconds: for compiling.
    """

    given: Known
    experiment: Experiment
    placement: Placement
    state: Any
    batch: Mapping[str, Any]
    kernels: Mapping[str, str]
    chip: Chip | None
    program: jax.stages.Compiled | None
    refusal: str | None
    memory: Memory | None
    seconds: float

    @property
    def fits(self) -> bool | None:
        """None if the memory of the devices is not known."""
        if self.program is None:
            return False
        if self.chip is None or self.placement.platform == "tpu":  # whose compiler refuses larger programs
            return None if self.chip is None else True
        return self.memory.total <= self.chip.memory

    @property
    def parameters(self) -> int:
        return sum(math.prod(x.shape) for x in paths.flatten(self.state.params).values())


def known(experiment: Experiment) -> Known:
    """Takes the shapes of the data from the data spec if it knows them, or else from the data."""
    example = experiment.data.example()
    if example is not None:
        return Known(experiment, example)
    splits = experiment.load()
    return Known(experiment.fit(splits), first_example(splits.train) | {SHARED: shared(splits.train)})


def compile_step(given: Known, devices: Sequence[jax.Device]) -> Compiled:
    """Compiles the training step of an experiment for some devices.

    Raises:
      RequestError: the experiment does not fit together, its layout does not suit the devices, or the compiler fails.
    """
    one_step = dataclasses.replace(given.experiment.parallel, steps_per_call=1)  # a pod's batches are transferred
    experiment = dataclasses.replace(given.experiment, parallel=one_step)
    placement = placement_of(experiment, devices=devices)
    batch, resident = _shapes(given.example, experiment.batch_size)
    programs = make_programs(experiment, resident, devices=devices)
    with kernels.targeting(placement.platform):
        state = _laid_out(experiment, placement, batch | resident)
    started = time.perf_counter()
    program = refusal = memory = None
    try:
        program = programs.train_program(state, batch)
    except jax.errors.JaxRuntimeError as error:
        refusal = one_line(error)
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise RequestError(f"the compiler for {devices[0].device_kind} fails: {refusal:.300}") from None
        memory = _refused(str(error), _bytes_on_a_device(state))
    else:
        found = program.memory_analysis()
        kept = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
        memory = Memory(kept, found.temp_size_in_bytes)
    return Compiled(
        given=given,
        experiment=experiment,
        placement=placement,
        state=state,
        batch=batch | resident,
        kernels=programs.kernels,
        chip=chip_of(devices[0].device_kind),
        program=program,
        refusal=refusal,
        memory=memory,
        seconds=time.perf_counter() - started,
    )


def _shapes(example: Mapping[str, Any], batch_size: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The shapes of a batch, and of resident data."""
    batch = {"weight": np.float32(1)} | columns_of(example)
    shapes = {name: jax.ShapeDtypeStruct((batch_size, *x.shape), x.dtype) for name, x in batch.items()}
    common = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in example.get(SHARED, {}).items()}
    return shapes, {SHARED: common} if common else {}


def _laid_out(experiment: Experiment, placement: Placement, batch: dict[str, Any]) -> Any:
    """The shapes of the state with their placement on devices."""
    with in_one_line("model, task and data do not fit together: "):
        state = abstract_state(experiment, batch)
        jax.eval_shape(make_train_step(experiment), state, batch)
    experiment.optimizer.check_paths(state.params)
    paths.check_patterns("parallel.rules", [pattern for pattern, _ in experiment.parallel.rules], state.params)

    def placed(x: Any, sharding: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    return jax.tree.map(placed, state, placement.state_shardings(state))


def _bytes_on_a_device(state: Any) -> int:
    """Bytes of a device's part of the state; keys, which are small, do not count."""
    arrays = [x for x in jax.tree.leaves(state) if not jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)]
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in arrays)


def _refused(message: str, state: int) -> Memory | None:
    """The memory in the compiler's refusal: of the whole program ("Used 20G of 16G"), or of temporaries ("(20G)")."""
    units = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
    if whole := re.search(r"Used ([\d.]+)([KMGT]) of", message):
        return Memory(state, max(0.0, float(whole[1]) * units[whole[2]] - state))
    if temporary := re.search(r"\(([\d.]+)([KMGT])\) exceeds", message):
        return Memory(state, float(temporary[1]) * units[temporary[2]])
    return None
