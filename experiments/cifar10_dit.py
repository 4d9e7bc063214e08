"""CIFAR-10 from noise by class: a Diffusion Transformer as a rectified flow, in bfloat16.

The block of Peebles & Xie (2023) on pixels, with patches of 2: DiT-S/2, 32.5 million parameters.  The flow is that of
Liu et al. (2023), with times drawn as in Esser et al. (2024), and the optimiser that of DiT: AdamW at 1e-4 without
decay, an average of decay 0.9999, and a tenth of the examples without their class.

    python -m research.data.sources.tfds prepare cifar10                  once; 170 MB, or --manual-dir FOLDER
    python -m launch run cifar10_dit                                      an accelerator
    python -m launch run cifar10_dit --sweep process --seeds 3            a flow against diffusion
    python -m launch run cifar10_dit --sweep patches                      patches of 2, 4 and 8

It has not been run here.  These commands need neither the data nor the devices:

    python -m launch compile cifar10_dit --topology v5e:2x2
    python -m launch compile cifar10_dit --devices 8
"""

from research import Evaluation, Experiment, data, models, optimizers, schedules, tasks
from research.diffusion import DDIM, Diffusion, Heun, RectifiedFlow
from research.sweep import Sweep, ablation


def experiment() -> Experiment:
    drawn = {"sampler": Heun(steps=25), "guidance": 1.5}
    return Experiment(
        model=models.dit("s", 2, image_size=32, channels=3, classes=10, dtype="bfloat16"),
        task=tasks.Denoising(classes=10, process=RectifiedFlow(draws="logit_normal")),
        data=data.TFDS("cifar10"),
        augment=(data.augment.HorizontalFlip(),),
        preprocess=(data.Scale("image", 2 / 255, shift=-1.0),),
        optimizer=optimizers.AdamW(learning_rate=1e-4, schedule=schedules.Constant(), weight_decay=0.0),
        steps=400_000,
        batch_size=256,
        ema_decay=0.9999,
        log_every=100,
        eval_batch_size=256,
        evaluations=(
            Evaluation("validation", every=20_000, examples=1000),
            Evaluation("samples", examples=80, every=20_000, task=tasks.Samples(**drawn)),
            Evaluation("paths", examples=8, task=tasks.SamplePaths(**drawn)),
            Evaluation("guidance", examples=10, task=tasks.GuidedSamples(sampler=Heun(steps=25))),
        ),
    )


def sweeps() -> dict[str, Sweep]:
    samplers = {f"evaluations.{i}.task.sampler": DDIM(steps=50) for i in (1, 2, 3)}
    diffusion = {"task.process": Diffusion(schedule="cosine", prediction="v")} | samplers
    return {
        "process": ablation(baseline={}, variants={"diffusion": diffusion}, name="flow"),
        "patches": ablation(
            baseline={}, variants={f"patches of {size}": {"model.patch_size": size} for size in (4, 8)}, name="2"
        ),
    }
