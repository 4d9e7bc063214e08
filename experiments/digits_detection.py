"""Handwritten digits found and read on canvases: a small YOLOX, and a small DETR.

2,000 canvases of 64×64 pixels, each with 0 to 5 of scikit-learn's digits in any size, made from a seed; the digits of
the 300 test canvases are in no other.  No file is needed.  Average precision is COCO's.

    python -m launch run experiments.digits_detection                              YOLOX
    python -m launch run experiments.digits_detection --sweep detectors --seeds 3  YOLOX and DETR

    python -m launch run experiments.digits_detection --sweep assignment --seeds 3  SimOTA against cells near the centre
    python -m launch run experiments.digits_detection --sweep levels --seeds 3      maps with a head
    python -m launch run experiments.digits_detection --sweep set --seeds 3         DETR without each of its parts

YOLOX has a test AP50 of 0.960 with seed 0 (experiments/RESULTS.md).  DETR and the ablations have not been measured yet.
"""

from typing import Any

from research import Experiment, data, models, optimizers, schedules, tasks
from research.data import augment
from research.sweep import Sweep, Variant, ablation

DIGITS = tuple("0123456789")


def experiment() -> Experiment:
    return Experiment(
        model=models.YOLOX(classes=10, depth=0.33, width=0.25, momentum=0.9),
        task=tasks.DenseDetection(classes=10, class_names=DIGITS, most=20, picture=64),
        data=data.ScatteredDigits(),
        augment=(augment.PlaceBoxes(scale=(0.8, 1.25), shift=0.1, fill=0.0),),
        preprocess=(data.Scale("image", 1 / 255),),
        optimizer=optimizers.AdamW(learning_rate=2e-3, schedule=schedules.Cosine(warmup_steps=100), weight_decay=0.05),
        steps=1500,
        batch_size=32,
        clip_norm=10.0,
        ema_decay=0.995,
        eval_every=500,
    )


def detr() -> dict[str, Any]:
    """The changes that make it a DETR: the digits are read by a small ResNet, and found by 12 queries."""
    return {
        "model": models.DETR(
            **{"classes": 10, "num_queries": 12, "width": 96, "num_heads": 4, "mlp_width": 256, "dropout": 0.0},
            **{"depth": 2, "decoder_depth": 3, "norm": "batch", "block": "basic"},
            **{"stem": "cifar", "stem_width": 16, "depths": (1, 1, 1), "widths": (32, 64, 96), "strides": (2, 2, 2)},
        ),
        "task": tasks.SetDetection(classes=10, class_names=DIGITS, most=12, picture=64),
        "steps": 6000,
        "optimizer.learning_rate": 5e-4,
        "clip_norm": 0.5,
    }


def sweeps() -> dict[str, Sweep]:
    base = detr()
    without = {
        "no auxiliary losses": {"task.auxiliary": False},
        "L1 only": {"task.giou": 0.0},
        "GIoU only": {"task.l1": 0.0},
        "matched in order": {"task.matching": "in_order"},
        "6 queries": {"model.num_queries": 6, "task.most": 6},
        "50 queries": {"model.num_queries": 50},
    }
    return {
        "detectors": Sweep((Variant("YOLOX", {}), Variant("DETR", base))),
        "assignment": ablation(baseline={}, variants={"central": {"task.assignment": "central"}}, name="SimOTA"),
        "levels": ablation(
            baseline={},
            variants={"stride 8": {"model.levels": (3,)}, "8 and 16": {"model.levels": (3, 4)}},
            name="8, 16 and 32",
        ),
        "set": ablation(baseline=base, variants=without, name="DETR"),
    }
