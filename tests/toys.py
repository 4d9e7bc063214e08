"""Small experiments on generated data, for tests of the machinery instead of learning."""

import dataclasses
from typing import NamedTuple

import numpy as np

from research.data.feeds import Feeds
from research.data.source import Columns
from research.data.spec import Data, Splits
from research.experiment import Experiment
from research.models.mlp import MLP
from research.optimizers import AdamW
from research.parallel.programs import Programs
from research.parallel.spec import Parallel
from research.schedules import Cosine
from research.tasks.classification import Classification
from research.training.abstract import hparam_arrays
from research.training.programs import make_programs
from research.training.state import TrainState

ONE_DEVICE = Parallel(mesh=(("data", 1),))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Blobs(Data):
    """Classes as noisy points around random centres: image float32 [4, 3], label int32."""

    examples: int = 160
    classes: int = 3
    weighted: bool = False

    def read(self) -> Splits:
        generator = np.random.default_rng(0)
        centres = generator.normal(size=(self.classes, 4, 3))

        def part(n: int) -> Columns:
            labels = np.arange(n, dtype=np.int32) % self.classes
            columns = {"image": centres[labels] + generator.normal(size=(n, 4, 3)), "label": labels}
            if self.weighted:
                columns["weight"] = generator.integers(0, 4, n).astype(np.float32)
            return Columns(columns)

        return Splits(train=part(self.examples), test=part(50))


def experiment(**changes) -> Experiment:
    """A two-layer perceptron on blobs, on one device."""
    base = Experiment(
        model=MLP(widths=(16, 8), classes=3),
        task=Classification(classes=3),
        data=Blobs(validation=40),
        optimizer=AdamW(learning_rate=1e-2, schedule=Cosine(warmup_steps=5), weight_decay=0.1),
        steps=40,
        batch_size=24,
        eval_every=20,
        parallel=ONE_DEVICE,
        log_every=1,
    )
    return dataclasses.replace(base, **changes)


class Trained(NamedTuple):
    """Losses of first steps, [step] or [step, trial], with the programs and the state to continue from."""

    losses: np.ndarray
    programs: Programs
    state: TrainState


def first_steps(experiment: Experiment, feeds: Feeds, steps: int, trials: int | None = None) -> Trained:
    """Runs the first steps of a resolved experiment, without the loop; `trials` of other seeds are stacked."""
    programs = make_programs(experiment, feeds.train.resident, trials=trials)
    batches = feeds.train.batches(0, experiment.batch_size)
    sent = [batches.sent(step) for step in range(steps)]
    seeds = list(range(trials or 1))
    state = programs.init(seeds, [hparam_arrays(experiment)] * len(seeds), sent[0])
    if trials:
        sent = [{name: np.stack([x] * trials) for name, x in one.items()} for one in sent]
    losses = []
    for one in sent:
        state, metrics = programs.train(state, [one])
        losses.append(np.asarray(metrics["loss"])[0])
    return Trained(np.array(losses), programs, state)
