"""Augmentations that move pixels and boxes together, inside the compiled program.

    augment=(Mosaic(), FlipBoxes(), PlaceBoxes(scale=(0.5, 1.5)))

An example has boxes in pixels [box, 4] and their labels [box]; a box that loses too much of its area, or all of its
pixels, becomes padding with label -1.  Augmentations of colours leave boxes alone and need no others.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from research.config.hparams import hparam
from research.data.augment.augmentation import (
    Augmentation,
    BatchAugmentation,
    check_fill,
    check_probability,
    require_image,
)
from research.detection import boxes as box
from research.detection.average_precision import CROWD
from research.errors import require


def moved(
    boxes: jax.Array, labels: jax.Array, scale: jax.Array, shift: jax.Array, window: jax.Array, keep: float
) -> tuple[jax.Array, jax.Array]:
    """Boxes times `scale` plus `shift`, clipped to the `window`, and their labels.

    Padding, and boxes that keep less than the share `keep` of their area or have no pixel left, are zeros.

    Args:
      boxes: [box, 4].
      labels: int [box].
      scale, shift: [2], of x and y.
      window: [4]: left, top, right, bottom.
    """
    placed = boxes * jnp.tile(scale, 2) + jnp.tile(shift, 2)
    clipped = jnp.clip(placed, jnp.tile(window[:2], 2), jnp.tile(window[2:], 2))
    size = clipped[:, 2:] - clipped[:, :2]
    good = (labels != box.PADDING) & (size >= 1).all(-1) & (box.area(clipped) >= keep * box.area(placed))
    return jnp.where(good[:, None], clipped, 0), jnp.where(good, labels, box.PADDING)


def placed(image: jax.Array, scale: jax.Array, shift: jax.Array, fill: float) -> jax.Array:
    """The image [height, width, channels], scaled and shifted in x and y, with `fill` around it; the same dtype."""
    wide = image.astype(jnp.float32) - fill
    moved = jax.image.scale_and_translate(wide, image.shape, (0, 1), scale[::-1], shift[::-1], "linear") + fill
    if jnp.issubdtype(image.dtype, jnp.integer):
        info = jnp.iinfo(image.dtype)
        moved = jnp.clip(jnp.round(moved), info.min, info.max)
    return moved.astype(image.dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Boxed:
    """The fields that augmentations of boxes share.

    Attributes:
      boxes, labels: the fields of boxes and of their labels.
      keep: the least share of a box's area that stays visible; boxes that lose more are dropped.
      fill: the pixel value where there is no image, of stored images.
    """

    boxes: str = "boxes"
    labels: str = "labels"
    keep: float = 0.25
    fill: float = 114.0

    def check_boxed(self) -> None:
        check_probability("keep", self.keep)
        check_fill(self.fill)

    def learned(self, batch: dict[str, Any]) -> jax.Array:
        """The labels, with padding in place of crowds, which nothing learns."""
        labels = batch[self.labels]
        return jnp.where(batch["kinds"] == CROWD, box.PADDING, labels) if "kinds" in batch else labels

    def of(self, example: dict[str, Any], image: jax.Array, boxes: jax.Array, labels: jax.Array) -> dict[str, Any]:
        """The example with these; other columns of boxes are padded or dropped with them, and all of it is content."""
        new = example | {self.field: image, self.boxes: boxes, self.labels: labels}
        more = boxes.shape[-2] - example[self.boxes].shape[-2]
        for name in ("kinds", "areas"):
            if name in example and more:
                widths = [(0, 0)] * (example[name].ndim - 1) + [(0, more)]
                new[name] = jnp.pad(example[name], widths)
        if "content" in example:
            new["content"] = jnp.broadcast_to(jnp.array(image.shape[-3:-1], jnp.int32), example["content"].shape)
        return new


@dataclasses.dataclass(frozen=True)
class FlipBoxes(Boxed, Augmentation):
    """Mirrors the image and its boxes left to right with the given probability.

    >>> example = {"image": jnp.zeros((4, 8, 1)), "boxes": jnp.array([[0.0, 1, 3, 4]]), "labels": jnp.array([2])}
    >>> FlipBoxes(1.0)(jax.random.key(0), example)["boxes"].tolist()
    [[5.0, 1.0, 8.0, 4.0]]

    Attributes:
      probability: of a flip.
      boxes, labels: the fields of boxes and of their labels.
      keep, fill: unused; nothing is lost.
    """

    probability: float = hparam(0.5)

    def apply(self, key: jax.Array, x: jax.Array) -> jax.Array:
        return x[:, ::-1]

    def __call__(self, key: jax.Array, example: dict[str, Any]) -> dict[str, Any]:
        for name in (self.field, self.boxes, self.labels):
            self.require_field(name, example)
        image, boxes, labels = example[self.field], example[self.boxes], example[self.labels]
        require_image(self, image)
        flip = jax.random.bernoulli(key, self.probability)
        mirrored = jnp.stack([image.shape[1] - boxes[:, 2], boxes[:, 1], image.shape[1] - boxes[:, 0], boxes[:, 3]], -1)
        mirrored = jnp.where((labels != box.PADDING)[:, None], mirrored, 0)
        return self.of(example, jnp.where(flip, image[:, ::-1], image), jnp.where(flip, mirrored, boxes), labels)

    def check(self) -> None:
        super().check()
        check_probability("probability", self.probability)


@dataclasses.dataclass(frozen=True)
class PlaceBoxes(Boxed, Augmentation):
    """Scales the image and its boxes, and shifts them; above 1, that crops.

    >>> example = {"image": jnp.zeros((8, 8, 1)), "boxes": jnp.array([[0.0, 1, 3, 4]]), "labels": jnp.array([2])}
    >>> PlaceBoxes(scale=(2.0, 2.0), shift=0.0, keep=0.0)(jax.random.key(0), example)["boxes"].round().tolist()
    [[0.0, 0.0, 2.0, 4.0]]

    Attributes:
      scale: the smallest and largest factor (log-uniform), about the image's centre.
      shift: the largest shift to either side, as a share of the image's.
      aspect: the largest factor by which the width, or the height, is stretched beyond the other.
      boxes, labels: the fields of boxes and of their labels.
      keep: the least share of a box's area that stays visible; boxes that lose more are dropped.
      fill: the pixel value where there is no image, of stored images.
    """

    scale: tuple[float, float] = (0.5, 1.5)
    shift: float = hparam(0.1)
    aspect: float = 1.0

    def apply(self, key: jax.Array, x: jax.Array) -> jax.Array:
        return placed(x, *self.draw(key, *x.shape[:2]), self.fill)

    def draw(self, key: jax.Array, height: int, width: int) -> tuple[jax.Array, jax.Array]:
        """Draws scale and shift in pixels, each [2], of x and y."""
        size_key, shift_key, aspect_key = jax.random.split(key, 3)
        low, high = jnp.log(jnp.asarray(self.scale))
        stretch = jax.random.uniform(aspect_key, minval=-1.0, maxval=1.0) * jnp.log(self.aspect) / 2
        scale = jnp.exp(jax.random.uniform(size_key, minval=low, maxval=high) + jnp.stack([stretch, -stretch]))
        sides = jnp.array([width, height], jnp.float32)
        away = jax.random.uniform(shift_key, (2,), minval=-1.0, maxval=1.0) * self.shift
        return scale, sides * (away + (1 - scale) / 2)

    def __call__(self, key: jax.Array, example: dict[str, Any]) -> dict[str, Any]:
        for name in (self.field, self.boxes, self.labels):
            self.require_field(name, example)
        image = example[self.field]
        require_image(self, image)
        height, width = image.shape[:2]
        scale, shift = self.draw(key, height, width)
        window = jnp.array([0, 0, width, height], jnp.float32)
        boxes, labels = moved(example[self.boxes], example[self.labels], scale, shift, window, self.keep)
        return self.of(example, placed(image, scale, shift, self.fill), boxes, labels)

    def check(self) -> None:
        super().check()
        self.check_boxed()
        require(0 < self.scale[0] <= self.scale[1], f"scale={self.scale}: expected two rising factors above 0")
        require(0 <= self.shift < 1, f"shift={self.shift}: expected 0 <= shift < 1")
        require(self.aspect >= 1, f"aspect={self.aspect}: expected at least 1")


@dataclasses.dataclass(frozen=True)
class Mosaic(Boxed, BatchAugmentation):
    """Puts four images of the batch into one, around a random point (Bochkovskiy et al., 2020).

    Examples 4k to 4k + 3 are combined with each other, each of them in its own way; the order is random already.  Those
    beyond the last four, and groups with padding examples (weight 0), stay.  Each image is scaled at random and touches
    the point with its corner; there are then four times as many boxes, most of them padding.

    >>> batch = {"image": jnp.zeros((4, 8, 8, 1)), "boxes": jnp.zeros((4, 3, 4)), "labels": jnp.zeros((4, 3), int)}
    >>> Mosaic().over_batch(jax.random.split(jax.random.key(0), 4), batch)["boxes"].shape
    (4, 12, 4)

    Attributes:
      probability: of a mosaic for each example.
      scale: the smallest and largest factor of each image.
      centre: the point is at least this share of the sides away from the border.
      boxes, labels: the fields of boxes and of their labels.
      keep: the least share of a box's area that stays visible; boxes that lose more are dropped.
      fill: the pixel value where there is no image, of stored images.
    """

    probability: float = hparam(1.0)
    scale: tuple[float, float] = (0.4, 1.0)
    centre: float = 0.3

    def over_batch(self, keys: jax.Array, batch: dict[str, Any]) -> dict[str, Any]:
        for name in (self.field, self.boxes, self.labels):
            self.require_field(name, batch)
        images, boxes, labels = batch[self.field], batch[self.boxes], self.learned(batch)
        number = jnp.arange(len(images))
        others = jnp.stack([number ^ i for i in range(4)], 1)
        whole = number < len(images) // 4 * 4
        others = jnp.where(whole[:, None], others, number[:, None])
        if "weight" in batch:
            whole &= (batch["weight"][others] > 0).all(1)

        def one(key: jax.Array, others: jax.Array, whole: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
            whether, how = jax.random.split(key)
            mixed = self.mix(how, images[others], boxes[others], labels[others])
            empty = jnp.zeros((3 * boxes.shape[1], 4)), jnp.full(3 * boxes.shape[1], box.PADDING, labels.dtype)
            own = others[0]
            alone = images[own], jnp.concatenate([boxes[own], empty[0]]), jnp.concatenate([labels[own], empty[1]])
            use = whole & jax.random.bernoulli(whether, self.probability)
            return tuple(jnp.where(use, a, b) for a, b in zip(mixed, alone, strict=True))

        made = jax.vmap(one)(keys, others, whole)
        return self.of(batch, *made)

    def mix(
        self, key: jax.Array, images: jax.Array, boxes: jax.Array, labels: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Combines images [4, height, width, channels], boxes [4, box, 4] and labels [4, box]."""
        height, width = images.shape[1:3]
        sides = jnp.array([width, height], jnp.float32)
        place_key, scale_key = jax.random.split(key)
        point = jax.random.uniform(place_key, (2,), minval=self.centre, maxval=1 - self.centre) * sides
        point = jnp.round(point)
        scales = jax.random.uniform(scale_key, (4,), minval=self.scale[0], maxval=self.scale[1])
        x, y = jnp.arange(width)[None, :] + 0.5, jnp.arange(height)[:, None] + 0.5
        canvas, all_boxes, all_labels = jnp.full(images.shape[1:], self.fill, images.dtype), [], []
        for i in range(4):
            right, below = i % 2, i // 2
            scale = jnp.full(2, scales[i])
            corner = jnp.stack([point[0] - (1 - right) * scale[0] * width, point[1] - (1 - below) * scale[1] * height])
            inside = ((x > point[0]) == bool(right)) & ((y > point[1]) == bool(below))
            canvas = jnp.where(inside[..., None], placed(images[i], scale, corner, self.fill), canvas)
            low = jnp.where(jnp.array([right, below]) > 0, point, 0)
            high = jnp.where(jnp.array([right, below]) > 0, sides, point)
            own = moved(boxes[i], labels[i], scale, corner, jnp.concatenate([low, high]), self.keep)
            all_boxes.append(own[0])
            all_labels.append(own[1])
        return canvas, jnp.concatenate(all_boxes), jnp.concatenate(all_labels)

    def check(self) -> None:
        super().check()
        self.check_boxed()
        check_probability("probability", self.probability)
        require(0 < self.scale[0] <= self.scale[1], f"scale={self.scale}: expected two rising factors above 0")
        require(0 <= self.centre <= 0.5, f"centre={self.centre}: expected 0 <= centre <= 0.5")


@dataclasses.dataclass(frozen=True)
class MixupBoxes(Boxed, BatchAugmentation):
    """Averages two images of the batch and keeps the boxes of both (Zhang et al., 2019).

    Examples 2k and 2k + 1 are averaged with each other; the last of an odd batch, and those beside padding, stay.

    >>> batch = {"image": jnp.zeros((2, 8, 8, 1)), "boxes": jnp.zeros((2, 3, 4)), "labels": jnp.zeros((2, 3), int)}
    >>> MixupBoxes().over_batch(jax.random.split(jax.random.key(0), 2), batch)["boxes"].shape
    (2, 6, 4)

    Attributes:
      probability: of mixing, for each example.
      boxes, labels: the fields of boxes and of their labels.
      keep, fill: unused; nothing is lost.
    """

    probability: float = hparam(0.5)

    def over_batch(self, keys: jax.Array, batch: dict[str, Any]) -> dict[str, Any]:
        for name in (self.field, self.boxes, self.labels):
            self.require_field(name, batch)
        images, boxes, labels = batch[self.field], batch[self.boxes], self.learned(batch)
        number = jnp.arange(len(images))
        other = jnp.where(number < len(images) // 2 * 2, number ^ 1, number)
        use = jax.vmap(lambda key: jax.random.bernoulli(key, self.probability))(keys) & (other != number)
        if "weight" in batch:
            use &= batch["weight"][other] > 0
        mean = (images.astype(jnp.float32) + images[other].astype(jnp.float32)) / 2
        mixed = jnp.where(use[:, None, None, None], mean.astype(images.dtype), images)
        more = jnp.where(use[:, None], labels[other], box.PADDING)
        theirs = jnp.where((more != box.PADDING)[..., None], boxes[other], 0)
        return self.of(batch, mixed, jnp.concatenate([boxes, theirs], 1), jnp.concatenate([labels, more], 1))

    def check(self) -> None:
        super().check()
        check_probability("probability", self.probability)
