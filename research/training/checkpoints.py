"""Saves the training state with Orbax: asynchronously, atomically, and verified when it is read."""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import shutil
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np
from etils import epath

from research.errors import RequestError, one_line
from research.parallel import hosts
from research.training.checkpoint_records import CheckpointRecords
from research.training.records import is_local
from research.training.state import is_key

KEPT_WHILE_TRAINING = 2
"""With two checkpoints, stacked trials share a saved step even if a save was interrupted or a checkpoint is corrupt."""


DELETED = ".deleted"
"""The subfolder into which checkpoints are moved before they are deleted, so that none is ever left half deleted."""

NO_LONGER_CARRIED = r"\['opt_state'\].*\['count'\]"
"""Matches paths of arrays that only older checkpoints hold: schedules counted steps before they read the state's."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoints:
    """Policy of when the state is saved and which checkpoints are kept.

    The state is always saved at the end of training and on SIGTERM.

    Attributes:
      every_steps: saves at multiples of this many steps; None saves by time only.
      every_seconds: saves when this many seconds have passed since the last save; None saves by steps only.
      keep: number of latest checkpoints to keep; during training at least two, so that there is one to fall back to.
      best: a metric of an evaluation that runs during training, such as "validation/accuracy".  The state with its best
        value is also kept, and the evaluations that run once at the end, such as "test", use it.  The task declares
        whether larger or smaller is better (`Task.better`).  None evaluates the last state.
    """

    every_steps: int | None = None
    every_seconds: float | None = 120.0
    keep: int = 2
    best: str | None = None

    def check(self) -> None:
        if self.every_steps is not None and self.every_steps < 1:
            raise RequestError(f"every_steps={self.every_steps}: expected at least 1, or none")
        if self.every_seconds is not None and not self.every_seconds > 0:
            raise RequestError(f"every_seconds={self.every_seconds}: expected a number above 0, or none")
        if self.keep < 1:
            raise RequestError(f"keep={self.keep}: expected at least 1")


class Store:
    """The checkpoints of one trial: a folder with a numbered folder per saved step.

    Args:
      folder: the folder of the checkpoints.
      policy: which checkpoints are kept.  Without a policy, the store is read-only; another process may be writing to
        the folder.
      direction: the direction of the metric `policy.best`, if there is one.
      trial: the name of the trial; None accepts the checkpoints of any trial.
      note: called with a line for each damaged record that a checkpoint is used without.

    Attributes:
      records: reads the records beside the states.
      scores: {step: metrics} from another file, for steps whose own scores are damaged.
    """

    def __init__(
        self,
        folder: epath.PathLike,
        policy: Checkpoints | None = None,
        direction: Literal["min", "max"] | None = None,
        *,
        trial: str | None = None,
        note: Callable[[str], None] = lambda line: None,
    ):
        # Orbax takes absolute paths only.
        self.folder = epath.Path(os.path.abspath(folder) if is_local(folder) else folder)
        self.policy = policy
        self.direction = direction
        self.records = CheckpointRecords(self.folder, trial, note)
        self.scores: Mapping[int, Mapping[str, float | None]] = {}
        self._scores: dict[int, float | None] = {}
        self._manager = None

    def _open(self) -> Any:
        if self._manager is None:
            import orbax.checkpoint as ocp

            if self.policy is None:
                options = ocp.CheckpointManagerOptions(create=False)
            else:
                options = ocp.CheckpointManagerOptions(
                    enable_async_checkpointing=True,
                    cleanup_tmp_directories=True,  # left behind if a process was killed during a save
                    preservation_policy=_Keep(self),
                    todelete_subdir=DELETED if is_local(self.folder) else None,
                )
                self._delete_moved()
            self._manager = ocp.CheckpointManager(self.folder, options=options)
        return self._manager

    def open(self) -> None:
        """Makes the folder, and reads which steps are saved; processes that share the state open it together."""
        self._open()

    def steps(self) -> list[int]:
        """The saved steps, latest first."""
        return sorted(self._open().all_steps(), reverse=True) if self.folder.exists() else []

    def save(
        self,
        step: int,
        state: Any,
        metrics: Mapping[str, float | None] | None = None,
        spent: Mapping[str, float] | None = None,
        logged: Mapping[str, int] | None = None,
    ) -> None:
        """Starts saving a pytree of arrays; it is written in the background.

        Args:
          step: a step that is not saved yet.
          state: the arrays.
          metrics: the metrics of the evaluations at this step, if there were any, with `policy.best` among them.
          spent: the training time and steps so far (`Clock.record`), to resume from.
          logged: the size and the CRC-32 of metrics.jsonl (`MetricsLog.written`).

        Raises:
          OSError and others: this save or the previous one failed.
        """
        import orbax.checkpoint as ocp

        storable = _storable(state)
        if is_local(self.folder):
            needed = sum(x.nbytes for x in jax.tree.leaves(storable))
            hosts.by_leader("the space for a checkpoint", lambda: _require_space(self.folder, needed))
        self._scores[step] = self._score(metrics or {})
        records = self.records.make(
            step, checksums=_checksums(storable), scores=metrics or {}, spent=spent or {}, logged=logged or {}
        )
        items = {name: ocp.args.JsonSave(record) for name, record in records.items()}
        self._open().save(step, args=ocp.args.Composite(state=ocp.args.StandardSave(storable), **items), force=True)

    def best_step(self) -> int | None:
        """The saved step with the best value of `policy.best`, the earliest if equal; None if none was evaluated."""
        return self._best_of(self.steps())

    def _best_of(self, steps: Sequence[int]) -> int | None:
        if self.policy.best is None:
            return None
        for step in steps:
            if step not in self._scores:
                saved = self.records.scores(step)
                self._scores[step] = self._score(self.scores.get(step, {}) if saved is None else saved)
        scored = [step for step in steps if self._scores[step] is not None]
        return max(scored, key=lambda step: (self._scores[step], -step), default=None)

    def _score(self, metrics: Mapping[str, float | None]) -> float | None:
        """The value of `policy.best`, negated if smaller is better; None if it is missing or not finite."""
        value = metrics.get(self.policy.best)
        value = value if isinstance(value, int | float) else None
        return -value if value is not None and self.direction == "min" else value

    def restore(self, step: int, like: Any = None) -> Any:
        """Reads the state saved at `step`.

        Args:
          step: one of `steps()`.
          like: arrays, or their shapes, with the structure, dtypes and shardings to restore; None restores nested dicts
            of NumPy arrays.

        Raises:
          CorruptCheckpoint: the checkpoint cannot be read, its checksums do not match, or it is of another trial or
            another step.
        """
        import orbax.checkpoint as ocp

        if other := self.records.of_another(step):
            raise CorruptCheckpoint(f"{self.folder / str(step)}: {other}")
        try:
            asked = None if like is None else _storable(like, abstract=True)
            older = asked is not None and self._is_older(step, asked)
            # Without shapes to restore to, arrays that were saved on other devices come to one of this process.
            here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
            saved = ocp.args.StandardRestore(None if older else asked, fallback_sharding=here)
            state = self._open().restore(step, args=ocp.args.Composite(state=saved))["state"]
            state_step = int(np.ravel(state.get("step", step))[0])
            intact = self.records.verifies(step, _checksums(state), state_step)
            state = _without_others(state, asked) if older else state
        except Exception as error:  # Orbax and its storage layers raise many types
            raise CorruptCheckpoint(f"{self.folder / str(step)}: {one_line(error)}") from error
        if not intact:
            raise CorruptCheckpoint(f"{self.folder / str(step)}: its contents are not what was written")
        return jax.tree.map(np.asarray, state) if like is None else _rewrap(state, like)

    def _is_older(self, step: int, asked: Any) -> bool:
        """True if a checkpoint holds extra arrays, and all of them are known from older versions."""
        saved = self.records.read(step, "checksums")
        others = set(saved if isinstance(saved, dict) else ()) - _leaves(asked).keys()
        return bool(others) and all(re.fullmatch(NO_LONGER_CARRIED, path) for path in others)

    def delete_after(self, step: int) -> None:
        """Deletes checkpoints later than `step`, so that training can continue from there and save them again."""
        for later in [s for s in self.steps() if s > step]:
            self._delete(later)

    def delete_surplus(self) -> None:
        """Deletes checkpoints that are kept only during training; raises the error of a save that failed."""
        self.wait()
        steps = self.steps()
        for step in set(steps[self.policy.keep :]) - {self._best_of(steps)}:
            self._delete(step)

    def _delete(self, step: int) -> None:
        self._open().delete(step)
        self._delete_moved()
        self._scores.pop(step, None)

    def _delete_moved(self) -> None:
        if is_local(self.folder):
            shutil.rmtree(self.folder / DELETED, ignore_errors=True)

    def wait(self) -> None:
        """Waits until the started saves are written; raises the error of a save that failed."""
        if self._manager is not None:
            self._manager.wait_until_finished()
            if self.policy is not None:
                self._delete_moved()

    def close(self) -> None:
        """Waits for the started saves, then stops the background threads."""
        if self._manager is not None:
            manager, self._manager = self._manager, None
            manager.close()
            if self.policy is not None:
                self._delete_moved()


def _require_space(folder: epath.Path, needed: int) -> None:
    """Raises OSError if the disk has too little free space for a checkpoint."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    disk = shutil.disk_usage(there)
    if disk.total > 0 and disk.free < needed:  # some network file systems report 0 for every size
        sizes = f"{needed / 2**20:.1f} MiB to save, {disk.free / 2**20:.1f} MiB free"
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} ({sizes})", str(folder))


class _Keep:
    """Orbax's preservation policy: keeps the latest checkpoints and the best one."""

    def __init__(self, store: Store):
        self.store = store

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        steps = [checkpoint.step for checkpoint in checkpoints]
        policy = self.store.policy
        kept = {*steps[-max(policy.keep, KEPT_WHILE_TRAINING) :], self.store._best_of(steps)}
        return [step in kept for step in steps]


class CorruptCheckpoint(RuntimeError):
    """A checkpoint cannot be read, or differs from what was written."""


def _storable(tree: Any, *, abstract: bool = False) -> Any:
    """A nested dict of plain arrays, with typed random keys as their data and without None."""
    from flax import serialization

    def leaf(x: Any) -> Any:
        sharding = getattr(x, "sharding", None)
        if is_key(x):
            x = jax.eval_shape(jax.random.key_data, x) if abstract else jax.random.key_data(x)
        if abstract:
            return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
        return x

    return serialization.to_state_dict(jax.tree.map(leaf, tree))


def _leaves(tree: Any) -> dict[str, Any]:
    """The arrays of a nested dict, by path."""
    return {jax.tree_util.keystr(path): x for path, x in jax.tree_util.tree_flatten_with_path(tree)[0]}


def _without_others(stored: Any, asked: Any) -> Any:
    """The stored arrays whose paths are in `asked`, in the structure of `asked`."""
    held = _leaves(stored)
    return jax.tree_util.tree_map_with_path(lambda path, _: np.asarray(held[jax.tree_util.keystr(path)]), asked)


def _rewrap(stored: Any, like: Any) -> Any:
    from flax import serialization

    def leaf(x: Any, old: Any) -> Any:
        return jax.random.wrap_key_data(x) if is_key(old) else x

    plain = jax.tree.map(lambda x: jax.eval_shape(jax.random.key_data, x) if is_key(x) else x, like)
    return jax.tree.map(leaf, serialization.from_state_dict(plain, stored), like)


def _checksums(stored: Any) -> dict[str, int]:
    """The CRC-32 of every array that each process holds completely, by path."""
    return {
        path: zlib.crc32(np.ascontiguousarray(np.asarray(x)))
        for path, x in _leaves(stored).items()
        if getattr(x, "is_fully_addressable", True) or x.is_fully_replicated
    }
