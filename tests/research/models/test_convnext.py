import image_parity
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from image_parity import apply, random_variables

from research.errors import RequestError
from research.models.convnext import SIZES, ConvNeXt, convnext
from research.pretrained.convnext import FAMILY, from_timm

TINY = {"depths": (1, 2), "widths": (8, 12), "strides": (1, 2), "classes": 5}


@pytest.fixture(
    scope="module",
    params=("convnext", "convnext_odd", pytest.param("timm_convnext", marks=pytest.mark.slow), "timm_convnext_odd"),
)
def ref(request):
    return image_parity.load(request.param, FAMILY, from_timm)


def test_parity(ref):
    inside = image_parity.check_evaluation(ref).intermediates
    maps = [inside[name][0] for name in ("stem", *(f"stage{i}" for i in range(len(ref.model.depths))))]
    image_parity.check_inside(ref, maps, last=maps[-1])


@pytest.mark.parametrize("size", SIZES)
def test_parameters_as_published(size):
    assert image_parity.count(convnext(size), FAMILY) == SIZES[size][-1]


def test_maps_halve_from_stage_to_stage():
    x = jnp.ones((1, 224, 224, 3))
    maps = jax.eval_shape(lambda: convnext("tiny").init_with_output(jax.random.key(0), x, features=True)[0])
    assert [maps[name].shape for name in ("stem", "stage0", "stage1", "stage2", "stage3")] == [
        (1, 56, 56, 96), (1, 56, 56, 96), (1, 28, 28, 192), (1, 14, 14, 384), (1, 7, 7, 768),
    ]  # fmt: skip


def test_a_small_layer_scale_starts_blocks_near_the_identity():
    x = jax.random.normal(jax.random.key(0), (2, 16, 16, 3))
    model = ConvNeXt(**TINY)
    maps = apply(model, jax.jit(model.init)(jax.random.key(1), x), x, features=True)
    np.testing.assert_allclose(maps["stage0"], maps["stem"], atol=1e-4)
    free = model.clone(layer_scale=None)
    assert "layer_scale" not in random_variables(free, x)["params"]["stage0_block0"]


def test_drop_path_leaves_out_whole_branches():
    """At a rate near 1, nearly every branch is dropped, and the output is that of downsampling alone."""
    x = jax.random.normal(jax.random.key(0), (4, 16, 16, 3))
    model = ConvNeXt(**TINY | {"depths": (1, 1)}, layer_scale=1.0, drop_path=0.999)
    variables = random_variables(model, x)
    rngs = {"dropout": jax.random.key(2)}
    dropped = apply(model, variables, x, train=True, features=True, rngs=rngs)
    kept = apply(model, variables, x, features=True)
    np.testing.assert_array_equal(dropped["stage0"], kept["stage0"])  # the first block is never dropped
    assert not np.allclose(dropped["stage1"], kept["stage1"], atol=1e-2)


def test_bfloat16_computes_with_float32_parameters():
    model = ConvNeXt(**TINY, dtype="bfloat16")
    image_parity.check_bfloat16(model, jnp.ones((2, 16, 16, 3)))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"widths": (8,)}, "widths=(8,): expected 4"),
        ({"strides": (1,)}, "strides=(1,): expected 4"),
        ({"kernel_size": 0}, "kernel_size=0"),
        ({"drop_path": -0.1}, "drop_path=-0.1"),
    ],
)
def test_bad_fields_are_named(fields, said):
    with pytest.raises(RequestError, match="expected") as error:
        ConvNeXt(**fields).check()
    assert said in str(error.value)


def test_sizes_that_are_not_in_the_paper():
    with pytest.raises(RequestError, match="size='huge'"):
        convnext("huge")


def test_images_too_small_for_the_strides():
    with pytest.raises(RequestError, match="^images of 16×16: ConvNeXt with patch_size=4 .* needs at least 32×32"):
        jax.eval_shape(convnext().init, jax.random.key(0), jnp.ones((1, 16, 16, 3)))


def test_a_short_name_tells_of_the_long_one_and_no_stages_of_the_depths():
    with pytest.raises(RequestError, match="^size='t'.*did you mean 'tiny'"):
        convnext("t")
    with pytest.raises(RequestError, match=r"^depths=\(\): expected at least one stage$"):
        ConvNeXt(depths=()).check()
