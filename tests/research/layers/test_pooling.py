"""Max pooling by strided views equals Flax's, and so does its gradient without ties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from research.layers.pooling import max_pool


@pytest.mark.parametrize(("shape", "size"), [((2, 6, 4, 3), 2), ((1, 7, 5, 2), 2), ((1, 7, 9, 1), 3)])
def test_max_pool_is_flaxs(shape, size):
    x = jax.random.normal(jax.random.key(0), shape)

    def ours(x):
        return jnp.sum(jnp.sin(max_pool(x, size)))

    def theirs(x):
        return jnp.sum(jnp.sin(nn.max_pool(x, (size, size), (size, size))))

    np.testing.assert_array_equal(max_pool(x, size), nn.max_pool(x, (size, size), (size, size)))
    np.testing.assert_allclose(jax.grad(ours)(x), jax.grad(theirs)(x), rtol=1e-6)
