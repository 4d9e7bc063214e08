import jax
import jax.numpy as jnp
import numpy as np
import parity
import pytest

from research.diffusion import Diffusion, Level, RectifiedFlow
from research.diffusion.process import parts, target
from research.errors import RequestError


@pytest.fixture(scope="module")
def fixture():
    return parity.load("diffusion_schedulers")[0]


@pytest.mark.parametrize(
    ("schedule", "theirs"), [("linear",) * 2, ("scaled_linear",) * 2, ("cosine", "squaredcos_cap_v2")]
)
def test_schedules_are_those_of_the_reference(fixture, schedule, theirs):
    level = Diffusion(schedule=schedule).level(jnp.arange(1000))
    np.testing.assert_allclose(level.alpha**2, fixture[f"alphas_cumprod/{theirs}"], atol=1e-6)
    np.testing.assert_allclose(level.alpha**2 + level.sigma**2, 1, atol=1e-6)


def test_noised_images_and_velocities_are_those_of_the_reference(fixture):
    given = [jnp.asarray(fixture[f"input/{name}"]) for name in ("x0", "noise", "add_noise_t")]
    np.testing.assert_allclose(Diffusion().noised(*given), fixture["output/add_noise"], atol=1e-5)
    np.testing.assert_allclose(Diffusion(prediction="v").target(*given), fixture["output/velocity"], atol=1e-5)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_times_of_samplers_are_those_of_the_reference(fixture, spacing):
    times = Diffusion(spacing=spacing).times(10)
    np.testing.assert_array_equal(times[:-1], fixture[f"ddim/timesteps/{spacing}"])
    assert times[-1] == -1


def test_every_prediction_stands_for_the_same_image_and_noise():
    image, noise = jax.random.normal(jax.random.key(0), (2, 64))
    angle = jnp.linspace(0.1, 1.4, 64)
    of_kind = dict.fromkeys(("noise", "image", "v"), Level(jnp.cos(angle), jnp.sin(angle)))
    share = jnp.linspace(0.05, 0.95, 64)
    of_kind["velocity"] = Level(1 - share, share)
    for kind, level in of_kind.items():
        x = level.alpha * image + level.sigma * noise
        found = parts(kind, target(kind, image, noise, level), x, level)
        np.testing.assert_allclose(found[0], image, atol=2e-6, err_msg=kind)
        np.testing.assert_allclose(found[1], noise, atol=2e-6, err_msg=kind)


@pytest.mark.parametrize("prediction", ["noise", "image", "v"])
def test_min_snr_weighs_the_error_of_the_image_the_same_for_every_prediction(prediction):
    process, time = Diffusion(prediction=prediction, weighting="min_snr", snr_limit=4.0), jnp.array([20, 400, 700])
    x, predicted, other = jax.random.normal(jax.random.key(0), (3, 3))
    error = jnp.square(predicted - other)
    of_image = jnp.square(process.parts(predicted, x, time)[0] - process.parts(other, x, time)[0])
    expected = jnp.minimum(process.level(time).snr, 4.0) * of_image
    np.testing.assert_allclose(process.weight(time) * error, expected, rtol=1e-3)
    np.testing.assert_array_equal(Diffusion(prediction=prediction).weight(time), 1)


def test_min_snr_of_a_flow():
    process, time = RectifiedFlow(weighting="min_snr"), jnp.array([100.0, 500.0])
    np.testing.assert_allclose(process.weight(time), [5 * 0.1**2, 1 * 0.5**2], rtol=1e-5)


def test_a_flow_goes_straight_from_image_to_noise():
    image, noise = jnp.ones((3, 2)), -jnp.ones((3, 2))
    noised = RectifiedFlow().noised(image, noise, jnp.array([0.0, 250.0, 1000.0]))
    np.testing.assert_allclose(noised[:, 0], [1, 0.5, -1])


@pytest.mark.parametrize("draws", ["uniform", "logit_normal"])
def test_times_of_training(draws):
    time = RectifiedFlow(draws=draws).draw_time(jax.random.key(0), (10_000,))
    assert time.min() >= 0 and time.max() <= 1000
    middle = float(((time > 250) & (time < 750)).mean())
    assert middle == pytest.approx({"uniform": 0.5, "logit_normal": 0.728}[draws], abs=0.02)
    steps = Diffusion(train_steps=10).draw_time(jax.random.key(0), (1000,))
    assert set(np.asarray(steps).tolist()) == set(range(10))


@pytest.mark.parametrize(
    ("process", "said"),
    [
        (Diffusion(schedule="sine"), "schedule='sine'"),
        (Diffusion(first=0.5, last=0.1), "first=0.5, last=0.1: expected 0 < first <= last < 1"),
        (Diffusion(prediction="velocity"), "prediction='velocity': expected 'noise', 'image' or 'v'"),
        (RectifiedFlow(prediction="v"), "prediction='v': expected 'velocity' or 'image'"),
        (Diffusion(snr_limit=0.0), "snr_limit=0.0"),
        (Diffusion(train_steps=1), "train_steps=1"),
    ],
)
def test_bad_fields_are_named(process, said):
    with pytest.raises(RequestError) as error:
        process.check()
    assert said in str(error.value)
