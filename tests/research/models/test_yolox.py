"""YOLOX against the authors' code: maps, predictions, gradients, SimOTA's losses, running statistics."""

import detectors
import jax
import jax.numpy as jnp
import numpy as np
import parity
import published_keys
import pytest
from image_parity import count, random_variables

from research.detection import boxes
from research.errors import RequestError
from research.models.yolox import SIZES, YOLOX, yolox
from research.pretrained import export_pretrained, load_pretrained, mapping
from research.pretrained.yolox import FAMILY
from research.tasks import DenseDetection

TINY = {"classes": 3, "depth": 0.33, "width": 0.0625}


@pytest.fixture(scope="module")
def ref():
    return detectors.load("yolox", FAMILY)


def decoded(found):
    """As the reference gives them: cxcywh, and probabilities of object and classes."""
    return jnp.concatenate(
        [boxes.cxcywh(found.boxes), jax.nn.sigmoid(found.objectness)[..., None], jax.nn.sigmoid(found.logits)], -1
    )


def test_maps_and_predictions(ref):
    found, sown = jax.jit(lambda v, x: ref.model.apply(v, x, mutable=["intermediates"]))(ref.variables, ref.image("x"))
    for level in (3, 4, 5):
        ours = sown["intermediates"][f"p{level}"][0].transpose(0, 3, 1, 2)
        np.testing.assert_allclose(ours, ref.arrays[f"output/fpn.p{level}"], atol=1e-4)
    raw = jnp.concatenate([found.raw, decoded(found)[..., 4:]], -1)
    np.testing.assert_allclose(raw, ref.arrays["output/raw"], atol=1e-4)
    np.testing.assert_allclose(decoded(found), ref.arrays["output/decoded"], atol=1e-4)


def test_gradients(ref):
    x = ref.image("x")
    detectors.check_gradients(ref, lambda variables: jnp.square(decoded(ref.model.apply(variables, x))).mean())


def test_losses_and_statistics_in_training(ref):
    """The reference's rows [class, cx, cy, w, h] end in zeros; the variance of PyTorch is unbiased."""
    rows, x = ref.arrays["input/targets"], ref.image("x")
    labels = np.where(rows[..., 3] > 0, rows[..., 0], -1).astype(np.int32)
    batch = {"image": x, "boxes": boxes.xyxy(rows[..., 1:]), "labels": jnp.asarray(labels), "weight": jnp.ones(2)}
    task = DenseDetection(classes=5, l1=1.0)

    @jax.jit
    def run(variables):
        updated = {}

        def apply(**kwargs):
            found, changed = ref.model.apply(variables, **kwargs, mutable=["batch_stats"])
            updated.update(changed)
            return found

        return detectors.losses(task, apply, batch), updated

    found, updated = run(ref.variables)
    theirs = parity.under(ref.arrays, "train/output/")
    own = {"iou_loss": "loss/box", "conf_loss": "loss/objectness", "cls_loss": "loss/class", "num_fg": "cells"}
    own |= {"l1_loss": "loss/l1"} if theirs["l1_loss"] else {}
    for name, ours in own.items():
        np.testing.assert_allclose(found[ours], theirs[name], rtol=1e-4, err_msg=name)
    expected = found["loss"] - (0 if theirs["l1_loss"] else found["loss/l1"])
    np.testing.assert_allclose(expected, theirs["total_loss"], rtol=1e-4)
    after = mapping.to_theirs(ref.key_map, {"params": ref.variables["params"], **updated})
    for name, x in parity.under(ref.arrays, "train/param/").items():
        if name.endswith("running_mean"):
            np.testing.assert_allclose(after[name], x, atol=1e-4, err_msg=name)


def test_the_published_weights_come_back_bit_for_bit(ref, tmp_path):
    back = mapping.to_theirs(ref.key_map, ref.variables)
    assert back.keys() == ref.published.keys()
    assert all(np.array_equal(back[name], x) for name, x in ref.published.items())
    file = export_pretrained(ref.model, ref.variables, tmp_path / "yolox.safetensors")
    read = load_pretrained(ref.model, file)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, read.variables, ref.variables)))


@pytest.mark.parametrize("size", ["nano", "s", "x"])
def test_every_published_tensor_has_its_place(size):
    """The key map names every tensor but the counts of batches, which nobody needs."""
    published_keys.check(f"yolox_{size}", FAMILY, yolox(size), unused="num_batches_tracked")


@pytest.mark.parametrize("size", SIZES)
def test_parameters_as_published(size):
    assert count(yolox(size), FAMILY) == SIZES[size][-1]


@pytest.mark.parametrize("levels", [(3,), (4, 5), (3, 4)], ids=str)
def test_fewer_levels_have_fewer_cells(levels):
    model, x = YOLOX(**TINY, levels=levels), jnp.ones((1, 64, 32, 3))
    found = jax.eval_shape(lambda v: model.apply(v, x), random_variables(model, x))
    assert found.raw.shape[1] == sum(64 * 32 // 4**level for level in levels)


def test_a_new_head_expects_few_objects():
    model, x = YOLOX(**TINY), jnp.ones((1, 32, 32, 3))
    found, _ = jax.jit(model.init_with_output)(jax.random.key(0), x)
    assert 0.001 < jax.nn.sigmoid(found.objectness).mean() < 0.1


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"levels": (3, 5)}, "levels=(3, 5): expected neighbours from 3 to 5"),
        ({"levels": ()}, "levels=()"),
        ({"width": 0.01}, "width=0.01: expected at least 1/32"),
    ],
)
def test_bad_fields_are_named(fields, said):
    with pytest.raises(RequestError) as error:
        YOLOX(**TINY | fields).check()
    assert said in str(error.value)
    with pytest.raises(RequestError, match="sides that are multiples of 32"):
        jax.eval_shape(YOLOX(**TINY).init, jax.random.key(0), jnp.ones((1, 40, 32, 3)))
    with pytest.raises(RequestError, match="no such YOLOX; did you mean 'nano'"):
        yolox("nan")
