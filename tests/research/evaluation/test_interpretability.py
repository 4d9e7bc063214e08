"""Interpretability functions, on models with known results."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from research.errors import RequestError
from research.evaluation.interpretability import (
    activations,
    attention_maps,
    attention_rollout,
    feature_maps,
    filters,
    saliency,
)
from research.models.mlp import MLP
from research.models.resnet import ResNet
from research.models.simple_cnn import SimpleCNN
from research.models.vit import ViT

IMAGES = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
TINY_VIT = ViT(image_size=8, patch_size=4, width=8, depth=3, num_heads=2, classes=5)


def made(model, images=IMAGES):
    variables = jax.jit(model.init)(jax.random.key(1), images)
    return model, {name: tree for name, tree in variables.items() if name != "intermediates"}, images


@pytest.fixture(scope="module")
def resnet():
    return made(ResNet(depths=(1, 1), widths=(4, 8), strides=(1, 2), stem="cifar", stem_width=4, classes=5))


def test_activations_come_in_the_order_of_computation_and_under_the_names_of_modules(resnet):
    found = activations(*resnet)
    order = [path for path in found if path in ("stem_conv", "stage0_block0/conv0", "stage0_block0", "stage0", "head")]
    assert order == ["stem_conv", "stage0_block0/conv0", "stage0_block0", "stage0", "head"]
    model, variables, images = resnet
    np.testing.assert_allclose(found["head"], model.apply(variables, images), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found["stage1"], model.apply(variables, images, features=True)["stage1"])


def test_feature_maps_are_what_has_height_and_width(resnet):
    maps = feature_maps(*resnet)
    assert maps["stem_conv"].shape == (2, 8, 8, 4) and maps["stage1_block0"].shape == (2, 4, 4, 8)
    assert "head" not in maps and "pooled" not in maps
    assert not any("attention" in path for path in feature_maps(*made(TINY_VIT)))


def test_a_module_called_twice_is_there_twice():
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            dense = nn.Dense(3, name="dense")
            return dense(dense(x))

    model, variables, x = made(Twice(), jnp.ones((2, 3)))
    found = activations(model, variables, x)
    assert list(found) == ["dense", "dense[1]"]
    np.testing.assert_allclose(found["dense[1]"], model.apply(variables, x), rtol=1e-6)


@pytest.mark.parametrize(
    ("model", "first", "shape"),
    [
        (SimpleCNN(classes=5, channels=(6, 2), hidden=()), "conv0", (6, 3, 3, 3)),
        (TINY_VIT, "patches", (8, 4, 4, 3)),
    ],
)
def test_first_filters(model, first, shape):
    model, variables, images = made(model)
    found = filters(model, variables, images)
    assert found.shape == shape
    np.testing.assert_array_equal(found[2], variables["params"][first]["kernel"][..., 2])


def test_filters_of_a_later_convolution_or_of_none(resnet):
    assert filters(*resnet, path="stage1_block0/conv1").shape == (8, 3, 3, 8)
    with pytest.raises(RequestError, match="^path='stage1_block0/conv7': no convolution there; did you mean .*$"):
        filters(*resnet, path="stage1_block0/conv7")
    with pytest.raises(RequestError, match="^MLP has no convolution, and so no filters$"):
        filters(*made(MLP(widths=(4,), classes=3), jnp.ones((2, 5))))


class Linear(nn.Module):
    """Logit k is the sum of the pixels times weight k."""

    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(3, name="head")(x.reshape(len(x), -1))


@pytest.mark.parametrize("samples", [0, 3])
def test_saliency_of_a_linear_model_is_its_weight(samples):
    model, variables, images = made(Linear())
    kernel = variables["params"]["head"]["kernel"]
    labels = jnp.array([2, 0])
    found = saliency(model, variables, images, labels, samples=samples)
    expected = np.abs(kernel[:, labels].T.reshape(2, 8, 8, 3)).max(-1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    predicted = model.apply(variables, images).argmax(-1)
    np.testing.assert_array_equal(saliency(model, variables, images), saliency(model, variables, images, predicted))


def test_noise_averages_a_gradient_over_a_neighbourhood():
    class Square(nn.Module):
        def __call__(self, x, train=False):
            return (x**3).sum((1, 2, 3))[:, None] * jnp.ones(2)

    images = jnp.concatenate([jnp.zeros((1, 1, 1, 1)), jnp.ones((1, 1, 1, 1))], axis=1)  # range 1
    found = saliency(Square(), {}, images, jnp.array([0]), samples=2000, noise=0.5)
    np.testing.assert_allclose(found[0, :, 0], [3 * 0.25, 3 * 1.25], rtol=0.15)  # 3 E (x + ε)² = 3 (x² + 0.25)


@pytest.mark.parametrize("scan_layers", [False, True])
def test_attention_maps_of_all_layers(scan_layers):
    maps = attention_maps(*made(TINY_VIT.clone(scan_layers=scan_layers)))
    assert maps.shape == (3, 2, 2, 5, 5)
    np.testing.assert_allclose(maps.sum(-1), 1.0, rtol=1e-5)
    assert len({float(layer[0, 0, 0, 0]) for layer in maps}) == 3


def test_attention_maps_of_some_layers_and_of_none():
    inside = made(TINY_VIT)
    np.testing.assert_array_equal(attention_maps(*inside, pattern="block1/*")[0], attention_maps(*inside)[1])
    with pytest.raises(RequestError, match=r"^pattern='decoder/\*': no layer of ViT attends there$"):
        attention_maps(*inside, pattern="decoder/*")


def test_rollout_multiplies_up_the_layers():
    maps = jax.nn.softmax(jax.random.normal(jax.random.key(0), (2, 1, 2, 3, 3)))
    found = attention_rollout(maps)
    first, second = ((layer[0].mean(0) + np.eye(3)) / 2 for layer in np.asarray(maps))
    np.testing.assert_allclose(found[0], second @ first, rtol=1e-5)
    np.testing.assert_allclose(found.sum(-1), 1.0, rtol=1e-5)


def test_what_is_sown_late_stands_where_it_was_computed_and_norms_stand_once(resnet):
    found = list(activations(*resnet))
    assert found.index("stem") < found.index("stage0_block0/conv0")
    assert found.index("stage0") < found.index("stage1_block0/conv0")
    assert "stem_norm[1]" not in found


def test_saliency_of_a_class_that_is_not_there(resnet):
    with pytest.raises(RequestError, match=r"^labels=\[0, 99\]: expected 2, one per image, each from 0 to 4$"):
        saliency(*resnet, [0, 99])
