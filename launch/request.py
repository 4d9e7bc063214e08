"""Reads the request of a command line: the experiment, its sweep, its changes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import ModuleType

from launch.list import module_name, short_name
from launch.program import command
from research import sweep as sweeping
from research.config.modules import load_module
from research.config.override import conformed, override, parse_assignment
from research.errors import RequestError, in_one_line, prefixed, require
from research.experiment import Experiment
from research.running.request import Request
from research.training.callbacks import as_callbacks
from research.training.loggers import DEFAULT


def read_request(
    experiment: str, *, sweep: str | None = None, settings: Sequence[str] = (), seeds: int | None = None
) -> Request:
    """Imports the experiment and resolves the request into trials.

    A setting overrides the experiment and everything that the variants of the sweep share, but not what they compare.

    Raises:
      RequestError: anything in the request is wrong; one line says what.
    """
    module = module_name(experiment)
    source = load_module(module)
    require(callable(getattr(source, "experiment", None)), f"{experiment}: it defines no function experiment()")
    require(seeds is None or seeds >= 1, f"--seeds {seeds}: expected at least 1")
    with in_one_line():
        base = source.experiment()
    if not isinstance(base, Experiment):
        raise RequestError(f"{experiment}: experiment() returns a {type(base).__name__}, not an Experiment")
    texts = dict(parse_assignment(text) for text in settings)
    chosen = None if sweep is None else _sweep(source, experiment, sweep)
    if chosen is not None:
        alike, chosen = sweeping.shared(chosen, texts)
        _check_settings_matter(texts, chosen, sweep)
        base = override(base, alike)
    with in_one_line():  # a part may compute something when it is made
        base = conformed(override(conformed(base), texts, parse=True))
        specs = sweeping.trials(base, chosen, seeds=seeds)
        callbacks = as_callbacks(source.callbacks()) if hasattr(source, "callbacks") else DEFAULT
    baseline = chosen.baseline if chosen is not None else None
    return Request(
        module=module,
        sweep=sweep,
        settings=texts,
        seeds=seeds,
        experiment=base,
        baseline=baseline,
        trials=tuple(specs),
        folder=f"runs/{short_name(module)}/{sweep or 'base'}",
        code=os.path.dirname(source.__file__ or ""),
        command=command(),
        callbacks=callbacks,
    )


def _sweep(source: ModuleType, experiment: str, name: str) -> sweeping.Sweep:
    """The sweep of that name in a module."""
    with in_one_line():
        sweeps = source.sweeps() if hasattr(source, "sweeps") else {}
    if not isinstance(sweeps, Mapping):
        raise RequestError(f"{experiment}: sweeps() returns a {type(sweeps).__name__}, not a dict of sweeps")
    chosen = sweeping.require_sweep(sweeps, name)
    with prefixed(f"--sweep {name}: "):
        return sweeping.as_sweep(chosen, repr(name))


def _check_settings_matter(settings: Mapping[str, str], sweep: sweeping.Sweep, name: str) -> None:
    """Raises RequestError for a --set that every variant of the sweep overrides."""
    for path, text in settings.items():
        overruled = (any(f"{path}.".startswith(f"{own}.") for own in variant.overrides) for variant in sweep)
        if len(sweep) and all(overruled):
            every = f"every variant of --sweep {name} sets it"
            raise RequestError(f"--set {path}={text}: {every}, so it would change nothing")
