"""Successive halving: stops the worst trials at each rung (Jamieson & Talwalkar, 2016)."""

from __future__ import annotations

import dataclasses
import math
import sys

from research.console import counted, say
from research.errors import RequestError, nearest, require
from research.evaluation.evaluations import selecting
from research.metrics.directions import Direction
from research.running.folder import RunFolder
from research.running.request import Request
from research.training.checkpoint_records import metrics_at
from research.training.records import write_json
from research.training.trial import finished_status


@dataclasses.dataclass(frozen=True)
class Halving:
    """At each rung, only the best 1 / `eta` of the trials by a validation metric continue, for `eta` times as many
    steps.

    Attributes:
      metric: a metric of an evaluation during training, such as "validation/accuracy".
      direction: "max" if the largest value is best, "min" if the smallest is, as declared by the task.
      rungs: the steps at which trials are compared, in ascending order.
      eta: the reduction factor.
    """

    metric: str
    direction: Direction
    rungs: tuple[int, ...]
    eta: int = 3

    @staticmethod
    def parse(text: str, request: Request) -> Halving:
        """Makes the rungs of a request from "validation/accuracy"; "validation/accuracy:max" repeats the task's
        direction.

        Raises:
          RequestError: the text is invalid, the task declares no direction or another one, trials differ in length, or
            there are too few of them.
        """
        metric, _, mode = text.partition(":")
        experiment = request.experiment
        declared = selecting("--prune ", metric, experiment.all_evaluations(), experiment.task)[1]
        if mode not in ("", declared):
            raise RequestError(f"--prune {text}: the task declares {declared} as best; expected --prune {metric}")
        steps = {trial.experiment.steps for trial in request.trials}
        if len(steps) > 1:
            raise RequestError(f"--prune {text}: the trials have {sorted(steps)} steps; expected equal numbers")
        eta, count, (total,) = 3, 0, steps
        while eta ** (count + 1) < len(request.trials):
            count += 1
        rungs = tuple(total // eta**k for k in range(count, 0, -1) if total // eta**k >= 1)
        if not rungs:
            asked = f"{counted(len(request.trials), 'trial')} of {counted(total, 'step')}"
            leave = "leaves" if len(request.trials) == 1 else "leave"
            raise RequestError(f"--prune {text}: {asked} {leave} nothing to prune; expected at least {eta + 1} trials")
        return Halving(metric, declared, rungs, eta)

    def prune(self, folder: RunFolder, rung: int, names: list[str]) -> None:
        """Ends the trials that are not among the best at `rung`; their results record the step and the rank.

        Ranks every trial that reached the rung, including trials that have ended since, so that a continued run prunes
        in the same way.
        """
        scores = {}
        for name in names:
            metrics = metrics_at(folder.trial(name), name, rung, lambda line: say(line, sys.stderr))
            if metrics:
                require(
                    self.metric in metrics, f"--prune {self.metric}: no such metric; {nearest(self.metric, metrics)}"
                )
                scores[name] = metrics[self.metric]
        ranked = sorted(scores, key=lambda name: self._key(scores[name]))
        for rank, name in enumerate(ranked):
            if rank >= math.ceil(len(ranked) / self.eta) and not finished_status(folder.trial(name)):
                result = {
                    "status": "finished",
                    "metrics": {self.metric: scores[name]},
                    "steps": rung,
                    "pruned_at_step": rung,
                    "error": f"pruned at step {rung}: place {rank + 1} of {len(ranked)} by {self.metric}",
                }
                write_json(folder.trial(name) / "result.json", result)

    def _key(self, score: float | None) -> float:
        """A sort key that puts the best score first and scores that are not finite last."""
        if score is None:
            return math.inf
        return -score if self.direction == "max" else score
