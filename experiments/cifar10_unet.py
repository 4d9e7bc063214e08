"""CIFAR-10 from noise: the U-Net and the recipe of DDPM, without and with classes.

Ho et al. (2020), appendix B: 35.7 million parameters, 1,000 linear steps, prediction of the noise, Adam at 2e-4 after a
warm-up of 5,000 steps, batches of 128 for 800,000 steps, dropout 0.1, flips, an average of decay 0.9999, and samples in
1,000 steps.  The paper reports a Fréchet distance of 3.17 in the features of an Inception network, from 50,000 samples.

    python -m research.data.sources.tfds prepare cifar10                  once; 170 MB, or --manual-dir FOLDER
    python -m launch run cifar10_unet                                     an accelerator
    python -m launch run cifar10_unet --sweep classes                     by class, with guidance
    python -m launch run cifar10_unet --sweep schedule                    Nichol & Dhariwal (2021)

It has not been run here.  These commands need neither the data nor the devices:

    python -m launch compile cifar10_unet --topology v5e:2x2
    python -m launch compile cifar10_unet --devices 8
"""

from research import Evaluation, Experiment, data, models, optimizers, schedules, tasks
from research.diffusion import DDIM, DDPM, Diffusion
from research.sweep import Sweep, ablation


def experiment() -> Experiment:
    return Experiment(
        model=models.unet("ddpm32"),
        task=tasks.Denoising(process=Diffusion(schedule="linear", prediction="noise")),
        data=data.TFDS("cifar10"),
        augment=(data.augment.HorizontalFlip(),),
        preprocess=(data.Scale("image", 2 / 255, shift=-1.0),),
        optimizer=optimizers.Adam(learning_rate=2e-4, schedule=schedules.Constant(warmup_steps=5000)),
        steps=800_000,
        batch_size=128,
        clip_norm=1.0,
        ema_decay=0.9999,
        log_every=100,
        eval_batch_size=128,
        evaluations=(
            Evaluation("validation", every=20_000, examples=1000),
            Evaluation("samples", examples=64, every=20_000, task=tasks.Samples(sampler=DDIM(steps=50))),
            Evaluation("paths", examples=8, task=tasks.SamplePaths(sampler=DDPM())),
        ),
    )


def sweeps() -> dict[str, Sweep]:
    classes = {"model.classes": 10, "task.classes": 10, "evaluations.1.task.guidance": 1.5}
    return {
        "classes": ablation(baseline={}, variants={"ten classes": classes}, name="none"),
        "schedule": ablation(baseline={}, variants={"cosine": {"task.process.schedule": "cosine"}}, name="linear"),
    }
