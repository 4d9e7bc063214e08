"""ImageNet, ResNet-50 in 90 epochs: the published recipe, for a pod.

He et al. (2016), trained with large batches as in Goyal et al. (2017): SGD with momentum 0.9, a learning rate of 0.1
per 256 examples of the batch, five epochs of warm-up, weight decay 1e-4 only on kernels, and the last scale of every
block initialised to 0.  As in He et al. (2019), a cosine schedule (Loshchilov & Hutter, 2017) and label smoothing 0.1
(Szegedy et al., 2016) are added.  The host resizes images to a short side of 256 pixels and crops the centre of 256 by
256. Training takes random resized crops of that, with flips; evaluation takes its centre of 224.  Computes in bfloat16.

Needs imagenet2012 in $TFDS_DATA_DIR, 150 GB; its download requires an account:

    python -m research.data.sources.tfds prepare imagenet2012 --manual-dir FOLDER_WITH_ILSVRC2012_TARS
    python -m launch run imagenet_resnet50 --seeds 3
    python -m launch run imagenet_resnet50 --sweep recipe --seeds 3     against steps at epochs 30, 60 and 80

It has not been run here.  Goyal et al. report a top-1 error of 23.60 ± 0.12% with steps and without label smoothing.
These commands need neither the data nor the devices:

    python -m launch compile imagenet_resnet50 --topology v5e:4x4
    python -m launch compile imagenet_resnet50 --devices 8

The first reports 2.69 GiB per device of a v5e-16, at 1,024 images, so it fits.
"""

from research import Experiment, data, models, optimizers, pretrained, schedules, tasks
from research.sweep import Sweep, ablation

EXAMPLES = 1_281_167 - 10_000  # the other 10,000 are the validation split; TFDS's validation split is the test split
BATCH = 1024
EPOCH = EXAMPLES // BATCH  # steps


def experiment() -> Experiment:
    return Experiment(
        model=models.resnet(50, zero_init=True, dtype="bfloat16"),
        task=tasks.Classification(classes=1000, label_smoothing=0.1, top_k=(5,)),
        data=data.TFDS("imagenet2012", test="validation", validation=10_000, size=(256, 256), convert=True, workers=32),
        augment=(data.augment.RandomResizedCrop(size=(224, 224)), data.augment.HorizontalFlip()),
        preprocess=(
            data.CenterCrop("image", (224, 224)),
            data.Scale("image", 1 / 255),
            data.Standardize(
                "image", mean=pretrained.preprocessing.IMAGENET_MEAN, std=pretrained.preprocessing.IMAGENET_STD
            ),
        ),
        optimizer=optimizers.SGD(
            learning_rate=0.1 * BATCH / 256,
            momentum=0.9,
            nesterov=True,
            weight_decay=1e-4,
            schedule=schedules.Cosine(warmup_steps=5 * EPOCH),
        ),
        steps=90 * EPOCH,
        batch_size=BATCH,
        eval_every=EPOCH,
        log_every=100,
    )


def sweeps() -> dict[str, Sweep]:
    warmup = 5 * EPOCH
    goyal = {
        "optimizer.schedule": schedules.Step(milestones=(30 * EPOCH, 60 * EPOCH, 80 * EPOCH), warmup_steps=warmup),
        "task.label_smoothing": 0.0,
    }
    cosine = {"optimizer.schedule": schedules.Cosine(warmup_steps=warmup)}
    both = cosine | {"task.label_smoothing": 0.1}
    return {
        "recipe": ablation(
            baseline=goyal, variants={"cosine": cosine, "cosine, label smoothing": both}, name="Goyal et al."
        ),
    }
