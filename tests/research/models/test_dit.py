import denoisers
import jax
import jax.numpy as jnp
import numpy as np
import published_keys
import pytest

from research.errors import RequestError
from research.models.dit import DiT, dit
from research.pretrained import export_pretrained, load_pretrained, mapping
from research.pretrained.dit import FAMILY, from_config

TINY = {"image_size": 8, "patch_size": 2, "channels": 1, "width": 16, "depth": 2, "num_heads": 2, "classes": 5}
INPUTS = {"x": jnp.ones((3, 8, 8, 1)), "time": jnp.array([0.0, 10.0, 999.0]), "label": jnp.array([0, 4, 5])}
PUBLISHED = {"s": 33e6, "b": 131e6, "l": 459e6, "xl": 675e6}  # table 1 of the paper, for 1000 classes
LATENTS = {"image_size": 32, "channels": 8, "classes": 1000}


@pytest.fixture(scope="module")
def ref():
    return denoisers.load("dit", FAMILY)


def count(model):
    return sum(x.size for x in jax.tree.leaves(FAMILY.shapes(model, 4)))


def test_parity(ref):
    # Every block of the fixture has the embeddings of the first, and its own gradient.
    denoisers.check(ref, lambda output: jnp.square(output).mean())


def test_one_embedding_is_read_from_equal_ones_and_written_for_each_block(ref):
    shared = denoisers.load("dit", FAMILY, ref.model.clone(block_embeddings=False))
    np.testing.assert_allclose(
        jax.jit(shared.model.apply)(shared.variables, **ref.inputs).transpose(0, 3, 1, 2),
        ref.arrays["output/sample"],
        atol=1e-4,
    )
    back = mapping.to_theirs(shared.key_map, shared.variables)
    assert back.keys() == ref.published.keys()
    assert all(np.array_equal(back[name], x) for name, x in ref.published.items())
    changed = dict(ref.published)
    name = "transformer_blocks.1.norm1.emb.timestep_embedder.linear_1.bias"
    changed[name] = changed[name] + 1
    with pytest.raises(RequestError, match="1 tied but not equal: transformer_blocks.1.norm1.emb"):
        mapping.to_ours(shared.key_map, changed, FAMILY.shapes(shared.model, 4))


def test_a_folder_of_diffusers_both_ways(ref, tmp_path):
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    export_pretrained(ref.model, ref.variables, file)
    read = load_pretrained("auto", tmp_path)
    assert read.model == ref.model and read.publisher == "diffusers"
    same = jax.tree.map(np.array_equal, read.variables, ref.variables)
    assert all(jax.tree.leaves(same))


@pytest.mark.parametrize("size", PUBLISHED)
def test_parameters_as_published(size):
    assert count(dit(size, 2, **LATENTS)) == pytest.approx(PUBLISHED[size], rel=0.01)


def test_the_largest_has_the_parameters_of_the_authors():
    assert count(dit("xl", 2, **LATENTS)) == 674_834_720  # and 294,912 fixed positions
    patches = [count(dit("s", patch, **LATENTS)) - count(dit("s", 2, **LATENTS)) for patch in (4, 8)]
    assert patches == [12 * 4 * 384 + 12 * 8 * 385, 60 * 4 * 384 + 60 * 8 * 385]


def test_every_published_tensor_has_its_place():
    published_keys.check("dit_xl_2_256", FAMILY, from_config({"out_channels": 8}), 4)


def test_a_fresh_model_predicts_zero_and_its_blocks_change_nothing():
    model = DiT(**TINY)
    variables = model.init(jax.random.key(0), **INPUTS)
    output, seen = model.apply(variables, **INPUTS, mutable=["intermediates"])
    np.testing.assert_array_equal(output, 0)
    first, last = (seen["intermediates"][f"block{i}"]["out"][0] for i in (0, 1))
    np.testing.assert_array_equal(first, last)
    assert abs(first).max() > 0


def test_scanned_blocks_compute_the_same():
    for each in (False, True):
        model = DiT(**TINY, block_embeddings=each)
        params = denoisers.random_params(model, INPUTS)["params"]
        stacked = {name: x for name, x in params.items() if not name.startswith("block")}
        stacked["blocks"] = jax.tree.map(lambda *x: jnp.stack(x), params["block0"], params["block1"])
        expected = model.apply({"params": params}, **INPUTS)
        scanned = model.clone(scan_layers=True, remat=True).apply({"params": stacked}, **INPUTS)
        np.testing.assert_allclose(scanned, expected, atol=1e-4)
        assert abs(expected).max() > 0.1


def test_time_and_class_matter_and_no_label_is_the_null_class():
    model = DiT(**TINY)
    variables = denoisers.random_params(model, INPUTS)
    apply = jax.jit(model.apply)
    output = apply(variables, **INPUTS)
    assert abs(output[0] - output[1]).max() > 1e-3
    free = apply(variables, INPUTS["x"], INPUTS["time"])
    np.testing.assert_array_equal(free[2], output[2])
    assert abs(free[0] - output[0]).max() > 1e-3


def test_other_sizes_of_images():
    model = DiT(**TINY | {"classes": None})
    wide = {"x": jnp.ones((1, 4, 12, 1)), "time": jnp.zeros(1)}
    output, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), **wide)
    assert output.shape == (1, 4, 12, 1)


def test_bfloat16_computes_with_float32_parameters():
    output, variables = jax.eval_shape(DiT(**TINY, dtype="bfloat16").init_with_output, jax.random.key(0), **INPUTS)
    assert {x.dtype.name for x in (output, *jax.tree.leaves(variables))} == {"float32"}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"image_size": 9}, "image_size=9: expected a multiple of patch_size=2"),
        ({"num_heads": 3}, "num_heads=3"),
        ({"width": 18}, "width=18: expected a multiple of 4"),
        ({"waves": 7}, "waves=7"),
        ({"classes": 0}, "classes=0"),
    ],
)
def test_bad_fields_are_named(fields, said):
    with pytest.raises(RequestError) as error:
        DiT(**TINY | fields).check()
    assert said in str(error.value)


def test_bad_inputs_are_named():
    def init(fields, **inputs):
        jax.eval_shape(DiT(**TINY | fields).init, jax.random.key(0), **INPUTS | inputs)

    with pytest.raises(RequestError, match="^images of 9×8: DiT with patch_size=2 needs sides that are multiples of 2"):
        init({}, x=jnp.ones((3, 9, 8, 1)))
    with pytest.raises(RequestError, match="^label: DiT with classes=none takes no labels"):
        init({"classes": None})
    with pytest.raises(RequestError, match="size='huge'"):
        dit("huge")
