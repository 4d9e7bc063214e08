"""CIFAR-10: the ConvNeXt roadmap, from a ResNet to a ConvNeXt in the steps of the paper.

Liu et al. (2022), figure 2, in small: three stages at 16, 8 and 4 pixels, trained alike throughout.  Each variant of
`roadmap` has all changes of those before it; `alone` makes each change to the ResNet by itself, where that can be.

    python -m research.data.tfds prepare cifar10                              once; 170 MB, or --manual-dir FOLDER
    python -m launch run cifar10_convnext --sweep roadmap --seeds 3           an accelerator
    python -m launch run cifar10_convnext --sweep alone --seeds 3
"""

from research.data.augment import HorizontalFlip, OneOf, RandomCrop
from research.data.mixing import CutMix, Mixup
from research.data.randaugment import RandAugment
from research.data.tfds import TFDS
from research.data.transforms import Scale, Standardize
from research.experiment import Experiment
from research.models.convnext_roadmap import STEPS, ConvNeXtRoadmap
from research.optimizers import AdamW
from research.schedules import Cosine
from research.sweep import Sweep, ablation
from research.tasks.classification import Classification

EPOCH = 45_000 // 128  # steps

SMALL = {  # what the paper's steps set to numbers for ImageNet
    "stage ratio": {"depths": (2, 2, 6)},
    "wider": {"widths": (192, 384, 768), "stem_width": 48},
    "inverted bottleneck": {"block": "inverted", "widths": (48, 96, 192)},
}


def experiment() -> Experiment:
    return Experiment(
        model=ConvNeXtRoadmap(
            depths=(3, 3, 3),
            widths=(128, 256, 512),
            strides=(1, 2, 2),
            stem="cifar",
            stem_width=32,
            patch_size=2,
            classes=10,
            drop_path=0.1,
        ),
        task=Classification(classes=10, label_smoothing=0.1),
        data=TFDS("cifar10"),
        augment=(
            RandomCrop(4),
            HorizontalFlip(),
            RandAugment(),
            OneOf((Mixup(classes=10, alpha=0.8), CutMix(classes=10))),
        ),
        preprocess=(Scale("image", 1 / 255), Standardize("image")),
        optimizer=AdamW(learning_rate=2e-3, schedule=Cosine(warmup_steps=5 * EPOCH), weight_decay=0.05),
        steps=100 * EPOCH,
        batch_size=128,
        ema_decay=0.999,
        eval_every=10 * EPOCH,
    )


def sweeps() -> dict[str, Sweep]:
    changes = {}
    for name, change in STEPS:
        changes[name] = {f"model.{field}": value for field, value in SMALL.get(name, change).items()}
    so_far, road = {}, {}
    for name, change in changes.items():
        so_far = so_far | change
        road[name] = so_far
    needs_others = ("inverted bottleneck", "depthwise first", "kernel 7", "fewer norms")
    return {
        "roadmap": ablation(baseline={}, variants=road, name="ResNet"),
        "alone": ablation(
            baseline={},
            variants={name: change for name, change in changes.items() if name not in needs_others},
            name="ResNet",
        ),
    }
