"""Saving what training carries, with Orbax: asynchronous, atomic, verified when read back."""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import shutil
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np
from etils import epath

from research.errors import RequestError, one_line
from research.training.records import is_local, read_json
from research.training.state import is_key

KEPT_WHILE_TRAINING = 2
"""A kill between the saves of two stacked trials leaves them a step in common; so does one corrupt checkpoint."""


NO_LONGER_CARRIED = r"\['opt_state'\].*\['count'\]"
"""Paths of arrays that older checkpoints hold: the schedule's own count of steps, from before it read the state's."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoints:
    """When state is saved and what is kept.  The end of training and a SIGTERM always save.

    Attributes:
      every_steps: save at multiples of this many steps; None leaves it to the clock alone.
      every_seconds: save when this long has passed since the last save; None leaves it to the steps alone.  A program
        over several hosts follows the steps only.
      keep: how many of the latest are kept; two at least until training ends, so that there is one to fall back to.
      best: a metric of an evaluation that is made during training, such as "validation/accuracy"; the state with its
        best value is kept beside the latest, and the evaluations at the end, of the test split too, are made with it.
        The task says whether the largest is best, or the smallest (`better`).  None scores the last state.
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

    Without a policy it is only read, and may be another process's that is training.  `direction` is that of
    `policy.best`, where there is one.
    """

    def __init__(
        self,
        folder: epath.PathLike,
        policy: Checkpoints | None = None,
        direction: Literal["min", "max"] | None = None,
    ):
        # Orbax takes whole paths only.
        self.folder = epath.Path(os.path.abspath(folder) if is_local(folder) else folder)
        self.policy = policy
        self.direction = direction
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
                    cleanup_tmp_directories=True,  # what a kill in the middle of a save left behind
                    preservation_policy=_Keep(self),
                )
            self._manager = ocp.CheckpointManager(self.folder, options=options)
        return self._manager

    def steps(self) -> list[int]:
        """The saved steps, latest first."""
        return sorted(self._open().all_steps(), reverse=True) if self.folder.exists() else []

    def save(
        self,
        step: int,
        state: Any,
        metrics: Mapping[str, float | None] | None = None,
        spent: Mapping[str, float] | None = None,
    ) -> None:
        """Starts saving a pytree of arrays; the writing goes on in the background.

        Args:
          step: not saved yet.
          state: the arrays.
          metrics: of the evaluation at this step, if there was one; `policy.best` is among them.
          spent: what it took to train up to here, for whoever continues from it.

        Raises:
          OSError and others: what went wrong in this save or in the one before it.
        """
        import orbax.checkpoint as ocp

        storable = _storable(state)
        if is_local(self.folder):
            _require_space(self.folder, sum(x.nbytes for x in jax.tree.leaves(storable)))
        self._scores[step] = self._score(metrics or {})
        items = {
            "state": ocp.args.StandardSave(storable),
            "checksums": ocp.args.JsonSave(_checksums(storable)),
            "scores": ocp.args.JsonSave(dict(metrics or {})),
            "spent": ocp.args.JsonSave(dict(spent or {})),
        }
        self._open().save(step, args=ocp.args.Composite(**items), force=True)

    def spent(self, step: int) -> dict[str, float]:
        """The `spent` that was saved with a step; empty where it cannot be read."""
        saved = read_json(self.folder / str(step) / "spent" / "metadata")
        return saved if isinstance(saved, dict) else {}

    def best_step(self) -> int | None:
        """The kept step with the best value of `policy.best`, the earliest of equals; None where none was evaluated."""
        return self._best_of(self.steps())

    def _best_of(self, steps: Sequence[int]) -> int | None:
        if self.policy.best is None:
            return None
        for step in steps:
            if step not in self._scores:
                saved = read_json(self.folder / str(step) / "scores" / "metadata")
                self._scores[step] = self._score(saved if isinstance(saved, dict) else {})
        scored = [step for step in steps if self._scores[step] is not None]
        return max(scored, key=lambda step: (self._scores[step], -step), default=None)

    def _score(self, metrics: Mapping[str, float | None]) -> float | None:
        """Larger is better; None where `policy.best` is not among the metrics, or is not finite."""
        value = metrics.get(self.policy.best)
        return -value if value is not None and self.direction == "min" else value

    def restore(self, step: int, like: Any = None) -> Any:
        """The state saved at `step`.

        Args:
          step: one of `steps()`.
          like: gives structure, dtypes and shardings (arrays or their shapes); None gives nested dicts of NumPy arrays.

        Raises:
          CorruptCheckpoint: it cannot be read, or is not what was written.
        """
        import orbax.checkpoint as ocp

        try:
            asked = None if like is None else _storable(like, abstract=True)
            older = asked is not None and self._is_older(step, asked)
            saved = ocp.args.StandardRestore(None if older else asked)
            restored = self._open().restore(
                step, args=ocp.args.Composite(state=saved, checksums=ocp.args.JsonRestore())
            )
            state, sums = restored["state"], _checksums(restored["state"])
            intact = all(sums.get(path, crc) == crc for path, crc in restored["checksums"].items())
            state = _without_others(state, asked) if older else state
        except Exception as error:  # Orbax and its stores raise of every kind
            raise CorruptCheckpoint(f"{self.folder / str(step)}: {one_line(error)}") from error
        if not intact:
            raise CorruptCheckpoint(f"{self.folder / str(step)}: its contents are not what was written")
        return jax.tree.map(np.asarray, state) if like is None else _rewrap(state, like)

    def _is_older(self, step: int, asked: Any) -> bool:
        """True where a checkpoint has arrays that the state no longer has, and only known ones."""
        saved = read_json(self.folder / str(step) / "checksums" / "metadata")
        others = set(saved if isinstance(saved, dict) else ()) - _leaves(asked).keys()
        return bool(others) and all(re.fullmatch(NO_LONGER_CARRIED, path) for path in others)

    def delete_after(self, step: int) -> None:
        """Removes checkpoints later than `step`, so that training again from there can save them anew."""
        for later in [s for s in self.steps() if s > step]:
            self._delete(later)

    def delete_surplus(self) -> None:
        """Removes what is kept only while training goes on; raises what went wrong with a save."""
        self.wait()
        steps = self.steps()
        for step in set(steps[self.policy.keep :]) - {self._best_of(steps)}:
            self._delete(step)

    def _delete(self, step: int) -> None:
        self._open().delete(step)
        self._scores.pop(step, None)

    def wait(self) -> None:
        """Returns when what was started is written; raises what went wrong with it."""
        if self._manager is not None:
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, then frees the background threads."""
        if self._manager is not None:
            manager, self._manager = self._manager, None
            manager.close()


def _require_space(folder: epath.Path, needed: int) -> None:
    """Raises OSError rather than leave half a checkpoint on a disk that is nearly full."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    disk = shutil.disk_usage(there)
    if disk.total > 0 and disk.free < needed:  # some network file systems say 0 of everything
        sizes = f"{needed / 2**20:.1f} MiB to save, {disk.free / 2**20:.1f} MiB free"
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} ({sizes})", str(folder))


class _Keep:
    """Orbax's preservation policy: the latest, and the best beside them."""

    def __init__(self, store: Store):
        self.store = store

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        steps = [checkpoint.step for checkpoint in checkpoints]
        policy = self.store.policy
        kept = {*steps[-max(policy.keep, KEPT_WHILE_TRAINING) :], self.store._best_of(steps)}
        return [step in kept for step in steps]


class CorruptCheckpoint(RuntimeError):
    """A checkpoint that cannot be read back as it was written."""


def _storable(tree: Any, *, abstract: bool = False) -> Any:
    """A nested dict of plain arrays: typed random keys as their data, None left out."""
    from flax import serialization

    def leaf(x: Any) -> Any:
        if is_key(x):
            x = jax.eval_shape(jax.random.key_data, x) if abstract else jax.random.key_data(x)
        if abstract:
            sharding = getattr(x, "sharding", None)
            return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
        return x

    return serialization.to_state_dict(jax.tree.map(leaf, tree))


def _leaves(tree: Any) -> dict[str, Any]:
    """The arrays of a nested dict, by path."""
    return {jax.tree_util.keystr(path): x for path, x in jax.tree_util.tree_flatten_with_path(tree)[0]}


def _without_others(stored: Any, asked: Any) -> Any:
    """The arrays that `asked` has, in its structure."""
    held = _leaves(stored)
    return jax.tree_util.tree_map_with_path(lambda path, _: np.asarray(held[jax.tree_util.keystr(path)]), asked)


def _rewrap(stored: Any, like: Any) -> Any:
    from flax import serialization

    def leaf(x: Any, old: Any) -> Any:
        return jax.random.wrap_key_data(x) if is_key(old) else x

    plain = jax.tree.map(lambda x: jax.eval_shape(jax.random.key_data, x) if is_key(x) else x, like)
    return jax.tree.map(leaf, serialization.from_state_dict(plain, stored), like)


def _checksums(stored: Any) -> dict[str, int]:
    """CRC-32 of every array that this process holds whole, by path."""
    return {
        path: zlib.crc32(np.ascontiguousarray(np.asarray(x)))
        for path, x in _leaves(stored).items()
        if getattr(x, "is_fully_addressable", True)
    }
