"""DETR against transformers: encoder, decoder, all heads, gradients, losses; both published layouts."""

import detectors
import jax
import jax.numpy as jnp
import numpy as np
import published_keys
import pytest
from image_parity import count, random_variables

from research.errors import RequestError
from research.models.detr import DETR, detr
from research.pretrained import export_pretrained, load_pretrained, mapping
from research.pretrained.detr import FAMILY, from_config, to_config
from research.tasks import SetDetection

TINY = {
    **{"classes": 3, "num_queries": 4, "width": 8, "depth": 1, "num_heads": 2, "mlp_width": 16, "dropout": 0.0},
    **{"depths": (1, 1), "widths": (4, 8), "strides": (1, 2), "stem_width": 4, "block": "basic"},
}


@pytest.fixture(scope="module")
def ref():
    return detectors.load("detr", FAMILY)


@pytest.fixture(scope="module")
def batch(ref):
    """The reference's masks are rectangles; boxes are relative to the whole image in its fixture."""
    return {"image": ref.image("pixel_values"), **detectors.set_batch(ref.arrays, (96, 128))}


def inputs(ref):
    return {"x": ref.image("pixel_values"), "mask": jnp.asarray(ref.arrays["input/pixel_mask"]) > 0}


def test_parity(ref):
    run = jax.jit(lambda variables: ref.model.apply(variables, **inputs(ref), mutable=["intermediates"]))
    found, sown = run(ref.variables)
    theirs = ref.arrays
    inside = sown["intermediates"]
    np.testing.assert_allclose(inside["memory"][0], theirs["output/encoder_last_hidden_state"], atol=1e-4)
    np.testing.assert_allclose(inside["decoded"][0], theirs["output/last_hidden_state"], atol=1e-4)
    for i, name in ((-1, "output/"), (0, "output/aux.0.")):
        np.testing.assert_allclose(found.logits[i], theirs[f"{name}logits"], atol=1e-4)
        np.testing.assert_allclose(found.boxes[i], theirs[f"{name}pred_boxes"], atol=1e-4)


def test_losses_and_gradients(ref, batch):
    task = SetDetection(classes=5)

    def apply(variables):
        return lambda **kwargs: ref.model.apply(variables, **inputs(ref))

    found = jax.jit(lambda variables: detectors.losses(task, apply(variables), batch))(ref.variables)
    theirs = ref.arrays
    weights = {"class": ("ce", 1), "l1": ("bbox", 5), "giou": ("giou", 2)}
    for ours, (name, weight) in weights.items():
        for layer in ("", "_0"):
            expected = weight * theirs[f"output/loss_dict.loss_{name}{layer}"]
            np.testing.assert_allclose(found[f"loss/{ours}{layer}"], expected, rtol=1e-4)
    np.testing.assert_allclose(found["loss"], theirs["output/loss"], rtol=1e-4)
    detectors.check_gradients(ref, lambda variables: detectors.losses(task, apply(variables), batch)["loss"])


def test_the_published_weights_come_back_bit_for_bit(ref, tmp_path):
    back = mapping.to_theirs(ref.key_map, ref.variables)
    assert back.keys() == ref.published.keys()
    assert all(np.array_equal(back[name], x) for name, x in ref.published.items())
    export_pretrained(ref.model, ref.variables, tmp_path / "model.safetensors", class_names=list("abcde"))
    read = load_pretrained("auto", tmp_path)
    assert read.model == ref.model and read.class_names == tuple("abcde")
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, read.variables, ref.variables)))


@pytest.mark.parametrize("layout", ["", "_timm"])
def test_every_published_tensor_has_its_place(layout):
    published_keys.check(f"detr_resnet50{layout}", FAMILY, detr(50), publisher=layout[1:] or "huggingface")


def test_parameters_as_published():
    assert count(detr(50), FAMILY) == 41_524_768
    assert count(detr(50, norm="batch"), FAMILY) == 41_524_768 + 53_120  # scale and bias of 26,560 channels


def test_a_named_variant_takes_the_classes_of_the_file(ref, tmp_path):
    from research.pretrained.detr import adapted

    shapes = {"params/class_head/bias": (6,), "params/queries": (7, 32)}
    model = adapted(detr(50), "detr_resnet50", "huggingface", shapes)
    assert (model.classes, model.num_queries) == (5, 7)


def test_the_config_of_timms_backbone_is_read():
    model = from_config({"use_timm_backbone": True, "backbone": "resnet50", "dilation": True, "num_labels": 91})
    assert model == detr(50, dilated=True, decoder_depth=6, decoder_num_heads=8, decoder_mlp_width=2048)
    with pytest.raises(RequestError, match="backbone='resnet18d'"):
        from_config({"use_timm_backbone": True, "backbone": "resnet18d"})
    with pytest.raises(RequestError, match="position_embedding_type='learned'"):
        from_config({"position_embedding_type": "learned"})


def test_the_config_describes_the_model():
    model = DETR(**TINY, decoder_depth=1, decoder_num_heads=2, decoder_mlp_width=16)
    assert from_config({**to_config(model), "num_labels": 3}) == model


def test_the_mask_hides_what_is_padding_and_dc5_keeps_the_map():
    model, x = DETR(**TINY), jnp.asarray(np.random.default_rng(0).normal(size=(2, 32, 32, 3)), jnp.float32)
    variables = random_variables(model, x)
    run = jax.jit(model.apply)
    mask = jnp.ones((2, 32, 32), bool)
    np.testing.assert_allclose(run(variables, x, mask).boxes, run(variables, x).boxes, atol=1e-6)
    # What lies behind the mask, and beyond the convolutions' reach from there, changes nothing.
    small = DETR(**TINY | {"depths": (1,), "widths": (4,), "strides": (1,), "stem": "cifar"})
    variables, run = random_variables(small, x), jax.jit(small.apply)
    left, other = mask.at[:, :, 16:].set(False), x.at[:, :, 24:].add(5.0)
    np.testing.assert_allclose(run(variables, x, left).boxes, run(variables, other, left).boxes, atol=1e-6)
    assert abs(run(variables, x, mask).boxes - run(variables, other, mask).boxes).max() > 1e-4
    dilated = DETR(**TINY | {"strides": (1, 1), "dilations": (1, 2)})
    features = jax.eval_shape(lambda v: dilated.apply(v, x, mutable=["intermediates"])[1], random_variables(dilated, x))
    assert features["intermediates"]["memory"][0].shape[1] == 64  # 8 × 8, where stride 2 gives 4 × 4


def test_frozen_norms_are_no_parameters():
    x = jnp.ones((1, 32, 32, 3))
    shapes = FAMILY.shapes(DETR(**TINY))
    assert not any("norm" in name for name in mapping.flatten(shapes["params"]["backbone"]))
    model = DETR(**TINY)
    variables = random_variables(model, x)
    _, changed = jax.jit(lambda v: model.apply(v, x, train=True, mutable=["batch_stats"]))(variables)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, changed["batch_stats"], variables["batch_stats"])))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"width": 10}, "width=10: expected a multiple of 4"),
        ({"num_heads": 3}, "num_heads=3: expected a divisor of width=8"),
        ({"decoder_num_heads": 3}, "decoder_num_heads=3"),
        ({"strides": (1,)}, "strides=(1,): expected 2"),
        ({"num_queries": 0}, "num_queries=0"),
    ],
)
def test_bad_fields_are_named(fields, said):
    with pytest.raises(RequestError) as error:
        DETR(**TINY | fields).check()
    assert said in str(error.value)
