"""The roadmap starts with ResNet-50 and ends with ConvNeXt-T, and every step has the paper's cost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core as jex

from research.errors import RequestError
from research.layers import kernels
from research.models.convnext import SIZES, ConvNeXt
from research.models.convnext_roadmap import STEPS, ConvNeXtRoadmap, roadmap
from research.models.resnet import ResNet, resnet

IMAGE = jnp.zeros((1, 224, 224, 3))


def shapes(model, x=IMAGE):
    return jax.eval_shape(lambda: model.init(jax.random.key(0), x))


def parameters(model):
    return sum(leaf.size for leaf in jax.tree.leaves(shapes(model)["params"]))


def sizes(params):
    return sorted((leaf.shape for leaf in jax.tree.leaves(params)), key=str)


def test_the_ends_have_the_parameters_of_resnet_50_and_convnext_tiny():
    assert sizes(shapes(roadmap(0))["params"]) == sizes(shapes(resnet(50))["params"])
    assert parameters(roadmap(layer_scale=1e-6)) == SIZES["tiny"][2]
    assert len({roadmap(i) for i in range(len(STEPS) + 1)}) == len(STEPS) + 1


def test_the_last_step_computes_what_convnext_does():
    small = {"depths": (1, 2), "widths": (8, 16), "strides": (1, 2), "classes": 3}
    x = jax.random.normal(jax.random.key(1), (2, 16, 16, 3))
    theirs = ConvNeXt(**small, layer_scale=0.5)
    ours = roadmap(**small, stem_width=8, layer_scale=0.5)
    params = jax.jit(theirs.init)(jax.random.key(0), x)["params"]
    params = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(jax.random.key(p.size), p.shape), params)
    renamed = {}
    for name, part in params.items():
        if "block" in name:
            dense = {f"{kind}_conv": {"kernel": part[kind]["kernel"][None, None], "bias": part[kind]["bias"]}
                     for kind in ("up", "down")}  # fmt: skip
            part = dense | {
                "spatial_conv": part["depthwise_conv"],
                "spatial_norm": part["norm"],
                "layer_scale": part["layer_scale"],
            }
        renamed[name] = part
    np.testing.assert_allclose(
        jax.jit(ours.apply)({"params": renamed}, x), jax.jit(theirs.apply)({"params": params}, x), atol=1e-5
    )


def test_the_first_step_computes_what_resnet_does():
    small = {"depths": (1, 1), "widths": (8, 16), "strides": (1, 2), "classes": 3}
    x = jax.random.normal(jax.random.key(1), (2, 32, 32, 3))
    theirs = ResNet(**small, block="bottleneck", stem_width=4)
    ours = ConvNeXtRoadmap(**small, stem_width=4)
    variables = jax.jit(theirs.init)(jax.random.key(0), x)
    kinds = {"conv0": "up_conv", "conv1": "spatial_conv", "conv2": "down_conv"}
    kinds |= {"norm0": "up_norm", "norm1": "spatial_norm", "norm2": "down_norm"}

    def renamed(tree):
        return {
            name: {kinds.get(key, key): x for key, x in part.items()} if "block" in name else part
            for name, part in tree.items()
        }

    def train(model, variables):
        return jax.jit(lambda v: model.apply(v, x, train=True, mutable=["batch_stats"]))(variables)

    expected, updated = train(theirs, variables)
    found, ours_updated = train(ours, {name: renamed(tree) for name, tree in variables.items()})
    np.testing.assert_allclose(found, expected, atol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
        ours_updated["batch_stats"],
        renamed(updated["batch_stats"]),
    )


def test_the_stem_pools_without_scattering():
    model = ConvNeXtRoadmap(depths=(1,), widths=(8,), strides=(1,), classes=3, stem_width=4)
    variables = shapes(model, jnp.zeros((1, 32, 32, 3)))
    gradient = jax.grad(lambda x, v: model.apply(v, x).sum())
    assert "select_and_scatter" not in str(jax.make_jaxpr(gradient)(jnp.zeros((1, 32, 32, 3)), variables))


GFLOPS = (4.1, 4.5, 4.4, 2.4, 5.3, 4.6, 4.1, 4.2, 4.2, 4.2, 4.2, 4.2, 4.5)
"""Figure 2: multiply-adds of a forward pass after each step, 224×224."""


@pytest.mark.parametrize("step", range(len(STEPS) + 1))
def test_every_step_costs_what_figure_2_says(step):
    model = roadmap(step)
    variables = shapes(model)
    with kernels.targeting("tpu"):  # a convolution of single channels counts as depthwise too
        jaxpr = jax.make_jaxpr(model.apply)(variables, IMAGE)
    assert multiply_adds(jaxpr.jaxpr) / 1e9 == pytest.approx(GFLOPS[step], abs=0.06)


def multiply_adds(jaxpr):
    total = 0
    for equation in jaxpr.eqns:
        for inner in jex.jaxprs_in_params(equation.params):
            total += multiply_adds(inner)
        if equation.primitive.name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape  # [height, width, channels of a group, features]
            total += np.prod(kernel[:3]) * np.prod(equation.outvars[0].aval.shape)
        elif equation.primitive.name == "dot_general":
            total += equation.invars[0].aval.size * equation.outvars[0].aval.shape[-1]
    return int(total)


def test_small_images_and_every_choice_alone():
    x = jnp.zeros((2, 16, 16, 3))
    small = {"depths": (1, 1), "widths": (8, 16), "strides": (1, 2), "classes": 3, "stem_width": 8}
    small |= {"stem": "cifar", "patch_size": 2}
    for choice in ({"block": "inverted"}, {"norms": "one"}, {"norm": "layer"}, {"downsampling": "layer"}):
        logits, _ = jax.eval_shape(
            lambda choice=choice: ConvNeXtRoadmap(**small | choice).init_with_output(jax.random.key(0), x)
        )
        assert logits.shape == (2, 3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"widths": (8,)}, r"widths=\(8,\): expected 4, one per stage"),
        ({"widths": (2, 8, 8, 8)}, "widths=.*expected at least 4"),
        ({"drop_path": 1.0}, "drop_path=1.0"),
        ({"kernel_size": 0}, "kernel_size=0"),
    ],
)
def test_check(fields, message):
    with pytest.raises(RequestError, match=f"^{message}"):
        ConvNeXtRoadmap(**fields).check()


@pytest.mark.parametrize("steps", ["3", -1, len(STEPS) + 1, 2.0])
def test_steps_are_a_whole_number_of_them(steps):
    with pytest.raises(RequestError, match="^steps=.*expected a whole number"):
        roadmap(steps)
