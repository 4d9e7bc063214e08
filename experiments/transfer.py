"""Transfer: five classes of CIFAR-10 from few labels, with a small ResNet pre-trained on the other five classes or not.

Classes 0, 2, 4, 6, 8 (airplane, bird, deer, frog, ship) are for pre-training, with all their 22,500 images.  Classes 1,
3, 5, 7, 9 (automobile, cat, dog, horse, truck) are learned from 5, 10, 50 or 100 labels each, or from all, in four
ways: training from scratch; a linear probe (everything but the head is frozen, and batch norms use the statistics of
pre-training); fine-tuning; and fine-tuning with learning rates that halve from stage to stage towards the input.  All
take the same fixed number of steps with the same labels: ten subsets of the training images (`data.split_seed`), or all
of them.  The test split is scored once, at the end.

Needs cifar10 in $TFDS_DATA_DIR (`python -m research.data.sources.tfds prepare cifar10`).  Pre-train first, then run
each number of labels, then report on all of them:

    python -m launch run transfer --sweep pretrain
    for n in 5 10 50 100; do python -m launch run transfer --sweep labels_$n; done
    python -m launch run transfer --sweep labels_all --seeds 3
    python -m launch report runs/transfer/labels_* --out runs/transfer/report

Learning rates were chosen with `--sweep rates` on the validation split, for two other subsets of ten labels per class.
To start from other weights: `--set init_from=RUN_OR_WEIGHTS`.

Expect, with ten labels per class, 0.388 ± 0.027 (n = 10) from scratch and 0.492 ± 0.021 with the probe; with a hundred,
0.529 ± 0.006 from scratch and 0.585 ± 0.006 by fine-tuning with layer-wise rates.  Each sweep takes about ten minutes
on one CPU core.
"""

from typing import Any

from research import Experiment, data, models, optimizers, schedules, tasks
from research.sweep import Sweep, Variant, grid, product, repeats

SOURCE = (0, 2, 4, 6, 8)  # airplane, bird, deer, frog, ship
TARGET = (1, 3, 5, 7, 9)  # automobile, cat, dog, horse, truck
LAYERS = ("*", "stage0_*", "stage1_*", "stage2_*", "head/*")  # from the input to the output; * is the stem


def experiment() -> Experiment:
    return Experiment(
        model=models.ResNet(
            depths=(1, 1, 1), widths=(16, 32, 64), strides=(2, 2, 2), stem="cifar", stem_width=16, classes=5
        ),
        task=tasks.Classification(classes=5),
        data=data.Classes(data.TFDS("cifar10"), keep=TARGET, train_examples=50),
        augment=(data.augment.RandomCrop(4), data.augment.HorizontalFlip()),
        preprocess=(
            data.Scale("image", 1 / 255),
            data.Standardize("image", mean=(0.49, 0.48, 0.45), std=(0.25, 0.24, 0.26)),
        ),
        optimizer=optimizers.AdamW(learning_rate=3e-3, schedule=schedules.Cosine(), weight_decay=0.01),
        steps=200,
        batch_size=25,
        init_from="runs/transfer/pretrain",
        init_skip=("params/head/*",),
    )


def sweeps() -> dict[str, Sweep]:
    methods = {
        "scratch": {"init_from": None, "init_skip": (), "optimizer.learning_rate": 3e-3},
        "linear probe": {"optimizer.frozen": ("stem_*", "stage*"), "optimizer.learning_rate": 1e-2},
        "fine-tune": {"optimizer.learning_rate": 1e-3},
        "layer-wise rates": {"optimizer.rates": optimizers.layer_decay(0.5, LAYERS), "optimizer.learning_rate": 3e-3},
    }
    subsets = repeats(grid("data.split_seed", *range(10)))

    def compared(per_class: int | None, *without: str, **changes: Any) -> Sweep:
        """Every method, against training from scratch, with so many labels per class."""
        common = {"data.train_examples": per_class and per_class * len(TARGET), **changes}
        variants = {name: {p: x for p, x in own.items() if p not in without} for name, own in methods.items()}
        return Sweep(tuple(Variant(name, own | common) for name, own in variants.items()), baseline="scratch")

    return {
        "pretrain": Sweep(
            (
                Variant(
                    "pretrain",
                    methods["scratch"]
                    | {"data.keep": SOURCE, "data.train_examples": None, "steps": 2000, "batch_size": 100},
                ),
            )
        ),
        "labels_5": product(compared(5), subsets),
        "labels_10": product(compared(10), subsets),
        "labels_50": product(compared(50), subsets),
        "labels_100": product(compared(100), subsets),
        "labels_all": compared(None, steps=1000, batch_size=64),
        "rates": product(
            compared(10, "optimizer.learning_rate"),
            grid("optimizer.learning_rate", 1e-3, 3e-3, 1e-2, 3e-2),
            repeats(grid("data.split_seed", 100, 101)),
        ),
    }
