"""FLOPs are counted in traced programs, loops as often as they run."""

import families
import jax
import jax.numpy as jnp
import pytest
import toys

from research.models.gpt import GPT
from research.training.abstract import abstract_state
from research.training.flops import flops_of, model_flops, step_flops


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def test_products_and_convolutions_count_two_for_each_multiplication():
    assert flops_of(lambda x, y: jnp.einsum("bij,bjk->bik", x, y), shape(3, 4, 5), shape(3, 5, 6)) == 2 * 3 * 4 * 5 * 6
    image, kernel = shape(2, 8, 8, 4), shape(3, 3, 2, 6)
    grouped = lambda x, k: jax.lax.conv_general_dilated(  # noqa: E731
        x, k, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=2
    )
    forward = 2 * (2 * 4 * 4 * 6) * (3 * 3 * 2)
    assert flops_of(grouped, image, kernel) == forward
    both = flops_of(jax.grad(lambda x, k: grouped(x, k).sum(), argnums=(0, 1)), image, kernel)
    assert both == 3 * forward


def test_a_scan_counts_its_rounds_and_a_branch_its_longest():
    def scanned(x):
        return jax.lax.scan(
            lambda x, _: (jax.lax.cond(x[0, 0] > 0, lambda x: x @ x, lambda x: x, x), None), x, length=7
        )

    assert flops_of(scanned, shape(4, 4)) == 7 * 2 * 4**3


@pytest.mark.parametrize("remat", [False, True])
def test_scanned_and_written_out_layers_count_alike(remat):
    def experiment(scan_layers):
        model = GPT(13, 12, width=16, depth=3, num_heads=2, scan_layers=scan_layers, remat=remat)
        return families.text(model, None)

    batch = {"tokens": shape(4, 12), "targets": shape(4, 12), "weight": shape(4)}
    batch = {name: jax.ShapeDtypeStruct(x.shape, "uint8" if name != "weight" else x.dtype) for name, x in batch.items()}
    found = []
    for scan_layers in (False, True):
        own = experiment(scan_layers)
        state = abstract_state(own, batch)
        found.append((model_flops(own, state, batch), step_flops(own, state, batch)))
    assert found[0] == found[1]
    blocks = 3 * (2 * 4 * 12 * 12 * 16**2 + 2 * 2 * 4 * 12 * 12 * 16)
    assert found[0][0] == 3 * (blocks + 2 * 4 * 12 * 16 * 13)
    recomputed = found[0][1] - found[0][0]
    assert (0.7 * blocks <= recomputed <= blocks) if remat else recomputed == 0


def test_a_model_of_which_nothing_is_recomputed_needs_what_its_step_does():
    own = toys.experiment()
    batch = {"image": shape(24, 4, 3), "label": jax.ShapeDtypeStruct((24,), "int32"), "weight": shape(24)}
    state = abstract_state(own, batch)
    assert model_flops(own, state, batch) == step_flops(own, state, batch) + 2 * 24 * 12 * 16  # the inputs' gradient
