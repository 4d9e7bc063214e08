import image_parity
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from image_parity import apply, random_variables

from research.errors import RequestError
from research.models.vit import ViT, resize_positions, resized, vit
from research.pretrained.vit import FAMILY, from_timm

TINY = {"image_size": 16, "patch_size": 4, "width": 16, "depth": 2, "num_heads": 2, "classes": 5}
PUBLISHED = {  # parameters with 1000 classes
    ("ti", 16): 5_717_416,
    ("s", 16): 22_050_664,
    ("b", 16): 86_567_656,
    ("b", 32): 88_224_232,
    ("l", 16): 304_326_632,
    ("l", 32): 306_535_400,
}


@pytest.fixture(scope="module", params=("vit", "vit_odd", "timm_vit", "timm_vit_odd"))
def ref(request):
    return image_parity.load(request.param, FAMILY, from_timm)


@pytest.fixture(scope="module")
def images():
    return jax.random.normal(jax.random.key(0), (2, 16, 16, 3))


def test_parity(ref):
    inside = image_parity.check_evaluation(ref).intermediates
    tokens = [inside["embedded"][0], *(inside[f"block{i}"]["out"][0] for i in range(ref.model.depth))]
    image_parity.check_inside(ref, tokens, last=inside["tokens"][0])


@pytest.mark.parametrize(("size", "patch_size"), PUBLISHED)
def test_parameters_as_published(size, patch_size):
    assert image_parity.count(vit(size, patch_size), FAMILY) == PUBLISHED[size, patch_size]


def test_attention_weights_are_there_when_asked_for(images):
    model = ViT(**TINY)
    variables = random_variables(model, images)
    assert set(variables) == {"params"}
    _, seen = apply(model, variables, images, mutable=["intermediates"])
    (weights,) = seen["intermediates"]["block1"]["attention"]["attention_weights"]
    assert weights.shape == (2, 2, 17, 17)
    np.testing.assert_allclose(weights.sum(-1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("remat", [False, True])
def test_scanned_blocks_compute_the_same(images, remat):
    model = ViT(**TINY)
    variables = random_variables(model, images)
    params = variables["params"]
    stacked = {name: x for name, x in params.items() if not name.startswith("block")}
    stacked["blocks"] = jax.tree.map(lambda *x: jnp.stack(x), params["block0"], params["block1"])
    expected = apply(model, {"params": params}, images)
    scanned = apply(model.clone(scan_layers=True, remat=remat), {"params": stacked}, images)
    np.testing.assert_allclose(scanned, expected, atol=1e-5)
    assert expected.any()


@pytest.mark.parametrize("remat", [False, True])
def test_scanned_blocks_drop_at_their_own_rates(images, remat):
    """The first block is never dropped; the second, at a rate of nearly 1, nearly always."""
    model = ViT(**TINY, drop_path=0.999, scan_layers=True, remat=remat)
    variables = random_variables(model, images)
    rngs = {"dropout": jax.random.key(0)}
    _, seen = apply(model, variables, images, train=True, rngs=rngs, mutable=["intermediates"])
    _, whole = apply(model, variables, images, mutable=["intermediates"])
    (dropped,), (kept,) = (tree["intermediates"]["blocks"]["out"] for tree in (seen, whole))
    np.testing.assert_allclose(dropped[0], kept[0], atol=1e-5)
    np.testing.assert_array_equal(dropped[1], dropped[0])
    assert abs(kept[1] - kept[0]).max() > 0.1


def test_average_pooling_without_a_class_token_ignores_the_order_of_patches_but_for_positions(images):
    fields = TINY | {"class_token": False, "pool": "average", "positions": "sincos"}
    model = ViT(**fields)
    variables = random_variables(model, images)
    assert "positions" not in variables["params"]
    assert "class_token" not in variables["params"]
    shuffled = jnp.concatenate([images[:, 4:], images[:, :4]], axis=1)  # the first row of patches comes last
    assert not np.allclose(apply(model, variables, images), apply(model, variables, shuffled), atol=1e-3)

    blind = fields | {"positions": "learned"}
    variables = random_variables(ViT(**blind), images)
    variables["params"]["positions"] *= 0
    np.testing.assert_allclose(
        apply(ViT(**blind), variables, images), apply(ViT(**blind), variables, shuffled), atol=1e-4
    )


def test_images_of_another_size_see_interpolated_positions(images):
    model = ViT(**TINY)
    variables = random_variables(model, images)
    large = jax.random.normal(jax.random.key(3), (2, 24, 32, 3))
    new, changed = resized(model, variables, (24, 32))
    assert changed["params"]["positions"].shape == (1, 1 + 6 * 8, 16)
    np.testing.assert_allclose(apply(model, variables, large), apply(new, changed, large), atol=1e-5)
    np.testing.assert_array_equal(changed["params"]["positions"][:, 0], variables["params"]["positions"][:, 0])


def test_positions_of_the_same_grid_stay():
    positions = jax.random.normal(jax.random.key(0), (1, 1 + 12, 8))
    np.testing.assert_allclose(resize_positions(positions, (3, 4), (3, 4)), positions, atol=1e-6)


def test_dropout_drop_path_and_attention_dropout_are_for_training_only(images):
    model = ViT(**TINY, dropout=0.2, attention_dropout=0.2, drop_path=0.5)
    variables = random_variables(model, images)
    np.testing.assert_array_equal(apply(model, variables, images), apply(model, variables, images))

    def train(seed):
        return apply(model, variables, images, train=True, rngs={"dropout": jax.random.key(seed)})

    assert not np.array_equal(train(0), train(1))


def test_bfloat16_computes_with_float32_parameters(images):
    model = ViT(**TINY, dtype="bfloat16")
    image_parity.check_bfloat16(model, images)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"image_size": 225}, "image_size=225: expected a multiple of patch_size=16"),
        ({"num_heads": 5}, "num_heads=5"),
        ({"class_token": False}, "pool='token'"),
        ({"positions": "sincos", "width": 6, "num_heads": 1}, "width=6"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"mlp_width": 0}, "mlp_width=0"),
    ],
)
def test_bad_fields_are_named(fields, said):
    with pytest.raises(RequestError, match="expected") as error:
        ViT(**fields).check()
    assert said in str(error.value)


def test_sizes_that_are_not_in_the_paper():
    with pytest.raises(RequestError, match="size='h'"):
        vit("h")


def test_images_that_patches_do_not_cover():
    with pytest.raises(
        RequestError, match="^images of 18×16: ViT with patch_size=4 needs sides that are multiples of 4"
    ):
        jax.eval_shape(ViT(**TINY).init, jax.random.key(0), jnp.ones((1, 18, 16, 3)))


def test_a_long_name_tells_of_the_short_one():
    with pytest.raises(RequestError, match="^size='base'.*did you mean 'b'"):
        vit("base")
