"""Each operation declares its needs for the surrounding program, which then meets them."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from research.layers import kernels
from research.layers.conv import conv
from research.layers.kernels import Need
from research.models.mlp import MLP


class Own(nn.Module):
    """A user's model, with XLA's convolution inside a called function."""

    @nn.compact
    def __call__(self, x):
        return nn.remat(nn.Conv)(4, (3,))(x)


def needs_of(model, x, platform):
    """Returns the needs of a training step of a model on a platform."""
    params = jax.eval_shape(model.init, jax.random.key(0), x)
    with kernels.targeting(platform), kernels.recording() as record:
        program = jax.make_jaxpr(jax.grad(lambda params: model.apply(params, x).sum()))(params)
    return kernels.needs(platform, record, program.jaxpr)


MAP, SEQUENCE = jnp.ones((2, 8, 8, 3)), jnp.ones((2, 8, 3))


@pytest.mark.parametrize(
    ("model", "x", "expected"),
    [
        (Own(), SEQUENCE, {Need.SEPARATE_STEPS}),
        (conv(4, 3, dtype="float32"), MAP, {Need.SEPARATE_STEPS}),
        (conv(4, 3, dtype="float32", kernel="patches"), MAP, set()),
        (MLP(widths=(4,), classes=2), SEQUENCE, set()),
    ],
    ids=["a user's", "ours by XLA", "ours by products", "none"],
)
def test_convolutions_by_xla_need_separate_steps_on_a_cpu(model, x, expected):
    assert needs_of(model, x, "cpu") == expected
    assert needs_of(model, x, "cuda") == set()
    assert kernels.can_need("cpu", Need.SEPARATE_STEPS) and not kernels.can_need("cuda", Need.SEPARATE_STEPS)


def test_a_recurrence_keeps_xlas_products():
    with kernels.recording() as record:
        kernels.note("recurrence", "scan")
    assert kernels.needs("cpu", record) == {Need.XLA_PRODUCTS}
    assert kernels.compiler_options("cpu", record) == {} != kernels.compiler_options("cpu", {})
    assert kernels.compiler_options("cuda", {}) == {}
