"""CIFAR-10: depth with and without residual connections, and an ablation of the recipe.

He et al. (2016a), section 4.2: deeper networks train worse without shortcuts, but not with them.

    python -m research.data.sources.tfds prepare cifar10                       once; 170 MB, or --manual-dir FOLDER
    python -m launch run cifar10_resnet                                ResNet-18, an accelerator
    python -m launch run cifar10_resnet --sweep fast --seeds 5         a short recipe in bfloat16, an accelerator
    python -m launch run cifar10_resnet --sweep cpu                    half an hour on a CPU
    python -m launch run cifar10_resnet --sweep depth --seeds 3        ResNet-20, 32 and 56 against plain networks
    python -m launch run cifar10_resnet --sweep parts --seeds 3        ResNet-20 without or with one part at a time
    python -m launch run cifar10_resnet --sweep augmentation --seeds 3 one augmentation at a time

A stratified tenth of the training split is the validation split; the test split is scored once, at the end.

Expect the following test accuracies:

    cpu      0.7900 (n = 1), 30 minutes on one core
    depth    with `--set steps=351 --set eval_every=none` (one epoch): 0.6095, 0.5842 and 0.5463 for ResNet-20, 32 and
    56;
             0.4839, 0.3961 and 0.2293 for the plain networks (n = 1 each, 7 to 20 minutes each on one core)
    parts, augmentation    on 5,000 images: 0.606 ± 0.014 (n = 3) with crop and flip, 0.510 ± 0.012 without, 0.452 ±
    0.005
             with them but without batch norm; RESULTS.md has the command and the other variants

The first command and `fast`, for an accelerator, have not been measured.
"""

from research import Experiment, data, models, optimizers, schedules, tasks
from research.data import augment
from research.sweep import Sweep, Variant, ablation

EPOCH = 45_000 // 128  # steps
CROP_AND_FLIP = (augment.RandomCrop(4, mode="reflect"), augment.HorizontalFlip())


def experiment() -> Experiment:
    return Experiment(
        model=models.resnet(18, stem="cifar", classes=10, zero_init=True),
        task=tasks.Classification(classes=10, label_smoothing=0.1),
        data=data.TFDS("cifar10"),
        augment=(*CROP_AND_FLIP, augment.Cutout(8)),
        preprocess=(data.Scale("image", 1 / 255), data.Standardize("image")),
        optimizer=optimizers.SGD(
            0.1, schedule=schedules.OneCycle(pct_start=0.2), momentum=0.9, nesterov=True, weight_decay=5e-4
        ),
        steps=60 * EPOCH,
        batch_size=128,
        eval_every=5 * EPOCH,
    )


def sweeps() -> dict[str, Sweep]:
    fast = {
        "model": models.ResNet(
            depths=(1, 1, 1),
            widths=(128, 256, 512),
            strides=(2, 2, 2),
            stem="cifar",
            classes=10,
            zero_init=True,
            dtype="bfloat16",
        ),
        "batch_size": 512,
        "steps": 20 * 45_000 // 512,
        "eval_every": None,
        "optimizer.learning_rate": 0.4,
        "ema_decay": 0.99,
    }
    cpu = {
        "model": models.ResNet(
            depths=(1, 1, 1), widths=(64, 128, 256), strides=(2, 2, 2), stem="cifar", stem_width=32, classes=10
        ),
        "steps": 5 * EPOCH,
    }
    small = {"model": models.cifar_resnet(20), "task.label_smoothing": 0.0, "augment": CROP_AND_FLIP}
    return {
        "fast": Sweep((Variant("fast", fast),)),
        "cpu": Sweep((Variant("cpu", cpu),)),
        "depth": ablation(
            baseline=small,
            variants={
                "ResNet-32": {"model": models.cifar_resnet(32)},
                "ResNet-56": {"model": models.cifar_resnet(56)},
                "plain-20": {"model": models.cifar_resnet(20, shortcut="none")},
                "plain-32": {"model": models.cifar_resnet(32, shortcut="none")},
                "plain-56": {"model": models.cifar_resnet(56, shortcut="none")},
            },
            name="ResNet-20",
        ),
        "parts": ablation(
            baseline=small,
            variants={
                "no batch norm": {"model.norm": "none", "optimizer.learning_rate": 0.01},
                "group norm": {"model.norm": "group"},
                "dropout": {"model.dropout": 0.3},
                "no weight decay": {"optimizer.weight_decay": 0.0},
                "no augmentation": {"augment": ()},
                "label smoothing": {"task.label_smoothing": 0.1},
                "zero init": {"model.zero_init": True},
                "stochastic depth": {"model.stochastic_depth": 0.2},
            },
            name="ResNet-20",
        ),
        "augmentation": ablation(
            baseline=small | {"augment": ()},
            variants={
                "crop": {"augment": CROP_AND_FLIP[:1]},
                "flip": {"augment": CROP_AND_FLIP[1:]},
                "crop and flip": {"augment": CROP_AND_FLIP},
                "cutout": {"augment": (*CROP_AND_FLIP, augment.Cutout(16))},
                "random erasing": {"augment": (*CROP_AND_FLIP, augment.RandomErasing())},
                "colour jitter": {"augment": (*CROP_AND_FLIP, augment.ColorJitter(hue=0.1))},
                "RandAugment": {"augment": (*CROP_AND_FLIP, augment.RandAugment())},
                "mixup": {"augment": (*CROP_AND_FLIP, augment.Mixup(classes=10))},
                "cutmix": {"augment": (*CROP_AND_FLIP, augment.CutMix(classes=10))},
                "mixup or cutmix": {
                    "augment": (
                        *CROP_AND_FLIP,
                        augment.OneOf((augment.Mixup(classes=10), augment.CutMix(classes=10))),
                    )
                },
            },
            name="none",
        ),
    }
