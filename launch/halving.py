"""Successive halving: trials that are hopeless at a rung do not train on (Jamieson & Talwalkar, 2016)."""

from __future__ import annotations

import dataclasses
import math

from launch.folder import RunFolder
from launch.request import Request
from research.errors import RequestError
from research.loop import finished_status
from research.records import read_json, read_lines, write_json


@dataclasses.dataclass(frozen=True)
class Halving:
    """At each rung the best 1 / `eta` of the trials by a validation metric train on, `eta` times as long.

    Attributes:
      metric: of the validation split, without "validation/".
      mode: whether the best value is the largest or the smallest.
      rungs: steps at which trials are compared, rising.
    """

    metric: str
    mode: str
    rungs: tuple[int, ...]
    eta: int = 3

    @staticmethod
    def parse(text: str, request: Request) -> Halving:
        """ "validation/accuracy:max" as the rungs of a request.

        Raises:
          RequestError: the text is none such, or the trials differ in length.
        """
        metric, _, mode = text.partition(":")
        if not metric.startswith("validation/") or mode not in ("max", "min"):
            raise RequestError(f"--prune {text}: expected a validation metric and a mode, such as validation/loss:min")
        steps = {trial.experiment.steps for trial in request.trials}
        if len(steps) > 1:
            raise RequestError(f"--prune {text}: the trials have {sorted(steps)} steps; expected as many of each")
        eta, (total,) = 3, steps
        count = max(0, math.ceil(math.log(len(request.trials), eta)) - 1)
        rungs = tuple(total // eta**k for k in range(count, 0, -1) if total // eta**k >= 1)
        return Halving(metric.removeprefix("validation/"), mode, rungs, eta)

    def prune(self, folder: RunFolder, rung: int, names: list[str]) -> None:
        """Ends the trials that are not among the best at `rung`; their results say at which step and of how many."""
        alive = [name for name in names if not finished_status(folder.trial(name))]
        scores = {name: self._score(folder, name, rung) for name in alive}
        scored = sorted((name for name in alive if scores[name] is not None), key=lambda name: self._key(scores[name]))
        for rank, name in enumerate(scored):
            if rank >= max(1, math.ceil(len(scored) / self.eta)):
                result = {
                    "status": "finished",
                    "metrics": {f"validation/{self.metric}": scores[name]},
                    "steps": rung,
                    "pruned_at_step": rung,
                    "error": f"pruned at step {rung}: place {rank + 1} of {len(scored)} by validation/{self.metric}",
                }
                write_json(folder.trial(name) / "result.json", result)

    def _key(self, score: float) -> float:
        return -score if self.mode == "max" else score

    def _score(self, folder: RunFolder, name: str, rung: int) -> float | None:
        if (read_json(folder.trial(name) / "result.json") or {}).get("status") == "failed":
            return None
        path = folder.trial(name) / "metrics.jsonl"
        lines = read_lines(path) if path.exists() else []
        found = [r for r in lines if r["split"] == "validation" and r["step"] == rung]
        if found and self.metric not in found[-1]:
            raise RequestError(f"--prune: no metric {self.metric!r}; one of {', '.join(sorted(found[-1]))}")
        return found[-1][self.metric] if found else None
