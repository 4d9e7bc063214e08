"""The request of a command line as a value: the experiment, its sweep, and its trials."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from launch.list import module_name, short_name
from research import sweep as sweeping
from research.config.modules import load_module
from research.config.once import Once, hash_of
from research.config.override import conformed, override, parse_assignment
from research.config.serialization import stable_hash, to_json
from research.errors import RequestError, in_one_line, require
from research.experiment import Experiment


@dataclasses.dataclass(frozen=True)
class Request:
    """A sweep of an experiment with its changes, resolved into trials.

    Attributes:
      module: the experiment's module, or file:PATH.
      sweep: the sweep's name; None without one.
      settings: {dotted path: text} from --set.
      seeds: the number of seeds from --seeds; None keeps the sweep's own.
      baseline: the variant that others are compared with, if the sweep has one.
    """

    module: str
    sweep: str | None
    settings: dict[str, str]
    seeds: int | None
    experiment: Experiment
    baseline: str | None
    trials: tuple[sweeping.PlannedTrial, ...]

    @property
    def default_folder(self) -> str:
        return f"runs/{short_name(self.module)}/{self.sweep or 'base'}"

    def record(self) -> dict[str, Any]:
        """The request as written to sweep.json; a continued run must match it."""
        return self._record

    @functools.cached_property
    def _record(self) -> dict[str, Any]:
        once = Once()
        return {
            "experiment": self.module,
            "sweep": self.sweep,
            "settings": self.settings,
            "seeds": self.seeds,
            "baseline": self.baseline,
            "hash": stable_hash(self.experiment),
            "trials": [
                {
                    "name": trial.name,
                    "variant": trial.variant,
                    "seed": trial.seed,
                    "overrides": {path: to_json(value) for path, value in trial.overrides.items()},
                    "hash": hash_of(trial.experiment, once),
                }
                for trial in self.trials
            ],
        }


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
    baseline = chosen.baseline if chosen is not None else None
    return Request(module, sweep, texts, seeds, base, baseline, tuple(specs))


def _sweep(source: ModuleType, experiment: str, name: str) -> sweeping.Sweep:
    """The sweep of that name in a module."""
    with in_one_line():
        sweeps = source.sweeps() if hasattr(source, "sweeps") else {}
    if not isinstance(sweeps, Mapping):
        raise RequestError(f"{experiment}: sweeps() returns a {type(sweeps).__name__}, not a dict of sweeps")
    chosen = sweeping.require_sweep(sweeps, name)
    if not isinstance(chosen, sweeping.Sweep):
        kind = type(chosen).__name__
        raise RequestError(f"--sweep {name}: {name!r} is a {kind}, not a Sweep; grid, product, ablation, ... make one")
    return chosen


def _check_settings_matter(settings: Mapping[str, str], sweep: sweeping.Sweep, name: str) -> None:
    """Raises RequestError for a --set that every variant of the sweep overrides."""
    for path, text in settings.items():
        overruled = (any(f"{path}.".startswith(f"{own}.") for own in variant.overrides) for variant in sweep)
        if len(sweep) and all(overruled):
            every = f"every variant of --sweep {name} sets it"
            raise RequestError(f"--set {path}={text}: {every}, so it would change nothing")
