"""CIFAR-10: the ConvNeXt roadmap, from a ResNet to a ConvNeXt in the steps of the paper.

A small version of Liu et al. (2022), figure 2: three stages at 16, 8 and 4 pixels, with the same training for all
variants.  Each variant of `roadmap` includes the changes of all earlier ones; `alone` applies each change separately to
the ResNet, where that is possible.

    python -m research.data.sources.tfds prepare cifar10                   once; 170 MB, or --manual-dir FOLDER
    python -m launch run cifar10_convnext --sweep roadmap --seeds 3           an accelerator
    python -m launch run cifar10_convnext --sweep alone --seeds 3
    python -m launch run cifar10_convnext --sweep roadmap_cpu                 half as wide, two epochs, crop and flip

Expect the following test accuracies of `roadmap_cpu`: 0.529 ± 0.006 (n = 3) for the ResNet, 0.457 (n = 1) with
depthwise convolutions, 0.493 ± 0.011 before and 0.564 ± 0.013 after removing all activations of a block but one, 0.557
± 0.011 for the final ConvNeXt.  RESULTS.md lists all steps.  The other sweeps, for an accelerator, have not been
measured.
"""

from research import Experiment, data, models, optimizers, schedules, tasks
from research.data import augment
from research.sweep import Overrides, Sweep, ablation

EPOCH = 45_000 // 128  # steps

CROP_AND_FLIP = (augment.RandomCrop(4), augment.HorizontalFlip())


def experiment() -> Experiment:
    return Experiment(
        model=models.ConvNeXtRoadmap(
            depths=(3, 3, 3),
            widths=stages(128),
            strides=(1, 2, 2),
            stem="cifar",
            stem_width=32,
            patch_size=2,
            classes=10,
            drop_path=0.1,
        ),
        task=tasks.Classification(classes=10, label_smoothing=0.1),
        data=data.TFDS("cifar10"),
        augment=(
            *CROP_AND_FLIP,
            augment.RandAugment(),
            augment.OneOf((augment.Mixup(classes=10, alpha=0.8), augment.CutMix(classes=10))),
        ),
        preprocess=(data.Scale("image", 1 / 255), data.Standardize("image")),
        optimizer=optimizers.AdamW(
            learning_rate=2e-3, schedule=schedules.Cosine(warmup_steps=5 * EPOCH), weight_decay=0.05
        ),
        steps=100 * EPOCH,
        batch_size=128,
        ema_decay=0.999,
        eval_every=10 * EPOCH,
    )


def stages(width: int) -> tuple[int, ...]:
    """The channels of three stages; the first has `width`."""
    return width, 2 * width, 4 * width


def changes(width: int) -> dict[str, Overrides]:
    """The overrides of each step of the paper, for a ResNet whose first stage has `width` channels."""
    small = {  # replaces the paper's numbers for ImageNet
        "stage ratio": {"depths": (2, 2, 6)},
        "wider": {"widths": stages(width * 3 // 2), "stem_width": width * 3 // 8},
        "inverted bottleneck": {"block": "inverted", "widths": stages(width * 3 // 8)},
    }
    return {
        name: {f"model.{field}": value for field, value in small.get(name, change).items()}
        for name, change in models.convnext_roadmap.STEPS
    }


def road(width: int) -> dict[str, Overrides]:
    """For each step, all changes up to and including it."""
    so_far, found = {}, {}
    for name, change in changes(width).items():
        so_far = so_far | change
        found[name] = so_far
    return found


def sweeps() -> dict[str, Sweep]:
    needs_others = ("inverted bottleneck", "depthwise first", "kernel 7", "fewer norms")
    half = {
        "model.widths": stages(64),
        "model.stem_width": 16,
        "model.drop_path": 0.0,
        "augment": CROP_AND_FLIP,
        "steps": 2 * EPOCH,
        "optimizer.schedule": schedules.Cosine(warmup_steps=100),
        "ema_decay": None,
        "eval_every": None,
    }
    return {
        "roadmap": ablation(baseline={}, variants=road(128), name="ResNet"),
        "alone": ablation(
            baseline={},
            variants={name: change for name, change in changes(128).items() if name not in needs_others},
            name="ResNet",
        ),
        "roadmap_cpu": ablation(baseline=half, variants=road(64), name="ResNet"),
    }
