import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.errors import RequestError
from research.pretrained import mapping
from research.pretrained.rules import (
    KERNEL,
    SAME,
    Alias,
    KeyMap,
    Rule,
    Tied,
    Unused,
    batch_norm,
    drop_ones,
    embedding,
    kernel,
    norm,
    split,
    unflatten,
)


def shape(*sizes, dtype="float32"):
    return jax.ShapeDtypeStruct(sizes, dtype)


def random(*sizes, seed=0):
    return np.random.default_rng(seed).standard_normal(sizes).astype(np.float32)


# A model with two layers, a convolution with batch norm, one tied table; `stacked` keeps the layers as one.
ENTRIES = (
    embedding("wte", "table"),
    kernel("conv", "conv"),
    batch_norm("bn", "bn"),
    Alias("old_norm.{rest*}", "norm.{rest}"),
    norm("norm", "norm"),
    Tied("head.weight", "wte.weight"),
    Unused("h.{i}.mask"),
)


def key_map(block):
    layers = (
        Rule("h.{i}.qkv.weight", tuple(f"params/{block}/{name}/kernel" for name in "qkv"), split(3, KERNEL)),
        Rule("h.{i}.qkv.bias", tuple(f"params/{block}/{name}/bias" for name in "qkv"), split(3)),
    )
    return KeyMap("test", (*ENTRIES, layers))


def expected(stacked):
    layer = {name: {"kernel": shape(4, 5), "bias": shape(5)} for name in "qkv"}
    if stacked:
        layers = {"blocks": jax.tree.map(lambda x: shape(2, *x.shape), layer)}
    else:
        layers = {"block0": layer, "block1": layer}
    params = {
        "table": {"embedding": shape(7, 4)},
        "conv": {"kernel": shape(3, 3, 2, 6)},
        "bn": {"scale": shape(6), "bias": shape(6)},
        "norm": {"scale": shape(4), "bias": shape(4)},
        **layers,
    }
    return {"params": params, "batch_stats": {"bn": {"mean": shape(6), "var": shape(6)}}}


def checkpoint():
    sizes = {
        "wte.weight": (7, 4),
        "conv.weight": (6, 2, 3, 3),
        **{f"bn.{name}": (6,) for name in ("weight", "bias", "running_mean", "running_var")},
        "norm.weight": (4,),
        "norm.bias": (4,),
        **{f"h.{i}.qkv.weight": (15, 4) for i in range(2)},
        **{f"h.{i}.qkv.bias": (15,) for i in range(2)},
    }
    tensors = {name: random(*size, seed=i) for i, (name, size) in enumerate(sizes.items())}
    return tensors | {"bn.num_batches_tracked": np.int64(0)}


@pytest.mark.parametrize(("block", "stacked"), [("block{i}", False), ("blocks", True)])
def test_there_and_back(block, stacked):
    tensors = checkpoint()
    ours = mapping.to_ours(key_map(block), tensors, expected(stacked))
    assert jax.tree.map(lambda x: x.shape, ours) == jax.tree.map(lambda x: x.shape, expected(stacked))
    back = mapping.to_theirs(key_map(block), ours)
    assert set(back) == set(tensors)
    assert all(np.array_equal(back[name], x) and back[name].dtype == x.dtype for name, x in tensors.items())


def test_where_the_numbers_go():
    tensors = checkpoint()
    ours = mapping.to_ours(key_map("blocks"), tensors, expected(True))["params"]
    assert ours["conv"]["kernel"][2, 1, 0, 5] == tensors["conv.weight"][5, 0, 2, 1]
    assert ours["blocks"]["k"]["kernel"][1, 3, 2] == tensors["h.1.qkv.weight"][5 + 2, 3]
    assert ours["blocks"]["v"]["bias"][0, 4] == tensors["h.0.qkv.bias"][14]


def test_half_precision_files_fill_float32_parameters():
    tensors = {name: x.astype(np.float16) for name, x in checkpoint().items()}
    ours = mapping.to_ours(key_map("blocks"), tensors, expected(True))
    assert {x.dtype for x in jax.tree.leaves(ours)} == {np.dtype("float32")}
    np.testing.assert_array_equal(ours["params"]["table"]["embedding"], tensors["wte.weight"].astype(np.float32))


def test_other_spellings_unused_buffers_and_tied_copies_are_read():
    tensors = checkpoint()
    tensors["old_norm.weight"] = tensors.pop("norm.weight")
    tensors["head.weight"] = tensors["wte.weight"]
    tensors["h.0.mask"] = np.ones((9, 9))
    ours = mapping.to_ours(key_map("blocks"), tensors, expected(True))
    np.testing.assert_array_equal(ours["params"]["norm"]["scale"], tensors["old_norm.weight"])


def test_a_file_may_keep_the_copy_of_a_tied_tensor_only():
    tensors = checkpoint()
    tensors["head.weight"] = tensors.pop("wte.weight")
    ours = mapping.to_ours(key_map("blocks"), tensors, expected(True))
    np.testing.assert_array_equal(ours["params"]["table"]["embedding"], tensors["head.weight"])


def test_everything_that_is_wrong_is_named_in_one_line():
    tensors = checkpoint()
    del tensors["h.1.qkv.bias"], tensors["bn.running_mean"]
    tensors["h.1.qkv.biases"] = random(15)
    tensors["conv.weight"] = random(6, 2, 5, 5)
    tensors["norm.bias"] = random(4, 1)
    tensors["old_norm.weight"] = tensors["norm.weight"]
    tensors["head.weight"] = tensors["wte.weight"] + 1
    with pytest.raises(RequestError) as error:
        mapping.to_ours(key_map("blocks"), tensors, expected(True), source="file.safetensors")
    message = str(error.value)
    assert "\n" not in message
    for said in (
        "file.safetensors does not fit",
        "2 missing: bn.running_mean, h.1.qkv.bias",
        "1 unknown: h.1.qkv.biases (is it h.1.qkv.bias?)",
        "2 of another shape: conv.weight [6, 2, 5, 5] (for params/conv/kernel [3, 3, 2, 6]), norm.bias [4, 1]",
        "1 given twice: old_norm.weight",
        "1 tied but not equal: head.weight (tied to wte.weight)",
    ):
        assert said in message


def test_what_is_read_has_to_be_of_floating_point_numbers_and_what_is_not_may_be_anything():
    whole = {"h.0.qkv.weight": np.zeros((15, 4), np.int8), "head.weight": np.zeros((7, 4), np.uint8)}
    tensors = checkpoint() | {"h.0.mask": np.ones(3, bool), "norm.bias": np.zeros(4, np.int64)}
    mapping.to_ours(key_map("blocks"), tensors, expected(True), fresh=("params/norm/{leaf*}",))
    with pytest.raises(RequestError) as error:
        mapping.to_ours(key_map("blocks"), tensors | whole, expected(True))
    said = "norm.bias int64, h.0.qkv.weight int8, head.weight uint8"
    assert str(error.value).endswith(f"does not fit: 3 not of F16, BF16, F32 or F64 (quantised?): {said}")


def test_the_share_of_names_that_a_key_map_speaks_of():
    names = ["wte.weight", "h.7.qkv.bias", "old_norm.weight", "h.1.mask", "head.weight", "gate", "h.x.qkv.bias", "norm"]
    assert mapping.share(key_map("blocks"), names) == 5 / 8
    assert mapping.share(key_map("blocks"), []) == 0


def test_a_fresh_leaf_is_not_read_whatever_its_shape():
    tensors = checkpoint()
    tensors["norm.weight"] = random(99)
    del tensors["norm.bias"]
    ours = mapping.to_ours(key_map("blocks"), tensors, expected(True), fresh=("params/norm/{leaf*}",))
    assert "norm" not in ours["params"]


def test_a_layer_more_in_the_file_than_in_the_model_is_unknown():
    tensors = checkpoint() | {"h.2.qkv.weight": random(15, 4), "h.2.qkv.bias": random(15)}
    for block, stacked in (("block{i}", False), ("blocks", True)):
        with pytest.raises(RequestError, match=r"2 unknown: h.2.qkv.weight, h.2.qkv.bias"):
            mapping.to_ours(key_map(block), tensors, expected(stacked))


def test_a_leaf_without_a_rule_is_refused():
    leaves = {"params/conv/kernel": shape(3, 3, 2, 6), "params/gate": shape(1)}
    with pytest.raises(RequestError, match="test's names do not cover params/gate"):
        mapping.plan(key_map("blocks"), leaves)


def test_rules_that_fill_a_leaf_twice_are_a_mistake_in_the_map():
    twice = KeyMap("test", (Rule("a", "params/x"), Rule("b", "params/{name*}")))
    with pytest.raises(ValueError, match="covered twice"):
        mapping.plan(twice, {"params/x": shape(1)})


def test_a_tied_name_is_written_where_it_has_to_be():
    entries = (embedding("wte", "table"), Tied("head.weight", "wte.weight", written=True))
    variables = {"params": {"table": {"embedding": random(3, 2)}}}
    written = mapping.to_theirs(KeyMap("test", entries), variables)
    np.testing.assert_array_equal(written["head.weight"], written["wte.weight"])


TRANSFORMS = {
    "same": (SAME, 1, 3),
    "dense": (KERNEL, 1, 2),
    "convolution": (KERNEL, 1, 4),
    "one-dimensional convolution": (KERNEL, 1, 3),
    "split": (split(2), 1, 2),
    "split the last axis, then a kernel": (split(2, KERNEL, axis=-1), 1, 3),
    "merge": (split(2).inverse, 2, 2),
    "heads of the input": (KERNEL.then(unflatten(1, (2, -1))), 1, 2),
    "heads of the output": (KERNEL.then(unflatten(0, (2, -1))), 1, 2),
}


@pytest.mark.parametrize("name", TRANSFORMS)
@settings(max_examples=15, deadline=None)
@given(sizes=st.lists(st.integers(1, 4), min_size=4, max_size=4))
def test_transforms_are_undone_bit_for_bit(name, sizes):
    transform, arrays, ndim = TRANSFORMS[name]
    given_arrays = tuple(random(*(2 * size for size in sizes[:ndim]), seed=i) for i in range(arrays))
    back = transform.to_theirs(transform.to_ours(given_arrays))
    assert all(np.array_equal(a, b) for a, b in zip(given_arrays, back, strict=True))


def test_a_pointwise_convolution_is_a_dense_layer():
    x = random(5, 4, 1, 1)
    pointwise = drop_ones((2, 3)).then(KERNEL)
    (ours,) = pointwise.to_ours((x,))
    np.testing.assert_array_equal(ours, x[:, :, 0, 0].T)
    np.testing.assert_array_equal(pointwise.to_theirs((ours,))[0], x)
