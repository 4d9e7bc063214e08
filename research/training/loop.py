"""The training loop on the host: sends batches, reads metrics, evaluates, saves, resumes and stops.

`train` trains trials that share a program, stacked or one after another; each trial writes to its own folder.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax

from research.config.hparams import hparams
from research.data.feeds import Feeds
from research.errors import Stopped
from research.evaluation.evaluations import Evaluation
from research.parallel import hosts
from research.parallel.programs import Programs
from research.training.callbacks import Callback
from research.training.clock import Clock
from research.training.evaluate import Evaluations, outputs_of
from research.training.events import Every, Save
from research.training.loggers import DEFAULT
from research.training.pending import MAX_IN_FLIGHT, PendingMetrics
from research.training.programs import make_programs
from research.training.progress import Progress
from research.training.side_by_side import SideBySide
from research.training.slots import Slot, Slots
from research.training.state import TrainState
from research.training.transfer import initial_parameters
from research.training.trial import Trial
from research.training.utilization import Work, work_of

SECONDS_PER_CALL = 0.25
"""Target duration of a call that runs several steps; progress and SIGTERM are handled between calls."""


SECONDS_PER_LOOK = 2.0
"""Target time between looks at clocks and signals, if several processes have to agree about them."""


class Look(NamedTuple):
    """Decisions from clocks and signals, the same in all processes.

    Attributes:
      stop: save the state and end training.
      late: save the state, since the policy's seconds have passed.
      follow: read the metrics of the latest calls.
      most: the largest number of steps in each of the next calls.
      calls: the number of calls before the next decisions.
    """

    stop: bool
    late: bool
    follow: bool
    most: int
    calls: int


class Interrupted(Stopped):
    """Training was asked to stop; the state at `step` is saved."""

    def __init__(self, step: int):
        super().__init__(f"stopped at step {step}")
        self.step = step


def train(
    trials: Sequence[Trial],
    feeds: Feeds,
    *,
    stacked: bool,
    progress: Progress,
    stop: Callable[[], bool] = lambda: False,
    programs: Programs | None = None,
    until: int | None = None,
    permit: Callable[[], None] = lambda: None,
    callbacks: Sequence[Callback] = DEFAULT,
) -> None:
    """Trains each trial to its end and writes its result.json; continues from the latest checkpoint, if there is one.

    Args:
      trials: equal except for seed, hparams and fields that only the loop reads.
      feeds: the splits of their data.
      stacked: trains all trials at once under vmap; False trains them one after another with the same program.
      progress: receives steps, losses and evaluations.
      stop: called between calls of the program; when it returns True, the state is saved and `Interrupted` is raised.
      programs: compiled programs to reuse; None compiles them.
      until: pauses at this step, after evaluating and saving but without a result; used by successive halving.
      permit: called before each write; raises `Stopped` if nothing may be written any more.
      callbacks: hear of the events of each trial.

    Raises:
      Interrupted: `stop` returned True; the state has been saved.
      Stopped: `permit` raised it.
    """
    experiment = trials[0].experiment
    if programs is None:
        programs = make_programs(experiment, feeds.train.resident, trials=len(trials) if stacked else None)
    until = min(until or experiment.steps, experiment.steps)
    for together in [trials] if stacked else [[trial] for trial in trials]:
        slots = Slots(together, programs.placement, until, progress.note, permit, callbacks)
        if not slots.active:
            continue
        rows = programs.placement.rows(experiment.batch_size)
        batches = [feeds.train.batches(t.experiment.seed, t.experiment.batch_size, rows) for t in together]
        with contextlib.closing(SideBySide(batches, stacked=stacked)) as side_by_side, _failing_together(slots):
            _train(slots, side_by_side, feeds, programs, progress, stop, until)


@contextlib.contextmanager
def _failing_together(slots: Slots) -> Iterator[None]:
    """Marks all trials that still train as failed if their shared program raises an error."""
    try:
        yield
    except Stopped:
        raise
    except Exception as error:  # a model, a program or a device can raise anything
        hosts.share_failure("a failure of training", error)
        for slot in slots.active:
            slot.fail(error)


def _train(
    slots: Slots,
    batches: SideBySide,
    feeds: Feeds,
    programs: Programs,
    progress: Progress,
    stop: Callable[[], bool],
    until: int,
) -> None:
    """Trains the trials of the slots to `until`."""
    experiment = slots.slots[0].trial.experiment
    state = _initial_state(slots, feeds, programs)
    placement = programs.placement
    parameters = sum(x.size for x in jax.tree.leaves(placement.whole(state).params)) // len(slots.slots)
    step, state = slots.restore(state)
    if step == 0 and experiment.init_from is not None:
        stacked = programs.trials is not None
        state = placement.place(initial_parameters(experiment, placement.whole(state), stacked=stacked))
    clock = Clock(**slots.spent(step)) if step else Clock()
    slots.each(Slot.open, step, evaluated_again=step == until)
    progress.start(step, experiment.steps, [slot.trial.name for slot in slots.active])
    if whole := placement.kept_whole(state.params):
        progress.note(
            f"parallel.shard={experiment.parallel.shard}: {', '.join(whole)}: no dimension divides; kept whole"
        )

    pending = PendingMetrics(placement.fetch)
    log, evaluations, saving = Every(experiment.log_every), Evaluations(experiment, feeds), Save(experiment.checkpoints)
    choosing = (experiment.checkpoints.best or "").partition("/")[0]

    @functools.cache
    def work() -> Work:
        def sent_to_one() -> dict[str, Any]:
            return {name: x if programs.trials is None else x[0] for name, x in batches.average().items()}

        return work_of(experiment, feeds.train.resident, sent_to_one, placement)

    def facts(step: int) -> dict[str, Any]:
        """The entries of result.json beside status and metrics."""
        scoring, rate = experiment.task.scoring(), clock.steps / clock.seconds if clock.seconds else 0.0
        trials = programs.trials or 1
        utilization = work().utilization(rate * trials)
        return {
            "steps": step,
            "seconds": round(clock.seconds, 3),
            "steps_per_second": round(rate, 3) if rate else None,
            "examples_per_second": round(rate * trials * work().examples, 3) if rate else None,
            **({} if utilization is None else {"mfu": round(utilization, 4)}),
            "starved_seconds": round(clock.starved_seconds, 3),
            "stacked": programs.trials or 1,
            "parameters": parameters,
            "storage": feeds.train.reason,
            "kernels": programs.kernels,
            "platform": placement.platform,
            "devices": int(placement.mesh.size),
            **({"scoring": scoring} if scoring else {}),
        }

    def follow(leave: int = 0) -> None:
        """Reads the metrics of all calls except the latest `leave`, and ends the trials that have diverged."""
        read = pending.read(leave=leave)
        if read is None:
            return
        clock.lap(read.steps)
        for slot in slots.active:
            diverged = slot.follow(read, lambda step: log.due(step) or step == until)
            if diverged is not None and slot.active:
                error = f"loss or gradient is not finite at step {diverged}"
                progress.note(f"{slot.trial.name}: {error}: diverged")
                with clock.paused():
                    slot.end("diverged", **facts(diverged), error=error)
        if still := [slot.index for slot in slots.active]:
            progress.update(read.start + read.steps, read.values["loss"][-1, still], clock.rate)

    def evaluate(some: Sequence[Evaluation], state: TrainState, among: Sequence[Slot]) -> None:
        """Runs some evaluations and scores some of the trials."""
        for evaluation in some:
            outputs = outputs_of(programs, state, evaluations.feed(evaluation), experiment, evaluation)
            scored = [slot.guarded(slot.score, step, evaluation.name, outputs[slot.index]) for slot in among]
            progress.evaluated(step, evaluation.name, [metrics for metrics in scored if metrics is not None])

    def finish(ending: Sequence[Slot], **more: Any) -> None:
        """Runs the evaluations that run once, then ends the trials; their state is saved already."""
        if not ending:
            return
        with clock.paused():
            if evaluations.once:
                evaluate(evaluations.once, slots.best(state, ending) if choosing else state, ending)
            for slot in ending:
                slot.guarded(slot.store.delete_surplus)  # waits until the last checkpoint is written
            slots.settle()
            for slot in ending:
                if slot.active:
                    best = {"best_step": slot.store.best_step()} if choosing else {}
                    slot.end("finished", **facts(step), **best, **more)

    def save() -> None:
        slots.save(state, step, clock.record())
        saving.done()

    def look() -> Look:
        """Decides from clocks and signals, in all processes alike."""
        slots.settle()
        rate = clock.rate or 0.0
        most = max(1, min(capacity, round(rate * SECONDS_PER_CALL))) if rate and capacity > 1 else min(4, capacity)
        calls = max(1, min(MAX_IN_FLIGHT, round(rate * SECONDS_PER_LOOK / most))) if hosts.several() else 1
        follow = clock.since_lap > SECONDS_PER_CALL / 2
        return Look(stop(), *hosts.agree("the next calls", [saving.late, follow, most, calls]))

    finish(slots.stopping, stopped_at_step=step)  # the process was killed between the last save and the result
    capacity = programs.steps_per_call(state, batches.largest())
    calls = 0
    while step < until and slots.active:
        if calls == 0:
            now = look()
            calls = now.calls
            if now.stop:
                follow()
                save()
                slots.each(Slot.close)
                slots.settle()
                raise Interrupted(step)
            if now.follow:
                follow(leave=1)
            if now.late:
                follow()
                with clock.paused():
                    save()
            if not slots.active:
                break
        calls -= 1
        happens = min(until, evaluations.next_due(step), saving.next_due(step))
        with clock.waiting(lambda: pending.device_idle):
            taken = batches.take(step, min(now.most, happens - step))
        compiled = programs.compiling_seconds
        state, metrics = programs.train(state, taken)
        clock.leave_out(programs.compiling_seconds - compiled)
        clock.start()  # not before the first call, which warms up
        pending.add(step, len(taken), metrics)
        step += len(taken)
        if pending.full:
            follow(leave=1)
        due = evaluations.due(step)
        if step < until and (due or saving.due(step)):
            follow()
            with clock.paused():
                evaluate(due, state, slots.active)
                if saving.due(step) or slots.stopping or any(evaluation.name == choosing for evaluation in due):
                    save()
            finish(slots.stopping, stopped_at_step=step)
    follow()
    if not slots.active:
        return
    with clock.paused():
        evaluate(evaluations.recurring, state, slots.active)
        save()
    slots.settle()
    if until < experiment.steps:
        slots.each(Slot.close)
    else:
        finish(slots.active)


def _initial_state(slots: Slots, feeds: Feeds, programs: Programs) -> TrainState:
    """The state before the first step."""
    experiments = [slot.trial.experiment for slot in slots.slots]
    size = experiments[0].batch_size
    with feeds.train.batches(experiments[0].seed, size, programs.placement.rows(size)) as batches:
        largest = batches.largest()
    return programs.init([e.seed for e in experiments], [hparams(e) for e in experiments], largest)
