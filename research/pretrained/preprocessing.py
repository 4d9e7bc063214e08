"""What a published image model expects of its input: size, crop, interpolation, mean and standard deviation."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Resize, central crop, scale to [0, 1], normalise.

    Attributes:
      image_size: height and width that the model sees, in pixels.
      crop: share of the resized image's short side that the central crop keeps; None resizes to the square at once,
        whatever the aspect ratio.
      interpolation: how to resize.
      mean, std: per channel, of values in [0, 1].
    """

    image_size: int = 224
    crop: float | None = 0.875
    interpolation: Interpolation = "bicubic"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def resized(self, image_size: int) -> Preprocessing:
        """The same for images of another size."""
        return dataclasses.replace(self, image_size=image_size)

    def normalize(self, images: Any) -> Any:
        """[..., channels] of 0…255 (NumPy or JAX) to what the model takes."""
        return (images / 255.0 - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)

    def __call__(self, image: Any) -> np.ndarray:
        """A PIL image or uint8 array [height, width, 3] to float32 [image_size, image_size, 3], ready for the model."""
        from PIL import Image

        image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
        image, size = image.convert("RGB"), self.image_size
        resample = Image.Resampling[self.interpolation.upper()]
        if self.crop is None:
            image = image.resize((size, size), resample)
        else:
            scale = round(size / self.crop) / min(image.size)
            width, height = (max(size, round(side * scale)) for side in image.size)
            left, top = (width - size) // 2, (height - size) // 2
            image = image.resize((width, height), resample).crop((left, top, left + size, top + size))
        return self.normalize(np.asarray(image, np.float32)).astype(np.float32)


def from_hf(config: dict[str, Any], default: Preprocessing) -> Preprocessing:
    """The constants in a `preprocessor_config.json`; what it leaves out is taken from `default`."""
    size, crop = config.get("size", default.image_size), default.crop
    if isinstance(size, dict):
        squash = "height" in size
        size = size["height"] if squash else size.get("shortest_edge", default.image_size)
    else:
        squash = "crop_pct" not in config and not config.get("do_center_crop", False)
    if config.get("do_center_crop") and "crop_size" in config:
        cropped = config["crop_size"]
        cropped = cropped["height"] if isinstance(cropped, dict) else cropped
        size, crop = cropped, cropped / size
    elif squash or ("crop_pct" in config and size >= 384):  # ConvNeXt's processor does not crop large images
        crop = None
    elif config.get("crop_pct"):
        crop = float(config["crop_pct"])
    resample = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
    mean, std = tuple(config.get("image_mean", default.mean)), tuple(config.get("image_std", default.std))
    if config.get("include_top"):  # EfficientNet's processor divides by std twice
        std = tuple(s * s for s in std)
    return Preprocessing(
        image_size=int(size),
        crop=crop,
        interpolation=resample.get(config.get("resample"), default.interpolation),
        mean=mean,
        std=std,
    )
