"""A tiny experiment of each family, for tests of what has to hold for all of them.

A new family adds a line.  Each has randomness of its own (dropout, augmentation), and a batch of 16.
"""

import dataclasses

import numpy as np
import toys

from research.data import augment
from research.data.source import Columns
from research.data.spec import Data, Splits
from research.data.transforms import Scale
from research.experiment import Experiment
from research.models.gpt import GPT
from research.models.mlp import MLP
from research.models.simple_cnn import SimpleCNN
from research.parallel.spec import Parallel
from research.tasks.language_modeling import LanguageModeling
from research.training.checkpoints import Checkpoints


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pictures(Data):
    """Noisy pictures of classes: image uint8 [8, 8, 1], label int32."""

    def read(self) -> Splits:
        generator = np.random.default_rng(0)
        patterns = generator.integers(0, 200, (3, 8, 8, 1))

        def part(n: int) -> Columns:
            labels = np.arange(n, dtype=np.int32) % 3
            images = patterns[labels] + generator.integers(0, 50, (n, 8, 8, 1))
            return Columns({"image": images.astype(np.uint8), "label": labels})

        return Splits(train=part(160), validation=part(40), test=part(50))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Counting(Data):
    """Sequences that count from a random start: tokens and targets uint8 [12], modulo 13."""

    def read(self) -> Splits:
        generator = np.random.default_rng(0)

        def part(n: int) -> Columns:
            tokens = ((generator.integers(0, 13, (n, 1)) + np.arange(13)) % 13).astype(np.uint8)
            return Columns({"tokens": tokens[:, :-1], "targets": tokens[:, 1:]})

        return Splits(train=part(160), validation=part(40), test=part(50))


FAMILIES = {
    "mlp": toys.experiment(
        model=MLP(widths=(16, 8), classes=3, dropout=0.1, norm="layer"), augment=(augment.Noise(0.1),)
    ),
    "cnn": toys.experiment(
        model=SimpleCNN(classes=3, channels=(4, 8), hidden=(16,), norm="batch", dropout=0.1),
        data=Pictures(),
        preprocess=(Scale("image", 1 / 255),),
        augment=(augment.RandomCrop(1), augment.HorizontalFlip()),
    ),
    "gpt": toys.experiment(
        model=GPT(13, context_length=12, width=16, depth=2, num_heads=2, dropout=0.1),
        task=LanguageModeling(vocab_size=13),
        data=Counting(),
    ),
}


def experiment(family: str, **changes) -> Experiment:
    """The tiny experiment of a family, over all devices, which saves by steps."""
    base = dataclasses.replace(
        FAMILIES[family],
        batch_size=16,
        steps=50,
        eval_every=25,
        ema_decay=0.9,
        parallel=Parallel(),
        checkpoints=Checkpoints(every_steps=20, every_seconds=None, best="validation/loss"),
    )
    return dataclasses.replace(base, **changes)
