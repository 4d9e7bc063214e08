"""Makes the programs of an experiment from its pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax

from research.experiment import Experiment
from research.models.model import Model
from research.parallel.mapping import Functions
from research.parallel.placement import Placement, make_placement
from research.parallel.programs import Programs
from research.training.step import make_eval_step, make_init, make_train_step


class EvalKey(NamedTuple):
    """Identifies an evaluation program of an experiment: evaluations with equal keys share one program.

    Attributes:
      task_of: the name of the evaluation whose own task is used; None uses the experiment's task.
      averaged: uses the moving average of the variables, if the state has one.
      seed: seeds the examples' keys.
    """

    task_of: str | None = None
    averaged: bool = True
    seed: int = 0


def placement_of(
    experiment: Experiment, *, trials: int | None = None, devices: Sequence[jax.Device] | None = None
) -> Placement:
    """The placement of an experiment's arrays, checked against its batch size.

    Raises:
      RequestError: the devices do not fill the mesh, or the batch does not divide over them.
    """
    model = experiment.model
    rules = model.tensor_rules if isinstance(model, Model) else ()
    placement = make_placement(experiment.parallel, trials=trials, devices=devices, tensor_rules=rules)
    placement.check_divides(experiment.batch_size, experiment.accumulation)
    return placement


def make_programs(
    experiment: Experiment,
    resident: Mapping[str, Any],
    *,
    trials: int | None = None,
    like: Programs | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Programs:
    """Makes the programs of an experiment, on the devices that it asks for.

    Args:
      experiment: resolved; its hparams and seed are ignored, since programs read them from the state.
      resident: the training data to keep on the device (`Feed.resident`); {} if each step is sent its rows.
      trials: size of the trial axis; None for a single trial, without the axis.
      like: programs of the same experiment and data, whose compiled initialisation is reused.
      devices: devices to compile for; None uses those of this job.

    Raises:
      RequestError: the devices do not fill the mesh, or the batch does not divide over them.
    """
    functions = Functions(
        init=make_init(experiment),
        train=lambda axis_name: make_train_step(experiment, axis_name=axis_name),
        evaluate=lambda key: make_eval_step(experiment, **key._asdict()),
    )
    placement = placement_of(experiment, trials=trials, devices=devices)
    return Programs(functions, placement, resident, steps_per_call=experiment.parallel.steps_per_call, like=like)
