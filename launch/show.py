"""`launch show` and `launch plan`: print what would be trained, without training it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from rich.console import Console
from rich.table import Table
from rich.text import Text

from launch.data import absent_data
from research.config.modules import load_module
from research.config.serialization import stable_hash, to_json
from research.console import counted, printable, say
from research.data.feed import take
from research.data.feeds import Feeds
from research.errors import in_one_line
from research.experiment import Experiment
from research.parameters import ParameterTable
from research.running import plan
from research.running.prepared import Prepared, prepare
from research.running.request import Request
from research.sweep import Sweep
from research.training.abstract import abstract_state
from research.training.flops import step_flops
from research.training.progress import duration

NAMED = 12
"""The number of variants of a sweep that are named."""


def show(request: Request) -> int:
    """Prints the docstring and the sweeps of an experiment, the resolved configuration, the parameters by path, the
    columns of the data, and the FLOPs of one step.

    If the data are a data set that is not there, prints the configuration as it is written, and how to get the data.
    """
    absent = absent_data(request)
    if absent is not None:
        _print_module(request)
        say(json.dumps(_shortened(to_json(request.experiment)), indent=1))
        say(f"the data set {absent.name} is not there, which parameters and FLOPs depend on; {absent.how}")
        return 0
    prepared = prepare(request)
    _print_module(request)
    name = next(iter(prepared.experiments))
    experiment, feeds = prepared.experiments[name], prepared.feeds[name]
    say(json.dumps(_shortened(to_json(experiment)), indent=1))
    say(f"hash: {stable_hash(experiment)}")
    state, flops = _abstract(experiment, feeds)
    say(str(ParameterTable.of(state.params)))
    _print_columns(experiment.data.inferred(feeds.train.source))
    each = flops / experiment.batch_size
    say(f"FLOPs per step: {flops:,.0f} ({each:,.0f} per example) in products, forward and backward")
    say(f"data: {feeds.train.reason}")
    return 0


def _print_module(request: Request) -> None:
    """Prints the docstring of the experiment's module, and its sweeps with their variants."""
    module = load_module(request.module)
    say(inspect.cleandoc(module.__doc__ or "") + "\n" * bool(module.__doc__))
    with in_one_line():
        sweeps = module.sweeps() if hasattr(module, "sweeps") else {}
    for name, sweep in sweeps.items() if isinstance(sweeps, Mapping) else ():
        if isinstance(sweep, Sweep):
            names = list(dict.fromkeys(variant.name or "base" for variant in sweep))
            repeated = f" in {counted(len(sweep), 'trial')} per seed" if len(sweep) > len(names) else ""
            more = [f"… {len(names) - NAMED:,} more"] if len(names) > NAMED else []
            say(f"--sweep {name}: {counted(len(names), 'variant')}{repeated}: {'; '.join([*names[:NAMED], *more])}")


def _print_columns(columns: Sequence[Mapping[str, str]]) -> None:
    """Prints how the columns of the data are read, a line each."""
    if not columns:
        return
    table = Table(*columns[0], title=None)
    for column in columns:
        table.add_row(*(Text(printable(text)) for text in column.values()))
    Console(width=120).print(table)


def _shortened(value: Any) -> Any:
    """Shortens long texts in a JSON value, such as a vocabulary."""
    if isinstance(value, dict):
        return {key: _shortened(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_shortened(entry) for entry in value]
    if isinstance(value, str) and len(value) > 500:
        return f"{value[:100]} … ({len(value):,} characters)"
    return value


def _abstract(experiment: Experiment, feeds: Feeds):
    """Returns (shapes of the state, FLOPs of a step) by tracing alone."""
    batches = feeds.train.batches(experiment.seed, experiment.batch_size)
    batch = take(feeds.train.resident, batches.average())
    batches.close()
    state = abstract_state(experiment, batch)
    return state, step_flops(experiment, state, batch)


def show_plan(request: Request, stack: str) -> int:
    """Prints groups, programs, memory and time, estimated from a few steps that are discarded; writes nothing."""
    prepared = prepare(request)
    table = Table("program", "trials", "first", "way", "memory", "steps", "time")
    programs, seconds, cache = 0, 0.0, plan.ProgramCache()
    for undecided in plan.group(prepared.experiments, request.experiment.steps, prepared.once):
        for group, needed, rate in _estimates(undecided, prepared, stack, cache):
            steps = prepared.experiments[group.trials[0]].steps
            took = steps * len(group.trials) / rate
            programs, seconds = programs + 1, seconds + took
            way = "side by side" if group.stacked else "one after another"
            table.add_row(
                str(programs),
                str(len(group.trials)),
                group.trials[0],
                way if len(group.trials) > 1 else "alone",
                f"{needed / 2**20:,.1f} MiB",
                f"{steps:,}",
                duration(took),
            )
    Console(width=120).print(table)
    count, kind = jax.device_count(), jax.devices()[0].device_kind
    where = f"{kind} device" if count == 1 else f"each of {count} {kind} devices"
    memory = f"{plan.device_memory() / 2**30:.1f} GiB free on {where}"
    trials = f"{counted(len(prepared.experiments), 'trial')}, {counted(programs, 'program')}"
    say(f"{trials}, about {duration(seconds)} of training here; {memory}")
    return 0


def _estimates(undecided: plan.Group, prepared: Prepared, stack: str, cache: plan.ProgramCache):
    """Returns (group, memory of its program in bytes, trial steps per second) for each chunk."""
    feeds = prepared.of(undecided.trials)
    for group in plan.decide(undecided, prepared.experiments, feeds, stack, cache):
        own = [prepared.experiments[name] for name in group.trials]
        candidate = cache.get(own, feeds, stacked=bool(group.stacked), sized=True, timed=True)
        yield group, candidate.memory, candidate.trial_steps_per_second
