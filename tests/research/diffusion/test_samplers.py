import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import parity
import pytest

from research.diffusion import DDIM, DDPM, Diffusion, DPMSolver, Euler, Heun, Level, RectifiedFlow, guided, path, sample
from research.diffusion.process import parts
from research.diffusion.samplers import Step
from research.errors import RequestError
from research.pretrained import mapping, unet

KINDS = {"epsilon": "noise", "sample": "image", "v_prediction": "v"}
SAMPLERS = (DDPM(steps=12), DDIM(steps=12), DDIM(steps=12, eta=0.7), DPMSolver(steps=12))


@pytest.fixture(scope="module")
def fixture():
    return parity.load("diffusion_schedulers")[0]


def stepped(fixture, sampler, kind, now, then, time):
    """One step from the inputs of the fixture."""
    output, x, noise = (jnp.asarray(fixture[f"input/{name}"]) for name in ("model_output", "x_t", "variance_noise"))
    given = Step(
        predict=lambda x, time: parts(KINDS[kind], output, x, now),
        x=x,
        now=now,
        then=then,
        time=time,
        next_time=None,
        noise=lambda: noise,
        memory=(),
    )
    return sampler.step(given)[0], sampler.predicted(given)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_ddpm_steps_are_those_of_the_reference(fixture, kind):
    process = Diffusion()
    for variance, clip, time in itertools.product(("small", "large"), (0, 1), (0, 1, 400, 999)):
        sampler = DDPM(variance=variance, clip=1.0 if clip else None)
        levels = process.level(jnp.array(time)), process.level(jnp.array(time - 1))
        found = stepped(fixture, sampler, kind, *levels, time)
        name = f"ddpm/{kind}/fixed_{variance}/clip{clip}/t{time}"
        for ours, theirs in zip(found, ("prev", "pred_x0"), strict=True):
            theirs = fixture[f"{name}/{theirs}"]
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_steps_are_those_of_the_reference(fixture, eta):
    process = Diffusion()
    for one, time in itertools.product((0, 1), (0, 400, 900)):
        before = time - 100 if one else max(time - 100, 0)
        levels = process.level(jnp.array(time)), process.level(jnp.array(before))
        ours, _ = stepped(fixture, DDIM(eta=eta, clip=None), "epsilon", *levels, time)
        name = f"ddim/alpha_one{one}/t{time}/eta{eta}"
        np.testing.assert_allclose(ours, fixture[f"{name}/prev"], atol=1e-4, err_msg=name)


def test_ddim_with_the_published_network_draws_the_image_of_the_reference():
    arrays, metadata = parity.load("unet2d")
    model = unet.from_config(metadata["config"])
    (key_map,) = unet.FAMILY.key_maps(model)
    variables = mapping.to_ours(key_map, parity.under(arrays, "param/"), unet.FAMILY.shapes(model))
    x = jnp.asarray(arrays["input/sample"].transpose(0, 2, 3, 1))
    process, sampler = Diffusion(spacing="leading"), DDIM(steps=5, clip=1.0, keep_noise=True)
    times = process.times(5)
    np.testing.assert_array_equal(times[:-1], arrays["gen/ddim5_timesteps"])

    @jax.jit
    def step(x, time, then):
        whole = jnp.full(len(x), time)
        predicted = process.parts(model.apply(variables, x, whole), x, whole)
        given = Step(lambda *_: predicted, x, process.level(time), process.level(then), time, then, None, ())
        return sampler.step(given)[0]

    for time, then in itertools.pairwise(times):
        x = step(x, time, then)
    np.testing.assert_allclose(x.transpose(0, 3, 1, 2), arrays["gen/ddim5_sample"], atol=1e-4)


# -- whole samplers, for images whose pixels are normal with this deviation: the exact prediction is known ------------

DEVIATION = 0.3


def exact(process):
    """The best prediction: for normal pixels, the image expected from x is linear in x."""

    def predict(x, time):
        alpha, sigma = process.level(time).like(x)
        variance = jnp.square(alpha * DEVIATION) + jnp.square(sigma)
        image, noise = alpha * DEVIATION**2 / variance * x, sigma / variance * x
        return {"noise": noise, "image": image, "v": alpha * noise - sigma * image, "velocity": noise - image}[
            process.prediction
        ]

    return predict


def drawn(process, sampler, keys, **options):
    return sample(exact(process), process, sampler, keys, (2, 2, 1), **options)


@pytest.fixture(scope="module")
def keys():
    return jax.random.split(jax.random.key(0), 2000)


@pytest.mark.parametrize(
    ("prediction", "sampler"), [*(("v", one) for one in SAMPLERS), ("noise", DDIM()), ("image", DDIM())], ids=repr
)
def test_samples_are_distributed_as_the_images(prediction, sampler, keys):
    process = Diffusion(prediction=prediction)
    sampler = dataclasses.replace(sampler, steps=500, clip=None)
    images = jax.jit(lambda keys: drawn(process, sampler, keys))(keys)
    assert float(images.std()) == pytest.approx(DEVIATION, rel=0.05)
    assert abs(float(images.mean())) < 0.02


def errors(process, sampler, keys):
    """The largest error of the deterministic way from each noise: all pixels are scaled by one number."""
    sampler = dataclasses.replace(sampler, clip=None)
    found = drawn(process, sampler, keys)
    reference = drawn(process, dataclasses.replace(sampler, steps=960), keys)
    return float(jnp.abs(found - reference).max())


def test_second_order_samplers_need_fewer_steps(keys):
    flow, cosine = RectifiedFlow(), Diffusion(schedule="cosine")
    keys = keys[:4]
    assert errors(flow, Heun(steps=16), keys) < 0.2 * errors(flow, Euler(steps=32), keys)
    assert errors(cosine, DPMSolver(steps=16), keys) < 0.5 * errors(cosine, DDIM(steps=16), keys)
    halved = errors(flow, Heun(steps=32), keys) / errors(flow, Heun(steps=16), keys)
    assert 0.15 < halved < 0.4  # a quarter


def test_euler_is_ddim_on_a_straight_line(keys):
    flow = RectifiedFlow()
    np.testing.assert_allclose(
        drawn(flow, Euler(steps=7), keys[:3]), drawn(flow, DDIM(steps=7, clip=None), keys[:3]), atol=1e-5
    )


@pytest.mark.parametrize("sampler", [*SAMPLERS, Euler(steps=12), Heun(steps=12)], ids=repr)
def test_an_image_depends_on_its_key_only(sampler, keys):
    process = RectifiedFlow() if isinstance(sampler, Euler | Heun) else Diffusion()
    together, alone = drawn(process, sampler, keys[:5]), drawn(process, sampler, keys[3:4])
    np.testing.assert_allclose(together[3], alone[0], atol=1e-5)
    assert float(jnp.abs(together[3] - together[2]).max()) > 1e-3


def test_a_path_ends_in_the_sample(keys):
    process, sampler = Diffusion(), DDIM(steps=6)
    images, seen = path(exact(process), process, sampler, keys[:2], (2, 2, 1))
    np.testing.assert_array_equal(images, drawn(process, sampler, keys[:2]))
    assert seen.shape == (2, 6, 2, 2, 1)
    assert seen[:, 0].std() > 2 * images.std()


def test_a_varied_image_stays_near_itself_the_less_noise_it_gets(keys):
    process, sampler = Diffusion(schedule="cosine"), DDIM(steps=20)
    given = DEVIATION * jax.random.normal(jax.random.key(1), (500, 2, 2, 1))
    far, near = (drawn(process, sampler, keys[:500], start=given, skip=skip) for skip in (4, 18))
    assert float(jnp.abs(near - given).mean()) < 0.5 * float(jnp.abs(far - given).mean())
    assert float(far.std()) == pytest.approx(DEVIATION, rel=0.15)


def test_guidance_moves_from_no_class_through_the_class_and_beyond():
    def model(x, time, label):
        return jnp.broadcast_to(label[:, None], (len(x), 2)).astype(jnp.float32)  # of two channels, one is dropped

    label = jnp.array([1, 2, 3])
    predict = guided(model, label, scale=jnp.array([0.0, 1.0, 3.0]), null=10)
    np.testing.assert_allclose(predict(jnp.zeros((3, 1)), jnp.zeros(3))[:, 0], [10, 2, 10 + 3 * (3 - 10)])
    plain = guided(model, label)(jnp.zeros((3, 1)), jnp.zeros(3))
    np.testing.assert_allclose(plain[:, 0], label)
    assert plain.shape == (3, 1)


@pytest.mark.parametrize(
    ("process", "sampler", "said"),
    [
        (Diffusion(train_steps=100), DDIM(steps=101), "steps=101: expected 1 to the 100 training steps"),
        (Diffusion(), Heun(), "Heun needs process=RectifiedFlow"),
        (Diffusion(), DDIM(eta=1.5), "eta=1.5"),
        (Diffusion(), DDPM(variance="medium"), "variance='medium'"),
        (RectifiedFlow(), Euler(steps=0), "steps=0: expected at least 1"),
    ],
)
def test_what_does_not_fit_is_refused(process, sampler, said, keys):
    with pytest.raises(RequestError) as error:
        drawn(process, sampler, keys[:1])
    assert said in str(error.value)


def test_predicted_images_are_clipped(keys):
    process = Diffusion(prediction="image")
    for sampler, far in ((DDIM(steps=5), 1.0), (DDIM(steps=5, clip=None), 3.0), (DPMSolver(steps=5, clip=0.5), 0.5)):
        images = sample(lambda x, time: jnp.full_like(x, 3.0), process, sampler, keys[:2], (2,))
        np.testing.assert_allclose(images, far, atol=1e-5)


def test_the_noise_fits_the_clipped_image():
    x, now = jnp.array([0.5, -2.0]), Level(jnp.float32(0.6), jnp.float32(0.8))
    image = jnp.array([3.0, 0.5])
    given = Step(lambda *_: (image, (x - 0.6 * image) / 0.8), x, now, now, 0, 0, None, ())
    for sampler in (DDIM(), DPMSolver(), Euler(clip=1.0)):
        clipped, noise = sampler.predicted(given)
        np.testing.assert_allclose(clipped, [1, 0.5])
        np.testing.assert_allclose(0.6 * clipped + 0.8 * noise, x, atol=1e-6)
    kept = DDIM(keep_noise=True).predicted(given)[1]
    np.testing.assert_allclose(kept, (x - 0.6 * image) / 0.8)


def test_levels_of_the_image_itself():
    assert [float(x) for x in Diffusion().level(jnp.array(-1))] == [1.0, 0.0]
    assert isinstance(RectifiedFlow().level(jnp.array(0.0)), Level)
