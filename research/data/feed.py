"""Makes the batch of each step, from examples in one of three places; the batches are bitwise the same for all three.

    feed = make_feed(splits.train, "auto")
    batches = feed.batches(seed=0, batch_size=256)
    batch = take(feed.resident, batches.sent(step))        # inside the compiled program

device   every column is on the device; a step is sent only its indices
host     every column is in NumPy; a step is sent its rows
workers  Grain's worker processes read and decode the batches ahead of the step

Shared columns (`Source.shared`) are on the device in all three, and each batch has all of them, as
`batch["shared"][name]`.

Keeping decoded examples in memory is much faster than a worker pipeline, so "auto" keeps them if they fit.

Padded columns (`research/data/buckets.py`) are cut to the length of the batch's bucket, and each comes with a mask:
"source" and "source_mask", bool [batch, length], False on padding.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from research.config.types import conform
from research.console import counted
from research.data.buckets import Padded, assign, padding
from research.data.memory import device_budget, host_budget
from research.data.order import Bucketed, InOrder, Plan, Shuffled
from research.data.source import Columns, Source, first_example, materialize, nbytes, read, shared
from research.data.spec import Storage
from research.data.worker_processes import ReadAhead
from research.errors import require
from research.parallel import hosts


def take(resident: dict[str, Any], sent: dict[str, Any]) -> dict[str, Any]:
    """Makes the batch of a step from the resident and the sent arrays.  Pure; for NumPy and for JAX arrays.

    If columns are resident, `sent` has "index", int32 [batch], and on padded batches "weight", float32 [batch].  The
    batch has the rows at `index`, and a `weight`, which is 1 unless the columns or `sent` have one.  A sent mask
    [batch, length] cuts its padded column to `length`.  If no columns are resident, `sent` is the batch.  Shared
    columns are added unchanged.
    """
    columns = columns_of(resident)
    common = {name: x for name, x in resident.items() if name not in columns}
    if not columns:
        return {**sent, **common} if common else sent
    masks = {name: x for name, x in sent.items() if name.endswith(MASK)}

    def rows(name: str, x: Any) -> Any:
        mask = masks.get(f"{name}{MASK}")
        return x[sent["index"]] if mask is None else x[sent["index"], : mask.shape[-1]]

    return _weighted({name: rows(name, x) for name, x in columns.items()} | masks, sent) | common


Rows = slice | np.ndarray
"""The rows of each batch that a process reads: all, or int [rows]."""


def columns_of(resident: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that have an example axis."""
    return {name: x for name, x in resident.items() if name != SHARED}


SHARED = "shared"
"""The name of the shared columns in a batch and among the resident arrays."""

MASK = "_mask"
"""The suffix of the name of a padded column's mask."""


class Batches:
    """Batches from columns in memory: `batches[step]` is a batch, `batches.sent(step)` the arrays sent for it."""

    def __init__(self, plan: Plan, source: Source, *, resident: bool, rows: Rows):
        self._plan, self._source, self._resident, self._rows = plan, source, resident, rows
        self._columns = source.arrays()

    def sent(self, step: int) -> dict[str, np.ndarray]:
        return self._gathered(self._plan[step])

    def peek(self, step: int) -> dict[str, np.ndarray]:
        """Returns the same arrays as `sent`, without starting workers."""
        return self.sent(step)

    def largest(self) -> dict[str, np.ndarray]:
        """A step's arrays in the largest shapes of any step; starts no workers."""
        return self._gathered(_of_bucket(self._plan, -1))

    def average(self) -> dict[str, np.ndarray]:
        """A step's arrays in the shapes nearest to the mean over all steps, to time a typical step."""
        return self._gathered(_of_bucket(self._plan, _average_bucket(self._plan, self._source)))

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        return take(self._columns, _asked(self._source, self._plan[step], self._rows))

    def _gathered(self, asked: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        asked = _asked(self._source, asked, self._rows)
        return asked if self._resident else take(self._columns, asked)

    def close(self) -> None:
        """Stops worker processes, if there are any."""

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class WorkerBatches(Batches):
    """Batches made by worker processes, which start at the first requested step and read ahead from there.

    Request steps in order: a step out of order restarts the workers, which takes some seconds.
    """

    def __init__(self, plan: Plan, source: Source, *, workers: int, rows: Rows):
        self._read, self._workers = _Read(source, first_example(source), plan, rows), workers
        self._iterator, self._next = None, None

    def sent(self, step: int) -> dict[str, np.ndarray]:
        if step != self._next:
            self.close()
            plan = self._read.plan
            stop = len(plan) if hasattr(plan, "__len__") else None
            self._iterator = ReadAhead(self._read, step, stop, self._workers)
        self._next = None  # if the next line raises, the iterator cannot be used again
        batch = next(self._iterator)
        self._next = step + 1
        return batch

    def peek(self, step: int) -> dict[str, np.ndarray]:
        return self._read.batch(self._read.plan[step])

    def largest(self) -> dict[str, np.ndarray]:
        return self._read.batch(_of_bucket(self._read.plan, -1))

    def average(self) -> dict[str, np.ndarray]:
        plan = self._read.plan
        return self._read.batch(_of_bucket(plan, _average_bucket(plan, self._read.source)))

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        return self.sent(step)

    def close(self) -> None:
        if self._iterator is not None:
            self._iterator.close()
        self._iterator, self._next = None, None


@dataclasses.dataclass(frozen=True, eq=False)
class Feed:
    """A source, and the place where its examples are kept.

    Attributes:
      source: the examples, decoded if they are kept in memory.
      storage: "device", "host" or "workers".
      reason: a phrase that explains the choice of storage.
      workers: number of processes that read the examples; 0 unless `storage` is "workers".
      shared: the shared columns.
    """

    source: Source
    storage: Storage
    reason: str
    workers: int = 0
    shared: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def examples(self) -> int:
        return len(self.source)

    @functools.cached_property
    def resident(self) -> dict[str, Any]:
        """The arrays to keep on the device: columns by name, and the shared columns under "shared"."""
        columns = self.source.arrays() if self.storage == "device" else {}
        return columns | ({SHARED: self.shared} if self.shared else {})

    def batches(self, seed: int, batch_size: int, rows: Rows = slice(None)) -> Batches:
        """The batches of training; `rows` selects this process's part of each batch, if several processes share it."""
        require(batch_size >= 1, f"batch_size={batch_size}: expected at least 1")
        if self.buckets is None:
            return self._batches(Shuffled(seed, self.examples, batch_size), rows)
        members = (np.flatnonzero(self.buckets == bucket).astype(np.int32) for bucket in np.unique(self.buckets))
        return self._batches(Bucketed(seed, tuple(members), batch_size), rows)

    @functools.cached_property
    def buckets(self) -> np.ndarray | None:
        """The bucket of every example, int32 [example]; None if no column is padded."""
        return assign(self.source.lengths, self.source.shapes) if _is_padded(self.source) else None

    @functools.cached_property
    def reading_order(self) -> np.ndarray | None:
        """The numbers of the examples in the order in which evaluations read them; None keeps the source's order."""
        if self.buckets is None:
            return None
        first = self.source.first
        late = np.zeros(self.examples, bool) if first is None else ~np.asarray(first, bool)
        return np.lexsort((self.buckets, late)).astype(np.int32)

    def _batches(self, plan: Plan, rows: Rows) -> Batches:
        if self.storage == "workers":
            return WorkerBatches(plan, self.source, workers=self.workers, rows=rows)
        return Batches(plan, self.source, resident=self.storage == "device", rows=rows)


def evaluation_batches(
    feed: Feed | Source, batch_size: int, examples: int | None = None, *, rows: Rows = slice(None)
) -> Iterator[dict[str, np.ndarray]]:
    """Yields the arrays from which `take` makes evaluation batches: every example once, in `Feed.reading_order`.

    Each batch has the examples' numbers in the split as `example`, int32 [batch]; the last batch is padded with
    examples of weight 0.

    Args:
      feed: the split.
      batch_size: number of examples in a batch.
      examples: number of examples, taken from the start of the split; None takes all.
      rows: selects this process's part of each batch.
    """
    feed = feed if isinstance(feed, Feed) else make_feed(feed, "host")
    plan = _in_order(feed, batch_size, examples)
    with feed._batches(plan, rows) as batches:
        for step in range(len(plan)):
            yield batches.sent(step) | {"example": plan[step]["index"][rows]}


def numbers_of_batches(feed: Feed, batch_size: int, examples: int | None = None) -> Iterator[np.ndarray]:
    """Yields the examples' numbers in each of the `evaluation_batches`, int32 [batch], whichever rows they have."""
    plan = _in_order(feed, batch_size, examples)
    yield from (plan[step]["index"] for step in range(len(plan)))


def largest_evaluation_batch(
    feed: Feed, batch_size: int, examples: int | None = None, *, rows: Rows = slice(None)
) -> dict[str, np.ndarray]:
    """The arrays of the largest of the `evaluation_batches`; starts no workers."""
    plan = _in_order(feed, batch_size, examples)
    step = 0 if feed.buckets is None else int(np.argmax(feed.buckets[plan.order])) // batch_size
    with feed._batches(plan, rows) as batches:
        return batches.peek(step) | {"example": plan[step]["index"][rows]}


def _in_order(feed: Feed, batch_size: int, examples: int | None) -> InOrder:
    require(batch_size >= 1, f"batch_size={batch_size}: expected at least 1")
    count = min(feed.examples, feed.examples if examples is None else examples)
    order = feed.reading_order
    return InOrder(count, batch_size, None if order is None else order[order < count])


def make_feed(
    source: Source,
    storage: Storage = "auto",
    workers: int = 2,
    *,
    memory_budget_bytes: int | None = None,
    host_budget_bytes: int | None = None,
) -> Feed:
    """Chooses where the examples of a source are kept, and decodes them unless workers read them.

    "auto" keeps the examples on the device if they fit into `memory_budget_bytes` (by default a quarter of the device's
    free memory), else in host memory if they fit into `host_budget_bytes` (by default half of the available memory);
    else `workers` processes read them.  Shared columns are always on the device.
    """
    conform(storage, Storage, "storage")
    size, common = nbytes(source) if len(source) else 0, shared(source)
    what = f"{counted(len(source), 'example')}, {_mebibytes(size)}"
    if common:
        shared_size = sum(x.nbytes for x in common.values())
        what, size = f"{what}, shared columns of {_mebibytes(shared_size)}", size + shared_size
    where = {"device": "on the device", "host": "in host memory", "workers": f"read by {counted(workers, 'worker')}"}
    chosen = storage
    if storage == "auto":
        chosen = "device"
        budgets = (
            ("host", "the device", memory_budget_bytes, device_budget),
            ("workers", "the host", host_budget_bytes, host_budget),
        )
        for fallback, place, given, default in budgets:
            budget = hosts.smallest("the memory for data", default()) if given is None else given
            if size <= budget:
                break
            chosen, what = fallback, f"{what}, over {place}'s budget of {_mebibytes(budget)}"
    if len(source):
        names = source.arrays() if hasattr(source, "arrays") else first_example(source)
        require(SHARED not in names, f"column {SHARED!r}: a batch has the shared columns under this name")
    kept = source if chosen == "workers" else _decoded(source)
    reason = f"{what}: {where[chosen]}" + ("" if storage == "auto" else ", as asked") + _remarks(source)
    return Feed(kept, chosen, reason, workers if chosen == "workers" else 0, common)


def _decoded(source: Source) -> Source:
    columns = materialize(source)
    return source if hasattr(source, "arrays") else Columns(columns, shared(source))


def _is_padded(source: Source) -> bool:
    return isinstance(source, Padded)


def _remarks(source: Source) -> str:
    """Describes the shapes and the share of padding of the batches, with the source's note."""
    said = [getattr(source, "note", "")]
    if _is_padded(source):
        used = len(np.unique(assign(source.lengths, source.shapes)))
        said.insert(0, f"{counted(used, 'shape')} of a batch, {padding(source.lengths, source.shapes):.1%} padding")
    return "".join(f"; {remark}" for remark in said if remark)


@dataclasses.dataclass(frozen=True, eq=False)
class _Read:
    """Makes the batch of a step in a worker process."""

    source: Source
    first: dict[str, np.ndarray]
    plan: Plan
    rows: Rows

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Opens the source when a worker starts: two threads that import its modules at once can deadlock."""
        self.__dict__.update(state)
        first_example(self.source)

    def __call__(self, step: int) -> dict[str, np.ndarray]:
        return self.batch(self.plan[step])

    def batch(self, asked: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The batch for the arrays that a plan asks for."""
        asked = _asked(self.source, asked, self.rows)
        columns = read(self.source, asked["index"], self.first)
        return take(columns, asked | {"index": np.arange(len(asked["index"]))})


def _weighted(batch: dict[str, Any], sent: dict[str, Any]) -> dict[str, Any]:
    index = sent["index"]
    weight = batch["weight"] if "weight" in batch else index.__array_namespace__().ones(index.shape, np.float32)
    numbers = {"example": sent["example"]} if "example" in sent else {}
    return batch | numbers | {"weight": weight * sent["weight"] if "weight" in sent else weight}


def _of_bucket(plan: Plan, bucket: int) -> dict[str, np.ndarray]:
    return plan.of(bucket) if isinstance(plan, Bucketed) else plan[0]


def _average_bucket(plan: Plan, source: Source) -> int:
    """The bucket whose length is nearest to the mean over the steps; 0 if there are no buckets."""
    if not isinstance(plan, Bucketed):
        return 0
    buckets = [
        assign({name: x[own[:1]] for name, x in source.lengths.items()}, source.shapes)[0] for own in plan.members
    ]
    places = np.array([sum(shape[bucket] for shape in source.shapes.values()) for bucket in buckets])
    mean = np.average(places, weights=[len(own) for own in plan.members])
    return int(abs(places - mean).argmin())


def _asked(source: Source, asked: dict[str, np.ndarray], rows: Rows) -> dict[str, np.ndarray]:
    """The arrays that a plan asks for, cut to `rows` of the batch, with the masks of padded columns."""
    sent = {name: x[rows] for name, x in asked.items()}
    if not _is_padded(source):
        return sent
    bucket = assign({name: x[asked["index"]] for name, x in source.lengths.items()}, source.shapes).max()
    for name, lengths in source.lengths.items():
        sent[f"{name}{MASK}"] = np.arange(source.shapes[name][bucket]) < lengths[sent["index"]][:, None]
    return sent


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB" if size < 2**30 else f"{size / 2**30:,.1f} GiB"
