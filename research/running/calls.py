"""Trains from a notebook or a script: `fit` one experiment, `run_sweep` a sweep of it.

    from research import fit, grid, run_sweep

    run = fit(experiment, out="runs/mine")
    run = run_sweep(experiment, grid("model.widths", (), (64,)), seeds=3, out="runs/widths")

The folder is the one that `python -m launch run` would leave, and the same call continues it.
"""

from __future__ import annotations

import numbers
import operator
import os
import pathlib
import sys
from collections.abc import Sequence

from etils import epath

from research import sweep as sweeping
from research.config.override import conformed
from research.errors import RequestError, in_one_line, nearest, require
from research.experiment import Experiment
from research.report.write import read_table, write_report
from research.running.folder import RunFolder
from research.running.notebook import progress_here, shell
from research.running.opened import Run
from research.running.request import Request
from research.running.run import run as run_request
from research.sweep import Sweep
from research.training.callbacks import Callback, as_callbacks
from research.training.loggers import DEFAULT
from research.training.loop import Interrupted
from research.training.progress import Progress


def fit(
    experiment: Experiment,
    *,
    out: epath.PathLike,
    seeds: int | Sequence[int] | None = None,
    progress: Progress | None = None,
    callbacks: Sequence[Callback] = DEFAULT,
) -> Run:
    """Trains an experiment, or continues where it was stopped, and returns the run.

    >>> experiment = Experiment(
    ...     model=models.MLP(widths=(8,), classes=3), task=tasks.Classification(classes=3, input="features"),
    ...     data=data.Sklearn(name="wine"), preprocess=(data.Standardize("features"),), optimizer=optimizers.AdamW(),
    ...     steps=5, batch_size=32,
    ... )
    >>> run = fit(experiment, out="runs/wine", progress=Progress())     # without it, progress is shown
    >>> run.load().predict(np.zeros((2, 13), np.float32))["label"].shape
    (2,)

    Args:
      experiment: an `Experiment`; only the same one continues a run.
      out: the run's folder: on this machine, or gs://… or s3://….
      seeds: the seeds, or their number, counted from the experiment's seed; None trains with that one.
      progress: receives the steps and scores; None shows them, in a notebook in one place, and `Progress()` does not.
      callbacks: loggers, and others that hear of the events of training (research/training/callbacks.py); TensorBoard's
        files are written unless others are given.

    Raises:
      RequestError: the experiment is wrong, or the folder holds another run; nothing has been trained.
      KeyboardInterrupt: you interrupted it; everything has been saved, and the same call continues from there.
      research.errors.Stopped: another launcher has taken over the folder.
    """
    return _run(_request("fit", experiment, None, out, seeds, callbacks), "auto", None, progress)


def run_sweep(
    experiment: Experiment,
    sweep: Sweep,
    *,
    out: epath.PathLike,
    seeds: int | Sequence[int] | None = None,
    stack: str = "auto",
    prune: str | None = None,
    progress: Progress | None = None,
    callbacks: Sequence[Callback] = DEFAULT,
) -> Run:
    """Trains the variants of a sweep, each with the same seeds, and returns the run; a stopped one is continued.

    >>> experiment = Experiment(
    ...     model=models.MLP(widths=(8,), classes=3), task=tasks.Classification(classes=3, input="features"),
    ...     data=data.Sklearn(name="wine"), preprocess=(data.Standardize("features"),), optimizer=optimizers.AdamW(),
    ...     steps=5, batch_size=32,
    ... )
    >>> rates = grid("optimizer.learning_rate", 1e-3, 1e-2)
    >>> run = run_sweep(experiment, rates, seeds=2, out="runs/rates", stack="off", progress=Progress())
    >>> sorted(run.best("validation/accuracy").hyperparameters)
    ['optimizer.learning_rate']

    Args:
      experiment: an `Experiment`.
      sweep: its variants: `grid`, `product`, `ablation`, … make one.
      out: the run's folder: on this machine, or gs://… or s3://….
      seeds: the seeds, or their number, counted from each variant's seed; None keeps each variant's seed.
      stack: "on" trains trials of one program together, "off" one after another; "auto" does what is faster here.
      prune: a validation metric for successive halving, such as "validation/loss"; None trains all to the end.
      progress, callbacks: as for `fit`.

    Raises:
      RequestError, KeyboardInterrupt, Stopped: as for `fit`.
    """
    asked = _request("run_sweep", experiment, sweeping.as_sweep(sweep, "sweep"), out, seeds, callbacks)
    return _run(asked, stack, prune, progress)


def _run(asked: Request, stack: str, prune: str | None, progress: Progress | None) -> Run:
    ways = ("auto", "off", "on")
    require(stack in ways, f"stack={stack!r}: {nearest(str(stack), ways)}")
    shown = progress_here() if progress is None else progress
    try:
        outcome = run_request(
            asked, RunFolder(asked.folder), progress=shown, report=_write_report, stack=stack, prune=prune
        )
    except Interrupted as interrupted:
        raise KeyboardInterrupt(f"{interrupted}; the same call continues from there") from None
    finally:
        shown.close()
    return Run(asked.folder, experiments=outcome.experiments)


def _write_report(folder: epath.Path) -> None:
    write_report(read_table([folder]))


def _request(
    call: str,
    experiment: Experiment,
    sweep: Sweep | None,
    out: epath.PathLike,
    seeds: int | Sequence[int] | None,
    callbacks: Sequence[Callback],
) -> Request:
    """The request that a call makes; its experiment is named after the folder, and its sweep after what it varies."""
    if not isinstance(experiment, Experiment):
        raise RequestError(f"{call}: the experiment is a {type(experiment).__name__}, not an Experiment")
    with in_one_line(f"seeds={seeds!r:.40}: "):
        seeds = _whole(seeds)
        require(seeds is None or (seeds if isinstance(seeds, int) else len(seeds)) >= 1, "expected at least 1")
    with in_one_line():
        base = conformed(experiment)
        planned = sweeping.trials(base, sweep, seeds=seeds)
    folder = os.fspath(out)
    return Request(
        module=pathlib.PurePath(folder.rstrip("/")).name or "run",
        sweep=None if sweep is None else _varied(sweep),
        settings={},
        seeds=seeds,
        experiment=base,
        baseline=None if sweep is None else sweep.baseline,
        trials=tuple(planned),
        folder=folder,
        code=os.path.dirname(_script() or "") or os.getcwd(),
        command=f"{call} in {_caller()}",
        callbacks=as_callbacks(callbacks),
    )


def _whole(seeds: int | Sequence[int] | None) -> int | list[int] | None:
    """Seeds as integers that JSON can hold, which those of NumPy are not."""
    if isinstance(seeds, numbers.Integral):
        return int(seeds)
    return None if seeds is None else [operator.index(seed) for seed in seeds]


def _varied(sweep: Sweep) -> str:
    """A name for a sweep that is only a value: the fields that its variants override."""
    paths = dict.fromkeys(path for variant in sweep for path in variant.overrides if path != "seed")
    leaves = [path.rpartition(".")[2] for path in paths]
    return ", ".join([*leaves[:3], *(["…"] if len(leaves) > 3 else [])]) or "seed"


def _script() -> str | None:
    """The file that Python was started with, if there is one."""
    return getattr(sys.modules.get("__main__"), "__file__", None)


def _caller() -> str:
    if shell() is not None:
        return "a notebook"
    script = _script()
    return "Python" if script is None else pathlib.Path(script).name
