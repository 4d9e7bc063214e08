"""Loggers: callbacks that send metrics and pictures to where people look at them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

from research.config.extras import from_extra
from research.config.serialization import to_json
from research.evaluation import tensorboard
from research.evaluation.exhibits import Exhibit, TextPairs
from research.experiment import Experiment
from research.training.callbacks import Callback
from research.training.records import finite
from research.whole_files import is_local


def settings(experiment: Experiment) -> dict[str, Any]:
    """The numbers, words and truth values of an experiment by dotted path, as loggers show hyperparameters."""
    found: dict[str, Any] = {}

    def add(path: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for name, inner in value.items():
                add(f"{path}.{name}" if path else name, inner)
        elif isinstance(value, list):
            if all(isinstance(x, bool | int | float | str) for x in value):
                found[path] = str(value)
            else:
                for i, inner in enumerate(value):
                    add(f"{path}.{i}", inner)
        elif isinstance(value, bool | int | float | str):
            found[path] = value

    add("", to_json(experiment))
    return found


@dataclasses.dataclass
class TensorBoard(Callback):
    """Event files in the trial's folder, for `tensorboard --logdir RUN`: scalars, pictures, and a row of HParams.

    Nothing is written to an object store, where files cannot be appended to.

    Attributes:
      flush_seconds: seconds between writes to the disk.
    """

    flush_seconds: int = 10

    def start(self, step: int) -> None:
        self._events = None
        if is_local(self.trial.folder):
            from tensorboardX import SummaryWriter

            folder = str(self.trial.folder / "tensorboard")
            self._events = SummaryWriter(folder, purge_step=step + 1, flush_secs=self.flush_seconds, write_to_disk=True)

    def write(self, step: int, split: str, metrics: Mapping[str, float]) -> None:
        if self._events is not None:
            for name, value in metrics.items():
                self._events.add_scalar(f"{split}/{name}", value, step)

    def show(self, step: int, evaluation: str, name: str, exhibit: Exhibit) -> None:
        if self._events is not None:
            tensorboard.add(self._events, f"{evaluation}/{name}", exhibit, step)

    def end(self, status: str, metrics: Mapping[str, float | None]) -> None:
        if self._events is not None:
            from tensorboardX.summary import hparams

            known = {name: x for name, x in metrics.items() if x is not None}
            for part in hparams(settings(self.trial.experiment), known):
                self._events.file_writer.add_summary(part)

    def close(self) -> None:
        if self._events is not None:
            self._events.close()


@dataclasses.dataclass
class WandB(Callback):
    """Weights & Biases: a run for each trial, in a group for each run's folder (extra [wandb]).

    A trial that is continued later continues its run.

    Attributes:
      project: the project there.
      entity: the user or team; None is the one who is logged in.
      mode: "online", "offline" (`wandb sync` sends it later) or "disabled"; None as `WANDB_MODE` says.
    """

    project: str
    entity: str | None = None
    mode: str | None = None

    def check(self) -> None:
        from_extra("wandb", "wandb", "the callback WandB")

    def start(self, step: int) -> None:
        import wandb

        self._run = wandb.init(
            project=self.project,
            entity=self.entity,
            mode=self.mode,
            name=self.trial.name,
            group=_run_of(self.trial),
            id=_identity(self.trial),
            resume="allow",
            reinit="create_new",  # stacked trials have a run each
            config=settings(self.trial.experiment),
        )

    def write(self, step: int, split: str, metrics: Mapping[str, float]) -> None:
        self._run.log({f"{split}/{name}": value for name, value in metrics.items()}, step=step)

    def show(self, step: int, evaluation: str, name: str, exhibit: Exhibit) -> None:
        import wandb

        if isinstance(exhibit, TextPairs):
            columns = exhibit.arrays()
            rows = zip(*(texts.tolist() for texts in columns.values()), strict=True)
            table = wandb.Table(columns=list(columns), data=[list(row) for row in rows])
            self._run.log({f"{evaluation}/{name}": table}, step=step)
        else:
            self._run.log({f"{evaluation}/{name}": wandb.Image(tensorboard.picture(exhibit))}, step=step)

    def end(self, status: str, metrics: Mapping[str, float | None]) -> None:
        self._run.summary.update({"status": status, **metrics})

    def close(self) -> None:
        self._run.finish()


@dataclasses.dataclass
class MLflow(Callback):
    """MLflow: a run for each trial, named after it, in the experiment of that name (extra [mlflow]).

    Attributes:
      experiment: MLflow's experiment, which is made if it does not exist.
      tracking_uri: the server, or a folder as file:///…; None as `MLFLOW_TRACKING_URI` says.
    """

    experiment: str
    tracking_uri: str | None = None

    def check(self) -> None:
        from_extra("mlflow", "mlflow", "the callback MLflow")

    def start(self, step: int) -> None:
        import mlflow

        client = mlflow.MlflowClient(self.tracking_uri)
        found = client.get_experiment_by_name(self.experiment)
        where = client.create_experiment(self.experiment) if found is None else found.experiment_id
        identity = _identity(self.trial)
        before = client.search_runs([where], f"tags.espalier = '{identity}'") if step else []
        if before:
            run = before[0].info.run_id
            client.update_run(run, "RUNNING")
        else:
            tags = {"espalier": identity, "run": _run_of(self.trial)}
            run = client.create_run(where, run_name=self.trial.name, tags=tags).info.run_id
            for name, value in settings(self.trial.experiment).items():
                client.log_param(run, name, str(value)[:6000])
        self._client, self._run, self._status = client, run, "KILLED"

    def write(self, step: int, split: str, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            if finite(value) is not None:
                self._client.log_metric(self._run, f"{split}/{name}", value, step=step)

    def show(self, step: int, evaluation: str, name: str, exhibit: Exhibit) -> None:
        if not isinstance(exhibit, TextPairs):
            self._client.log_image(self._run, tensorboard.picture(exhibit), f"{evaluation}/{name}/{step}.png")

    def end(self, status: str, metrics: Mapping[str, float | None]) -> None:
        self._status = "FINISHED" if status == "finished" else "FAILED"

    def close(self) -> None:
        self._client.set_terminated(self._run, self._status)


DEFAULT = (TensorBoard(),)
"""The callbacks of a run, unless others are given."""


def _run_of(trial: Any) -> str:
    """The name of the run's folder, with the one above it."""
    return "/".join(trial.folder.parent.parent.parts[-2:])


def _identity(trial: Any) -> str:
    """A name of the trial that no other trial of this user has."""
    return hashlib.sha256(str(trial.folder).encode()).hexdigest()[:16]
