"""Formats and overlaps of boxes: the reference's numbers, and what holds for any boxes."""

import jax
import jax.numpy as jnp
import numpy as np
import parity
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.detection import boxes

NUMBERS = st.floats(-50, 50, width=32)
BOX = st.tuples(NUMBERS, NUMBERS, st.floats(0.125, 40, width=32), st.floats(0.125, 40, width=32))


@pytest.fixture(scope="module")
def ref():
    return parity.load("boxes")[0]


def test_overlaps_are_the_references(ref):
    a, b = ref["input/a_xyxy"], ref["input/b_xyxy"]
    np.testing.assert_allclose(boxes.iou(*boxes.pairs(a, b)), ref["output/iou"], atol=1e-6)
    np.testing.assert_allclose(boxes.giou(*boxes.pairs(a, b)), ref["output/giou"], atol=1e-6)


def test_formats_are_the_references_both_ways(ref):
    corners, centred = ref["input/a_xyxy"], ref["input/a_cxcywh"]
    np.testing.assert_allclose(boxes.xyxy(centred), corners, atol=1e-6)
    np.testing.assert_allclose(boxes.cxcywh(corners), centred, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(BOX, BOX, NUMBERS)
def test_overlaps_of_any_boxes(a, b, shift):
    """They are symmetric and bounded, do not change if both boxes move, and are 1 for a box and itself."""
    a, b = (np.float32([x, y, x + w, y + h]) for x, y, w, h in (a, b))
    iou, giou = float(boxes.iou(a, b)), float(boxes.giou(a, b))
    assert -1 - 1e-6 <= giou <= iou + 1e-6 and 0 <= iou <= 1 + 1e-6
    assert boxes.iou(b, a) == iou and boxes.giou(b, a) == giou
    np.testing.assert_allclose(boxes.giou(a + np.float32(shift), b + np.float32(shift)), giou, atol=1e-3)
    np.testing.assert_allclose([boxes.iou(a, a), boxes.giou(a, a)], 1)


def test_boxes_without_area_have_finite_overlaps_and_gradients():
    empty, some = jnp.zeros(4), jnp.array([1.0, 1, 2, 3])
    for overlap in (boxes.iou, boxes.giou):
        for a, b in ((empty, empty), (empty, some), (some, empty), (some, some[jnp.array([2, 3, 0, 1])])):
            value, gradient = jax.value_and_grad(overlap)(a, b)
            assert np.isfinite(value) and np.isfinite(gradient).all()
    assert boxes.area(some[jnp.array([2, 1, 0, 3])]) == 0  # inverted corners
    assert jax.grad(boxes.giou)(jnp.array([0.0, 0, 1, 1]), jnp.array([5.0, 5, 6, 6]))[2] > 0  # apart, yet pulled
