import image_parity
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from image_parity import apply, random_variables

from research.errors import RequestError
from research.models.efficientnet import SIZES, EfficientNet, Stage, efficientnet
from research.pretrained.efficientnet import FAMILY, from_timm

STAGES = (Stage(16, 1, 3, 1, 1), Stage(24, 2, 5, 2, 6))
TINY = {"width": 0.25, "stages": STAGES, "head_channels": 64, "classes": 5}


FIXTURES = (
    "efficientnet",
    "timm_tf_efficientnet",
    pytest.param("timm_efficientnet", marks=pytest.mark.slow),
    pytest.param("efficientnet_odd", marks=pytest.mark.slow),
    pytest.param("timm_tf_efficientnet_odd", marks=pytest.mark.slow),
)


@pytest.fixture(scope="module", params=FIXTURES)
def ref(request):
    return image_parity.load(request.param, FAMILY, from_timm)


def test_parity_in_evaluation(ref):
    ours, theirs = image_parity.check_evaluation(ref), ref.outputs
    if "forward_features" in theirs:
        assert image_parity.largest_error(ours.intermediates["head_map"][0], theirs["forward_features"]) < 1e-4


def test_parity_in_training(ref):
    errors = image_parity.training_errors(ref)
    assert len(errors) > 1
    assert max(errors.values()) < 1e-4, max(errors, key=errors.get)


@pytest.mark.parametrize(
    "size", ["b0", "b1", "b2", *(pytest.param(f"b{i}", marks=pytest.mark.slow) for i in range(3, 8))]
)
def test_parameters_as_published(size):
    assert image_parity.count(efficientnet(size), FAMILY) == SIZES[size][-1]


def test_channels_are_rounded_as_the_authors_do():
    """B1 keeps B0's widths; 1.1 times 16 is 17.6 and rounds to 16, 1.1 times 112 to 120; never down by over a tenth."""
    b2 = efficientnet("b2")
    assert [b2.channels(c) for c in (32, 16, 24, 40, 80, 112, 192, 320, 1280)] == [
        32, 16, 24, 48, 88, 120, 208, 352, 1408,
    ]  # fmt: skip
    assert EfficientNet(width=0.25).channels(45) == 16  # 11.25 would round to 8, less than nine tenths of it


def test_depth_rounds_repeats_up():
    assert len(efficientnet("b0").blocks()) == 16
    assert len(efficientnet("b7").blocks()) == 55


@pytest.mark.parametrize(("size", "same_as"), [(32, "shifted"), (31, "symmetric")])
def test_same_padding_depends_on_the_map(size, same_as):
    """TensorFlow pads a map of even size at its end, one of odd size on both sides."""
    fields = {"stages": (Stage(16, 1, 3, 2, 1),), "head_channels": 64, "classes": 5}
    x = jax.random.normal(jax.random.key(0), (1, size, size, 3))
    variables = random_variables(EfficientNet(**fields), x)

    def stem(padding):
        _, seen = apply(EfficientNet(**fields, padding=padding), variables, x, mutable=["intermediates"])
        return seen["intermediates"]["stem"][0]

    np.testing.assert_array_equal(stem("same"), stem(same_as))
    assert stem("same").shape[1] == 16


def test_stochastic_depth_and_dropout_are_for_training_only():
    model = EfficientNet(**TINY, drop_connect=0.9, dropout=0.5)
    x = jax.random.normal(jax.random.key(0), (2, 16, 16, 3))
    variables = random_variables(model, x)
    np.testing.assert_array_equal(apply(model, variables, x), apply(model, variables, x))

    def train(seed):
        rngs = {"dropout": jax.random.key(seed)}
        return apply(model, variables, x, train=True, mutable=["batch_stats"], rngs=rngs)[0]

    assert not np.array_equal(train(0), train(1))


def test_bfloat16_computes_with_float32_parameters():
    model = EfficientNet(**TINY, dtype="bfloat16")
    image_parity.check_bfloat16(model, jnp.ones((2, 16, 16, 3)))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"width": 0.0}, "width=0.0"),
        ({"depth": -1.0}, "depth=-1.0"),
        ({"classes": 0}, "classes=0"),
        ({"dropout": 1.5}, "dropout=1.5"),
        ({"stages": (Stage(0, 1, 3, 1, 1),)}, "stages.0.channels=0"),
    ],
)
def test_bad_fields_are_named(fields, said):
    with pytest.raises(RequestError, match="expected") as error:
        EfficientNet(**fields).check()
    assert said in str(error.value)


def test_sizes_that_are_not_in_the_paper():
    with pytest.raises(RequestError, match="size='b9'"):
        efficientnet("b9")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"stages": (Stage(8.5, 1, 3, 1, 1),)}, "stages.0.channels=8.5: expected a whole number"),
        ({"symmetric_blocks": (16,)}, "symmetric_blocks=.*expected 0 <= index < 16"),
        ({"width": float("inf")}, "width=inf: expected a finite number"),
        ({"momentum": 1.5}, "momentum=1.5"),
    ],
)
def test_fields_out_of_range(fields, said):
    with pytest.raises(RequestError, match=f"^{said}"):
        EfficientNet(**fields).check()


def test_shifted_padding_needs_larger_images():
    assert efficientnet("b0").least_side() == 1
    assert efficientnet("b0", padding="shifted").least_side() == 32
