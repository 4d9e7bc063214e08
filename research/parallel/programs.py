"""The compiled programs of an experiment: its pure functions, mapped (`mapping.py`) and placed (`placement.py`)."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from research.data.feed import Feed, columns_of
from research.layers import kernels
from research.parallel.mapping import Arrays, Functions, State, evaluation_of, init_of, steps_of
from research.parallel.placement import Held, Placement, Sent

FUSED_STEPS = 64
"""Steps in one call that runs them in a loop on the device: enough to hide the overhead of a call."""


class Shapes(NamedTuple):
    """The shapes of the arrays that a step is sent, in the order of their names."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, sent: Sent) -> Shapes:
        names = tuple(sorted(sent))
        return cls(names, tuple(np.shape(sent[name]) for name in names))


@dataclasses.dataclass
class Compiled:
    """Compiled programs, and the number of steps in a call, which is decided once.

    Attributes:
      single: the shapes of a single trial's state, by the shapes of a step.
      init: initialise a single trial, by the shapes of a step; stacks use the same program, so that a trial starts
        alike in any stack.
      train: training programs, by the shapes of a step.
      evaluate: evaluation programs, by the key and the shapes of the state, the resident and the sent arrays.
      steps_per_call: steps in one call of training; None if not decided yet.
    """

    single: dict[Shapes, State] = dataclasses.field(default_factory=dict)
    init: dict[Shapes, jax.stages.Compiled] = dataclasses.field(default_factory=dict)
    train: dict[Shapes, jax.stages.Compiled] = dataclasses.field(default_factory=dict)
    evaluate: dict[Hashable, jax.stages.Compiled] = dataclasses.field(default_factory=dict)
    steps_per_call: int | None = None


class Programs:
    """Initialisation, training and evaluation, each compiled when it is first called.

    If the placement has trials, which train side by side, every array of the state, the metrics and the outputs has a
    trial axis; the data, which the trials share, have none.

    Args:
      functions: the functions to run.
      placement: where to run them.
      resident: the training data to keep on the device (`Feed.resident`).
      steps_per_call: steps in one call of training; None chooses by the data and the operations.
      like: programs of the same functions and data, whose compiled initialisation is reused.

    Attributes:
      kernels: the kernel chosen for each operation of training, and why, by operation.
      compiling_seconds: seconds spent on compiling training programs.
    """

    def __init__(
        self,
        functions: Functions,
        placement: Placement,
        resident: Mapping[str, Any],
        *,
        steps_per_call: int | None = None,
        like: Programs | None = None,
    ):
        self.functions = functions
        self.placement = placement
        self._held = Held() if like is None else like._held
        self.resident = placement.hold(dict(resident), self._held) if like is None else like.resident
        self.kernels: dict[str, str] = {}
        self.compiling_seconds = 0.0
        self._compiled = Compiled(steps_per_call=steps_per_call)
        if like is not None:
            self._compiled.single, self._compiled.init = like._compiled.single, like._compiled.init

    @property
    def trials(self) -> int | None:
        return self.placement.trials

    def on(self, resident: Mapping[str, Any], held: Held | None = None) -> Programs:
        """The same compiled programs on other data of the same shapes.

        Args:
          resident: the data to keep on the device.
          held: the arrays that are on the device already; the data are added to it.
        """
        other, held = copy.copy(self), Held() if held is None else held
        other.resident = self.placement.hold(dict(resident), held)
        other._held = held.copy()
        return other

    def hold(self, feed: Feed) -> dict[str, Any]:
        """The resident arrays of a feed, moved to the device only once."""
        return self.placement.hold(feed.resident, self._held)

    # -- initialisation ------------------------------------------------------------------------------------------------

    def init(self, seeds: Sequence[int], hparams: Sequence[Mapping[str, float]], sent: Sent) -> State:
        """The state before the first step, from each trial's seed and hparams.

        `sent` holds the arrays that one trial is sent for any step; only their shapes matter.  A trial that is given
        several times, the same objects, is initialised once.
        """
        sent, states = dict(sent), {}
        for seed, own in zip(seeds, hparams, strict=True):
            if (seed, id(own)) not in states:
                states[seed, id(own)] = self._initialised(jax.random.key(seed), _values(own), sent)
        return self.placement.place(
            self.placement.join([states[seed, id(own)] for seed, own in zip(seeds, hparams, strict=True)])
        )

    def shapes(self, hparams: Mapping[str, float], sent: Sent) -> State:
        """The shapes of the state before the first step, as `init` places it; nothing runs on the devices."""
        return self.placement.laid_out(self._single(jax.random.key(0), _values(hparams), dict(sent)))

    def compile_init(self, hparams: Mapping[str, float], sent: Sent) -> None:
        """Compiles the initialisation, for arrays of these shapes."""
        self._init_program(*self.placement.on_each((jax.random.key(0), _values(hparams))), dict(sent))

    def _initialised(self, key: jax.Array, values: Arrays, sent: Sent) -> State:
        """The state of a single trial before the first step."""
        key, values = self.placement.on_each((key, values))
        return self._init_program(key, values, sent)(key, values, self.resident, sent)

    def _init_program(self, key: jax.Array, values: Arrays, sent: Sent) -> jax.stages.Compiled:
        """The compiled initialisation of a single trial, for the shapes of a step."""
        shapes = Shapes.of(sent)
        if shapes not in self._compiled.init:
            # Initialisation runs once, so on a CPU it is compiled without optimisation, which would take longest.
            options = {"xla_backend_optimization_level": 0} if self.placement.platform == "cpu" else None
            shardings = self.placement.initial_shardings(self._single(key, values, sent))
            init = jax.jit(init_of(self.functions.init), out_shardings=shardings)
            lowered = init.lower(key, values, self.resident, sent)
            self._compiled.init[shapes] = lowered.compile(compiler_options=options)
        return self._compiled.init[shapes]

    def _single(self, key: jax.Array, values: Arrays, sent: Sent) -> State:
        """The shapes of a single trial's state before the first step."""
        shapes = Shapes.of(sent)
        if shapes not in self._compiled.single:
            traced = jax.eval_shape(init_of(self.functions.init), key, values, self.resident, sent)
            self._compiled.single[shapes] = traced
        return self._compiled.single[shapes]

    # -- training ------------------------------------------------------------------------------------------------------

    def train(self, state: State, steps: Sequence[Sent]) -> tuple[State, Arrays]:
        """Runs `len(steps)` training steps, at most `steps_per_call`; donates the given state.

        Args:
          state: as `init` and `train` return it.
          steps: the arrays that each step is sent, [(trials), batch, ...], all of the same shapes.

        Returns:
          The state after the steps, and metrics, each [steps, (trials)], with `steps` padded to `steps_per_call`.
        """
        program = self.train_program(state, steps[0])
        return program(state, self.resident, self._call_of(steps), np.int32(len(steps)))

    def train_program(self, state: State, sent: Sent) -> jax.stages.Compiled:
        """The compiled training program for the shapes of a step, which `state` and `sent` give.

        `state` may hold shapes instead of arrays; so may `sent`, if a call runs one step.
        """
        shapes = Shapes.of(sent)
        if shapes not in self._compiled.train:
            started, capacity = time.perf_counter(), self.steps_per_call(state, sent)
            mapped = self.placement.over_devices(lambda axis_name: self._steps(axis_name, capacity), state)
            platform = self.placement.platform
            with (
                kernels.targeting(platform),
                kernels.recording() as self.kernels,
                self.placement.tracing(),
            ):
                lowered = mapped.lower(state, self.resident, self._call_of([sent]), np.int32(1))
                options = kernels.compiler_options(platform, self.kernels)
                for name, value in options.items():
                    kernels.note(name, value)
            self._compiled.train[shapes] = lowered.compile(compiler_options=options)
            self.compiling_seconds += time.perf_counter() - started
        return self._compiled.train[shapes]

    def train_memory(self, state: State, sent: Sent) -> int:
        """Bytes that the training program needs on a device, without the resident data."""
        return _memory(self.train_program(state, sent), self.resident)

    def steps_per_call(self, state: State, sent: Sent) -> int:
        """The maximum number of steps in one call of `train`."""
        if self._compiled.steps_per_call is None:
            self._compiled.steps_per_call = self._default_steps_per_call(state, sent)
        return self._compiled.steps_per_call

    def _default_steps_per_call(self, state: State, sent: Sent) -> int:
        if not columns_of(self.resident) or sent.keys() - {"index", "weight"}:
            return 1
        platform, separate = self.placement.platform, kernels.Need.SEPARATE_STEPS
        if kernels.can_need(platform, separate):
            whole = jax.eval_shape(self.placement.whole, state)
            with kernels.targeting(platform), kernels.recording() as record:
                traced = jax.make_jaxpr(self._steps(None, 1))(whole, self.resident, dict(sent), 1)
            if separate in kernels.needs(platform, record, traced.jaxpr):
                return 1
        return FUSED_STEPS

    def _call_of(self, steps: Sequence[Sent]) -> dict[str, Any]:
        """Places the arrays that one call is sent; stacked over steps and padded if a call runs several steps."""
        capacity = self._compiled.steps_per_call
        if capacity == 1:
            return self.placement.put(steps[0])
        padded = [*steps, *[steps[-1]] * (capacity - len(steps))]
        stacked = {name: np.stack([sent[name] for sent in padded]) for name in steps[0]}
        return self.placement.put(stacked, stacked_steps=True)

    def _steps(self, axis_name: str | None, capacity: int) -> Callable:
        return steps_of(self.functions.train(axis_name), trials=self.trials is not None, capacity=capacity)

    # -- evaluation ----------------------------------------------------------------------------------------------------

    def evaluate(self, key: Hashable, state: State, resident: Mapping[str, Any], sent: Sent) -> Arrays:
        """Starts the evaluation of one batch by every trial; `placement.fetch` copies the outputs to the host.

        Args:
          key: the argument of `functions.evaluate`; equal keys share a compiled program.
          state: as `init` and `train` return it.
          resident: the feed's resident arrays, as `hold` returns them.
          sent: the arrays for this batch, [batch, ...].

        Returns:
          Outputs, [(trials), batch, ...], which may still be pending on the devices.
        """
        arguments = state, dict(resident), self.placement.put_for_all(sent)
        return self._evaluate_program(key, *arguments)(*arguments)

    def evaluate_memory(self, key: Hashable, state: State, resident: Mapping[str, Any], sent: Sent) -> int:
        """Bytes that the evaluation of a batch needs on a device, without the resident data."""
        program = self._evaluate_program(key, state, dict(resident), self.placement.put_for_all(sent))
        return _memory(program, resident)

    def _evaluate_program(self, key: Hashable, *arguments: Any) -> jax.stages.Compiled:
        leaves, structure = jax.tree.flatten(arguments)
        layout = key, structure, *((x.shape, x.dtype, x.sharding) for x in leaves)
        if layout not in self._compiled.evaluate:
            step, trials = self.functions.evaluate(key), self.trials is not None
            evaluate = evaluation_of(step, trials=trials, whole=self.placement.whole)
            with self.placement.tracing():
                lowered = jax.jit(evaluate).lower(*arguments)
            self._compiled.evaluate[layout] = lowered.compile()
        return self._compiled.evaluate[layout]


def _values(hparams: Mapping[str, float]) -> dict[str, jax.Array]:
    """Hparams as the arrays that programs take."""
    return {path: jnp.asarray(x, jnp.result_type(float)) for path, x in hparams.items()}


def _memory(program: jax.stages.Compiled, resident: Any) -> int:
    analysis = program.memory_analysis()
    needed = analysis.argument_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    needed += analysis.temp_size_in_bytes - sum(x.nbytes for x in jax.tree.leaves(dict(resident)))
    return max(0, int(needed))
