"""`launch run … --profile STEPS`: traces some steps of training, and lists the operations that cost most."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import pathlib
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
from rich.console import Console
from rich.table import Table
from rich.text import Text

from research.config.hparams import hparams
from research.console import printable, say
from research.errors import RequestError, one_line, require
from research.parallel import hosts
from research.running.prepared import prepare
from research.running.request import Request
from research.training.programs import make_programs
from research.training.side_by_side import SideBySide
from research.training.utilization import Work, work_of
from research.whole_files import is_local, write_whole

LISTED = 10


class Operation(NamedTuple):
    """An operation of a program.

    Attributes:
      name: XLA's name of it.
      source: where in the model it comes from, as JAX names it; "" if unknown.
      seconds: in all traced steps, over all devices of this process, without operations inside it.
    """

    name: str
    source: str
    seconds: float


def profile(request: Request, steps: int, out: str | None) -> int:
    """Trains the request's first trial for a few steps under JAX's profiler, and discards what it learned.

    Writes into OUT/profile: a trace for the profile plug-in of TensorBoard or XProf, the same for
    https://ui.perfetto.dev in perfetto_trace.json.gz, and operations.csv with the time of every operation.

    Args:
      request: its first trial is traced.
      steps: to trace, after two calls that are not.
      out: the run's folder; None means runs/EXPERIMENT/SWEEP.

    Returns:
      The exit status.

    Raises:
      RequestError: the request is wrong, or the folder is not on this machine or cannot be written to.
    """
    prepared = prepare(request)
    name, experiment = next(iter(prepared.experiments.items()))
    feeds = prepared.feeds[name]
    folder = _made(out or request.folder)
    programs = make_programs(experiment, feeds.train.resident)
    size = experiment.batch_size
    own = feeds.train.batches(experiment.seed, size, programs.placement.rows(size))
    with contextlib.closing(SideBySide([own], stacked=False)) as batches:
        (sent,) = batches.take(0, 1)
        state = programs.init([experiment.seed], [hparams(experiment)], sent)
        most = programs.steps_per_call(state, sent)
        for step in range(2):  # the first call compiles
            state, metrics = programs.train(state, batches.take(step, 1))
        jax.block_until_ready(metrics)
        with jax.profiler.trace(str(folder), create_perfetto_trace=hosts.leads()):
            started, compiling, done = time.perf_counter(), programs.compiling_seconds, 0
            while done < steps:
                taken = batches.take(2 + done, min(most, steps - done))
                state, metrics = programs.train(state, taken)  # compiles for other lengths
                done += len(taken)
            jax.block_until_ready(metrics)
            seconds = time.perf_counter() - started - (programs.compiling_seconds - compiling)
        text = programs.train_program(state, sent).as_text()
        work = work_of(experiment, feeds.train.resident, own.average, programs.placement)
    if hosts.leads():
        _report(folder, operations(_events(folder), _sources(text)), steps, seconds, work)
    return 0


def _made(run: str) -> pathlib.Path:
    """Makes the folder of the profile in that of a run."""
    require(is_local(run), f"--out {run}: the profiler writes to this machine only; choose a folder here")
    folder = pathlib.Path(run) / "profile"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"--out {run}: cannot be written to: {one_line(error)}") from None
    return folder


def _report(folder: pathlib.Path, found: list[Operation], steps: int, seconds: float, work: Work) -> None:
    file = io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(Operation._fields)
    rows.writerows(found)
    write_whole(folder / "operations.csv", file.getvalue())
    total = sum(operation.seconds for operation in found)
    table = Table("operation", "from", "ms per step", "share")
    for operation in found[:LISTED]:
        each, share = f"{1e3 * operation.seconds / steps:,.3f}", f"{operation.seconds / total:.1%}"
        table.add_row(Text(printable(operation.name)), Text(printable(operation.source)), each, share)
    Console(width=120).print(table)
    rate = steps / seconds
    say(f"{rate:,.4g} steps per second, {rate * work.examples:,.4g} examples per second, while traced")
    mfu = work.utilization(rate)
    if mfu is not None:
        say(f"MFU: {mfu:.1%} of {work.chip.flops:.4g} FLOP/s on each of {work.devices} {work.chip.name}")
    say(f"the trace is in {folder}; perfetto_trace.json.gz in it opens at https://ui.perfetto.dev")


def _events(folder: pathlib.Path) -> list[dict[str, Any]]:
    """The events of the latest trace in a folder."""
    latest = max(folder.glob("plugins/profile/*/perfetto_trace.json.gz"), key=lambda path: path.stat().st_mtime)
    return json.loads(gzip.decompress(latest.read_bytes()))["traceEvents"]


def operations(events: Iterable[Mapping[str, Any]], sources: Mapping[str, str]) -> list[Operation]:
    """The operations in a trace, the costliest first.

    Args:
      events: of a trace in Chrome's format; those of XLA's operations have an argument "hlo_op".
      sources: where operations come from, by name.
    """
    seconds: dict[str, float] = defaultdict(float)
    threads: dict[tuple, list] = defaultdict(list)
    for event in events:
        if event.get("ph") == "X" and "hlo_op" in event.get("args", {}):
            threads[event["pid"], event["tid"]].append((event["ts"], -event["dur"], event["args"]["hlo_op"]))
    for thread in threads.values():
        around: list[tuple[float, str]] = []  # the ends and names of operations that have not ended
        for start, minus, name in sorted(thread):
            while around and around[-1][0] <= start:
                around.pop()
            if around:
                seconds[around[-1][1]] += minus / 1e6
            seconds[name] -= minus / 1e6
            around.append((start - minus, name))
    found = [Operation(name, sources.get(name, ""), spent) for name, spent in seconds.items()]
    return sorted(found, key=lambda operation: -operation.seconds)


def _sources(program: str) -> dict[str, str]:
    """Where the operations of a compiled program come from, by name."""
    return dict(re.findall(r"%?([\w.\-]+) = .*metadata=\{[^}]*op_name=\"([^\"]*)\"", program))
