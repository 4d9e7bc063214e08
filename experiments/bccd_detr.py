"""Blood cells found by a DETR with a small ResNet, trained from scratch, beside experiments/bccd_yolox.py.

    python -m launch run experiments.bccd_detr

DETR needs long training, and 205 pictures are few.  The recipe has not been measured yet.
"""

from experiments.bccd_yolox import CELLS, blood_cells
from research import Experiment, data, models, optimizers, schedules, tasks
from research.data import augment


def experiment() -> Experiment:
    return Experiment(
        model=models.DETR(
            **{"classes": 3, "num_queries": 50, "width": 128, "num_heads": 8, "mlp_width": 512, "depth": 3},
            **{"depths": (1, 1, 1, 1), "widths": (32, 64, 128, 256), "stem_width": 32, "block": "basic"},
            norm="batch",
        ),
        task=tasks.SetDetection(classes=3, class_names=CELLS, content="content", picture=256),
        data=blood_cells(),
        augment=(augment.FlipBoxes(), augment.PlaceBoxes(scale=(0.7, 1.4), shift=0.1), augment.ColorJitter()),
        preprocess=(data.Scale("image", 1 / 255), data.Standardize("image")),
        optimizer=optimizers.AdamW(learning_rate=3e-4, schedule=schedules.Cosine(warmup_steps=200), weight_decay=1e-4),
        steps=6000,
        batch_size=8,
        clip_norm=0.5,
        ema_decay=0.998,
        eval_every=1000,
        eval_batch_size=16,
    )
