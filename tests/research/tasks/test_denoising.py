"""Denoising and its samples: the loss against NumPy, the frame's layouts, and what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from command_line import lines
from training_loops import stopping_changes_nothing

from research.data.feeds import make_feeds
from research.data.source import Columns
from research.data.sources.scikit import Sklearn
from research.data.transforms import Scale
from research.diffusion import DDIM, Diffusion, Heun, RectifiedFlow
from research.errors import RequestError
from research.evaluation import read_exhibits
from research.evaluation.evaluations import Evaluation
from research.inference import Predictor
from research.models.dit import DiT
from research.models.unet import UNet
from research.optimizers import SGD
from research.parallel.spec import Parallel
from research.tasks.denoising import Denoising
from research.tasks.randomness import per_example
from research.tasks.samples import GuidedSamples, SamplePaths, Samples
from research.training.evaluate import evaluate, feed_of, outputs_of

MODEL = DiT(image_size=8, patch_size=4, channels=1, width=8, depth=1, num_heads=2, classes=10)
SAMPLES = Evaluation("samples", examples=24, every=5, task=Samples(sampler=DDIM(steps=3), guidance=2.0))
STEPS = 4


def own(**changes):
    base = toys.experiment(
        model=MODEL,
        task=Denoising(classes=10, times=3, process=Diffusion(schedule="cosine", prediction="v")),
        data=Sklearn(name="digits", test=0.2, train_examples=200),
        preprocess=(Scale("image", 1 / 8, shift=-1.0),),
        optimizer=SGD(learning_rate=0.1),
        steps=10,
        batch_size=16,
        ema_decay=0.9,
        evaluations=(SAMPLES,),
    )
    return dataclasses.replace(base, **changes)


@pytest.fixture(scope="module")
def splits():
    return own().data.load()


@pytest.fixture(scope="module")
def feeds(splits):
    return make_feeds(splits, own().data)


def trained(splits, feeds, trials=None, **changes):
    """The losses of the first steps, the programs, the state, and the experiment."""
    experiment = own(**changes).fit(splits)
    return *toys.first_steps(experiment, feeds, STEPS, trials), experiment


def drawn(programs, state, experiment):
    (evaluation,) = experiment.evaluations
    return outputs_of(programs, state, feed_of(evaluation, None), experiment, evaluation)


@pytest.fixture(scope="module")
def reference(splits, feeds):
    return trained(splits, feeds)


@pytest.mark.parametrize(
    "changes",
    [
        {"parallel": Parallel(mesh=(("data", 8),))},
        pytest.param({"parallel": Parallel(strategy="pmap", mesh=(("data", 8),))}, marks=pytest.mark.slow),
        pytest.param({"accumulation": 4}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_losses_and_samples_do_not_depend_on_the_layout(splits, feeds, reference, changes):
    losses, *rest = trained(splits, feeds, **changes)
    np.testing.assert_allclose(losses.reshape(STEPS), reference[0].reshape(STEPS), rtol=1e-5)
    (ours,), (theirs,) = drawn(*rest), drawn(*reference[1:])
    np.testing.assert_allclose(ours["image"], theirs["image"], atol=1e-5)


@pytest.mark.slow
def test_stacked_trials_learn_and_draw_as_each_does_alone(splits, feeds, reference):
    losses, *rest = trained(splits, feeds, trials=2)
    np.testing.assert_allclose(losses[:, 0], reference[0].reshape(STEPS), rtol=1e-5)
    (first, second), (alone,) = drawn(*rest), drawn(*reference[1:])
    np.testing.assert_allclose(first["image"], alone["image"], atol=1e-5)
    assert abs(second["image"] - first["image"]).max() > 1e-4


def test_samples_and_errors_do_not_depend_on_the_batches(splits, feeds, reference):
    _, programs, state, experiment = reference
    other = dataclasses.replace(experiment, eval_batch_size=5)
    (ours,), (theirs,) = drawn(programs, state, other), drawn(programs, state, experiment)
    np.testing.assert_allclose(ours["image"], theirs["image"], atol=1e-5)
    np.testing.assert_array_equal(theirs["label"], np.arange(24) % 10)
    validation = feeds.evaluation["validation"]
    one, two = (evaluate(programs, state, validation, e)[0] for e in (experiment, other))
    assert one == pytest.approx(two, rel=1e-5)
    predictor = Predictor(experiment, state.variables(averaged=True))
    assert predictor.predict(np.zeros((3, 8, 8, 1), np.uint8))["error"].shape == (3, 3)


@pytest.mark.slow
@pytest.mark.parametrize("stacked", [True, False], ids=["stacked", "one after another"])
def test_a_stopped_run_ends_as_if_it_had_not(splits, feeds, tmp_path, stacked):
    experiment = own(steps=8, evaluations=(dataclasses.replace(SAMPLES, every=3),), log_every=2).fit(splits)
    stopping_changes_nothing(tmp_path, experiment, feeds, stacked=stacked)
    for trial in ("0", "1"):
        one, other = tmp_path / "stopped" / trial, tmp_path / "whole" / trial
        shown = [[(e.evaluation, e.name, e.step) for e in read_exhibits(folder)] for folder in (one, other)]
        assert shown[0] == shown[1] and ("samples", "samples", 6) in shown[0]
    assert lines(one) != lines(tmp_path / "whole" / "0")


# -- the loss by NumPy ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def batch():
    generator = np.random.default_rng(0)
    return {
        "image": generator.uniform(-1, 1, (64, 4, 4, 1)).astype(np.float32),
        "label": np.arange(64) % 10,
        "weight": np.r_[np.ones(60), np.zeros(4)].astype(np.float32),
        "key": jax.random.split(jax.random.key(3), 64),
    }


def apply(x, time, label=None, train=False):
    """A model with a known output, of which the second channel is no prediction."""
    shift = 0 if label is None else 0.01 * label[:, None, None, None]
    return jnp.concatenate([0.5 * x + 1e-4 * time[:, None, None, None] + shift, x], axis=-1)


def expected(batch, alpha, sigma, time, noise, label, kind):
    """(squared error, noised image) [example] by NumPy in float64."""
    alpha, sigma = (np.asarray(x, np.float64)[:, None, None, None] for x in (alpha, sigma))
    image, noise = (np.asarray(x, np.float64) for x in (batch["image"], noise))
    predicted = (
        0.5 * (alpha * image + sigma * noise) + 1e-4 * time[:, None, None, None] + 0.01 * label[:, None, None, None]
    )
    target = {"noise": noise, "image": image, "v": alpha * noise - sigma * image, "velocity": noise - image}[kind]
    return ((predicted - target) ** 2).mean((1, 2, 3))


@pytest.mark.parametrize("kind", ["noise", "image", "v", "velocity"])
def test_loss_by_time_is_that_of_numpy(batch, kind):
    flow = kind == "velocity"
    process = RectifiedFlow() if flow else Diffusion(prediction=kind)
    task = Denoising(classes=10, process=process, drop_label=0.5)
    terms = jax.jit(lambda batch: task.loss(apply, batch))(batch)
    time = np.asarray(per_example(batch["key"], 0, process.draw_time), np.float64)
    noise = per_example(batch["key"], 1, jax.random.normal, (4, 4, 1))
    dropped = np.asarray(per_example(batch["key"], 2, jax.random.bernoulli, p=0.5))
    assert 16 < dropped.sum() < 48
    label = np.where(dropped, 10, batch["label"])
    if flow:
        alpha, sigma = 1 - time / 1000, time / 1000
    else:
        kept = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[time.astype(int)]
        alpha, sigma = np.sqrt(kept), np.sqrt(1 - kept)
    error = expected(batch, alpha, sigma, time, noise, label, kind)
    weight = batch["weight"]
    np.testing.assert_allclose(terms["loss"][0] / terms["loss"][1], (error * weight).sum() / weight.sum(), rtol=1e-5)
    for start in (0, 250, 500, 750):
        inside = weight * (time >= start) * (time < start + 250)
        total, count = terms[f"error/from_{start}"]
        assert count == inside.sum() > 0
        np.testing.assert_allclose(total, (error * inside).sum(), rtol=1e-5)


def test_an_evaluation_has_the_error_of_each_fixed_time(batch):
    task = Denoising(classes=10, times=4)
    outputs = jax.jit(lambda batch: task.eval_outputs(apply, batch))(batch)
    noise = per_example(batch["key"], 1, jax.random.normal, (4, 4, 1))
    kept = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    for i, time in enumerate((125, 375, 625, 875)):
        level = np.sqrt(np.full(64, kept[time])), np.sqrt(np.full(64, 1 - kept[time]))
        error = expected(batch, *level, np.full(64, time), noise, batch["label"], "noise")
        np.testing.assert_allclose(outputs["error"][:, i], error, rtol=1e-4)
    outputs = {name: np.asarray(x) for name, x in outputs.items()}
    means = outputs["error"].mean(0)
    assert task.finalize(outputs) == {"loss": pytest.approx(means.mean(), rel=1e-6)}
    weighted = dataclasses.replace(task, process=Diffusion(weighting="min_snr"))
    weight = weighted.process.weight(jnp.array([125, 375, 625, 875]))
    assert weighted.finalize(outputs)["loss"] == pytest.approx(float((means * weight).mean()), rel=1e-5) != means.mean()
    (curve,) = task.exhibits(outputs).values()
    np.testing.assert_array_equal(curve.x[0], [125, 375, 625, 875])
    np.testing.assert_allclose(curve.y[0], means, rtol=1e-6)


# -- samples ---------------------------------------------------------------------------------------------------------


def samples(task, count=12):
    batch = {"key": jax.random.split(jax.random.key(0), count), "example": jnp.arange(count)}
    outputs = {name: np.asarray(x) for name, x in task.eval_outputs(apply, batch).items()}
    return outputs, task.exhibits(outputs)


DENOISING = Denoising(classes=5, shape=(4, 4, 1))


def test_samples_have_a_row_for_each_class():
    outputs, shown = samples(Samples(sampler=DDIM(steps=2)).beside(DENOISING))
    grid = shown["samples"].images
    assert grid.shape == (5, 2, 4, 4, 1)
    np.testing.assert_array_equal(grid[3, 1], np.round(255 * outputs["image"][8]))
    assert outputs["label"][8] == 3


def test_a_path_goes_from_noise_to_the_sample():
    plain, _ = samples(Samples(sampler=DDIM(steps=9)).beside(DENOISING), 3)
    outputs, shown = samples(SamplePaths(sampler=DDIM(steps=9), frames=4).beside(DENOISING), 3)
    np.testing.assert_allclose(outputs["path"][:, -1], plain["image"], atol=1e-6)
    noise = per_example(jax.random.split(jax.random.key(0), 3), 0, jax.random.normal, (4, 4, 1))
    np.testing.assert_allclose(outputs["path"][:, 0], np.clip((noise + 1) / 2, 0, 1), atol=1e-6)
    assert shown["paths"].images.shape == (3, 4, 4, 4, 1)


def test_guidance_in_a_row_has_the_same_noise():
    outputs, shown = samples(GuidedSamples(sampler=DDIM(steps=3), scales=(0.0, 1.0, 4.0)).beside(DENOISING), 4)
    plain, _ = samples(Samples(sampler=DDIM(steps=3)).beside(DENOISING), 4)
    np.testing.assert_allclose(outputs["image"][:, 1], plain["image"], atol=1e-5)
    assert shown["guidance"].images.shape == (4, 3, 4, 4, 1)
    assert list(shown["guidance"].column_names) == ["0", "1", "4"]


# -- what is refused ---------------------------------------------------------------------------------------------------


def refused(said, **changes):
    with pytest.raises(RequestError) as error:
        experiment = own(**changes)
        experiment.check()
        experiment.fit(experiment.data.load())
    assert said in str(error.value) and "\n" not in str(error.value)


def test_wrong_requests_are_one_line():
    few = Diffusion(train_steps=20, schedule="cosine")
    free = {"task": Denoising(), "model": MODEL.clone(classes=None)}
    tiny = {"image_size": 8, "channels": 1, "widths": (8, 16), "attention": (False, False), "groups": 4, "classes": 10}
    refused("images from 0 to 16; expected -1 to 1", preprocess=())
    refused("images from 0 to 1; expected -1 to 1", preprocess=(Scale("image", 1 / 16),))
    short = Denoising(classes=10, process=Diffusion(train_steps=2), times=1)
    refused("evaluations.0.task.sampler: steps=3: expected 1 to the 2", task=short)
    refused("guidance=2: the model has no classes; expected none", **free)
    refused("guidance=2: it never learned to draw without a class", task=Denoising(classes=10, drop_label=0.0))
    refused("task.classes=9 and model.classes=10", task=Denoising(classes=9))
    refused("task.classes=9: label 9 of example", task=Denoising(classes=9), model=MODEL.clone(classes=9))
    refused("the model has no class for no class", model=UNet(**tiny, null_class=False))
    refused("task.times=30: expected at most process.train_steps=20", task=Denoising(classes=10, process=few, times=30))
    heun = dataclasses.replace(SAMPLES, task=Samples(sampler=Heun()))
    refused("evaluations.0.task.sampler: Heun needs process=RectifiedFlow", evaluations=(heun,))
    refused("task.input='img'", task=Denoising(classes=10, input="img"))


def test_a_task_of_samples_needs_one_of_denoising():
    with pytest.raises(RequestError, match="Samples: the experiment's task is no Denoising"):
        Samples().beside(toys.experiment().task)


def test_images_without_channels_are_named():
    source = Columns({"image": np.zeros((4, 8, 8), np.float32)})
    with pytest.raises(RequestError, match=r"task.input='image': \[8, 8\] given; expected \[height, width, channels\]"):
        Denoising().check_examples(source, "train")
