"""Slots of a stack: slot i is trial i, with its files and its part of the state."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from research.errors import RequestError, Stopped, nearest, one_line, placed
from research.evaluation.evaluations import selecting
from research.evaluation.exhibit_files import write_exhibits
from research.parallel import hosts
from research.parallel.placement import Placement
from research.tasks.task import metrics_of
from research.training.callbacks import Callback, Callbacks
from research.training.checkpoints import CorruptCheckpoint, Store
from research.training.early_stopping import exhausted
from research.training.evaluate import task_of
from research.training.pending import StepMetrics
from research.training.records import MetricsLog, finite, write_json
from research.training.state import TrainState
from research.training.trial import Trial, record_failure, standing


class Slot:
    """One trial of a stack: its files, its status and its metrics.

    Attributes:
      index: place in the stack.
      status: None during training; then "finished", "diverged", "failed", or "paused" if it has reached `until`.
      metrics: the latest metrics of each evaluation and the training loss, {"validation/loss": ...}, for result.json.
      scores: the metrics of the evaluations at step `scored`.
      watched: the values of the early-stopping metric, one per evaluation.
      trouble: an error of this process, of which the others do not know yet.
    """

    def __init__(
        self,
        index: int,
        trial: Trial,
        until: int,
        note: Callable[[str], None],
        permit: Callable[[], None] = lambda: None,
        callbacks: Sequence[Callback] = (),
    ):
        self.index = index
        self.trial = trial
        self.note = note
        self.permit = permit
        experiment = trial.experiment
        self.evaluations = {evaluation.name: evaluation for evaluation in experiment.all_evaluations()}
        policy, best = experiment.checkpoints, None
        if policy.best is not None:
            best = selecting("checkpoints.best=", policy.best, experiment.all_evaluations(), experiment.task)[1]
        self.store = Store(
            trial.folder / "checkpoints",
            policy,
            best,
            trial=trial.name,
            note=lambda line: note(f"{trial.name}: {line}"),
        )
        self.log: MetricsLog | None = None
        self.callbacks = Callbacks(callbacks, lambda line: note(f"{trial.name}: {line}"))
        self.status = hosts.by_leader(f"the standing of {trial.name}", lambda: standing(trial, until))
        self.trouble: Exception | None = None
        self.metrics: dict[str, float | None] = {}
        self.scored, self.scores = -1, {}
        self.watched: list[float | None] = []

    @property
    def active(self) -> bool:
        return self.status is None

    @property
    def stopping(self) -> bool:
        """True if the early-stopping metric has not improved for as long as the policy allows."""
        experiment = self.trial.experiment
        policy = experiment.early_stopping
        if policy is None or not self.active:
            return False
        asked = "early_stopping.metric="
        direction = selecting(asked, policy.metric, experiment.all_evaluations(), experiment.task)[1]
        return exhausted(self.watched, policy, direction)

    def open(self, step: int, *, evaluated_again: bool) -> None:
        """Opens the files to continue from `step`, and removes metrics and checkpoints of later steps."""

        def read() -> dict[str, Any]:
            once = [evaluation.name for evaluation in self.evaluations.values() if evaluation.once]
            self.log = MetricsLog(
                self.trial.folder,
                resume_from=step,
                evaluated_again=evaluated_again,
                once=once,
                written=self.store.records.logged(step) if step else None,
                permit=self.permit,
            )
            self.callbacks.open(self.trial, step)
            if self.log.damaged:
                lines = f"lines before step {step} are missing or changed"
                self.note(f"{self.trial.name}: metrics.jsonl is damaged: {lines}")
            scores: dict[int, dict[str, float | None]] = {}
            for line in self.log.kept:
                name, metrics = line["split"], {name: x for name, x in line.items() if name not in ("step", "split")}
                self._remember(name, metrics)
                scores.setdefault(line["step"], {}).update({f"{name}/{metric}": x for metric, x in metrics.items()})
            kept = [] if self.log.damaged else list(scores.items())
            return {"metrics": self.metrics, "watched": self.watched, "scores": kept}

        known = hosts.by_leader(f"the metrics of {self.trial.name}", read)
        self.metrics, self.watched, self.store.scores = known["metrics"], known["watched"], dict(known["scores"])
        self.store.delete_after(step)

    def follow(self, read: StepMetrics, due: Callable[[int], bool]) -> int | None:
        """Writes the training metrics of the steps that are due.

        Returns the first step whose loss or gradient is not finite, or None.
        """
        values = {name: x[:, self.index] for name, x in read.values.items()}
        bad = ~(np.isfinite(values["loss"]) & np.isfinite(values["gradient_norm"]))
        diverged = read.start + int(np.argmax(bad)) + 1 if bad.any() else None
        last = read.start + read.steps if diverged is None else diverged
        lines = {
            step: {name: float(x[step - read.start - 1]) for name, x in values.items()}
            for step in range(read.start + 1, last + 1)
            if due(step) or step == diverged
        }
        if lines:
            self.guarded(self._add, lines)
        return diverged

    def _add(self, lines: Mapping[int, Mapping[str, float]]) -> None:
        for step, line in lines.items():
            if self.log is not None:
                self.log.write(step, "train", line)
            self.callbacks.each("write", step, "train", line)
            self._remember("train", line)
        if self.log is not None:
            self.log.flush()

    def score(self, step: int, name: str, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Writes the metrics and the exhibits of an evaluation; returns the metrics."""
        metrics = hosts.by_leader(f"{name} of {self.trial.name}", lambda: self._written(step, name, outputs))
        self._remember(name, metrics)
        kept = self.scores if self.scored == step else {}
        self.scored, self.scores = step, kept | {f"{name}/{metric}": finite(x) for metric, x in metrics.items()}
        return metrics

    def _written(self, step: int, name: str, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Computes the metrics and the exhibits of an evaluation, and writes them."""
        task = task_of(self.trial.experiment, self.evaluations[name])
        metrics, exhibits = metrics_of(task, outputs), task.exhibits(outputs)
        self.log.write(step, name, metrics)
        self.log.flush()
        self.callbacks.each("write", step, name, metrics)
        class_names = self.trial.experiment.data.class_names
        show = functools.partial(self.callbacks.each, "show", step, name)
        for line in write_exhibits(self.trial.folder, name, step, exhibits, class_names=class_names, show=show):
            self.note(f"{self.trial.name}: {line}")
        return metrics

    def _remember(self, name: str, line: Mapping[str, float | None]) -> None:
        line = {"loss": line["loss"]} if name == "train" else line
        found = {f"{name}/{metric}": None if x is None else finite(x) for metric, x in line.items()}
        self.metrics |= found
        policy = self.trial.experiment.early_stopping
        if policy is not None and policy.metric.partition("/")[0] == name:
            if policy.metric not in found:
                raise RequestError(
                    f"early_stopping.metric={policy.metric}: no such metric; {nearest(policy.metric, found)}"
                )
            self.watched.append(found[policy.metric])

    def save(self, step: int, state: TrainState, spent: Mapping[str, float]) -> None:
        """Starts saving the trial's state, with the scores at this step."""
        if step in self.store.steps():
            return
        scores = self.scores if self.scored == step else {}
        best = self.trial.experiment.checkpoints.best
        beside = [] if best is None else [name for name in scores if name.partition("/")[0] == best.partition("/")[0]]
        if beside and best not in beside:
            raise RequestError(f"checkpoints.best={best}: no such metric; {nearest(best, beside)}")
        written = hosts.by_leader(f"the metrics of {self.trial.name}", self._written_so_far)
        self.store.save(step, state, scores, spent, written)
        self.callbacks.each("save", step)

    def _written_so_far(self) -> dict[str, int]:
        self.log.flush()
        return self.log.written

    def restore_best(self, like: TrainState) -> TrainState:
        """The trial's state at its best evaluation."""
        self.store.wait()
        best = hosts.by_leader(f"the best step of {self.trial.name}", self.store.best_step)
        if best is None:
            raise RequestError(f"checkpoints.best={self.trial.experiment.checkpoints.best}: never finite")
        return self.store.restore(best, like)

    def guarded(self, action: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Calls `action(*arguments, **named)` if the trial is active; an error fails this trial only.

        If several processes train it, they ask for permission and fail the trial at the next `Slots.settle`, so that
        all of them take the same actions.
        """
        if not self.active:
            return None
        if not hosts.several():
            self.permit()
        try:
            return action(*arguments, **named)
        except Stopped:
            raise
        except Exception as error:  # files, Orbax and the metrics of a task can raise anything
            self.trouble = self.trouble or error
            if not hosts.several():
                self.fail(error)
            return None

    def fail(self, error: Exception) -> None:
        """Ends the trial as failed."""
        hosts.by_leader(f"the failure of {self.trial.name}", lambda: self._record(error))
        self.end("failed", error=placed(error))

    def _record(self, error: Exception) -> None:
        self.permit()
        with contextlib.suppress(OSError):
            record_failure(self.trial.folder, error)

    def end(self, status: str, **facts: Any) -> None:
        """Closes the trial's files and writes result.json; the file is missing if it cannot be written."""
        hosts.by_leader("the permission to write", self.permit)
        self.status = status
        problem = None if self.trouble is None else placed(self.trouble)
        for close in (self.log.close if self.log else lambda: None, self.store.close):
            try:
                close()
            except Stopped:
                raise
            except Exception as error:
                problem = problem or one_line(error)
        if problems := [x for x in hosts.gather(f"the end of {self.trial.name}", problem) if x is not None]:
            self.status, facts["error"] = "failed", facts.get("error", problems[0])
        hosts.by_leader(f"the result of {self.trial.name}", lambda: self._write_result(facts))

    def _write_result(self, facts: Mapping[str, Any]) -> None:
        if self.status == "failed":
            self.note(f"{self.trial.name}: failed: {facts['error']}")
        self.permit()
        with contextlib.suppress(OSError):
            write_json(self.trial.folder / "result.json", {"status": self.status, "metrics": self.metrics, **facts})
            if self.status != "failed":
                (self.trial.folder / "error.txt").unlink(missing_ok=True)
        self.callbacks.each("end", self.status, self.metrics)
        self.callbacks.close()

    def close(self) -> None:
        """Closes the files without ending the trial."""
        if self.log is not None:
            self.log.close()
        self.callbacks.close()
        self.store.close()


class Slots:
    """Trials that run through one program together: a stack of trials, or one trial without the trial axis."""

    def __init__(
        self,
        trials: Sequence[Trial],
        placement: Placement,
        until: int,
        note: Callable[[str], None],
        permit: Callable[[], None] = lambda: None,
        callbacks: Sequence[Callback] = (),
    ):
        self.slots = [Slot(i, trial, until, note, permit, callbacks) for i, trial in enumerate(trials)]
        self.permit = permit
        self.placement = placement
        self.note = note

    @property
    def active(self) -> list[Slot]:
        """The slots that still train."""
        return [slot for slot in self.slots if slot.active]

    @property
    def stopping(self) -> list[Slot]:
        """The slots whose early-stopping policy ends them now."""
        return [slot for slot in self.slots if slot.stopping]

    def each(self, action: Callable[..., Any], *arguments: Any, **named: Any) -> None:
        """Calls action(slot, ...) for each active slot; an error fails only that trial."""
        for slot in self.active:
            slot.guarded(action, slot, *arguments, **named)

    def settle(self) -> None:
        """Fails the trials, in every process, that are in trouble in one of them.

        Raises:
          Stopped: nothing may be written any more.
        """
        if not hosts.several():
            return
        hosts.by_leader("the permission to write", self.permit)
        own = {str(slot.index): one_line(slot.trouble) for slot in self.slots if slot.trouble is not None}
        for process, troubles in enumerate(hosts.gather("the troubles of trials", own)):
            for index, error in troubles.items():
                slot = self.slots[int(index)]
                if slot.active:
                    slot.fail(slot.trouble or RuntimeError(f"process {process}: {error}"))

    def restore(self, state: TrainState) -> tuple[int, TrainState]:
        """(step, state) of the latest step whose checkpoints are readable for every active trial; else (0, state)."""
        active, whole = self.active, self.placement.whole(state)
        like = self.placement.part(whole, 0)
        for slot in active:
            slot.store.open()
        steps = hosts.by_leader("the saved steps", lambda: {slot.trial.name: slot.store.steps() for slot in active})
        readable = {name: set(saved) for name, saved in steps.items()}
        saved = {name for name, steps in readable.items() if steps}
        for step in sorted(set.intersection(*readable.values()), reverse=True):
            parts, errors = {}, {}
            for slot in active:
                try:
                    with hosts.together(f"restoring step {step} of {slot.trial.name}"):
                        parts[slot.index] = slot.store.restore(step, like)
                except (CorruptCheckpoint, hosts.Elsewhere) as error:
                    readable[slot.trial.name].remove(step)
                    errors[slot.trial.name] = error
            if not errors:
                return step, self.placement.place(self._joined(whole, parts))
            unreadable = "checkpoint unreadable, falling back to the one before it"
            self.note(f"{', '.join(errors)}: {unreadable}: {next(iter(errors.values()))}")
        if saved:
            without = [name for name, steps in readable.items() if not steps]
            for name in without:
                self.note(f"{name}: no checkpoint to continue from, starting at step 0")
            if others := [name for name in readable if name not in without]:
                why = f"train together with {', '.join(without)}" if without else "have no checkpoint of the same step"
                self.note(f"{', '.join(others)}: {why}, starting at step 0")
        return 0, state

    def spent(self, step: int) -> dict[str, float]:
        """The training time and steps that were saved with a step; {} if they are damaged in every trial."""
        return next((spent for slot in self.active if (spent := slot.store.records.spent(step))), {})

    def save(self, state: TrainState, step: int, spent: Mapping[str, float]) -> None:
        """Starts saving the state of each active trial; `spent` holds the training time and steps so far."""
        for slot in self.active:  # every trial finishes its last checkpoint before any starts the next
            slot.guarded(slot.store.wait)
        self.settle()
        host = self.placement.snapshot(state)
        self.each(lambda slot: slot.save(step, self.placement.part(host, slot.index), spent))

    def best(self, state: TrainState, among: Sequence[Slot]) -> TrainState:
        """The state in which the trials `among` are restored from their best evaluations."""
        whole, parts = self.placement.whole(state), {}
        for slot in among:
            restored = slot.guarded(slot.restore_best, self.placement.part(whole, slot.index))
            parts |= {} if restored is None else {slot.index: restored}
        return self.placement.place(self._joined(whole, parts))

    def _joined(self, state: TrainState, parts: Mapping[int, TrainState]) -> TrainState:
        """The state with the parts of some trials, {index: state}, replaced."""
        part = self.placement.part
        return self.placement.join([parts.get(i) or part(state, i) for i in range(len(self.slots))])
