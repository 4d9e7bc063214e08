"""Places arrays on devices: over a mesh (jit), or a copy on each device (pmap).

    placement = make_placement(experiment.parallel, trials=8)
    state = placement.place(state)                      # moves a state of whole arrays to the devices
    sent = placement.put(sent)                          # moves the rows of a batch to the devices
    outputs = placement.fetch(program(state, sent))     # copies the outputs to NumPy arrays

Only this module distinguishes jit from pmap.  Code that several hosts need (placing the rows of one host, gathering
those of the others) belongs here too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from research.data.windows import Windows
from research.errors import RequestError
from research.parallel.spec import DATA, Parallel
from research.paths import map_with_path, matches

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
    parallel: Parallel, *, trials: int | None = None, devices: Sequence[jax.Device] | None = None
) -> Placement:
    """Makes the placement that an experiment asks for.

    Args:
      parallel: the experiment's layout.
      trials: size of the trial axis, the first axis of every array of a state; None if there is none.
      devices: devices to place arrays on; None uses those of this job.

    Raises:
      RequestError: the devices do not fill the mesh, or `devices` is given for pmap, which uses those of this job.
    """
    if parallel.strategy == "pmap" and devices is not None:
        raise RequestError("parallel.strategy=pmap: expected jit, to compile for other devices")
    return (Replicas if parallel.strategy == "pmap" else Placement)(parallel, trials=trials, devices=devices)


class Placement:
    """Arrays over a mesh, for programs under jit.

    The mesh axis "data" splits the trial axis if the number of trials is a multiple of its size, else the batch.
    States follow the experiment's rules.

    Attributes:
      trials: size of the trial axis, or None.
      mesh: the devices.
      shards: size of the mesh axis "data".
      platform: platform of the devices: "cpu", "gpu" or "tpu".
    """

    def __init__(self, parallel: Parallel, *, trials: int | None, devices: Sequence[jax.Device] | None):
        self.trials = trials
        self.mesh = parallel.make_mesh(devices)
        self.shards = self.mesh.shape[DATA]
        self.platform = self.mesh.devices.flat[0].platform
        self._rules = parallel.rules
        over_devices = self._trials_over_devices()
        self._trial_axis, self._batch_axis = (DATA, None) if over_devices else (None, DATA)

    def _trials_over_devices(self) -> bool:
        return self.trials is not None and self.shards > 1 and self.trials % self.shards == 0

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

    # -- data ----------------------------------------------------------------------------------------------------------

    def hold(self, columns: Any, held: Held) -> Any:
        """Columns that stay on the devices, complete on each; adds those to `held` that it lacks."""
        return held.put(columns, self._sharding())

    def put(self, sent: Sent, *, stacked_steps: bool = False) -> dict[str, jax.Array]:
        """Places arrays sent for training, [(steps), (trials), batch, ...], for `over_devices`; shapes stay shapes."""
        trial = () if self.trials is None else (self._trial_axis,)
        sharding = self._sharding(*(None,) * stacked_steps, *trial, self._batch_axis)
        return {name: _on_devices(x, sharding) for name, x in sent.items()}

    def put_for_all(self, sent: Sent) -> dict[str, jax.Array]:
        """Places arrays that all trials share, [batch, ...], for an evaluation."""
        return jax.device_put(dict(sent), self._sharding(self._batch_axis))

    def fetch(self, arrays: Any) -> Any:
        """Copies a tree of arrays to the host, as NumPy arrays; waits until the devices have computed them."""
        return jax.device_get(arrays)

    # -- states --------------------------------------------------------------------------------------------------------

    def place(self, state: Any) -> Any:
        """Moves a state of whole arrays to the devices."""
        return jax.device_put(state, self.state_shardings(state))

    def whole(self, state: Any) -> Any:
        """The whole arrays of a placed state; they stay on the devices.  Also usable inside programs."""
        return state

    def snapshot(self, state: Any) -> Any:
        """Copies the whole arrays of a placed state to the host, so that later calls of programs cannot change them.

        If several processes share the state, its arrays stay on the devices, and each process saves its own part.
        """
        whole = self.whole(state)
        if jax.process_count() > 1:
            return whole
        return jax.tree.map(lambda x: jax.random.clone(x) if _is_key(x) else np.array(x), whole)

    def join(self, states: Sequence[Any]) -> Any:
        """Stacks the states of all trials on the host; without a trial axis, returns the only state."""
        if self.trials is None:
            return states[0]
        return jax.tree.map(lambda *x: jnp.stack(x) if _is_key(x[0]) else np.stack([np.asarray(a) for a in x]), *states)

    def part(self, whole: Any, i: int) -> Any:
        """The state of trial i, from whole arrays."""
        return whole if self.trials is None else jax.tree.map(lambda x: x[i], whole)

    def initial_shardings(self, state: Any) -> Any:
        """The shardings of a single trial's initial state; None lets the compiler choose.

        They keep a state that is too large for one device from ever lying on one.
        """
        return self.state_shardings(state) if self.trials is None else None

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
            return self._sharding(*lead)

        return map_with_path(sharding, state)

    def _check_splits(self, name: str, shape: tuple[int, ...], axes: Sequence[str | None]) -> None:
        for size, axis in zip(shape, axes, strict=False):
            if axis is not None and size % self.mesh.shape[axis]:
                devices = self.mesh.shape[axis]
                raise RequestError(f"parallel.rules: {name} {shape} does not divide over the {devices} of {axis!r}")

    def _sharding(self, *axes: str | None) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec(*axes))


class Replicas(Placement):
    """A copy of the state on each device, for programs under pmap: its arrays have a leading device axis."""

    def _trials_over_devices(self) -> bool:
        return False

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

    def whole(self, state: Any) -> Any:
        return jax.tree.map(lambda x: x[0], state)

    def initial_shardings(self, state: Any) -> Any:
        return None


def _on_devices(x: Any, sharding: Sharding) -> Any:
    """Moves an array to its devices; gives a shape the sharding."""
    if isinstance(x, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
    return jax.device_put(x, sharding)


def _split_axis(x: np.ndarray, axis: int, parts: int) -> np.ndarray:
    """[..., batch, ...] → [parts, ..., batch / parts, ...], with one part per device."""
    shape = (*x.shape[:axis], parts, x.shape[axis] // parts, *x.shape[axis + 1 :])
    return np.moveaxis(np.reshape(x, shape), axis, 0)


def _is_key(x: Any) -> bool:
    return jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
