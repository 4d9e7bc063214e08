"""The request for a run as a value: an experiment, its sweep, and the trials that follow from them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from research import sweep as sweeping
from research.config.once import Once, hash_of
from research.config.serialization import stable_hash, to_json
from research.experiment import Experiment
from research.training.callbacks import Callback
from research.training.loggers import DEFAULT


@dataclasses.dataclass(frozen=True)
class Request:
    """A sweep of an experiment with its changes, resolved into trials.

    Attributes:
      module: the experiment's module, file:PATH, or the name of an experiment that is only a value.
      sweep: the sweep's name; None without one.
      settings: {dotted path: text} from --set.
      seeds: the seeds or their number, as asked for; None keeps the sweep's own.
      baseline: the variant that others are compared with, if the sweep has one.
      folder: the run's folder, unless another one is asked for.
      code: the folder with the code of the experiment, whose commit is recorded.
      command: how the run was asked for, as recorded.
      callbacks: hear of the events of each trial; they change no result, so they are not recorded.
    """

    module: str
    sweep: str | None
    settings: dict[str, str]
    seeds: int | Sequence[int] | None
    experiment: Experiment
    baseline: str | None
    trials: tuple[sweeping.PlannedTrial, ...]
    folder: str
    code: str
    command: str = ""
    callbacks: tuple[Callback, ...] = DEFAULT

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
