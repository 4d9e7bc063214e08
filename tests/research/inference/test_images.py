"""Draws images from a small trained run, and scores samples by a small classifier."""

import dataclasses

import jax
import numpy as np
import pytest
import toys

from research import data, models, optimizers, tasks
from research.diffusion import DDIM, DDPM, Diffusion, Heun
from research.errors import RequestError
from research.inference import Predictor, SampleQuality, draw, features
from research.inference import quality as quality_module
from research.inference.images import _drawn

SHAPE = (8, 8, 1)
TASK = tasks.Denoising(classes=10, shape=SHAPE, process=Diffusion(train_steps=40, schedule="cosine", prediction="v"))
MODEL = models.DiT(image_size=8, patch_size=4, channels=1, width=8, depth=1, num_heads=2, classes=10)


def random(model, **inputs):
    shapes = jax.eval_shape(model.init, jax.random.key(0), **inputs)
    generator = np.random.default_rng(0)
    return jax.tree.map(lambda x: np.float32(0.3 * generator.standard_normal(x.shape)), shapes)


@pytest.fixture(scope="module")
def variables():
    return random(MODEL, x=np.zeros((1, *SHAPE), np.float32), time=np.zeros(1), label=np.zeros(1, int))


@pytest.fixture(scope="module")
def predictor(variables):
    digits = data.Sklearn(name="digits", class_names=tuple("0123456789"))
    return Predictor(toys.experiment(model=MODEL, task=TASK, data=digits), variables)


def test_an_image_depends_on_the_seed_and_its_number_only(predictor):
    together = draw(predictor, label=3, number=5, steps=4)
    assert together.shape == (5, *SHAPE) and together.dtype == np.float32
    assert 0 <= together.min() < together.max() <= 1
    np.testing.assert_allclose(draw(predictor, label=3, number=2, steps=4), together[:2], atol=1e-5)
    np.testing.assert_allclose(draw(predictor, label=3, number=5, steps=4, batch_size=2), together, atol=1e-5)
    mixed, named = draw(predictor, label=[3, 4], steps=4), draw(predictor, label=["3"], steps=4)
    np.testing.assert_allclose(mixed[0], named[0], atol=1e-5)
    assert abs(draw(predictor, label=3, number=5, steps=4, seed=1) - together).max() > 0.1
    assert abs(draw(predictor, label=4, number=5, steps=4) - together).max() > 1e-3


def test_one_program_serves_any_class_guidance_and_seed(predictor):
    draw(predictor, label=1, number=3, guidance=1.0, steps=5)
    before = _drawn._cache_size()
    strong = draw(predictor, label=[1, 2, 7], guidance=4.0, steps=5, seed=9)
    assert _drawn._cache_size() == before
    plain = draw(predictor, label=[1, 2, 7], steps=5, seed=9)
    assert abs(strong - plain).max() > 1e-3
    np.testing.assert_allclose(draw(predictor, label=[1, 2, 7], guidance=1.0, steps=5, seed=9), plain, atol=1e-5)


def test_other_samplers_and_variations(predictor):
    given = draw(predictor, label=3, number=2, sampler=DDPM(steps=10))
    near = draw(predictor, label=3, number=2, image=given, strength=0.1, steps=10)
    far = draw(predictor, label=3, number=2, image=given, strength=1.0, steps=10)
    assert abs(near - given).mean() < abs(far - given).mean()


def test_weights_that_are_no_run_need_their_task(predictor, variables):
    alone = draw((MODEL, variables), label=2, number=1, steps=4, task=TASK)
    np.testing.assert_array_equal(alone, draw(predictor, label=2, number=1, steps=4))
    with pytest.raises(RequestError, match="expected their task=Denoising"):
        draw((MODEL, variables), label=2)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"label": 10}, "label=10: no such class; expected 0 to 9"),
        ({"label": "ten"}, "label='ten': no such class"),
        ({"label": [1, 2], "number": 3}, "number=3: 2 labels given; expected one for each image"),
        ({"label": []}, "label: an empty list"),
        ({"number": 0}, "number=0: expected at least 1"),
        ({"steps": 41}, "steps=41: expected 1 to the 40 training steps"),
        ({"sampler": Heun()}, "Heun needs process=RectifiedFlow"),
        ({"guidance": 2.0}, "guidance=2.0: expected a label to guide to"),
        ({"label": 1, "guidance": float("nan")}, "guidance=nan: expected a number"),
        ({"seed": -1}, "seed=-1: expected 0 to 4294967295"),
        ({"image": np.full((1, *SHAPE), 255.0)}, "image: [1, 8, 8, 1]; expected [1, 8, 8, 1], from 0 to 1"),
        ({"image": np.zeros((1, *SHAPE)), "strength": 0.0}, "strength=0.0: expected 0 < strength <= 1"),
    ],
    ids=str,
)
def test_wrong_requests_are_one_line(predictor, asked, said):
    with pytest.raises(RequestError) as error:
        draw(predictor, **asked)
    assert str(error.value).startswith(said)


def test_a_model_without_classes_cannot_be_asked_for_one(predictor):
    free = dataclasses.replace(TASK, classes=None)
    alone = Predictor(dataclasses.replace(predictor.experiment, task=free, model=MODEL.clone(classes=None)), {})
    for asked, said in (
        ({"label": 1}, "label=1: the model has no classes"),
        ({"guidance": 1.0}, "guidance=1: the mod"),
    ):
        with pytest.raises(RequestError, match=f"^{said}"):
            draw(alone, **asked)
    with pytest.raises(RequestError, match="^draw: this run was trained by Classification; expected a run trained by"):
        draw(Predictor(toys.experiment(), {}))


# -- quality -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def judge():
    """A perceptron that is trained for some steps on the digits."""
    from research.data.feeds import make_feeds
    from research.training.abstract import hparam_arrays
    from research.training.programs import make_programs

    experiment = toys.experiment(
        model=models.MLP(widths=(32,), classes=10),
        task=tasks.Classification(classes=10),
        data=data.Sklearn(name="digits"),
        preprocess=(data.Scale("image", 1 / 16),),
        optimizer=optimizers.Adam(learning_rate=1e-2),
        batch_size=128,
    )
    splits = experiment.load()
    experiment = experiment.fit(splits)
    feeds = make_feeds(splits, experiment.data)
    programs = make_programs(experiment, feeds.train.resident)
    batches = feeds.train.batches(0, experiment.batch_size)
    state = programs.init([0], [hparam_arrays(experiment)], batches.sent(0))
    for step in range(100):
        state, _ = programs.train(state, [batches.sent(step)])
    return Predictor(experiment, state.variables(averaged=False)), splits


def test_features_are_what_the_head_reads(judge):
    predictor, splits = judge
    raw = splits.test.arrays()["image"][:7]
    found, logits = features(predictor, raw, batch_size=3)
    assert found.shape == (7, 32)
    head = predictor.variables["params"]["Dense_1"]
    np.testing.assert_allclose(found @ head["kernel"] + head["bias"], logits, atol=1e-4)
    np.testing.assert_array_equal(logits.argmax(-1), predictor.predict(raw)["label"])
    with pytest.raises(RequestError, match="layer='Dense_2': no such layer of MLP; did you mean"):
        features(predictor, raw, layer="Dense_2")


def test_quality_tells_digits_from_noise_and_from_copies(judge, monkeypatch):
    predictor, splits = judge
    monkeypatch.setattr(quality_module, "load", lambda path: predictor)
    task = SampleQuality(classifier="runs/digits", white=16.0, references=600, sampler=DDIM(steps=5)).beside(TASK)
    train, test = splits.train.arrays(), splits.test.arrays()

    def scores(images, labels):
        return task.finalize({"image": images, "label": labels})

    held_out = scores(test["image"] / np.float32(16), test["label"])
    copies = scores(train["image"][:300] / np.float32(16), train["label"][:300])
    noise = np.random.default_rng(0).uniform(size=(300, *SHAPE)).astype(np.float32)
    noise = scores(noise, np.arange(300) % 10)
    assert held_out["class_accuracy"] > 0.85 > 0.3 > noise["class_accuracy"]
    assert held_out["frechet_distance"] < 0.2 * noise["frechet_distance"]
    assert held_out["precision"] > 0.7 > noise["precision"] + 0.2
    assert held_out["copying"] == pytest.approx(1, abs=0.05) and copies["copying"] < 0.7 < noise["copying"]
    shown = task.exhibits({"image": train["image"][:40] / np.float32(16), "label": train["label"][:40]})
    pairs = shown["neighbours"]
    assert len(pairs.left) == 20 and "samples" in shown
    assert "600 training images" in task.scoring()["frechet_distance"]


def test_quality_needs_a_classifier(predictor, monkeypatch):
    monkeypatch.setattr(quality_module, "load", lambda path: predictor)
    task = SampleQuality(classifier="runs/x", sampler=DDIM(steps=5)).beside(TASK)
    with pytest.raises(RequestError, match="classifier='runs/x': trained by Denoising; expected a run trained by Cl"):
        task.finalize({"image": np.zeros((10, *SHAPE), np.float32)})
    with pytest.raises(RequestError, match="references=1"):
        SampleQuality(classifier="runs/x", references=1).check()
