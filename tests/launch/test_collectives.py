"""Collectives are counted in the text of compiled programs, as often as they run."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from launch.collectives import BETWEEN, Collective, collectives

LOOP = """
%body (p: (s32[], f32[64])) -> (s32[], f32[64]) {
  %gather = f32[64]{0} all-gather(%x), channel_id=1, replica_groups=GROUPS, dimensions={0}
  %start = (bf16[8]{0}, bf16[8]{0}, u32[]) collective-permute-start(%y), channel_id=2, source_target_pairs={{0,1}}
}

%cond (p: (s32[], f32[64])) -> pred[] {
  %limit = s32[]{:T(128)} constant(5)
  ROOT %less = pred[] compare(%i, %limit), direction=LT
}

ENTRY %main (a: f32[64]) -> f32[64] {
  %start = (f32[], bf16[4,4]{1,0}) all-reduce-start(%a), channel_id=3, replica_groups={{0,1,2,3,4,5,6,7}}, to_apply=%add
  %loop = (s32[], /*index=1*/f32[64]{0}) while(%t), condition=%cond, body=%body
}
"""


def found(groups: str, domains=(0,) * 8) -> dict[str, Collective]:
    return {one.kind: one for one in collectives(LOOP.replace("GROUPS", groups), domains)}


@pytest.mark.parametrize(
    "groups",
    ["{{0,1},{2,3},{4,5},{6,7}}", "[4,2]<=[8]", "[4,2]<=[2,4]T(1,0)", "mesh['axis_0'=4,'axis_1'=2] {'axis_1'}"],
)
def test_a_collective_counts_as_often_as_its_loop_runs(groups):
    assert found(groups)["all-gather"] == Collective("all-gather", 5, 64 * 4 / 2, 0)
    assert found(groups)["collective-permute"] == Collective("collective-permute", 5, 16, 0)
    assert found(groups)["all-reduce"] == Collective("all-reduce", 1, 2 * (4 + 32) * 7 / 8, 0)


def test_what_leaves_a_host_is_what_its_devices_have_combined():
    hosts = (0, 0, 0, 0, 1, 1, 1, 1)
    assert found("[1,8]<=[8]", hosts)["all-gather"].outside == pytest.approx(64 * 4 / 4 / 2)
    assert found("[4,2]<=[8]", hosts)["all-gather"].outside == 0
    assert found("[4,2]<=[2,4]T(1,0)", hosts)["all-gather"].outside == pytest.approx(64 * 4 / 2)


def test_a_collective_that_is_done_beside_a_loop_counts_once():
    text = LOOP.replace("channel_id=3", "channel_id=1").replace("all-reduce-start", "all-gather-start")
    assert {one.kind: one.times for one in collectives(text, (0,) * 8)} == {"all-gather": 1, "collective-permute": 5}


def test_slices_send_to_one_another():
    line = (
        '  %send = (f32[16]{0}, u32[], token[]) send(%x, %y), frontend_attributes={_xla_megascale_transfer_type="SUM"}'
    )
    text = f"ENTRY %main (a: f32[16]) -> f32[16] {{\n{line.replace('SUM', 'ALL_REDUCE')}\n}}\n"
    assert collectives(text, (0, 0, 1, 1)) == [Collective(BETWEEN, 1, 64, 64)]


def test_gradients_over_eight_devices_are_reduced_once_for_each_layer():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    whole, split = (NamedSharding(mesh, spec) for spec in (PartitionSpec(), PartitionSpec("data")))

    def loss(weights, x):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, weights)[0].sum()

    shapes = (
        jax.ShapeDtypeStruct((5, 16, 16), jnp.float32, sharding=whole),
        jax.ShapeDtypeStruct((64, 16), jnp.float32, sharding=split),
    )
    program = jax.jit(jax.grad(loss), out_shardings=whole).lower(*shapes).compile()
    sent = sum(one.times * one.sent for one in collectives(program.as_text(), (0,) * 8) if one.kind == "all-reduce")
    assert sent == pytest.approx(2 * 7 / 8 * 5 * 16 * 16 * 4, rel=0.01)
