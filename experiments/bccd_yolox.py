"""Blood cells found by a small YOLOX, trained from scratch: red cells, white cells and platelets (BCCD).

364 pictures of 640×480 pixels with 4,888 boxes; the official split of 205, 87 and 72.  ESPALIER_DATA names the folder
that holds bccd/BCCD_Dataset-1.0.zip, which is read as it is downloaded.

    python -m launch run experiments.bccd_yolox

A YOLOv8n of 3.0 million parameters, pre-trained on COCO, is reported to have an AP50 of 0.904 there.  The recipe has
not been measured yet.
"""

import os

from research import Experiment, data, models, optimizers, schedules, tasks
from research.data import augment

CELLS = ("Platelets", "RBC", "WBC")


def blood_cells(size: tuple[int, int] = (192, 256)) -> data.VOC:
    """The data set, fitted into `size`."""
    folder = os.environ.get("ESPALIER_DATA", "data")
    return data.VOC(path=f"{folder}/bccd/BCCD_Dataset-1.0.zip", size=size, class_names=CELLS)


def experiment() -> Experiment:
    return Experiment(
        model=models.yolox("nano", depthwise=False, classes=3),
        task=tasks.DenseDetection(classes=3, class_names=CELLS, picture=256),
        data=blood_cells(),
        augment=(
            augment.Mosaic(probability=0.5),
            augment.FlipBoxes(),
            augment.PlaceBoxes(scale=(0.7, 1.4), shift=0.1, aspect=1.2),
            augment.ColorJitter(),
        ),
        preprocess=(data.Scale("image", 1 / 255),),
        optimizer=optimizers.AdamW(learning_rate=1e-3, schedule=schedules.Cosine(warmup_steps=100), weight_decay=0.05),
        steps=3000,
        batch_size=8,
        clip_norm=10.0,
        ema_decay=0.998,
        eval_every=500,
        eval_batch_size=16,
    )
