"""Handwritten digits from noise: a small Diffusion Transformer on 8×8 pixels, by class and with guidance.

The 1,797 digits of 8×8 pixels in scikit-learn (UCI Optical Recognition of Handwritten Digits); a stratified fifth is
the test split.  The loss of validation is the squared error at ten fixed times; `samples` shows 80 digits of the same
noise as the model learns, `paths` the way from noise, and `guidance` the same noise at five scales.

    python -m launch run experiments.digits_diffusion                   readable digits after two minutes; 4 to 6 in all

The sweeps also draw 1,000 digits at the end, and score them by a classifier of the project, which is trained first:

    python -m launch run digits_mlp                                                the classifier
    python -m launch run experiments.digits_diffusion --sweep quality              the experiment itself
    python -m launch run experiments.digits_diffusion --sweep prediction           what the model predicts
    python -m launch run experiments.digits_diffusion --sweep schedule             how the noise grows
    python -m launch run experiments.digits_diffusion --sweep weighting --seeds 3  the weight of each time

Samplers and guidance are compared on one training, which is scored again:

    python -m launch eval runs/digits_diffusion/quality --split quality --set evaluations.3.task.guidance=1.5
    python -m launch eval runs/digits_diffusion/quality --split quality --set evaluations.3.task.sampler=DPMSolver

Expect of `quality`: the classifier, which is right for 0.981 of the test split, assigns 0.977 of the samples to the
class asked for (n = 1 run, 1,000 samples).  The other sweeps have not been measured.  RESULTS.md compares samplers and
scales of guidance.
"""

from research import Evaluation, Experiment, data, models, optimizers, schedules, tasks
from research.diffusion import DDIM, Diffusion, Euler, RectifiedFlow, Sampler
from research.inference import SampleQuality
from research.sweep import Sweep, Variant, ablation


def experiment() -> Experiment:
    return Experiment(
        model=models.DiT(image_size=8, patch_size=2, channels=1, width=64, depth=4, num_heads=4, classes=10),
        task=tasks.Denoising(classes=10, process=Diffusion(schedule="cosine", prediction="v")),
        data=data.Sklearn(name="digits", test=0.2),
        preprocess=(data.Scale("image", 1 / 8, shift=-1.0),),  # pixels are 0 to 16
        optimizer=optimizers.AdamW(learning_rate=2e-3, schedule=schedules.Cosine(warmup_steps=100), weight_decay=0.01),
        steps=2000,
        batch_size=64,
        clip_norm=1.0,
        ema_decay=0.995,
        eval_every=1000,
        evaluations=evaluations(DDIM(steps=50)),
    )


def evaluations(sampler: Sampler) -> tuple[Evaluation, ...]:
    return (
        Evaluation("samples", examples=80, every=500, task=tasks.Samples(sampler=sampler, guidance=1.5)),
        Evaluation("paths", examples=5, task=tasks.SamplePaths(sampler=sampler)),
        Evaluation("guidance", examples=10, task=tasks.GuidedSamples(sampler=sampler)),
    )


def sweeps() -> dict[str, Sweep]:
    def scored(sampler: Sampler) -> tuple[Evaluation, ...]:
        judge = SampleQuality(classifier="runs/digits_mlp/base", references=1300, white=16.0, sampler=sampler)
        return (*evaluations(sampler), Evaluation("quality", examples=1000, task=judge))

    baseline = {"evaluations": scored(DDIM(steps=50))}
    kinds = {name: {"task.process.prediction": name} for name in ("noise", "image")}
    flow = {"task.process": RectifiedFlow(), "evaluations": scored(Euler(steps=50))}
    schedule = {name: {"task.process.schedule": name} for name in ("linear", "scaled_linear")}
    weighting = {"min-SNR": {"task.process.weighting": "min_snr"}}
    return {
        "quality": Sweep((Variant("quality", baseline),)),
        "prediction": ablation(baseline=baseline, variants=kinds | {"rectified flow": flow}, name="v"),
        "schedule": ablation(baseline=baseline, variants=schedule, name="cosine"),
        "weighting": ablation(baseline=baseline, variants=weighting, name="simple"),
    }
