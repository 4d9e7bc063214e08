import denoisers
import jax
import jax.numpy as jnp
import numpy as np
import published_keys
import pytest

from research.errors import RequestError
from research.models.unet import UNet, doubled, halved, unet
from research.pretrained import export_pretrained, load_pretrained, mapping
from research.pretrained.catalog import find_variant
from research.pretrained.unet import FAMILY, from_config, to_config

TINY = {"image_size": 8, "channels": 1, "widths": (8, 16), "depth": 1, "attention": (False, True), "groups": 4}
INPUTS = {"x": jnp.ones((3, 8, 8, 1)), "time": jnp.array([0.0, 10.0, 999.0])}
ADM = {"conditioning": "scale_shift", "resample": "block", "head_dim": 4, "middle_norm": False, "classes": 5}


@pytest.fixture(scope="module")
def ref():
    return denoisers.load("unet2d", FAMILY)


def test_parity(ref):
    target = jnp.asarray(ref.arrays["input/target"].transpose(0, 2, 3, 1))
    denoisers.check(ref, lambda output: jnp.square(output - target).mean())


def test_the_published_weights_come_back_bit_for_bit(ref):
    back = mapping.to_theirs(ref.key_map, ref.variables)
    assert back.keys() == ref.published.keys()
    assert all(np.array_equal(back[name], x) for name, x in ref.published.items())


def test_a_folder_of_diffusers_both_ways(ref, tmp_path):
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    export_pretrained(ref.model, ref.variables, file)
    read = load_pretrained("auto", tmp_path)
    assert read.model == ref.model and read.publisher == "diffusers"
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, read.variables, ref.variables)))


def test_older_names_of_attention_are_read(ref):
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def named(name):
        for new, old in older.items():
            name = name.replace(f".{new}.", f".{old}.")
        return name

    renamed = {named(name): x for name, x in ref.published.items()}
    assert renamed.keys() != ref.published.keys()
    read = mapping.to_ours(ref.key_map, renamed, FAMILY.shapes(ref.model))
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, read, ref.variables)))


@pytest.mark.parametrize(("size", "parameters"), [("ddpm32", 35_746_307), ("ddpm256", 113_673_219)])
def test_parameters_as_published(size, parameters):
    assert sum(x.size for x in jax.tree.leaves(FAMILY.shapes(unet(size), 3))) == parameters


def test_adm_has_the_size_in_the_paper():
    count = sum(x.size for x in jax.tree.leaves(FAMILY.shapes(unet("adm64"), 3)))
    assert count == pytest.approx(296e6, abs=0.5e6)  # table 4


@pytest.mark.parametrize("name", ["ddpm_cifar10_32", "ddpm_celebahq_256"])
def test_every_published_tensor_has_its_place(name):
    published_keys.check(name, FAMILY, find_variant(name)[1].build())


@pytest.mark.parametrize("fields", [{}, ADM, {"attention": (True, False), "middle_attention": False}], ids=str)
def test_the_config_of_diffusers_describes_the_model(fields):
    model = UNet(**TINY | fields | {"null_class": "classes" not in fields})
    assert from_config(to_config(model)) == model


def test_what_our_model_lacks_is_refused():
    config = to_config(UNet(**TINY))
    for key, value in {
        "time_embedding_type": "fourier",
        "up_block_types": ["UpBlock2D", "AttnUpBlock2D"],
        "down_block_types": ["SkipDownBlock2D", "AttnDownBlock2D"],
        "mid_block_scale_factor": 1.41,
        "resnet_time_scale_shift": "spatial",
    }.items():
        with pytest.raises(RequestError, match=key):
            from_config(config | {key: value})


@pytest.mark.parametrize("fields", [{}, ADM], ids=["DDPM", "ADM"])
def test_a_model_reads_time_class_and_far_pixels(fields):
    model = UNet(**TINY | fields)
    inputs = INPUTS | ({"label": jnp.array([0, 1, 5])} if "classes" in fields else {})
    variables = denoisers.random_params(model, inputs)
    apply = jax.jit(model.apply)
    output = apply(variables, **inputs)
    assert output.shape == (3, 8, 8, 1)
    assert abs(apply(variables, **inputs | {"time": inputs["time"] + 1}) - output).max() > 1e-4
    corner = inputs["x"].at[:, 0, 0].set(3.0)
    assert abs(apply(variables, **inputs | {"x": corner}) - output)[:, 7, 7].max() > 1e-5
    if "label" in inputs:
        free = apply(variables, inputs["x"], inputs["time"])
        np.testing.assert_allclose(free[2], output[2], atol=1e-6)
        assert abs(free[0] - output[0]).max() > 1e-4
    np.testing.assert_allclose(model.clone(remat=True).apply(variables, **inputs), output, atol=1e-4)


def test_a_fresh_model_predicts_zero():
    output, _ = jax.jit(UNet(**TINY).init_with_output)(jax.random.key(0), **INPUTS)
    np.testing.assert_array_equal(output, 0)


def test_halving_undoes_doubling():
    x = jax.random.normal(jax.random.key(0), (2, 3, 5, 4))
    np.testing.assert_allclose(halved(doubled(x)), x, rtol=1e-6)
    np.testing.assert_array_equal(doubled(x)[:, 0:2, 2:4], jnp.broadcast_to(x[:, :1, 1:2], (2, 2, 2, 4)))


def test_dropout_is_for_training_only():
    model = UNet(**TINY, dropout=0.5)
    variables = denoisers.random_params(model, INPUTS)
    apply = jax.jit(lambda seed: model.apply(variables, **INPUTS, train=True, rngs={"dropout": jax.random.key(seed)}))
    assert not np.array_equal(apply(0), apply(1))
    np.testing.assert_array_equal(model.apply(variables, **INPUTS), model.apply(variables, **INPUTS))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"image_size": 9}, "image_size=9: expected a multiple of 2 for 2 widths"),
        ({"groups": 3}, "groups=3: expected a divisor of all widths=(8, 16)"),
        ({"head_dim": 5}, "head_dim=5: expected a divisor of all widths=(8, 16)"),
        ({"attention": (True,)}, "attention=(True,): expected 2, one per stage of widths"),
        ({"widths": (9, 18), "groups": 9}, "widths=(9, 18): expected an even first one"),
        ({"dropout": 1.0}, "dropout=1.0"),
    ],
)
def test_bad_fields_are_named(fields, said):
    with pytest.raises(RequestError) as error:
        UNet(**TINY | fields).check()
    assert said in str(error.value)


def test_bad_inputs_are_named():
    def init(fields, **inputs):
        jax.eval_shape(UNet(**TINY | fields).init, jax.random.key(0), **INPUTS | inputs)

    with pytest.raises(RequestError, match="^images of 9×8: UNet with 2 widths needs sides that are multiples of 2"):
        init({}, x=jnp.ones((3, 9, 8, 1)))
    with pytest.raises(RequestError, match="^label: UNet with classes=none takes no labels"):
        init({}, label=jnp.zeros(3, int))
    with pytest.raises(RequestError, match="^label: UNet with classes=5 and without a null class needs labels"):
        init({"classes": 5, "null_class": False})
