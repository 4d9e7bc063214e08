"""Fashion-MNIST from noise: a Diffusion Transformer by class, and how schedule, prediction and sampler change it.

Xiao et al. (2017): 60,000 + 10,000 grey images of 28×28 pixels, ten kinds of clothing.  `samples` shows 80 images of
the same noise as the model learns.  `quality` draws 5,000 images at the end and compares them with 5,000 training
images in the features of the project's own classifier, which is trained first:

    python -m research.data.sources.tfds prepare fashion_mnist     once; --manual-dir FOLDER takes files you have
    python -m launch run fashion_mnist_cnn                         the classifier, in runs/fashion_mnist_cnn/base
    python -m launch run fashion_diffusion
    python -m launch run fashion_diffusion --sweep prediction      noise, image, v, or the velocity of a flow
    python -m launch run fashion_diffusion --sweep schedule
    python -m launch run fashion_diffusion --sweep weighting

Samplers, steps and guidance are compared on one training, which is scored again:

    python -m launch eval runs/fashion_diffusion/base --split quality --set evaluations.1.task.guidance=1
    python -m launch eval runs/fashion_diffusion/base --split quality --set evaluations.1.task.sampler=DPMSolver
    python -m launch eval runs/fashion_diffusion/base --split quality --set evaluations.1.task.sampler=DDPM

The recipe has not been measured yet.
"""

from research import Evaluation, Experiment, data, models, optimizers, schedules, tasks
from research.diffusion import DDIM, Diffusion, Euler, RectifiedFlow
from research.inference import SampleQuality
from research.sweep import Sweep, ablation

EPOCH = 54_000 // 128  # steps


def experiment() -> Experiment:
    drawn = {"sampler": DDIM(steps=50), "guidance": 2.0}
    return Experiment(
        model=models.DiT(image_size=28, patch_size=4, channels=1, width=128, depth=6, num_heads=4, classes=10),
        task=tasks.Denoising(classes=10, process=Diffusion(schedule="cosine", prediction="v")),
        data=data.TFDS("fashion_mnist"),
        augment=(data.augment.HorizontalFlip(),),
        preprocess=(data.Scale("image", 2 / 255, shift=-1.0),),
        optimizer=optimizers.AdamW(learning_rate=1e-3, schedule=schedules.Cosine(warmup_steps=500), weight_decay=0.01),
        steps=40 * EPOCH,
        batch_size=128,
        clip_norm=1.0,
        ema_decay=0.999,
        evaluations=(
            Evaluation("validation", every=4 * EPOCH, examples=1000),
            Evaluation("quality", examples=5000, task=SampleQuality(classifier="runs/fashion_mnist_cnn/base", **drawn)),
            Evaluation("samples", examples=80, every=4 * EPOCH, task=tasks.Samples(**drawn)),
            Evaluation("paths", examples=5, task=tasks.SamplePaths(**drawn)),
            Evaluation("guidance", examples=10, task=tasks.GuidedSamples()),
        ),
    )


def sweeps() -> dict[str, Sweep]:
    flow = {"task.process": RectifiedFlow()} | {f"evaluations.{i}.task.sampler": Euler() for i in range(1, 5)}
    kinds = {name: {"task.process.prediction": name} for name in ("noise", "image")}
    return {
        "prediction": ablation(baseline={}, variants=kinds | {"rectified flow": flow}, name="v"),
        "schedule": ablation(
            baseline={},
            variants={name: {"task.process.schedule": name} for name in ("linear", "scaled_linear")},
            name="cosine",
        ),
        "weighting": ablation(baseline={}, variants={"min-SNR": {"task.process.weighting": "min_snr"}}, name="simple"),
    }
