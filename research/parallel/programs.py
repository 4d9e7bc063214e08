"""Where a step runs: jit over a mesh, pmap over devices, vmap over trials, a loop over steps.

The step of `research/training/step.py` is mapped, never changed.  From the inside out: gather the batch, one step;
`vmap` over trials; a loop over the steps of one call; `jit` or `pmap` over devices.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from research.data.feed import Feed, take
from research.data.windows import Windows
from research.errors import RequestError
from research.layers import kernels
from research.parallel.spec import DATA
from research.paths import map_with_path, matches
from research.training.state import TrainState, stack
from research.training.step import make_eval_step, make_init, make_train_step

if TYPE_CHECKING:
    from research.experiment import Experiment

FUSED_STEPS = 64
"""Steps in one call where they run in one loop on the device: enough to hide the cost of a call."""

Fed = Mapping[str, np.ndarray]
"""The arrays that travel to the device for one step: see `research/data/feed.py`."""

# A column of windows goes into programs as its values.
jax.tree_util.register_dataclass(Windows, data_fields=["values"], meta_fields=["length", "stride"])


class Programs:
    """The compiled programs of one experiment: initialisation, training, evaluation.

    With `trials`, every array of the state, of the metrics and of the outputs has a leading axis of that many trials,
    which train side by side; what they share (the data) has none.

    Args:
      experiment: resolved; hparams and seed are those of the state.
      resident: columns that live on the device, by name; {} where batches travel.
      trials: size of the trial axis; None for a trial by itself, without the axis.
      like: programs of the same experiment and data, whose initialisation is used again.
      devices: to compile for; None are those of this job.
    """

    def __init__(
        self,
        experiment: Experiment,
        resident: Mapping[str, Any],
        *,
        trials: int | None = None,
        like: Programs | None = None,
        devices: Sequence[jax.Device] | None = None,
    ):
        self.experiment = experiment
        self.trials = trials
        self.kernels: dict[str, str] = {}
        self.compiling_seconds = 0.0
        self.mesh = experiment.parallel.make_mesh(devices)
        self.shards = self.mesh.shape[DATA]
        self.pmapped = experiment.parallel.strategy == "pmap"
        stacked_over_devices = trials is not None and not self.pmapped and trials % self.shards == 0
        self._trial_axis = DATA if stacked_over_devices and self.shards > 1 else None
        self._batch_axis = DATA if self._trial_axis is None else None
        if self._batch_axis and experiment.batch_size // experiment.accumulation % self.shards:
            raise RequestError(
                f"batch_size={experiment.batch_size} in {experiment.accumulation} micro-batches does not divide over "
                f"{self.shards} devices; expected a multiple of {self.shards * experiment.accumulation}"
            )
        self.resident = like.resident if like is not None else jax.device_put(dict(resident), self._sharding())
        self._calls: dict[Any, Any] = {"init": like._calls["init"]} if like is not None else {}
        self._held: dict[int, tuple[Feed, dict[str, jax.Array]]] = {}

    def on(self, resident: Mapping[str, Any]) -> Programs:
        """The same compiled programs on other data of the same shapes."""
        other = copy.copy(self)
        other.resident, other._held = jax.device_put(dict(resident), self._sharding()), {}
        return other

    # -- programs ------------------------------------------------------------------------------------------------------

    def init(self, seeds: Sequence[int], hparams: Sequence[Mapping[str, float]], fed: Fed) -> TrainState:
        """The state before the first step, of one trial or of `trials` of them; `fed` is any step's feed of one."""
        fed = dict(fed)
        keys = [jax.random.key(seed) for seed in seeds]
        values = [{path: jnp.asarray(x, jnp.result_type(float)) for path, x in own.items()} for own in hparams]
        program = self._init_program(keys[0], values[0], fed)
        states = [program(key, own, self.resident, fed) for key, own in zip(keys, values, strict=True)]
        return self.place(states[0] if self.trials is None else stack(states))

    def _init_program(self, key: jax.Array, values: dict[str, jax.Array], fed: dict[str, Any]) -> Callable:
        """Initialises one trial: the same program however many train together, so that all start alike."""
        make = make_init(self.experiment)

        def init(key: jax.Array, values: dict[str, jax.Array], resident: Any, fed: Any) -> TrainState:
            return make(key, take(resident, fed), values)

        if "init" not in self._calls:
            shardings = None
            if self.trials is None and not self.pmapped:
                shardings = self.state_shardings(jax.eval_shape(init, key, values, self.resident, fed))
            # It runs once: on a CPU, where optimising takes most of the time, it is compiled without.
            platform = self.mesh.devices.flat[0].platform
            options = {"xla_backend_optimization_level": 0} if platform == "cpu" else None
            self._calls["init"] = jax.jit(init, out_shardings=shardings, compiler_options=options)
        return self._calls["init"]

    def train(self, state: TrainState, feeds: Sequence[Fed]) -> tuple[TrainState, dict[str, jax.Array]]:
        """`len(feeds)` steps, at most `steps_per_call`; the state given is used up.

        Args:
          feeds: of each step, all of the same shapes; with `trials`, arrays have the trials' leading axis.

        Returns:
          The state after them, and metrics, each [steps, (trials)], with `steps` padded to `steps_per_call`.
        """
        program = self.train_program(state, feeds[0])
        return program(state, self.resident, self._call_of(feeds), np.int32(len(feeds)))

    def train_program(self, state: TrainState, fed: Fed) -> jax.stages.Compiled:
        """The compiled training program of a feed's shapes; `state` and `fed` give those, and may be shapes only.

        Shapes of a feed are for programs of one step a call.
        """
        call = ("train", *sorted((name, np.shape(x)) for name, x in fed.items()))
        if call not in self._calls:
            started, capacity = time.perf_counter(), self.steps_per_call(state, fed)
            if self.pmapped:
                mapped = jax.pmap(
                    self._steps(DATA, capacity),
                    axis_name=DATA,
                    in_axes=(0, None, 0, None),
                    out_axes=(0, None),
                    donate_argnums=0,
                    devices=list(self.mesh.devices.flat),
                )
            else:
                shardings = self.state_shardings(state)
                mapped = jax.jit(
                    self._steps(None, capacity), donate_argnums=0, out_shardings=(shardings, self._sharding())
                )
            platform = self.mesh.devices.flat[0].platform
            with kernels.targeting(platform), kernels.recording() as self.kernels:
                lowered = mapped.lower(state, self.resident, self._call_of([fed]), np.int32(1))
                options = kernels.compiler_options(platform, self.kernels)
                for name, value in options.items():
                    kernels.note(name, value)
            self._calls[call] = lowered.compile(compiler_options=options)
            self.compiling_seconds += time.perf_counter() - started
        return self._calls[call]

    def train_memory(self, state: TrainState, fed: Fed) -> int:
        """Bytes that the training program needs on a device, the resident data apart."""
        analysis = self.train_program(state, fed).memory_analysis()
        resident = sum(x.nbytes for x in self.resident.values())
        needed = analysis.argument_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes
        return max(0, int(needed + analysis.temp_size_in_bytes - resident))

    def _call_of(self, feeds: Sequence[Fed]) -> dict[str, jax.Array]:
        """The feeds of one call, on their devices: stacked and padded where a call takes several steps."""
        capacity = self._calls["steps_per_call"]
        if capacity == 1:
            return self._put(feeds[0], 0)
        padded = [*feeds, *[feeds[-1]] * (capacity - len(feeds))]
        return self._put({name: np.stack([fed[name] for fed in padded]) for name in feeds[0]}, 1)

    def evaluate(self, state: TrainState, resident: Mapping[str, Any], fed: Fed) -> dict[str, np.ndarray]:
        """The task's outputs for a batch, [(trials), batch, ...]; the batch is the same for every trial."""
        step, trials = make_eval_step(self.experiment), self.trials  # not self: the program outlives what is held

        def evaluate(state: TrainState, resident: Any, fed: Any) -> dict[str, jax.Array]:
            batch = take(resident, fed)
            one = lambda state: step(state, batch)  # noqa: E731
            return one(state) if trials is None else jax.vmap(one)(state)

        if "evaluate" not in self._calls:
            self._calls["evaluate"] = jax.jit(evaluate)
        state = self.fetch(state) if self.pmapped else state
        sharding = self._sharding(self._batch_axis if not self.pmapped else None)
        placed = {name: jax.device_put(x, sharding) for name, x in fed.items()}
        return jax.device_get(self._calls["evaluate"](state, dict(resident), placed))

    def hold(self, feed: Feed) -> dict[str, jax.Array]:
        """The resident columns of a feed, put on the devices once."""
        if id(feed) not in self._held:
            self._held[id(feed)] = (feed, jax.device_put(feed.resident, self._sharding()))
        return self._held[id(feed)][1]

    def steps_per_call(self, state: TrainState, fed: Fed) -> int:
        """How many steps one call of `train` can take."""
        asked = self.experiment.parallel.steps_per_call
        if "steps_per_call" not in self._calls:
            self._calls["steps_per_call"] = asked or self._default_steps_per_call(state, fed)
        return self._calls["steps_per_call"]

    def _default_steps_per_call(self, state: TrainState, fed: Fed) -> int:
        if not self.resident or fed.keys() - {"index", "weight"}:
            return 1
        if self.mesh.devices.flat[0].platform == "cpu":
            one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), self._unmapped(state))
            shapes = {name: jax.ShapeDtypeStruct(np.shape(x), np.asarray(x).dtype) for name, x in fed.items()}
            if "conv_general_dilated" in str(jax.make_jaxpr(self._steps(None, 1))(one, self.resident, shapes, 1)):
                return 1
        return FUSED_STEPS

    def _steps(self, axis_name: str | None, capacity: int) -> Callable:
        """(state, resident, fed, steps) -> (state, metrics): the step, vmapped over trials, looped over steps."""
        step = make_train_step(self.experiment, axis_name=axis_name)

        def fed_step(state: TrainState, resident: Any, fed: Any) -> tuple[TrainState, dict[str, jax.Array]]:
            return step(state, take(resident, fed))

        mapped = fed_step if self.trials is None else jax.vmap(fed_step, in_axes=(0, None, 0))

        def train_steps(state: TrainState, resident: Any, fed: Any, steps: jax.Array) -> Any:
            if capacity == 1:
                state, metrics = mapped(state, resident, fed)
                return state, jax.tree.map(lambda x: x[None], metrics)

            def body(i: jax.Array, carry: Any) -> Any:
                state, history = carry
                state, metrics = mapped(state, resident, jax.tree.map(lambda x: x[i], fed))
                return state, jax.tree.map(lambda past, x: past.at[i].set(x), history, metrics)

            shapes = jax.eval_shape(mapped, state, resident, jax.tree.map(lambda x: x[0], fed))[1]
            history = jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape), x.dtype), shapes)
            return jax.lax.fori_loop(0, steps, body, (state, history))

        return train_steps

    # -- placement -----------------------------------------------------------------------------------------------------

    def _sharding(self, *axes: str | None) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec(*axes))

    def _put(self, fed: Fed, leading: int) -> dict[str, jax.Array]:
        """Feeds on their devices; `leading` counts the axes of steps before those of trials and examples."""
        if self.pmapped:
            axis = leading + (self.trials is not None)
            return {name: _split_axis(x, axis, self.shards) for name, x in fed.items()}
        trial = () if self.trials is None else (self._trial_axis,)
        sharding = self._sharding(*(None,) * leading, *trial, self._batch_axis)

        def put(x: Any) -> Any:
            if isinstance(x, jax.ShapeDtypeStruct):
                return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
            return jax.device_put(x, sharding)

        return {name: put(x) for name, x in fed.items()}

    def state_shardings(self, state: TrainState) -> TrainState:
        """The sharding of every array of the state, by the experiment's rules."""
        lead = () if self.trials is None else (self._trial_axis,)

        def sharding(name: str, x: Any) -> NamedSharding:
            ndim = x.ndim - len(lead)
            for pattern, axes in self.experiment.parallel.rules:
                # The optimizer's state repeats a parameter's path behind its own; factored moments have fewer axes.
                if ndim >= len(axes) > 0 and (matches(name, pattern) or matches(name, f"*/{pattern}")):
                    self._check_divides(name, x.shape[len(lead) :], axes)
                    return self._sharding(*lead, *axes)
            return self._sharding(*lead)

        return map_with_path(sharding, state)

    def _check_divides(self, name: str, shape: tuple[int, ...], axes: Sequence[str | None]) -> None:
        for size, axis in zip(shape, axes, strict=False):
            if axis is not None and size % self.mesh.shape[axis]:
                devices = self.mesh.shape[axis]
                raise RequestError(f"parallel.rules: {name} {shape} does not divide over the {devices} of {axis!r}")

    def _unmapped(self, state: TrainState) -> TrainState:
        return jax.tree.map(lambda x: x[0], state) if self.pmapped else state

    def place(self, state: TrainState) -> TrainState:
        """A state of whole arrays, on its devices."""
        if self.pmapped:
            sharding = self._sharding(DATA)
            return jax.tree.map(lambda x: jax.device_put(jnp.broadcast_to(x, (self.shards, *x.shape)), sharding), state)
        return jax.device_put(state, self.state_shardings(state))

    def fetch(self, state: TrainState) -> TrainState:
        """A state of whole arrays, without the axis of devices that pmap adds."""
        return self._unmapped(state)


def _split_axis(x: np.ndarray, axis: int, parts: int) -> np.ndarray:
    """[..., batch, ...] → [parts, ..., batch / parts, ...]: each device's share in front."""
    shape = (*x.shape[:axis], parts, x.shape[axis] // parts, *x.shape[axis + 1 :])
    return np.moveaxis(np.reshape(x, shape), axis, 0)
