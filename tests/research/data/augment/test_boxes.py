"""A coloured rectangle is where its box says, before and after each augmentation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.data.augment import FlipBoxes, MixupBoxes, Mosaic, PlaceBoxes, augment
from research.data.feed import take
from research.errors import RequestError

SIZE = (24, 32)
COLOURS = (60, 120, 180, 240)
RECTANGLES = st.tuples(st.integers(0, 24), st.integers(0, 16), st.integers(5, 8), st.integers(5, 8))


def drawn(rectangles):
    """A batch of images with a rectangle of another colour each, and its box, on black; a box more is padding."""
    images, boxes = np.zeros((len(rectangles), *SIZE, 1), np.uint8), np.zeros((len(rectangles), 2, 4), np.float32)
    for i, (x, y, w, h) in enumerate(rectangles):
        images[i, y : y + h, x : x + w] = COLOURS[i]
        boxes[i, 0] = x, y, x + w, y + h
    labels = np.stack([np.arange(len(rectangles)), np.full(len(rectangles), -1)], 1).astype(np.int32)
    return {"image": jnp.asarray(images), "boxes": jnp.asarray(boxes), "labels": jnp.asarray(labels)}


RUNS = {  # compiled once each
    "flip": jax.jit(lambda key, batch: augment((FlipBoxes(0.5),), key, batch)),
    "place": jax.jit(lambda key, batch: augment((PlaceBoxes((0.6, 1.7), 0.2, aspect=1.3, fill=0.0),), key, batch)),
    "mosaic": jax.jit(lambda key, batch: augment((Mosaic(0.8, scale=(0.6, 1.2), fill=0.0),), key, batch)),
}


@pytest.mark.parametrize("name", RUNS)
@settings(max_examples=25, deadline=None)
@given(rectangles=st.tuples(*[RECTANGLES] * 4), seed=st.integers(0, 1000))
def test_a_rectangle_is_where_its_box_says(name, rectangles, seed):
    batch = drawn(rectangles)
    found = jax.tree.map(np.asarray, RUNS[name](jax.random.key(seed), batch))
    for image, boxes, labels in zip(found["image"][..., 0], found["boxes"], found["labels"], strict=True):
        assert not boxes[labels < 0].any()
        for box, label in zip(boxes[labels >= 0], labels[labels >= 0], strict=True):
            left, top, right, bottom = box
            assert 0 <= left < right <= SIZE[1] and 0 <= top < bottom <= SIZE[0]
            inside = image[round(top) : round(bottom), round(left) : round(right)].astype(int)
            if min(inside.shape) >= 3:  # a narrower rest is blurred with what is beside it
                assert abs(inside.max() - COLOURS[label]) <= 0.15 * COLOURS[label]
                assert inside.mean() > 0.5 * COLOURS[label]
            # Just outside it is black, or of another rectangle, or of another part of the mosaic.
            if name != "mosaic":
                mask = image > COLOURS[label] // 2
                rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
                seen = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
                np.testing.assert_allclose(seen, box, atol=1.01)


def test_a_mosaic_has_four_images_and_their_boxes():
    """Images of half the size around the middle fill a quarter each, another one in each canvas."""
    batch = drawn([(4, 4, 8, 8), (8, 4, 8, 8), (12, 6, 8, 8), (10, 8, 8, 8)])
    found = augment((Mosaic(scale=(0.5, 0.5), centre=0.5, fill=0.0),), jax.random.key(0), batch)
    assert found["boxes"].shape == (4, 8, 4)
    for i, (image, boxes, labels) in enumerate(zip(found["image"], found["boxes"], found["labels"], strict=True)):
        assert labels[::2].tolist() == [i ^ j for j in range(4)] and (labels[1::2] == -1).all()
        for j in range(4):
            corner = np.array([j % 2 * 16, j // 2 * 12] * 2)
            np.testing.assert_allclose(boxes[2 * j], batch["boxes"][i ^ j, 0] / 2 + corner)
            left, top, right, bottom = boxes[2 * j].astype(int)
            assert image[top:bottom, left:right].max() == COLOURS[i ^ j]  # in the middle; edges are blurred


def test_padding_examples_and_crowds_are_not_mixed_in():
    batch = drawn([(4, 4, 8, 8)] * 4) | {"weight": jnp.array([1.0, 1, 1, 0])}
    for one in (Mosaic(), MixupBoxes(1.0)):
        found = augment((one,), jax.random.key(0), batch)
        np.testing.assert_array_equal(found["image"][2], batch["image"][2])
        np.testing.assert_array_equal(found["boxes"][2, :2], batch["boxes"][2])
        assert (found["labels"][2, 2:] == -1).all()
    crowd = drawn([(4, 4, 8, 8)] * 2) | {"kinds": jnp.array([[1, 0], [0, 0]], jnp.uint8)}
    found = augment((MixupBoxes(1.0),), jax.random.key(0), crowd)
    assert found["labels"].tolist() == [[-1, -1, 1, -1], [1, -1, -1, -1]]


@pytest.mark.parametrize("one", [Mosaic(), MixupBoxes()])
def test_images_that_are_on_the_device_are_mixed(one):
    def mixed(resident, sent):
        return augment((one,), jax.random.key(0), take(resident, sent))

    found = jax.eval_shape(mixed, drawn([(4, 4, 8, 8)] * 4), {"index": np.arange(4, dtype=np.int32)})
    assert found["image"].shape == (4, *SIZE, 1)


def test_mixup_averages_and_keeps_both_boxes():
    batch = drawn([(4, 4, 8, 8), (20, 4, 8, 8)])
    found = augment((MixupBoxes(1.0),), jax.random.key(0), batch)
    assert found["labels"].tolist() == [[0, -1, 1, -1], [1, -1, 0, -1]]
    assert found["image"][0, 8, 8, 0] == 30 and found["image"][0, 8, 24, 0] == 60
    np.testing.assert_array_equal(found["boxes"][0, 2], batch["boxes"][1, 0])


def test_boxes_that_leave_are_padding_and_the_padding_of_a_letterbox_becomes_content():
    batch = drawn([(0, 0, 5, 5)]) | {"content": jnp.array([[20, 32]], jnp.int32)}
    found = augment((PlaceBoxes((3.0, 3.0), 0.0),), jax.random.key(0), batch)
    assert (found["labels"] == -1).all() and not found["boxes"].any()
    assert found["content"].tolist() == [[24, 32]]


def test_bad_fields_and_missing_columns_are_named():
    for bad, said in (
        (PlaceBoxes((1.5, 0.5)), "scale=(1.5, 0.5)"),
        (PlaceBoxes(shift=1.0), "shift=1.0"),
        (PlaceBoxes(aspect=0.5), "aspect=0.5"),
        (Mosaic(centre=0.6), "centre=0.6"),
        (MixupBoxes(2.0), "probability=2.0"),
        (FlipBoxes(-1.0), "probability=-1.0"),
    ):
        with pytest.raises(RequestError) as error:
            bad.check()
        assert said in str(error.value)
    with pytest.raises(RequestError, match="an example has no field 'boxes'"):
        augment((FlipBoxes(),), jax.random.key(0), {"image": jnp.zeros((1, 4, 4, 1))})
