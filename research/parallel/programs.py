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
"""Steps in one call where they run in one loop on the device: enough to hide the cost of a call."""


class Shapes(NamedTuple):
    """The shapes of what a step is sent, in order of the names."""

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
      init: of one trial by itself: the same program however many train together, so that all start alike.
      train: by the shapes of a step.
      evaluate: by the key, and the shapes of the state, of what is resident and of what is sent.
      steps_per_call: of training.
    """

    init: Callable | None = None
    train: dict[Shapes, jax.stages.Compiled] = dataclasses.field(default_factory=dict)
    evaluate: dict[Hashable, jax.stages.Compiled] = dataclasses.field(default_factory=dict)
    steps_per_call: int | None = None


class Programs:
    """Initialisation, training and evaluation, compiled when first called.

    With trials in the placement, every array of the state, of the metrics and of the outputs has a leading axis of that
    many trials, which train side by side; what they share (the data) has none.

    Args:
      functions: what to run.
      placement: where.
      resident: what of the training data is to live on the device (`Feed.resident`).
      steps_per_call: steps in one call of training; None leaves it to the data and the operations.
      like: programs of the same functions and data, whose initialisation is used again.

    Attributes:
      kernels: what the operations of training were traced into, and why, by operation.
      compiling_seconds: spent on compiling the training program.
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
        self._compiled = Compiled(init=like._compiled.init if like else None, steps_per_call=steps_per_call)

    @property
    def trials(self) -> int | None:
        return self.placement.trials

    def on(self, resident: Mapping[str, Any], held: Held | None = None) -> Programs:
        """The same compiled programs on other data of the same shapes.

        Args:
          resident: what of these data is to live on the device.
          held: what is there already; these data are added to it.
        """
        other, held = copy.copy(self), Held() if held is None else held
        other.resident = self.placement.hold(dict(resident), held)
        other._held = held.copy()
        return other

    def hold(self, feed: Feed) -> dict[str, Any]:
        """What of a feed is to live on the device, put there once."""
        return self.placement.hold(feed.resident, self._held)

    # -- initialisation ------------------------------------------------------------------------------------------------

    def init(self, seeds: Sequence[int], hparams: Sequence[Mapping[str, float]], sent: Sent) -> State:
        """The state before the first step, of one trial or of several; `sent` is what any step of one is sent."""
        sent = dict(sent)
        keys = [jax.random.key(seed) for seed in seeds]
        values = [{path: jnp.asarray(x, jnp.result_type(float)) for path, x in own.items()} for own in hparams]
        if self._compiled.init is None:
            init = init_of(self.functions.init)
            shapes = jax.eval_shape(init, keys[0], values[0], self.resident, sent)
            # It runs once: on a CPU, where optimising takes most of the time, it is compiled without.
            options = {"xla_backend_optimization_level": 0} if self.placement.platform == "cpu" else None
            shardings = self.placement.initial_shardings(shapes)
            self._compiled.init = jax.jit(init, out_shardings=shardings, compiler_options=options)
        states = [self._compiled.init(key, own, self.resident, sent) for key, own in zip(keys, values, strict=True)]
        return self.placement.place(self.placement.join(states))

    # -- training ------------------------------------------------------------------------------------------------------

    def train(self, state: State, steps: Sequence[Sent]) -> tuple[State, Arrays]:
        """`len(steps)` steps, at most `steps_per_call`; the state given is used up.

        Args:
          state: as `init` and `train` return it.
          steps: what each is sent, all of the same shapes; with trials, arrays have their leading axis.

        Returns:
          The state after them, and metrics, each [steps, (trials)], with `steps` padded to `steps_per_call`.
        """
        program = self.train_program(state, steps[0])
        return program(state, self.resident, self._call_of(steps), np.int32(len(steps)))

    def train_program(self, state: State, sent: Sent) -> jax.stages.Compiled:
        """The compiled training program of a step's shapes; `state` and `sent` give those, and may be shapes only.

        Shapes of what is sent are for programs of one step a call.
        """
        shapes = Shapes.of(sent)
        if shapes not in self._compiled.train:
            started, capacity = time.perf_counter(), self.steps_per_call(state, sent)
            mapped = self.placement.over_devices(lambda axis_name: self._steps(axis_name, capacity), state)
            platform = self.placement.platform
            with kernels.targeting(platform), kernels.recording() as self.kernels:
                lowered = mapped.lower(state, self.resident, self._call_of([sent]), np.int32(1))
                options = kernels.compiler_options(platform, self.kernels)
                for name, value in options.items():
                    kernels.note(name, value)
            self._compiled.train[shapes] = lowered.compile(compiler_options=options)
            self.compiling_seconds += time.perf_counter() - started
        return self._compiled.train[shapes]

    def train_memory(self, state: State, sent: Sent) -> int:
        """Bytes that the training program needs on a device, the resident data apart."""
        return _memory(self.train_program(state, sent), self.resident)

    def steps_per_call(self, state: State, sent: Sent) -> int:
        """How many steps one call of `train` can take."""
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
        """What one call is sent, on its devices: stacked and padded where a call takes several steps."""
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
        """Starts the evaluation of a batch, the same for every trial; fetch the outputs through the placement.

        Args:
          key: for `functions.evaluate`; equal ones share a compiled program.
          state: as `init` and `train` return it.
          resident: what `hold` gives of the feed.
          sent: for this batch, [batch, ...].

        Returns:
          Outputs, [(trials), batch, ...], which the devices may still be busy with.
        """
        arguments = state, dict(resident), self.placement.put_for_all(sent)
        return self._evaluate_program(key, *arguments)(*arguments)

    def evaluate_memory(self, key: Hashable, state: State, resident: Mapping[str, Any], sent: Sent) -> int:
        """Bytes that the evaluation of a batch needs on a device, the resident data apart."""
        program = self._evaluate_program(key, state, dict(resident), self.placement.put_for_all(sent))
        return _memory(program, resident)

    def _evaluate_program(self, key: Hashable, *arguments: Any) -> jax.stages.Compiled:
        leaves, structure = jax.tree.flatten(arguments)
        layout = key, structure, *((x.shape, x.dtype, x.sharding) for x in leaves)
        if layout not in self._compiled.evaluate:
            step, trials = self.functions.evaluate(key), self.trials is not None
            evaluate = evaluation_of(step, trials=trials, whole=self.placement.whole)
            self._compiled.evaluate[layout] = jax.jit(evaluate).lower(*arguments).compile()
        return self._compiled.evaluate[layout]


def _memory(program: jax.stages.Compiled, resident: Any) -> int:
    analysis = program.memory_analysis()
    needed = analysis.argument_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    needed += analysis.temp_size_in_bytes - sum(x.nbytes for x in jax.tree.leaves(dict(resident)))
    return max(0, int(needed))
