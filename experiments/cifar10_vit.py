"""CIFAR-10: a Vision Transformer needs more examples, or more augmentation, than a ResNet of its size.

A small version of Dosovitskiy et al. (2021), figure 3: two models on 1, 4, 16 and 45 thousand images.

    python -m research.data.sources.tfds prepare cifar10                  once; 170 MB, or --manual-dir FOLDER
    python -m launch run cifar10_vit                                         the ViT on all images, an accelerator
    python -m launch run cifar10_vit --sweep data_size --seeds 3             ViT and ResNet by number of images
    python -m launch run cifar10_vit --sweep augmentation --seeds 3          augmentation instead of images
    python -m launch run cifar10_vit --sweep model --seeds 3                 patches, positions, class token
    python -m launch run cifar10_vit --sweep data_size_cpu                   ViT and ResNet of 0.5 million, 702 steps

Each model has 2.7 million parameters.  The number of steps does not depend on the number of images.

Expect the following test accuracies of `data_size_cpu`: 0.361, 0.469, 0.473 and 0.474 for the ViT, 0.470, 0.582, 0.607
and 0.610 for the ResNet (n = 1 each, 4 to 10 minutes each on one core).  The other sweeps, for an accelerator, have not
been measured.
"""

from research import Experiment, data, models, optimizers, schedules, tasks
from research.data import augment
from research.sweep import Sweep, ablation, grid, product

EPOCH = 45_000 // 128  # steps
CROP_AND_FLIP = (augment.RandomCrop(4), augment.HorizontalFlip())


def experiment() -> Experiment:
    return Experiment(
        model=models.ViT(image_size=32, patch_size=4, width=192, depth=6, num_heads=3, classes=10, drop_path=0.1),
        task=tasks.Classification(classes=10, label_smoothing=0.1),
        data=data.TFDS("cifar10"),
        augment=(*CROP_AND_FLIP, augment.RandAugment()),
        preprocess=(data.Scale("image", 1 / 255), data.Standardize("image")),
        optimizer=optimizers.AdamW(
            learning_rate=1e-3, schedule=schedules.Cosine(warmup_steps=5 * EPOCH), weight_decay=0.05
        ),
        steps=100 * EPOCH,
        batch_size=128,
        clip_norm=1.0,
        eval_every=10 * EPOCH,
    )


def sweeps() -> dict[str, Sweep]:
    cnn = models.resnet(18, stem="cifar", stem_width=32, widths=(32, 64, 128, 256), classes=10)
    cpu = {
        "model": models.ViT(image_size=32, patch_size=4, width=96, depth=4, num_heads=3, classes=10),
        "augment": CROP_AND_FLIP,
        "steps": 2 * EPOCH,
        "optimizer.schedule": schedules.Cosine(warmup_steps=100),
        "eval_every": None,
    }
    cpu_cnn = models.ResNet(
        depths=(1, 1, 1), widths=(40, 80, 160), strides=(2, 2, 2), stem="cifar", stem_width=20, classes=10
    )
    sizes = grid("data.train_examples", 1000, 4000, 16000, 45000)
    mixed = augment.OneOf((augment.Mixup(classes=10), augment.CutMix(classes=10)))
    return {
        "data_size": product(ablation(baseline={}, variants={"ResNet": {"model": cnn}}, name="ViT"), sizes),
        "data_size_cpu": product(ablation(baseline=cpu, variants={"ResNet": {"model": cpu_cnn}}, name="ViT"), sizes),
        "augmentation": ablation(
            baseline={"augment": ()},
            variants={
                "crop and flip": {"augment": CROP_AND_FLIP},
                "RandAugment": {"augment": (*CROP_AND_FLIP, augment.RandAugment())},
                "mixup or cutmix": {"augment": (*CROP_AND_FLIP, mixed)},
                "both": {"augment": (*CROP_AND_FLIP, augment.RandAugment(), mixed)},
            },
            name="none",
        ),
        "model": ablation(
            baseline={},
            variants={
                "patches of 8": {"model.patch_size": 8},
                "sin-cos positions": {"model.positions": "sincos"},
                "mean instead of class token": {"model.class_token": False, "model.pool": "average"},
                "no stochastic depth": {"model.drop_path": 0.0},
            },
            name="ViT",
        ),
    }
