"""Places arrays on devices: over a mesh (jit), or a copy on each device (pmap).

    placement = make_placement(experiment.parallel, trials=8)
    state = placement.place(state)                      # moves a state of whole arrays to the devices
    sent = placement.put(sent)                          # moves the rows of a batch to the devices
    outputs = placement.fetch(program(state, sent))     # copies the outputs to NumPy arrays

Only this module distinguishes jit from pmap, and devices of this process from those of others.  If several processes
share a mesh, each of them puts the rows of a batch that its own devices hold, and fetches whole outputs.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from research.data.windows import Windows
from research.errors import RequestError
from research.layers.rows import rows_over
from research.parallel import hosts
from research.parallel.activations import split_along_batch
from research.parallel.spec import DATA, FSDP, TENSOR, Parallel, TensorRules
from research.paths import flatten, map_with_path, matches

SMALLEST_SHARDED = 2**14
"""Elements of the smallest array that `Parallel.shard` splits; to gather a smaller one takes longer than it saves."""

Sent = Mapping[str, np.ndarray]
"""The arrays sent to the devices for one step: see `research/data/feed.py`."""

# Programs take a column of windows as the array of its values.
jax.tree_util.register_dataclass(Windows, data_fields=["values"], meta_fields=["length", "stride"])


class Held:
    """Arrays that stay on the devices; each is moved there only once, however often it is requested."""

    def __init__(self):
        self._put: dict[tuple[int, Sharding], tuple[Any, jax.Array]] = {}

    def put(self, arrays: Any, sharding: Sharding) -> Any:
        """Moves a tree of host arrays to the devices."""

        def one(x: Any) -> jax.Array:
            key = (id(x), sharding)
            if key not in self._put:
                self._put[key] = (x, _on_devices(x, sharding))  # keeps x alive, so that no other object gets its id
            return self._put[key][1]

        return jax.tree.map(one, arrays)

    def copy(self) -> Held:
        """A copy that holds the same arrays; arrays put later are held by one of the two only."""
        other = Held()
        other._put = dict(self._put)
        return other


def make_placement(
    parallel: Parallel,
    *,
    trials: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    tensor_rules: TensorRules = (),
) -> Placement:
    """Makes the placement that an experiment asks for.

    Args:
      parallel: the experiment's layout.
      trials: size of the trial axis, the first axis of every array of a state; None if there is none.
      devices: devices to place arrays on; None uses those of this job.
      tensor_rules: the model's, for the mesh axis "tensor".

    Raises:
      RequestError: the devices do not fill the mesh, its axis "tensor" has no rules, or pmap is asked for with
        `devices` or by several processes.
    """
    if parallel.strategy == "pmap" and (devices is not None or hosts.several()):
        others = "for several processes" if devices is None else "to compile for other devices"
        raise RequestError(f"parallel.strategy=pmap: expected jit, {others}")
    kind = Replicas if parallel.strategy == "pmap" else Placement
    return kind(parallel, trials=trials, devices=devices, tensor_rules=tensor_rules)


class Placement:
    """Arrays over a mesh, for programs under jit.

    The mesh axis "data" splits the trial axis if the number of trials is a multiple of its size, else the batch; the
    axis "fsdp" splits the batch.  States follow the experiment's rules, then the model's for "tensor" and `shard`.

    Attributes:
      trials: size of the trial axis, or None.
      mesh: the devices.
      shards: number of parts of a batch: the product of the sizes of the mesh axes "data" and "fsdp".
      platform: platform of the devices: "cpu", "gpu" or "tpu".
    """

    def __init__(
        self,
        parallel: Parallel,
        *,
        trials: int | None,
        devices: Sequence[jax.Device] | None,
        tensor_rules: TensorRules,
    ):
        self.trials = trials
        self.mesh = parallel.make_mesh(devices)
        sizes = self.mesh.shape
        self.shards = sizes[DATA] * sizes.get(FSDP, 1)
        self.platform = self.mesh.devices.flat[0].platform
        self._rules = parallel.rules
        self._tensor_rules = tensor_rules if sizes.get(TENSOR, 1) > 1 else ()
        placed = self._tensor_rules or any(TENSOR in axes for _, axes in self._rules)
        if sizes.get(TENSOR, 1) > 1 and not placed:
            raise RequestError(
                f"parallel.mesh={parallel.mesh}: this model has no rules for the axis {TENSOR!r}, as Transformers do; "
                "expected parallel.rules for it, or another axis"
            )
        self._sharded_axis = (FSDP if FSDP in sizes else DATA) if parallel.shard else None
        batch_axis = (DATA, FSDP) if FSDP in sizes else DATA
        over_devices = self._trials_over_devices()
        self._trial_axis, self._batch_axis = (DATA, None) if over_devices else (None, batch_axis)
        self._processes = {device.process_index for device in self.mesh.devices.flat}
        if devices is None and len(self._processes) < hosts.count():
            raise RequestError(f"parallel.mesh={parallel.mesh}: leaves some processes without a device")
        self._own = self._own_shards()

    def _trials_over_devices(self) -> bool:
        whole = self.shards == self.mesh.shape[DATA] and self._sharded_axis is None
        return self.trials is not None and self.shards > 1 and self.trials % self.shards == 0 and whole

    @property
    def _shared(self) -> bool:
        """True if devices of other processes hold parts of the arrays."""
        return len(self._processes) > 1

    def _own_shards(self) -> list[int]:
        """The parts of a batch, out of `shards`, that devices of this process hold; [] if none of them is its own."""
        of_device = self._sharding(self._batch_axis).addressable_devices_indices_map((self.shards,))
        return sorted({index[0].start or 0 for index in of_device.values()})

    def rows(self, batch_size: int) -> slice | np.ndarray:
        """The rows of a batch that this process sends: all of them, unless other processes have some."""
        if not self._shared or self._batch_axis is None or not self._own:
            return slice(None)
        each = batch_size // self.shards
        return np.concatenate([np.arange(part * each, (part + 1) * each) for part in self._own])

    def check_divides(self, batch_size: int, accumulation: int) -> None:
        """Raises RequestError unless every micro-batch divides over the devices."""
        if self._batch_axis and batch_size // accumulation % self.shards:
            raise RequestError(
                f"batch_size={batch_size} in {accumulation} micro-batches does not divide over "
                f"{self.shards} devices; expected a multiple of {self.shards * accumulation}"
            )

    def over_devices(self, program: Callable[[str | None], Callable], state: Any) -> Any:
        """Compiles a function (state, resident, sent, steps) -> (state, metrics) that donates the state.

        Args:
          program: makes the function from the name of the mapped axis that the batch is split over, or None.
          state: the state that it will be given, or its shapes.
        """
        out = (self.state_shardings(state), self._sharding())
        return jax.jit(program(None), donate_argnums=0, out_shardings=out)

    @contextlib.contextmanager
    def tracing(self) -> Iterator[None]:
        """Keeps computations on the devices that hold the rows of the batch, in programs that are traced inside."""
        axes = (self._batch_axis,) if isinstance(self._batch_axis, str) else self._batch_axis
        if axes is None or self.shards == 1:
            yield
            return
        are_split = self._rules or self._tensor_rules or self._sharded_axis  # else XLA has nothing to guess
        with (
            rows_over(self.mesh, axes),
            split_along_batch(self.mesh, axes) if are_split else contextlib.nullcontext(),
        ):
            yield

    # -- data ----------------------------------------------------------------------------------------------------------

    def hold(self, columns: Any, held: Held) -> Any:
        """Columns that stay on the devices, complete on each; adds those to `held` that it lacks."""
        return held.put(columns, self._sharding())

    def put(self, sent: Sent, *, stacked_steps: bool = False) -> dict[str, jax.Array]:
        """Places arrays sent for training, [(steps), (trials), batch, ...], for `over_devices`; shapes stay shapes."""
        trial = () if self.trials is None else (self._trial_axis,)
        sharding = self._sharding(*(None,) * stacked_steps, *trial, self._batch_axis)
        return {name: self._put_rows(x, sharding, int(stacked_steps) + len(trial)) for name, x in sent.items()}

    def put_for_all(self, sent: Sent) -> dict[str, jax.Array]:
        """Places arrays that all trials share, [batch, ...], for an evaluation."""
        return {name: self._put_rows(x, self._sharding(self._batch_axis), 0) for name, x in sent.items()}

    def _put_rows(self, x: Any, sharding: NamedSharding, axis: int) -> Any:
        """Places an array of which this process has its `rows` along `axis`."""
        if not self._shared or self._batch_axis is None or isinstance(x, jax.ShapeDtypeStruct):
            return _on_devices(x, sharding)
        each = x.shape[axis] // len(self._own)
        shape = (*x.shape[:axis], each * self.shards, *x.shape[axis + 1 :])

        def of_device(index: tuple[slice, ...]) -> np.ndarray:
            start = each * self._own.index((index[axis].start or 0) // each)
            return x[(*index[:axis], slice(start, start + each), *index[axis + 1 :])]

        return jax.make_array_from_callback(shape, sharding, of_device)

    def on_each(self, arrays: Any) -> Any:
        """Places a tree of small arrays, complete on each device."""
        return jax.tree.map(lambda x: _on_devices(x, self._sharding()), arrays) if self._shared else arrays

    def fetch(self, arrays: Any) -> Any:
        """Copies a tree of arrays to the host, as NumPy arrays; waits until the devices have computed them."""
        if self._shared:
            gathered = self._sharding()
            arrays = jax.tree.map(lambda x: x if x.is_fully_replicated else _moved(x, gathered), arrays)
        return jax.device_get(arrays)

    # -- states --------------------------------------------------------------------------------------------------------

    def place(self, state: Any) -> Any:
        """Moves a state of whole arrays to the devices."""
        shardings = self.state_shardings(state)
        return jax.tree.map(_on_devices, state, shardings) if self._shared else jax.device_put(state, shardings)

    def laid_out(self, single: Any) -> Any:
        """The shapes of a placed state, from those of a single trial's state."""
        whole = single if self.trials is None else _with_axis(single, self.trials)
        return jax.tree.map(_on_devices, whole, self.state_shardings(whole))

    def whole(self, state: Any) -> Any:
        """The whole arrays of a placed state; they stay on the devices.  Also usable inside programs."""
        return state

    def snapshot(self, state: Any) -> Any:
        """Copies the whole arrays of a placed state to the host, so that later calls of programs cannot change them.

        If several processes share the state, its arrays stay on the devices, and each process saves its own part.
        """
        whole = self.whole(state)
        if self._shared:
            return jax.tree.map(jnp.copy, whole) if self.platform == "cpu" else whole  # a CPU's copies are views
        return jax.tree.map(lambda x: jax.random.clone(x) if _is_key(x) else np.array(x), whole)

    def join(self, states: Sequence[Any]) -> Any:
        """Stacks the states of all trials, on the host unless it is shared; without a trial axis, returns the only."""
        if self.trials is None:
            return states[0]
        if self._shared:
            stack = lambda *states: jax.tree.map(lambda *x: jnp.stack(x), *states)  # noqa: E731
            return jax.jit(stack, out_shardings=self.state_shardings(jax.eval_shape(stack, *states)))(*states)
        return jax.tree.map(lambda *x: jnp.stack(x) if _is_key(x[0]) else np.stack([np.asarray(a) for a in x]), *states)

    def part(self, whole: Any, i: int) -> Any:
        """The state of trial i, from whole arrays."""
        return whole if self.trials is None else jax.tree.map(lambda x: x[i], whole)

    def initial_shardings(self, state: Any) -> Any:
        """The shardings of a single trial's initial state; None lets the compiler choose.

        They keep a state that is too large for one device from ever lying on one.
        """
        if self.trials is None:
            return self.state_shardings(state)
        return jax.tree.map(lambda _: self._sharding(), state) if self._shared else None

    def state_shardings(self, state: Any) -> Any:
        """The sharding of every array of a state, by the experiment's rules.

        Raises:
          RequestError: a rule splits an axis that does not divide over the devices.
        """
        lead = () if self.trials is None else (self._trial_axis,)

        def sharding(name: str, x: Any) -> NamedSharding:
            ndim = x.ndim - len(lead)
            for pattern, axes in self._rules:
                # Paths in the optimizer's state end with the parameter's path; factored moments have fewer axes.
                if ndim >= len(axes) > 0 and (matches(name, pattern) or matches(name, f"*/{pattern}")):
                    self._check_splits(name, x.shape[len(lead) :], axes)
                    return self._sharding(*lead, *axes)
            return self._sharding(*lead, *self._split(name, x.shape[len(lead) :]))

        return map_with_path(sharding, state)

    def _split(self, name: str, shape: tuple[int, ...]) -> tuple[str | None, ...]:
        """The mesh axis of each dimension by the model's rules for "tensor" and by `Parallel.shard`.

        The latter takes the largest other dimension that divides, of a large array.
        """
        axes: list[str | None] = [None] * len(shape)
        dimension = next((d for p, d in self._tensor_rules if matches(name, p) or matches(name, f"*/{p}")), None)
        if dimension is not None and -dimension <= len(shape) and shape[dimension] % self.mesh.shape[TENSOR] == 0:
            axes[dimension] = TENSOR
        axis = self._sharded_axis
        if axis is not None and math.prod(shape) >= SMALLEST_SHARDED:
            free = (i for i, n in enumerate(shape) if axes[i] is None and n % self.mesh.shape[axis] == 0)
            largest = max(free, key=lambda i: shape[i], default=None)
            if largest is not None:
                axes[largest] = axis
        return tuple(axes)

    def kept_whole(self, state: Any) -> list[str]:
        """The large arrays of a state that `Parallel.shard` would split, but none of whose dimensions divides."""
        lead, axis = int(self.trials is not None), self._sharded_axis
        if axis is None or self.mesh.shape[axis] == 1:
            return []
        shardings = flatten(self.state_shardings(state))
        large = {name: x for name, x in flatten(state).items() if math.prod(x.shape[lead:]) >= SMALLEST_SHARDED}
        return [name for name in large if not any(shardings[name].spec[lead:])]

    def _check_splits(self, name: str, shape: tuple[int, ...], axes: Sequence[str | None]) -> None:
        for size, axis in zip(shape, axes, strict=False):
            if axis is not None and size % self.mesh.shape[axis]:
                devices = self.mesh.shape[axis]
                raise RequestError(f"parallel.rules: {name} {shape} does not divide over the {devices} of {axis!r}")

    def _sharding(self, *axes: str | tuple[str, ...] | None) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec(*axes))


class Replicas(Placement):
    """A copy of the state on each device, for programs under pmap: its arrays have a leading device axis."""

    def _trials_over_devices(self) -> bool:
        return False

    @contextlib.contextmanager
    def tracing(self) -> Iterator[None]:
        yield  # each program sees its rows only

    def over_devices(self, program: Callable[[str | None], Callable], state: Any) -> Any:
        return jax.pmap(
            program(DATA),
            axis_name=DATA,
            in_axes=(0, None, 0, None),
            out_axes=(0, None),
            donate_argnums=0,
            devices=list(self.mesh.devices.flat),
        )

    def put(self, sent: Sent, *, stacked_steps: bool = False) -> dict[str, Any]:
        axis = int(stacked_steps) + (self.trials is not None)
        return {name: _split_axis(x, axis, self.shards) for name, x in sent.items()}

    def place(self, state: Any) -> Any:
        sharding = self._sharding(DATA)
        return jax.tree.map(lambda x: jax.device_put(jnp.broadcast_to(x, (self.shards, *x.shape)), sharding), state)

    def laid_out(self, single: Any) -> Any:
        whole = single if self.trials is None else _with_axis(single, self.trials)
        return jax.tree.map(lambda x: _on_devices(x, self._sharding(DATA)), _with_axis(whole, self.shards))

    def whole(self, state: Any) -> Any:
        return jax.tree.map(lambda x: x[0], state)

    def initial_shardings(self, state: Any) -> Any:
        return None


def _on_devices(x: Any, sharding: Sharding) -> Any:
    """Moves an array to its devices; gives a shape the sharding."""
    if isinstance(x, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
    if sharding.is_fully_addressable:
        return jax.device_put(x, sharding)
    # `device_put` would compare the arrays of all processes at every call.
    if isinstance(x, jax.Array) and not x.is_fully_addressable:
        return x if x.sharding == sharding else _moved(x, sharding)
    if _is_key(x):
        data = _on_devices(jax.random.key_data(x), sharding)
        return jax.jit(jax.random.wrap_key_data, static_argnames="impl", out_shardings=sharding)(
            data, impl=jax.random.key_impl(x)
        )
    x = np.asarray(x)
    x = x.astype(jax.dtypes.canonicalize_dtype(x.dtype))
    return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])


def _moved(x: jax.Array, sharding: Sharding) -> jax.Array:
    """Moves an array over several processes to another sharding."""
    return jax.jit(_same, out_shardings=sharding)(x)


def _same(x: jax.Array) -> jax.Array:
    return x


def _with_axis(shapes: Any, size: int) -> Any:
    """The shapes of a tree with a new first axis."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((size, *x.shape), x.dtype), shapes)


def _split_axis(x: np.ndarray, axis: int, parts: int) -> np.ndarray:
    """[..., batch, ...] → [parts, ..., batch / parts, ...], with one part per device."""
    shape = (*x.shape[:axis], parts, x.shape[axis] // parts, *x.shape[axis + 1 :])
    return np.moveaxis(np.reshape(x, shape), axis, 0)


def _is_key(x: Any) -> bool:
    return jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
