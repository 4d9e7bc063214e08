"""YOLOS against transformers: tokens, heads, another image size, gradients, losses."""

import detectors
import jax
import jax.numpy as jnp
import numpy as np
import published_keys
import pytest
from image_parity import count, random_variables

from research.models.yolos import SIZES, YOLOS, yolos
from research.pretrained import export_pretrained, load_pretrained, mapping
from research.pretrained.yolos import FAMILY, from_config
from research.tasks import SetDetection

TINY = {"classes": 3, "num_queries": 4, "image_size": 16, "patch_size": 8, "width": 8, "depth": 3, "num_heads": 2}


@pytest.fixture(scope="module")
def ref():
    return detectors.load("yolos", FAMILY)


def test_parity(ref):
    run = jax.jit(lambda v, x: ref.model.apply(v, x, mutable=["intermediates"]))
    found, sown = run(ref.variables, ref.image("pixel_values"))
    np.testing.assert_allclose(sown["intermediates"]["tokens"][0], ref.arrays["output/last_hidden_state"], atol=1e-4)
    other, _ = run(ref.variables, ref.image("pixel_values_other_size"))
    for ours, name in ((found, ""), (other, "_other_size")):
        np.testing.assert_allclose(ours.logits[-1], ref.arrays[f"output/logits{name}"], atol=1e-4)
        np.testing.assert_allclose(ours.boxes[-1], ref.arrays[f"output/pred_boxes{name}"], atol=1e-4)


def test_losses_and_gradients(ref):
    task = SetDetection(classes=5)
    batch = {"image": ref.image("pixel_values"), **detectors.set_batch(ref.arrays, (32, 48))}

    def losses(variables):
        return detectors.losses(task, lambda **kwargs: ref.model.apply(variables, **kwargs), batch)

    found = jax.jit(losses)(ref.variables)
    for ours, name, weight in (("class", "ce", 1), ("l1", "bbox", 5), ("giou", "giou", 2)):
        np.testing.assert_allclose(
            found[f"loss/{ours}"], weight * ref.arrays[f"output/loss_dict.loss_{name}"], rtol=1e-4
        )
    detectors.check_gradients(ref, lambda variables: losses(variables)["loss"])


def test_the_published_weights_come_back_bit_for_bit(ref, tmp_path):
    back = mapping.to_theirs(ref.key_map, ref.variables)
    assert back.keys() == ref.published.keys()
    assert all(np.array_equal(back[name], x) for name, x in ref.published.items())
    export_pretrained(ref.model, ref.variables, tmp_path / "model.safetensors")
    read = load_pretrained("auto", tmp_path)
    assert read.model == ref.model
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, read.variables, ref.variables)))


@pytest.mark.parametrize(("name", "size"), [("yolos_tiny", "ti"), ("yolos_small", "s")])
def test_every_published_tensor_has_its_place(name, size):
    published_keys.check(name, FAMILY, yolos(size))


@pytest.mark.parametrize("size", [size for size in SIZES if SIZES[size][-1]])
def test_parameters_as_published(size):
    assert count(yolos(size), FAMILY) == SIZES[size][-1]


def test_an_image_size_that_no_patch_divides_is_rounded_as_published():
    assert from_config({"image_size": [800, 1333], "num_labels": 91}).image_size == (800, 1328)


def test_positions_of_the_blocks_and_detection_tokens_are_used():
    """Other positions after a block change the boxes, and so do another image size's; a single block has none."""
    model, x = YOLOS(**TINY, positions_again=True), jnp.ones((1, 16, 16, 3))
    variables = random_variables(model, x)
    run = jax.jit(model.apply)
    found = run(variables, x)
    again = variables["params"]["backbone"]["positions_again"]
    assert again.shape == (2, 1, 1 + 4 + 4, 8)
    params = {**variables["params"], "backbone": {**variables["params"]["backbone"], "positions_again": 2 * again}}
    assert abs(run({"params": params}, x).boxes - found.boxes).max() > 1e-4
    assert run(variables, jnp.ones((1, 24, 16, 3))).boxes.shape == found.boxes.shape
    assert abs(found.boxes[0, 0, 0] - found.boxes[0, 0, 1]).max() > 1e-4  # tokens differ
    one = YOLOS(**TINY | {"depth": 1}, positions_again=True)
    assert "positions_again" not in FAMILY.shapes(one)["params"]["backbone"]
