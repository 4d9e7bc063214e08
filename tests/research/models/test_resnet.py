import image_parity
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from image_parity import apply, random_variables

from research.errors import RequestError
from research.layers.surroundings import surroundings
from research.models.resnet import SIZES, ResNet, cifar_resnet, resnet
from research.pretrained.resnet import FAMILY, from_timm

TINY = {"depths": (1, 1), "widths": (8, 12), "strides": (1, 2), "stem_width": 8, "classes": 5}
FIXTURES = (
    "resnet_basic",
    "resnet_basic_odd",
    "resnet_bottleneck",
    "resnet_bottleneck_odd",
    pytest.param("timm_resnet_basic", marks=pytest.mark.slow),
    "timm_resnet_bottleneck",
)


@pytest.fixture(scope="module", params=FIXTURES)
def ref(request):
    return image_parity.load(request.param, FAMILY, from_timm)


def test_parity_in_evaluation(ref):
    inside = image_parity.check_evaluation(ref).intermediates
    maps = [inside[name][0] for name in ("stem", *(f"stage{i}" for i in range(len(ref.model.depths))))]
    image_parity.check_inside(ref, maps, last=maps[-1])


def test_parity_in_training(ref):
    errors = image_parity.training_errors(ref)
    assert len(errors) > 1
    assert max(errors.values()) < 1e-4, max(errors, key=errors.get)


def test_five_steps_of_training_give_the_references_losses():
    ref = image_parity.load("resnet_basic", FAMILY, from_timm)
    optimizer = optax.sgd(0.02, momentum=0.9)

    @jax.jit
    def step(params, rest, opt_state):
        def loss(params):
            logits, new = ref.model.apply({"params": params, **rest}, ref.images, train=True, mutable=["batch_stats"])
            return optax.softmax_cross_entropy_with_integer_labels(logits, ref.labels).mean(), new

        (value, rest), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = optimizer.update(gradients, opt_state)
        return optax.apply_updates(params, updates), rest, opt_state, value

    state = ref.variables["params"], ref.rest, optimizer.init(ref.variables["params"])
    losses = []
    for _ in range(5):
        *state, value = step(*state)
        losses.append(float(value))
    np.testing.assert_allclose(losses, ref.arrays["train/losses"], atol=1e-4)


@pytest.mark.parametrize("layers", SIZES)
def test_parameters_as_published(layers):
    assert image_parity.count(resnet(layers), FAMILY) == SIZES[layers][-1]


@pytest.mark.parametrize(
    ("layers", "parameters"), [(20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018), (110, 1_727_962)]
)
def test_parameters_of_the_cifar_networks(layers, parameters):
    assert image_parity.count(cifar_resnet(layers), FAMILY) == parameters


def test_stems_and_strides_make_the_papers_map_sizes():
    def sizes(model):
        maps = jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x, features=True)[0], jnp.ones(shape))
        return [maps[name].shape[1] for name in ("stem", "stage0", "stage1", "stage2", "stage3") if name in maps]

    shape = (1, 224, 224, 3)
    assert sizes(resnet(18)) == [56, 56, 28, 14, 7]
    shape = (1, 32, 32, 3)
    assert sizes(resnet(18, stem="cifar")) == [32, 32, 16, 8, 4]
    assert sizes(cifar_resnet(20)) == [32, 32, 16, 8]


@pytest.mark.parametrize("preactivation", [False, True])
@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_blocks_that_start_as_the_identity_leave_the_map_alone(preactivation, block):
    """With zero_init and no change of shape, the map after a stage is the (activated) map before it."""
    model = ResNet(**TINY | {"widths": (8, 8), "strides": (1, 1)}, block=block, zero_init=True, stem="cifar")
    x = jax.random.normal(jax.random.key(0), (2, 6, 6, 3))
    maps = apply(model, jax.jit(model.init)(jax.random.key(1), x), x, features=True)
    np.testing.assert_array_equal(maps["stem"], maps["stage1"])
    if preactivation:  # the last layer of such a block is a convolution, so set that to zero
        model = model.clone(preactivation=True, zero_init=False)
        variables = random_variables(model, x)
        last = "conv1" if block == "basic" else "conv2"
        for stage in ("stage0_block0", "stage1_block0"):
            variables["params"][stage][last]["kernel"] *= 0
        maps = apply(model, variables, x, features=True)
        np.testing.assert_array_equal(maps["stem"], maps["stage1"])


@pytest.mark.parametrize(("block", "norms"), [("basic", [1, 0]), ("bottleneck", [1, 1, 0])])
def test_zero_init_is_of_the_last_norm_alone(block, norms):
    """With zeros in an earlier norm, a block would start as the identity, too, but learn nothing before that norm."""
    model = ResNet(**TINY, block=block, zero_init=True)
    params = jax.jit(model.init)(jax.random.key(1), jnp.ones((1, 16, 16, 3)))["params"]
    scales = [params["stage1_block0"][f"norm{i}"]["scale"] for i in range(len(norms))]
    assert [float(scale.min()) for scale in scales] == [float(scale.max()) for scale in scales] == norms


def test_shortcuts():
    x = jnp.ones((1, 16, 16, 3))

    def leaves(**fields):
        return set(random_variables(ResNet(**TINY, **fields), x)["params"]["stage1_block0"])

    plain = {"conv0", "conv1", "norm0", "norm1"}
    assert leaves() == plain | {"shortcut_conv", "shortcut_norm"}
    assert leaves(shortcut="pad") == leaves(shortcut="none") == plain
    assert leaves(norm="none", shortcut="pad") == {"conv0", "conv1"}


def test_padded_shortcut_carries_every_second_pixel_and_adds_empty_channels():
    model = ResNet(**TINY, shortcut="pad", zero_init=True, stem="cifar")
    x = jax.random.normal(jax.random.key(0), (2, 6, 6, 3))
    maps = apply(model, jax.jit(model.init)(jax.random.key(1), x), x, features=True)
    np.testing.assert_array_equal(maps["stage1"][..., :8], maps["stem"][:, ::2, ::2])
    assert not maps["stage1"][..., 8:].any()


def test_batch_norm_over_a_mapped_axis_sees_the_whole_batch():
    x = jax.random.normal(jax.random.key(0), (8, 16, 16, 3))
    model = ResNet(**TINY)
    variables = random_variables(model, x)
    whole, _ = apply(model, variables, x, train=True, mutable=["batch_stats"])

    def part(x):
        with surroundings(axis_name="batch"):
            return model.apply(variables, x, train=True, mutable=["batch_stats"])

    parts, new = jax.vmap(part, axis_name="batch")(x.reshape(4, 2, 16, 16, 3))
    np.testing.assert_allclose(parts.reshape(8, -1), whole, atol=1e-5)
    assert all(np.allclose(leaf[0], leaf[3]) for leaf in jax.tree.leaves(new))


@pytest.mark.parametrize("fields", [{}, {"norm": "group"}, {"norm": "none"}, {"preactivation": True}])
def test_bfloat16_computes_with_float32_parameters(fields):
    model = ResNet(**TINY, **fields, dtype="bfloat16", stochastic_depth=0.5, dropout=0.1)
    image_parity.check_bfloat16(
        model, jnp.ones((2, 16, 16, 3)), train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(1)}
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"widths": (8, 16)}, "widths=(8, 16): expected 4"),
        ({"strides": (1, 2, 2)}, "strides=(1, 2, 2): expected 4"),
        ({"classes": 0}, "classes=0"),
        ({"depths": (2, 0, 2, 2)}, "depths=(2, 0, 2, 2)"),
        ({"block": "bottleneck", "widths": (2, 8, 8, 8)}, "a quarter"),
        ({"stochastic_depth": 1.0}, "stochastic_depth=1.0"),
    ],
)
def test_bad_fields_are_named(fields, said):
    with pytest.raises(RequestError, match="expected") as error:
        ResNet(**fields).check()
    assert said in str(error.value)


def test_sizes_that_are_not_in_the_paper():
    with pytest.raises(RequestError, match="layers=51.*did you mean '50'"):
        resnet(51)
    with pytest.raises(RequestError, match="6n"):
        cifar_resnet(21)


@pytest.mark.parametrize("make", [resnet, cifar_resnet])
@pytest.mark.parametrize("layers", ["20", 20.0])
def test_layers_are_a_whole_number(make, layers):
    with pytest.raises(RequestError, match="^layers=.*expected a whole number$"):
        make(layers)


@pytest.mark.parametrize("fields", [{"depths": ()}, {"epsilon": -1.0}, {"momentum": 1.5}])
def test_fields_out_of_range(fields):
    with pytest.raises(RequestError, match=f"^{next(iter(fields))}=.*expected"):
        ResNet(**fields).check()
