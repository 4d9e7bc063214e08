"""The host's side of training: batches in, metrics out; evaluation, checkpoints, resuming, stopping.

`train` takes trials that share a program and trains them stacked, or one after another, in their own folders.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from research.config.hparams import hparams
from research.data.feed import Batches
from research.data.feeds import Feeds
from research.errors import RequestError, nearest
from research.evaluation.evaluations import split_outputs
from research.parallel.programs import Programs
from research.training.checkpoints import CorruptCheckpoint
from research.training.progress import Progress
from research.training.records import MetricsLog, finite
from research.training.state import TrainState, is_key, stack, unstack
from research.training.transfer import initial_parameters
from research.training.trial import Trial, TrialRecord

SECONDS_PER_CALL = 0.25
"""About how long one call may train for, where one call takes several steps: the progress and a SIGTERM wait for it."""

MAX_IN_FLIGHT = 16
"""Calls whose metrics have not been read yet; they are read together, and never that of the latest call."""


class Interrupted(Exception):
    """Training was asked to stop; everything up to `step` is saved."""

    def __init__(self, step: int):
        super().__init__(f"stopped at step {step}")
        self.step = step


@dataclasses.dataclass
class Spent:
    """What training up to a step took, over all the processes that trained, without what compiling took.

    Attributes:
      seconds: of training.
      starved_seconds: of these, until a batch was there that the device had nothing to do before.
      steps: trained in these seconds; fewer than all where a checkpoint does not say what came before it.
    """

    seconds: float = 0.0
    starved_seconds: float = 0.0
    steps: int = 0


def train(
    trials: Sequence[Trial],
    feeds: Feeds,
    *,
    stacked: bool,
    progress: Progress,
    stop: Callable[[], bool] = lambda: False,
    programs: Programs | None = None,
    until: int | None = None,
) -> None:
    """Trains each trial to its end and writes its result.json; continues from its checkpoints where there are any.

    Args:
      trials: alike but for seed, hparams and what the loop itself reads of them.
      stacked: all at once under vmap, or one after another through the same program.
      progress: told of steps, losses and evaluations.
      stop: asked between calls; once true, everything is saved and `Interrupted` raised.
      programs: compiled ones to use again.
      until: a step to stop at, evaluated and saved but without a result: for those who decide who trains on.

    Raises:
      Interrupted: after saving, when `stop` said so.
    """
    experiment = trials[0].experiment
    if programs is None:
        programs = Programs(experiment, feeds.train.resident, trials=len(trials) if stacked else None)
    for group in [trials] if stacked else [[trial] for trial in trials]:
        _Group(group, feeds, programs, progress, stop, min(until or experiment.steps, experiment.steps)).run()


class _Group:
    """Trials that go through one program together: a stack of them, or one."""

    def __init__(
        self,
        trials: Sequence[Trial],
        feeds: Feeds,
        programs: Programs,
        progress: Progress,
        stop: Callable[[], bool],
        until: int,
    ):
        self.until = until
        self.records = [TrialRecord(trial, until, progress.note) for trial in trials]
        self.experiment = trials[0].experiment
        self.feeds = feeds
        self.programs = programs
        self.progress = progress
        self.stop = stop
        self.stacked = programs.trials is not None
        batches = [feeds.train.batches(t.experiment.seed, t.experiment.batch_size) for t in trials]
        self.batches = batches if self.stacked else batches[0]
        self.latest_fed: tuple[int, Mapping[str, np.ndarray]] = (-1, {})
        self.spent = Spent()

    # -- the course of training ----------------------------------------------------------------------------------------

    def run(self) -> None:
        try:
            if any(record.active for record in self.records):
                self._train()
        except Interrupted:
            raise
        except Exception as error:  # whatever a model, a program or a device can raise
            for record in self.records:
                if record.active:
                    record.fail(error)
        finally:
            for batches in self.batches if self.stacked else [self.batches]:
                batches.close()

    def _train(self) -> None:
        state, step = self._start()
        total = self.until
        pending: collections.deque[tuple[int, int, Any]] = collections.deque()
        self.clock = self.saved = self.read = time.perf_counter()
        capacity = self.programs.steps_per_call(state, self._first())
        take = min(4, capacity)
        compiled = False
        while step < total and any(record.active for record in self.records):
            if self.stop():
                self._drain(pending)
                self._save(state, step)
                self._close_all()
                raise Interrupted(step)
            asked = time.perf_counter()
            feds = self._feds(step, min(take, self._next_event(step) - step))
            if pending and pending[-1][2]["loss"].is_ready():
                self.spent.starved_seconds += time.perf_counter() - asked
            steps, compiling = len(feds), self.programs.compiling_seconds
            state, metrics = self.programs.train(state, feds)
            self.clock += self.programs.compiling_seconds - compiling
            if not compiled:
                compiled, self.clock = True, time.perf_counter()  # the first call compiled
            pending.append((step, steps, metrics))
            step += steps
            if len(pending) > MAX_IN_FLIGHT or time.perf_counter() - self.read > SECONDS_PER_CALL / 2:
                self._consume([pending.popleft() for _ in range(len(pending) - 1)])
            if self.rate and capacity > 1:
                take = max(1, min(capacity, round(self.rate * SECONDS_PER_CALL)))
            evaluate = self._due(step, self.experiment.eval_every) and step < total
            if evaluate:
                self._drain(pending)
                self._evaluate(state, "validation", step)
            if (self._save_due(step) or (evaluate and self.experiment.checkpoints.best is not None)) and step < total:
                self._drain(pending)
                self._save(state, step)
        self._drain(pending)
        if not any(record.active for record in self.records):
            return
        self._evaluate(state, "validation", step)
        self._save(state, step)
        if step == self.experiment.steps:
            self._finish(state, step)
        else:
            self._close_all()

    def _next_event(self, step: int) -> int:
        """The next step at which something other than training happens."""
        events = [self.until]
        for every in (self.experiment.eval_every, self.experiment.checkpoints.every_steps):
            if every is not None:
                events.append((step // every + 1) * every)
        return min(events)

    @staticmethod
    def _due(step: int, every: int | None) -> bool:
        return every is not None and step % every == 0

    def _save_due(self, step: int) -> bool:
        policy = self.experiment.checkpoints
        elapsed = policy.every_seconds is not None and time.perf_counter() - self.saved >= policy.every_seconds
        return self._due(step, policy.every_steps) or (elapsed and jax.process_count() == 1)

    def _feds(self, step: int, steps: int) -> list[Mapping[str, np.ndarray]]:
        """What the next steps are fed, at most so many: up to the first whose batch has other shapes."""
        feds = [self._fed(step)]
        while len(feds) < steps:
            fed = self._fed(step + len(feds))
            if any(fed[name].shape != x.shape for name, x in feds[0].items()):
                break
            feds.append(fed)
        return feds

    def _fed(self, step: int) -> Mapping[str, np.ndarray]:
        if self.latest_fed[0] != step:  # one may have been looked at already, and workers give each once
            self.latest_fed = step, self._side_by_side(lambda batches: batches.fed(step))
        return self.latest_fed[1]

    def _first(self) -> Mapping[str, np.ndarray]:
        return self._side_by_side(lambda batches: batches.largest())

    def _side_by_side(self, of: Callable[[Batches], Mapping[str, np.ndarray]]) -> Mapping[str, np.ndarray]:
        if not self.stacked:
            return of(self.batches)
        feds = [of(batches) for batches in self.batches]
        return {name: np.stack([fed[name] for fed in feds]) for name in feds[0]}

    def _start(self) -> tuple[TrainState, int]:
        """The state to train from: of the latest checkpoint that every unfinished trial has, or a fresh one."""
        experiments = [record.trial.experiment for record in self.records]
        with self.feeds.train.batches(experiments[0].seed, experiments[0].batch_size) as batches:
            fed = batches.largest()
        values = [hparams(experiment) for experiment in experiments]
        state = self.programs.init([e.seed for e in experiments], values, fed)
        sizes = [math.prod(x.shape) for x in jax.tree.leaves(self.programs.fetch(state).params)]
        self.parameters = sum(sizes) // len(self.records)
        waiting = [i for i, record in enumerate(self.records) if record.active]
        step, restored = self._restore(state, waiting)
        if step:
            state = self.programs.place(self._with_slots(self.programs.fetch(state), restored))
            self.spent = Spent(**self.records[waiting[0]].store.spent(step))
        elif self.experiment.init_from is not None:
            fresh = self.programs.fetch(state)
            state = self.programs.place(initial_parameters(self.experiment, fresh, stacked=self.stacked))
        for i in waiting:
            record = self.records[i]
            record.guarded(lambda record=record: self._open(record, step))
        self.progress.start(step, self.experiment.steps, [self.records[i].trial.name for i in waiting])
        return state, step

    def _open(self, record: TrialRecord, step: int) -> None:
        record.log = MetricsLog(record.trial.folder, resume_from=step, evaluated_again=step == self.until)
        for line in record.log.kept:
            self._remember(record, line["split"], line)
        record.store.delete_after(step)

    def _restore(self, state: TrainState, waiting: Sequence[int]) -> tuple[int, dict[int, TrainState]]:
        """(step, {slot: state}) of the latest step that reads back whole for every waiting trial; (0, {}) if none."""
        stores = {i: self.records[i].store for i in waiting}
        common = set.intersection(*(set(store.steps()) for store in stores.values())) if stores else set()
        like = self._slot(self.programs.fetch(state), 0)
        for step in sorted(common, reverse=True):
            try:
                return step, {i: store.restore(step, like) for i, store in stores.items()}
            except CorruptCheckpoint as error:
                self.progress.note(f"checkpoint unreadable, falling back to the one before it: {error}")
        for i, store in stores.items():
            if store.steps():
                self.progress.note(f"{self.records[i].trial.name}: no checkpoint to continue from, starting at step 0")
        return 0, {}

    def _slot(self, state: TrainState, i: int) -> TrainState:
        """One trial's part of the state."""
        return unstack(state, i) if self.stacked else state

    def _with_slots(self, state: TrainState, slots: Mapping[int, TrainState]) -> TrainState:
        if not self.stacked:
            return slots[0]
        return stack([slots.get(i) or self._slot(state, i) for i in range(len(self.records))])

    # -- metrics -------------------------------------------------------------------------------------------------------

    rate: float | None = None
    """Steps per second of late."""

    def _drain(self, pending: collections.deque) -> None:
        self._consume(list(pending))
        pending.clear()

    def _consume(self, calls: Sequence[tuple[int, int, Any]]) -> None:
        """Reads the metrics of calls, waiting for them if need be, and writes those that are due."""
        self.read = time.perf_counter()
        if not calls:
            return
        start, steps = calls[0][0], sum(steps for _, steps, _ in calls)
        read = jax.device_get([metrics for _, _, metrics in calls])
        values = {
            name: np.concatenate([m[name][:n].reshape(n, -1) for m, (_, n, _) in zip(read, calls, strict=True)])
            for name in read[0]
        }
        now = time.perf_counter()
        took, self.clock = now - self.clock, now
        self.spent.seconds += took
        self.spent.steps += steps
        latest = steps / max(took, 1e-9)
        self.rate = latest if self.rate is None else 0.7 * self.rate + 0.3 * latest
        bad = ~(np.isfinite(values["loss"]) & np.isfinite(values["gradient_norm"]))
        last = self.until
        for i, record in enumerate(self.records):
            if not record.active:
                continue
            diverged = int(np.argmax(bad[:, i])) if bad[:, i].any() else None
            for k in range(steps if diverged is None else diverged + 1):
                step = start + k + 1
                if self._due(step, self.experiment.log_every) or step == last or k == diverged:
                    line = {name: float(x[k, i]) for name, x in values.items()}
                    record.guarded(lambda record=record, step=step, line=line: record.log.write(step, "train", line))
                    self._remember(record, "train", line)
            if diverged is not None and record.active:
                step = start + diverged + 1
                self.progress.note(f"{record.trial.name}: loss or gradient is not finite at step {step}: diverged")
                record.end("diverged", **self._facts(step), error=f"loss or gradient is not finite at step {step}")
            elif record.active:
                record.guarded(record.log.flush)
        active = [i for i, record in enumerate(self.records) if record.active]
        if active:
            self.progress.update(start + steps, values["loss"][-1, active], self.rate)

    def _facts(self, step: int) -> dict[str, Any]:
        return {
            "steps": step,
            "seconds": round(self.spent.seconds, 3),
            "steps_per_second": round(self.spent.steps / self.spent.seconds, 3) if self.spent.seconds else None,
            "starved_seconds": round(self.spent.starved_seconds, 3),
            "stacked": self.programs.trials or 1,
            "parameters": self.parameters,
            "storage": self.feeds.train.reason,
            "kernels": self.programs.kernels,
            "platform": jax.devices()[0].platform,
            "devices": int(self.programs.mesh.size),
            **({"scoring": scoring} if (scoring := self.experiment.task.scoring()) else {}),
        }

    evaluated: tuple[int, dict[int, dict[str, float]]] = (-1, {})
    """The step of the latest evaluation on the validation split, and the metrics of each active trial, by slot."""

    def _evaluate(self, state: TrainState, split: str, step: int) -> None:
        """Scores each trial on a split, if there is such a split, and writes that to its log."""
        if split not in self.feeds.evaluation:
            return
        started = time.perf_counter()
        outputs = split_outputs(self.programs, state, self.feeds.evaluation[split], self.experiment)
        metrics: dict[int, dict[str, float]] = {}

        def score(i: int, record: TrialRecord) -> None:
            metrics[i] = record.trial.experiment.task.finalize(outputs[i])
            record.log.write(step, split, metrics[i])
            record.log.flush()
            self._remember(record, split, metrics[i])

        for i, record in enumerate(self.records):
            record.guarded(functools.partial(score, i, record))
        if split == "validation":
            self.evaluated = (step, metrics)
        self.progress.evaluated(step, split, list(metrics.values()))
        self.clock += time.perf_counter() - started  # evaluation is no training time

    @staticmethod
    def _remember(record: TrialRecord, split: str, line: Mapping[str, Any]) -> None:
        """Keeps for result.json what a line of the log says: of training the loss alone."""
        names = ("loss",) if split == "train" else (name for name in line if name not in ("step", "split"))
        record.metrics |= {f"{split}/{name}": None if line[name] is None else finite(line[name]) for name in names}

    # -- files ---------------------------------------------------------------------------------------------------------

    def _save(self, state: TrainState, step: int) -> None:
        started = time.perf_counter()
        for record in self.records:  # all have the last checkpoint before one has the next
            record.guarded(record.store.wait)
        host = _host_copy(self.programs.fetch(state))
        for i, record in enumerate(self.records):
            record.guarded(functools.partial(self._save_one, i, record, host, step))
        self.saved = time.perf_counter()
        self.clock += self.saved - started

    def _save_one(self, i: int, record: TrialRecord, host: TrainState, step: int) -> None:
        if step in record.store.steps():
            return
        when, metrics = self.evaluated
        scores = {f"validation/{name}": finite(x) for name, x in metrics[i].items()} if when == step else {}
        best = self.experiment.checkpoints.best
        if best is not None and scores and best not in scores:
            raise RequestError(f"checkpoints.best={best}: no such metric; {nearest(best, scores)}")
        record.store.save(step, self._slot(host, i), scores, dataclasses.asdict(self.spent))

    def _close_all(self) -> None:
        for record in self.records:
            record.guarded(record.store.close)
            if record.active:
                record.guarded(record.log.close)

    def _finish(self, state: TrainState, step: int) -> None:
        """The one look at the test split, and the results."""
        choosing = self.experiment.checkpoints.best is not None
        self._evaluate(self._best(state) if choosing else state, "test", step)
        for record in self.records:
            record.guarded(record.store.delete_surplus)
            if record.active:
                facts = self._facts(step) | ({"best_step": record.store.best_step()} if choosing else {})
                record.end("finished", **facts)

    def _best(self, state: TrainState) -> TrainState:
        """Each trial's state at its best evaluation on the validation split."""
        whole = self.programs.fetch(state)
        slots = {i: self._slot(whole, i) for i in range(len(self.records))}

        def restore(i: int, record: TrialRecord) -> None:
            record.store.wait()
            best = record.store.best_step()
            if best is None:
                raise RequestError(f"checkpoints.best={self.experiment.checkpoints.best}: it was never finite")
            slots[i] = record.store.restore(best, slots[i])

        for i, record in enumerate(self.records):
            record.guarded(functools.partial(restore, i, record))
        return self.programs.place(self._with_slots(whole, slots))


def _host_copy(state: TrainState) -> TrainState:
    """Copies that training, which reuses its buffers, cannot change under a writer's hands."""
    if jax.process_count() > 1:
        return state  # every process writes its own shards; Orbax copies them before it returns

    def copy(x: Any) -> Any:
        return x if is_key(x) else np.array(x)

    return jax.tree.map(copy, state.replace(rng=jax.random.clone(state.rng)))
